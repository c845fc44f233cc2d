"""Planner: writes a document step by step, K codes each, from all steps before.

``python -m imagegram.run modality=text tokenizer=sentence_rvq generator=planner``: what the next
sentence of a document is about, as the codes of a residual quantizer, before any word of it is
written. It works on any tokens, of one length or ragged: the ids of a step are the channels of the
tokenizer's layout, such as the colours of a place. The network is ``network.py``, the loss
``training.py``; tokens are drawn one after the other as those of ``autoregressive/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.prompt import GivenTokens, without_prompt
from imagegram.errors import ConfigError, did_you_mean
from imagegram.generators.autoregressive.generator import AutoregressiveModel
from imagegram.generators.learned import Architecture, LearnedGenerator, Recipe
from imagegram.generators.planner.objective import NextStep
from imagegram.generators.planner.sizes import (
    CONTEXTS,
    HEADS,
    SCORES,
    PlannerSizes,
    reads_vectors,
    sizes_in,
)
from imagegram.generators.weights import ImportWeights
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import Shapes
from imagegram.protocols import CodesTokenizer, Condition, Index, Sampler, Tokenizer
from imagegram.samplers.kinds import require_kind
from imagegram.samplers.sequential import SequentialSampler
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.training.fit import TrainGenerator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from imagegram.generators.planner.network import Planner


@dataclass(frozen=True, kw_only=True)
class PlannerGenerator(LearnedGenerator):
    """A causal transformer over steps of K codes, with a head that writes the codes of one.

    Attributes:
        name, width, depth, num_heads, labels, label_dropout, optimization, trainer, device,
            dtype, checkpoint, start: see :class:`LearnedGenerator`.
        heads: ``depth``: a code sees those of its step that were written before it;
            ``independent``: it sees none.
        head_depth: number of MLPs of the head.
        context: what is seen of the steps before: ``codes``, a learned embedding of each;
            ``vectors``, a projection of the sum of the vectors that a tokenizer's codes stand for;
            ``both``; ``none``, for comparison.
        dropout: share of features that is dropped in training.
    """

    VERSION: ClassVar[int] = 1
    #: The family of its weights, where messages ask for it.
    backbone: ClassVar[str] = "planner"

    name: str = field(default="planner", metadata=NOT_IDENTITY)
    heads: str = "depth"
    head_depth: int = 2
    context: str = "vectors"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Apply the overrides of the group ``trainer``; refuse impossible settings."""
        for knob, choices in (("heads", HEADS), ("context", CONTEXTS)):
            if (value := getattr(self, knob)) not in choices:
                raise ConfigError(f"generator.{knob}={value!r}: {did_you_mean(value, choices)}")
        if self.head_depth < 0:
            raise ConfigError(
                f"generator.head_depth={self.head_depth} must be at least 0; type "
                "generator.head_depth=2"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(
                f"generator.dropout={self.dropout} must be at least 0 and below 1; type "
                "generator.dropout=0.1"
            )
        super().__post_init__()

    def sizes_in(self, shapes: Shapes, *, setting: str) -> PlannerSizes:
        """Return the sizes of some weights; see :meth:`LearnedGenerator.sizes_in`."""
        return sizes_in(shapes, setting=setting)

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and labels that it does not learn.

        Raises:
            ConfigError: saying what fits.
        """
        own = require_kind(sampler, SequentialSampler, group="sampler", generator=self.name)
        self.check_label(without_prompt(condition), own.guidance)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer whose codes have no vectors, where they are to be shown.

        Raises:
            ConfigError: saying what to type.
        """
        if reads_vectors(self.context) and not hasattr(type(tokenizer), "codebooks"):
            raise ConfigError(
                f"generator.context={self.context} shows the vectors of codes, but the ids of "
                f"tokenizer={tokenizer.name} have none; type generator.context=codes, or "
                "tokenizer=sentence_rvq"
            )

    def scores(self, sampler: Sampler) -> bool:
        """Return True: every token has a probability after those before it."""
        return True

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> TrainGenerator[PlannerModel] | ImportWeights[PlannerModel]:
        """Return the stage that trains the network on a token set, or takes over its weights.

        Raises:
            ConfigError: when the tokenizer of the tokens is not known, or has no vectors.
        """
        vectors = self._vectors_of(tokens)
        architecture = self._sizes_of(tokens, vectors)
        recipe = PlannerRecipe(generator=self, architecture=architecture, vectors=vectors)
        data = self.data(tokens, holdout)
        return self.weights_of(recipe, data)

    def _vectors_of(self, tokens: TokenSet) -> NDArray[np.float32] | None:
        """Return the (K, V, D) vectors of codes where they are shown; a plan may not have them."""
        tokenizer = self._tokenizer_of(tokens)
        self.check_tokenizer(tokenizer)
        if not reads_vectors(self.context) or not tokens.artifact.is_made:
            return None
        return np.asarray(cast(CodesTokenizer, tokenizer).codebooks, dtype=np.float32)

    def _tokenizer_of(self, tokens: TokenSet) -> Tokenizer:
        if tokens.tokenizer is None:
            raise ConfigError(
                f"{tokens.artifact.path}: how many codes a step has is not known of these tokens; "
                "say which tokenizer wrote them: dataclasses.replace(tokens, tokenizer=TOKENIZER)"
            )
        return tokens.tokenizer

    def _sizes_of(self, tokens: TokenSet, vectors: NDArray[np.float32] | None) -> PlannerSizes:
        """Return the sizes of the network for the steps of a token set."""
        spec, ends = self._tokenizer_of(tokens).spec, tokens.document_length is None
        plain = self.sizes(vocab_size=spec.vocab_size + ends, num_tokens=tokens.length)
        foreseen = int(reads_vectors(self.context))  # of vectors that are not there yet
        return PlannerSizes(
            **plain.arguments(),
            stages=spec.layout.num_channels,
            codebooks=spec.codebooks,
            ends=ends,
            heads=self.heads,
            head_depth=self.head_depth,
            context=self.context,
            vector_width=foreseen if vectors is None else vectors.shape[-1],
            dropout=self.dropout,
        )


@dataclass(frozen=True, kw_only=True)
class PlannerRecipe(Recipe):
    """What :class:`TrainGenerator` trains of a planner.

    Attributes:
        vectors: (K, V, D) float32 vectors of the codes; None: they are not shown, or not there yet.
    """

    generator: PlannerGenerator
    architecture: PlannerSizes
    vectors: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def objective(self) -> NextStep:
        """Return what the network learns."""
        return NextStep(
            architecture=self.architecture,
            label_dropout=self.label_dropout,
            vectors=self.vectors,
        )

    def make_network(self) -> nn.Module:
        """Build the network, with any weights."""
        return _make(self.architecture)

    def trained(self, artifact: Artifact) -> PlannerModel:
        """Return the model with the weights of a finished training."""
        return PlannerModel(ends=self.architecture.ends, **self.model_fields(artifact))


@dataclass(frozen=True, kw_only=True)
class PlannerModel(AutoregressiveModel):
    """A trained planner that samples and scores; every id it writes is a code of its stage."""

    SCORES: ClassVar[Mapping[str, Any]] = SCORES

    architecture: PlannerSizes

    def make_network(self) -> Any:
        """Build a planner."""
        return _make(self.sizes)

    def _check_prompts(self, prompts: GivenTokens, num_tokens: int) -> None:
        """Refuse also ids that are no codes of their stages."""
        sizes = self.architecture
        for row in prompts.rows:
            for place, token in enumerate(row):
                first = place % sizes.stages * sizes.codebook_size * (sizes.codebooks > 1)
                if not first <= token < first + sizes.codebook_size:
                    raise ConfigError(
                        f"condition={prompts.name}: token {place} of a prompt is {token}, but code "
                        f"{place % sizes.stages + 1} of a step is one of {first} ... "
                        f"{first + sizes.codebook_size - 1}; give whole steps of codes"
                    )
        super()._check_prompts(prompts, num_tokens)

    def _score_rows(self, ids_BT: Tensor, classes_B: Tensor) -> dict[str, NDArray[Any]]:
        """Return the arrays of :attr:`SCORES` for whole rows."""
        from imagegram.generators.planner.scoring import score_rows

        return score_rows(self.network, ids_BT, classes_B)


def _make(sizes: Architecture) -> Planner:
    """Build the network of some sizes, with any weights."""
    from imagegram.generators.planner.network import Planner

    return Planner(**sizes.arguments())
