"""Small index folders for tests, and the brute force that they are compared with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imagegram.indexes.build.sort import build_table

EOS = 65535
Documents = Sequence[Sequence[int]]


def stream_of(documents: Documents, *, final_separator: bool = True) -> list[int]:
    """65535 document 65535 document ... and perhaps a last 65535."""
    stream = [token for document in documents for token in (EOS, *document)]
    return [*stream, EOS] if final_separator or not stream else stream


def write_index(
    folder: Path,
    documents: Documents,
    *,
    final_separator: bool = True,
    metadata: bool = False,
    number: int = 0,
) -> Path:
    """An index folder over documents; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = [len(document) + 1 for document in documents]
    offsets = np.cumsum([0, *lengths])[:-1] * 2
    stream = stream_of(documents, final_separator=final_separator)
    np.array(stream, "<u2").tofile(folder / f"tokenized.{number}")
    offsets.astype("<u8").tofile(folder / f"offset.{number}")
    build_table(folder / f"tokenized.{number}", folder / f"table.{number}")
    if metadata:
        lines = [json.dumps({"key": f"ü{i}"}).encode() + b"\n" for i in range(len(documents))]
        (folder / f"metadata.{number}").write_bytes(b"".join(lines))
        positions = np.cumsum([0, *map(len, lines)])[:-1].astype("<u8")
        positions.tofile(folder / f"metaoff.{number}")
    return folder


class BruteForce:
    """The definitions, over plain lists."""

    def __init__(self, streams: Sequence[list[int]]) -> None:
        self.streams = streams

    def places(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Shard and position of every occurrence, shard by shard, ascending."""
        query = list(ids)
        return [
            (s, i)
            for s, stream in enumerate(self.streams)
            for i in range(len(stream) - len(query) + 1)
            if stream[i : i + len(query)] == query
        ]

    def count(self, ids: Sequence[int]) -> int:
        if not ids:
            return sum(map(len, self.streams))
        return len(self.places(ids))

    def continuations(self, ids: Sequence[int]) -> Counter[int]:
        return Counter(
            self.streams[s][i + len(ids)]
            for s, i in self.places(ids)
            if i + len(ids) < len(self.streams[s])
        )

    def next_token(
        self, prompt: Sequence[int], max_context: int | None, min_count: int
    ) -> tuple[int, dict[int, int]]:
        """Suffix length and counts."""
        longest = min(len(prompt), len(prompt) if max_context is None else max_context)
        for length in range(longest, 0, -1):
            counts = self.continuations(prompt[len(prompt) - length :])
            if counts.total() >= min_count:
                return length, dict(counts)
        return 0, dict(self.continuations([]))

    def longest_suffix(self, prompt: Sequence[int], min_count: int) -> int:
        return max(
            n for n in range(len(prompt) + 1) if n == 0 or self.count(prompt[-n:]) >= min_count
        )

    def prefix_lengths(self, row: Sequence[int]) -> list[int]:
        return [
            max(n for n in range(len(row) - i + 1) if n == 0 or self.count(row[i : i + n]))
            for i in range(len(row))
        ]

    def suffix_lengths(self, row: Sequence[int]) -> list[int]:
        return [self.longest_suffix(row[: t + 1], 1) for t in range(len(row))]

    def maximal_spans(self, row: Sequence[int]) -> list[tuple[int, int, int]]:
        """Start, end and count of all matching spans that no other one contains."""
        matching = [
            (a, b)
            for a in range(len(row))
            for b in range(a + 1, len(row) + 1)
            if self.count(row[a:b])
        ]
        return [
            (a, b, self.count(row[a:b]))
            for a, b in matching
            if not any(c <= a and b <= d and (c, d) != (a, b) for c, d in matching)
        ]
