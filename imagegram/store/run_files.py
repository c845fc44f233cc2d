"""Files of a run folder that others read while runs write them: each is replaced in one step."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any, Final

#: The record of a run folder.
SUMMARY: Final = "summary.json"


def write_summary(folder: Path, **values: Any) -> None:
    """Replace ``summary.json`` in one step, so that no reader sees half of it."""
    partial = folder / f".{SUMMARY}.{threading.get_ident()}"
    partial.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")
    partial.replace(folder / SUMMARY)


def point_latest(outputs: Path, folder: Path) -> None:
    """Point ``latest`` to a run folder in one step: of several runs that end at once, one wins.

    Args:
        outputs: where ``latest`` is.
        folder: the run folder.

    Raises:
        OSError: when it cannot be replaced, as a real folder of that name cannot.
    """
    partial = outputs / f".latest-{os.getpid()}-{threading.get_ident()}"
    try:
        partial.unlink(missing_ok=True)
        partial.symlink_to(os.path.relpath(folder, outputs), target_is_directory=True)
        partial.replace(outputs / "latest")
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
