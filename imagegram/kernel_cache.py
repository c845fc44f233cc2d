"""Machine code of kernels on disk, by kernel, under a hash of all that was compiled.

That is the kernel, what it calls and the constants that it reads. Comments, docstrings and other
kernels do not count. (Numba's own cache follows the file of a kernel, every byte of it, and nothing
that the kernel calls in other files.) The folder is ``$XDG_CACHE_HOME/imagegram/kernels``, or
``NUMBA_CACHE_DIR``; where that cannot be written, a private one among the temporary files.
"""

from __future__ import annotations

import hashlib
import inspect
import multiprocessing
import os
import pickle
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, ClassVar, Final

import llvmlite  # type: ignore[import-untyped]
import numba
import numpy as np
from filelock import FileLock, Timeout
from numba import types
from numba.core import caching
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

_VERSIONS: Final = f"numba {numba.__version__} llvmlite {llvmlite.__version__} {np.__version__}"
_INTRINSIC: Final = type(intrinsic(lambda typingctx: None))
_SCALARS: Final = (int, float, complex, str, bytes, type(None), type(...), np.generic, np.dtype)
#: Of the flags of a function: ``*args``, ``**kwargs``. Others differ under a profiler.
_FLAGS: Final = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
#: What a damaged file, or one that names a class which is gone, raises when it is read.
_DAMAGED: Final = (
    OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError, KeyError,
    TypeError, ValueError,
)  # fmt: skip
#: What a file system without locks, or one that cannot be written, answers to who wants one.
_NO_LOCKS: Final = (OSError, NotImplementedError)
#: Seconds between two looks at a lock.
_LOOK_S: Final = 0.02
#: Seconds that the machine code of another version of a kernel is kept: branches come back.
_KEPT_S: Final = 30 * 24 * 3600


def cache_folder() -> Path:
    """Return the folder of all machine code; a private temporary one where it cannot be written."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(named)
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # nobody knows the home of this user
        return _private_folder() / "kernels"
    folder = base / "imagegram" / "kernels"
    return folder if is_writable(folder) else _private_folder() / "kernels"


def is_writable(folder: Path) -> bool:
    """Return whether files can be written into a folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private_folder() -> Path:
    """Return a temporary folder that no other user can write: what lies in it is run."""
    shared = Path(tempfile.gettempdir()) / f"imagegram-{os.getuid()}"
    shared.mkdir(mode=0o700, exist_ok=True)
    status = shared.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if is_ours and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return shared
    return Path(tempfile.mkdtemp(prefix="imagegram-"))


@cache
def opened_folder() -> Path:
    """Return the folder that this process uses."""
    return cache_folder()


class KernelCache(caching._Cache):  # type: ignore[misc]
    """Files of one kernel, opened when it is called: all that it calls is defined by then."""

    def __init__(self, py_func: Any, options: Any) -> None:
        self._py_func, self._options = py_func, options

    @cached_property
    def _files(self) -> Any:
        return _Files(self._py_func, source_hash(self._py_func, self._options))

    @property
    def cache_path(self) -> Any:
        """Folder of the files."""
        return self._files.cache_path

    def keeps(self, sig: Any, target_context: Any) -> bool:
        """Return whether there is machine code for a signature."""
        try:
            return bool(self._files.keeps(sig, target_context.codegen()))
        except _DAMAGED:
            return False

    @contextmanager
    def held(self, patience_s: float) -> Iterator[bool]:
        """Hold the lock of those who compile the kernel; a process that is killed lets it go.

        Yields:
            False when another process still has the lock after ``patience_s``.
        """
        path = Path(self.cache_path) / f"{self._py_func.__name__}.lock"
        lock = FileLock(path, timeout=patience_s, poll_interval=_LOOK_S)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            yield False
            return
        except _NO_LOCKS:  # two processes may then compile the same, as the last resort
            yield True
            return
        try:
            yield True
        finally:
            with suppress(*_NO_LOCKS):
                lock.release()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the machine code for a signature; None where there is none that can be read."""
        try:
            found = self._files.load_overload(sig, target_context)
        except _DAMAGED:
            self.flush()
            found = None
        if found is None:
            say_compiling()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep machine code; where that cannot be done, say so once and go on without."""
        try:
            self._files.save_overload(sig, data)
        except OSError as error:
            _say_not_kept(error)

    def enable(self) -> None:
        """Do nothing: it is enabled."""

    def disable(self) -> None:
        """Keep and find nothing from now on."""
        self._files = caching.NullCache()

    def flush(self) -> None:
        """Forget what is kept of this version of the kernel."""
        try:
            self._files.flush()
        except OSError as error:
            _say_not_kept(error)


class _Files(caching.FunctionCache):  # type: ignore[misc]
    """Numba's files, whose names hold the hash of a kernel."""

    def __init__(self, py_func: Any, digest: str) -> None:
        class Locator(_Locator):
            """Of this version of the kernel."""

            stamp = digest

        class Implementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
            """Finds its files by that locator alone."""

            _locator_classes: ClassVar[list[type]] = [Locator]

        self._impl_class = Implementation
        super().__init__(py_func)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Tell named tuples apart by their fields, which the kernel reads by name."""
        fields = repr([getattr(kind, "fields", None) for kind in sig])
        return super()._index_key(sig, codegen), fields

    def keeps(self, sig: Any, codegen: Any) -> bool:
        """Return whether the list of kept machine code has a signature."""
        return self._index_key(sig, codegen) in self._cache_file._load_index()

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep machine code, and remove that of other versions of the kernel that is old."""
        super().save_overload(sig, data)
        here = self._impl.filename_base
        before = time.time() - _KEPT_S
        for path in Path(self.cache_path).glob(f"{here.rpartition('-')[0]}-*.nb?"):
            if not path.name.startswith(here) and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Says where the files of a kernel lie; ``stamp`` is its hash."""

    stamp = ""

    def __init__(self, py_file: str) -> None:
        self._folder = str(opened_folder() / self.get_suitable_cache_subpath(py_file))

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        """Return the locator of a kernel."""
        return cls(py_file)

    def get_cache_path(self) -> str:
        """Return the folder."""
        return self._folder

    def get_source_stamp(self) -> str:
        """Return what an index file must hold to be of this version."""
        return self.stamp

    def get_disambiguator(self) -> str:
        """Return what file names hold beside that of the kernel."""
        return self.stamp


_said: set[str] = set()


def _say(what: str, sentence: str) -> None:
    """Tell something once, in the process that the user started."""
    if what not in _said and multiprocessing.parent_process() is None:
        sys.stderr.write(f"imagegram: {sentence}\n")
    _said.add(what)


def say_compiling(how: str = "") -> None:
    """Say once that kernels are compiled, and how.

    Args:
        how: words such as ``in the background``.
    """
    _say(
        "compiling",
        f"kernels are compiled{how and ' '}{how}, once for this machine and version: about half a "
        f"minute in all; they are kept in {opened_folder()}",
    )


def _say_not_kept(error: OSError) -> None:
    _say(
        "not kept",
        f"compiled kernels cannot be kept ({opened_folder()}: {error.strerror}), so the next run "
        "compiles them again; free space, or name another folder: XDG_CACHE_HOME=FOLDER",
    )


# ------------------------------------------------------------------------------ what was compiled


def source_hash(function: Callable[..., Any], options: Any = None) -> str:
    """Return 16 hex digits that follow all that is compiled of a function.

    These are its bytecode, the functions, intrinsics and constants that it reads, and theirs in
    turn; not its docstring, comments or place in the file.
    """
    walk = _SourceWalk()
    walk.add(_VERSIONS)
    walk.add(sorted((options or {}).items()))
    walk.add(function)
    return walk.hasher.hexdigest()[:16]


def num_functions(function: Callable[..., Any]) -> int:
    """Return the number of Python functions that are compiled with one, itself included."""
    walk = _SourceWalk()
    walk.add(function)
    return len(walk.functions)


class _SourceWalk:
    """Hashes values and what they refer to."""

    def __init__(self) -> None:
        self.hasher = hashlib.sha256()
        self.functions: dict[FunctionType, int] = {}

    def add(self, value: Any) -> None:
        """Hash a value that compiled code refers to."""
        if isinstance(value, Dispatcher):
            self.add(sorted(value.targetoptions.items()))
            self.add(value.py_func)
        elif isinstance(value, _INTRINSIC):
            self.add(value._defn)
        elif isinstance(value, FunctionType):
            self._add_function(value)
        elif isinstance(value, CodeType):
            self._add_code(value, value.co_consts)
        elif isinstance(value, tuple | list):
            self._write(f"{type(value).__name__} {len(value)}")
            for item in value:
                self.add(item)
        elif isinstance(value, dict):
            self.add(list(value.items()))
        elif isinstance(value, frozenset):
            self.add(sorted(value, key=repr))
        else:
            self._write(_describe(value))

    def _add_function(self, function: FunctionType) -> None:
        if function in self.functions:
            self._write(f"function {self.functions[function]}")
            return
        self.functions[function] = len(self.functions)
        code = function.__code__
        constants = list(code.co_consts)
        if function.__doc__ is not None and constants and constants[0] == function.__doc__:
            constants[0] = None
        self._add_code(code, constants)
        self.add(function.__defaults__)
        self.add(function.__kwdefaults__)
        self.add([cell.cell_contents for cell in function.__closure__ or ()])
        names = sorted(_names(code))
        for name in names:
            if name in function.__globals__:
                self._write(name)
                value = function.__globals__[name]
                self.add(value)
                if isinstance(value, ModuleType) and value.__name__.startswith("imagegram."):
                    self.add([vars(value)[inside] for inside in names if inside in vars(value)])

    def _add_code(self, code: CodeType, constants: Any) -> None:
        parts = (code.co_code, code.co_exceptiontable, code.co_names, code.co_argcount)
        self.add([*parts, code.co_kwonlyargcount, code.co_flags & _FLAGS, code.co_varnames])
        self.add([code.co_cellvars, code.co_freevars, list(constants)])

    def _write(self, text: str) -> None:
        self.hasher.update(f"{len(text)} {text}\n".encode("utf-8", "surrogatepass"))


def _names(code: CodeType) -> set[str]:
    """Names of globals and attributes in a function and the functions inside it."""
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _describe(value: Any) -> str:
    """Return what a kernel can know of a value that refers to no other."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {value.tobytes().hex()}"
    if isinstance(value, type):  # named tuples differ by their fields
        return f"{value.__module__}.{value.__qualname__} {getattr(value, '_fields', '')}"
    if isinstance(value, ModuleType):
        return f"{value.__name__} {getattr(value, '__version__', '')}"
    if isinstance(value, (*_SCALARS, types.Type, BuiltinFunctionType)):
        return f"{type(value).__name__} {value!r}"
    return f"{type(value).__module__}.{type(value).__qualname__}"  # no kernel can read it
