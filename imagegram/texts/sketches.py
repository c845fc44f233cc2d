"""MinHash sketches: texts that share most of their phrases have mostly equal sketches.

A sketch has 128 values; each is the smallest hash, under a hash function of its own, of the text's
phrases of five words. Two texts agree in a value as often as a phrase of both is a phrase of both:
the share of equal values estimates the Jaccard similarity of their sets of phrases to about 0.04.

>>> a = "one two three four five six seven eight nine ten"
>>> sketches = sketch_texts([a, a.upper() + "!", "nothing of the kind is said in here at all"])
>>> similarity(sketches[0], sketches).tolist()
[1.0, 1.0, 0.0]
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Sketches = NDArray[np.uint32]

NUM_VALUES: Final = 128
#: Words of a phrase.
PHRASE_WORDS: Final = 5
_WORD: Final = re.compile(r"\w+")
#: Hashes that are held at a time: 4 MB.
_BLOCK: Final = 1 << 12
_WORD_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio, odd


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64: every bit of the result depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


#: One hash function a value: h(x) = (a x + b) >> 32 with a odd.
_FACTORS: Final = _mixed(np.arange(1, NUM_VALUES + 1, dtype=np.uint64))[:, None] | np.uint64(1)
_OFFSETS: Final = _mixed(np.arange(1001, 1001 + NUM_VALUES, dtype=np.uint64))[:, None]


def sketch_texts(texts: Sequence[str]) -> Sketches:
    """(N, 128) uint32 sketches of N texts; case and punctuation do not matter."""
    sketches = np.empty((len(texts), NUM_VALUES), dtype=np.uint32)
    for sketch, text in zip(sketches, texts, strict=True):
        sketch[:] = _sketch(_phrases(text))
    return sketches


def _phrases(text: str) -> NDArray[np.uint64]:
    """(P,) hashes of the distinct phrases; a shorter text is one phrase, one without words too."""
    words = _WORD.findall(text.casefold()) or [text.strip()]
    codes = np.array(
        [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words], dtype=np.uint64
    )
    length = min(PHRASE_WORDS, len(codes))
    phrases = np.zeros(len(codes) - length + 1, dtype=np.uint64)
    for start in range(length):
        phrases = _mixed(phrases * _WORD_FACTOR + codes[start : start + len(phrases)])
    return np.unique(phrases)


def _sketch(phrases: NDArray[np.uint64]) -> Sketches:
    smallest = np.full(NUM_VALUES, np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(phrases), _BLOCK):
        hashes = phrases[start : start + _BLOCK] * _FACTORS + _OFFSETS
        np.minimum(smallest, hashes.min(axis=1), out=smallest)
    return (smallest >> np.uint64(32)).astype(np.uint32)


def similarity(sketch: Sketches, sketches: Sketches) -> NDArray[np.float64]:
    """(N,) share of equal values of one (128,) sketch and N others."""
    return np.asarray((sketches == sketch).mean(axis=1))


def num_equal(least: float) -> int:
    """Equal values that a similarity of ``least`` asks for, at least one.

    >>> num_equal(0.8), num_equal(0.0)
    (103, 1)
    """
    return max(int(np.ceil(least * NUM_VALUES - 1e-9)), 1)


def bands(least: float) -> Iterator[slice]:
    """Stretches of a sketch of which similar ones agree in at least one whole stretch.

    They may differ in ``d = 128 - num_equal(least)`` values, which lie in at most d stretches: with
    d + 1 of them no pair is missed.

    >>> len(list(bands(0.8))), next(bands(0.8))
    (32, slice(0, 4, None))
    """
    width = max(NUM_VALUES // (NUM_VALUES - num_equal(least) + 1), 1)
    for start in range(0, NUM_VALUES - width + 1, width):
        yield slice(start, start + width)
