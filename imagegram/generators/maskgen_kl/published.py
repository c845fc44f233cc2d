"""MaskGen-KL as published: its files paint pictures; nothing of it is trained here.

    python -m imagegram.run generator=maskgen_kl_l generator.checkpoint=FOLDER/maskgen_kl_l.bin
        generator.autoencoder.checkpoint=FOLDER/tatitok_bl32_vae.bin generator.embedder.folder=CLIP
        condition=caption

Two files are taken over: the transformer of latents with its head, and the KL form of TA-TiTok,
which the latents are of. The network is ``mmdit.py``.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from imagegram.errors import ConfigError
from imagegram.generators.latent_flow.stages import ImportAutoencoder
from imagegram.generators.maskgen.published import refuse_other_reader, refuse_other_score
from imagegram.generators.maskgen_kl.model import MaskGenKlModel
from imagegram.generators.maskgen_kl.painting import ImageKlRecipe, KlGenerator
from imagegram.generators.maskgen_kl.settings import LatentSizes
from imagegram.generators.weights import CHECKPOINT, refuse_other_fields
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import (
    Shapes,
    num_blocks,
    read_tensors,
    require_family,
    require_shapes,
    shapes_of,
    write_weights,
)
from imagegram.models.imports import Import
from imagegram.protocols import Condition, Index, Sampler, Tokenizer
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.stages.captions import embed_asked
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context
from imagegram.store.weights import AUTOENCODER, MODEL, Source

if TYPE_CHECKING:
    from torch import nn

    from imagegram.generators.maskgen_kl.sampling import Told

FAMILY: Final = "MaskGen-KL"


@dataclass(frozen=True, kw_only=True)
class LatentMmditSizes:
    """Sizes of the published network, and what it is told; see ``mmdit.py``.

    Attributes:
        num_latents, latent_size: latents of an image, and numbers of each.
        width, depth, num_heads: of the transformer.
        head_width, head_depth: of the head.
        text_dim: numbers of a state of the text encoder.
        aesthetic_score: of all images; None: the network reads none.
        latent_scale: factor of the latents of the autoencoder.
    """

    num_latents: int
    latent_size: int
    width: int
    depth: int
    num_heads: int
    head_width: int
    head_depth: int
    text_dim: int
    aesthetic_score: float | None
    latent_scale: float

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the network."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class PublishedKlGenerator(KlGenerator):
    """MaskGen-KL, whose weights are published.

    Attributes:
        name, autoencoder, width, depth, num_heads, head_width, head_depth, captions, embedder,
            device, dtype: see :class:`KlGenerator`; the autoencoder needs its published file.
        aesthetic_score: how much people are said to like the images, some 1 ... 10; None: the
            network reads none.
        latent_scale: factor of the latents of the autoencoder.
        checkpoint: the published file of the transformer, or one of the hub.
    """

    VERSION: ClassVar[int] = 1
    #: Name of the network, which no other generator has.
    backbone: ClassVar[str] = "latent_mmdit"

    name: str = field(default="maskgen_kl_l", metadata=NOT_IDENTITY)
    aesthetic_score: float | None = 6.5
    latent_scale: float = 0.7525
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if not (self.embedder.padded and self.embedder.penultimate):
            raise ConfigError(
                f"generator={self.name} reads all states before the last layer of the text "
                "encoder; type generator.embedder.padded=true generator.embedder.penultimate=true"
            )
        for name, value in (
            ("aesthetic_score", self.aesthetic_score),
            ("latent_scale", self.latent_scale),
        ):
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise ConfigError(
                    f"generator.{name}={value} must be a number above 0; type generator.{name}="
                    f"{type(self).__dataclass_fields__[name].default}"
                )
        _ = self.source, self.autoencoder.source  # refuse what is no file

    @property
    def source(self) -> Source | None:
        """Where the weights of the transformer are; None: nowhere."""
        return None if self.checkpoint is None else Source.of(self.checkpoint, setting=CHECKPOINT)

    @property
    def sources(self) -> tuple[Source, Source]:
        """Where the weights of transformer and autoencoder are.

        Raises:
            ConfigError: when one of them is not given.
        """
        own, first = self.source, self.autoencoder.source
        if own is None or first is None:
            missing = CHECKPOINT if own is None else "generator.autoencoder.checkpoint"
            raise ConfigError(
                f"generator={self.name} has published weights and is not trained here; type "
                f"{missing}=FILE, or generator=maskgen_kl_bl32, which is trained"
            )
        return own, first

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and conditions that are no captions.

        Raises:
            ConfigError: saying what fits.
        """
        super().check(sampler, layout, condition)
        if isinstance(sampler, MaskedFlowSampler) and sampler.error_draws:
            raise ConfigError(
                f"sampler.error_draws={sampler.error_draws} measures pictures by the objective of "
                f"a flow, which generator={self.name} has not; type sampler.error_draws=0"
            )

    def check_machine(self) -> None:
        """Refuse a device that is not there, and weights of other networks."""
        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="generator.device")
        own, first = self.sources
        recipe = PublishedKlRecipe(generator=self, tokenizer=None)
        if own.path is not None:
            recipe.refuse_other(shapes_of(read_tensors(own.path, setting=own.setting)))
        if first.path is not None:
            recipe.autoencoder.taken_over(read_tensors(first.path, setting=first.setting))

    @property
    def sizes(self) -> LatentMmditSizes:
        """Sizes of the network over latents."""
        own = ("width", "depth", "num_heads", "head_width", "head_depth", "aesthetic_score")
        return LatentMmditSizes(
            num_latents=self.autoencoder.num_latents,
            latent_size=self.autoencoder.latent_size,
            text_dim=self.embedder.dim,
            latent_scale=self.latent_scale,
            **{name: getattr(self, name) for name in own},
        )

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> ImportPublished:
        """Return the stage that takes the weights of both files over."""
        recipe = PublishedKlRecipe(generator=self, tokenizer=tokens.tokenizer)
        source, first = self.sources
        taken = ImportAutoencoder(component=recipe.autoencoder, source=first)
        return ImportPublished(component=recipe, source=source, autoencoder=taken)


@dataclass(frozen=True, kw_only=True)
class PublishedKlRecipe:
    """What the weights of a published MaskGen-KL are for.

    Attributes:
        generator: the configured generator.
        tokenizer: of the experiment; None: not known.
    """

    generator: PublishedKlGenerator
    tokenizer: Tokenizer | None

    @property
    def name(self) -> str:
        """Name of the generator."""
        return self.generator.name

    @property
    def autoencoder(self) -> ImageKlRecipe:
        """Recipe of the autoencoder."""
        return ImageKlRecipe(generator=self.generator)

    @property
    def architecture(self) -> tuple[LatentMmditSizes, LatentSizes]:
        """Sizes of both networks."""
        return self.generator.sizes, self.autoencoder.architecture

    def shapes(self) -> Shapes:
        """Return names and shapes of the weights of the transformer."""
        import torch

        from imagegram.generators.maskgen_kl.mmdit import LatentMmdit

        with torch.device("meta"):
            return shapes_of(LatentMmdit(**self.generator.sizes.arguments()).state_dict())

    def refuse_other(self, shapes: Shapes) -> None:
        """Refuse weights of another network than the transformer.

        Raises:
            ConfigError: with what to type, where it is known.
        """
        require_family(shapes, FAMILY, setting=CHECKPOINT)
        wanted = self.generator.sizes
        try:
            found = dataclasses.replace(
                wanted,
                width=shapes["z_proj.weight"][0],
                depth=num_blocks(shapes, "decoder_blocks."),
                head_width=shapes["diffloss.net.input_proj.weight"][0],
                head_depth=num_blocks(shapes, "diffloss.net.res_blocks."),
                text_dim=shapes["text_emb.weight"][1],
            )
            reads_score = shapes["text_pooled_emb.weight"][1] != found.text_dim
        except KeyError as error:
            raise ConfigError(
                f"{CHECKPOINT}: the weights of {FAMILY} lack {error}; give the whole file"
            ) from error
        refuse_other_reader(found.text_dim, self.generator.embedder, setting=CHECKPOINT)
        refuse_other_score(wanted.aesthetic_score, reads_score=reads_score, setting=CHECKPOINT)
        refuse_other_fields(found, wanted, generator=self.generator)
        require_shapes(shapes, self.shapes(), setting=CHECKPOINT)

    def trained(self, artifact: Artifact) -> PublishedKlModel:
        """Return the model with the weights of both networks."""
        how = self.generator
        own, first = self.architecture
        return PublishedKlModel(
            artifact=artifact,
            latents=first,
            sizes=own,
            tokenizer=self.tokenizer,
            captions=how.captions,
            embedder=how.embedder,
            device=how.device,
            dtype=how.dtype,
        )


@dataclass(frozen=True, kw_only=True)
class ImportPublished(Import[MaskGenKlModel, PublishedKlRecipe]):
    """The stage that takes over the weights of both published files.

    Attributes:
        autoencoder: the stage that takes over those of the autoencoder.
    """

    kind: ClassVar[str] = "generator"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (*Import.PARTS, ImportAutoencoder)

    autoencoder: ImportAutoencoder

    def identity(self) -> dict[str, Any]:
        """Return the identity: sizes, weights of both files, and who reads captions."""
        first = self.autoencoder.source.identity()
        reader = identity(self.component.generator.embedder)
        return {**super().identity(), "autoencoder": first, "reader": reader}

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the weights of the transformer, and beside them those of the autoencoder.

        Raises:
            ConfigError: for weights of other networks.
        """
        first = context.make(self.autoencoder)
        shutil.copyfile(first, out / AUTOENCODER)
        return super().run(out, context)

    def take_over(self, path: Path, out: Path) -> dict[str, Any]:
        """Write the weights of the transformer.

        Raises:
            ConfigError: for weights of another network.
        """
        tensors = read_tensors(path, setting=self.source.setting)
        self.component.refuse_other(shapes_of(tensors))
        write_weights(out / MODEL, {name: each.float() for name, each in tensors.items()}, {})
        return {"num_parameters": sum(tensor.numel() for tensor in tensors.values())}


@dataclass(frozen=True, kw_only=True)
class PublishedKlModel(MaskGenKlModel):
    """A published MaskGen-KL."""

    sizes: LatentMmditSizes  # type: ignore[assignment]  # another network's

    def make_network(self) -> nn.Module:
        """Build the network of latents, with any weights."""
        from imagegram.generators.maskgen_kl.mmdit import LatentMmdit

        return LatentMmdit(**self.sizes.arguments())

    def told(self, texts: Sequence[str | None]) -> Told:
        """Return what is told of captions: the empty one for none.

        The autoencoder reads the last states, as it is published.
        """
        from imagegram.generators.maskgen_kl.sampling import Told

        given = [text or "" for text in texts]
        last = dataclasses.replace(self.embedder, penultimate=False)
        return Told(
            asked=embed_asked(given, self.embedder),
            none=embed_asked([""] * len(given), self.embedder),
            shown=embed_asked(given, last),
        )

    def denoises(self, sampler: Sampler) -> bool:
        """Return False: errors are those of the objective of a flow."""
        return False
