"""Content hashes of shards, remembered so that a shard of gigabytes is read once.

The memory is one small JSON file per shard, used only while the shard's *stamp* (sizes and
modification times) is still the one that was hashed. A missing, damaged or unwritable memory costs
time but never gives a wrong hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from imagegram.errors import CorpusError, remedy

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def file_stamp(path: Path) -> str:
    """Return size and modification time of a file: cheap, and different after most changes."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def remembered_sha256(
    *,
    what: Path,
    key: str,
    stamp: Callable[[], str],
    compute: Callable[[], str],
    memory: str | None,
) -> str:
    """Return the sha256 of some content, from ``memory`` while its stamp is unchanged.

    Args:
        what: the tar or folder that is hashed, for messages.
        key: the absolute paths that are hashed; names the entry.
        stamp: the present stamp of the content.
        compute: hashes the content.
        memory: folder of the entries; None: no entries are kept.

    Raises:
        CorpusError: when the content cannot be read, or changes while it is hashed.
    """
    entry = None if memory is None else _entry(memory, key)
    try:
        before = stamp()
        if entry is not None and (known := _recall(entry, key, before)) is not None:
            return known
        sha256 = compute()
        after = stamp()
    except OSError as error:
        raise CorpusError(
            f"{what}: {error.filename or what} could not be read ({error.strerror or error}); "
            f"{remedy(error)}"
        ) from error
    if after != before:
        raise changed_while_read(what)
    if entry is not None:
        # A folder that cannot be written is reported by the artifact store, with its remedy.
        with contextlib.suppress(OSError):
            _remember(entry, {"key": key, "stamp": before, "sha256": sha256})
    return sha256


def recalled_sha256(*, key: str, stamp: Callable[[], str], memory: str | None) -> str | None:
    """Return the hash that :func:`remembered_sha256` has in its memory, or None."""
    try:
        return None if memory is None else _recall(_entry(memory, key), key, stamp())
    except OSError:
        return None


def changed_while_read(what: Path) -> CorpusError:
    """Return the error for content that changed while it was read."""
    return CorpusError(
        f"{what} changed while it was read; wait until whatever writes it has finished, then run "
        "the same command again"
    )


def _entry(memory: str, key: str) -> Path:
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return Path(memory) / f"{name}.json"


def _recall(entry: Path, key: str, stamp: str) -> str | None:
    try:
        known = json.loads(entry.read_text())
        same = known["key"] == key and known["stamp"] == stamp
        sha256 = known["sha256"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return sha256 if same and _SHA256.fullmatch(sha256) else None


def _remember(entry: Path, content: dict[str, str]) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    partial = entry.with_name(f"{entry.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content))
    partial.replace(entry)
