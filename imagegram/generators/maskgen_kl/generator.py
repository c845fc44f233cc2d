"""MaskGenKl: masked autoregression over continuous latents, under captions; it writes pictures.

``python -m imagegram.run tokenizer=ta_titok generator=maskgen_kl condition=caption``

Two trainings, both cached: an autoencoder of images (the KL form of TA-TiTok), then a masked
transformer over its latents with a flow for each. Latents live inside the generator; what it
writes are pictures, which the tokenizer of the experiment encodes for the audit.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from imagegram.errors import ConfigError
from imagegram.generators.latent_flow.recipes import LatentsRecipe
from imagegram.generators.latent_flow.stages import (
    ImportAutoencoder,
    ImportTrained,
    TrainFlow,
    TrainFlowFrom,
    read_both,
)
from imagegram.generators.maskgen_kl.model import MaskGenKlModel
from imagegram.generators.maskgen_kl.objectives import KlReconstruction, MaskedFlow
from imagegram.generators.maskgen_kl.painting import CAPTIONS_WORDS, ImageKlRecipe, KlGenerator
from imagegram.generators.maskgen_kl.settings import (
    LatentSizes,
    MaskedSizes,
)
from imagegram.generators.weights import source_of
from imagegram.models.checkpoints import Shapes, read_tensors, require_family
from imagegram.protocols import Index, Tokenizer
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT
from imagegram.store.manifest import Artifact
from imagegram.store.weights import AUTOENCODER, MODEL, Source
from imagegram.training.document_pixels import CaptionedPictures
from imagegram.training.fit import TrainGenerator
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class MaskGenKlGenerator(KlGenerator):
    """A masked transformer over latents of images, with a flow for each latent.

    Attributes:
        name, autoencoder, width, depth, num_heads, head_width, head_depth, captions, embedder,
            device, dtype: see :class:`KlGenerator`.
        caption_dropout: share of the training images whose caption is hidden, so that the networks
            learn to do without, which guidance needs.
        optimization: training of the transformer and its head.
        trainer: where both networks are trained.
        checkpoint: folder of weights that a training of these sizes wrote, with its autoencoder, to
            sample from instead of training; None: train.
        start: folder of weights that the training of the transformer begins with; their autoencoder
            stays as it is. None: random ones.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="maskgen_kl", metadata=NOT_IDENTITY)
    caption_dropout: float = 0.1
    optimization: Optimization
    trainer: TrainerOptions = field(default_factory=TrainerOptions, metadata=NOT_IDENTITY)
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
        super().__post_init__()
        if not 0.0 <= self.caption_dropout < 1.0:
            raise ConfigError(
                f"generator.caption_dropout={self.caption_dropout} must be at least 0 and below 1; "
                "type generator.caption_dropout=0.1"
            )
        _ = self.source  # refuses what is no file

    @property
    def has_null(self) -> bool:
        """Whether the networks learn to do without a caption."""
        return self.caption_dropout > 0.0

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
class KlRecipe(ImageKlRecipe):
    """What is trained first: the autoencoder of images.

    Attributes:
        generator: the configured generator.
    """

    generator: MaskGenKlGenerator

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
        return CAPTIONS_WORDS.get(name, plain).format(value=value)

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
