"""Training of TiTok's two stages; Lightning's side of their objectives.

>>> how = Optimization(steps=6, batch_size=1, learning_rate=1.0, warmup_steps=2)
>>> [round(rate_from(4, how, step), 3) for step in range(6)]
[0.0, 0.0, 0.0, 0.0, 0.5, 1.0]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.models.adversary import PatchDiscriminator, hinge
from imagegram.models.lpips import load_lpips
from imagegram.models.pictures import squared_error, to_float
from imagegram.models.transformer import build
from imagegram.tokenizers.inference import load
from imagegram.tokenizers.reconstruction_training import ReconstructionModule
from imagegram.tokenizers.sizes import NETWORK
from imagegram.training.objective import Items
from imagegram.training.optimization import Optimization

#: Name of the discriminator in states of training, and of its optimizer.
DISCRIMINATOR: Final = "discriminator"
#: Name of the optimizer of what paints.
PAINTER: Final = "painter"


class CodesModule(ReconstructionModule):
    """Stage 1: TiTok predicts the codes that another autoencoder, which stays, gives to patches."""

    def make_networks(self) -> dict[str, nn.Module]:
        """Build TiTok with the codes and the decoder of the autoencoder, which wait for stage 2."""
        networks = super().make_networks()
        head: Any = networks[NETWORK].head
        conv = _loaded(self.objective.conv)
        with torch.no_grad():
            head.vectors.copy_(conv.quantizer.codes(torch.arange(len(head.vectors))))
        head.decoder.load_state_dict(conv.decoder.state_dict())
        head.decoder.requires_grad_(False)
        head.vectors.requires_grad_(False)
        return networks

    def configure_model(self) -> None:
        """Load the autoencoder that is predicted: it is in no state, and has no gradients."""
        super().configure_model()
        if not hasattr(self, "conv"):
            self.conv = _loaded(self.objective.conv).requires_grad_(False)

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of the codes in nats a patch, and the pull to TiTok's codes."""
        images = to_float(batch[0])
        network: Any = self.networks[NETWORK]
        found = network.quantized(images)
        logits_BPV = network.head.logits(network.decoder(found.codes))
        ids_BP = self._ids(images)
        entropy = _cross_entropy(logits_BPV, ids_BP).mean()
        right = (logits_BPV.argmax(dim=-1) == ids_BP).float().mean()
        loss: Tensor = entropy + self.code_loss(found)
        self.log_dict(
            {"train/loss": loss, "train/cross_entropy": entropy, "train/codes_right": right}
        )
        return loss

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return ``val/cross_entropy`` of the codes, in nats a patch, beside all other scores."""
        network: Any = networks[NETWORK]

        def entropy(images: Tensor) -> Tensor:
            logits_BPV = network.head.logits(network.decoder(network.quantized(images).codes))
            return _cross_entropy(logits_BPV, self._ids(images))

        mean = _mean(map(entropy, self.held_out(items)))
        return super().validate(networks, items) | {"val/cross_entropy": mean}

    @torch.no_grad()
    def _ids(self, images_BSSC: Tensor) -> Tensor:
        """Return the (B, P) ids of the patches, as the autoencoder's own tokenizer gives them."""
        with torch.autocast(images_BSSC.device.type, enabled=False):
            ids: Tensor = self.conv.ids(images_BSSC)
            return ids


class PaintingModule(ReconstructionModule):
    """Stage 2: what paints learns from pixels; what makes the tokens stays, bit for bit."""

    def __init__(self, objective: Any) -> None:
        super().__init__(objective)
        self.automatic_optimization = not objective.loss.adversarial

    def make_networks(self) -> dict[str, nn.Module]:
        """Load TiTok after stage 1; build a fresh discriminator."""
        network = _loaded(self.objective.start).requires_grad_(False)
        for part in (network.decoder, network.head):
            part.requires_grad_(True)
        how, seed = self.objective.loss, self.optimization.seed
        if not how.adversarial:
            return {NETWORK: network}
        sizes = {"channels": how.discriminator_channels, "depth": how.discriminator_depth}
        return {NETWORK: network, DISCRIMINATOR: build(PatchDiscriminator, seed=seed, **sizes)}

    def configure_model(self) -> None:
        """Load LPIPS: it is in no state, and has no gradients."""
        super().configure_model()
        if self.objective.loss.lpips and not hasattr(self, "lpips"):
            self.lpips = load_lpips(self.objective.loss.lpips_network)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Build one optimizer a network."""
        if self.automatic_optimization:
            return super().make_optimizers()
        networks = {PAINTER: NETWORK, DISCRIMINATOR: DISCRIMINATOR}
        return {name: self.adamw(self.networks[of]) for name, of in networks.items()}

    def learning_rate(self, optimizer: str, step: int) -> float:
        """Return the rate of a step; the discriminator's schedule begins when it begins."""
        if optimizer != DISCRIMINATOR:
            return super().learning_rate(optimizer, step)
        return rate_from(self.objective.loss.adversarial_start, self.optimization, step)

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        """Return the loss of the pictures; with a discriminator, the step is taken here."""
        target, how = to_float(batch[0]), self.objective.loss
        network: Any = self.networks[NETWORK]
        network.encoder.eval()  # it notes no moments
        with torch.no_grad(), torch.autocast(target.device.type, enabled=False):
            codes = network.quantized(target).codes
        painted = network.decode(codes)
        error = squared_error(painted, target).mean()
        loss: Tensor = how.l2 * error
        self.log("train/mse", error)
        if how.lpips:
            seen = self.lpips(painted, target).mean()
            loss = loss + how.lpips * seen
            self.log("train/lpips", seen)
        if not self.automatic_optimization:
            loss = self._compete(loss, painted, target).detach()
        self.log("train/loss", loss)
        return loss

    def _compete(self, loss: Tensor, painted: Tensor, target: Tensor) -> Tensor:
        """Take a step of what paints, and, once it has begun, one of the discriminator.

        Both look at the same pictures and at the discriminator before the step, so that one
        backward pass has the gradients of both.
        """
        how, judge = self.objective.loss, self.networks[DISCRIMINATOR]
        assert isinstance(judge, PatchDiscriminator)
        if self.steps_done < how.adversarial_start:
            # Several devices wait for gradients of all weights.
            idle = sum(parameter.sum() for parameter in judge.parameters())
            self.descend(PAINTER, loss + 0.0 * idle)
            return loss
        pleased = -judge.judge(painted).mean()
        real, fake = judge(target), judge(painted.detach())
        judged, lecam = hinge(real, fake), judge.lecam(real, fake)
        loss = loss + how.adversarial * pleased
        self.descend_together({PAINTER: loss, DISCRIMINATOR: judged + how.lecam * lecam})
        means = self._devices().gather(torch.stack((real.mean(), fake.mean())).detach())
        judge.follow(*means.mean(dim=0))
        self.log_dict(
            {"train/adversarial": pleased, "train/discriminator": judged, "train/lecam": lecam}
        )
        return loss

    def after_step(self) -> None:
        """Let the codes stay."""

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return ``val/lpips``, the mean over images, beside all other scores."""
        scores = super().validate(networks, items)
        if not self.objective.loss.lpips:
            return scores
        network: Any = networks[NETWORK]
        pairs = ((network(images)[0].clamp(-1, 1), images) for images in self.held_out(items))
        return scores | {"val/lpips": _mean(self.lpips(*pair) for pair in pairs)}


def rate_from(start: int, how: Optimization, step: int) -> float:
    """Return the learning rate of what begins in step ``start`` and ends with all others.

    Its warm-up and its cosine are those of a training of the steps that are left.
    """
    left = how.steps - start
    if step < start or left < 1:
        return 0.0
    warmup = min(how.warmup_steps, left)
    return replace(how, steps=left, warmup_steps=warmup).rate(step - start)


def _mean(parts: Iterable[Tensor]) -> float:
    """Return the mean of numbers that come in parts."""
    return float(np.concatenate([part.cpu().numpy() for part in parts]).astype(np.float64).mean())


def _cross_entropy(logits_BPV: Tensor, ids_BP: Tensor) -> Tensor:
    """Return the (B,) mean cross-entropy of the patches of each image, in nats."""
    each: Tensor = F.cross_entropy(logits_BPV.float().transpose(1, 2), ids_BP, reduction="none")
    return each.mean(dim=1)


def _loaded(tokenizer: Any) -> Any:
    """Return the network of a tokenizer with its weights, on the CPU."""
    path = Path(tokenizer.checkpoint)
    return load(path, tokenizer.architecture, device="cpu", compiled=False)
