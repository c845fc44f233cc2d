"""Prose of docstrings: paragraphs that a person can read, from sources that are never imported.

>>> source = '''
... def area(radius):
...     \"\"\"Return the area of a circle with the given radius, in the square of its unit.
...
...     Parameters
...     ----------
...     radius : float
...         It must not be negative; see :func:`~shapes.check` for what is done otherwise.
...
...     >>> area(1)
...     \"\"\"
... '''
>>> list(paragraphs(source))
['Return the area of a circle with the given radius, in the square of its unit.']
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

#: A shorter paragraph is a heading or a fragment.
_MIN_CHARACTERS: Final = 60
#: Share of letters and spaces; formulas and tables have fewer.
_MIN_LETTERS: Final = 0.85
#: Lines that are no prose: examples, directives, tables, lists, fields.
_MARKED: Final = re.compile(r"(>>>|\.\.|\||\+[-=]|[*-] |:|\d+\. |[-=~^#*\"'`]{3,}\s*$)")
_SENTENCE: Final = re.compile(r"[A-Za-z].*[.!?:][\"')\]]*$", re.DOTALL)
#: Markup of reStructuredText, to what a reader sees of it.
_MARKUP: Final = (
    (re.compile(r"(?::[\w-]+)+:`[~!]?([^`<]+?)(?: ?<[^>`]*>)?`"), r"\1"),
    (re.compile(r"`([^`<]+) <[^>`]*>`_*"), r"\1"),
    (re.compile(r" ?\[[\w#*]+\]_"), ""),
    (re.compile(r"``?"), ""),
    (re.compile(r"::$"), ":"),
    (re.compile(r"\\([*`\\_])"), r"\1"),
)


def paragraphs(source: str | bytes) -> Iterator[str]:
    """Yield the paragraphs of prose in the docstrings of a module, its classes and its functions.

    Raises:
        SyntaxError, ValueError: when it is no Python of this version.
    """
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for block in re.split(r"\n[ \t]*\n", ast.get_docstring(node) or ""):
                if paragraph := _prose(block.expandtabs().strip("\n").splitlines()):
                    yield paragraph
        # Statements alone: most of a tree are expressions, which define nothing.
        inner = (getattr(node, part, ()) for part in ("finalbody", "orelse", "handlers", "body"))
        for statements in inner:
            if isinstance(statements, list):
                pending.extend(reversed(statements))


def _prose(lines: list[str]) -> str | None:
    """Return the lines as one, if they are sentences of one indentation."""
    stripped = [line.strip() for line in lines]
    if len({len(line) - len(line.lstrip()) for line in lines}) != 1:
        return None
    if any(_MARKED.match(line) for line in stripped):
        return None
    text = " ".join(stripped)
    for pattern, shown in _MARKUP:
        text = pattern.sub(shown, text)
    letters = sum(character.isalpha() or character == " " for character in text)
    if len(text) < _MIN_CHARACTERS or letters < _MIN_LETTERS * len(text):
        return None
    return text if _SENTENCE.match(text) else None
