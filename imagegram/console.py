"""What the commands say of themselves: the version, and the groups that ``--help`` lists."""

from __future__ import annotations

import importlib.metadata
import platform
import textwrap
from pathlib import Path
from typing import Any, Final

import yaml

import imagegram

#: What the groups of the configuration are, in the order in which ``--help`` lists them.
GROUPS: Final = {
    "modality": "what a run is on: brings a corpus and a tokenizer",
    "corpus": "what is indexed, and copied from",
    "tokenizer": "images or texts to tokens and back",
    "generator": "what writes tokens",
    "sampler": "how it chooses them",
    "condition": "what samples are asked to be",
    "auditor": "a tokenizer that reads what was written, too",
    "decoder": "what writes the sentences of codes",
    "metric": "what is measured: metric=[copying,kernel]",
    "encoder": "features of images, for distances",
    "trainer": "where training runs",
    "index": "how training tokens are indexed",
    "logger": "where curves and scores go, besides plain files",
    "callback": "what watches a run",
    "experiment": "experiments on record, with their sweeps",
    "debug": "any experiment, small",
    "launcher": "where the jobs of a multirun (-m) go",
    "executor": "where shards are worked on",
    "runtime": "processes, memory, progress bars",
    "paths": "where to read and write",
}
_WIDTH: Final = 96
_INDENT: Final = 15


def version_line() -> str:
    """Return the version of the package, of what it depends on most, and where it lies."""
    others = ", ".join(f"{name} {_version(name)}" for name in ("torch", "hydra-core", "numba"))
    place = Path(imagegram.__file__).parent
    python = platform.python_version()
    return f"imagegram {imagegram.__version__} (Python {python}, {others}; {place})"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def describe_groups(conf: Path) -> str:
    """Return the groups of the configuration with their choices, as lines; ``*`` marks defaults.

    Args:
        conf: folder of the configuration.
    """
    chosen = _defaults(conf)
    lines = []
    for group, meaning in GROUPS.items():
        names = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        shown = " ".join(f"{name}*" if name in chosen.get(group, ()) else name for name in names)
        text = textwrap.fill(
            f"{shown}  ({meaning})",
            width=_WIDTH,
            initial_indent=f"  {group:<{_INDENT - 2}}",
            subsequent_indent=" " * _INDENT,
            break_long_words=False,
        )
        lines.append(text)
    return "\n".join(lines)


def _defaults(conf: Path) -> dict[str, list[Any]]:
    """Return the default choices of every group."""
    entries = yaml.safe_load((conf / "config.yaml").read_text())["defaults"]
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    return {group: value if isinstance(value, list) else [value] for group, value in pairs}
