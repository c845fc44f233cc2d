"""Folders that outlive a test, for what is made once a process; they go when it ends."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path


def new_folder() -> Path:
    """An empty folder."""
    return Path(tempfile.mkdtemp(dir=_root().name))


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    """The folder of all others; it is removed with its last reference, which is this cache's."""
    return tempfile.TemporaryDirectory(prefix="imagegram-tests-")
