"""MaskGenKl: masked autoregression over continuous latents, under captions; it writes pictures.

``python -m imagegram.run tokenizer=ta_titok generator=maskgen_kl condition=caption``

Two trainings, both cached: an autoencoder of images (the KL form of TA-TiTok), then a masked
transformer over its latents with a flow for each. Latents live inside the generator; what it
writes are pictures, which the tokenizer of the experiment encodes for the audit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from imagegram.conditions.captions import GivenCaptions
from imagegram.conditions.labels import CAPTION
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError, require_bounds
from imagegram.generators.latent_flow.recipes import AutoencoderRecipe, LatentsRecipe
from imagegram.generators.latent_flow.stages import (
    ImportAutoencoder,
    ImportTrained,
    TrainFlow,
    TrainFlowFrom,
    read_both,
)
from imagegram.generators.maskgen_kl.model import MaskGenKlModel
from imagegram.generators.maskgen_kl.objectives import KlReconstruction, MaskedFlow
from imagegram.generators.maskgen_kl.settings import (
    SMALL,
    ImageAutoencoder,
    LatentSizes,
    MaskedSizes,
)
from imagegram.generators.weights import source_of
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import Shapes, read_tensors, require_family
from imagegram.models.dtypes import require_dtype
from imagegram.models.published import titok_weights
from imagegram.protocols import Condition, Index, Sampler, Tokenizer
from imagegram.samplers.kinds import check_caption, require_kind
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.stages.captions import refuse_long
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT
from imagegram.store.manifest import Artifact
from imagegram.store.weights import AUTOENCODER, MODEL, Source
from imagegram.training.document_pixels import CaptionedPictures
from imagegram.training.fit import TrainGenerator
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

_EMBEDDER: Final = SentenceEmbedder(max_tokens=32)
#: What to type for weights that read other captions, by the size that tells it.
_TEXT: Final = {
    "text_length": "generator.embedder.max_tokens={value}",
    "text_dim": "generator.embedder.folder=FOLDER, an encoder of {value} numbers a token",
    "padded_text": "generator.embedder.folder=FOLDER, the encoder of the training",
}


@dataclass(frozen=True, kw_only=True)
class MaskGenKlGenerator:
    """A masked transformer over latents of images, with a flow for each latent.

    Attributes:
        name: name of the configuration file.
        autoencoder: what turns images into latents, see :class:`ImageAutoencoder`.
        width, depth, num_heads: sizes of the transformer.
        head_width, head_depth: sizes of the head that follows the flow of a latent.
        captions: key of the JSON beside an image that has its caption; ``caption``: also the text
            beside it.
        embedder: text encoder that reads them.
        caption_dropout: share of the training images whose caption is hidden, so that the networks
            learn to do without, which guidance needs.
        optimization: training of the transformer and its head.
        trainer: where both networks are trained.
        device: device that samples: ``cpu``, ``cuda``.
        dtype: numbers that it samples with, ``float32`` or ``bfloat16``.
        checkpoint: folder of weights that a training of these sizes wrote, with its autoencoder, to
            sample from instead of training; None: train.
        start: folder of weights that the training of the transformer begins with; their autoencoder
            stays as it is. None: random ones.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="maskgen_kl", metadata=NOT_IDENTITY)
    autoencoder: ImageAutoencoder = SMALL
    width: int = 128
    depth: int = 4
    num_heads: int = 2
    head_width: int = 128
    head_depth: int = 3
    captions: str = CAPTION
    embedder: SentenceEmbedder = _EMBEDDER
    caption_dropout: float = 0.1
    optimization: Optimization
    trainer: TrainerOptions = field(default_factory=TrainerOptions, metadata=NOT_IDENTITY)
    device: str = field(default="cpu", metadata=NOT_IDENTITY)
    dtype: str = field(default="float32", metadata=NOT_IDENTITY)  # the model answers for it
    checkpoint: str | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)
    start: str | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        """Apply the overrides of the group ``trainer``; refuse impossible settings."""
        prefix = "generator.optimization."
        effective = self.trainer.applied_to(self.optimization, prefix=prefix)
        object.__setattr__(self, "optimization", effective)
        first = self.trainer.applied_to(
            self.autoencoder.optimization, prefix="generator.autoencoder.optimization."
        )
        autoencoder = dataclasses.replace(self.autoencoder, optimization=first)
        object.__setattr__(self, "autoencoder", autoencoder)
        self.autoencoder.check()
        counts = ("width", "depth", "num_heads", "head_width", "head_depth")
        bounds = {name: (1, float("inf")) for name in counts}
        require_bounds(self, bounds, prefix="generator.")
        if self.width % self.num_heads:
            raise ConfigError(
                f"generator.num_heads={self.num_heads} must divide generator.width={self.width}; "
                "type generator.num_heads=1"
            )
        if not 0.0 <= self.caption_dropout < 1.0:
            raise ConfigError(
                f"generator.caption_dropout={self.caption_dropout} must be at least 0 and below 1; "
                "type generator.caption_dropout=0.1"
            )
        if not self.captions:
            raise ConfigError("generator.captions is empty; type generator.captions=caption")
        require_dtype(self.dtype, setting="generator.dtype")
        _ = self.source  # refuses what is no file

    @property
    def source(self) -> Source | None:
        """Where weights of both networks are, to sample from or to begin with; None: nowhere.

        Raises:
            ConfigError: when they are asked for twice, or on the hub.
        """
        source = source_of(checkpoint=self.checkpoint, start=self.start)
        if source is not None and source.path is None:
            raise ConfigError(
                f"{source.setting}={source.repo}: there is no such folder, and no page of the hub "
                f"is read: {self.name} needs two files, {MODEL} and {AUTOENCODER}; type "
                f"{source.setting}=outputs/artifacts/generator/DIGEST"
            )
        if source is not None and self.autoencoder.checkpoint is not None:
            raise ConfigError(
                f"{source.setting} brings an autoencoder of its own; leave it out, or "
                "generator.autoencoder.checkpoint"
            )
        return source

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and conditions that are no captions.

        Raises:
            ConfigError: saying what fits.
        """
        own = require_kind(sampler, MaskedFlowSampler, group="sampler", generator=self.name)
        check_caption(
            condition,
            own.guidance,
            captions=self.captions,
            has_null=self.caption_dropout > 0.0,
            generator=self.name,
        )

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer of texts.

        Raises:
            ConfigError: with what to type.
        """
        if tokenizer.modality != IMAGES:
            raise ConfigError(
                f"generator={self.name} paints pictures, but tokenizer={tokenizer.name} reads "
                f"{tokenizer.modality.nouns}; type modality=image"
            )

    def check_machine(self) -> None:
        """Refuse a device that is not there, and weights of another autoencoder."""
        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="generator.device")
        if (given := self.source) is not None:
            assert given.path is not None
            recipe = MaskedRecipe(generator=self, tokenizer=None)
            read_both(recipe, given.path, setting=given.setting)
        source = self.autoencoder.source
        if source is not None and source.path is not None:
            KlRecipe(generator=self).taken_over(read_tensors(source.path, setting=source.setting))

    def check_documents(self, tokens: TokenSet, condition: Condition | None) -> None:
        """Refuse a typed caption that the text encoder would cut.

        Raises:
            ConfigError: with the first of them.
        """
        if isinstance(condition, GivenCaptions):
            self.check_captions(condition.texts)

    def check_captions(self, texts: Sequence[str]) -> None:
        """Refuse captions that the text encoder would cut.

        Raises:
            ConfigError: with the first of them.
        """
        refuse_long(texts, self.embedder, setting="generator.embedder.max_tokens")

    def scores(self, sampler: Sampler) -> bool:
        """Return False: the likelihood of tokens under a flow of latents is not known."""
        return False

    @property
    def sizes(self) -> MaskedSizes:
        """Sizes of the network over latents."""
        return MaskedSizes(
            num_latents=self.autoencoder.num_latents,
            latent_size=self.autoencoder.latent_size,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            head_width=self.head_width,
            head_depth=self.head_depth,
            **self.text_sizes,
        )

    @property
    def text_sizes(self) -> dict[str, int]:
        """Sizes of what both networks read of a caption."""
        return {"text_dim": self.embedder.dim, "text_length": self.embedder.max_tokens}

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> TrainGenerator[MaskGenKlModel] | ImportTrained[MaskGenKlModel]:
        """Return the stage that trains on the images of a token set, or takes over weights."""
        data = CaptionedPictures(
            tokens=tokens,
            holdout=holdout,
            key=self.captions,
            embedder=self.embedder,
            image_size=self.autoencoder.image_size,
        )
        recipe = MaskedRecipe(generator=self, tokenizer=tokens.tokenizer)
        source = self.source
        if source is None:
            return TrainFlow(component=recipe, data=data)
        taken: ImportTrained[MaskGenKlModel] = ImportTrained(component=recipe, source=source)
        if self.start is None:
            return taken
        return TrainFlowFrom(component=recipe, data=data, taken=taken)


@dataclass(frozen=True, kw_only=True)
class KlRecipe(AutoencoderRecipe):
    """What is trained first: the autoencoder of images.

    Attributes:
        generator: the configured generator.
    """

    generator: MaskGenKlGenerator

    @property
    def architecture(self) -> LatentSizes:
        """Sizes of the network."""
        how = self.generator
        return how.autoencoder.sizes(**how.text_sizes, padded_text=how.embedder.padded)

    def make_network(self) -> nn.Module:
        """Build the autoencoder, with any weights."""
        from imagegram.generators.maskgen_kl.autoencoder import ImageKl

        return ImageKl(**self.architecture.arguments())

    def word(self, name: str, value: Any) -> str:
        """Return what to type for an autoencoder of another size."""
        return _TEXT.get(name, f"generator.autoencoder.{name}={{value}}").format(value=value)

    def taken_over(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a published file under the names of the network.

        Raises:
            ConfigError: for weights of another network.
        """
        source = self.generator.autoencoder.source
        assert source is not None
        return titok_weights(tensors, self.shapes(), family="TA-TiTok", setting=source.setting)

    def objective(self) -> KlReconstruction:
        """Return what the network learns."""
        how = self.generator
        return KlReconstruction(
            sizes=self.architecture,
            beta=how.autoencoder.beta,
            caption_dropout=how.caption_dropout,
        )


@dataclass(frozen=True, kw_only=True)
class MaskedRecipe(LatentsRecipe):
    """What is trained then: the network over latents.

    Attributes:
        generator: the configured generator.
        tokenizer: of the experiment; None: not known.
        weights: file of the trained autoencoder; None: it is not trained yet.
        first_weights: file of the weights that the training begins with; None: random ones, or they
            are not taken over yet.
    """

    generator: MaskGenKlGenerator
    tokenizer: Tokenizer | None
    weights: str | None = None
    first_weights: Path | None = None

    @property
    def architecture(self) -> tuple[MaskedSizes, LatentSizes]:
        """Sizes of both networks."""
        return self.generator.sizes, self.autoencoder.architecture

    def make_network(self) -> nn.Module:
        """Build the network of latents, with any weights."""
        from imagegram.generators.maskgen_kl.network import MaskedLatents

        return MaskedLatents(**self.generator.sizes.arguments())

    def check_family(self, shapes: Shapes, *, setting: str) -> None:
        """Refuse weights of another kind of network.

        Raises:
            ConfigError: naming the kind, where it is known.
        """
        require_family(shapes, "maskgen_kl of this package", setting=setting)

    def word(self, name: str, value: Any) -> str:
        """Return what to type for a network of another size."""
        of_autoencoder = name in ("num_latents", "latent_size")
        plain = f"generator.{'autoencoder.' if of_autoencoder else ''}{name}={{value}}"
        return _TEXT.get(name, plain).format(value=value)

    @property
    def autoencoder(self) -> KlRecipe:
        """Recipe of the autoencoder."""
        return KlRecipe(generator=self.generator)

    @property
    def imported(self) -> ImportAutoencoder | None:
        """The stage that takes over the weights of the autoencoder; None: it is trained."""
        source = self.generator.autoencoder.source
        return (
            None if source is None else ImportAutoencoder(component=self.autoencoder, source=source)
        )

    def objective(self) -> MaskedFlow:
        """Return what the network learns."""
        return MaskedFlow(
            sizes=self.generator.sizes,
            autoencoder=self.autoencoder.objective(),
            autoencoder_optimization=self.generator.autoencoder.optimization,
            weights=self.weights,
            imported=self._taken,
            caption_dropout=self.generator.caption_dropout,
        )

    @property
    def _taken(self) -> Any:
        """Identity of the weights that the autoencoder has from a file; None: it is trained."""
        source = self.generator.source or self.generator.autoencoder.source
        return None if source is None else source.identity()

    def trained(self, artifact: Artifact) -> MaskGenKlModel:
        """Return the model with the weights of a finished training."""
        how = self.generator
        return MaskGenKlModel(
            artifact=artifact,
            latents=self.autoencoder.objective().sizes,
            sizes=how.sizes,
            tokenizer=self.tokenizer,
            captions=how.captions,
            embedder=how.embedder,
            device=how.device,
            dtype=how.dtype,
        )
