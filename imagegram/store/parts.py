"""Collections: artifacts that only list the artifacts of their parts.

``shards.json`` = ``{"kind": kind of the parts, "digests": [...]}``. The parts lie beside the
collection, in ``<root>/<kind>/<digest>``; so collections of all sizes of a corpus share them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from imagegram.errors import ArtifactError
from imagegram.store.artifacts import check_sizes
from imagegram.store.manifest import PARTS_FILE, Artifact, Manifest, read_parts, removal

#: Bytes that the system is asked to copy at a time.
_COPY_BYTES: Final = 1 << 30
#: Errors that another way of copying meets too.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_parts(out: Path, *, kind: str, parts: Sequence[Artifact]) -> None:
    """List ``parts``, all of one ``kind``, in the folder of a new collection."""
    listing = {"kind": kind, "digests": [part.digest for part in parts]}
    (out / PARTS_FILE).write_text(json.dumps(listing, indent=1) + "\n")


def open_parts(collection: Artifact) -> tuple[Artifact, ...]:
    """Return the parts of a collection, in order; in a plan, also of one still to be made.

    Raises:
        ArtifactError: when one was removed or damaged since.
    """
    if collection.expected_parts is not None:
        return collection.expected_parts
    kind, digests = read_parts(collection.path)
    return tuple(open_named(f"{kind}/{digest}", named_by=collection) for digest in digests)


def open_named(name: str, *, named_by: Artifact) -> Artifact:
    """Return the artifact ``kind/digest`` from the store of the artifact that names it.

    Raises:
        ArtifactError: when it was removed or damaged since.
    """
    folder = named_by.path.parent.parent / name
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder} was removed, but {named_by.path} lists it; remove the list too, with: "
            f"{removal(named_by.path)} and run again"
        )
    artifact = Artifact(path=folder, manifest=Manifest.read(folder))
    check_sizes(artifact)
    return artifact


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Share a file between two artifacts: a hard link, or a copy on another device.

    Only artifacts may share files, for nobody writes into them. What leaves the store, or comes
    from another program's cache, is copied (:func:`copy_file`): ``np.save`` over a hard link would
    change the artifact, and so later results.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy the bytes of a file, so that whatever is written to one never reaches the other.

    File systems that can (btrfs, XFS, ZFS, NFS 4.2) share the blocks until one of the two is
    changed, so that the copy takes neither time nor space. The copy may be written, whatever the
    permissions of the source.
    """
    with Path(source).open("rb") as reader, Path(target).open("wb") as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), _COPY_BYTES):
                pass
        except (AttributeError, OSError) as error:  # not on this system, or not between these two
            if getattr(error, "errno", None) in _FULL:
                raise
            reader.seek(0)
            writer.seek(0)
            shutil.copyfileobj(reader, writer)
