"""Kernels that a run will call are compiled by processes in the background, before it calls them.

    with compiled_early(forecast.kernels, workers=4):
        ...                                     # earlier stages run; later ones load machine code

Numba compiles one kernel at a time in a process, and a first run would wait half a minute for one
after the other. The types of arguments are the same in all runs, so they are known beforehand:
``kernel_forms.json`` lists what the demo calls (a test sees to that). A kernel that nobody listed
is compiled when it is called, as ever. A process that is still at work at the end is killed.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagegram.executors.lifetime import end_with_parent, signals_held

if TYPE_CHECKING:
    from imagegram.compiled import Kernel

#: Name of a kernel -> its forms: the types of its arguments, as :func:`write_type` writes them.
FORMS: Final = Path(__file__).with_name("kernel_forms.json")
#: What a process in the background runs; it searches for modules where this one does.
_CODE: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from imagegram.early_kernels import main; main(*sys.argv[2:])"
)
#: Processes at most: the largest kernel takes a third of the time of all, so more gain nothing.
_MOST: Final = 4


@contextmanager
def compiled_early(rooms: Sequence[str], *, workers: int) -> Iterator[None]:
    """Compile the listed kernels of some packages, those that are not kept, while the body runs.

    Args:
        rooms: packages or modules.
        workers: processes at most; with one core to use there are none.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        _start(rooms, workers, processes)
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def _start(rooms: Sequence[str], workers: int, processes: list[subprocess.Popen[bytes]]) -> None:
    """Start processes, if there is something to compile for them, and list them at once."""
    is_ours = multiprocessing.current_process().name == "MainProcess"  # not one of a launcher's
    if not rooms or workers < 2 or not is_ours:
        return
    from imagegram.kernel_cache import is_writable, opened_folder, say_compiling

    missing = missing_forms(rooms)
    folder = opened_folder()
    if not missing or not is_writable(folder):
        return
    count = min(workers, len(missing), _MOST)
    say_compiling(f"in the background, by {count} process{'es' if count > 1 else ''}")
    in_main = threading.current_thread() is threading.main_thread()
    words = [json.dumps(sys.path), str(os.getpid()), str(int(in_main)), ",".join(rooms)]
    with signals_held():  # they are left to this process, which kills the others
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, *words],
                env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # who calls the kernel shows the same error
            )
            processes.append(process)


def main(parent: str, by_kernel: str, rooms: str) -> None:
    """Compile, in a process of its own, the missing forms that no other process compiles."""
    end_with_parent(int(parent), by_kernel=by_kernel == "1")
    from numba.core.errors import NumbaError

    for kernel, types in missing_forms(rooms.split(",")):
        with suppress(NumbaError):  # the form is no more: who calls the kernel has another one
            kernel.compile_early(types)


def missing_forms(rooms: Sequence[str]) -> list[tuple[Kernel, tuple[Any, ...]]]:
    """Return the listed kernels of some packages whose machine code is not kept, large ones first.

    Large: calls many others. The last one to be finished should be a small one.
    """
    found = []
    for name, forms in json.loads(FORMS.read_text()).items():
        if not any(f"{name}.".startswith(f"{room}.") for room in rooms):
            continue
        try:
            kernel: Kernel = _named(name)
            read = [tuple(map(read_type, form)) for form in forms]
        except (AttributeError, ImportError):
            continue  # it was changed since: a test says that the list is old, and a run goes on
        for types in read:
            if not kernel.is_kept(types):
                found.append((kernel, types))
    return sorted(found, key=lambda item: -item[0].num_functions)


def _named(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def write_type(kind: Any) -> Any:
    """Return the type of an argument as JSON: a name, or the class and the types of a named tuple.

    >>> from numba import types
    >>> write_type(types.int64), write_type(types.Array(types.uint16, 2, "C", readonly=True))
    ('int64', 'readonly uint16[2]')
    """
    types = _types()
    if isinstance(kind, types.NamedTuple):
        cls = kind.instance_class
        return [f"{cls.__module__}.{cls.__qualname__}", *map(write_type, kind.types)]
    if isinstance(kind, types.Array):
        assert kind.layout == "C", kind
        return f"{'' if kind.mutable else 'readonly '}{kind.dtype}[{kind.ndim}]"
    return str(kind)


@cache
def _types() -> Any:
    """Numba's types; a run that finds everything cached never imports them."""
    from numba import types

    return types


def _scalar(name: str) -> Any:
    return getattr(_types(), "boolean" if name == "bool" else name)


def read_type(written: Any) -> Any:
    """Return the type that :func:`write_type` has written."""
    types = _types()
    if isinstance(written, list):
        return types.NamedTuple(tuple(map(read_type, written[1:])), _named(written[0]))
    if not written.endswith("]"):
        return _scalar(written)
    dtype, _, ndim = written.removeprefix("readonly ").removesuffix("]").partition("[")
    return types.Array(_scalar(dtype), int(ndim), "C", readonly=written.startswith("readonly "))
