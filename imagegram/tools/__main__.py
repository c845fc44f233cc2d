"""List the tools, with a line each: ``python -m imagegram.tools``."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Final

from imagegram.console import version_line
from imagegram.errors import did_you_mean

#: Files of this folder that are no tools.
_OTHERS: Final = ("__init__", "__main__", "arguments", "networks")


def verbs() -> dict[str, str]:
    """Return the name of every tool and the first sentence of its module, without imports."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    documents = {path.stem: ast.get_docstring(ast.parse(path.read_text())) for path in files}
    return {
        name: (document or "").partition("\n\n")[0].replace("\n", " ")
        for name, document in documents.items()
        if name not in _OTHERS
    }


def main() -> int:
    """List the tools; return the exit status, 2 for a word that belongs to one of them."""
    words = sys.argv[1:]
    if "--version" in words:
        print(version_line())
        return 0
    if words and words[0] not in ("-h", "--help"):
        verb = words[0].partition("=")[0]
        typed = f"type python -m imagegram.tools.{verb} {' '.join(words[1:])}".rstrip()
        hint = typed if verb in verbs() else did_you_mean(verb, verbs())
        print(f"imagegram: {words[0]}: a tool is a module of its own; {hint}", file=sys.stderr)
        return 2
    print("usage: python -m imagegram.tools.VERB [KEY=VALUE ...]; VERB --help says more\n")
    for name, sentence in verbs().items():
        print(f"  {name:<16}{sentence}")
    print("\nAn experiment is python -m imagegram.run, or imagegram; --help says more.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
