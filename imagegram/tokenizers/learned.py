"""What tokenizers that learn a network share: training, weights by content, whole images.

The families are ``ordered_fsq``, ``conv_vq`` and ``titok``. Without a checkpoint a tokenizer is a
recipe: :meth:`LearnedTokenizer.fit` trains its network on the corpus of the experiment, or on its
``train_corpus``, and gives the tokenizer with the weights.

Images are squashed to a square with Pillow's bilinear filter, as the pyramid does. The network runs
in float32, on chunks of a fixed shape that are padded where images are missing; so what a row
becomes depends neither on the rows beside it nor on the batch size.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, TokenError
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenSpec
from imagegram.models.checkpoints import write_weights
from imagegram.models.dtypes import require_dtype
from imagegram.models.published import SETTING
from imagegram.protocols import Corpus, Modality
from imagegram.records import Encoded, Images, Tokens
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.hashing import file_stamp
from imagegram.store.stage import Ready
from imagegram.store.weights import MODEL, Source
from imagegram.tokenizers.checks import require_ids, require_image
from imagegram.tokenizers.imports import ImportTokenizer, read_published
from imagegram.tokenizers.sizes import NETWORK, NetworkSizes, has_sizes, read_sizes
from imagegram.tokenizers.weights import weights_sha256
from imagegram.training.fit import TrainTokenizer
from imagegram.training.objective import Items, Objective
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.pixels import CorpusPixels

if TYPE_CHECKING:
    from torch import Tensor

    from imagegram.models.checkpoints import Shapes
    from imagegram.store.manifest import Artifact
    from imagegram.tokenizers.inference import CodeNetwork
    from imagegram.training.state import TrainingState

#: Picture beside the weights of a trained tokenizer.
PICTURE: Final = "reconstructions.png"
#: Images per call of the network; more are no faster on one core.
_CHUNK: Final = 16
_LOADING: Final = threading.Lock()

#: A training of minutes on two cores.
MINUTES: Final = Optimization(
    steps=6000,
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=200,
    weight_decay=0.05,
    ema_decay=0.99,
    precision="bf16-mixed",
    gradient_clip_val=0.1,
)


@dataclass(frozen=True, kw_only=True)
class LearnedTokenizer:
    """The fields of a tokenizer that trains a network; families add sizes and an objective.

    Attributes:
        name: name of the tokenizer in tables and reports.
        image_size: side of the images in pixels.
        flips: mirror half of the training images.
        optimization: steps, rates, seed of its training.
        trainer: where it is trained.
        checkpoint: weights of a trained network: a file, a folder or a page of the hub
            (``store/weights.py``), for some families also published ones; None: the run trains it.
        device: where it encodes and decodes (``cpu``, ``cuda``).
        batch_size: images that are encoded at a time.
        dtype: of encoding and decoding; ``bfloat16`` is faster on a GPU, and changes some ids.
        compile: let ``torch.compile`` make that faster on a GPU, after a minute; changes last bits.
        hash_cache: folder that remembers the checkpoint's sha256.
    """

    modality: ClassVar[Modality] = IMAGES
    #: Whether a checkpoint may be a published file of others, see :meth:`taken_over`.
    TAKES_PUBLISHED: ClassVar[bool] = False
    VERSION: ClassVar[int]
    SIZES: ClassVar[type[NetworkSizes]]

    name: str = field(metadata=NOT_IDENTITY)
    image_size: int = 64
    flips: bool = True
    optimization: Optimization
    trainer: TrainerOptions = field(default_factory=TrainerOptions, metadata=NOT_IDENTITY)
    checkpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    device: str = field(default="cpu", metadata=NOT_IDENTITY)
    batch_size: int = field(default=64, metadata=NOT_IDENTITY)
    dtype: str = field(default="float32", metadata=NOT_IDENTITY)
    compile: bool = field(default=False, metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Take the sizes of a checkpoint; refuse impossible settings."""
        if self.checkpoint is not None and (path := self._source.path) is not None:
            object.__setattr__(self, "checkpoint", str(path))
            if not self.is_imported:
                for name, value in self.fields_of(read_sizes(path, self.SIZES)).items():
                    object.__setattr__(self, name, value)
        self.architecture.check()
        effective = self.trainer.applied_to(self.optimization, prefix="tokenizer.optimization.")
        object.__setattr__(self, "optimization", effective)
        require_dtype(self.dtype, setting="tokenizer.dtype")
        if self.batch_size < 1:
            raise ConfigError(f"tokenizer.batch_size={self.batch_size} must be at least 1")

    # ------------------------------------------------------------------- implemented by a family

    @property
    def architecture(self) -> NetworkSizes:
        """Sizes of the network."""
        sizes = {item.name: getattr(self, item.name) for item in dataclasses.fields(self.SIZES)}
        return self.SIZES(**sizes)

    def fields_of(self, sizes: NetworkSizes) -> dict[str, Any]:
        """Return the fields of this tokenizer that sizes of a checkpoint decide."""
        return sizes.as_dict()

    def taken_over(self, tensors: dict[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
        """Return the weights of a published file under the names of the network.

        Args:
            tensors: by their published names.
            expected: names and shapes of the network.

        Raises:
            ConfigError: for weights of another network.
        """
        raise ConfigError(
            f"{SETTING}: the file is none that a training of {self.name} wrote (one has the entry "
            f"{self.SIZES.METADATA} in its header), and files of others have no such network; give "
            "another file, or tokenizer.checkpoint=null to train"
        )

    def objective(self) -> Objective:
        """Return the objective of the network's training."""
        raise NotImplementedError

    @property
    def spec(self) -> TokenSpec:
        """Number of ids, tokens of a sample, and layout of their positions."""
        raise NotImplementedError

    @property
    def encoder(self) -> Self:
        """The tokenizer itself, which has one length."""
        return self

    @property
    def shown_lengths(self) -> Sequence[int]:
        """Numbers of first tokens that the sheet of reconstructions shows."""
        return (self.spec.length,)

    # ------------------------------------------------------------------------------- the contract

    def check_machine(self) -> None:
        """Refuse a device that is not there, and published weights of another network."""
        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="tokenizer.device")
        if self.is_imported and (path := self._source.path) is not None:
            read_published(self, path, setting=SETTING)

    @property
    def is_imported(self) -> bool:
        """Whether the weights have to be fetched, or taken over from a file of others, first."""
        if self.checkpoint is None:
            return False
        path = self._source.path
        return path is None or (self.TAKES_PUBLISHED and not self.is_own(path))

    def is_own(self, path: Path) -> bool:
        """Return whether a file is one that a training of this tokenizer wrote."""
        return has_sizes(path, self.SIZES)

    @property
    def _source(self) -> Source:
        return Source.of(str(self.checkpoint), setting=SETTING)

    def identity(self) -> dict[str, Any]:
        """Return the identity: weights, or the recipe of their training."""
        kind = {"class": type(self).__name__, "version": self.VERSION}
        if self.checkpoint is None:
            recipe = (self.objective(), self.optimization)
            return kind | {"recipe": [identity(part) for part in recipe]}
        if self.is_imported:
            sizes = identity(self.architecture)
            return kind | {"published": self._source.identity(), "architecture": sizes}
        weights = weights_sha256(self.checkpoint, memory=self.hash_cache)
        return kind | {"weights": weights, "resize": "bilinear, squashed"}

    def fit(self, corpus: Corpus) -> TrainTokenizer[Self] | ImportTokenizer[Self] | Ready[Self]:
        """Return the stage that trains the network, or takes published weights over.

        A tokenizer that has its weights is ready.
        """
        recipe: Any = self
        if self.is_imported:
            return ImportTokenizer(component=recipe, source=self._source)
        if self.checkpoint is not None:
            return Ready(self)
        data = CorpusPixels(corpus=corpus, image_size=self.image_size)
        return TrainTokenizer(component=recipe, data=data)

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the averaged weights, and a sheet of reconstructions."""
        from imagegram.tokenizers.sheets import write_reconstructions

        self.write_weights(out / MODEL, state.averages[NETWORK])
        trained = replace(self, checkpoint=str(out / MODEL)).encoder
        write_reconstructions(
            out / PICTURE,
            validation,
            lengths=trained.shown_lengths,
            encode=lambda images: np.asarray(trained.encode(images).documents),
            decode=trained.decode,
        )

    def write_weights(self, path: Path, weights: dict[str, Tensor]) -> None:
        """Write weights, with the sizes of the network in the header.

        Nothing else is there: safetensors writes several entries in any order, and the tokenizer is
        known by the bytes of the file.
        """
        sizes = {self.SIZES.METADATA: json.dumps(self.architecture.as_dict())}
        write_weights(path, weights, sizes)

    def trained(self, artifact: Artifact) -> Self:
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
        from imagegram.tokenizers.inference import encode

        ids = encode(self._network(), np.asarray(prepared), chunk=_CHUNK, dtype=self.dtype)
        return Encoded(documents=ids[:, : self.spec.length])

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Images:
        """Decode rows of ids to images.

        Args:
            tokens_BT: (B, T) ids of any integer dtype.
            output_size: side in pixels that pictures are resized to; None: ``image_size``.

        Returns:
            (B, S, S, 3) uint8.

        Raises:
            TokenError: for another shape, or an id outside the vocabulary; ids are never wrapped.
            ConfigError: when ``output_size`` is not positive, or there are no weights yet.
        """
        return self.painted(np.asarray(tokens_BT), output_size=output_size)

    def painted(
        self, tokens: NDArray[Any], *beside: NDArray[Any], output_size: int | None
    ) -> Images:
        """Decode rows of ids, with what the network reads beside them; see :meth:`decode`."""
        from imagegram.images.resampling import resize
        from imagegram.tokenizers.inference import decode

        self._check_tokens(tokens)
        require_ids(tokens, self.spec.vocab_size)
        if output_size is not None and output_size < 1:
            raise ConfigError(f"output_size must be at least 1 pixel, got {output_size}")
        painted = decode(self._network(), tokens, *beside, chunk=_CHUNK, dtype=self.dtype)
        if output_size is None or output_size == self.image_size:
            return painted
        images = np.empty((len(tokens), output_size, output_size, 3), dtype=np.uint8)
        for image, pixels in zip(images, painted, strict=True):
            image[:] = resize(pixels, output_size)
        return images

    def _check_tokens(self, tokens: NDArray[Any]) -> None:
        """Refuse ids of another shape.

        Raises:
            TokenError: with the shape that is allowed.
        """
        length = self.spec.length
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or tokens.shape[1] != length:
            raise TokenError(
                f"decode needs (B, {length}) integer ids, got {tokens.shape} {tokens.dtype}; "
                "these tokens have one length, no prefix is an image"
            )

    def _network(self) -> CodeNetwork:
        """Return the network with its weights, loaded once per process."""
        if self.checkpoint is None or self.is_imported:
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
    path: Path, stamp: str, architecture: NetworkSizes, device: str, compiled: bool
) -> CodeNetwork:
    """Load the weights; ``stamp`` is part of the cache key, so a rewritten file is read again."""
    from imagegram.tokenizers.inference import load

    return load(path, architecture, device=device, compiled=compiled)
