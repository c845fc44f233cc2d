"""``njit`` whose cache on disk is never stale: its folder is named by the source of all kernels.

Numba itself looks only at the file that holds a function. A kernel that calls a function of another
file would go on running the old machine code after that file changed. So every change of any kernel
source starts a new cache folder (below ``$XDG_CACHE_HOME/imagegram``, or where ``NUMBA_CACHE_DIR``
says, which then is yours to keep fresh); kernels compile once after that, in some ten seconds.
Where that folder cannot be written, a private one among the temporary files takes its place.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

import numba
from numba import njit

from imagegram.errors import ConfigError

__all__ = ["cache_folder", "check_machine", "njit"]

#: Folders below the package that hold kernels, or functions that kernels compile, at any depth.
_KERNELS: Final = ("generators", "images", "indexes", "metrics", "samplers", "tokenizers")


def cache_folder() -> Path:
    """Return the folder of the machine code of exactly these sources, with this numba."""
    hasher = hashlib.sha256(numba.__version__.encode())
    for room in _KERNELS:
        for path in sorted((Path(__file__).parent / room).rglob("*.py")):
            hasher.update(path.read_bytes())
    name = f"kernels-{hasher.hexdigest()[:12]}"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "imagegram" / name
    return folder if _is_writable(folder) else _private_folder() / name


def _is_writable(folder: Path) -> bool:
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


def check_machine() -> None:
    """Refuse to go on where compilation is switched off: some kernels have no slow form.

    Raises:
        ConfigError: naming the variable.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise ConfigError(
            "NUMBA_DISABLE_JIT is set, so kernels cannot be compiled; type: unset NUMBA_DISABLE_JIT"
        )


if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]
