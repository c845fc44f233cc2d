"""What can go wrong for a user, and how it is said.

Every message tells what was wrong, what was received, what is allowed and what to type next.
``assert`` is for invariants of our own; these classes are for everything a user can cause.
"""

from __future__ import annotations

import difflib
import errno
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final


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


#: Reasons of skips behind which any number of further records may be missing.
UNKNOWN_LOSS: Final = ("truncated_tar", "corrupt_tar", "truncated_lines", "corrupt_gzip")


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


def require_bounds(
    fields: object,
    bounds: Mapping[str, tuple[float, float]],
    *,
    prefix: str,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Refuse numbers that lie outside their bounds; NaN lies outside all.

    Args:
        fields: what has the numbers, as attributes.
        bounds: smallest and largest value of each.
        prefix: how they are written on the command line: ``tokenizer.optimization.``.
        notes: what is said behind the bounds of some.

    Raises:
        ConfigError: with the first such field and its bounds.
    """
    for name, (low, high) in bounds.items():
        value = getattr(fields, name)
        if not low <= value <= high:
            note = (notes or {}).get(name, "")
            raise ConfigError(f"{prefix}{name}={value} must lie in {low} ... {high}{note}")


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest allowed one, or all of them.

    >>> did_you_mean("pyramyd3", ["pyramid3", "flextok"])
    "did you mean 'pyramid3'? allowed: flextok, pyramid3"
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names)}"


_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_FILES: Final = (errno.EMFILE, errno.ENFILE)
_NOT_OURS: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
_DEVICE: Final = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO)
#: Errors of the system that a user can mend; others are defects of imagegram: keep the traceback.
OF_THE_SYSTEM: Final = (
    *_NO_SPACE,
    *_NO_FILES,
    *_NOT_OURS,
    *_DEVICE,
    errno.ENOMEM,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


def explain_os_error(error: OSError, *, outputs: Path) -> str:
    """Return what the system refused, and the remedy for just that.

    Args:
        error: of a read or a write; without a file name it is taken for one in ``outputs``.
        outputs: folder of everything that a run writes.

    >>> full = OSError(errno.ENOSPC, "No space left on device", "/out/a")
    >>> explain_os_error(full, outputs=Path("/out"))
    '/out/a: No space left on device; free space, or give another folder: paths.outputs=FOLDER'
    """
    name = error.filename if isinstance(error.filename, str) else outputs
    return f"{name}: {error.strerror or error}; {remedy(error, outputs=outputs)}"


def remedy(error: OSError, *, outputs: Path | None = None, setting: str = "paths.outputs") -> str:
    """Return what to do about an error of the system.

    Args:
        error: of a read or a write.
        outputs: folder that is written to; None: the file is one that is read.
        setting: key of the configuration that names that folder.

    >>> remedy(OSError(errno.EACCES, "Permission denied", "/photos/a.jpg"))
    'make it readable for you: chmod -R u+rX /photos/a.jpg, or take it out of the folder'
    """
    name = error.filename if isinstance(error.filename, str) else outputs
    own = outputs is not None and Path(name or outputs).absolute().is_relative_to(
        outputs.absolute()
    )
    elsewhere = f"give another folder: {setting}=FOLDER"
    readable = f"make it readable for you: chmod -R u+rX {shlex.quote(str(name))}"
    kinds: dict[tuple[int, ...], str] = {
        _NO_FILES: "too many files are open at once: raise the limit of this shell with: ulimit "
        "-n 8192, or use fewer processes: runtime.workers=1",
        _NO_SPACE: f"free space, or {elsewhere}" if own else "free space on that disk",
        _NOT_OURS: elsewhere if own else f"{readable}, or take it out of the folder",
        _DEVICE: "a disk or a network drive fails: see that it is there, then run again",
        (errno.ENOMEM,): "use less memory: runtime.workers=1, or a smaller runtime.memory_gb",
        (errno.ENOENT,): "put it back, or run again for what is there",
    }
    for numbers, text in kinds.items():
        if error.errno in numbers:
            return text
    return elsewhere if own else "mend that, then run the same command again"
