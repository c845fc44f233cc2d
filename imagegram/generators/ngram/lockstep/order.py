"""An order of suffixes on a device: the interval of a context without a search.

``indexes/order.py`` says what the files hold. Everything here takes A contexts at a time and asks
the device for no answer that Python must wait for, except whether any wide interval is left.
Fifteen bytes of device memory a token (23 from 1 G tokens on).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from imagegram.indexes.order import MINIMA_FANOUT, Order, minima_sizes
from imagegram.indexes.torch import SuffixTable
from imagegram.indexes.torch_device import (
    first_true,
    position_dtype,
    require_memory,
    to_device,
    unpack,
)

#: Contexts must be shorter: shared lengths are compared as signed 16-bit integers.
MAX_CONTEXT: Final = 32766
_BLOCK: Final = 1 << 24
_SHIFT: Final = MINIMA_FANOUT.bit_length() - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class OrderTensors:
    """An :class:`~imagegram.indexes.order.Order`, unpacked.

    Attributes:
        suffixes: the stream and the order's own table.
        inverse: (n,) int32 or int64 rank of the suffix at every stream position.
        repeat: (n,) int16 by stream position, at most 32767.
        levels: int16 tensors: ``lcp``, then its minima from fine to coarse, at most 32767.
    """

    suffixes: SuffixTable
    inverse: Tensor
    repeat: Tensor
    levels: tuple[Tensor, ...]

    @classmethod
    def load(cls, order: Order, device: torch.device) -> OrderTensors:
        """Copy an order to a device.

        Raises:
            UnsupportedError: when it does not fit there.
        """
        shard, n = order.shard, order.shard.num_tokens
        sizes = minima_sizes(n)
        needed = 6 * n + 2 * sum(sizes) + 2 * n * position_dtype(2 * n).itemsize
        require_memory(needed, device, what=f"an index of {n} tokens with its order")
        minima = to_device(order.minima, device, most=MAX_CONTEXT + 1)
        table = unpack(order.table, width=order.pointer_width, count=n, device=device, halve=True)
        return cls(
            suffixes=SuffixTable(tokens=to_device(shard.tokens, device), table=table),
            inverse=unpack(order.inverse, width=order.inverse_width, count=n, device=device),
            repeat=to_device(order.repeat, device, most=MAX_CONTEXT + 1),
            levels=(
                to_device(order.lcp, device, most=MAX_CONTEXT + 1),
                *torch.split(minima, sizes),
            ),
        )

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the stream, separators included."""
        return self.suffixes.num_tokens

    @property
    def tokens(self) -> Tensor:
        """(n,) int16 bits of the stream's ids."""
        return self.suffixes.tokens

    @property
    def table(self) -> Tensor:
        """(n,) stream position of every rank's suffix."""
        return self.suffixes.table

    @property
    def lcp(self) -> Tensor:
        """(n,) tokens that the suffix of a rank shares with that of the rank before."""
        return self.levels[0]

    def supported(self, needed: int) -> Tensor:
        """Return (n,) int16 by stream position: the longest prefix that occurs ``needed`` times.

        The best of all runs of ``needed`` neighbouring ranks that hold the suffix's own, where a
        run shares the least of its inner ``lcp``. Both windows are widened by doubling.

        Args:
            needed: occurrences, at least 2; ``repeat`` is the answer for 2.

        Raises:
            UnsupportedError: when the work does not fit on the device.
        """
        if needed == 2:
            return self.repeat
        if needed > self.num_tokens:
            return torch.zeros_like(self.repeat)
        what = f"sampler.min_count={needed} for an index of {self.num_tokens} tokens"
        require_memory(4 * self.repeat.nbytes, self.repeat.device, what=what)
        runs = _sliding(torch.minimum, self.lcp[1:], needed - 1)
        beside = runs.new_zeros(needed - 1)
        best = _sliding(torch.maximum, torch.cat([beside, runs, beside]), needed)
        result = torch.empty_like(self.repeat)
        for part, ranks in zip(
            torch.split(result, _BLOCK), torch.split(self.inverse, _BLOCK), strict=True
        ):
            torch.index_select(best, 0, ranks, out=part)
        return result

    def shorten(self, supported: Tensor, end_A: Tensor, length_A: Tensor, longest: int) -> Tensor:
        """Return the length of the longest suffix of each context with enough occurrences.

        Args:
            supported: (n,) of :meth:`supported`.
            end_A: (A,) stream position behind an occurrence of the context.
            length_A: (A,) its tokens.
            longest: the largest of them, or more.

        Returns:
            (A,) at most ``length``; 0 when not even one token occurs as often.
        """
        near = torch.arange(MINIMA_FANOUT, device=end_A.device)
        result_A, done_A = torch.zeros_like(length_A), length_A <= 0
        for start in range(0, longest, MINIMA_FANOUT):
            lengths = length_A[:, None] - (near + start)
            at = (end_A[:, None] - lengths).clamp_(0, self.num_tokens - 1)
            found, first = first_true((supported[at] >= lengths) | (lengths <= 0))
            result_A = torch.where(done_A | ~found, result_A, length_A - start - first)
            done_A = done_A | found
            if start + MINIMA_FANOUT < longest and bool(done_A.all()):
                break
        return result_A.clamp_(min=0)

    def interval(self, rank_A: Tensor, depth_A: Tensor) -> tuple[Tensor, Tensor]:
        """Return (A,), (A,) ranks [lo, hi) that share ``depth`` >= 1 tokens with a rank.

        The nearest 32 places on each side are read at once; wide intervals climb the minima.
        """
        near = torch.arange(MINIMA_FANOUT, device=rank_A.device)
        at = torch.cat([rank_A[:, None] - near, rank_A[:, None] + (1 + near)])
        depth_2A, n = depth_A.repeat(2), self.num_tokens
        below = self.lcp[at.clamp(0, n - 1)] < depth_2A[:, None]
        found, first = first_true(below | (at >= n))
        bound_2A = at.gather(1, first[:, None]).squeeze(1)
        wide = (~found).nonzero().squeeze(1)
        if wide.numel():
            right = wide >= rank_A.numel()
            bound_2A[wide] = self._climb(rank_A.repeat(2)[wide], depth_2A[wide], right)
        lo_A, hi_A = torch.split(bound_2A, rank_A.numel())
        return lo_A, hi_A

    def _climb(self, rank_Q: Tensor, depth_Q: Tensor, right_Q: Tensor) -> Tensor:
        """Find the first rank beyond the nearest 32, left or right, with an lcp below ``depth``."""
        step_Q = torch.where(right_Q, 1, -1)
        near = torch.arange(MINIMA_FANOUT, device=rank_Q.device)
        at_Q = (rank_Q + torch.where(right_Q, MINIMA_FANOUT + 1, -MINIMA_FANOUT)) >> _SHIFT
        node_Q, level_Q = torch.zeros_like(at_Q), torch.zeros_like(at_Q)
        for level, minima in enumerate(self.levels[1:], start=1):
            at = at_Q[:, None] + step_Q[:, None] * near
            inside = (at >> _SHIFT == at_Q[:, None] >> _SHIFT) & (at < minima.numel())
            low = minima[at.clamp_(0, minima.numel() - 1)] < depth_Q[:, None]
            found, first = first_true(low & inside)
            found &= level_Q == 0
            node_Q = torch.where(found, at_Q + step_Q * first, node_Q)
            level_Q = torch.where(found, level, level_Q)
            at_Q = (at_Q >> _SHIFT) + step_Q
        children = torch.where(right_Q[:, None], near, MINIMA_FANOUT - 1 - near)
        for level in range(len(self.levels) - 1, 0, -1):
            below = self.levels[level - 1]
            at = (node_Q << _SHIFT)[:, None] + children
            inside = at < below.numel()
            low = below[at.clamp(max=below.numel() - 1)] < depth_Q[:, None]
            _, first = first_true(low & inside)
            child_Q = at.gather(1, first[:, None]).squeeze(1)
            node_Q = torch.where(level_Q >= level, child_Q, node_Q)
        return torch.where(level_Q > 0, node_Q, self.num_tokens)


def _sliding(least: Callable[[Tensor, Tensor], Tensor], values: Tensor, width: int) -> Tensor:
    """Return the least (or largest) of every ``width`` neighbours: ``width - 1`` entries fewer."""
    done = 1
    while done < width:
        step = min(done, width - done)
        values = least(values[:-step], values[step:])
        done += step
    return values
