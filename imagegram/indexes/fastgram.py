"""Adapter to the PyPI package fast-gram: exact answers or an error, never an approximation.

What it corrects (fast-gram 0.1.0):

* an occurrence at the very end of a shard has no next token, and ``ntd`` counts the separator
  there, or, when the context also ends a document, gives *all* counts to the separator: such
  contexts are read from the table itself;
* counts are exact because ``max_support`` covers the whole interval, and are checked to add up;
* results that are error values are raised; numpy integers are converted, which it would refuse;
* it orders the shards of one folder by file name, ``table.10`` before ``table.2``; we by number;
* a shard without documents, which it would refuse, is handled here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imagegram.errors import IndexFormatError, MissingDependencyError, UnsupportedError
from imagegram.indexes.base import Index, NextTokens
from imagegram.indexes.format import IndexShard, read_pointers
from imagegram.records import EOS_TOKEN_ID, Tokens

_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class FastgramIndex(Index):
    """Engine with counts and next tokens from ``fastgram.GramEngine``; the rest builds on them."""

    shards: tuple[IndexShard, ...]

    @cached_property
    def engine(self) -> Any:
        """Opened ``GramEngine``.

        Raises:
            MissingDependencyError: when fast-gram is not installed.
            UnsupportedError: when no shard has a document.
            IndexFormatError: when it refuses the folders or reads different shards.
        """
        try:
            import fastgram
        except ImportError as error:
            raise MissingDependencyError(
                "engine 'fastgram' needs a package: pip install fast-gram"
            ) from error
        if not self._live:
            raise UnsupportedError(
                "fast-gram cannot open an index without documents; use engine 'native'"
            )
        folders = self._folders
        try:
            engine = fastgram.GramEngine(folders, eos_token_id=EOS_TOKEN_ID, threads=1)
        except RuntimeError as error:
            raise IndexFormatError(f"fast-gram cannot open {folders}: {error}") from error
        sizes = [engine.engine.get_tok_cnt(s) for s in range(engine.engine.get_num_shards())]
        expected = [self.shards[s].num_tokens for s in self._live]
        if sizes != expected:
            raise IndexFormatError(
                f"fast-gram reads shards of {sizes} tokens where the folders hold {expected}; "
                "use engine 'native'"
            )
        return engine

    @cached_property
    def _folders(self) -> list[str]:
        """Folders with documents, in the order in which they are passed to fast-gram."""
        return list(dict.fromkeys(str(shard.path) for shard in self.shards if shard.num_documents))

    @cached_property
    def _live(self) -> list[int]:
        """Shards with documents, in fast-gram's order: by folder, then by the number as a string.

        A shard without documents, which fast-gram refuses, holds one separator.
        """
        live = [s for s, shard in enumerate(self.shards) if shard.num_documents]
        folders = {folder: place for place, folder in enumerate(self._folders)}
        shards = self.shards
        return sorted(live, key=lambda s: (folders[str(shards[s].path)], str(shards[s].number)))

    def _lone_separators(self) -> int:
        return sum(shard.num_tokens for shard in self.shards if not shard.num_documents)

    def __getstate__(self) -> dict[str, Any]:
        return {"shards": self.shards}  # the engine is opened again in another process

    def _segments(self, ids: Tokens) -> list[tuple[int, int]]:
        found = _checked(self.engine.find(ids.tolist()))
        lone = int(ids.tolist() == [EOS_TOKEN_ID])
        segments = [(0, lone * shard.num_tokens) for shard in self.shards]
        for s, (lo, hi) in zip(self._live, found["segment_by_shard"], strict=True):
            segments[s] = (int(lo), int(hi))
        return segments

    def _count(self, ids: Tokens) -> int:
        counted = int(_checked(self.engine.count(ids.tolist()))["count"])
        return counted + (self._lone_separators() if ids.tolist() == [EOS_TOKEN_ID] else 0)

    def _ends_a_shard(self, ids: Tokens) -> int:
        """Count the shards whose stream ends with ``ids``, an occurrence without a next token."""
        if not ids.size:
            return 0
        return sum(np.array_equal(shard.tokens[-ids.size :], ids) for shard in self.shards)

    def _num_contexts(self, ids: Tokens) -> int:
        return (self._count(ids) if ids.size else self.num_tokens) - self._ends_a_shard(ids)

    def _next_tokens(self, ids: Tokens) -> list[NextTokens]:
        if self._ends_a_shard(ids):
            return self._read_from_table(ids)
        expected = self._num_contexts(ids)
        if not expected:
            return []
        # Exact from max_support = occurrences on; more would only cost time and memory.
        answer = _checked(self.engine.primitive_ntd(ids.tolist(), max_support=expected))
        result = {token: entry["cont_cnt"] for token, entry in answer["result_by_token_id"].items()}
        if not ids.size and self._lone_separators():
            result[EOS_TOKEN_ID] = result.get(EOS_TOKEN_ID, 0) + self._lone_separators()
        if sum(result.values()) != expected:
            raise UnsupportedError(
                f"fast-gram counted {sum(result.values())} next tokens after {ids[-8:].tolist()}, "
                f"but there are {expected}; use engine 'native'"
            )
        return [(np.array([*result], np.uint16), np.array([*result.values()], np.uint64))]

    def _read_from_table(self, ids: Tokens) -> list[NextTokens]:
        parts = []
        for shard, (lo, hi) in zip(self.shards, self._segments(ids), strict=True):
            for start in range(lo, hi, _BLOCK):
                after = read_pointers(shard, start, min(start + _BLOCK, hi)) + ids.size
                tokens, counts = np.unique(
                    shard.tokens[after[after < shard.num_tokens]], return_counts=True
                )
                parts.append((tokens, counts.astype(np.uint64)))
        return parts

    def _occurrences(self, ids: Tokens, limit: int) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        for s, (lo, hi) in enumerate(self._segments(ids)):
            stop = min(hi, lo + limit - len(places))
            places += [(s, int(i)) for i in read_pointers(self.shards[s], lo, max(stop, lo))]
        return places


def _checked(answer: Any) -> Any:
    """Return an answer of fast-gram; raise if it is an error value or an approximation."""
    if "error" in answer:
        raise UnsupportedError(f"fast-gram refused the query: {answer['error']}")
    if answer.get("approx"):
        raise UnsupportedError("fast-gram gave an approximate answer; use engine 'native'")
    return answer
