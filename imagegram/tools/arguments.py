"""Command-line arguments of the tools: ``key=value`` words as in Hydra, and ordinary flags."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagegram.console import version_line
from imagegram.errors import ConfigError, did_you_mean
from imagegram.store.artifacts import ArtifactStore
from imagegram.words import text_of


def tool_parser(
    verb: str, document: str | None, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    """Return the parser of a tool, with ``--version`` and a help that keeps its lines.

    Args:
        verb: name of the tool.
        document: docstring of its module, or the beginning of it.
        epilog: shown below the arguments.
    """
    parser = argparse.ArgumentParser(
        f"python -m imagegram.tools.{verb}",
        description=document,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=version_line(), help="show the version of imagegram"
    )
    return parser


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, keys: Mapping[str, str]
) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parse flags and ``key=value`` words.

    Args:
        parser: with its flags; this adds the positional words and their help.
        argv: without the program's name; None: the command line.
        keys: allowed keys with their defaults.

    Raises:
        ConfigError: for an unknown key, or an empty value.
    """
    help_text = "; ".join(f"{key}={value or '...'}" for key, value in keys.items())
    parser.add_argument("words", nargs="*", metavar="key=value", help=help_text)
    flags = parser.parse_intermixed_args(argv)  # flags may stand between the words
    values = dict(keys)
    for word in flags.words:
        key, equals, value = word.partition("=")
        if not equals or key not in keys:
            raise ConfigError(f"{word!r} is not key=value of this tool; {did_you_mean(key, keys)}")
        if not (text := text_of(value)):
            raise ConfigError(f"{key}= is empty; type {key}=VALUE, or leave it out")
        values[key] = text
    return flags, values


def place(text: str) -> Path:
    """Return the path that an argument names; an empty one would mean the current folder.

    Raises:
        argparse.ArgumentTypeError: when it is empty.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a folder, or . for the current one")
    return Path(text)


def open_store(outputs: str) -> ArtifactStore:
    """Open the artifact store below an outputs folder.

    Raises:
        ConfigError: when there is none, naming the folder.
    """
    root = Path(outputs) / "artifacts"
    if not root.is_dir():
        raise ConfigError(
            f"no artifacts in {root.absolute()}; name another folder with paths.outputs=FOLDER, "
            "or make some: python -m imagegram.run"
        )
    return ArtifactStore(root=root)
