"""A small ordered tokenizer that is trained here: coarse tokens first, every prefix a picture.

    python -m imagegram.run tokenizer=ordered_fsq_tiny
    python -m imagegram.run tokenizer=ordered_fsq corpus=tiny_imagenet_20 paths.data=DATA
    python -m imagegram.run tokenizer=ordered_fsq tokenizer.checkpoint=FOLDER/model.safetensors

Without a checkpoint it is a recipe: :meth:`OrderedFsqTokenizer.fit` trains its network on the
corpus of the experiment, or on its ``train_corpus``, and gives the tokenizer with the weights.
The network is ``model.py``, what it learns ``objective.py``, how ``training.py``.

Images are squashed to a square with Pillow's bilinear filter, as the pyramid does. The network runs
in float32, on chunks of a fixed shape that are padded where images are missing; so what a row
becomes depends neither on the rows beside it nor on the batch size.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, TokenError, did_you_mean
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.protocols import Corpus, Modality
from imagegram.records import Encoded, Images, Tokens
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.hashing import file_stamp
from imagegram.store.stage import Ready
from imagegram.tokenizers.checks import require_ids, require_image
from imagegram.tokenizers.ordered_fsq.objective import OrderedReconstruction
from imagegram.tokenizers.ordered_fsq.sizes import (
    METADATA,
    NETWORK,
    Architecture,
    read_architecture,
)
from imagegram.tokenizers.weights import weights_sha256
from imagegram.training.fit import TrainTokenizer
from imagegram.training.objective import Items
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.pixels import CorpusPixels

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact
    from imagegram.tokenizers.ordered_fsq.model import OrderedFsq
    from imagegram.training.state import TrainingState

#: Files of a trained tokenizer.
MODEL: Final = "model.safetensors"
PICTURE: Final = "reconstructions.png"
_OPTIMIZATION: Final = Optimization(
    steps=6000,
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=200,
    weight_decay=0.05,
    ema_decay=0.998,
    precision="bf16-mixed",
    gradient_clip_val=0.1,
)
_KEEP: Final = ("pow2", "uniform")
_DTYPES: Final = ("float32", "bfloat16")
#: Images per call of the network; more are no faster on one core.
_CHUNK: Final = 16
_LOADING: Final = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class OrderedFsqTokenizer:
    """An ordered tokenizer: registers of a transformer, rounded to ids.

    Attributes:
        name: name of the tokenizer in tables and reports.
        image_size, patch_size, num_registers, levels, width, encoder_depth, decoder_depth,
            num_heads: as in :class:`Architecture`; a checkpoint brings its own, which count.
        keep: how nested dropout draws lengths: ``pow2`` (1, 2, 4, ...) or ``uniform``.
        flips: mirror half of the training images.
        optimization: steps, rates, seed of its training.
        trainer: where it is trained.
        num_tokens: number of first tokens that are kept; None: all.
        checkpoint: safetensors file of a trained network; None: the run trains it.
        device: where it encodes and decodes (``cpu``, ``cuda``).
        batch_size: images that are encoded at a time.
        dtype: of encoding and decoding; ``bfloat16`` is faster on a GPU, and changes some ids.
        compile: let ``torch.compile`` make that faster on a GPU, after a minute; changes last bits.
        hash_cache: folder that remembers the checkpoint's sha256.
    """

    modality: ClassVar[Modality] = IMAGES
    VERSION: ClassVar[int] = 2

    name: str = field(default="ordered_fsq", metadata=NOT_IDENTITY)
    image_size: int = 64
    patch_size: int = 8
    num_registers: int = 32
    levels: tuple[int, ...] = (8, 5, 5, 5)
    width: int = 128
    encoder_depth: int = 3
    decoder_depth: int = 3
    num_heads: int = 2
    keep: str = "pow2"
    flips: bool = True
    optimization: Optimization = _OPTIMIZATION
    trainer: TrainerOptions = field(default_factory=TrainerOptions, metadata=NOT_IDENTITY)
    num_tokens: int | None = None
    checkpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    device: str = field(default="cpu", metadata=NOT_IDENTITY)
    batch_size: int = field(default=64, metadata=NOT_IDENTITY)
    dtype: str = field(default="float32", metadata=NOT_IDENTITY)
    compile: bool = field(default=False, metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Take the sizes of a checkpoint; refuse impossible settings."""
        if self.checkpoint is not None:
            for name, value in read_architecture(self.checkpoint).items():
                object.__setattr__(self, name, value)
        object.__setattr__(self, "levels", tuple(self.levels))
        self.architecture.check()
        effective = self.trainer.applied_to(self.optimization, prefix="tokenizer.optimization.")
        object.__setattr__(self, "optimization", effective)
        for value, allowed, name in (
            (self.keep, _KEEP, "keep"),
            (self.dtype, _DTYPES, "dtype"),
        ):
            if value not in allowed:
                hint = did_you_mean(value, allowed)
                raise ConfigError(f"tokenizer.{name}={value} is unknown; {hint}")
        if self.batch_size < 1:
            raise ConfigError(f"tokenizer.batch_size={self.batch_size} must be at least 1")
        if self.num_tokens is None:
            object.__setattr__(self, "num_tokens", self.num_registers)
        if not 1 <= cast(int, self.num_tokens) <= self.num_registers:
            raise ConfigError(
                f"tokenizer.num_tokens={self.num_tokens} must lie in 1 ... {self.num_registers}, "
                "the tokens of a whole image; type tokenizer.num_tokens=null for all"
            )

    def check_machine(self) -> None:
        """Refuse a device that is not there."""
        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="tokenizer.device")

    def identity(self) -> dict[str, Any]:
        """Return the identity: weights (or the recipe of their training) and number of tokens."""
        kind = {"class": type(self).__name__, "version": self.VERSION}
        kind["num_tokens"] = self._length
        if self.checkpoint is None:
            recipe = (self.objective(), self.optimization)
            return kind | {"recipe": [identity(part) for part in recipe]}
        weights = weights_sha256(self.checkpoint, memory=self.hash_cache)
        return kind | {"weights": weights, "resize": "bilinear, squashed"}

    def objective(self) -> OrderedReconstruction:
        """Objective of the network's training."""
        return OrderedReconstruction(
            architecture=self.architecture, keep=self.keep, flips=self.flips
        )

    @property
    def architecture(self) -> Architecture:
        """Sizes of the network."""
        sizes = {item.name: getattr(self, item.name) for item in dataclasses.fields(Architecture)}
        return Architecture(**sizes)

    @property
    def _length(self) -> int:
        return cast(int, self.num_tokens)

    @property
    def spec(self) -> TokenSpec:
        """A ranked sequence of ids whose digits are those of the quantizer."""
        layout = TokenLayout.sequence(self._length, digits=self.levels)
        return TokenSpec(vocab_size=math.prod(self.levels), layout=layout)

    @property
    def encoder(self) -> OrderedFsqTokenizer:
        """The same tokenizer with all tokens."""
        return replace(self, num_tokens=self.num_registers)

    def fit(
        self, corpus: Corpus
    ) -> TrainTokenizer[OrderedFsqTokenizer] | Ready[OrderedFsqTokenizer]:
        """Return the stage that trains the network; the tokenizer itself if it has a checkpoint."""
        if self.checkpoint is not None:
            return Ready(self)
        data = CorpusPixels(corpus=corpus, image_size=self.image_size)
        return TrainTokenizer(component=self, data=data)

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the averaged weights, and reconstructions from increasing numbers of tokens."""
        from imagegram.tokenizers.ordered_fsq.training import write_reconstructions
        from imagegram.training.state import write_weights

        metadata = {
            METADATA: json.dumps(dataclasses.asdict(self.architecture)),
            "optimization": json.dumps(dataclasses.asdict(self.optimization)),
        }
        write_weights(out / MODEL, state.averages[NETWORK], metadata)
        trained = replace(self, checkpoint=str(out / MODEL)).encoder
        write_reconstructions(
            out / PICTURE,
            validation,
            encode=lambda images: np.asarray(trained.encode(images).documents),
            decode=trained.decode,
        )

    def trained(self, artifact: Artifact) -> OrderedFsqTokenizer:
        """Return the tokenizer with the weights that a training wrote into a folder."""
        return replace(self, checkpoint=str(artifact.path / MODEL))

    def prepare(self, image: Images) -> Images:
        """Resize an (H, W, 3) uint8 image to (S, S, 3) uint8.

        Raises:
            TokenError: when ``image`` has another shape or dtype.
        """
        from imagegram.images.resampling import resize

        require_image(image)
        return resize(image, self.image_size)

    def encode(self, prepared: Sequence[Images] | Images) -> Encoded:
        """Encode prepared images, (S, S, 3) uint8, as (B, T) uint16 ids.

        Raises:
            ConfigError: when there are no weights yet.
        """
        from imagegram.tokenizers.ordered_fsq.network import encode

        ids = encode(self._network(), np.asarray(prepared), chunk=_CHUNK, dtype=self.dtype)
        return Encoded(documents=ids[:, : self._length])

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Images:
        """Decode rows of ids, or their first ids, to images.

        Args:
            tokens_BT: (B, K) ids of any integer dtype, K in 1 ... ``num_tokens``.
            output_size: side in pixels that pictures are resized to; None: ``image_size``.

        Returns:
            (B, S, S, 3) uint8.

        Raises:
            TokenError: for another shape, or an id outside the vocabulary; ids are never wrapped.
            ConfigError: when ``output_size`` is not positive, or there are no weights yet.
        """
        from imagegram.images.resampling import resize
        from imagegram.tokenizers.ordered_fsq.network import decode

        tokens = np.asarray(tokens_BT)
        self._check(tokens)
        if output_size is not None and output_size < 1:
            raise ConfigError(f"output_size must be at least 1 pixel, got {output_size}")
        painted = decode(self._network(), tokens, chunk=_CHUNK, dtype=self.dtype)
        if output_size in (None, self.image_size):
            return painted
        images = np.empty((len(tokens), output_size, output_size, 3), dtype=np.uint8)
        for image, pixels in zip(images, painted, strict=True):
            image[:] = resize(pixels, output_size)
        return images

    def _check(self, tokens: NDArray[Any]) -> None:
        whole = tokens.ndim == 2 and tokens.dtype.kind in "iu"
        if not whole or not 1 <= tokens.shape[1] <= self._length:
            raise TokenError(
                f"decode needs (B, K) integer ids with K in 1 ... {self._length}, got "
                f"{tokens.shape} {tokens.dtype}"
            )
        require_ids(tokens, self.spec.vocab_size)

    def _network(self) -> OrderedFsq:
        """Return the network with its weights, loaded once per process."""
        if self.checkpoint is None:
            raise ConfigError(
                f"tokenizer {self.name} has no weights yet: a run trains them first; from Python, "
                "make the stage that tokenizer.fit(corpus) gives, or type "
                "tokenizer.checkpoint=FOLDER/model.safetensors"
            )
        path = Path(self.checkpoint)
        with _LOADING:
            return _load(path, file_stamp(path), self.architecture, self.device, self.compile)


@functools.lru_cache(maxsize=2)
def _load(
    path: Path, stamp: str, architecture: Architecture, device: str, compiled: bool
) -> OrderedFsq:
    """Load the weights; ``stamp`` is part of the cache key, so a rewritten file is read again."""
    from imagegram.tokenizers.ordered_fsq.network import load

    return load(path, dataclasses.asdict(architecture), device=device, compiled=compiled)
