r"""Names of files and members: which ones are hidden, and how any of them is shown.

>>> shown("caf\udce9.jpg"), shown("photo 1.jpg"), shown("a\\b\n")
('caf\\xe9.jpg', 'photo 1.jpg', 'a\\\\b\\n')
"""

from __future__ import annotations

import re
from typing import Final

IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")
TEXT_SUFFIXES: Final = (".txt", ".md")
#: Folders that macOS and Synology write copies and thumbnails of other files to.
_SYSTEM_FOLDERS: Final = frozenset(("__MACOSX", "@eaDir"))
_MAYBE_HIDDEN: Final = re.compile(r"(?:^|/)[.]|__MACOSX|@eaDir")
#: Characters that no terminal, CSV file or web page can hold, and the sign of their escapes.
_ESCAPED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff\u2028\u2029]")


def is_hidden(name: str) -> bool:
    """Tell whether a file, or a folder that it lies in, is hidden or one of the system's own.

    Args:
        name: relative path with ``/`` between its parts.

    >>> [is_hidden(name) for name in ("a/.thumbnails/1.jpg", "__MACOSX/._1.jpg", "./a..b/1.jpg")]
    [True, True, False]
    """
    if not _MAYBE_HIDDEN.search(name):  # as almost always
        return False
    return any(
        (part.startswith(".") and part not in (".", "..")) or part in _SYSTEM_FOLDERS
        for part in name.split("/")
    )


def shown(name: str) -> str:
    r"""Return a name in characters that can be written everywhere; different names stay different.

    Bytes that are not UTF-8 become ``\xe9``; control characters and backslashes are escaped too.
    """
    return _ESCAPED.sub(_escape, name)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code >= 0x80 else match[0].encode("unicode_escape").decode()
