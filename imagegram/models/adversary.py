"""A discriminator of patches, and the losses by which it and an autoencoder compete.

Its convolutions are those of Isola et al., "Image-to-Image Translation with Conditional
Adversarial Networks" (arXiv 1611.07004): every logit sees a part of the picture. Hinge loss as in
Lim and Ye, "Geometric GAN" (arXiv 1705.02894); LeCam regularization after Tseng et al.,
"Regularizing Generative Adversarial Networks under Limited Data" (arXiv 2104.03310).

Array names: ``B`` images, ``S`` side in pixels, ``L`` logits of an image, ``C`` channels.

>>> judge = PatchDiscriminator(channels=4, depth=2)
>>> tuple(judge(torch.zeros(3, 16, 16, 3)).shape)
(3, 16)
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from imagegram.models.transformer import ConvHead

#: Slope of the activation below zero.
_LEAK: Final = 0.2
#: Decay of the averages of the logits, as published.
_DECAY: Final = 0.999


class PatchDiscriminator(nn.Module):
    """Pictures to logits of their parts: positive where one looks like a real picture.

    Besides its weights it has the moving averages of its own logits, which LeCam regularization
    needs.

    Args:
        channels: of the first convolution; every other one has twice those before it.
        depth: convolutions; each halves the side.
    """

    real_mean: Tensor
    fake_mean: Tensor

    def __init__(self, *, channels: int, depth: int) -> None:
        super().__init__()
        widths = [3, *(channels << number for number in range(depth))]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)
        )
        # Of one group: no statistics of other images, so no row depends on the rows beside it.
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths[2:])
        self.to_logits = ConvHead(widths[-1], 1, 3, padding=1)
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))

    def forward(self, images_BSSC: Tensor) -> Tensor:
        """Return (B, L) float32 logits for (B, S, S, 3) pixels in -1 ... 1."""
        hidden = images_BSSC.permute(0, 3, 1, 2).contiguous()
        for number, convolution in enumerate(self.convolutions):
            hidden = convolution(hidden)
            if number:
                hidden = self.norms[number - 1](hidden)
            hidden = F.leaky_relu(hidden, _LEAK)
        logits: Tensor = self.to_logits(hidden).flatten(1).float()
        return logits

    def judge(self, images_BSSC: Tensor) -> Tensor:
        """Return the same logits; gradients go to the pictures alone, not to the weights."""
        weights = {name: parameter.detach() for name, parameter in self.named_parameters()}
        logits: Tensor = functional_call(self, weights, (images_BSSC,))
        return logits

    def lecam(self, real_BL: Tensor, fake_BL: Tensor) -> Tensor:
        """Return the mean squared distance of logits beyond the averages of the other side."""
        above = F.relu(real_BL - self.fake_mean).square().mean()
        below = F.relu(self.real_mean - fake_BL).square().mean()
        return above + below

    @torch.no_grad()
    def follow(self, real_mean: Tensor, fake_mean: Tensor) -> None:
        """Move the averages towards the mean logits of a batch."""
        self.real_mean.lerp_(real_mean, 1 - _DECAY)
        self.fake_mean.lerp_(fake_mean, 1 - _DECAY)


def hinge(real_BL: Tensor, fake_BL: Tensor) -> Tensor:
    """Return the loss of a discriminator: real logits should be above 1, others below -1.

    >>> hinge(torch.tensor([[2.0, 0.0]]), torch.tensor([[-3.0, 1.0]])).item()
    0.75
    """
    return (F.relu(1 - real_BL).mean() + F.relu(1 + fake_BL).mean()) / 2
