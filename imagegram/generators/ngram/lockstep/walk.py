"""Many images at once, token by token in lock step: the walk along an order of suffixes.

``ngram/reference.py`` says what a token is; this is how it is found without a search. The
last token was taken from a place ``p`` of the corpus, after a context of length L. For the new
context the suffix that begins ``m`` tokens before ``p + 1`` is one of its occurrences, so its
interval lies around that suffix's rank (``OrderTensors.interval``), or, when the window grew to
L + 1, is the group of the last token itself. A context that occurs once needs not even that:
``repeat`` tells it, and the next token is the one behind ``p``. This first half of
:meth:`Walk.step` has one size for all images and waits for nothing; only images with a choice go
through the rest, in tensors of their number.

Two cases are left to a search: the limit of the context grew by more than one (another level of
the tokenizer), and a given token that no candidate holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from imagegram.generators.ngram.lockstep.order import OrderTensors
from imagegram.generators.ngram.lockstep.votes import Votes
from imagegram.indexes.torch import Queries
from imagegram.records import EOS_TOKEN_ID

#: Contexts that are searched at a time, and lengths of all of them that are tried at once, when
#: they are fewer: bounds the scratch memory.
_SEARCHED: Final = 1 << 17
_TRIED: Final = 1 << 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Rules:
    """Sampler and corpus, as the walk needs them.

    Attributes:
        order: the suffixes; aligned for ``matching=position``.
        bucket: ranks of one position in an aligned order = documents; 0 in the suffix order.
        roots: ranks [lo, hi) of the suffixes that begin a document.
        needed: ``min_count``, at most the number of documents.
        supported: ``order.supported(needed)``, of 2 when one is needed.
        limits: longest context of every position.
    """

    order: OrderTensors
    bucket: int
    roots: tuple[int, int]
    needed: int
    supported: Tensor
    limits: Sequence[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """(B,) tensors: the trace of one position, by its names; ``place`` is -1 without a source."""

    suffix_len: Tensor
    num_contexts: Tensor
    num_distinct: Tensor
    probability: Tensor
    entropy: Tensor
    place: Tensor


@dataclass(kw_only=True, eq=False)
class Walk:
    """B images being written.

    Attributes:
        rules: constant.
        votes: distributions of contexts.
        history: (T + 1, B) int16 bits: the separator, then the tokens, given ones among them.
        until: (B,) int64 first tokens of every image that are given; None: all are drawn.
    """

    rules: Rules
    votes: Votes
    history: Tensor
    until: Tensor | None
    _limit: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        device, count = self.history.device, self.history.shape[1]
        self.history[0] = EOS_TOKEN_ID - 65536
        zeros = torch.zeros(count, dtype=torch.int64, device=device)
        # Where the last token stands in the corpus (at first: a separator), and whether it was
        # taken from there; the length of its context, the ranks of the group that it was chosen
        # from, and that group's number when it is remembered.
        self._anchor, self._length = zeros, zeros.clone()
        self._source, self._group = zeros - 1, zeros - 1
        self._first = zeros + self.rules.roots[0]
        self._end = zeros + self.rules.roots[1]

    def step(self, t: int, first_B: Tensor, second_B: Tensor) -> Columns:
        """Write or trace the token at position ``t``; positions come in order.

        Args:
            t: position.
            first_B: (B,) uniforms that choose the tokens.
            second_B: (B,) uniforms that choose their sources.
        """
        order, limit = self.rules.order, min(self.rules.limits[t], t + 1)
        length_B = (self._length + 1).clamp_(max=limit)
        grown_B = length_B > self._length
        if self.until is not None or limit > self._limit + 1:
            length_B, grown_B = self._search(t, limit, length_B, grown_B)
        steady, self._limit = limit == self._limit, limit
        next_B = self._anchor + 1
        at_B = (next_B - length_B).clamp_(0, order.num_tokens - 1)
        token_B = order.tokens[next_B.clamp(max=order.num_tokens - 1)].long() & 0xFFFF
        ended_B = (next_B >= order.num_tokens) | (token_B == EOS_TOKEN_ID)
        sure_B = (order.repeat[at_B] < length_B) & ~ended_B
        columns = self._certain(t, length_B, next_B, token_B)
        if self.rules.needed > 1:
            rest = torch.arange(length_B.numel(), device=length_B.device)
        else:
            rest = (~sure_B).nonzero().squeeze(1)
        if rest.numel():
            self._choose(t, rest, grown_B, columns, first_B, second_B, steady=steady)
        else:
            self._group = torch.full_like(self._group, -1)
        self._length, self._source, self._anchor = columns.suffix_len, columns.place, columns.place
        return columns

    def _certain(self, t: int, length_B: Tensor, next_B: Tensor, token_B: Tensor) -> Columns:
        """Return the columns of steps with one candidate."""
        ones = torch.ones_like(length_B)
        probability_B, place_B = ones.float(), next_B
        written_B = token_B.short()
        if self.until is not None:
            written_B = torch.where(self.until > t, self.history[t + 1], written_B)
            same_B = written_B.long() & 0xFFFF == token_B
            probability_B, place_B = same_B.float(), torch.where(same_B, next_B, -1)
        self.history[t + 1] = written_B
        return Columns(
            suffix_len=length_B,
            num_contexts=ones,
            num_distinct=ones.clone(),
            probability=probability_B,
            entropy=torch.zeros_like(probability_B),
            place=place_B.clone(),
        )

    def _choose(
        self,
        t: int,
        rest: Tensor,
        grown_B: Tensor,
        columns: Columns,
        first_B: Tensor,
        second_B: Tensor,
        *,
        steady: bool,
    ) -> None:
        """Write the columns of the images ``rest``, which have several candidates to choose of."""
        votes = self.votes
        length_A, grown_A, before_A = columns.suffix_len[rest], grown_B[rest], self._group[rest]
        if votes.forget_rare() or not steady:
            before_A.fill_(-1)
        entry_A = votes.follow(before_A, self._limit) if steady else before_A
        unknown = (entry_A < 0).nonzero().squeeze(1)
        if unknown.numel():
            entry_A[unknown] = self._decide(t, rest[unknown], length_A[unknown], grown_A[unknown])
            if steady:
                votes.link(before_A[unknown], entry_A[unknown])
        length_A = votes.entries["depth"][entry_A]
        group_A, given_A = votes.draw(entry_A, first_B[rest]), None
        if self.until is not None:
            given_A = self.until[rest] > t
            token_A = self.history[t + 1][rest].long() & 0xFFFF
            group_A = torch.where(given_A, votes.find(entry_A, token_A), group_A)
        held_A = group_A >= 0
        at_A = votes.entries["start"][entry_A] + group_A.clamp_(min=0)
        first_A, count_A = votes.groups["first"][at_A], votes.groups["count"][at_A]
        place_A = self._place(rest, length_A, first_A, count_A, second_B[rest])
        written_A = votes.groups["token"][at_A].short()
        if given_A is not None:
            written_A = torch.where(given_A, self.history[t + 1, rest], written_A)
        self.history[t + 1, rest] = written_A
        columns.suffix_len[rest] = length_A
        columns.num_contexts[rest] = votes.entries["total"][entry_A]
        columns.num_distinct[rest] = votes.entries["size"][entry_A]
        columns.probability[rest] = torch.where(held_A, votes.groups["probability"][at_A], 0.0)
        columns.entropy[rest] = votes.entries["entropy"][entry_A]
        columns.place[rest] = torch.where(held_A, place_A, -1)
        self._first[rest], self._end[rest] = first_A, first_A + count_A
        self._group = torch.full_like(self._group, -1)
        self._group[rest] = torch.where(held_A, votes.remembered(at_A), -1)

    def _place(
        self, rest: Tensor, length_A: Tensor, first_A: Tensor, count_A: Tensor, second_A: Tensor
    ) -> Tensor:
        """Return the place after the last source when it is in the group, else draw one."""
        order = self.rules.order
        source_A = self._source[rest]
        at_A = source_A + 1 - length_A
        rank_A = order.inverse[at_A.clamp(0, order.num_tokens - 1)]
        goes_on_A = (source_A >= 0) & (at_A >= 0) & (at_A < order.num_tokens)
        goes_on_A &= (rank_A >= first_A) & (rank_A < first_A + count_A)
        number_A = torch.minimum((second_A * count_A).long(), count_A - 1)
        drawn_A = order.table[first_A + number_A] + length_A
        return torch.where(goes_on_A, source_A + 1, drawn_A)

    def _decide(self, t: int, rest: Tensor, length_A: Tensor, grown_A: Tensor) -> Tensor:
        """Return the (A,) entries of the longest suffixes with enough candidates.

        Args:
            t: position.
            rest: (A,) images.
            length_A: (A,) longest context to try; changed.
            grown_A: (A,) whether its interval is the group of the last token; changed.
        """
        rules, entry_A = self.rules, torch.empty_like(length_A)
        open_ = torch.arange(rest.numel(), device=rest.device)
        while open_.numel():
            image, tried = rest[open_], length_A[open_]
            end = self._anchor[image] + 1
            length = rules.order.shorten(rules.supported, end, tried, self._limit)
            grown = grown_A[open_] & (length == tried)
            lo, hi = self._interval(t, end, length)
            lo = torch.where(grown, self._first[image], lo)
            hi = torch.where(grown, self._end[image], hi)
            entry = self.votes.look_up(lo, hi, length)
            entry_A[open_], length_A[open_] = entry, length - 1
            # Some occurrences may be no candidates: a separator follows them, or nothing.
            open_ = open_[(self.votes.entries["total"][entry] < rules.needed) & (length > 0)]
            grown_A[open_] = False
        return entry_A

    def _interval(self, t: int, end_A: Tensor, length_A: Tensor) -> tuple[Tensor, Tensor]:
        """Return (A,), (A,) ranks that share the ``length`` tokens before ``end``."""
        order, bucket = self.rules.order, self.rules.bucket
        at_A = (end_A - length_A).clamp_(0, order.num_tokens - 1)
        lo_A, hi_A = order.interval(order.inverse[at_A].long(), length_A.clamp(min=1))
        empty_A = length_A == 0
        root = ((t + 1) * bucket, (t + 2) * bucket) if bucket else (0, order.num_tokens)
        return torch.where(empty_A, root[0], lo_A), torch.where(empty_A, root[1], hi_A)

    def _search(
        self, t: int, limit: int, length_B: Tensor, grown_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Search the contexts that do not follow from the last step; move their anchors.

        Returns:
            (B,) lengths, and whether the interval is the group of the last token.
        """
        lost_B = self._anchor < 0
        longest_B = torch.where(lost_B, self._length, limit).clamp_(max=limit)
        wanted_B = lost_B
        if limit > self._limit + 1:
            wanted_B = lost_B | (self._length == self._limit)
        anchor_B = self._anchor.clone()
        wanted = wanted_B.nonzero().squeeze(1)
        for image in torch.split(wanted, _SEARCHED) if wanted.numel() else ():
            length, rank = self._longest(t, image, longest_B[image])
            last = self.rules.order.table[rank] + length - 1
            anchor_B[image] = torch.where(length > 0, last, 0)
            length_B[image] = length
        self._anchor = anchor_B
        return length_B, grown_B & ~wanted_B

    def _longest(self, t: int, image: Tensor, longest_A: Tensor) -> tuple[Tensor, Tensor]:
        """Find the (A,) lengths of the longest suffixes, ``longest`` at most, with enough places.

        Returns:
            The lengths, and the first rank of each suffix's interval.
        """
        order, bucket, needed = self.rules.order, self.rules.bucket, self.rules.needed
        longest, stride = int(longest_A.max()), self.history.shape[1]
        number = min(max(_TRIED // image.numel(), 1), max(longest, 1))
        steps = torch.arange(1, number + 1, device=image.device)
        good_A, bad_A = torch.zeros_like(longest_A), longest_A + 1
        rank_A, unknown = torch.zeros_like(longest_A), longest
        while unknown > 0:
            unknown //= number + 1
            tried = good_A[:, None] + (bad_A - good_A)[:, None] * steps // (number + 1)
            length = tried.view(-1)
            queries = Queries(
                ids=self.history.view(-1),
                start=((t + 1 - tried) * stride + image[:, None]).view(-1),
                length=length,
                longest=longest,
                stride=stride,
            )
            lo = (t + 1 - length) * bucket
            hi = lo + (bucket or order.num_tokens)
            first, _ = order.suffixes.bound(queries, lo, hi)
            at = order.table[(first + (needed - 1)).clamp(max=order.num_tokens - 1)].long()
            often = order.suffixes.shared(at, queries, torch.zeros_like(at)) >= length
            often &= first + needed <= hi
            passed_A = (often.view(tried.shape) | (tried <= good_A[:, None])).sum(1)
            low, high = (
                (passed_A - 1).clamp_(min=0)[:, None],
                passed_A.clamp(max=number - 1)[:, None],
            )
            more_A = (passed_A > 0) & (tried.gather(1, low).squeeze(1) > good_A)
            rank_A = torch.where(more_A, first.view(tried.shape).gather(1, low).squeeze(1), rank_A)
            next_A = torch.where(passed_A < number, tried.gather(1, high).squeeze(1), bad_A)
            good_A = torch.where(more_A, tried.gather(1, low).squeeze(1), good_A)
            bad_A = next_A
        return good_A, rank_A
