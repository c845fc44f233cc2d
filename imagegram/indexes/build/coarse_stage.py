"""Coarse: an index shard of the most significant digits of its tokens, for coarse contexts.

``context.make(BuildCoarse(shard=shard, divisor=25))`` opens it, after making it if it is missing.
Its stream has the documents of the shard with ids divided by ``divisor`` (``TokenLayout.coarse``),
so both streams have the same positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from imagegram.errors import CapacityError
from imagegram.indexes.build.sort import build_table, sort_bytes
from imagegram.indexes.format import ExpectedShard, IndexShard, pointer_width
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.manifest import Artifact
from imagegram.store.parts import link_or_copy
from imagegram.store.stage import Context, Surroundings

#: Tokens that are read at a time.
_BLOCK: Final = 1 << 22


@dataclass(frozen=True, kw_only=True)
class BuildCoarse:
    """The stage that sorts the suffixes of an index shard by coarse ids.

    Attributes:
        shard: an artifact of the store.
        divisor: product of the numbers of values of the dropped digits, at least 2.
    """

    kind: ClassVar[str] = "coarse_index"
    group: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 1
    SIDE_OF: ClassVar[str] = "shard"
    RATE: ClassVar[PerUnit] = PerUnit("num_tokens", seconds=6.5e-8)

    shard: IndexShard
    divisor: int

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the coarse stream and its table.

        Raises:
            CapacityError: when there is not enough memory.
        """
        self._check_memory(context.memory_bytes)
        task = context.progress.start("sort coarse suffixes", 1, "shards")
        coarse = write_coarse(self.shard, self.divisor, out)
        context.progress.advance(task)
        context.progress.finish(task)
        return {
            "num_documents": coarse.num_documents,
            "num_tokens": coarse.num_tokens,
            "table_bytes": int(coarse.table.size),
        }

    def load(self, artifact: Artifact) -> IndexShard:
        """Open the shard."""
        return IndexShard.open(artifact.path, artifact=artifact)

    def _check_memory(self, budget: int) -> int:
        """Return the memory of the sort in bytes; raise CapacityError when there is less."""
        need = sort_bytes(self.shard.num_tokens, EOS_TOKEN_ID + 1)
        if need > budget:
            raise CapacityError(
                f"sorting the {self.shard.num_tokens:,} coarse tokens of {self.shard.name} needs "
                f"up to {need / 1e9:.2f} GB of memory, and {budget / 1e9:.2f} GB may be spent; "
                "build smaller index shards, index.shard_tokens="
                f"{self.shard.num_tokens * budget // need}, or allow more: "
                f"runtime.memory_gb={need / 1e9 + 0.01:.2f}"
            )
        return need

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee stream and table, sorted on one core; the offsets are a hard link."""
        count, length = self.shard.num_tokens, self.shard.document_length
        if found := at.find(self):
            return Cost.found(found, tokens=count, handle=ExpectedShard.of(found, length=length))
        memory, refusal, rate = 0, "", at.rate(self)
        try:
            memory = self._check_memory(at.memory_bytes)
        except CapacityError as error:
            refusal = str(error)
        facts = {"num_documents": self.shard.num_documents, "num_tokens": count}
        artifact = at.expect(self, facts)
        return Cost(
            artifact=artifact,
            handle=ExpectedShard.of(artifact, length=length),
            tokens=count,
            disk_bytes=count * (TOKEN_BYTES + pointer_width(count)),
            memory_bytes=memory,
            seconds=rate.seconds * count,
            source=rate.source,
            refusal=refusal,
        )


def write_coarse(shard: IndexShard, divisor: int, out: Path) -> IndexShard:
    """Write the index folder of the coarse ids of a shard, and open it."""
    with (out / "tokenized.0").open("wb") as stream:
        for start in range(0, shard.num_tokens, _BLOCK):
            ids = np.asarray(shard.tokens[start : start + _BLOCK])
            coarse = np.where(ids == EOS_TOKEN_ID, EOS_TOKEN_ID, ids // divisor)
            coarse.astype("<u2").tofile(stream)
    link_or_copy(shard.file("offset"), out / "offset.0")
    build_table(out / "tokenized.0", out / "table.0")
    return IndexShard.open(out)
