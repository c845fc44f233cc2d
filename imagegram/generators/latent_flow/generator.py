"""LatentFlowGenerator: chunks of tokens as continuous latents, and a flow that samples these.

``python -m imagegram.run modality=text generator=latent_flow``

Two trainings, both cached: an autoencoder of chunks, then a flow over its latents. Latents live
inside the generator; what it writes are tokens. A flow over latents has no likelihood of tokens.
Array names are those of ``sizes.py``.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.prompt import GivenTokens, without_prompt
from imagegram.errors import ConfigError, did_you_mean, require_bounds
from imagegram.generators.chunks import chunk_samples, rows_from_chunks
from imagegram.generators.latent_flow.objectives import (
    LOSSES,
    TIMES,
    ChunkReconstruction,
    LatentFlow,
)
from imagegram.generators.latent_flow.sizes import ChunkSizes, FlowSizes
from imagegram.generators.latent_flow.stages import TrainFlow
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import write_weights
from imagegram.models.dtypes import require_dtype
from imagegram.protocols import Condition, Index, Sampler
from imagegram.records import EOS_TOKEN_ID, PROMPT, Tokens, Trace
from imagegram.samplers.flow import FlowSampler
from imagegram.samplers.kinds import require_kind
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Progress
from imagegram.store.weights import MODEL
from imagegram.training.objective import Items
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.tokens import TokenData

if TYPE_CHECKING:
    from torch import nn

    from imagegram.training.state import TrainingState

#: Weights of the autoencoder, beside those of the flow.
AUTOENCODER: Final = "autoencoder.safetensors"
KINDS: Final = ("mlp", "attention")
MINUTES: Final = Optimization(steps=2000, batch_size=32, learning_rate=1e-3, ema_decay=0.99)


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """What turns chunks of tokens into latents.

    Attributes:
        chunk_size: tokens of a chunk.
        latent_size: numbers of a latent.
        kind: ``mlp``, or ``attention`` among the tokens of a chunk.
        width, depth, num_heads: sizes of encoder and decoder; heads are those of ``attention``.
        beta: weight of the divergence of latents from standard normal ones: bits of a chunk
            against right tokens.
        free_nats: divergence of a number of a latent that costs nothing.
        token_dropout: share of the tokens that the encoder does not see in training.
        latent_dropout: share of the numbers of a latent that the decoder sees as 0 in training.
        optimization: its training.
    """

    chunk_size: int = 4
    latent_size: int = 64
    kind: str = "mlp"
    width: int = 256
    depth: int = 2
    num_heads: int = 2
    beta: float = 0.01
    free_nats: float = 0.0
    token_dropout: float = 0.1
    latent_dropout: float = 0.0
    optimization: Optimization = MINUTES

    def check(self) -> None:
        """Refuse what no autoencoder can have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        counts = ("chunk_size", "latent_size", "width", "depth", "num_heads")
        bounds = {name: (1, float("inf")) for name in counts}
        bounds |= {"beta": (0, float("inf")), "free_nats": (0, float("inf"))}
        bounds |= {"token_dropout": (0, 1), "latent_dropout": (0, 1)}
        require_bounds(self, bounds, prefix="generator.autoencoder.")
        if self.kind not in KINDS:
            raise ConfigError(
                f"generator.autoencoder.kind={self.kind}: {did_you_mean(self.kind, KINDS)}"
            )
        if self.kind == "attention" and self.width % self.num_heads:
            raise ConfigError(
                f"generator.autoencoder.num_heads={self.num_heads} must divide "
                f"generator.autoencoder.width={self.width}; type generator.autoencoder.num_heads=1"
            )

    def sizes(self, vocab_size: int) -> ChunkSizes:
        """Return the sizes of the network for so many ids, the end among them."""
        return ChunkSizes(
            vocab_size=vocab_size,
            chunk_size=self.chunk_size,
            latent_size=self.latent_size,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads if self.kind == "attention" else 0,
        )


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
    autoencoder: Autoencoder = Autoencoder()
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
                "0; type generator.prompted=0.3, or condition=none"
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
class ChunkRecipe:
    """What :class:`TrainAutoencoder` trains.

    Attributes:
        generator: the configured generator.
        chunks: sizes of the network.
        ends: whether documents end early.
    """

    generator: LatentFlowGenerator
    chunks: ChunkSizes
    ends: bool

    @property
    def name(self) -> str:
        """Name in tables and progress bars."""
        return f"{self.generator.name}, autoencoder"

    @property
    def optimization(self) -> Optimization:
        """Steps, rates and seed of the training."""
        return self.generator.autoencoder.optimization

    @property
    def trainer(self) -> TrainerOptions:
        """Where the network is trained."""
        return self.generator.trainer

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

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the averaged weights, with the sizes of the network in the file's metadata."""
        ((network, weights),) = state.averages.items()
        write_weights(out / MODEL, weights, {network: json.dumps(self.chunks.arguments())})

    def trained(self, artifact: Artifact) -> Path:
        """Return the file of the weights."""
        return artifact.path / MODEL


@dataclass(frozen=True, kw_only=True)
class FlowRecipe:
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
    def name(self) -> str:
        """Name in tables and progress bars."""
        return self.generator.name

    @property
    def optimization(self) -> Optimization:
        """Steps, rates and seed of the training."""
        return self.generator.optimization

    @property
    def trainer(self) -> TrainerOptions:
        """Where the network is trained."""
        return self.generator.trainer

    @property
    def autoencoder(self) -> ChunkRecipe:
        """Recipe of the autoencoder."""
        return ChunkRecipe(generator=self.generator, chunks=self.chunks, ends=self.ends)

    def begun(self, weights: Path) -> Self:
        """Return the recipe with the file of the trained autoencoder."""
        return dataclasses.replace(self, weights=str(weights))

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

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the averaged weights of the denoiser, and beside them those of the autoencoder."""
        ((network, weights),) = state.averages.items()
        write_weights(out / MODEL, weights, {network: json.dumps(self.sizes.arguments())})
        assert self.weights is not None
        shutil.copyfile(self.weights, out / AUTOENCODER)

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


@dataclass(frozen=True, kw_only=True)
class LatentFlowModel:
    """A trained latent flow that samples.

    Attributes:
        artifact: the finished training, with the weights of both networks.
        chunks, sizes: sizes of autoencoder and denoiser.
        ends: whether samples may end early.
        sigma: deviation of the start noise in training.
        device: device that samples.
        dtype: numbers that it computes with, see :data:`imagegram.models.dtypes.DTYPES`.
    """

    artifact: Artifact
    chunks: ChunkSizes
    sizes: FlowSizes
    ends: bool
    sigma: float
    device: str
    dtype: str = "float32"

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without the networks, which another process reads again."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    def identity(self) -> Any:
        """Return kind/digest of the training; with it the numbers, where these are others."""
        training = self.artifact.identity()
        return training if self.dtype == "float32" else [training, self.dtype]

    def make_network(self) -> nn.Module:
        """Build the denoiser, with any weights."""
        from imagegram.generators.latent_flow.denoiser import Denoiser

        return Denoiser(**self.sizes.arguments())

    @cached_property
    def networks(self) -> tuple[Any, Any]:
        """Autoencoder and denoiser with their weights, in evaluation mode, on their device."""
        import torch
        from safetensors.torch import load_file

        from imagegram.encoders.preprocessing import require_device
        from imagegram.generators.latent_flow.autoencoder import ChunkAutoencoder

        require_device(self.device, setting="generator.device")
        with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
            autoencoder, denoiser = ChunkAutoencoder(**self.chunks.arguments()), self.make_network()
        autoencoder.load_state_dict(load_file(self.artifact.path / AUTOENCODER))
        denoiser.load_state_dict(load_file(self.artifact.path / MODEL))
        return autoencoder.eval().to(self.device), denoiser.eval().to(self.device)

    def prepared(
        self,
        sampler: Sampler,
        context: Context,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> Self:
        """Return itself: nothing makes it faster."""
        return self

    def encode(self, tokens_BT: Tokens) -> NDArray[np.float32]:
        """Return the (B, N, D) standardized latents of (B, T) tokens, T as in training."""
        from imagegram.generators.latent_flow.sampling import encode_tokens

        return encode_tokens(self.networks, self.chunks.chunks(tokens_BT))

    def decode(self, latents_BND: NDArray[np.float32]) -> Tokens:
        """Return the (B, N C) tokens of (B, N, D) standardized latents, padded behind an end.

        Raises:
            ConfigError: for latents of another size.
        """
        from imagegram.generators.latent_flow.sampling import decode_latents

        most, size, shape = self.sizes.num_chunks, self.sizes.latent_size, latents_BND.shape
        if len(shape) != 3 or not 1 <= shape[1] <= most or shape[2] != size:
            raise ConfigError(
                f"latents of this run are (any, 1 ... {most}, {size}): texts, chunks, numbers; "
                f"received {shape}"
            )
        ids = decode_latents(self.networks, latents_BND.astype(np.float32), ends=self.ends)
        return np.where(ids == self.chunks.vocab_size - 1, EOS_TOKEN_ID, ids).astype(np.uint16)

    def denoise(
        self, latents_BND: NDArray[np.float32], *, noise: float, sampler: FlowSampler, seed: int
    ) -> NDArray[np.float32]:
        """Return where latents arrive after a share of noise, 0 ... 1, was mixed in."""
        from imagegram.generators.latent_flow.sampling import renoise

        denoiser = self.networks[1]
        return renoise(
            denoiser, latents_BND, noise=noise, sampler=sampler, sigma=self.sigma, seed=seed
        )

    def generate(
        self,
        samples: NDArray[np.uint64],
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        condition: Condition | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> tuple[Tokens, Trace]:
        """Sample (B, T) tokens with their trace; see :meth:`imagegram.protocols.Model.generate`.

        ``workers`` is not used: torch has its cores from the environment.

        Returns:
            (B, T) uint16 tokens, and by name, float32: ``probability`` of a token where the flow
            arrived; ``entropy`` of the decoder's distribution there, in bits. Both are 0 behind the
            end of a sample.
        """
        from imagegram.generators.latent_flow.sampling import sample_chunks

        own = require_kind(sampler, FlowSampler, group="sampler", generator="latent_flow")
        end, num_tokens = self.chunks.vocab_size - 1, layout.num_tokens
        prompts = condition if isinstance(condition, GivenTokens) else GivenTokens(rows=((),))
        prompts.check(most=num_tokens, vocab_size=end)

        def make(numbers: NDArray[np.uint64]) -> Iterator[dict[str, NDArray[Any]]]:
            ids = chunk_samples(numbers)
            made = sample_chunks(
                self.networks,
                ids,
                sampler=own,
                sigma=self.sigma,
                seed=seed,
                prompts=[prompts.of_samples(each, num_tokens=num_tokens) for each in ids],
                ends=self.ends,
                dtype=self.dtype,
            )
            for found in made:
                tokens = found["tokens"]
                yield {**found, "tokens": np.where(tokens == end, EOS_TOKEN_ID, tokens)}

        dtypes = {"tokens": np.uint16, "probability": np.float32, "entropy": np.float32}
        trace = rows_from_chunks(
            samples, num_tokens=num_tokens, dtypes=dtypes, make=make, progress=progress
        )
        if isinstance(condition, GivenTokens):
            until_B = prompts.of_samples(samples, num_tokens=num_tokens)[1]
            trace |= {PROMPT: np.arange(num_tokens) < until_B[:, None]}
        return trace.pop("tokens"), trace
