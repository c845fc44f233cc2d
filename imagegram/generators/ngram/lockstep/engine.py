"""The torch engine: tens of thousands of images in lock step, the index resident on a device.

``python -m imagegram.run generator=ngram_torch`` uses a CUDA device when there is one. Tokens and
trace are those of ``ngram/reference.py``, bit for bit, on every device. What it cannot do it
refuses, naming ``generator.engine=native``: several index shards, ``matching=channel`` and
``level``, and ``count_documents`` without ``matching=position``.

Read ``torch_walk.py`` next: one token of all images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.errors import UnsupportedError
from imagegram.generators.ngram.conditions import refuse_conditions
from imagegram.generators.ngram.lockstep.order import OrderTensors, require_context
from imagegram.generators.ngram.lockstep.philox import uniforms
from imagegram.generators.ngram.lockstep.shape import Shaper
from imagegram.generators.ngram.lockstep.votes import FREQUENT, Votes
from imagegram.generators.ngram.lockstep.walk import Columns, Rules, Walk
from imagegram.generators.ngram.trace import empty_trace
from imagegram.indexes.format import IndexShard
from imagegram.indexes.order import Order
from imagegram.indexes.torch_device import choose_device
from imagegram.layout import TokenLayout
from imagegram.protocols import Sampler
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES, Tokens, Trace

#: Images that are written at a time: two bytes a token and some kilobytes each, on the device.
BATCH: Final = 1 << 16
#: Positions whose results leave the device together.
_POSITIONS: Final = 64
_BYTE_VALUES: Final = 256
_BLOCK: Final = 1 << 24


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchGenerator:
    """An index on a device that writes images.

    Attributes:
        shards: of the index; one of them has documents.
        orders: opened side files of that shard; a missing order is made in a temporary folder.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...; None: CUDA when there is one.
        batch: images that are written at a time.
        frequent: occurrences from which on what a context leads to is remembered.
    """

    shards: tuple[IndexShard, ...]
    orders: tuple[Order, ...] = ()
    device: str | None = None
    batch: int = BATCH
    frequent: int = FREQUENT

    def rows(
        self,
        *,
        sampler: Sampler,
        layout: TokenLayout,
        samples: NDArray[np.uint64],
        seed: int,
        forced_BT: Tokens | None,
        advance: Callable[[int], None],
        workers: int = 1,
    ) -> tuple[Tokens, Trace]:
        """Like :func:`imagegram.generators.ngram.reference.trace_rows`.

        Args:
            sampler: the knobs.
            layout: of the documents.
            samples: (B,) sample ids.
            seed: 0 ... 2**64 - 1.
            forced_BT: tokens to trace instead of drawing them.
            advance: hears of finished tokens.
            workers: threads that make a missing order, and those of device ``cpu``.

        Raises:
            ConfigError: when there is no such device.
            UnsupportedError: for what this engine cannot do, and an index that does not fit.
        """
        self._require(sampler)
        with _threads(workers):
            return self._rows(sampler, layout, samples, seed, forced_BT, advance, workers)

    def _rows(
        self,
        sampler: Sampler,
        layout: TokenLayout,
        samples: NDArray[np.uint64],
        seed: int,
        forced_BT: Tokens | None,
        advance: Callable[[int], None],
        workers: int,
    ) -> tuple[Tokens, Trace]:
        rules = self._rules(sampler, layout, workers)
        votes = Votes(
            order=rules.order,
            shaper=Shaper(sampler=sampler, device=rules.order.tokens.device),
            ascending=_byte_valued(rules.order.tokens),
            frequent=self.frequent,
        )
        shape = (len(samples), layout.num_tokens)
        tokens_BT = np.zeros(shape, dtype=np.uint16) if forced_BT is None else forced_BT.copy()
        rows = _Rows(tokens=tokens_BT, trace=empty_trace(*shape))
        for start in range(0, len(samples), self.batch):
            part = slice(start, min(start + self.batch, len(samples)))
            walk = self._start(rules, votes, tokens_BT[part], forced=forced_BT is not None)
            ids = torch.from_numpy(samples[part].view(np.int64)).to(walk.history.device)
            for t in range(0, layout.num_tokens, _POSITIONS):
                positions = torch.arange(
                    t, min(t + _POSITIONS, layout.num_tokens), device=ids.device
                )
                first_PB, second_PB = uniforms(seed=seed, samples_B=ids, positions_P=positions)
                columns = [
                    walk.step(t + p, first_PB[p], second_PB[p]) for p in range(len(positions))
                ]
                rows.write(part, slice(t, t + len(positions)), walk.history, columns, self._locate)
                advance(len(positions) * len(ids))
        return rows.tokens, rows.trace

    @property
    def _shard(self) -> IndexShard:
        """The one with documents."""
        return next(shard for shard in self.shards if shard.num_documents)

    def _require(self, sampler: Sampler) -> None:
        """Refuse what this engine cannot do."""
        refuse_conditions(sampler, "torch")
        filled = sum(shard.num_documents > 0 for shard in self.shards)
        why = ""
        if filled > 1:
            why = f"walks over one index shard, and this index has {filled}"
        elif sampler.matching in ("channel", "level"):
            why = f"cannot do sampler.matching={sampler.matching}, only free and position"
        elif sampler.count_documents and sampler.matching == "free":
            why = "counts documents (sampler.count_documents=true) only with matching=position"
        if why:
            raise UnsupportedError(
                f"generator.engine=torch {why}; use generator.engine=native, which gives the same "
                "tokens"
            )

    def _rules(self, sampler: Sampler, layout: TokenLayout, workers: int) -> Rules:
        limits = sampler.max_context_per_position(layout).tolist()
        require_context(max(min(limit, t + 1) for t, limit in enumerate(limits)))
        shard, aligned = self._shard, sampler.matching == "position"
        documents, n = shard.num_documents, shard.num_tokens
        separators = documents + shard.has_final_separator
        order, needed = self._tensors(aligned, workers), min(sampler.min_count, documents)
        return Rules(
            order=order,
            bucket=documents if aligned else 0,
            roots=(0, documents) if aligned else (n - separators, n),
            needed=needed,
            supported=order.supported(max(needed, 2)),
            limits=limits,
        )

    def _tensors(self, aligned: bool, workers: int) -> OrderTensors:
        """An order on the device; copied once."""
        if aligned not in self._loaded:
            device = choose_device(self.device)
            given = next((order for order in self.orders if order.aligned == aligned), None)
            if given is None:
                self._loaded[aligned] = _make(self._shard, aligned, device, workers)
            else:
                self._loaded[aligned] = OrderTensors.load(given, device)
        return self._loaded[aligned]

    @cached_property
    def _loaded(self) -> dict[bool, OrderTensors]:
        return {}

    def _start(self, rules: Rules, votes: Votes, tokens_BT: Tokens, *, forced: bool) -> Walk:
        """Images without a token yet; given tokens lie in the history already."""
        count, num_tokens = tokens_BT.shape
        device = rules.order.tokens.device
        history = torch.zeros(num_tokens + 1, count, dtype=torch.int16, device=device)
        if forced:
            history[1:] = torch.from_numpy(tokens_BT.view(np.int16)).to(device).T
        return Walk(rules=rules, votes=votes, history=history, forced=forced)

    def _locate(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Documents of places, and the positions inside them; -1 for place -1."""
        shard, none = self._shard, place < 0
        if shard.document_length is not None:
            stride = shard.document_length + 1
            document = place.div(stride, rounding_mode="floor")
            position = place - document * stride - 1
        else:
            starts = torch.from_numpy(np.array(shard.offsets, dtype=np.int64) // TOKEN_BYTES)
            starts = starts.to(place.device)
            document = torch.searchsorted(starts, place, right=True) - 1
            position = place - starts[document.clamp(min=0)] - 1
        return document.masked_fill(none, -1), position.masked_fill(none, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """(B, T) tokens and trace on the host."""

    tokens: Tokens
    trace: Trace

    def write(
        self,
        images: slice,
        positions: slice,
        history: Tensor,
        columns: list[Columns],
        locate: Callable[[Tensor], tuple[Tensor, Tensor]],
    ) -> None:
        """Bring the columns of some positions of some images from the device."""
        trace, at = self.trace, (images, positions)
        together = {
            each.name: torch.stack([getattr(column, each.name) for column in columns])
            for each in fields(Columns)
        }
        document, position = locate(together["place"])
        written = history[positions.start + 1 : positions.stop + 1]
        self.tokens[at] = written.T.cpu().numpy().view(np.uint16)
        trace.suffix_len[at] = together["length"].T.cpu().numpy()
        trace.num_contexts[at] = together["total"].T.cpu().numpy()
        trace.num_distinct[at] = together["distinct"].T.cpu().numpy()
        trace.probability[at] = together["probability"].T.cpu().numpy()
        trace.entropy[at] = together["entropy"].T.cpu().numpy()
        trace.source_document[at] = document.T.cpu().numpy()
        trace.source_position[at] = position.T.cpu().numpy()


@contextmanager
def _threads(workers: int) -> Iterator[None]:
    """Let torch use this many cores: its own choice, all, crawls where others work too."""
    before = torch.get_num_threads()
    torch.set_num_threads(workers)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _make(shard: IndexShard, aligned: bool, device: torch.device, workers: int) -> OrderTensors:
    """An order that nobody keeps: only its tensors are wanted."""
    from imagegram.indexes.build.orders import build_order

    with tempfile.TemporaryDirectory() as folder:
        build_order(shard, Path(folder), aligned=aligned, workers=workers)
        order = Order.open(Path(folder), shard=shard, aligned=aligned)
        return OrderTensors.load(order, device)


def _byte_valued(tokens: Tensor) -> bool:
    """Whether all ids but the separator are below 256."""
    separator = EOS_TOKEN_ID - 65536  # as int16
    return all(
        bool((((part >= 0) & (part < _BYTE_VALUES)) | (part == separator)).all())
        for part in torch.split(tokens, _BLOCK)
    )
