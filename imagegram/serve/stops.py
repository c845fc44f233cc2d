"""Where a text stops: behind so many whole sentences.

>>> end_of_sentences("Once. Upon a", 0, 1, ended=False), end_of_sentences("Once", 0, 1, ended=False)
(5, None)
"""

from __future__ import annotations

from imagegram.texts.sentences import sentence_spans


def end_of_sentences(text: str, after: int, count: int, *, ended: bool) -> int | None:
    """Return the end of the ``count``-th sentence that ends behind a place.

    The first of them may be the rest of a sentence that began before.

    Args:
        text: all that was given and written.
        after: character.
        count: at least 1.
        ended: whether the text is whole, so that its last sentence is.

    Returns:
        Characters up to that end, white space behind it left out; None: there are fewer.

    Raises:
        MissingDependencyError: without the package that finds sentences.
    """
    ends = [end for _, end in sentence_spans(text) if len(text[:end].rstrip()) > after]
    if not ended:  # nothing says that the last one is over
        ends = ends[:-1]
    return len(text[: ends[count - 1]].rstrip()) if len(ends) >= count else None
