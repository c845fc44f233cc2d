"""Collections: artifacts that only list the artifacts of their parts.

``shards.json`` = ``{"kind": kind of the parts, "digests": [...]}``. The parts lie beside the
collection, in ``<root>/<kind>/<digest>``; so collections of all sizes of a corpus share them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from imagegram.errors import ArtifactError
from imagegram.store.artifacts import check_sizes
from imagegram.store.manifest import PARTS_FILE, Artifact, Manifest, read_parts, removal


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
    """Hard-link a file of an artifact, or copy it where links are impossible (other device)."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
