"""Screen: the side file of an index shard that says which runs of tokens it may hold.

``context.make(BuildScreen(shard=shard, runs=(12, 32), placed=False))`` opens it, after making it if
it is missing; ``indexes/screen.py`` describes it. Wanted where several shards are generated from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from imagegram.errors import CapacityError
from imagegram.executors.foresight import Expected
from imagegram.indexes.format import IndexShard
from imagegram.indexes.screen import Screen, screen_bytes, write_screen
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Surroundings


@dataclass(frozen=True, kw_only=True)
class BuildScreen:
    """The stage that screens one index shard.

    Attributes:
        shard: an artifact of the store.
        runs: lengths of runs, in tokens, ascending.
        placed: whether runs are told apart by the place in the document where they begin.
    """

    kind: ClassVar[str] = "screen"
    group: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 2
    SIDE_OF: ClassVar[str] = "shard"
    RATE: ClassVar[PerUnit] = PerUnit("num_tokens", seconds=4e-8)

    shard: IndexShard
    runs: tuple[int, ...]
    placed: bool

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the screen.

        Raises:
            CapacityError: when there is not enough memory.
            UnsupportedError: for a placed screen of documents that are not equally long.
        """
        self._check_memory(context.memory_bytes)
        task = context.progress.start("screen runs", 1, "shards")
        screen = write_screen(self.shard, out, runs=self.runs, placed=self.placed)
        context.progress.advance(task)
        context.progress.finish(task)
        return {
            "num_documents": self.shard.num_documents,
            "num_tokens": self.shard.num_tokens,
            "size_bytes": int(screen.words.nbytes),
        }

    def load(self, artifact: Artifact) -> Screen:
        """Open the screen."""
        return Screen.open(
            artifact.path,
            shard=self.shard,
            runs=self.runs,
            placed=self.placed,
            artifact=artifact,
        )

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee a pass over the stream for every length, on one core."""
        count = self.shard.num_tokens
        if found := at.find(self):
            return Cost.found(found, tokens=count, handle=Expected(found))
        memory, refusal, rate = 0, "", at.rate(self)
        try:
            memory = self._check_memory(at.memory_bytes)
        except CapacityError as error:
            refusal = str(error)
        return Cost(
            artifact=at.expect(self, {}),
            tokens=count,
            disk_bytes=screen_bytes(count, len(self.runs)),
            memory_bytes=memory,
            seconds=rate.seconds * count * len(self.runs),
            source=rate.source,
            refusal=refusal,
        )

    def _check_memory(self, budget: int) -> int:
        """Return the memory in bytes; refuse a budget that is too small."""
        need = screen_bytes(self.shard.num_tokens, len(self.runs))
        if need > budget:
            fitting = self.shard.num_tokens * budget // need
            raise CapacityError(
                f"screening the {self.shard.num_tokens:,} tokens of {self.shard.name} needs "
                f"{need / 1e9:.2f} GB of memory, and {budget / 1e9:.2f} GB may be spent; build "
                f"smaller index shards, index.shard_tokens={fitting}, or allow more: "
                f"runtime.memory_gb={need / 1e9 + 0.01:.2f}"
            )
        return need
