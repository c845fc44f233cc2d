"""Match: the longest matches of an image set in the index, found once for all metrics.

Identified by the content of the tokens and the index, so held-out images have the same matches
whichever sampler replays them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.protocols import ImageSet, Index
from imagegram.records import lengths_inside
from imagegram.stages.embed import content_sha256
from imagegram.store.cost import NPY_HEADER, Cost, PerUnit
from imagegram.store.manifest import Artifact, Handle
from imagegram.store.stage import Context, Surroundings

#: Number of tokens that are searched at a time, and bytes of memory that each takes.
_TOKENS: Final = 1 << 25
_BYTES_A_TOKEN: Final = 12


@dataclass(frozen=True, kw_only=True)
class MatchSet(Handle):
    """Longest matches, in the order of the images."""

    @cached_property
    def lengths(self) -> NDArray[np.integer[Any]]:
        """(B, T) longest match that begins at every position, memory-mapped; see ``Index``."""
        return np.load(self.artifact.path / "lengths.npy", mmap_mode="r")  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Match:
    """The stage that finds the longest matches of an image set, in at most 0.4 GB of memory.

    Attributes:
        index: index of the training documents.
        images: image set with the tokens.
    """

    kind: ClassVar[str] = "matches"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1
    RATE: ClassVar[PerUnit] = PerUnit("num_images", "num_tokens", "num_shards", seconds=5.0e-7)
    index: Index
    images: ImageSet

    def identity(self) -> dict[str, Any]:
        """Return the identity: index, and sha256 of the tokens."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "index": self.index.identity(),
            "tokens": content_sha256(self.images.tokens),
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write ``lengths.npy``, some thousand images at a time."""
        tokens_BT = self.images.tokens
        count, num_tokens = tokens_BT.shape
        task = context.progress.start("match", count, "images")
        lengths_BT = np.lib.format.open_memmap(
            out / "lengths.npy",
            mode="w+",
            dtype=np.min_scalar_type(num_tokens),
            shape=tokens_BT.shape,
        )
        size = max(_TOKENS // max(num_tokens, 1), 1)
        for first in range(0, count, size):
            rows_BT = np.asarray(tokens_BT[first : first + size])
            found_BT = self.index.match_lengths(
                rows_BT,
                workers=context.workers,
                advance=lambda images: context.progress.advance(task, images),
            )
            lengths_BT[first : first + size] = lengths_inside(found_BT, rows_BT)
        lengths_BT.flush()
        context.progress.finish(task)
        return {
            "num_images": count,
            "num_tokens": num_tokens,
            "num_shards": _num_shards(self.index),
            "mean_length": float(lengths_BT.mean()),
        }

    def load(self, artifact: Artifact) -> MatchSet:
        """Return the matches."""
        return MatchSet(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee threads that search every token in every index shard."""
        if found := at.find(self):
            return Cost.found(found)
        facts = self.images.artifact.facts  # type: ignore[attr-defined]
        count, num_tokens = int(facts["num_images"]), int(facts["num_tokens"])
        width, rate = np.min_scalar_type(num_tokens).itemsize, at.rate(self)
        return Cost(
            images=count,
            disk_bytes=count * num_tokens * width + NPY_HEADER,
            memory_bytes=min(count * num_tokens, _TOKENS) * _BYTES_A_TOKEN,
            seconds=rate.shared(count * num_tokens * _num_shards(self.index), at.workers),
            source=rate.source,
        )


def _num_shards(index: Index) -> int:
    return len(getattr(index, "shards", (index,)))
