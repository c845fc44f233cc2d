"""The torch engine: suffix arrays on a device, searched for many queries at once.

    index = open_index("outputs/artifacts/index/0123456789ab", engine="torch")

All queries are searched in lockstep: each row of a tensor does what a thread does in
``kernels/search.py``. A single query costs some hundred device calls; the engine is meant for whole
batches of rows (``match_lengths``, ``documents_equal``). Six bytes of device memory a
token (ten from 1 G tokens a shard on).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.indexes.base import Advance, Index, NextTokens, Rows
from imagegram.indexes.checks import check_ids
from imagegram.indexes.format import IndexShard
from imagegram.indexes.torch_device import (
    choose_device,
    first_true,
    position_dtype,
    require_memory,
    to_device,
    unpack,
)
from imagegram.records import EOS_TOKEN_ID, Tokens

#: Tokens of a query that one step compares.
_WINDOW: Final = 32
#: Queries that are searched at a time, and, for fewer queries, comparisons with ranks at a time:
#: bounds the scratch memory.
_QUERIES: Final = 1 << 17
_PIVOTS: Final = _QUERIES
_BLOCK: Final = 1 << 24
_VOCABULARY: Final = 65536


@dataclass(frozen=True, kw_only=True, eq=False)
class Queries:
    """A runs of tokens: token ``j`` of query ``a`` is ``ids[start[a] + j * stride]``.

    Attributes:
        ids: int16 tensor (the bits of uint16 ids) that holds all of them.
        start: (A,) int64.
        length: (A,) int64.
        longest: no length exceeds it.
        stride: distance of neighbouring tokens in ``ids``.
    """

    ids: Tensor
    start: Tensor
    length: Tensor
    longest: int
    stride: int = 1

    def repeat(self, times: int) -> Queries:
        """Repeat every query ``times`` times in a row."""
        start, length = (each.repeat_interleave(times) for each in (self.start, self.length))
        return replace(self, start=start, length=length)


def sort_key(tokens: Tensor) -> Tensor:
    """Return sort keys of tokens (int16 bits) in table order: their two bytes swapped."""
    wide = tokens.int() & 0xFFFF
    return ((wide & 0xFF) << 8) | (wide >> 8)


def _pick(values_AK: Tensor, number_A: Tensor) -> Tensor:
    """Pick (A,) one value of each row."""
    return values_AK.gather(1, number_A[:, None]).squeeze(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class SuffixTable:
    """One shard on a device.

    Attributes:
        tokens: (n,) int16: the bits of the uint16 ids.
        table: (n,) int32 or int64 stream positions of the suffixes, in order.
    """

    tokens: Tensor
    table: Tensor

    @classmethod
    def load(cls, shard: IndexShard, device: torch.device) -> SuffixTable:
        """Copy a shard to a device."""
        table = unpack(
            shard.table,
            width=shard.pointer_width,
            count=shard.num_tokens,
            device=device,
            halve=True,
        )
        return cls(tokens=to_device(shard.tokens, device), table=table)

    @property
    def num_tokens(self) -> int:
        """Tokens of the stream, separators included."""
        return self.tokens.numel()

    def shared(self, at_A: Tensor, queries: Queries, known_A: Tensor) -> Tensor:
        """Return the (A,) numbers of tokens that each query shares with the stream from ``at`` on.

        Args:
            at_A: (A,) stream positions.
            queries: A of them.
            known_A: (A,) tokens that are known to be shared.
        """
        last, depth_A = self.num_tokens - 1, known_A.clone()
        most_A = torch.minimum(queries.length, self.num_tokens - at_A)
        near = torch.arange(_WINDOW, device=at_A.device)
        rest = torch.arange(at_A.numel(), device=at_A.device)
        for _ in range(-(-queries.longest // _WINDOW)):
            depths = depth_A[rest, None] + near
            places = (queries.start[rest, None] + depths * queries.stride).clamp_(
                max=queries.ids.numel() - 1
            )
            stream = self.tokens[(at_A[rest, None] + depths).clamp_(max=last)]
            differs = (depths >= most_A[rest, None]) | (stream != queries.ids[places])
            found, first = first_true(differs)
            depth_A[rest] += torch.where(found, first, _WINDOW)
            if queries.longest > _WINDOW:
                rest = rest[~found]
        return depth_A

    def bound(
        self, queries: Queries, lo_A: Tensor, hi_A: Tensor, *, after: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Find the first rank of [lo, hi) whose suffix does not sort before its query; else hi.

        One step compares each query with many ranks at once, the fewer queries the more ranks.

        Args:
            queries: A of them, each of at least one token.
            lo_A: (A,) first rank.
            hi_A: (A,) last rank + 1.
            after: skip the suffixes that begin with the query, too.

        Returns:
            (A,) ranks, and the most tokens that a suffix seen on the way shares with the query: the
            longest match, when all ranks were searched and ``after`` is false.
        """
        count, last = lo_A.numel(), self.num_tokens - 1
        best_A = torch.zeros_like(lo_A)
        if not count:
            return lo_A, best_A
        number = min(max(_PIVOTS // count, 1), _WINDOW - 1)
        steps = torch.arange(1, number + 1, device=lo_A.device)
        many = queries.repeat(number)
        below_A, above_A = best_A.clone(), best_A.clone()
        size = int((hi_A - lo_A).max())
        while size > 0:
            size //= number + 1
            pivots = lo_A[:, None] + (hi_A - lo_A)[:, None] * steps // (number + 1)
            live_A = lo_A < hi_A
            at = self.table[pivots.clamp(max=last).view(-1)].long()
            known = torch.minimum(below_A, above_A).repeat_interleave(number)
            shared = self.shared(at, many, known)
            smaller = self._sorts_before(at, shared, many, after=after)
            shared, smaller = shared.view(count, number), smaller.view(count, number)
            best_A = torch.where(live_A, torch.maximum(best_A, shared.amax(1)), best_A)
            passed_A = smaller.sum(1)
            low, high = (passed_A - 1).clamp_(min=0), passed_A.clamp(max=number - 1)
            right_A, left_A = live_A & (passed_A > 0), live_A & (passed_A < number)
            lo_A = torch.where(right_A, _pick(pivots, low) + 1, lo_A)
            below_A = torch.where(right_A, _pick(shared, low), below_A)
            hi_A = torch.where(left_A, _pick(pivots, high), hi_A)
            above_A = torch.where(left_A, _pick(shared, high), above_A)
        return lo_A, best_A

    def _sorts_before(
        self, at_A: Tensor, shared_A: Tensor, queries: Queries, *, after: bool
    ) -> Tensor:
        """Return (A,) whether the suffix at a place sorts before its query; they share a prefix."""
        last, next_A = self.num_tokens - 1, at_A + shared_A
        wanted = (queries.start + shared_A * queries.stride).clamp_(max=queries.ids.numel() - 1)
        smaller_A = sort_key(self.tokens[next_A.clamp(max=last)]) < sort_key(queries.ids[wanted])
        return torch.where(shared_A >= queries.length, after, smaller_A | (next_A > last))

    def find(
        self, queries: Queries, lo_A: Tensor | None = None, hi_A: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Find the (A,), (A,) ranks [lo, hi) of the suffixes that begin with each query.

        Args:
            queries: A of them; the empty one is found at every rank.
            lo_A: where to search, all ranks by default.
            hi_A: its end.
        """
        if lo_A is None or hi_A is None:
            lo_A = torch.zeros_like(queries.start)
            hi_A = torch.full_like(queries.start, self.num_tokens)
        first_A, _ = self.bound(queries, lo_A, hi_A)
        end_A, _ = self.bound(queries, first_A, hi_A, after=True)
        return first_A, end_A


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchIndex(Index):
    """Engine with suffix arrays resident on a device.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:1`` ...; None: CUDA when there is one.
    """

    shards: tuple[IndexShard, ...]
    device: str | None = None

    @cached_property
    def tables(self) -> tuple[SuffixTable, ...]:
        """Shards on the device.

        Raises:
            ConfigError: when there is no such device.
            UnsupportedError: when they do not fit there.
        """
        device = choose_device(self.device)
        sizes = [shard.num_tokens for shard in self.shards]
        widths = [2 + position_dtype(2 * size).itemsize for size in sizes]
        needed = sum(size * width for size, width in zip(sizes, widths, strict=True))
        require_memory(needed, device, what=f"an index of {sum(sizes)} tokens")
        return tuple(SuffixTable.load(shard, device) for shard in self.shards)

    def __getstate__(self) -> dict[str, Any]:
        return {"shards": self.shards, "device": self.device}  # copied again by another process

    def _queries(self, rows: Tokens, lengths: NDArray[np.int64]) -> Queries:
        """Return queries that lie one after the other in ``rows``."""
        device = self.tables[0].tokens.device
        ids = to_device(np.ascontiguousarray(rows), device)
        length = torch.from_numpy(lengths).to(device)
        longest = int(lengths.max(initial=0))
        return Queries(ids=ids, start=length.cumsum(0) - length, length=length, longest=longest)

    def _intervals(self, ids: Tokens) -> list[tuple[int, int]]:
        """Return, per shard, the ranks [lo, hi) of the suffixes that begin with ``ids``."""
        if not ids.size:
            return [(0, table.num_tokens) for table in self.tables]
        query = self._queries(ids, np.array([ids.size]))
        found = [table.find(query) for table in self.tables]
        return [(int(lo), int(hi)) for lo, hi in found]

    def _count(self, ids: Tokens) -> int:
        return sum(hi - lo for lo, hi in self._intervals(ids))

    def _num_contexts(self, ids: Tokens) -> int:
        ended = sum(np.array_equal(shard.tokens[-ids.size :], ids) for shard in self.shards)
        return self._count(ids) - ended

    def _next_tokens(self, ids: Tokens) -> list[NextTokens]:
        parts = []
        for table, (lo, hi) in zip(self.tables, self._intervals(ids), strict=True):
            counts = torch.zeros(_VOCABULARY, dtype=torch.int64, device=table.tokens.device)
            for start in range(lo, hi, _BLOCK):
                after = table.table[start : min(start + _BLOCK, hi)].long() + ids.size
                tokens = table.tokens[after[after < table.num_tokens]].int() & 0xFFFF
                counts += torch.bincount(tokens, minlength=_VOCABULARY)
            held = counts.nonzero().ravel()
            tokens_K = held.cpu().numpy().astype(np.uint16)
            parts.append((tokens_K, counts[held].cpu().numpy().astype(np.uint64)))
        return parts

    def _occurrences(self, ids: Tokens, limit: int) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        for s, (lo, hi) in enumerate(self._intervals(ids)):
            stop = min(hi, lo + limit - len(places))
            places += [(s, int(at)) for at in self.tables[s].table[lo : max(stop, lo)].tolist()]
        return places

    def match_lengths(
        self, tokens_BT: Rows, *, workers: int | None = None, advance: Advance | None = None
    ) -> NDArray[np.int32]:
        """See :meth:`Index.match_lengths`; one search per position and shard, all at once."""
        rows = check_ids(tokens_BT, dimensions=2)
        num_tokens = rows.shape[1]
        lengths = np.zeros(rows.shape, dtype=np.int32)
        step = max(_QUERIES // max(num_tokens, 1), 1)
        for b in range(0, len(rows) if num_tokens else 0, step):
            part = rows[b : b + step]
            ends = np.tile(np.arange(num_tokens, 0, -1), len(part))
            spread = self._queries(part.ravel(), ends)
            every = torch.arange(part.size, device=spread.ids.device)
            queries = replace(spread, start=every)
            best = torch.zeros_like(every)
            for table in filter(lambda table: table.num_tokens, self.tables):
                hi = torch.full_like(every, table.num_tokens)
                _, found = table.bound(queries, torch.zeros_like(every), hi)
                best = torch.maximum(best, found)
            lengths[b : b + step] = best.cpu().numpy().reshape(part.shape)
            if advance is not None:
                advance(len(part))
        return lengths

    def documents_equal(self, tokens_BT: Rows, *, workers: int | None = None) -> NDArray[np.int64]:
        """See :meth:`Index.documents_equal`."""
        rows = check_ids(tokens_BT, dimensions=2)
        counts = np.zeros(len(rows), dtype=np.int64)
        if not len(rows):
            return counts
        framed = np.pad(rows, ((0, 0), (1, 1)), constant_values=EOS_TOKEN_ID)
        queries = self._queries(framed.ravel(), np.full(len(rows), framed.shape[1]))
        for table in filter(lambda table: table.num_tokens, self.tables):
            lo, hi = table.find(queries)
            counts += (hi - lo).cpu().numpy()
        for shard in self.shards:
            # A last document without a separator behind it ends with the stream.
            if not shard.has_final_separator and shard.num_tokens >= framed.shape[1] - 1:
                counts += (framed[:, :-1] == shard.tokens[1 - framed.shape[1] :]).all(axis=1)
        counts[(rows == EOS_TOKEN_ID).any(axis=1)] = 0  # no document holds a separator
        return counts
