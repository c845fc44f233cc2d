"""Training and validation of autoencoder and flow; Lightning's side of ``objectives.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from imagegram.generators.latent_flow.denoiser import initialize_modulated
from imagegram.generators.maskgen_kl.autoencoder import ImageKl
from imagegram.generators.maskgen_kl.errors import velocity_errors
from imagegram.generators.maskgen_kl.network import MaskedLatents
from imagegram.intervals import mean_over_images
from imagegram.models.pictures import squared_error, to_float
from imagegram.models.transformer import build
from imagegram.records import Measured
from imagegram.stages.captions import TextStates
from imagegram.training.captions import joined, others, parted
from imagegram.training.draws import BATCH, generator
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items

AUTOENCODER: Final = "image_kl"
FLOW: Final = "maskgen_kl"
#: Images that validation looks at, how many at a time, and those that moments are taken from.
NUM_VALIDATION: Final = 256
_CHUNK: Final = 32
_NUM_MOMENTS: Final = 1024
#: What is validated: under the own caption, under that of another image, under none.
_OWN, _OTHER, _NONE = "error", "error_other_caption", "error_no_caption"
#: Least deviation of a number of a latent: one that says nothing is not blown up.
_LEAST_SCALE: Final = 1e-3


class KlModule(TrainingModule):
    """One autoencoder of images: squared error of pixels, and the divergence of latents."""

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the autoencoder with fresh weights."""
        sizes = self.objective.sizes.arguments()
        network: Any = build(ImageKl, seed=self.optimization.seed, **sizes)
        network.begin()
        return {AUTOENCODER: network}

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the mean squared error of pixels in 0 ... 1, and the weighted divergence."""
        images, noise_BKD, states, there = batch
        target = to_float(images)
        network: Any = self.networks[AUTOENCODER]
        gaussians = network.encode(target)
        painted = network.decode(gaussians.sample(noise_BKD), states, there)
        error = squared_error(painted, target).mean()
        loss: Tensor = error + self.objective.beta * gaussians.divergences().mean()
        self.log_dict({"train/loss": loss, "train/mse": error})
        return loss

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return dB with sampled latents, with own captions and without, and bits of a latent."""
        network: Any = networks[AUTOENCODER]
        psnr, bits, count = {"psnr_caption": 0.0, "psnr": 0.0}, 0.0, 0
        for first, found in _images(items):
            rng = generator(seed=0, purpose=BATCH, number=first)  # the same noise every time
            images, noise, *text = _tensors(self.objective.batch(found, rng), self.device)
            target = to_float(images)
            gaussians = network.encode(target)
            latents = gaussians.sample(noise)
            for name, beside in (("psnr_caption", text), ("psnr", [])):
                painted = network.decode(latents, *beside).clamp(-1, 1)
                errors_B = squared_error(painted, target).double().clamp(min=1e-10)
                psnr[name] += float(-10 * errors_B.log10().sum())
            bits += float(gaussians.divergence().mean(dim=1).sum()) / math.log(2)
            count += len(images)
        scores = {f"val/{name}": total / count for name, total in psnr.items()}
        return scores | {"val/bits_per_latent": bits / count}


class MaskedFlowModule(TrainingModule):
    """One network over the latents of an autoencoder, which stays as it is."""

    validation_loss = "val/error"

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the network with fresh weights, and the moments of latents of training images."""
        sizes, seed = self.objective.sizes.arguments(), self.optimization.seed
        network: Any = build(MaskedLatents, seed=seed, initializer=initialize_modulated, **sizes)
        autoencoder = load_autoencoder(self.objective)
        means, variances = [], []
        with torch.no_grad():
            for _, found in _images(self.course.items, limit=_NUM_MOMENTS):
                gaussians = autoencoder.encode(to_float(torch.from_numpy(parted(found)[0])))
                means.append(gaussians.mean.flatten(0, 1).double())
                variances.append(gaussians.log_variance.flatten(0, 1).double().exp())
        mean_XD = torch.cat(means)
        variance_D = mean_XD.var(dim=0, unbiased=False) + torch.cat(variances).mean(dim=0)
        network.shift.copy_(mean_XD.mean(dim=0).float())
        network.scale.copy_(variance_D.sqrt().clamp(min=_LEAST_SCALE).float())
        return {FLOW: network}

    def configure_model(self) -> None:
        """Load the autoencoder: it is in no state, and has no gradients."""
        super().configure_model()
        if not hasattr(self, "autoencoder"):
            self.autoencoder = load_autoencoder(self.objective).requires_grad_(False)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the squared error of velocities, the mean over masked latents."""
        errors_BK = self._errors(self.networks[FLOW], batch[:6], batch[6:])
        loss: Tensor = (errors_BK * batch[3]).mean()
        self.log("train/loss", loss)
        return loss

    def _errors(self, network: Any, batch: tuple[Tensor, ...], text: tuple[Tensor, ...]) -> Tensor:
        """Return the (B, K) squared errors of a batch without captions, under captions."""
        images, noise_BKD, masked_BK, _, start, times = batch
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            latents = self.autoencoder.encode(to_float(images)).sample(noise_BKD)
            goal_BKD = network.standardized(latents)
        return velocity_errors(network, goal_BKD, masked_BK, start, times, *text)

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return squared errors of velocities, of the same masks, noise and times.

        ``val/error`` under the images' own captions, ``val/error_other_caption`` under those of
        others, ``val/error_no_caption`` under none. What the own caption saves beside either is a
        mean of differences within an image, with the ends of its interval:
        ``val/saved_other_caption``, ``..._low``, ``..._high``; ``val/saved_no_caption`` ...
        """
        found: dict[str, list[Tensor]] = {_OWN: [], _OTHER: [], _NONE: []}
        for first, images in _images(items):
            pixels, text = parted(images)
            none = TextStates(states=text.states, there=np.zeros_like(text.there))
            for name, given in zip(found, (text, others(text), none), strict=True):
                rng = generator(seed=0, purpose=BATCH, number=first)
                batch = _tensors(self.objective.batch(joined(pixels, given), rng), self.device)
                states, there = _tensors((given.states, given.there), self.device)
                errors_BK = self._errors(networks[FLOW], tuple(batch[:6]), (states, there))
                found[name].append((errors_BK * batch[3]).mean(dim=1).double().cpu())
        errors = {name: torch.cat(parts).numpy() for name, parts in found.items()}
        scores = {f"val/{name}": float(errors_N.mean()) for name, errors_N in errors.items()}
        for name in (_OTHER, _NONE):
            saved = mean_over_images(errors[name] - errors[_OWN], seed=0)
            scores |= _ends(name.replace("error", "val/saved"), saved)
        return scores


def _ends(name: str, measured: Measured) -> dict[str, float]:
    """Return a mean, and the ends of its interval where it has one, by name."""
    ends = {name: measured.value, f"{name}_low": measured.low, f"{name}_high": measured.high}
    return {name: end for name, end in ends.items() if end is not None}


def load_autoencoder(objective: Any) -> ImageKl:
    """Read the trained autoencoder of a :class:`MaskedFlow`, in evaluation mode, on the CPU."""
    assert objective.weights is not None, "the autoencoder is trained first"
    with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
        network = ImageKl(**objective.autoencoder.sizes.arguments())
    network.load_state_dict(load_file(objective.weights))
    return network.eval()


def _images(items: Items, *, limit: int = NUM_VALIDATION) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield numbers and captioned images, evenly spread, some at a time."""
    num_rows = min(limit, len(items))
    rows = np.arange(num_rows) * len(items) // num_rows
    for first in range(0, num_rows, _CHUNK):
        yield first, items.gather(rows[first : first + _CHUNK])


def _tensors(arrays: tuple[NDArray[Any], ...], device: torch.device) -> list[Tensor]:
    return [torch.from_numpy(array).to(device) for array in arrays]
