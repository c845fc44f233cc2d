"""One corpus in one index shard and in many, turn by turn in one run.

    python -m benchmarks.shards corpus=tiny_imagenet_20 tokenizer=pyramid3 paths.data=DATA

The peer of the first table is the same corpus in one index shard, walked (under conditions
searched), in time of the processor; that of the second the same shards without side files,
searched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.generation import INFINIGRAM, SAMPLERS, WORKERS, Bench, open_bench
from benchmarks.timing import Flags, Row, compare, main, rate
from imagegram.conditions.label import LabelCondition
from imagegram.generators.ngram.model import NgramModel
from imagegram.indexes.build.stage import BuildIndexShard
from imagegram.samplers.ngram import NgramSampler

#: The configured preset ``balanced``.
BALANCED = replace(INFINIGRAM, top_k=None, max_context=5, matching="position")
ASKED = {
    "infinigram": INFINIGRAM,
    "balanced": BALANCED,
    "max_context=8": SAMPLERS["max_context=8"],
    "max_context=6": SAMPLERS["max_context=6"],
    "min_count=4": SAMPLERS["min_count=4"],
    "anchor=2": replace(INFINIGRAM, anchor=2),
    "label": INFINIGRAM,
}
CONDITIONS = {"label": LabelCondition(name="label")}
#: Images of a turn that searches.
FEW = 4


def rows(flags: Flags) -> Iterator[Row]:
    """Samplers over 2, 5, 20 shards beside one; beside a search."""
    bench = open_bench(flags)
    numbers, joined = _numbers(bench), _cut(bench, 1)
    for number in numbers[:-1]:
        for what in ("infinigram", "balanced"):
            yield _row(bench, what, ASKED[what], _cut(bench, number), joined)
    model = _cut(bench, numbers[-1])
    for what, sampler in ASKED.items():
        yield _row(bench, what, sampler, model, joined)
    for what in ("infinigram", "balanced"):
        yield _replayed(bench, what, ASKED[what], model, joined)
    for what, sampler in ASKED.items():
        yield _beside_search(bench, what, sampler, model)


def _numbers(bench: Bench) -> list[int]:
    """Numbers of index shards that the token shards can be put into."""
    most = len(bench.stage.tokens.shards)
    return sorted({number for number in (2, 5, 20, most) if number <= most and number > 1})


def _cut(bench: Bench, number: int) -> NgramModel:
    """The whole corpus in so many index shards, token shard by token shard."""
    shards, context = bench.stage.tokens.shards, bench.context
    each = -(-len(shards) // number)
    parts = [BuildIndexShard(tokens=shards[i : i + each]) for i in range(0, len(shards), each)]
    index, made = context.make(bench.stage), context.make_all(parts, description="index")
    return bench.over(replace(index, shards=tuple(made), artifact=None))


def _row(
    bench: Bench, what: str, sampler: NgramSampler, model: NgramModel, joined: NgramModel
) -> Row:
    images, condition = bench.flags.images or 256, CONDITIONS.get(what)

    def written(model: NgramModel) -> Callable[[], object]:
        return bench.writer(model, sampler, images=images, condition=condition, workers=1)

    return _beside_joined(bench, what, images, written(model), written(joined), model)


def _replayed(
    bench: Bench, what: str, sampler: NgramSampler, model: NgramModel, joined: NgramModel
) -> Row:
    images = min(bench.flags.images or 64, bench.documents[1].num_documents)
    ours, theirs = (
        bench.replayer(each, sampler, images=images, workers=1) for each in (model, joined)
    )
    return _beside_joined(bench, f"held-out images replayed, {what}", images, ours, theirs, model)


def _beside_joined(
    bench: Bench,
    what: str,
    images: int,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    model: NgramModel,
) -> Row:
    tokens = images * bench.exp.tokenizer.spec.length
    turns = compare(ours, theirs, repeats=bench.flags.repeats, busy=True)
    name = f"{bench.exp.corpus.name}, {bench.exp.tokenizer.name}"
    return Row(
        what=f"{len(model.shards)} index shards: {what}",
        ours=rate(tokens, turns.seconds, "tokens/s"),
        peer=rate(tokens, turns.peer_seconds, "tokens/s"),
        ratio=turns.ratio(),
        table=f"{name}: 1 thread, peer: the same in one index shard",
    )


def _beside_search(bench: Bench, what: str, sampler: NgramSampler, model: NgramModel) -> Row:
    images = bench.flags.images or 256
    spec = bench.exp.tokenizer.spec
    searched = partial(
        model.generate,
        sampler=sampler,
        layout=spec.layout,
        samples=np.arange(FEW, dtype=np.uint64),
        seed=0,
        condition=CONDITIONS.get(what),
        workers=WORKERS,
    )
    turns = compare(
        bench.writer(model, sampler, images=images, condition=CONDITIONS.get(what)),
        searched,
        repeats=bench.flags.repeats,
    )
    return Row(
        what=f"{len(model.shards)} index shards: {what}",
        ours=rate(images * spec.length, turns.seconds, "tokens/s"),
        peer=rate(FEW * spec.length, turns.peer_seconds, "tokens/s"),
        ratio=turns.ratio(work=images * spec.length, peer_work=FEW * spec.length),
        table=f"{WORKERS} threads, peer: searched without side files, {FEW} images",
    )


if __name__ == "__main__":
    sys.exit(main(rows, __doc__))
