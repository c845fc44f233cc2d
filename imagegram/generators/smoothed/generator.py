"""SmoothedNgramGenerator: an n-gram whose probabilities are smoothed over all shorter contexts.

``python -m imagegram.run modality=text generator=smoothed_ngram``. Where ``generator=ngram`` writes
what stood behind the longest known context, this is a proper distribution over the vocabulary
after every context, by ``indexes/smoothing.py``: it scores any text, and so can be part of a
mixture (``generator=interpolated``). The metric ``likelihood`` measures with the same formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.prompt import without_prompt
from imagegram.errors import ConfigError, did_you_mean
from imagegram.generators.ready import ReadyModel
from imagegram.generators.scored import ScoredModel
from imagegram.indexes.smoothing import SMOOTHING, NextTokens, smoothed
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Index, Sampler
from imagegram.records import EOS_TOKEN_ID, Counting, Tokens, Trace
from imagegram.samplers.kinds import check_label, require_kind
from imagegram.samplers.ngram import matching_classes
from imagegram.samplers.sequential import SequentialSampler
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.stage import Progress, Ready

if TYPE_CHECKING:
    from torch import Tensor

#: Which places may continue a context: as in a sampler, but those whose places are too few.
MATCHING: Final = ("free", "channel", "level")


@dataclass(frozen=True, kw_only=True)
class SmoothedNgramGenerator:
    """An interpolated n-gram over the tokens of any tokenizer; nothing has to be learned.

    Attributes:
        name: name of the configuration file.
        max_context: longest context in tokens; 4 are 5-grams.
        smoothing: ``kneser_ney``: shorter contexts count the different tokens before them; or
            ``absolute``: they count places.
        discount: one for all counts, in (0, 1]; None: three an order, for counts of 1, 2 and more.
        matching: which places may continue a context of documents of one length: ``channel``,
            ``level`` or ``free``; of documents of any length all.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="smoothed_ngram", metadata=NOT_IDENTITY)
    max_context: int = 4
    smoothing: str = "kneser_ney"
    discount: float | None = None
    matching: str = "channel"

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        if self.max_context < 1:
            raise ConfigError(
                f"generator.max_context={self.max_context} must be at least 1; type "
                "generator.max_context=4"
            )
        if self.discount is not None and not 0 < self.discount <= 1:
            raise ConfigError(
                f"generator.discount={self.discount} must lie in (0, 1], or be null for three "
                "discounts from the counts; type generator.discount=null"
            )
        for knob, choices in (("matching", MATCHING), ("smoothing", SMOOTHING)):
            if (value := getattr(self, knob)) not in choices:
                raise ConfigError(f"generator.{knob}={value!r}: {did_you_mean(value, choices)}")

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and conditions: it knows no labels.

        Raises:
            ConfigError: saying what fits.
        """
        own = require_kind(sampler, SequentialSampler, group="sampler", generator=self.name)
        check_label(
            without_prompt(condition), own.guidance, labels=None, has_null=True, generator=self.name
        )

    def scores(self, sampler: Sampler) -> bool:
        """Return True: every token has a probability after those before it."""
        return True

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> Ready[SmoothedNgramModel]:
        """Return the model over an index: its counts are read when they are asked for."""
        model = SmoothedNgramModel(
            generator=self,
            index=index,
            vocab_size=int(tokens.artifact.facts["vocab_size"]),
            ragged=tokens.document_length is None,
        )
        return Ready(model)


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothedNgramModel(ScoredModel, ReadyModel):
    """An index with a way to smooth its counts.

    Attributes:
        generator: the configured generator.
        index: index of the training tokens.
        vocab_size: number of ids of the tokenizer.
        ragged: whether documents differ in length: rows are windows of them, of which nothing is
            known that precedes, and samples may end early.
    """

    generator: SmoothedNgramGenerator
    index: Index
    vocab_size: int
    ragged: bool

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without what was counted, for another process."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def identity(self) -> Any:
        """Return the identity of the index, and of how its counts are smoothed."""
        return {"index": self.index.identity(), "smoothed": identity(self.generator)}

    @property
    def name(self) -> str:
        """Name of the generator."""
        return self.generator.name

    @property
    def ends(self) -> bool:
        """Whether samples may end early."""
        return self.ragged

    def counting(self, layout: TokenLayout) -> Counting:
        """Return what is counted."""
        matching = "free" if self.ragged else self.generator.matching
        return Counting(
            class_of=np.zeros(1, np.int32) if self.ragged else matching_classes(matching, layout),
            continuations=self.generator.smoothing == "kneser_ney",
            ends=self.ragged,
        )

    @cached_property
    def _distributions(self) -> dict[TokenLayout, NextTokens]:
        return {}

    def distributions(self, layout: TokenLayout) -> NextTokens:
        """Return what tells whole distributions; it remembers what it has counted."""
        if layout not in self._distributions:
            self._distributions[layout] = NextTokens(
                index=self.index,
                max_context=self.generator.max_context,
                discount=self.generator.discount,
                counting=self.counting(layout),
                vocab_size=self.vocab_size,
            )
        return self._distributions[layout]

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
        """Return the trace of given tokens; no knob of a sampler has a part in it.

        Returns:
            ``log_prob``, (B, T) float32: natural logarithm of the probability of a token after
            those before it; 0 behind the end of a sample.
        """
        p_BT = smoothed(
            np.asarray(tokens_BT),
            self.index,
            max_context=self.generator.max_context,
            discount=self.generator.discount,
            counting=self.counting(layout),
            vocab_size=self.vocab_size,
            workers=workers,
        )
        return {"log_prob": np.log(p_BT).astype(np.float32)}

    def steps(
        self,
        samples: NDArray[np.uint64],
        *,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> Callable[[Tensor | None, int], Tensor]:
        """Return what tells (B, V) log-probabilities; see ``generators/stepping.py``."""
        import torch

        distributions = self.distributions(layout)
        begun = [] if self.ragged else [EOS_TOKEN_ID]
        contexts = [list(begun) for _ in samples]

        def step(last_B: Tensor | None, number: int) -> Tensor:
            if last_B is not None:
                for context, token in zip(contexts, last_B.tolist(), strict=True):
                    context.append(token)
            p_BV = np.stack([distributions.after(context, number) for context in contexts])
            return torch.from_numpy(np.log(p_BV))

        return step
