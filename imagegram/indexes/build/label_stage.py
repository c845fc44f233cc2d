"""Labels of the documents of one index shard, for ``condition=label``, read from their metadata.

``context.make(ReadLabels(shard=shard, key="label"))`` opens them, after reading them if missing.
``labels.npy`` holds (N,) int32, the index of each document's label in ``names.json``, -1 for none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from imagegram.conditions.labels import ANY, Labels
from imagegram.errors import IndexFormatError
from imagegram.indexes.format import IndexShard, rebuild
from imagegram.store.cost import NPY_HEADER, Cost, PerUnit
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Surroundings


@dataclass(frozen=True, kw_only=True)
class ReadLabels:
    """The stage that collects one key of the metadata of all documents of an index shard.

    Attributes:
        shard: an artifact of the store.
        key: key in the JSON beside an image, or ``caption``.
    """

    kind: ClassVar[str] = "labels"
    group: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 1
    SIDE_OF: ClassVar[str] = "shard"
    RATE: ClassVar[PerUnit] = PerUnit("num_documents", seconds=5.0e-6)

    shard: IndexShard
    key: str

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Read every line of metadata once; takes 4 bytes per document, and the names."""
        task = context.progress.start("read labels", 1, "shards")
        labels = read_labels(self.shard, self.key)
        np.save(out / "labels.npy", labels.by_document)
        names = {"names": labels.names, "keys": labels.keys}
        (out / "names.json").write_text(json.dumps(names) + "\n")
        context.progress.advance(task)
        context.progress.finish(task)
        return {
            "num_documents": len(labels.by_document),
            "num_labels": len(labels.names),
            "num_unlabelled": int((labels.by_document == ANY).sum()),
        }

    def load(self, artifact: Artifact) -> Labels:
        """Open the labels."""
        names = json.loads((artifact.path / "names.json").read_text())
        by_document = np.load(artifact.path / "labels.npy")
        return Labels(
            names=tuple(names["names"]), by_document=by_document, keys=tuple(names["keys"])
        )

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee that one core reads all metadata; the size of the names is negligible."""
        unread = Labels(names=(), by_document=np.empty(0, dtype=np.int32))
        if found := at.find(self):
            return Cost.found(found, handle=unread)
        rate, documents = at.rate(self), self.shard.num_documents
        return Cost(
            artifact=at.expect(self, {}),
            handle=unread,
            disk_bytes=4 * documents + NPY_HEADER,
            memory_bytes=4 * documents,
            seconds=rate.seconds * documents,
            source=rate.source,
        )


def read_labels(shard: IndexShard, key: str) -> Labels:
    """Read the labels of all documents of a shard; only words and whole numbers are labels.

    Raises:
        IndexFormatError: when the metadata is not one JSON object per document.
    """
    return Labels.of(_metadata(shard), key)


def _metadata(shard: IndexShard) -> Iterator[dict[str, Any]]:
    """Yield the metadata of every document of a shard; nothing, where the file is missing."""
    path, lines = shard.file("metadata"), 0
    if not path.exists():
        yield from ({} for _ in range(shard.num_documents))
        return
    with path.open("rb") as stream:
        for lines, line in enumerate(stream, 1):
            if lines <= shard.num_documents:
                yield _parse(line, path, lines)
    if lines != shard.num_documents:
        raise IndexFormatError(
            f"{path} does not hold one line for each of {shard.num_documents} documents; "
            f"{rebuild(path.parent)}"
        )


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError) as error:
        raise IndexFormatError(
            f"{path}: line {number} is no JSON object ({error}); {rebuild(path.parent)}"
        ) from error
