"""How TA-TiTok is trained and validated; Lightning's side of ``objective.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from imagegram.models.pictures import squared_error, to_float
from imagegram.stages.captions import TextStates
from imagegram.tokenizers.reconstruction_training import ReconstructionModule
from imagegram.tokenizers.sheets import NUM_VALIDATION, VALIDATION_CHUNK, spread
from imagegram.tokenizers.sizes import NETWORK
from imagegram.training.captions import others, parted, trimmed
from imagegram.training.objective import Items


class CaptionedModule(ReconstructionModule):
    """An autoencoder whose decoder reads captions."""

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the mean squared error of pixels in 0 ... 1, and the pull to the codes."""
        images, states, there = batch
        target = to_float(images)
        painted, found = self.networks[NETWORK](target, states, there)
        error = squared_error(painted, target).mean()
        loss: Tensor = error + self.code_loss(found)
        self.log_dict({"train/loss": loss, "train/mse": error})
        return loss

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return the scores without captions, and what captions add to the codes.

        ``val/psnr`` and the others of :class:`ReconstructionModule` are of codes alone. In dB, mean
        over images: ``val/psnr_caption`` with the own caption, ``val/psnr_other_caption`` with
        that of another image, ``val/psnr_caption_only`` with the own caption and codes of zeros.
        """
        scores = super().validate(networks, items)
        network: Any = networks[NETWORK]
        found: dict[str, list[Tensor]] = {}
        for images, text in self._captioned(items):
            codes = network.quantized(images).codes
            own, other = self._given(text), self._given(others(text))
            painted = {
                "caption": network.decode(codes, *own),
                "other_caption": network.decode(codes, *other),
                "caption_only": network.decode(torch.zeros_like(codes), *own),
            }
            for name, pictures in painted.items():
                errors_B = squared_error(pictures.clamp(-1, 1), images)
                found.setdefault(name, []).append(errors_B)
        for name, errors in found.items():
            errors_B = torch.cat(errors).double().clamp(min=1e-10)
            scores[f"val/psnr_{name}"] = float(-10 * errors_B.log10().mean())
        return scores

    def held_out(self, items: Items) -> Iterator[Tensor]:
        """Yield (B, S, S, 3) images to validate on, some at a time, in -1 ... 1."""
        for images, _ in self._captioned(items):
            yield images

    def _captioned(self, items: Items) -> Iterator[tuple[Tensor, TextStates]]:
        """Yield images to validate on, and their captions."""
        rows = spread(items, NUM_VALIDATION)
        for first in range(0, len(rows), VALIDATION_CHUNK):
            pixels, text = parted(items.gather(rows[first : first + VALIDATION_CHUNK]))
            yield to_float(torch.from_numpy(pixels).to(self.device)), text

    def _given(self, text: TextStates) -> tuple[Tensor, Tensor]:
        """Return states and mask of captions on the device."""
        text = trimmed(text)
        states, there = (torch.from_numpy(each) for each in (text.states, text.there))
        return states.to(self.device), there.to(self.device)
