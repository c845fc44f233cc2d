"""What can go wrong for a user, and how it is said.

Every message tells what was wrong, what was received, what is allowed and what to type next.
``assert`` is for invariants of our own; these classes are for everything a user can cause.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ImagegramError(Exception):
    """Base of every error that a user can cause and mend; shown without a traceback."""


class ConfigError(ImagegramError):
    """A configuration value that no experiment can have."""


class CorpusError(ImagegramError):
    """A corpus is missing, empty, changed under us, or fails more often than allowed."""


class Unreadable(ImagegramError):  # noqa: N818 - a verdict on an item, not a mistake
    """An item of a corpus that cannot be read whole; it is skipped and counted.

    Attributes:
        reason: why, in one word that is counted: ``empty_file``, ``truncated`` ...
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TokenError(ImagegramError):
    """Token ids outside the vocabulary, or a token stream that breaks its format."""


class IndexFormatError(ImagegramError):
    """An index folder that does not hold what the format promises."""


class UnsupportedError(ImagegramError):
    """An engine was asked for something that it does not do."""


class ArtifactError(ImagegramError):
    """An artifact on disk that cannot be believed."""


class StageError(ImagegramError):
    """A stage could not finish."""


class CapacityError(ImagegramError):
    """A run needs more disk or memory than there is; said before it begins."""


class UnforeseenError(ImagegramError, AttributeError):
    """A plan was asked for what only the finished artifact tells."""


class MissingDependencyError(ImagegramError):
    """An optional package is needed; the message holds the ``pip install`` line."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest allowed one, or all of them.

    >>> did_you_mean("pyramyd3", ["pyramid3", "flextok"])
    "did you mean 'pyramid3'? allowed: flextok, pyramid3"
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names)}"
