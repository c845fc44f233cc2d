"""FlexTok: 256 ordered tokens an image, of 64,000 ids, painted by a flow that takes any prefix.

An adapter of the package ``flextok`` (Bachmann et al., "FlexTok: Resampling Images into 1D Token
Sequences of Flexible Length", arXiv 2502.13967), which is for non-commercial use. Images become
latents of a VAE; a transformer writes them into registers of which the first say most; FSQ rounds
each to an id. A rectified flow paints a picture from as many of them as there are.

Encoding is by the batch, and what a row becomes never depends on the rows beside it; see
``model.py``. A picture starts from noise that is seeded by its ids: equal rows are equal
pictures, so that an exact copy looks exactly like its source.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagegram.errors import ConfigError, TokenError
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.protocols import Corpus, Modality
from imagegram.records import Encoded, Images, Tokens
from imagegram.store.fingerprint import NOT_IDENTITY, digest
from imagegram.store.hashing import file_stamp
from imagegram.store.stage import Ready
from imagegram.tokenizers.checks import require_ids, require_image
from imagegram.tokenizers.fetch import FetchWeights
from imagegram.tokenizers.flextok.config import (
    VAE_CONFIG_FILE,
    Numbers,
    linked_vae,
    read_config,
    read_numbers,
    require_choice,
    require_package,
)
from imagegram.tokenizers.weights import weights_sha256

if TYPE_CHECKING:
    from imagegram.tokenizers.flextok.model import FlexTokModel

#: The published models: 256 tokens of 8 * 8 * 8 * 5 * 5 * 5 = 64,000 ids.
PUBLISHED: Final = Numbers(num_registers=256, levels=(8, 8, 8, 5, 5, 5))
#: Pixels of an image to one place of its VAE's latents, along a side.
_DOWNSAMPLING: Final = 8
_FILTERS: Final = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


@dataclass(frozen=True, kw_only=True)
class FlexTokTokenizer:
    """A FlexTok model of the hub, or of a file.

    Attributes:
        name: name of the tokenizer in tables and reports.
        hub_repo: repository of the hub with the weights.
        hub_revision: its branch, tag or commit.
        checkpoint: safetensors file with the weights; None: downloaded from the hub.
        num_tokens: number of first tokens that are kept; None: all.
        image_size: side of the pictures that the model was trained on, in pixels.
        interpolation: of the shorter side to ``image_size``: ``bicubic``, or ``bilinear`` as the
            package's helper for demonstrations. The margin of the longer side is cut off.
        posterior: latents of the VAE: their ``mode``, or a ``sample`` seeded by the image.
        timesteps: steps of the rectified flow that decodes.
        guidance_scale: weight of classifier-free guidance; 1: no guidance.
        norm_guidance: adaptive projected guidance (arXiv 2410.02416), at a high guidance_scale.
        decode_seed: seed of the initial noise of pictures.
        device: where torch runs; None: ``cuda`` where there is one, else ``cpu``.
        dtype: ``float32`` or ``bfloat16``.
        batch_size: images at a time, on a GPU.
        compile: compile the transformers, which takes minutes and then saves time.
        attention: ``flex`` (compiled, for batches), ``sdpa`` (one image at a time), or ``auto``:
            flex on a GPU.
        hash_cache: folder that remembers the checkpoint's sha256.

    ``device``, ``dtype``, ``batch_size``, ``compile`` and ``attention`` change the last bits of
    sums and so, rarely, an id; they are no part of the identity.
    """

    modality: ClassVar[Modality] = IMAGES
    VERSION: ClassVar[int] = 1

    name: str = field(default="flextok", metadata=NOT_IDENTITY)
    hub_repo: str = "EPFL-VILAB/flextok_d18_d28_dfn"
    hub_revision: str = "main"
    checkpoint: str | None = None
    num_tokens: int | None = None
    image_size: int = 256
    interpolation: str = "bicubic"
    posterior: str = "mode"
    timesteps: int = 20
    guidance_scale: float = 7.5
    norm_guidance: bool = True
    decode_seed: int = 0
    device: str | None = field(default=None, metadata=NOT_IDENTITY)
    dtype: str = field(default="float32", metadata=NOT_IDENTITY)
    batch_size: int = field(default=16, metadata=NOT_IDENTITY)
    compile: bool = field(default=False, metadata=NOT_IDENTITY)
    attention: str = field(default="auto", metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Refuse settings that no model supports."""
        require_choice("interpolation", self.interpolation, tuple(_FILTERS))
        require_choice("posterior", self.posterior, ("mode", "sample"))
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))
        require_choice("attention", self.attention, ("auto", "flex", "sdpa"))
        if self.num_tokens is None:
            object.__setattr__(self, "num_tokens", self._all_numbers.num_registers)
        for name in ("num_tokens", "timesteps", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"tokenizer.{name}={getattr(self, name)} must be at least 1")
        if self.image_size < _DOWNSAMPLING or self.image_size % _DOWNSAMPLING:
            raise ConfigError(
                f"tokenizer.image_size={self.image_size} must be a positive multiple of "
                f"{_DOWNSAMPLING}; the published models have tokenizer.image_size=256"
            )
        if self.checkpoint is None:
            self._require_length(PUBLISHED)

    @property
    def _length(self) -> int:
        return cast(int, self.num_tokens)

    def check_machine(self) -> None:
        """Refuse a device that is not there, or a missing package, before weights are fetched."""
        _device(self.device)
        require_package()

    def identity(self) -> dict[str, Any]:
        """Return the identity: weights (or their hub page), preprocessing and decoding."""
        weights = f"{self.hub_repo}@{self.hub_revision}"
        config = None
        if self.checkpoint is not None:
            weights = weights_sha256(self.checkpoint, memory=self.hash_cache)
            config = _config_digest(self.checkpoint, file_stamp(Path(self.checkpoint)))
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "weights": weights,
            "config": config,
            "num_tokens": self._length,
            "image_size": self.image_size,
            "interpolation": self.interpolation,
            "posterior": self.posterior,
            "timesteps": self.timesteps,
            "guidance_scale": self.guidance_scale,
            "norm_guidance": self.norm_guidance,
            "decode_seed": self.decode_seed,
        }

    @property
    def spec(self) -> TokenSpec:
        """A ranked sequence; each digit of an id is one dimension of the FSQ code."""
        numbers = self._numbers
        layout = TokenLayout.sequence(self._length, digits=numbers.levels)
        return TokenSpec(vocab_size=numbers.vocab_size, layout=layout)

    @property
    def encoder(self) -> FlexTokTokenizer:
        """The same tokenizer with all tokens and default decoding: what encoding depends on."""
        return replace(
            self,
            num_tokens=self._numbers.num_registers,
            timesteps=FlexTokTokenizer.timesteps,
            guidance_scale=FlexTokTokenizer.guidance_scale,
            norm_guidance=FlexTokTokenizer.norm_guidance,
            decode_seed=FlexTokTokenizer.decode_seed,
        )

    def fit(self, corpus: Corpus) -> FetchWeights[FlexTokTokenizer] | Ready[FlexTokTokenizer]:
        """Return the stage that downloads the weights; the tokenizer itself if it has them."""
        if self.checkpoint is not None:
            return Ready(self)
        return FetchWeights(repo=self.hub_repo, revision=self.hub_revision, tokenizer=self)

    def linked_configs(self) -> dict[str, str]:
        """Return the files that a checkpoint needs beside it: name -> hub page of the file."""
        assert self.checkpoint is not None
        page = linked_vae(Path(self.checkpoint))
        return {} if page is None else {VAE_CONFIG_FILE: page}

    def prepare(self, image: Images) -> Images:
        """Resize the shorter side of an image to ``image_size`` and crop the middle square.

        Args:
            image: (H, W, 3) uint8, any size.

        Returns:
            (S, S, 3) uint8.

        Raises:
            TokenError: when ``image`` has another shape or dtype.
        """
        require_image(image)
        return shorter_side(image, self.image_size, _FILTERS[self.interpolation])

    def encode(self, prepared: Sequence[Images] | Images) -> Encoded:
        """Encode prepared images, (S, S, 3) uint8, as (B, T) uint16 ids."""
        images = np.asarray(prepared)
        ids = self._model.encode(images, sample_posterior=self.posterior == "sample")
        return Encoded(documents=np.ascontiguousarray(ids[:, : self._length]))

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Images:
        """Decode sequences, or their first tokens, to pictures.

        Args:
            tokens_BT: (B, k) ids of any integer dtype, 1 <= k <= tokens of a whole sequence.
            output_size: side in pixels; None: ``image_size``.

        Returns:
            (B, S, S, 3) uint8.

        Raises:
            TokenError: for another shape, or an id outside the code book; ids are never wrapped.
            ConfigError: when ``output_size`` is not positive.
        """
        from imagegram.images.resampling import resize
        from imagegram.tokenizers.flextok.model import Painting

        tokens = np.asarray(tokens_BT)
        self._check(tokens)
        if output_size is not None and output_size < 1:
            raise ConfigError(f"output_size must be at least 1 pixel, got {output_size}")
        side = output_size or self.image_size
        if not len(tokens):
            return np.empty((0, side, side, 3), dtype=np.uint8)
        painting = Painting(
            timesteps=self.timesteps,
            guidance_scale=self.guidance_scale,
            norm_guidance=self.norm_guidance,
            seed=self.decode_seed,
            image_size=self.image_size,
        )
        pictures = self._model.decode(tokens, painting)
        if side == self.image_size:
            return pictures
        return np.stack([resize(picture, side) for picture in pictures])

    @property
    def _all_numbers(self) -> Numbers:
        if self.checkpoint is None:
            return PUBLISHED
        return _read_numbers(self.checkpoint, file_stamp(_existing(self.checkpoint)))

    @property
    def _numbers(self) -> Numbers:
        numbers = self._all_numbers
        self._require_length(numbers)
        return numbers

    @property
    def _model(self) -> FlexTokModel:
        from imagegram.tokenizers.flextok.model import Runtime, load_model

        if self.checkpoint is None:
            raise ConfigError(
                f"tokenizer={self.name} has no weights yet; a run fetches them first, "
                f"from {self.hub_repo}, or give tokenizer.checkpoint=FOLDER/model.safetensors"
            )
        _ = self._numbers  # refuse a sequence that is too long before the weights are loaded
        device = _device(self.device)
        flex = self.attention == "flex" or (self.attention == "auto" and device != "cpu")
        runtime = Runtime(device, self.dtype, flex, self.compile, self.batch_size)
        return load_model(self.checkpoint, runtime)

    def _require_length(self, numbers: Numbers) -> None:
        if self._length > numbers.num_registers:
            raise ConfigError(
                f"tokenizer.num_tokens={self.num_tokens}: the model has {numbers.num_registers} "
                f"tokens an image; type tokenizer.num_tokens={numbers.num_registers}"
            )

    def _check(self, tokens: NDArray[np.integer]) -> None:
        longest = self._numbers.num_registers
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= longest or tokens.dtype.kind not in "iu":
            raise TokenError(
                f"decode needs (B, 1 ... {longest}) integer ids, got {tokens.shape} {tokens.dtype}"
            )
        require_ids(tokens, self._numbers.vocab_size)


def shorter_side(image: Images, size: int, resample: Image.Resampling) -> Images:
    """Resize the shorter side, then crop the middle square: torchvision's Resize and CenterCrop.

    Args:
        image: (H, W, 3) uint8.
        size: pixels.
        resample: Pillow's filter, antialiased when it shrinks.

    Returns:
        (size, size, 3) uint8. The longer side is rounded down, half a pixel of margin to even.
    """
    height, width, _ = image.shape
    shorter = min(width, height)
    shape = (size * width // shorter, size * height // shorter)
    picture = Image.fromarray(image)
    if shape != (width, height):
        picture = picture.resize(shape, resample)
    left, top = (round((side - size) / 2) for side in shape)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def _existing(checkpoint: str) -> Path:
    path = Path(checkpoint)
    if not path.is_file():
        raise ConfigError(
            f"tokenizer.checkpoint={checkpoint}: there is no such file; give one that exists, or "
            "tokenizer.checkpoint=null to fetch the weights"
        )
    return path


@functools.lru_cache(maxsize=8)
def _read_numbers(checkpoint: str, stamp: str) -> Numbers:
    path = Path(checkpoint)
    return read_numbers(read_config(path), path)


def _config_digest(checkpoint: str, stamp: str) -> str:
    return digest(read_config(Path(checkpoint)))


def _device(device: str | None) -> str:
    import torch

    from imagegram.encoders.preprocessing import require_device

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    require_device(device, setting="tokenizer.device")
    return device
