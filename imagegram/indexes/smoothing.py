"""Interpolated smoothing of n-grams: probabilities of tokens from counts of every order.

    p_k(w|h) = (c_k(hw) - D_k(c_k(hw)) + sum_w' D_k(c_k(hw')) p_{k-1}(w|h')) / sum_w' c_k(hw')

with h the last k tokens and h' the last k - 1; D takes a little of every count, which the shorter
context distributes. ``absolute``: c counts places (Ney, Essen, Kneser, "On structuring
probabilistic dependences in stochastic language modelling", Computer Speech and Language 8, 1994).
``kneser_ney``: below the longest context c counts the different tokens before hw, so that a token
that follows one word only is not likely elsewhere (Kneser, Ney, "Improved backing-off for m-gram
language modeling", ICASSP 1995). With three discounts, for counts 1, 2 and more, both are
"modified" (Chen, Goodman, "An empirical study of smoothing techniques for language modeling",
Computer Speech and Language 13, 1999).

>>> discounts(np.array([8, 2, 1, 1]), None).round(3).tolist()
[0.0, 0.667, 1.0, 0.333]
>>> discounts(np.array([5, 0, 0, 0]), None).tolist()  # too few n-grams to tell
[0.0, 0.5, 1.0, 1.5]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from imagegram.indexes.following import Following, following
from imagegram.indexes.grams import different_grams
from imagegram.protocols import Index
from imagegram.records import EOS_TOKEN_ID, Counting, GramCounts, Grams, Tokens, row_sizes

Array = NDArray[np.float64]
SMOOTHING: Final = ("absolute", "kneser_ney")
#: Discounts of counts 1, 2, 3 or more where a corpus is too small to tell them.
_FALLBACK: Final = (0.5, 1.0, 1.5)
#: Contexts whose next tokens are remembered, of some kilobytes each.
_REMEMBERED: Final = 1 << 14


def discounts(of_counts: NDArray[np.int64], fixed: float | None) -> Array:
    """Return the (4,) discounts of counts 0, 1, 2, 3 or more.

    Args:
        of_counts: (4,) number of n-grams of the order with count 1, 2, 3, 4.
        fixed: one discount for all, in (0, 1]; None: three, by Chen and Goodman from the counts.
    """
    if fixed is not None:
        return np.array([0.0, fixed, fixed, fixed])
    n = of_counts.astype(np.float64)
    found = np.array(_FALLBACK)
    if (n > 0).all():
        factor = n[0] / (n[0] + 2 * n[1])
        counts = np.arange(1, 4)
        found = counts - (counts + 1) * factor * n[1:] / n[:3]
        if (found < 0).any() or (found > counts).any() or not found.any():
            found = np.array(_FALLBACK)
    return np.array([0.0, *found])


def smoothed(
    tokens_BT: Tokens,
    index: Index,
    *,
    max_context: int,
    discount: float | None,
    counting: Counting,
    vocab_size: int,
    workers: int | None = None,
) -> Array:
    """Return the (B, T) probability of every token given those before it in its row.

    Rows of ``counting.ends`` are windows of documents: nothing is known of what precedes them, and
    the separator behind a row that ends early is one more token; its padding has probability 1.
    Other rows are whole documents: the separator precedes them, and their first token, which only
    the separator precedes, has no shorter context.

    Args:
        tokens_BT: (B, T) ids, padded with separators.
        index: index of the corpus that is counted, in one pass.
        max_context: longest context in tokens.
        discount: see :func:`discounts`.
        counting: what is counted.
        vocab_size: number of ids besides the separator.
        workers: threads; None: all cores.
    """
    rows = np.asarray(tokens_BT, dtype=np.uint16)
    num_rows, width = rows.shape
    begun = not counting.ends
    steps = np.minimum(row_sizes(rows) + counting.ends, width)
    written = np.arange(width) < steps[:, None]
    if begun:
        rows = np.concatenate([np.full((num_rows, 1), EOS_TOKEN_ID, np.uint16), rows], axis=1)
    queries: list[Grams] = []
    places: list[tuple[NDArray[np.bool_], NDArray[np.integer]]] = []
    classes = np.zeros(width, np.int32) if counting.num_classes == 1 else counting.class_of
    for size in range(1, max_context + 2):
        asked = written & (np.arange(width) + begun >= size - 1)
        if begun and size == 1:
            asked[:, 0] = False
        grams = _grams(rows, size, asked, begun=begun)
        of_class = np.broadcast_to(classes, written.shape)[asked]
        different, inverse = different_grams(grams, of_class.astype(np.int32))
        queries.append(different)
        places.append((asked, inverse))
    answers = index.gram_counts(queries, counting, workers=workers)
    p_BT = np.full(written.shape, 1.0 / (vocab_size + counting.ends))
    for (asked, inverse), counts in zip(places, answers, strict=True):
        p_BT[asked] = _longer(p_BT[asked], inverse, counts, discount)
    return np.where(written, p_BT, 1.0)


def _grams(rows: Tokens, size: int, asked: NDArray[np.bool_], *, begun: bool) -> Tokens:
    """Return the (N, size) tokens that end at the asked positions."""
    if size > rows.shape[1]:
        return np.empty((0, size), dtype=np.uint16)
    # The gram that begins at column j of the rows ends at position j + size - 1 - begun.
    ahead = size - 1 - begun
    ending = sliding_window_view(rows, size, axis=1)[:, max(-ahead, 0) :]
    return np.asarray(ending[asked[:, max(ahead, 0) :]])


def _longer(
    shorter: Array, inverse: NDArray[np.integer], counts: GramCounts, discount: float | None
) -> Array:
    """Return probabilities after a context, given those after a context of one token less."""
    own, spared, seen = shares(counts.own, counts.contexts, discounts(counts.of_counts, discount))
    return np.asarray(np.where(seen[inverse], own[inverse] + spared[inverse] * shorter, shorter))


def shares(
    own: NDArray[np.int64], contexts: NDArray[np.int64], taken: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return what a context gives to its own tokens, and what it leaves to a shorter one.

    So ``p_k = own + spared * p_{k-1}`` where the context was seen.

    Args:
        own: (Q,) counts of n-grams.
        contexts: (Q, 4), or (1, 4) of one context, as in :class:`GramCounts`.
        taken: (4,) discounts of the order.

    Returns:
        (Q,) discounted counts and, of each context, (Q,) or (1,) what was taken from all counts,
        both by the sum of all counts; and whether the context was seen.
    """
    total, *numbers = contexts.T
    spared = sum(part * number for part, number in zip(taken[1:], numbers, strict=True))
    scale = 1.0 / np.maximum(total, 1)
    return (own - taken[np.minimum(own, 3)]) * scale, spared * scale, total > 0


@dataclass(frozen=True, kw_only=True, eq=False)
class NextTokens:
    """The whole distributions whose single probabilities :func:`smoothed` returns.

    The first question reads the corpus once; each later one the places of a context, of which the
    last ones asked for are remembered.

    Attributes:
        index: index of the corpus that is counted.
        max_context, discount, counting, vocab_size, workers: see :func:`smoothed`.
    """

    index: Index
    max_context: int
    discount: float | None
    counting: Counting
    vocab_size: int
    workers: int | None = None

    @property
    def num_ids(self) -> int:
        """Number of ids of a distribution; where documents end early the last is their end."""
        return self.vocab_size + self.counting.ends

    def after(self, context: Sequence[int], position: int) -> Array:
        """Return the (V,) probabilities of the next token.

        Args:
            context: tokens before it, the last of which count; the separator where a document of
                a corpus with places begins.
            position: position of the next token in its document, for its class.
        """
        counting = self.counting
        cls = int(counting.class_of[position]) if counting.num_classes > 1 else 0
        longest = tuple(context)[-self.max_context :]
        p_V = np.full(self.num_ids, 1.0 / self.num_ids)
        for size in range(len(longest) + 1):
            given = longest[len(longest) - size :]
            if not given and longest == (EOS_TOKEN_ID,):
                continue  # the first token has no shorter context
            tokens, counts = self._counted(given, cls)
            if not len(tokens):
                break  # neither has any longer context been seen
            own = np.zeros(self.num_ids, dtype=np.int64)
            own[np.where(tokens == EOS_TOKEN_ID, self.vocab_size, tokens)] = counts
            numbers = [counts.sum(), *((np.minimum(counts, 3) == n).sum() for n in (1, 2, 3))]
            kept, spared, _ = shares(own, np.array([numbers]), self._taken[size])
            p_V = kept + spared * p_V
        return p_V

    @cached_property
    def _totals(self) -> tuple[list[Array], list[NDArray[np.int64]]]:
        """Discounts of every order, and by class the (V,) counts of single tokens."""
        ids = np.arange(self.num_ids, dtype=np.int64)
        ids[self.vocab_size :] = EOS_TOKEN_ID
        classes = np.arange(self.counting.num_classes, dtype=np.int32)
        tokens = np.tile(ids, len(classes)).astype(np.uint16)[:, None]
        singles, inverse = different_grams(tokens, np.repeat(classes, len(ids)))
        none = np.empty(0, dtype=np.int32)
        longer = [
            Grams(tokens=np.empty((0, size), dtype=np.uint16), classes=none)
            for size in range(2, self.max_context + 2)
        ]
        answers = self.index.gram_counts([singles, *longer], self.counting, workers=self.workers)
        taken = [discounts(answer.of_counts, self.discount) for answer in answers]
        return taken, list(answers[0].own[inverse].reshape(len(classes), -1))

    @property
    def _taken(self) -> list[Array]:
        return self._totals[0]

    def _counted(self, context: tuple[int, ...], cls: int) -> Following:
        if context:
            return self._remembered(context, cls)
        counts = self._totals[1][cls]
        (seen,) = np.nonzero(counts)
        tokens = np.where(seen == self.vocab_size, EOS_TOKEN_ID, seen).astype(np.uint16)
        return tokens, counts[seen]

    @cached_property
    def _remembered(self) -> Callable[[tuple[int, ...], int], Following]:
        def counted(context: tuple[int, ...], cls: int) -> Following:
            longest = len(context) == self.max_context
            return following(self.index, context, self.counting, cls=cls, longest=longest)

        return lru_cache(maxsize=_REMEMBERED)(counted)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without what is remembered, for another process."""
        return {each.name: getattr(self, each.name) for each in fields(self)}
