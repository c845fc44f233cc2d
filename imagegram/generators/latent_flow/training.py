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
from torch.nn import functional as F

from imagegram.generators.latent_flow.autoencoder import ChunkAutoencoder
from imagegram.generators.latent_flow.denoiser import Denoiser, initialize_modulated
from imagegram.models.transformer import build
from imagegram.training.draws import BATCH, generator
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items

AUTOENCODER: Final = "chunk_autoencoder"
DENOISER: Final = "latent_flow"
#: Documents that validation looks at, and how many at a time.
NUM_VALIDATION: Final = 256
_CHUNK: Final = 32
#: Training documents that moments of latents, and lengths, are taken from.
_NUM_MOMENTS: Final = 2048
#: Noise under which latents are validated, in their deviations.
NOISES: Final = (0.2, 0.4, 0.6, 0.8)
#: Times at which a flow is validated.
VALIDATED_AT: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
#: The velocity at a time t is the way that is left over 1 - t, or over this where less is left.
_LEAST_LEFT: Final = 0.05
#: Least deviation of a number of a latent: one that says nothing is not blown up.
_LEAST_SCALE: Final = 1e-3


class ChunkModule(TrainingModule):
    """One autoencoder of chunks: cross entropy of tokens, and the divergence of latents."""

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the autoencoder with fresh weights."""
        sizes = self.objective.sizes.arguments()
        return {AUTOENCODER: build(ChunkAutoencoder, seed=self.optimization.seed, **sizes)}

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the loss of a token in nats."""
        ids_BNC, hidden_BNC, noise_BND, kept_BND, weights_BNC = batch
        network: Any = self.networks[AUTOENCODER]
        gaussians = network.encode(ids_BNC, hidden_BNC)
        logits_BNCV = network.decode(gaussians.sample(noise_BND) * kept_BND)
        entropy = (token_losses(logits_BNCV, ids_BNC) * weights_BNC).mean()
        numbers_BND = gaussians.divergences()
        cost_BN = numbers_BND.clamp(min=self.objective.free_nats).sum(dim=-1)
        divergence = (cost_BN * weights_BNC.amax(dim=-1)).mean() / ids_BNC.shape[-1]
        loss: Tensor = entropy + self.objective.beta * divergence
        self.log_dict({"train/loss": loss, "train/cross_entropy": entropy})
        return loss

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return accuracy of tokens with sampled latents, their cross entropy, bits of a chunk.

        ``val/accuracy_noise0.2`` ... are of sampled latents with noise of so many of their
        deviations added.
        """
        network: Any = networks[AUTOENCODER]
        disturbed = dict.fromkeys(NOISES, 0.0)
        right = entropy = divergence = tokens = chunks = 0.0
        for first, found in _documents(items):
            rng = generator(seed=0, purpose=BATCH, number=first)  # the same noise every time
            ids_BNC, _, noise_BND, _, _ = _tensors(self.objective.batch(found, rng), self.device)
            counted = self.objective.sizes.counted(ids_BNC.cpu().numpy(), ends=self.objective.ends)
            counted_BNC = torch.from_numpy(counted).to(self.device)
            gaussians = network.encode(ids_BNC)
            latents_BND = gaussians.sample(noise_BND)
            logits_BNCV = network.decode(latents_BND)
            more = torch.from_numpy(rng.standard_normal(noise_BND.shape, dtype=np.float32))
            scale_D = latents_BND[counted_BNC.any(dim=-1)].std(dim=0, unbiased=False)
            for noise in NOISES:
                found_BND = latents_BND + noise * scale_D * more.to(self.device)
                read_BNC = network.decode(found_BND).argmax(-1)
                disturbed[noise] += float((read_BNC == ids_BNC)[counted_BNC].sum())
            right += float((logits_BNCV.argmax(-1) == ids_BNC)[counted_BNC].sum())
            entropy += float(token_losses(logits_BNCV, ids_BNC)[counted_BNC].sum())
            there_BN = counted_BNC.any(dim=-1)
            divergence += float(gaussians.divergence()[there_BN].sum()) / math.log(2)
            tokens, chunks = tokens + float(counted_BNC.sum()), chunks + float(there_BN.sum())
        return {
            "val/accuracy": right / tokens,
            "val/cross_entropy": entropy / tokens,
            "val/bits_per_chunk": divergence / chunks,
            **{f"val/accuracy_noise{noise:g}": got / tokens for noise, got in disturbed.items()},
        }


class FlowModule(TrainingModule):
    """One denoiser of the latents of an autoencoder, which stays as it is."""

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the denoiser with fresh weights, and what it knows of training documents."""
        sizes, seed = self.objective.sizes.arguments(), self.optimization.seed
        network: Any = build(Denoiser, seed=seed, initializer=initialize_modulated, **sizes)
        for name, tensor in self._of_documents(load_autoencoder(self.objective)).items():
            network.get_buffer(name).copy_(tensor)
        return {DENOISER: network}

    @torch.no_grad()
    def _of_documents(self, autoencoder: ChunkAutoencoder) -> dict[str, Tensor]:
        """Return moments of the latents and lengths of training documents, by buffer."""
        chunks = self.objective.autoencoder
        means, variances, lengths = [], [], []
        for _, found in _documents(self.course.items, limit=_NUM_MOMENTS):
            ids_BNC = chunks.sizes.chunks(found)
            there = chunks.sizes.counted(ids_BNC, ends=chunks.ends).any(axis=-1)
            gaussians = autoencoder.encode(torch.from_numpy(ids_BNC))
            there_BN = torch.from_numpy(there)
            lengths.append(there_BN.sum(dim=1))
            means.append(gaussians.mean[there_BN].double())
            variances.append(gaussians.log_variance[there_BN].double().exp())
        mean_XD = torch.cat(means)
        variance_D = mean_XD.var(dim=0, unbiased=False) + torch.cat(variances).mean(dim=0)
        counts_N = torch.bincount(torch.cat(lengths) - 1, minlength=self.objective.sizes.num_chunks)
        return {
            "shift": mean_XD.mean(dim=0).float(),
            "scale": variance_D.sqrt().clamp(min=_LEAST_SCALE).float(),
            "lengths": (counts_N / counts_N.sum()).float(),
        }

    def configure_model(self) -> None:
        """Load the autoencoder: it is in no state, and has no gradients."""
        super().configure_model()
        if not hasattr(self, "autoencoder"):
            self.autoencoder = load_autoencoder(self.objective).requires_grad_(False)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the loss, the mean over chunks that are not given."""
        ids_BNC, latent_BND, start_BND, times_BN, reads_B, there_BN = batch
        network = self.networks[DENOISER]
        goal_BND = self._goals(network, ids_BNC, latent_BND)
        now_BND = on_the_way(goal_BND, self.objective.sigma * start_BND, times_BN)
        estimate_BND = torch.zeros_like(now_BND)
        if self.objective.self_conditioning:
            with torch.no_grad():
                own_BND = network(now_BND, times_BN, estimate_BND, there_BN)
            estimate_BND = torch.where(reads_B[:, None, None], own_BND.float(), estimate_BND)
        found_BND = network(now_BND, times_BN, estimate_BND, there_BN).float()
        asked_BN = there_BN & (times_BN < 1)
        losses = self._losses(network, found_BND, goal_BND, times_BN, ids_BNC)
        loss = torch.stack(
            [
                (loss_BN * asked_BN).sum() / asked_BN.sum().clamp(min=1)
                for loss_BN in losses.values()
            ]
        ).sum()
        self.log("train/loss", loss)
        return loss

    @torch.no_grad()
    def _goals(self, network: Any, ids_BNC: Tensor, noise_BND: Tensor) -> Tensor:
        """Return the (B, N, D) standardized latents of chunks."""
        with torch.autocast(ids_BNC.device.type, enabled=False):
            latents_BND = self.autoencoder.encode(ids_BNC).sample(noise_BND)
            goal_BND: Tensor = network.standardized(latents_BND)
            return goal_BND

    def _losses(
        self, network: Any, found_BND: Tensor, goal_BND: Tensor, times_BN: Tensor, ids_BNC: Tensor
    ) -> dict[str, Tensor]:
        """Return (B, N) losses, by name."""
        losses: dict[str, Tensor] = {}
        if self.objective.loss in ("velocity", "both"):
            left_BN = (1 - times_BN).clamp(min=_LEAST_LEFT)
            losses["velocity"] = (found_BND - goal_BND).square().mean(dim=-1) / left_BN**2
        if self.objective.loss in ("cross_entropy", "both"):
            logits_BNCV = self.autoencoder.decode(network.restored(found_BND))
            losses["cross_entropy"] = token_losses(logits_BNCV, ids_BNC).mean(dim=-1)
        return losses

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return, at several times, errors of arrivals and accuracies of the tokens read there."""
        network: Any = networks[DENOISER]
        chunks = self.objective.autoencoder
        error, right = (dict.fromkeys(VALIDATED_AT, 0.0) for _ in range(2))
        num_chunks = num_tokens = 0.0
        for first, found in _documents(items):
            rng = generator(seed=0, purpose=BATCH, number=first)  # the same noise every time
            ids_BNC, latent_BND, start_BND, _, _, there_BN = _tensors(
                self.objective.batch(found, rng), self.device
            )
            counted = chunks.sizes.counted(ids_BNC.cpu().numpy(), ends=chunks.ends)
            counted_BNC = torch.from_numpy(counted).to(self.device)
            goal_BND = self._goals(network, ids_BNC, latent_BND)
            for time in VALIDATED_AT:
                times_BN = torch.full_like(there_BN, time, dtype=torch.float32)
                now_BND = on_the_way(goal_BND, self.objective.sigma * start_BND, times_BN)
                arrival_BND = network(now_BND, times_BN, torch.zeros_like(now_BND), there_BN)
                error[time] += float((arrival_BND - goal_BND).square().mean(-1)[there_BN].sum())
                read = self.autoencoder.decode(network.restored(arrival_BND)).argmax(-1)
                right[time] += float((read == ids_BNC)[counted_BNC].sum())
            num_chunks += float(there_BN.sum())
            num_tokens += float(counted_BNC.sum())
        return {
            "val/error": sum(error.values()) / len(error) / num_chunks,
            **{f"val/error_t{time:g}": total / num_chunks for time, total in error.items()},
            **{f"val/accuracy_t{time:g}": total / num_tokens for time, total in right.items()},
        }


def on_the_way(goal_BND: Tensor, start_BND: Tensor, times_BN: Tensor) -> Tensor:
    """Return (B, N, D) latents at their times, on straight lines from the start to the goal."""
    times_BN1 = times_BN[..., None]
    return (1 - times_BN1) * start_BND + times_BN1 * goal_BND


def token_losses(logits_BNCV: Tensor, ids_BNC: Tensor) -> Tensor:
    """Return the (B, N, C) cross entropies in nats."""
    losses = F.cross_entropy(logits_BNCV.float().flatten(0, 2), ids_BNC.flatten(), reduction="none")
    return losses.view(ids_BNC.shape)


def load_autoencoder(objective: Any) -> ChunkAutoencoder:
    """Read the trained autoencoder of a :class:`LatentFlow`, in evaluation mode, on the CPU."""
    assert objective.weights is not None, "the autoencoder is trained first"
    sizes = objective.autoencoder.sizes.arguments()
    with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
        network = ChunkAutoencoder(**sizes)
    network.load_state_dict(load_file(objective.weights))
    return network.eval()


def _documents(items: Items, *, limit: int = NUM_VALIDATION) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield numbers and documents, evenly spread, some at a time."""
    num_rows = min(limit, len(items))
    rows = np.arange(num_rows) * len(items) // num_rows
    for first in range(0, num_rows, _CHUNK):
        yield first, items.gather(rows[first : first + _CHUNK])


def _tensors(arrays: tuple[NDArray[Any], ...], device: torch.device) -> list[Tensor]:
    return [torch.from_numpy(array).to(device) for array in arrays]
