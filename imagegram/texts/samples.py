r"""Texts as JSON lines: one object a line, ``{"index": 0, "text": "..."}`` and what else is known.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder) / "texts.jsonl"
...     write_texts(path, ["two\nlines", "\u2028"])
...     path.read_text()[:36], read_texts(path)
('{"index": 0, "text": "two\\nlines"}\n{', ['two\nlines', '\u2028'])
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """Write a file of texts, numbered from 0."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        append_texts(stream, texts, first=0)


def append_texts(stream: TextIO, texts: Iterable[str], *, first: int) -> None:
    """Write texts behind those that a stream has, numbered from ``first``."""
    for index, text in enumerate(texts, start=first):
        # Escapes: some characters end a line for some readers, a surrogate has no bytes.
        stream.write(json.dumps({"index": index, "text": text}) + "\n")


def read_texts(path: Path) -> list[str]:
    """The texts of a file, in its order."""
    with path.open(encoding="utf-8", newline="\n") as stream:
        return [str(json.loads(line)["text"]) for line in stream]
