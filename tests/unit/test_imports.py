"""Imports go down: the rooms of the package lie in one order, and no file imports in a circle.

The imports are read from the source, those inside functions and under ``TYPE_CHECKING`` too: an
import that is hidden from the interpreter still ties two files together.
"""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

import imagegram

PACKAGE = Path(imagegram.__file__).parent

#: Rooms from the lowest up; a file may import from its own room and from those below it.
ROOMS = (
    "errors",
    "numerals",
    "records",
    "kernel_cache",
    "compiled",
    "seeding",
    "store",
    "layout",
    "protocols",
    "executors",
    "intervals",
    "early_kernels",
    "loggers",
    "console",
    "schema",
    "words",
    "images",
    "texts",
    "corpora",
    "models",
    "conditions",
    "samplers",
    "encoders",
    "stages",
    "training",
    "indexes",
    "generators",
    "metrics",
    "tokenizers",
    "report",
    "callbacks",
    "sweeps",
    "experiment",
    "serve",
    "finished_run",
    "notebook",
    "run_folder",
    "claims",
    "plan",
    "run",
    "audit",
    "tools",
)
FLOOR = {room: floor for floor, room in enumerate(ROOMS)}


def module_name(path: Path) -> str:
    parts = ("imagegram", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(name: str) -> set[str]:
    """Modules of the package that a module imports, wherever in its source."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {near for full in found if (near := nearest(full)) and near != name}


def nearest(full: str) -> str:
    """The module that a dotted name lies in; empty for those of other packages."""
    while full not in MODULES:
        full = full.rpartition(".")[0]
        if not full:
            return ""
    return full


GRAPH = {name: imported_modules(name) for name in MODULES}


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def test_no_file_imports_in_a_circle() -> None:
    graphlib.TopologicalSorter(GRAPH).prepare()  # raises, naming the circle


def test_every_room_has_its_floor() -> None:
    assert {room_of(name) for name in MODULES} - {""} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room: str) -> None:
    upward = [
        f"{name} -> {target}"
        for name, targets in GRAPH.items()
        for target in sorted(targets)
        if room_of(name) == room and room_of(target) and FLOOR[room_of(target)] > FLOOR[room]
    ]
    assert not upward
