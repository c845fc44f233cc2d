"""Next tokens of contexts, with counts and probabilities, on a device.

A context is an interval of ranks that share ``depth`` tokens. Inside it the next-token groups are
the runs between places of lcp <= ``depth``, so counting is one scan of ``lcp``; the stream is read
once a group. Entries lie one after the other in growing tensors. Those of wide intervals, which
return millions of times when contexts are short, are remembered by (first rank, depth); the others
are forgotten at the next token. While the limit of contexts stays as it is, what follows a group is
always the same context: remembered groups are linked to remembered entries, so that short contexts
become a walk in a graph. Nothing remembered changes a result.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from imagegram.generators.ngram.lockstep.order import OrderTensors
from imagegram.generators.ngram.lockstep.shape import SIDE, Shaper
from imagegram.records import EOS_TOKEN_ID

#: Contexts of fewer occurrences are counted again each time: that is as fast as remembering.
FREQUENT: Final = 128
#: Groups that are remembered at most, 40 bytes each; then everything is forgotten.
MOST_GROUPS: Final = 1 << 25
#: Ranks that are scanned, and cells of a matrix of groups, at a time.
_BLOCK: Final = 1 << 23
#: Contexts are shaped together up to these numbers of groups.
_WIDTHS: Final = (0, 16, 1 << 16)
_SEPARATOR: Final = EOS_TOKEN_ID
#: Bits of a key that hold the depth.
_DEPTH: Final = 16

#: Places that one step of a search looks at.
_FANOUT: Final = 32

#: Entry: tokens of context, number of its first group, of its groups, candidates, last group that
#: can be drawn, bits.
_ENTRY_TYPES: Final = {
    "depth": torch.int64,
    "start": torch.int64,
    "size": torch.int64,
    "total": torch.int64,
    "last": torch.int64,
    "entropy": torch.float32,
}
#: Group: token, its first rank, its ranks, sum of probabilities up to it, its own; link: 1 + entry
#: of the context that follows, 0 when that is not known.
_GROUP_TYPES: Final = {
    "token": torch.int32,
    "first": torch.int64,
    "count": torch.int64,
    "cumulative": torch.float64,
    "probability": torch.float32,
    "link": torch.int64,
}


@dataclass(kw_only=True, eq=False)
class Votes:
    """The entries of one walk; grows and forgets.

    Attributes:
        order: order of the suffixes, whose ranks make the intervals.
        shaper: turns counts into probabilities.
        ascending: whether table order is ascending token order: true when all ids are below 256.
        frequent: occurrences from which on a context is remembered, at most :data:`SIDE`.
        most_groups: groups that may be remembered.
    """

    order: OrderTensors
    shaper: Shaper
    ascending: bool
    frequent: int = FREQUENT
    most_groups: int = MOST_GROUPS
    entries: dict[str, Tensor] = field(init=False)
    groups: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        assert 1 <= self.frequent <= SIDE
        device = self.shaper.device
        self.entries = {n: torch.empty(0, dtype=t, device=device) for n, t in _ENTRY_TYPES.items()}
        self.groups = {n: torch.empty(0, dtype=t, device=device) for n, t in _GROUP_TYPES.items()}
        self._linked = 0
        self._forget()

    def _forget(self) -> None:
        self._keys = torch.empty(0, dtype=torch.int64, device=self.shaper.device)
        self._key_entries = self._keys.clone()
        self._used = self._kept = (0, 0)  # entries, groups
        self._widest = 1

    def forget_rare(self) -> bool:
        """Drop the entries that are not remembered; their numbers become invalid.

        Returns:
            Whether everything was forgotten, so that no number is valid any more.
        """
        full = self._kept[1] > self.most_groups
        if full:
            self._forget()
        self._used = self._kept
        return full

    def follow(self, group_A: Tensor, limit: int) -> Tensor:
        """Return (A,) entries of the contexts linked to remembered groups; -1 when unknown.

        Args:
            group_A: (A,) numbers of groups, -1 for none.
            limit: longest context, at the new token and at those before; links of another one are
                dropped.
        """
        if limit != self._linked:
            self.groups["link"].zero_()
            self._linked = limit
        if not self.groups["link"].numel():
            return group_A
        return torch.where(group_A < 0, 0, self.groups["link"][group_A.clamp(min=0)]) - 1

    def link(self, group_A: Tensor, entry_A: Tensor) -> None:
        """Link remembered groups (-1: none) to the entries that are remembered."""
        lasting = ((group_A >= 0) & (entry_A < self._kept[0])).nonzero().squeeze(1)
        self.groups["link"][group_A[lasting]] = entry_A[lasting] + 1

    def remembered(self, group_A: Tensor) -> Tensor:
        """Return the numbers of groups that last; -1 for the others."""
        return torch.where(group_A < self._kept[1], group_A, -1)

    def look_up(self, lo_A: Tensor, hi_A: Tensor, depth_A: Tensor) -> Tensor:
        """Return (A,) entries of contexts, counted where they are not remembered.

        Args:
            lo_A: (A,) first rank of a maximal interval of suffixes that share ``depth`` tokens.
            hi_A: (A,) its end.
            depth_A: (A,) at least 0.
        """
        key_A, wide_A = lo_A << _DEPTH | depth_A, hi_A - lo_A >= self.frequent
        entry_A = torch.full_like(lo_A, -1)
        if self._keys.numel():
            at = torch.searchsorted(self._keys, key_A).clamp_(max=self._keys.numel() - 1)
            entry_A = torch.where(self._keys[at] == key_A, self._key_entries[at], entry_A)
        fresh = (wide_A & (entry_A < 0)).nonzero().squeeze(1)
        rare = (~wide_A).nonzero().squeeze(1)
        key_E, number = torch.unique(key_A[fresh], return_inverse=True)
        hi_E = torch.empty_like(key_E)
        hi_E[number] = hi_A[fresh]
        if key_E.numel() + rare.numel():
            new_E = self._count(
                torch.cat([key_E >> _DEPTH, lo_A[rare]]),
                torch.cat([hi_E, hi_A[rare]]),
                torch.cat([key_E & (1 << _DEPTH) - 1, depth_A[rare]]),
                lasting=key_E.numel(),
            )
            entry_A[rare] = new_E[key_E.numel() :]
        if key_E.numel():
            entry_A[fresh] = new_E[number]
            self._keys, place = torch.cat([self._keys, key_E]).sort()
            self._key_entries = torch.cat([self._key_entries, new_E[: key_E.numel()]])[place]
        return entry_A

    def draw(self, entry_A: Tensor, uniform_A: Tensor) -> Tensor:
        """Return the (A,) groups, counted from their entry's first, that uniforms select."""
        group_A = self._first_above(self.groups["cumulative"], entry_A, uniform_A)
        beyond_A = group_A == self.entries["size"][entry_A]
        return torch.where(beyond_A, self.entries["last"][entry_A], group_A)

    def find(self, entry_A: Tensor, token_A: Tensor) -> Tensor:
        """Return the (A,) groups of tokens, counted from their entry's first; -1 without one."""
        group_A = self._first_above(self.groups["token"], entry_A, token_A - 1)
        at = self.entries["start"][entry_A] + group_A
        inside = group_A < self.entries["size"][entry_A]
        same = self.groups["token"][at.clamp_(max=len(self.groups["token"]) - 1)] == token_A
        return torch.where(inside & same, group_A, -1)

    def _first_above(self, values: Tensor, entry_A: Tensor, bound_A: Tensor) -> Tensor:
        """Find the first group of each entry with a value above a bound; its size without one."""
        size_A, last = self.entries["size"][entry_A], values.numel() - 1
        start_A, group_A = self.entries["start"][entry_A], torch.zeros_like(size_A)
        near = torch.arange(1, _FANOUT + 1, device=size_A.device)
        step = 1
        while step * _FANOUT <= self._widest:
            step *= _FANOUT
        while step:
            number = group_A[:, None] + (near * step - 1)
            value = values[(start_A[:, None] + number).clamp_(max=last)]
            passed = (value <= bound_A[:, None]) & (number < size_A[:, None])
            group_A = group_A + passed.sum(1) * step
            step //= _FANOUT
        return group_A

    def _count(self, lo_E: Tensor, hi_E: Tensor, depth_E: Tensor, *, lasting: int) -> Tensor:
        """Add entries for E intervals, the first ``lasting`` to stay; return their numbers."""
        owner_G, rank_G, count_G, token_G = self._split(lo_E, hi_E, depth_E)
        size_E = torch.zeros_like(lo_E).scatter_add_(0, owner_G, torch.ones_like(owner_G))
        total_E = torch.zeros_like(lo_E).scatter_add_(0, owner_G, count_G)
        entries, groups = self._used
        self._used = (entries + lo_E.numel(), groups + owner_G.numel())
        _reserve(self.entries, self._used[0])
        _reserve(self.groups, self._used[1])
        new = slice(entries, self._used[0])
        self.entries["start"][new] = groups + size_E.cumsum(0) - size_E
        self.entries["size"][new], self.entries["total"][new] = size_E, total_E
        self.entries["depth"][new] = depth_E
        for name, values in (("token", token_G), ("first", rank_G), ("count", count_G)):
            self.groups[name][groups : self._used[1]] = values
        self.groups["link"][groups : self._used[1]] = 0
        entry_E = torch.arange(entries, self._used[0], device=lo_E.device)
        self._shape(entry_E, size_E, bounded=not lasting)
        if lasting:
            self._kept = (entries + lasting, groups + int(size_E[:lasting].sum()))
        return entry_E

    def _split(
        self, lo_E: Tensor, hi_E: Tensor, depth_E: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the groups of E intervals: entry, first rank, count and token, in that order.

        The separator and the suffix that ends with the stream have none.
        """
        rank_G, owner_G = self._boundaries(lo_E, hi_E, depth_E)
        next_G = torch.cat([rank_G[1:], rank_G[:1]])
        ends_G = torch.cat([owner_G[1:] != owner_G[:-1], owner_G.new_ones(1, dtype=torch.bool)])
        count_G = torch.where(ends_G, hi_E[owner_G], next_G) - rank_G
        place_G = self.order.table[rank_G] + depth_E[owner_G]
        n = self.order.num_tokens
        token_G = self.order.tokens[place_G.clamp(max=n - 1)].long() & 0xFFFF
        kept = ((place_G < n) & (token_G != _SEPARATOR)).nonzero().squeeze(1)
        if not self.ascending:
            kept = kept[(owner_G << 16 | token_G)[kept].argsort()]
        return owner_G[kept], rank_G[kept], count_G[kept], token_G[kept]

    def _boundaries(self, lo_E: Tensor, hi_E: Tensor, depth_E: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ranks that begin a group, and the number of their interval."""
        end_E = (hi_E - lo_E).cumsum(0)
        shift_E = hi_E - end_E  # from a place among all scanned ranks to the rank
        total = int(end_E[-1])
        ranks, owners = [], []
        for start in range(0, total, _BLOCK):
            scanned = torch.arange(start, min(start + _BLOCK, total), device=lo_E.device)
            owner = torch.searchsorted(end_E, scanned, right=True)
            rank = scanned + shift_E[owner]
            first = (self.order.lcp[rank] <= depth_E[owner]).nonzero().squeeze(1)
            ranks.append(rank[first])
            owners.append(owner[first])
        return torch.cat(ranks), torch.cat(owners)

    def _shape(self, entry_E: Tensor, size_E: Tensor, *, bounded: bool) -> None:
        """Fill in what depends on the sampler, contexts of similar numbers of groups together."""
        widest = int(size_E.max())
        self._widest = max(self._widest, widest)
        spare = self._used[1]  # reserved: where the cells without a group go
        for low, high in itertools.pairwise(_WIDTHS):
            if widest <= low:
                break
            width = min(high, widest)
            chosen = entry_E[(size_E > low) & (size_E <= high)]
            for part in torch.split(chosen, max(_BLOCK // width, 2)):
                # Never one column: CUDA would add it in another order.
                entry = part.repeat(2) if part.numel() == 1 else part
                number_K = torch.arange(width, device=entry.device)[:, None]
                inside_KE = number_K < self.entries["size"][entry]
                at_KE = torch.where(inside_KE, self.entries["start"][entry] + number_K, spare)
                counts_KE = self.groups["count"][at_KE] * inside_KE
                shaped = self.shaper.shape(counts_KE, bounded=bounded)
                self.groups["cumulative"][at_KE] = shaped.cumulative
                self.groups["probability"][at_KE] = shaped.probability.float()
                self.entries["last"][entry] = shaped.last
                self.entries["entropy"][entry] = shaped.entropy


def _reserve(arrays: dict[str, Tensor], used: int) -> None:
    """Let every array hold more than ``used`` numbers."""
    for name, array in arrays.items():
        if array.numel() <= used:
            grown = torch.zeros(2 * used + 1024, dtype=array.dtype, device=array.device)
            grown[: array.numel()] = array
            arrays[name] = grown
