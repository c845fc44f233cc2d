r"""Texts as sentences that join to the text: nothing is dropped, cleaned or moved.

White space behind a sentence is part of it, and white space before the first one part of that.

>>> split_sentences("Mr. Fox ran. \n\nThe hen sat.")
['Mr. Fox ran. \n\n', 'The hen sat.']
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

from imagegram.errors import ConfigError, MissingDependencyError, did_you_mean

#: Packages that find the ends of sentences; the first is a hundred times as fast.
SPLITTERS: Final = ("nupunkt", "pysbd")
_PARAGRAPH: Final = re.compile(r"\n\s*\n")
_VISIBLE: Final = re.compile(r"\S")
#: Characters up to which a text is split as a whole; a longer one in pieces, in bounded memory.
_WHOLE: Final = 1 << 20


def split_sentences(text: str, *, splitter: str = "nupunkt") -> list[str]:
    """Return the sentences of a text, in order; joined they are the text.

    Args:
        text: any text; an empty one has no sentence.
        splitter: one of :data:`SPLITTERS`.

    Raises:
        ConfigError: for another splitter.
        MissingDependencyError: when its package is not installed.
    """
    return [text[start:stop] for start, stop in sentence_spans(text, splitter=splitter)]


def sentence_spans(text: str, *, splitter: str = "nupunkt") -> list[tuple[int, int]]:
    """Return the first character and the end of each sentence; the spans cover the text.

    Args:
        text: any text.
        splitter: one of :data:`SPLITTERS`.

    >>> sentence_spans(" One. Two.")
    [(0, 6), (6, 10)]
    """
    require_splitter(splitter)
    starts = _nupunkt_starts if splitter == "nupunkt" else _pysbd_starts
    return list(_covering(text, _in_pieces(text, starts)))


def require_splitter(splitter: str) -> None:
    """Refuse an unknown splitter, and one whose package is not installed.

    Raises:
        ConfigError, MissingDependencyError: saying what to type.
    """
    if splitter not in SPLITTERS:
        raise ConfigError(
            f"tokenizer.splitter={splitter} is unknown; {did_you_mean(splitter, SPLITTERS)}"
        )
    if find_spec(splitter) is None:
        raise MissingDependencyError(
            f"sentences are found by the package {splitter}, which is not installed; type "
            "pip install 'imagegram[sentences]'"
        )


def _covering(text: str, starts: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Return spans that cover a text, each with the white space behind it."""
    indent = len(text) - len(text.lstrip())
    begins = {_past_space(text, start) for start in starts}
    bounds = [0, *sorted(begin for begin in begins if indent < begin < len(text)), len(text)]
    return itertools.pairwise(bounds) if text else iter(())


def _past_space(text: str, start: int) -> int:
    """Return the first place from ``start`` on that is no white space."""
    found = _VISIBLE.search(text, start)
    return found.start() if found else len(text)


def _in_pieces(text: str, starts: Callable[[str], Iterable[int]]) -> Iterator[int]:
    """Yield where sentences begin; a long text is cut behind a line, else where it must be."""
    first = 0
    while first < len(text):
        end = len(text)
        if end - first > _WHOLE:
            line = text.rfind("\n", first, first + _WHOLE)
            end = first + _WHOLE if line <= first else line + 1
        yield from (first + start for start in starts(text[first:end]))
        first = end


def _nupunkt_starts(text: str) -> Iterator[int]:
    from nupunkt import sent_spans

    yield from (start for start, _ in sent_spans(text))


def _pysbd_starts(text: str) -> Iterator[int]:
    """Yield the starts by pysbd, paragraph by paragraph: its time grows faster than a text."""
    first = 0
    for end in [*(match.end() for match in _PARAGRAPH.finditer(text)), len(text)]:
        spans = _segmenter().segment(text[first:end])
        yield from (first + int(span.start) for span in spans)
        first = end


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    from pysbd import Segmenter

    return Segmenter(language="en", clean=False, char_span=True)
