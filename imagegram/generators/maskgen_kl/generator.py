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
from typing import TYPE_CHECKING, ClassVar, Final

from imagegram.conditions.captions import GivenCaptions
from imagegram.conditions.labels import CAPTION
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError, require_bounds
from imagegram.generators.latent_flow.recipes import AutoencoderRecipe, LatentsRecipe
from imagegram.generators.latent_flow.stages import ImportAutoencoder, TrainFlow
from imagegram.generators.maskgen_kl.model import MaskGenKlModel
from imagegram.generators.maskgen_kl.objectives import KlReconstruction, MaskedFlow
from imagegram.generators.maskgen_kl.settings import (
    SMALL,
    ImageAutoencoder,
    LatentSizes,
    MaskedSizes,
)
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import read_tensors, shapes_of
from imagegram.models.dtypes import require_dtype
from imagegram.models.published import titok_weights
from imagegram.protocols import Condition, Index, Sampler, Tokenizer
from imagegram.samplers.kinds import check_caption, require_kind
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.stages.captions import refuse_long
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.training.document_pixels import CaptionedPictures
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions

if TYPE_CHECKING:
    from torch import Tensor

_EMBEDDER: Final = SentenceEmbedder(max_tokens=32)


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
    ) -> TrainFlow[MaskGenKlModel]:
        """Return the stage that trains both networks on the images of a token set."""
        data = CaptionedPictures(
            tokens=tokens,
            holdout=holdout,
            key=self.captions,
            embedder=self.embedder,
            image_size=self.autoencoder.image_size,
        )
        recipe = MaskedRecipe(generator=self, tokenizer=tokens.tokenizer)
        return TrainFlow(component=recipe, data=data)


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

    def taken_over(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a published file under the names of the network.

        Raises:
            ConfigError: for weights of another network.
        """
        import torch

        from imagegram.generators.maskgen_kl.autoencoder import ImageKl

        with torch.device("meta"):
            expected = shapes_of(ImageKl(**self.architecture.arguments()).state_dict())
        source = self.generator.autoencoder.source
        assert source is not None
        return titok_weights(tensors, expected, family="TA-TiTok", setting=source.setting)

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
    """

    generator: MaskGenKlGenerator
    tokenizer: Tokenizer | None
    weights: str | None = None

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
            imported=None if self.imported is None else self.imported.source.identity(),
            caption_dropout=self.generator.caption_dropout,
        )

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
