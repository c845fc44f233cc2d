"""A loaded FlexTok model: pictures to ids and ids to pictures, row by row the same in any batch.

The package packs the images of a batch into one sequence of which every image is a block. Its
compiled FlexAttention skips what lies between blocks; without it (on a CPU) a whole mask is made,
whose cost grows with the square of the batch, so there images go one by one.

The last bits of a sum depend on the shapes of its matrices, and rounding may turn them into another
id or another pixel. So the network always gets the same number of rows (the last row is repeated
if there are fewer), and its result for a row never depends on the size of the batch.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.records import Images, Tokens
from imagegram.store.hashing import file_stamp
from imagegram.tokenizers.flextok.config import (
    PARTS,
    Numbers,
    missing_package,
    read_config,
    read_numbers,
)

#: Key under which the pipeline expects the initial noise of each picture.
_NOISE: Final = "imagegram_noise"
_LOADING: Final = threading.Lock()


@dataclass(frozen=True)
class Runtime:
    """Where and how a model runs; affects only the last bits of its results.

    Attributes:
        device: torch device.
        dtype: ``float32`` or ``bfloat16`` (autocast; the weights stay float32).
        flex: compiled FlexAttention instead of torch's own attention under a mask.
        compile: compile the transformers.
        batch_size: images at a time, with ``flex``.
    """

    device: str
    dtype: str
    flex: bool
    compile: bool
    batch_size: int

    @property
    def rows(self) -> int:
        """Number of rows of every call of the network."""
        return self.batch_size if self.flex else 1


@dataclass(frozen=True)
class Painting:
    """Settings of decoding tokens to pictures.

    Attributes:
        timesteps: number of steps of the rectified flow.
        guidance_scale: weight of classifier-free guidance; 1: no guidance.
        norm_guidance: adaptive projected guidance (https://arxiv.org/abs/2410.02416).
        seed: seed of the initial noise of pictures.
        image_size: side of a picture in pixels.
    """

    timesteps: int
    guidance_scale: float
    norm_guidance: bool
    seed: int
    image_size: int


class FlexTokModel:
    """Weights and numbers of one checkpoint on one device."""

    def __init__(self, network: Any, numbers: Numbers, runtime: Runtime) -> None:
        """Wrap the package's own model; use :func:`load_model`."""
        self.network = network
        self.numbers = numbers
        self.runtime = runtime

    @torch.no_grad()
    def encode(self, pixels_BHWC: Images, *, sample_posterior: bool) -> Tokens:
        """Encode (B, S, S, 3) uint8 images as (B, T) uint16 ids.

        Args:
            pixels_BHWC: prepared images.
            sample_posterior: draw the VAE's latents, seeded by the image, instead of their mean.

        Raises:
            ConfigError: when the network gives ids that its own code book does not have.
        """
        network, vae = self.network, self.network.vae

        def tokens(pixels: Images) -> NDArray[np.int64]:
            images = normalized(pixels).to(self.runtime.device)
            data: dict[str, Any] = {vae.images_read_key: list(images[:, None])}
            if sample_posterior:
                seeds = [_seed(row.tobytes()) for row in pixels]
                data[vae.vae_latents_write_key] = self._drawn(images, seeds)
            with self._autocast():
                rows = network.encode(data)[network.token_write_key]
            found: NDArray[np.int64] = torch.cat(rows).cpu().numpy()
            return found

        ids = self._by_rows(tokens, pixels_BHWC)
        shape = (len(pixels_BHWC), self.numbers.num_registers)
        if ids.shape != shape or (ids.size and not 0 <= ids.min() <= ids.max() < self._vocab):
            raise ConfigError(
                f"the FlexTok network gave ids of shape {ids.shape} in {ids.min(initial=0)} ... "
                f"{ids.max(initial=0)}, its configuration promises {shape} in 0 ... "
                f"{self._vocab - 1}; give another tokenizer.checkpoint"
            )
        return ids.astype(np.uint16)

    @torch.no_grad()
    def decode(self, tokens_BT: Tokens, painting: Painting) -> Images:
        """Decode (B, k) ids, the first k of each sequence, to (B, S, S, 3) uint8 images."""
        network = self.network
        length = tokens_BT.shape[1]
        room = network.encoder.module_dict["enc_register_module"].n_max
        keep = network.decoder.module_dict["dec_nested_dropout"].eval_keep_k_read_key
        side = painting.image_size // network.downsample_factor

        def pictures(tokens: NDArray[np.int64]) -> Images:
            ids = torch.from_numpy(np.pad(tokens, ((0, 0), (0, room - length))))
            codes = network.regularizer.indices_to_embedding(ids.to(self.runtime.device))
            data = {
                network.quants_write_key: list(codes.split(1)),
                keep: [length] * len(tokens),
                _NOISE: [self._noise(row, painting.seed, side) for row in tokens],
            }
            with self._autocast():
                painted = network.decode(
                    data,
                    timesteps=painting.timesteps,
                    vae_image_sizes=side,
                    verbose=False,
                    guidance_scale=painting.guidance_scale,
                    perform_norm_guidance=painting.norm_guidance,
                )[network.image_write_key]
            return as_bytes(torch.cat(painted).float().cpu())

        return self._by_rows(pictures, np.asarray(tokens_BT, dtype=np.int64))

    @property
    def _vocab(self) -> int:
        return self.numbers.vocab_size

    def _by_rows(
        self, function: Callable[[Any], NDArray[Any]], rows_B: NDArray[Any]
    ) -> NDArray[Any]:
        """Apply ``function`` to all rows, in calls of exactly ``runtime.rows`` rows."""
        done, at_once = [], self.runtime.rows
        for start in range(0, len(rows_B), at_once):
            some = rows_B[start : start + at_once]
            missing = at_once - len(some)
            whole = np.concatenate([some, np.repeat(some[-1:], missing, axis=0)])
            done.append(function(whole)[: len(some)])
        return np.concatenate(done)

    def _autocast(self) -> Any:
        kind = torch.device(self.runtime.device).type
        dtype = getattr(torch, self.runtime.dtype)
        return torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32)

    def _drawn(self, images: torch.Tensor, seeds: list[int]) -> list[torch.Tensor]:
        """Draw latents from the VAE's posterior, with one random generator per image."""
        vae = self.network.vae
        kind = torch.device(self.runtime.device).type
        with torch.autocast(kind, dtype=vae.dtype_override, enabled=self._vae_is_low()):
            posterior = vae.vae.encode(images.to(vae.dtype_override)).latent_dist
        shape = posterior.mean.shape[1:]
        noise = torch.stack([_normal(shape, seed) for seed in seeds]).to(posterior.mean)
        latents = (posterior.mean + posterior.std * noise) * vae.scaling_factor
        return list(latents.split(1))

    def _vae_is_low(self) -> bool:
        return bool(self.network.vae.dtype_override != torch.float32)

    def _noise(self, ids: NDArray[np.int64], seed: int, side: int) -> torch.Tensor:
        """Return the (1, C, side, side) initial noise for these ids, the same on any device."""
        content = np.array([seed, *ids], dtype="<i8").tobytes()
        channels = self.network.pipeline.out_channels
        return _normal((1, channels, side, side), _seed(content)).to(self.runtime.device)


def load_model(checkpoint: str, runtime: Runtime) -> FlexTokModel:
    """Load the model of a checkpoint, once per process, also when threads ask for it at once.

    Raises:
        MissingDependencyError: without the ``flextok`` package.
        ConfigError: when the file and its configuration do not fit each other.
    """
    path = Path(checkpoint).absolute()
    with _LOADING:
        network, numbers = _loaded(
            path, file_stamp(path), runtime.device, runtime.flex, runtime.compile
        )
    return FlexTokModel(network, numbers, runtime)


@functools.lru_cache(maxsize=1)
def _loaded(path: Path, stamp: str, device: str, flex: bool, compiled: bool) -> tuple[Any, Numbers]:
    from safetensors.torch import load_file

    config = read_config(path)
    numbers = read_numbers(config, path)
    network = build(config)
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: its weights are not those of its configuration; give another "
            f"tokenizer.checkpoint. {str(error)[:2000]}"
        ) from error
    if network.regularizer.codebook_size != numbers.vocab_size:
        raise ConfigError(
            f"{path}: its FSQ has {network.regularizer.codebook_size} ids, its configuration "
            f"{numbers.vocab_size}; give another tokenizer.checkpoint"
        )
    network.eval().requires_grad_(False).to(device)
    _prepare(network, flex=flex, compiled=compiled)
    return network, numbers


def build(config: Mapping[str, Any]) -> Any:
    """Build the package's model from a checked configuration, with random weights.

    Raises:
        MissingDependencyError: without the package.
    """
    try:
        from flextok.flextok_wrapper import FlexTok
    except ImportError as error:
        raise missing_package(str(error)) from error
    from hydra.utils import instantiate

    # Random weights are drawn and then overwritten: the global generator must stay as it was.
    with torch.random.fork_rng(devices=[]):
        parts = {part: instantiate(config[part], _convert_="all") for part in PARTS}
        return FlexTok(**parts)


def _prepare(network: Any, *, flex: bool, compiled: bool) -> None:
    """Apply the runtime settings that the package offers."""
    from flextok.model.layers.attention import FlexAttention
    from flextok.model.preprocessors.flex_seq_packing import BlockWiseSequencePacker
    from flextok.model.trunks.transformers import FlexTransformer, FlexTransformerDecoder

    network.pipeline.noise_read_key = _NOISE
    network.vae.sample_posterior = False
    network.vae.force_vae_encode = False  # sampled latents are used unchanged
    for module in network.modules():
        if isinstance(module, FlexAttention):
            module.use_flex_attention = flex
        elif isinstance(module, BlockWiseSequencePacker):
            module.return_materialized_mask = not flex
        elif compiled and isinstance(module, FlexTransformer | FlexTransformerDecoder):
            module.compile()


def normalized(pixels_BHWC: Images) -> torch.Tensor:
    """Map (B, H, W, 3) uint8 to (B, 3, H, W) float32 in -1 ... 1, rounding as torchvision."""
    pixels = torch.from_numpy(np.array(pixels_BHWC)).permute(0, 3, 1, 2).contiguous()
    return pixels.to(torch.float32).div(255).sub_(0.5).div_(0.5)


def as_bytes(images_BCHW: torch.Tensor) -> Images:
    """Map (B, 3, H, W) in -1 ... 1 to (B, H, W, 3) uint8, truncated as the package does."""
    unit = images_BCHW.sub(-1.0).div_(2.0).clamp_(0, 1)
    return (unit.permute(0, 2, 3, 1).contiguous().numpy() * 255).astype(np.uint8)


def _seed(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")


def _normal(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Draw standard normal float32 numbers, on the CPU for every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)
