"""Autoregressive: a causal transformer that writes one token after the other.

``python -m imagegram.run tokenizer=ordered_fsq_tiny generator=ar``: GPT over tokens in raster
order. ``generator=rar`` trains on permuted orders first (Yu et al., arXiv 2411.00776). It works on
any tokens, of one length or ragged. The network is ``network.py``, the loss ``training.py``, the
sampling ``sampling.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.prompt import GivenTokens, prompt_trace, prompts_of, without_prompt
from imagegram.errors import ConfigError, did_you_mean
from imagegram.generators.autoregressive.objective import NextToken
from imagegram.generators.autoregressive.published import sizes_in
from imagegram.generators.autoregressive.sizes import BACKBONES, ChunkSizes, RarSizes, make
from imagegram.generators.chunks import chunk_samples, rows_from_chunks, scores_from_chunks
from imagegram.generators.learned import Architecture, LearnedGenerator, Recipe, as_ids, counted
from imagegram.generators.network_model import NetworkModel
from imagegram.generators.weights import ImportWeights
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import Shapes
from imagegram.protocols import Condition, Index, Sampler
from imagegram.records import EOS_TOKEN_ID, Tokens, Trace
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.kinds import require_kind
from imagegram.samplers.sequential import SequentialSampler
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Progress
from imagegram.training.fit import TrainGenerator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from imagegram.generators.stepping import NextLogits


@dataclass(frozen=True, kw_only=True)
class AutoregressiveGenerator(LearnedGenerator):
    """A causal transformer over the tokens of any tokenizer.

    Attributes:
        name, width, depth, num_heads, labels, label_dropout, validation_fraction, optimization,
            trainer, device, checkpoint, start: see :class:`LearnedGenerator`.
        anneal: shares of the training between which the share of documents in permuted order falls
            from 1 to 0; (0, 0): always raster order, (1, 1): always permuted.
        backbone: ``gpt``, blocks of ``models/transformer.py``; ``rar``, the network of the
            published RAR, which class and step modulate; or ``chunk``, whose steps are chunks.
        hidden: width of the MLPs of ``rar``; None: four times ``width``.
        dropout: of ``rar``: share of features and of attention that is dropped in training.
        random_offsets: whether windows of documents of any length begin elsewhere in every epoch,
            see ``training/tokens.py``; documents of one length have one window.
        chunk_size, local_depth: of ``chunk``: tokens of a step, and blocks inside it.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="ar", metadata=NOT_IDENTITY)
    anneal: tuple[float, float] = (0.0, 0.0)
    backbone: str = "gpt"
    hidden: int | None = None
    dropout: float = 0.0
    random_offsets: bool = field(default=False, metadata=NOT_IDENTITY_AT_DEFAULT)
    chunk_size: int | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)
    local_depth: int | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        """Apply the overrides of the group ``trainer``; refuse impossible settings."""
        object.__setattr__(self, "anneal", tuple(map(float, self.anneal)))
        if self.backbone not in BACKBONES:
            raise ConfigError(
                f"generator.backbone={self.backbone!r}: {did_you_mean(self.backbone, BACKBONES)}"
            )
        if self.backbone != "rar" and (self.hidden is not None or self.dropout):
            raise ConfigError(
                "generator.hidden and generator.dropout belong to the backbone of RAR; type "
                "generator.backbone=rar, or generator.hidden=null generator.dropout=0"
            )
        self._check_chunks()
        super().__post_init__()
        if len(self.anneal) != 2 or not 0.0 <= self.anneal[0] <= self.anneal[1] <= 1.0:
            raise ConfigError(
                f"generator.anneal={list(self.anneal)} must be two shares of the training, the "
                "smaller one first; type generator.anneal=[0.5,0.75], or [0,0] for raster order"
            )

    def _check_chunks(self) -> None:
        """Refuse fields of chunks without them, and the other way round."""
        sizes = (self.chunk_size, self.local_depth)
        if self.backbone != "chunk" and sizes != (None, None):
            raise ConfigError(
                "generator.chunk_size and generator.local_depth belong to the backbone of chunks; "
                "type generator.backbone=chunk, or generator=chunk_transformer"
            )
        if self.backbone == "chunk" and None in sizes:
            raise ConfigError(
                "generator.backbone=chunk needs generator.chunk_size and generator.local_depth; "
                "type generator.chunk_size=4 generator.local_depth=2"
            )
        if self.backbone == "chunk" and self.anneal != (0.0, 0.0):
            raise ConfigError(
                f"generator.anneal={list(self.anneal)} permutes tokens, but chunks are written in "
                "raster order; type generator.anneal=[0,0]"
            )

    def sizes_in(self, shapes: Shapes, *, setting: str) -> Architecture:
        """Return the sizes of some weights; see :meth:`LearnedGenerator.sizes_in`."""
        return sizes_in(shapes, backbone=self.backbone, setting=setting)

    def sizes(self, *, vocab_size: int, num_tokens: int) -> Architecture:
        """Return the sizes of the network, with those that its backbone has of its own."""
        plain = super().sizes(vocab_size=vocab_size, num_tokens=num_tokens)
        if self.backbone == "gpt":
            return plain
        if self.backbone == "chunk":
            assert self.chunk_size is not None
            assert self.local_depth is not None
            chunks = {"chunk_size": self.chunk_size, "local_depth": self.local_depth}
            return ChunkSizes(**plain.arguments(), **chunks)
        hidden = 4 * self.width if self.hidden is None else self.hidden
        return RarSizes(**plain.arguments(), hidden=hidden, dropout=self.dropout)

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and labels that it does not learn.

        Raises:
            ConfigError: saying what fits.
        """
        own = require_kind(sampler, SequentialSampler, group="sampler", generator=self.name)
        self.check_label(without_prompt(condition), own.guidance)

    def scores(self, sampler: Sampler) -> bool:
        """Return True: every token has a probability after those before it."""
        return True

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> TrainGenerator[AutoregressiveModel] | ImportWeights[AutoregressiveModel]:
        """Return the stage that trains the network on a token set, or takes over its weights."""
        ends = tokens.document_length is None
        architecture = self.architecture(tokens, extra_ids=int(ends))
        recipe = AutoregressiveRecipe(generator=self, architecture=architecture, ends=ends)
        data = replace(self.data(tokens, holdout), random_offsets=self.random_offsets)
        return self.weights_of(recipe, data)


@dataclass(frozen=True, kw_only=True)
class AutoregressiveRecipe(Recipe):
    """What :class:`TrainGenerator` trains of an autoregressive transformer.

    Attributes:
        ends: whether documents end early; the last id is then their end.
    """

    generator: AutoregressiveGenerator
    ends: bool

    def objective(self) -> NextToken:
        """Return what the network learns."""
        return NextToken(
            architecture=self.architecture,
            anneal=self.generator.anneal,
            ends=self.ends,
            label_dropout=self.label_dropout,
        )

    def make_network(self) -> nn.Module:
        """Build the network, with any weights."""
        return make(self.architecture)

    def trained(self, artifact: Artifact) -> AutoregressiveModel:
        """Return the model with the weights of a finished training."""
        return AutoregressiveModel(ends=self.ends, **self.model_fields(artifact))


@dataclass(frozen=True, kw_only=True)
class AutoregressiveModel(NetworkModel):
    """A trained causal network that samples and scores.

    Attributes:
        ends: whether samples may end early; the last id is then their end.
    """

    #: Arrays of a trace.
    SCORES: ClassVar[Mapping[str, Any]] = {"log_prob": np.float32, "entropy": np.float32}

    ends: bool

    def make_network(self) -> Any:
        """Build a causal transformer."""
        return make(self.sizes)

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
        """
        from imagegram.generators.autoregressive.sampling import draw_chunks

        own = require_kind(sampler, SequentialSampler, group="sampler", generator="ar")
        end = self.architecture.vocab_size - 1 if self.ends else None

        prompts = prompts_of(condition)
        num_tokens, asked = self._fitting(layout), without_prompt(condition)
        self._check_prompts(prompts, num_tokens)

        def make(chunks: NDArray[np.uint64]) -> Iterator[dict[str, NDArray[Any]]]:
            ids = chunk_samples(chunks)
            given = [prompts.of_samples(samples_C, num_tokens=num_tokens) for samples_C in ids]
            classes = [self.classes_of(asked, samples_C) for samples_C in ids]
            drawn = draw_chunks(
                self.network,
                ids,
                classes,
                sampler=own,
                seed=seed,
                end=end,
                prompts=given,
                dtype=self.dtype,
            )
            for ids_CT in drawn:
                yield {"tokens": np.where(ids_CT == end, EOS_TOKEN_ID, ids_CT)}

        rows = rows_from_chunks(
            samples,
            num_tokens=num_tokens,
            dtypes={"tokens": np.uint16},
            make=make,
            progress=progress,
        )
        tokens_BT = rows["tokens"]
        trace = dict(self._trace(tokens_BT, samples, asked, progress))
        return tokens_BT, trace | prompt_trace(condition, samples, num_tokens=num_tokens)

    def _check_prompts(self, prompts: GivenTokens, num_tokens: int) -> None:
        """Refuse prompts that do not fit, and ids that the tokenizer does not have."""
        prompts.check(most=num_tokens, vocab_size=self.architecture.vocab_size - self.ends)

    def _fitting(self, layout: TokenLayout) -> int:
        """Return the number of tokens of a sample.

        Raises:
            ConfigError: when the network has fewer positions.
        """
        if layout.num_tokens > self.architecture.num_tokens:
            raise ConfigError(
                f"samples of {layout.num_tokens} tokens are asked for, but the network was trained "
                f"on {self.architecture.num_tokens}; ask for fewer, or train one on more: "
                f"tokenizer.window={layout.num_tokens}"
            )
        return layout.num_tokens

    def steps(
        self,
        samples: NDArray[np.uint64],
        *,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> NextLogits:
        """Return what tells (B, V) log-probabilities; see :class:`Steps`."""
        import torch

        from imagegram.generators.autoregressive import sampling

        asked = self.classes_of(without_prompt(condition), samples)
        classes = torch.from_numpy(asked).to(self.network.device)
        logits_of = sampling.NextLogits(self.network, classes, Guidance())

        def step(last_B: Tensor | None, number: int) -> Tensor:
            last_B = None if last_B is None else last_B.to(self.network.device)
            with torch.inference_mode():
                return logits_of(last_B, number).double().log_softmax(dim=-1).cpu()

        return step

    def score(
        self,
        tokens_BT: Tokens,
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        condition: Condition | None = None,
        samples: NDArray[np.uint64] | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> Trace:
        """Return what the network says of given tokens under their labels.

        No knob of a sampler has a part in it, neither has guidance.

        Returns:
            By name, (B, T) float32: ``log_prob``, natural logarithm of the probability of a token
            after those before it; ``entropy`` of that distribution in bits. Both are 0 behind the
            end of a sample.
        """
        numbers = np.arange(len(tokens_BT), dtype=np.uint64) if samples is None else samples
        return self._trace(np.asarray(tokens_BT), numbers, without_prompt(condition), progress)

    def _trace(
        self,
        tokens_BT: Tokens,
        samples: NDArray[np.uint64],
        condition: Condition | None,
        progress: Progress | None,
    ) -> Trace:
        """Score rows in chunks of one shape; 0 behind the end of a sample."""
        trace = scores_from_chunks(
            as_ids(tokens_BT, self.architecture),
            samples,
            classes_B=self.classes_of(condition, samples),
            dtypes=self.SCORES,
            score=lambda ids_CT, _, classes_C: self._score_rows(ids_CT, classes_C),
            device=self.network.device,
            dtype=self.dtype,
            progress=progress,
        )
        behind_BT = ~counted(tokens_BT)
        for array_BT in trace.values():
            array_BT[behind_BT] = 0
        return trace

    def _score_rows(self, ids_BT: Tensor, classes_B: Tensor) -> dict[str, NDArray[Any]]:
        """Return the arrays of :attr:`SCORES` for whole rows."""
        from imagegram.generators.autoregressive.sampling import score_rows

        return score_rows(self.network, ids_BT, classes_B)
