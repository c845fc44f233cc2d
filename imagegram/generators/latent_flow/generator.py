"""LatentFlowGenerator: chunks of tokens as continuous latents, and a flow that samples these.

``python -m imagegram.run modality=text generator=latent_flow``

Two trainings, both cached: an autoencoder of chunks, then a flow over its latents. Latents live
inside the generator; what it writes are tokens. A flow over latents has no likelihood of tokens.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from imagegram.conditions.prompt import without_prompt
from imagegram.errors import ConfigError, did_you_mean, require_bounds
from imagegram.generators.latent_flow.model import LatentFlowModel
from imagegram.generators.latent_flow.objectives import (
    LOSSES,
    TIMES,
    ChunkReconstruction,
    LatentFlow,
)
from imagegram.generators.latent_flow.recipes import AutoencoderRecipe, LatentsRecipe
from imagegram.generators.latent_flow.settings import SMALL, Autoencoder
from imagegram.generators.latent_flow.sizes import ChunkSizes, FlowSizes
from imagegram.generators.latent_flow.stages import TrainFlow
from imagegram.layout import TokenLayout
from imagegram.models.dtypes import require_dtype
from imagegram.protocols import Condition, Index, Sampler
from imagegram.samplers.flow import FlowSampler
from imagegram.samplers.kinds import require_kind
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.tokens import TokenData

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class LatentFlowGenerator:
    """A flow over the latents of chunks.

    Attributes:
        name: name of the configuration file.
        autoencoder: what turns chunks into latents, see :class:`Autoencoder`.
        width, depth, num_heads: sizes of the denoiser.
        sigma: deviation of the start noise; latents have deviation 1.
        loss: what an arrival is judged by: its ``velocity``, the ``cross_entropy`` of the tokens
            read there, or ``both``.
        times: how times are drawn in training: ``logit_normal`` or ``uniform``.
        self_conditioning: share of the documents of which the denoiser reads its own estimate.
        prompted: share of the documents whose first chunks are given in training, so that
            prompts can be continued.
        optimization: training of the flow.
        trainer: where both are trained.
        device: device that samples: ``cpu``, ``cuda``.
        dtype: numbers that it samples with, ``float32`` or ``bfloat16``.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="latent_flow", metadata=NOT_IDENTITY)
    autoencoder: Autoencoder = SMALL
    width: int = 256
    depth: int = 4
    num_heads: int = 4
    sigma: float = 1.0
    loss: str = "velocity"
    times: str = "logit_normal"
    self_conditioning: float = 0.5
    prompted: float = 0.3
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
        self._sizes(num_chunks=1).check()
        require_bounds(
            self,
            {"sigma": (0, float("inf")), "self_conditioning": (0, 1), "prompted": (0, 1)},
            prefix="generator.",
        )
        if not self.sigma:
            raise ConfigError(
                "generator.sigma=0 would start every sample at one place, so that all were alike; "
                "type generator.sigma=1, or 0.05 as generator=latent_flow_tokcom has"
            )
        for knob, known in (("loss", LOSSES), ("times", TIMES)):
            if (value := getattr(self, knob)) not in known:
                raise ConfigError(f"generator.{knob}={value}: {did_you_mean(value, known)}")
        require_dtype(self.dtype, setting="generator.dtype")

    def _sizes(self, *, num_chunks: int) -> FlowSizes:
        return FlowSizes(
            num_chunks=num_chunks,
            latent_size=self.autoencoder.latent_size,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
        )

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, labels, and prompts that it did not learn.

        Raises:
            ConfigError: saying what fits.
        """
        require_kind(sampler, FlowSampler, group="sampler", generator=self.name)
        if (asked := without_prompt(condition)) is not None:
            raise ConfigError(
                f"generator={self.name} learns no labels, so condition={asked.name} asks in "
                "vain; type condition=none"
            )
        if condition is not None and not self.prompted:
            raise ConfigError(
                f"generator={self.name} does not learn to continue prompts, as generator.prompted="
                "0; type condition=none, or generator.prompted=0.3"
            )

    def check_machine(self) -> None:
        """Refuse a device that is not there."""
        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="generator.device")

    def scores(self, sampler: Sampler) -> bool:
        """Return False: the likelihood of tokens under a flow of latents is not known."""
        return False

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> TrainFlow[LatentFlowModel]:
        """Return the stage that trains both networks on a token set."""
        ends = tokens.document_length is None
        chunks = self.autoencoder.sizes(int(tokens.artifact.facts["vocab_size"]) + 1)
        recipe = FlowRecipe(
            generator=self,
            chunks=chunks,
            sizes=self._sizes(num_chunks=chunks.num_chunks(tokens.length)),
            ends=ends,
        )
        return TrainFlow(component=recipe, data=TokenData(tokens=tokens, holdout=holdout))


@dataclass(frozen=True, kw_only=True)
class ChunkRecipe(AutoencoderRecipe):
    """What :class:`TrainAutoencoder` trains.

    Attributes:
        generator: the configured generator.
        chunks: sizes of the network.
        ends: whether documents end early.
    """

    generator: LatentFlowGenerator
    chunks: ChunkSizes
    ends: bool

    def objective(self) -> ChunkReconstruction:
        """Return what the network learns."""
        how = self.generator.autoencoder
        return ChunkReconstruction(
            sizes=self.chunks,
            ends=self.ends,
            beta=how.beta,
            free_nats=how.free_nats,
            token_dropout=how.token_dropout,
            latent_dropout=how.latent_dropout,
        )


@dataclass(frozen=True, kw_only=True)
class FlowRecipe(LatentsRecipe):
    """What :class:`TrainFlow` trains.

    Attributes:
        generator: the configured generator.
        chunks, sizes: sizes of autoencoder and denoiser.
        ends: whether documents end early.
        weights: file of the trained autoencoder; None: it is not trained yet.
    """

    generator: LatentFlowGenerator
    chunks: ChunkSizes
    sizes: FlowSizes
    ends: bool
    weights: str | None = None

    @property
    def autoencoder(self) -> ChunkRecipe:
        """Recipe of the autoencoder."""
        return ChunkRecipe(generator=self.generator, chunks=self.chunks, ends=self.ends)

    def objective(self) -> LatentFlow:
        """Return what the network learns."""
        how = self.generator
        return LatentFlow(
            sizes=self.sizes,
            autoencoder=self.autoencoder.objective(),
            autoencoder_optimization=how.autoencoder.optimization,
            weights=self.weights,
            sigma=how.sigma,
            loss=how.loss,
            times=how.times,
            self_conditioning=how.self_conditioning,
            prompted=how.prompted,
        )

    def trained(self, artifact: Artifact) -> LatentFlowModel:
        """Return the model with the weights of a finished training."""
        return LatentFlowModel(
            artifact=artifact,
            chunks=self.chunks,
            sizes=self.sizes,
            ends=self.ends,
            sigma=self.generator.sigma,
            device=self.generator.device,
            dtype=self.generator.dtype,
        )
