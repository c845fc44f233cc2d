"""What to do about records that cannot be read, by the reason that they are counted under."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from imagegram.store.file_kinds import PAGE, POINTER

#: Files that are not part of a corpus; they are counted, and no failures.
HIDDEN: Final = "hidden"
_AGAIN: Final = "get the file again (tools.download continues what was cut)"
_MENDS: Final = {
    "truncated_tar": f"the tar ends early: {_AGAIN}",
    "corrupt_tar": f"the tar is damaged: {_AGAIN}",
    "truncated_lines": f"the last line is cut: {_AGAIN}",
    "corrupt_gzip": f"what gzip compressed is damaged: {_AGAIN}",
    "malformed_json": "a line holds one whole JSON object, and no line breaks but \\n inside it",
    "no_text": "name the field that holds the texts: corpus.text=NAME",
    "not_utf8": "write them as UTF-8: iconv -f LATIN1 -t UTF-8 FILE > NEW (or from UTF-16 ...)",
    "not_exact": "the tokenizer changes these texts (case, white space, unknown words ...): give "
    "another one, or keep what it makes of them: tokenizer.exact=false",
    "lone_surrogate": "write them as UTF-8, with whole characters",
    POINTER.name: f"they are Git LFS pointers: {POINTER.mend}",
    PAGE.name: f"they are web pages: {PAGE.mend}",
    "unsupported_format": "convert them to JPEG, PNG or WebP",
}


def mends(reasons: Iterable[str], path: Path) -> list[str]:
    """Return what to do about failures, in sentences.

    Args:
        reasons: that records failed for.
        path: of their shard.
    """
    found = []
    for reason in reasons:
        if reason == "interleaved_keys":
            found.append(f"the members of a sample must follow each other: {sort_command(path)}")
        elif reason in _MENDS:
            found.append(_MENDS[reason])
    return found


def sort_command(path: Path) -> str:
    """Return the command that writes a sorted copy of a tar into the folder it is typed in.

    >>> sort_command(Path("DATA/0.tar"))
    'mkdir sorted && tar -xf DATA/0.tar -C sorted && tar --sort=name -cf 0-sorted.tar -C sorted .'
    """
    name = path.name.partition(".")[0] + "-sorted.tar"
    source, target = shlex.quote(str(path)), shlex.quote(name)
    return f"mkdir sorted && tar -xf {source} -C sorted && tar --sort=name -cf {target} -C sorted ."
