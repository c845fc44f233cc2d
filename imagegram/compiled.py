"""``njit`` for kernels: compiled in less time than by numba's own, and kept on disk, never stale.

Most kernels are called by other kernels only. For these calls numba would make a wrapper for Python
and machine code that nobody runs, and optimise the same lines again in every caller. Here a kernel
has two forms: what Python calls, and a part, which is optimised inside its callers alone. A
constant argument makes no other form of a part. See ``kernel_cache.py`` for what is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
from numba import types as numba_types
from numba.core import sigutils
from numba.core.codegen import JITCodeLibrary
from numba.core.dispatcher import _FunctionCompiler  # type: ignore[attr-defined]
from numba.core.registry import CPUDispatcher

from imagegram.kernel_cache import KernelCache, num_functions

__all__ = ["Kernel", "njit"]

types: Any = numba_types  # its names are made when it is imported
Function = TypeVar("Function", bound=Callable[..., Any])
#: Seconds to wait for another process that compiles the same kernel: several times what that takes.
_PATIENCE_S: Final = 120.0


def njit(
    *, cache: bool = False, nogil: bool = False, inline: str = "never", counts: bool = True
) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function when it is called first.

    Args:
        cache: keep the machine code on disk.
        nogil: run without Python's lock.
        inline: ``always``: copied into its callers, whatever its size. Wanted where kernels are
            called once a token: a call hands over every field of every array, a hundred words.
        counts: count references to arrays. False where a kernel neither makes arrays nor gets new
            ones of what it calls, but works on those that Python holds: a call counts up and down
            every array of its records, which takes most of the time of a short kernel. Making one
            is an error of the compiler then; one that is got would never be freed.
    """
    options = {"nopython": True, "nogil": nogil, "boundscheck": None}
    options |= {"forceinline": inline == "always", "no_cfunc_wrapper": True}
    options["_nrt"] = counts

    def decorate(function: Function) -> Function:
        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return function
        kernel: Any = Kernel(function, {}, options)
        if cache:
            kernel.enable_caching()
        return kernel  # type: ignore[no-any-return]

    return decorate


class Kernel(CPUDispatcher):  # type: ignore[misc]
    """A function that Python calls compiled; other kernels call its ``part``."""

    def __init__(self, py_func: Any, local_types: Any = None, targetoptions: Any = None) -> None:
        super().__init__(py_func, local_types, targetoptions)
        options = {**(targetoptions or {}), "no_cpython_wrapper": True}
        self.part = _Part(py_func, local_types, options)

    def compile(self, sig: Any) -> Any:
        """Load or compile the form for a signature; who else compiles it is waited for."""
        if not isinstance(self._cache, KernelCache) or self._cache.keeps(sig, self.targetctx):
            return super().compile(sig)
        with self._cache.held(_PATIENCE_S):
            return super().compile(sig)

    def compile_early(self, sig: Any) -> None:
        """Compile the form for a signature, unless it is kept, or another process compiles it."""
        with self._cache.held(0) as is_free:
            if is_free and not self._cache.keeps(sig, self.targetctx):
                super().compile(sig)

    def enable_caching(self) -> None:
        """Keep the machine code on disk."""
        self._cache = KernelCache(self.py_func, self.targetoptions)

    def is_kept(self, sig: Any) -> bool:
        """Return whether the machine code for a signature is on disk."""
        return self._cache.keeps(sig, self.targetctx)

    @property
    def num_functions(self) -> int:
        """Number of Python functions that are compiled with this one, itself included."""
        return num_functions(self.py_func)

    @property
    def is_compiling(self) -> bool:
        """Whether one of the two forms is being compiled: a kernel that calls itself asks this."""
        return bool(super().is_compiling or self.part.is_compiling)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Return what the type inference of a calling kernel needs."""
        return self.part.get_call_template(args, kws)

    def get_overload(self, sig: Any) -> Any:
        """Return what the lowering of a calling kernel needs."""
        return self.part.get_overload(sig)


class _Part(CPUDispatcher):  # type: ignore[misc]
    """A kernel as its callers compile it: LLVM code, never run by itself."""

    def __init__(self, py_func: Any, local_types: Any = None, targetoptions: Any = None) -> None:
        super().__init__(py_func, local_types, targetoptions)
        self._compiler.__class__ = _PartCompiler

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Compile for types of arguments, which are the same for ``f(0)`` and ``f(i)``."""
        plain = {name: types.unliteral(kind) for name, kind in kws.items()}
        return super().get_call_template(tuple(map(types.unliteral, args)), plain)

    def add_overload(self, cres: Any) -> None:
        """Take LLVM code in, as what callers link with."""
        cres.library.__class__ = _PartLibrary
        self.overloads[tuple(cres.signature.args)] = cres
        self.targetctx.insert_user_function(cres.fndesc, cres.fndesc, [cres.library])

    def get_overload(self, sig: Any) -> Any:
        """Return the key under which :meth:`add_overload` has inserted the LLVM code."""
        return self.overloads[tuple(sigutils.normalize_signature(sig)[0])].fndesc


class _PartCompiler(_FunctionCompiler):  # type: ignore[misc]
    """Stops before machine code."""

    def _customize_flags(self, flags: Any) -> Any:
        flags.no_compile = True
        return flags


class _PartLibrary(JITCodeLibrary):  # type: ignore[misc]
    """LLVM code with that of all its parts, which only callers optimise."""

    def finalize(self) -> None:
        """Link the parts."""
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True
