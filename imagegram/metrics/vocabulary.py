"""``distinct_<n>``, ``legal_words``: whether texts say different things, in words that there are.

Words are runs of letters and digits, in lower case. The first and the last word of a text do not
count: a window of a document cuts words in two.

>>> inner_words("ning. The wolf's den was dar")
['the', 'wolf', 's', 'den', 'was']
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from imagegram.errors import ConfigError, UnsupportedError
from imagegram.intervals import ratio_over_images
from imagegram.metrics.features import undefined
from imagegram.metrics.training_texts import training_texts
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo
from imagegram.store.fingerprint import canonical_json, identity

_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class VocabularyMetric:
    """Metric of words and of their runs.

    ``legal_words``: share of the words of all texts that a training document has too, with an
    interval over texts; made-up words lower it. ``distinct_<n>``: different runs of n words by all
    runs of n words in the texts of a set, each run inside one text (Li et al., "A
    diversity-promoting objective function for neural conversation models", NAACL 2016); texts that
    repeat themselves or each other lower it, and so do more texts.

    Attributes:
        name: name of this metric in the configuration.
        shown_n: n of the runs.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"text"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="legal_words",
            title="words of the corpus",
            words="Words that a training document has too. Lower: made-up words.",
            unit="% of words",
            better="higher",
            group="quality",
            rank=3,
            short="legal_words",
        ),
        ScoreInfo(
            name="distinct_{n:d}",
            title="different runs of {n} words",
            words="Different runs of {n} words by all of them in the samples. Lower: the samples "
            "repeat themselves.",
            unit="% of runs",
            better="higher",
            group="quality",
            moves_with_n=True,
        ),
    )

    name: str = "vocabulary"
    shown_n: tuple[int, ...] = (1, 2, 3)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown_n", tuple(self.shown_n))
        if any(n < 1 for n in self.shown_n):
            raise ConfigError(
                f"metric.{self.name}.shown_n={list(self.shown_n)} must list numbers of words of at "
                f"least 1; type metric.{self.name}.shown_n=[1,2,3]"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one set of texts; the training texts are read once for all sets."""
        texts = [inner_words(text) for text in generated.texts]
        scalars = {"legal_words": undefined("no text has a whole word")}
        if any(texts):
            legal = lexicon_of(reference).known(set().union(*texts))
            parts = np.array([sum(word in legal for word in words) for words in texts], np.float64)
            wholes = np.array([len(words) for words in texts], np.float64)
            scalars["legal_words"] = ratio_over_images(
                parts, wholes, seed=reference.seed, documents=generated.row_documents
            )
        for n in self.shown_n:
            scalars[f"distinct_{n}"] = distinct(texts, n)
        return Measurement(scalars=scalars, curves={})


def inner_words(text: str) -> list[str]:
    """Return the words of a text but the first and the last."""
    return _WORD.findall(text.casefold())[1:-1]


class Lexicon:
    """The words of texts, which are read no further than what is asked for, and once.

    >>> texts = iter(["A wolf.", "A lamb."])
    >>> lexicon = Lexicon(texts)
    >>> sorted(lexicon.known({"wolf", "a"})), next(texts)
    (['a', 'wolf'], 'A lamb.')
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = iter(texts)
        self._words: set[str] = set()
        self._reading = threading.Lock()

    def known(self, words: set[str]) -> set[str]:
        """Return those of some words that occur in the texts."""
        with self._reading:
            missing = words - self._words
            while missing and (text := next(self._texts, None)) is not None:
                found = _WORD.findall(text.casefold())
                self._words.update(found)
                missing.difference_update(found)
        return words - missing


#: Key of the corpus that was asked for last, and its words: all sets of a run are of one corpus.
_last: list[tuple[bytes, Lexicon]] = []


def lexicon_of(reference: Reference) -> Lexicon:
    """Return the words of the training texts; memory is that of the different words of one corpus.

    A corpus in memory, which has no identity, is read again for every set.
    """
    try:
        corpus = reference.index.identity()
    except UnsupportedError:
        return Lexicon(training_texts(reference))
    key = canonical_json([corpus, identity(reference.tokenizer)])
    if not _last or _last[0][0] != key:
        _last[:] = [(key, Lexicon(training_texts(reference)))]
    return _last[0][1]


def distinct(texts: Sequence[Sequence[str]], n: int) -> Measured:
    """Return the share of different runs among all runs of n words.

    >>> distinct([["a", "b", "a", "b"], ["a", "b"]], 2).value
    0.5
    """
    runs = [tuple(words[at : at + n]) for words in texts for at in range(len(words) - n + 1)]
    if not runs:
        return undefined(f"no text has {n} whole words in a row")
    return Measured(value=len(set(runs)) / len(runs))
