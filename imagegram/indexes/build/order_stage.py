"""Order: the side files of one index shard with which generation needs no searches.

``context.make(BuildOrder(shard=shard, aligned=True))`` opens them, after making them if they are
missing; ``indexes/order.py`` describes them. The suffix order is for contexts that match anywhere,
the aligned order for contexts at the same position.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from imagegram.errors import CapacityError
from imagegram.executors.foresight import Expected
from imagegram.indexes.format import IndexShard, pointer_width
from imagegram.indexes.order import INVERSE_PADDING, Order, inverse_width, minima_sizes
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Surroundings


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
    SIDE_OF: ClassVar[str] = "shard"
    RATE: ClassVar[PerUnit] = PerUnit("num_tokens", seconds=1.4e-7)

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
        """Open the order."""
        return Order.open(artifact.path, shard=self.shard, aligned=self.aligned, artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee the time of threads that share the work on the shard."""
        count = self.shard.num_tokens
        if found := at.find(self):
            return Cost.found(found, tokens=count, handle=Expected(found))
        memory, refusal, rate = 0, "", at.rate(self)
        try:
            memory = check_order_memory(count, self.shard.name, at.memory_bytes)
        except CapacityError as error:
            refusal = str(error)
        return Cost(
            artifact=at.expect(self, {}),
            tokens=count,
            disk_bytes=order_bytes(num_tokens=count, aligned=self.aligned),
            memory_bytes=memory,
            seconds=rate.shared(count, at.workers),
            source=rate.source,
            refusal=refusal,
            threaded=True,
        )


def order_bytes(*, num_tokens: int, aligned: bool) -> int:
    """Return the bytes of the side files; an aligned order also has its own table.

    >>> round(order_bytes(num_tokens=4_033_001, aligned=True) / 4_033_001, 2)  # a token
    10.06
    """
    table = num_tokens * pointer_width(num_tokens) if aligned else 0
    ranks = num_tokens * inverse_width(num_tokens) + INVERSE_PADDING
    return table + ranks + 2 * (2 * num_tokens + sum(minima_sizes(num_tokens)))


def check_order_memory(num_tokens: int, name: str, budget: int) -> int:
    """Return the memory in bytes of building an order; refuse a budget that is too small.

    Raises:
        CapacityError: when ``budget`` bytes are not enough.
    """
    from imagegram.indexes.build.orders import order_memory

    need = order_memory(num_tokens)
    if need > budget:
        raise CapacityError(
            f"ordering the {num_tokens:,} suffixes of {name} needs about {need / 1e9:.2f} GB of "
            f"memory, and {budget / 1e9:.2f} GB may be spent; build smaller index shards, "
            f"index.shard_tokens={num_tokens * budget // need}, or allow more: "
            f"runtime.memory_gb={need / 1e9 + 0.01:.2f}"
        )
    return need
