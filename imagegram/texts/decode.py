r"""Bytes to text, with stable refusals.

A document that cannot be read whole is refused with a short reason that the tokenize stage counts;
it is never repaired: a replaced character would be a token that nobody wrote.

>>> decode_text(b"\xef\xbb\xbfTwo\r\nlines"), decode_text("é".encode())
('Two\nlines', 'é')
>>> decode_text("é".encode("latin-1"))
Traceback (most recent call last):
    ...
imagegram.texts.decode.UnreadableText: not_utf8
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from imagegram.errors import Unreadable

#: Most bytes of one document: a book has one million, so what is larger is no document.
MAX_BYTES: Final = 1 << 28
#: UTF-8 has no bytes for them; writers that use some all the same write these.
_SURROGATES: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class UnreadableText(Unreadable):
    """A document that is no text.

    Reasons are ``empty_file``, ``blank`` (nothing but white space), ``too_large``, ``binary`` (it
    holds a NUL), ``lone_surrogate`` (half a character of UTF-16) and ``not_utf8``.
    """


def decode_text(data: bytes, *, max_bytes: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file, without byte order mark, with line feeds as line ends.

    Nothing else is changed: what looks alike keeps its own characters.

    Args:
        data: the file.
        max_bytes: larger files are refused.

    Raises:
        UnreadableText: with its reason; see the class.
    """
    if not data:
        raise UnreadableText("empty_file")
    if len(data) > max_bytes:
        raise UnreadableText("too_large")
    if b"\0" in data:
        raise UnreadableText("not_utf8" if data.startswith(_UTF16) else "binary")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        halved = _SURROGATES.search(data)
        raise UnreadableText("lone_surrogate" if halved else "not_utf8") from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise UnreadableText("blank")
    return text
