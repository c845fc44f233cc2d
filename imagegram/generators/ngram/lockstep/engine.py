"""The torch engine: tens of thousands of images in lock step, the index resident on a device.

``python -m imagegram.run generator=ngram_torch`` uses a CUDA device when there is one. Tokens and
trace are those of ``ngram/reference.py``, bit for bit, on every device. What it cannot do it
refuses, naming ``generator.engine=native``: several index shards, ``matching=channel`` and
``level``, and ``count_documents`` without ``matching=position``.

Read ``lockstep/walk.py`` next: one token of all images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.ngram.engine import Engine, Job, Needs, Request, no_ends
from imagegram.generators.ngram.lockstep.order import MAX_CONTEXT, OrderTensors
from imagegram.generators.ngram.lockstep.philox import uniforms
from imagegram.generators.ngram.lockstep.shape import Shaper
from imagegram.generators.ngram.lockstep.votes import FREQUENT, Votes
from imagegram.generators.ngram.lockstep.walk import Columns, Rules, Walk
from imagegram.indexes.format import IndexShard
from imagegram.indexes.order import Order
from imagegram.indexes.torch_device import choose_device
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES, Tokens, Trace

#: Images that are written at a time: two bytes a token and some kilobytes each, on the device.
BATCH: Final = 1 << 16
#: Positions whose results leave the device together.
_POSITIONS: Final = 64
_BYTE_VALUES: Final = 256
_BLOCK: Final = 1 << 24


@dataclass(frozen=True, kw_only=True, eq=False)
class LockstepEngine(Engine):
    """An index on a device that writes images.

    Attributes:
        files: one shard; an order that is missing is made in a temporary folder.
        batch: images that are written at a time.
        frequent: occurrences from which on what a context leads to is remembered.
    """

    batch: int = BATCH
    frequent: int = FREQUENT

    @staticmethod
    def refuses(request: Request) -> str | None:
        """Refuse conditions, several shards, matching by class, long contexts."""
        sampler, filled = request.sampler, len(request.lengths)
        if (why_not := no_ends(request, "torch")) is not None:
            return why_not
        if request.conditions:
            return (
                f"generator.engine=torch cannot do {request.conditions[0]}; use "
                "generator.engine=native, or leave that knob at its default"
            )
        if request.longest > MAX_CONTEXT:
            return (
                f"generator.engine=torch knows contexts of up to {MAX_CONTEXT} tokens, and "
                f"sampler.max_context allows {request.longest}; set "
                f"sampler.max_context={MAX_CONTEXT}, or use generator.engine=native"
            )
        why = None
        if filled > 1:
            why = f"walks over one index shard, and this index has {filled}"
        elif sampler.matching in ("channel", "level"):
            why = f"cannot do sampler.matching={sampler.matching}, only free and position"
        elif sampler.count_documents and sampler.matching == "free":
            why = "counts documents (sampler.count_documents=true) only with matching=position"
        if why is None:
            return None
        return (
            f"generator.engine=torch {why}; use generator.engine=native, which gives the same "
            "tokens"
        )

    @staticmethod
    def needs(request: Request) -> Needs:
        """Ask for an order: of suffixes, or by position first."""
        return Needs(order="aligned" if request.sampler.matching == "position" else "suffix")

    def rows(self, job: Job) -> tuple[Tokens, Trace]:
        """Write (B, T) tokens and their trace; on device ``cpu``, threads of torch.

        Raises:
            ConfigError: when there is no such device.
            UnsupportedError: when the index does not fit on the device.
        """
        with _threads(job.workers):
            return self._rows(job)

    def _rows(self, job: Job) -> tuple[Tokens, Trace]:
        rules = self._rules(job)
        votes = Votes(
            order=rules.order,
            shaper=Shaper(sampler=job.sampler, device=rules.order.tokens.device),
            ascending=_byte_valued(rules.order.tokens),
            frequent=self.frequent,
        )
        rows = _Rows(*job.start())
        num_rows, num_tokens = job.shape
        for start in range(0, num_rows, self.batch):
            part = slice(start, min(start + self.batch, num_rows))
            walk = _start(rules, votes, rows.tokens[part], until_B=job.until[part])
            ids = torch.from_numpy(job.samples[part].view(np.int64)).to(walk.history.device)
            for t in range(0, num_tokens, _POSITIONS):
                positions = torch.arange(t, min(t + _POSITIONS, num_tokens), device=ids.device)
                first_PB, second_PB = uniforms(seed=job.seed, samples_B=ids, positions_P=positions)
                columns = [
                    walk.step(t + p, first_PB[p], second_PB[p]) for p in range(len(positions))
                ]
                rows.write(part, slice(t, t + len(positions)), walk.history, columns, self._locate)
                job.advance(len(positions) * len(ids))
        return rows.tokens, rows.trace

    @property
    def _shard(self) -> IndexShard:
        return self.files.shards[0]

    def _rules(self, job: Job) -> Rules:
        limits = job.sampler.max_context_per_position(job.layout).tolist()
        shard, aligned = self._shard, job.sampler.matching == "position"
        documents, n = shard.num_documents, shard.num_tokens
        separators = documents + shard.has_final_separator
        order, needed = self._tensors(job, aligned), min(job.sampler.min_count, documents)
        return Rules(
            order=order,
            bucket=documents if aligned else 0,
            roots=(0, documents) if aligned else (n - separators, n),
            needed=needed,
            supported=order.supported(max(needed, 2)),
            limits=limits,
        )

    def _tensors(self, job: Job, aligned: bool) -> OrderTensors:
        """Return an order on the device, copied once."""
        device = choose_device(job.device)
        if (aligned, device) not in self._loaded:
            made = [order for order in self.files.orders if order.aligned == aligned]
            self._loaded[aligned, device] = (
                OrderTensors.load(made[0], device)
                if made
                else _make(self._shard, aligned, device, job.workers)
            )
        return self._loaded[aligned, device]

    @cached_property
    def _loaded(self) -> dict[tuple[bool, torch.device], OrderTensors]:
        return {}

    def _locate(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return the documents of places, and the positions inside them; -1 for place -1."""
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


def _start(rules: Rules, votes: Votes, tokens_BT: Tokens, *, until_B: NDArray[np.int64]) -> Walk:
    """Make the walk of images without a token yet; given tokens lie in its history."""
    count, num_tokens = tokens_BT.shape
    device = rules.order.tokens.device
    history = torch.zeros(num_tokens + 1, count, dtype=torch.int16, device=device)
    until = torch.from_numpy(until_B).to(device) if until_B.any() else None
    if until is not None:
        history[1:] = torch.from_numpy(tokens_BT.view(np.int16)).to(device).T
    return Walk(rules=rules, votes=votes, history=history, until=until)


class _Rows(NamedTuple):
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
        together = {
            each.name: torch.stack([getattr(column, each.name) for column in columns])
            for each in fields(Columns)
        }
        document, position = locate(together.pop("place"))
        together |= {"source_document": document, "source_position": position}
        written = history[positions.start + 1 : positions.stop + 1]
        self.tokens[images, positions] = written.T.cpu().numpy().view(np.uint16)
        for name, values_PB in together.items():
            self.trace[name][images, positions] = values_PB.T.cpu().numpy()


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
    """Make an order in a temporary folder and load its tensors."""
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
