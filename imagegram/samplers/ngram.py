"""NgramSampler: which contexts of the corpus may decide a token, and how their counts do.

Two decisions lie here. Which continuations may vote: ``max_context``, ``min_count``,
``count_documents``, ``matching``, ``anchor``, ``label_tokens`` and ``context_digits`` (read by the
generator). And how their counts are turned into a distribution: :func:`distribution`, with the
knobs of ``truncation.py``.

The native kernels compile this very source, and no step leaves the order of additions open:
interpreted and compiled, they give the same bits.

>>> import numpy as np
>>> distribution(np.array([4, 2, 1]), 1.0, 2, 1.0, 0.0).round(3).tolist()
[0.667, 0.333, 0.0]
>>> distribution(np.array([4, 2, 4]), 0.0, 0, 1.0, 0.0).tolist()
[1.0, 0.0, 0.0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean
from imagegram.layout import TokenLayout
from imagegram.records import MAX_SUFFIX_LEN
from imagegram.samplers.truncation import Truncation, is_count, require, truncate
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT

MATCHING: Final = ("free", "channel", "level", "position")


@dataclass(frozen=True, kw_only=True)
class NgramSampler(Truncation):
    """Truncation and the rules of which training contexts may decide.

    Attributes:
        name: name of the configuration file; the same knobs by another name are the same sampler.
        temperature, top_k, top_p, min_p: see :class:`Truncation`; counts are probabilities.
        max_context: longest context in tokens (the leading separator counts as one); one number,
            or one per level of the tokenizer, coarse to fine.
        min_count: fewest places that must continue a context before it may decide; never more
            than the corpus has documents. The knob that stops copying.
        count_documents: whether ``min_count`` counts distinct documents instead of places.
        matching: which places may continue a context: ``free`` any, ``channel`` and ``level``
            places of the same colour channel or pyramid level, ``position`` places at the same
            position of another image.
        anchor: only documents that begin with the sample's own first tokens may decide, with up
            to this many: as many as leave ``min_count`` candidates. The late tokens of an ordered
            tokenizer depend on the first ones, which a short context has forgotten.
        label_tokens: first tokens that only documents of the sample's label may decide, where a
            condition asks for one.
        context_digits: compare contexts and anchors by so many most significant digits of each
            token (``TokenLayout.digits``); the next token stays whole. None: whole tokens.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    max_context: int | tuple[int, ...] = 32
    min_count: int = 1
    count_documents: bool = False
    matching: str = "free"
    anchor: int = field(default=0, metadata=NOT_IDENTITY_AT_DEFAULT)
    label_tokens: int = field(default=1, metadata=NOT_IDENTITY_AT_DEFAULT)
    context_digits: int | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.max_context, list):
            object.__setattr__(self, "max_context", tuple(self.max_context))
        contexts = self.max_context if isinstance(self.max_context, tuple) else (self.max_context,)
        require(
            len(contexts) > 0 and all(is_count(context) for context in contexts),
            ("max_context", self.max_context, "a whole number of at least 1, or one per level"),
        )
        require(
            is_count(self.min_count),
            ("min_count", self.min_count, "a whole number of at least 1"),
        )
        if self.matching not in MATCHING:
            raise ConfigError(
                f"sampler.matching={self.matching!r}: {did_you_mean(self.matching, MATCHING)}"
            )
        self._check_later_knobs()

    def _check_later_knobs(self) -> None:
        require(
            self.anchor == 0 or is_count(self.anchor),
            ("anchor", self.anchor, "0 (no anchor) or a whole number of first tokens"),
        )
        require(
            is_count(self.label_tokens),
            ("label_tokens", self.label_tokens, "a whole number of at least 1"),
        )
        require(
            self.context_digits is None or is_count(self.context_digits),
            (
                "context_digits",
                self.context_digits,
                "a whole number of at least 1, or null to compare whole tokens",
            ),
        )

    def max_context_per_position(self, layout: TokenLayout) -> NDArray[np.int32]:
        """Return the (T,) longest context, in tokens, for every position.

        Raises:
            ConfigError: when ``max_context`` lists another number of levels than the layout has,
                contexts could be longer than a trace can tell, or ``context_digits`` asks for
                more digits than tokens have.
        """
        self._check_digits(layout)
        contexts = self.max_context
        if isinstance(contexts, int):
            contexts = (contexts,) * layout.num_levels
        if len(contexts) != layout.num_levels:
            raise ConfigError(
                f"sampler.max_context={list(contexts)} has {len(contexts)} "
                f"entries, but the tokenizer has {layout.num_levels} levels; give one number, or "
                "one per level, coarse to fine"
            )
        limits_T = np.asarray(contexts, dtype=np.int32)[layout.level]
        longest = int(np.minimum(limits_T, np.arange(1, layout.num_tokens + 1)).max())
        require(
            longest <= MAX_SUFFIX_LEN,
            ("max_context", self.max_context, f"at most {MAX_SUFFIX_LEN} for images of that size"),
        )
        return limits_T

    def _check_digits(self, layout: TokenLayout) -> None:
        most, wanted = len(layout.digits), self.context_digits
        if wanted is None or wanted <= most:
            return
        allowed = f"1 ... {most}, the digits of a token" if most else "null: tokens have no digits"
        raise ConfigError(
            f"sampler.context_digits={wanted}: with this tokenizer it must be {allowed}; type "
            f"sampler.context_digits={most or 'null'}"
        )


def matching_classes(matching: str, layout: TokenLayout) -> NDArray[np.int32]:
    """Return the (T,) class of every position; candidates have the class of the new token."""
    if matching == "channel":
        return layout.channel
    if matching == "level":
        return layout.level
    if matching == "position":
        return np.arange(layout.num_tokens, dtype=np.int32)
    return np.zeros(layout.num_tokens, dtype=np.int32)


def distribution(
    counts_K: NDArray[Any], temperature: float, top_k: int, top_p: float, min_p: float
) -> NDArray[np.float64]:
    """Turn counts of next tokens into the probabilities that a sampler draws from.

    Args:
        counts_K: (K,) counts of at least 1, by ascending token id.
        temperature: 0 for the most frequent token, the first among equals.
        top_k: tokens to keep, most probable first, then smaller id first; 0 keeps all.
        top_p: probability mass to keep, in (0, 1].
        min_p: least probability relative to the largest, in [0, 1].

    Returns:
        (K,) float64 probabilities; 0 for what was cut away.
    """
    largest = most_frequent(counts_K)
    p_K = np.zeros(counts_K.size, dtype=np.float64)
    if temperature == 0.0:
        p_K[largest] = 1.0
        return p_K
    for i in range(counts_K.size):
        p_K[i] = weight(counts_K[i], counts_K[largest], temperature)
    truncate(p_K, largest, top_k, top_p, min_p)
    return p_K


def most_frequent(counts_K: NDArray[Any]) -> int:
    """Return the index of the largest count, the first among equals."""
    largest = 0
    for i in range(1, counts_K.size):
        if counts_K[i] > counts_K[largest]:
            largest = i
    return largest


def weight(count: int, top: int, temperature: float) -> float:
    """Return the weight of a count beside the largest, in (0, 1], for a temperature above 0."""
    return 1.0 if count == top else math.pow(float(count) / float(top), 1.0 / temperature)
