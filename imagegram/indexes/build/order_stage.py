"""Order: the side files of one index shard that let generation go without searches.

``context.make(BuildOrder(shard=shard, aligned=True))`` opens them, made first when they are
missing; ``indexes/order.py`` says what they hold. The suffix order serves contexts that match
anywhere, the aligned order those at the same position.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from imagegram.errors import CapacityError
from imagegram.indexes.format import IndexShard
from imagegram.indexes.order import Order
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context


@dataclass(frozen=True, kw_only=True)
class BuildOrder:
    """The stage that orders the suffixes of one index shard.

    Attributes:
        shard: an artifact of the store.
        aligned: first by the position inside the document, then as in the shard's table.
    """

    kind: ClassVar[str] = "order"
    group: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 1

    shard: IndexShard
    aligned: bool

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the side files, on ``context.workers`` threads.

        Raises:
            CapacityError: when there is not enough memory.
            UnsupportedError: for an aligned order of documents that are not equally long.
        """
        from imagegram.indexes.build.orders import STEPS, build_order

        check_order_memory(self.shard.num_tokens, self.shard.name, context.memory_bytes)
        task = context.progress.start("order suffixes", STEPS, "steps")
        build_order(
            self.shard,
            out,
            aligned=self.aligned,
            workers=context.workers,
            advance=lambda: context.progress.advance(task),
        )
        context.progress.finish(task)
        return {
            "num_documents": self.shard.num_documents,
            "num_tokens": self.shard.num_tokens,
            "size_bytes": sum(file.stat().st_size for file in out.iterdir()),
        }

    def load(self, artifact: Artifact) -> Order:
        """The opened order."""
        return Order.open(artifact.path, shard=self.shard, aligned=self.aligned, artifact=artifact)


def check_order_memory(num_tokens: int, name: str, budget: int) -> int:
    """Bytes of memory that an order of so many suffixes takes.

    Raises:
        CapacityError: when ``budget`` bytes do not hold them.
    """
    from imagegram.indexes.build.orders import order_memory

    need = order_memory(num_tokens)
    if need > budget:
        raise CapacityError(
            f"ordering the {num_tokens:,} suffixes of {name} needs about {need / 1e9:.2f} GB of "
            f"memory, and {budget / 1e9:.2f} GB may be spent; build smaller index shards, "
            f"generator.shard_tokens={num_tokens * budget // need}, or allow more: "
            f"runtime.memory_gb={need / 1e9 + 0.01:.2f}"
        )
    return need
