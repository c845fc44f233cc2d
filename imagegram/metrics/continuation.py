r"""``brier_lm``, ``recited_*``: what samples write behind the beginning of a document.

    python -m imagegram.run modality=text condition=excerpt_held_out num_samples=256 \
        metric=[copying,continuation]

The Brier score of a distribution P when y follows is ``2 P(y) - sum_x P(x)^2``: proper, so highest
for the P that y is drawn from. Two samples behind the same excerpt estimate it without any
probability, ``[x1 = y] + [x2 = y] - [x1 = x2]``, so generators that have none can be compared with
those that do (Shao et al., "Continuous autoregressive language models", arXiv 2510.27688).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.intervals import delete_block_jackknife, mean_over_images, rate_over_images
from imagegram.metrics.features import undefined
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo, Tokens, row_sizes

#: Longest run of tokens that BrierLM counts.
LONGEST: Final = 4
#: Blocks of documents of the jackknife.
_BLOCKS: Final = 20


@dataclass(frozen=True, kw_only=True)
class ContinuationMetric:
    """Metric of samples that continue documents whose own continuation is known.

    Intervals are over the documents that are continued. Real documents go on in one way only, so
    floor and ceiling have no score; behind training documents a generator that copies has a
    ``brier_lm`` near 100. It moves with the length of the excerpt.

    Attributes:
        name: name of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "continued"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="brier_lm",
            title="BrierLM",
            words="Geometric mean of the Brier scores of the next one to four tokens behind the "
            "beginning of a document; 100: the document itself, always. Below 0 counts as 0.",
            unit="of 100",
            better="higher",
            group="quality",
            rank=4,
        ),
        ScoreInfo(
            name="brier_{n:d}",
            title="Brier score of {n} tokens",
            words="Brier score of the next {n} tokens together, from pairs of samples behind one "
            "excerpt. 0: as good as a guess among many; below: sure, and wrong.",
            better="higher",
            group="quality",
        ),
        ScoreInfo(
            name="recited_tokens",
            title="tokens that are recited",
            words="Tokens behind the excerpt, in a row, that are those of the document itself.",
            unit="tokens",
            group="copying",
            rank=4,
        ),
        ScoreInfo(
            name="recited_other_tokens",
            title="tokens of another document's continuation",
            words="The same beside the document of the next excerpt: chance.",
            unit="tokens",
            group="copying",
        ),
        ScoreInfo(
            name="recited_rate",
            title="documents that are recited",
            words="Samples that go on as the document does to their end. Behind training documents "
            "that is extractable memorization.",
            unit="% of samples",
            better="lower",
            group="copying",
        ),
    )

    name: str = "continuation"

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one set of samples; takes 3 bytes a token."""
        continued = generated.continued
        length, seed = continued.length, reference.seed
        written_BT = np.asarray(generated.tokens)[:, length:]
        rows_B, documents_B = np.asarray(continued.rows), np.asarray(continued.documents)
        truth_BT = np.asarray(continued.tokens)[:, length:]
        scalars = brier_scores(written_BT, truth_BT, rows_B, documents_B)
        scalars["recited_rate"] = rate_over_images(
            (written_BT == truth_BT).all(axis=1), documents=documents_B
        )

        def recited(documents_BT: Tokens) -> Measured:
            same_B = same_tokens(written_BT, documents_BT).astype(np.float64)
            return mean_over_images(same_B, seed=seed, documents=documents_B)

        scalars["recited_tokens"] = recited(truth_BT)
        excerpts, first_R, at_B = np.unique(rows_B, return_index=True, return_inverse=True)
        scalars["recited_other_tokens"] = (
            undefined("there is only one excerpt")
            if len(excerpts) < 2
            else recited(truth_BT[np.roll(first_R, 1)[at_B]])
        )
        recipe = {"excerpt tokens": length, "excerpts": len(excerpts)}
        return Measurement(scalars=scalars, curves={}, recipe=recipe)


def same_tokens(written_BT: Tokens, truth_BT: Tokens) -> NDArray[np.int64]:
    """Return the (B,) tokens of each row before the first that differs, or the end of the truth.

    >>> same_tokens(np.array([[7, 8, 9], [7, 8, 65535]]), np.array([[7, 8, 1], [7, 8, 65535]]))
    array([2, 2])
    """
    differs_BT = np.asarray(written_BT) != np.asarray(truth_BT)
    first_B = np.where(differs_BT.any(axis=1), differs_BT.argmax(axis=1), differs_BT.shape[1])
    same_B: NDArray[np.int64] = np.minimum(first_B, row_sizes(truth_BT))
    return same_B


def brier_scores(
    written_BT: Tokens,
    truth_BT: Tokens,
    rows_B: NDArray[np.int64],
    documents_B: NDArray[np.int64],
) -> dict[str, Measured]:
    """Return ``brier_<n>`` for n = 1 ... 4 and ``brier_lm``, with jackknife intervals.

    Args:
        written_BT: ids behind the excerpt, separators behind their end.
        truth_BT: ids of the document behind it.
        rows_B: excerpt of each sample, as a number.
        documents_B: document of each excerpt; blocks of the jackknife are of whole documents.
    """
    names = [f"brier_{n}" for n in range(1, LONGEST + 1)]
    excerpts, first_R, at_B = np.unique(rows_B, return_index=True, return_inverse=True)
    sizes_R = np.bincount(at_B)
    if written_BT.shape[1] < LONGEST or (sizes_R < 2).any():
        why = (
            f"it needs two samples of an excerpt and {LONGEST} tokens behind it; type "
            f"num_samples={2 * len(excerpts)}, or a smaller condition.num_excerpts"
        )
        return dict.fromkeys(["brier_lm", *names], undefined(why))
    values_RN = np.array(
        [brier_of_excerpts(written_BT, truth_BT, at_B, n=n) for n in range(1, LONGEST + 1)]
    ).T
    documents, number_R = np.unique(documents_B[first_R], return_inverse=True)

    def statistics(block: int | None) -> NDArray[np.float64]:
        kept_R = np.ones(len(values_RN), bool) if block is None else number_R % _BLOCKS != block
        means_N = values_RN[kept_R].mean(axis=0)
        score = 100 * float(np.prod(np.clip(means_N, 0, None))) ** (1 / LONGEST)
        return np.array([score, *means_N])

    found = delete_block_jackknife(statistics, num_images=len(documents), blocks=_BLOCKS)
    if found[0].low is not None:  # as the score, its interval ends at 0
        found[0] = replace(found[0], low=max(found[0].low, 0.0))
    return dict(zip(["brier_lm", *names], found, strict=True))


def brier_of_excerpts(
    written_BT: Tokens, truth_BT: Tokens, at_B: NDArray[np.int64], *, n: int
) -> NDArray[np.float64]:
    """Return the (R,) estimated Brier score of the next n tokens behind each excerpt.

    The mean over all pairs of the k samples of an excerpt, each pair as ``[x1 = y] + [x2 = y] -
    [x1 = x2]``.

    >>> written, truth = np.array([[7, 8], [7, 9]]), np.array([[7, 8], [7, 8]])
    >>> [float(brier_of_excerpts(written, truth, np.array([0, 0]), n=n)[0]) for n in (1, 2)]
    [1.0, 1.0]
    """
    values = []
    for excerpt in range(int(at_B.max()) + 1):
        of_BT = np.asarray(written_BT)[at_B == excerpt, :n]
        hit = (of_BT == np.asarray(truth_BT)[at_B == excerpt, :n]).all(axis=1).mean()
        sizes: Any = np.unique(of_BT, axis=0, return_counts=True)[1]
        count = len(of_BT)
        values.append(2 * hit - (sizes * (sizes - 1)).sum() / (count * (count - 1)))
    return np.array(values)
