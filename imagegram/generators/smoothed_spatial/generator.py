"""SmoothedSpatialGenerator: a probability for every token of a pyramid, from the places around.

``generator=spatial`` writes what stood in the same surroundings; ``smoothed_ngram`` smooths counts
of runs of tokens. Here the counts of surroundings are smoothed: a *guess* of a token, a sum of what
lies around it with weights that are fitted to the training documents, and, in every context, how
often guesses were off by how much (``index.py`` has the formula). So it tells a proper
distribution after every context, as lossless image codecs do (Wu, Memon, "Context-based, adaptive,
lossless image coding", IEEE Transactions on Communications 45, 1997), and code lengths beside
theirs:

    python -m imagegram.run generator=smoothed_spatial tokenizer=pyramid3
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from imagegram.conditions.prompt import without_prompt
from imagegram.errors import ConfigError
from imagegram.generators.smoothed_spatial.build import CountPlaces
from imagegram.generators.spatial.index import Enlarging, check_residuals
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Index, Sampler
from imagegram.samplers.kinds import check_label, require_kind
from imagegram.samplers.sequential import SequentialSampler
from imagegram.stages.tokens import TokenSet
from imagegram.stages.validation import check_fraction
from imagegram.store.fingerprint import NOT_IDENTITY

if TYPE_CHECKING:
    from imagegram.protocols import Tokenizer

_MOST_DECISIONS: Final = 16


@dataclass(frozen=True, kw_only=True)
class SmoothedSpatialGenerator:
    """Smoothed counts of how far a guess from the places around is off.

    Attributes:
        name: name of the configuration file.
        max_decisions: most decisions of a context; fewer where leaves would have under 64
            occurrences.
        validation_fraction: share of the training documents that nothing is counted of, and on
            which the strengths of shorter contexts are learned; 0: all are 64.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="smoothed_spatial", metadata=NOT_IDENTITY)
    max_decisions: int = 10
    validation_fraction: float = 0.02

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        if not 0 <= self.max_decisions <= _MOST_DECISIONS:
            raise ConfigError(
                f"generator.max_decisions={self.max_decisions} must be 0 ... {_MOST_DECISIONS}; "
                "type generator.max_decisions=10"
            )
        check_fraction(self.validation_fraction, setting="generator.validation_fraction")

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

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer whose levels are no pictures.

        Raises:
            ConfigError: naming those whose are.
        """
        if not isinstance(tokenizer, Enlarging):
            raise ConfigError(
                f"generator={self.name} guesses the colours of the levels of a pyramid, and "
                f"tokenizer={tokenizer.name} has none; type tokenizer=pyramid3, or for any tokens "
                "generator=smoothed_ngram"
            )
        check_residuals(tokenizer, generator=self.name)

    def scores(self, sampler: Sampler) -> bool:
        """Return True: every token has a probability after those before it."""
        return True

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> CountPlaces:
        """Return the stage that counts."""
        assert tokens.tokenizer is not None
        self.check_tokenizer(tokens.tokenizer)
        return CountPlaces(
            tokens=tokens,
            max_decisions=self.max_decisions,
            validation_fraction=self.validation_fraction,
            tokenizer=tokens.tokenizer,
        )
