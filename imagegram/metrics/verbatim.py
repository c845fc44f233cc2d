"""``longest_run_<unit>``, ``verbatim_rate_<n>``: the longest stretch of a text that is copied.

A run is a stretch of a text whose tokens stand side by side in one training document. How long it
is depends on the tokenizer, so it is also counted in characters and in whole words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.intervals import mean_over_images, rate_over_images
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measurement, ScoreInfo

UNITS: Final = ("tokens", "characters", "words")
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class VerbatimMetric:
    """Metric of the longest verbatim run of each text.

    ``longest_run_tokens``, ``longest_run_characters``, ``longest_run_words``: mean over texts, each
    of the run that is longest in this unit; a word counts where all of it lies in the run.
    ``verbatim_rate_<n>``: share of texts with a run of n tokens and more (Carlini et al.,
    "Quantifying memorization across neural language models", ICLR 2023, ask for 50).

    Attributes:
        name: name of this metric in the configuration.
        run_tokens: n.
    """

    VERSION: ClassVar[int] = 1
    SECONDS: ClassVar[float] = 1.0e-3
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "text", "matches"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="verbatim_rate_{n:d}",
            title="runs of {n} tokens",
            words="Samples with {n} tokens in a row that a training document has too. Higher: more "
            "copying.",
            unit="% of samples",
            better="lower",
            group="copying",
            short="verbatim_rate",
            per_image=("verbatim",),
        ),
        *(
            ScoreInfo(
                name=f"longest_run_{unit}",
                title=f"longest copied run, {unit}",
                words=f"Most {unit} in a row that a training document has too. Longer: more "
                "copying.",
                unit=unit,
                better="lower",
                group="copying",
                rank=3 if unit == "tokens" else 0,
                short="longest_run" if unit == "tokens" else "",
                headline=4 if unit == "tokens" else 0,
                per_image=(f"longest_run_{unit}",),
            )
            for unit in UNITS
        ),
    )

    name: str = "verbatim"
    run_tokens: int = 50

    def __post_init__(self) -> None:
        if self.run_tokens < 1:
            raise ConfigError(
                f"metric.{self.name}.run_tokens is {self.run_tokens}; use 1 or more, for example "
                f"metric.{self.name}.run_tokens=50"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one set of texts against the index."""
        tokens_BT = np.asarray(generated.tokens)
        lengths_BT = reference.match_lengths(generated)
        longest = np.array(
            [
                longest_runs(lengths_T, reference.offsets(tokens_T), text)
                for lengths_T, tokens_T, text in zip(
                    lengths_BT, tokens_BT, generated.texts, strict=True
                )
            ],
            dtype=np.float64,
        )
        verbatim = longest[:, 0] >= self.run_tokens
        documents = generated.row_documents
        rate = rate_over_images(verbatim, documents=documents)
        curves = {"verbatim": verbatim.astype(np.float64)}
        scalars = {f"verbatim_rate_{self.run_tokens}": rate}
        for unit, values in zip(UNITS, longest.T, strict=True):
            scalars[f"longest_run_{unit}"] = mean_over_images(
                values, seed=reference.seed, documents=documents
            )
            curves[f"longest_run_{unit}"] = values
        return Measurement(scalars=scalars, curves=curves)


def longest_runs(
    lengths_T: NDArray[np.integer[Any]], offsets: NDArray[np.int64], text: str
) -> tuple[int, int, int]:
    """Return the most tokens, characters and whole words of a copied run.

    Args:
        lengths_T: tokens of the longest match that begins at each token, 0 in padding.
        offsets: (T + 1,) number of characters before each token, and of all.
        text: the text.

    >>> longest_runs(np.array([3, 2, 1, 2, 1]), np.array([0, 1, 2, 3, 8, 9]), "a b whole ")
    (3, 6, 2)
    """
    starts = np.arange(len(lengths_T))
    ends = starts + lengths_T
    first, last = offsets[starts], offsets[ends]
    words = [word.span() for word in _WORD.finditer(text)]
    begins, stops = np.array(words, dtype=np.int64).reshape(-1, 2).T
    inside = np.searchsorted(stops, last, side="right") - np.searchsorted(begins, first)
    return (
        int(lengths_T.max(initial=0)),
        int((last - first).max(initial=0)),
        int(inside.max(initial=0)),
    )
