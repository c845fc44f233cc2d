"""``njit`` whose cache on disk is never stale: its folder is named by the source of all kernels.

Numba itself looks only at the file that holds a function. A kernel that calls a function of another
file would go on running the old machine code after that file changed. So every change of any kernel
source starts a new cache folder (below ``$XDG_CACHE_HOME/imagegram``, or where ``NUMBA_CACHE_DIR``
says, which then is yours to keep fresh); kernels compile once after that, in some ten seconds.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import numba
from numba import njit

__all__ = ["cache_folder", "njit"]

#: Folders below the package that hold kernels, or functions that kernels compile, at any depth.
_KERNELS: Final = ("generators", "images", "indexes", "metrics", "samplers", "tokenizers")


def cache_folder() -> Path:
    """Folder of the machine code of exactly these sources, with this numba."""
    hasher = hashlib.sha256(numba.__version__.encode())
    for folder in _KERNELS:
        for path in sorted((Path(__file__).parent / folder).rglob("*.py")):
            hasher.update(path.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "imagegram" / f"kernels-{hasher.hexdigest()[:12]}"


if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]
