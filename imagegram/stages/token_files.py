"""The files of a token shard, written document by document.

    tokenized.0     little-endian uint16: 65535 document 65535 document ... document 65535
    offset.0        little-endian uint64: byte position of the separator before each document
    metadata.0      one JSON object a line, in document order
    metaoff.0       little-endian uint64: byte position of each line
    thumbnails.npy  (N, 16, 16, 3) uint8; of texts sketches.npy (N, 128) uint32
    skipped.jsonl   one line for every record that is no document, with its reason

The first four are those of the suffix-array tools; see ``docs/formats.md``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from imagegram.protocols import Modality
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES, Record, Sketches
from imagegram.stages.skips import SKIPPED, skip_line

_SEPARATOR: Final = EOS_TOKEN_ID.to_bytes(TOKEN_BYTES, "little")


@dataclass(frozen=True)
class TokenDocument:
    """A document on its way into a token shard.

    Attributes:
        tokens: (T,) ids; before it is encoded, the prepared item.
        sketch: sketch of its item.
        metadata: line of ``metadata.0``.
        counts: named counts of the tokenizer.
    """

    tokens: Any
    sketch: Sketches
    metadata: bytes
    counts: Mapping[str, int] = field(default_factory=dict)


class TokenWriter:
    """Writer of the six files of a token shard, document by document.

    Attributes:
        sketches: sketches of the documents so far.
        num_tokens: number of tokens so far, without separators.
        counts: sums of the tokenizer's named counts.
        skipped: number of skipped records by reason.
    """

    def __init__(self, folder: Path, stack: ExitStack, modality: Modality) -> None:
        def create(name: str) -> BinaryIO:
            return stack.enter_context((folder / name).open("wb"))

        self.folder, self.modality = folder, modality
        self.stream = create("tokenized.0")
        self.offsets = create("offset.0")
        self.metadata = create("metadata.0")
        self.metadata_offsets = create("metaoff.0")
        self.skips = create(SKIPPED)
        self.sketches: list[Sketches] = []
        self.num_tokens = 0
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def add(self, document: TokenDocument) -> None:
        """Append one document."""
        self.offsets.write(self.stream.tell().to_bytes(8, "little"))
        self.stream.write(_SEPARATOR)
        self.stream.write(np.ascontiguousarray(document.tokens, dtype="<u2").data)
        self.metadata_offsets.write(self.metadata.tell().to_bytes(8, "little"))
        self.metadata.write(document.metadata)
        self.sketches.append(document.sketch)
        self.counts.update(document.counts)
        self.num_tokens += len(document.tokens)

    def skip(self, record: Record, reason: str) -> None:
        """Count and list a record that is no document."""
        self.skipped[reason] += 1
        self.skips.write(skip_line(record, reason))

    def close(self) -> None:
        """Write the last separator and the sketches."""
        self.stream.write(_SEPARATOR)
        np.save(self.folder / self.modality.SKETCHES, self.modality.stack(self.sketches))
