"""Generation beside fast-gram, in one run, on any corpus.

    python -m benchmarks.generation
    python -m benchmarks.generation --repeats 3 corpus=tiny_imagenet_20 paths.data=DATA

The peer is the best plain loop on fast-gram with the same sampler: ``GramEngine.ntd`` once a token
(with ``min_count``, once more for every context that too few places continue), lists in and dicts
out, one thread: its default threads cost it most of its speed. It opens the very index folder that
is walked, and is at its best there: the same corpus in 20 folders costs it ten times as much. It
knows no positions, so beside ``matching=position`` it writes freely with as much context.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from fastgram import GramEngine
from hydra import compose, initialize_config_dir

from benchmarks.timing import Flags, Row, compare, main, own_memory, rate, seconds
from imagegram import schema
from imagegram.executors.context import RunContext
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.progress import SilentProgress
from imagegram.experiment import Experiment, build
from imagegram.generators.ngram.model import NgramModel
from imagegram.indexes import Index
from imagegram.indexes.build.stage import BuildIndex, BuildIndexShard
from imagegram.protocols import Condition
from imagegram.records import EOS_TOKEN_ID
from imagegram.samplers.ngram import NgramSampler
from imagegram.stages.generate import Generate
from imagegram.stages.select import tokenize
from imagegram.stages.split import Split
from imagegram.stages.tokenize import Tokenize
from imagegram.stages.tokens import TokenSet
from imagegram.store.artifacts import ArtifactStore
from imagegram.tokenizers.pyramid import PyramidTokenizer

WORKERS = 2
PEER_TOKENS = 4000
STAGE_IMAGES = 2000
INFINIGRAM = NgramSampler(name="infinigram", top_k=20)
SAMPLERS = {
    "infinigram": INFINIGRAM,
    "min_count=2": replace(INFINIGRAM, min_count=2),
    "min_count=4": replace(INFINIGRAM, min_count=4),
    "max_context=8": replace(INFINIGRAM, max_context=8),
    "max_context=6": replace(INFINIGRAM, max_context=6),
    "max_context=6 min_count=4": replace(INFINIGRAM, max_context=6, min_count=4),
    "matching=position max_context=6": replace(INFINIGRAM, max_context=6, matching="position"),
    "matching=level max_context=6": replace(INFINIGRAM, max_context=6, matching="level"),
}
LEVELS = {f"pyramid{n}": tuple(8 * 2**level for level in range(n)) for n in range(2, 6)}


def fast_gram_loop(
    engine: Any, sampler: NgramSampler, context: int, num_tokens: int, seed: int
) -> None:
    """Write ``num_tokens`` tokens, one query each, and one more for each context too rare."""
    rng = np.random.default_rng(seed)
    history = [EOS_TOKEN_ID]
    while len(history) <= num_tokens:
        answer = engine.ntd(history[-context:])
        while answer["prompt_cnt"] < sampler.min_count and answer["suffix_len"] > 0:
            shorter = answer["suffix_len"] - 1
            answer = engine.ntd(history[len(history) - shorter :])
        result = answer["result_by_token_id"]
        items = [(t, entry["cont_cnt"]) for t, entry in result.items() if t != EOS_TOKEN_ID]
        if not items:  # the context ends every document that holds it
            history = [EOS_TOKEN_ID, *history]
            items = [(history[-1], 1)]
        items.sort(key=lambda item: (-item[1], item[0]))
        tokens, counts = zip(*items[: sampler.top_k], strict=True)
        weights = np.array(counts, dtype=np.float64) ** (1 / sampler.temperature)
        history.append(int(tokens[rng.choice(len(tokens), p=weights / weights.sum())]))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The experiment of the command line.

    Attributes:
        exp: its components.
        context: where artifacts lie.
        flags: of the command.
    """

    exp: Experiment
    context: RunContext
    flags: Flags

    @cached_property
    def documents(self) -> tuple[TokenSet, TokenSet]:
        """Its documents for training, and those held out."""
        split = self.context.make(Split(corpus=self.exp.corpus))
        return tokenize(lambda _, stage: self.context.make(stage), split, self.exp.tokenizer)

    @cached_property
    def stage(self) -> BuildIndex:
        """Its index."""
        return self.exp.index.build(self.documents[0])

    def model(self, num_shards: int | None = None) -> NgramModel:
        """The first token shards in one index shard; None: all, as the configuration says."""
        index = self.context.make(self.stage)
        if num_shards is not None:
            part = BuildIndexShard(tokens=self.stage.tokens.shards[:num_shards])
            index = replace(index, shards=(self.context.make(part),), artifact=None)
        return self.over(index)

    def over(self, index: Index) -> NgramModel:
        """The configured model over an index."""
        model = self.context.make(self.exp.generator.fit(self.stage.tokens, index=index))
        assert isinstance(model, NgramModel)
        return model

    def writer(
        self,
        model: NgramModel,
        sampler: NgramSampler,
        *,
        images: int,
        condition: Condition | None = None,
        workers: int = WORKERS,
    ) -> Callable[[], object]:
        """What writes ``images`` images with the side files that the sampler wants."""
        layout = self.exp.tokenizer.spec.layout
        return partial(
            model.prepared(sampler, self.context, layout, condition).generate,
            sampler=sampler,
            layout=layout,
            samples=np.arange(images, dtype=np.uint64),
            seed=0,
            condition=condition,
            workers=workers,
        )

    def replayer(
        self, model: NgramModel, sampler: NgramSampler, *, images: int, workers: int = WORKERS
    ) -> Callable[[], object]:
        """What replays the first ``images`` held-out images, or all if there are fewer."""
        layout, held_out = self.exp.tokenizer.spec.layout, self.documents[1]
        return partial(
            model.prepared(sampler, self.context, layout).score,
            np.stack([held_out.document(i) for i in range(min(images, held_out.num_documents))]),
            sampler=sampler,
            layout=layout,
            seed=0,
            workers=workers,
        )

    def row(
        self,
        what: str,
        sampler: NgramSampler,
        model: NgramModel,
        *,
        alone: bool = False,
        **labels: str,
    ) -> Row:
        """Ours beside the peer; ``alone``: on one thread, in time of the processor."""
        images = self.flags.images or 256
        tokens = images * self.exp.tokenizer.spec.length
        peer = peer_of(model)
        longest = int(sampler.max_context_per_position(self.exp.tokenizer.spec.layout).max())
        seeds = count()
        turns = compare(
            self.writer(model, sampler, images=images, workers=1 if alone else WORKERS),
            lambda: fast_gram_loop(peer, sampler, longest, PEER_TOKENS, next(seeds)),
            repeats=self.flags.repeats,
            busy=alone,
        )
        return Row(
            what=what,
            ours=rate(tokens, turns.seconds, "tokens/s"),
            peer=rate(PEER_TOKENS, turns.peer_seconds, "tokens/s"),
            ratio=turns.ratio(work=tokens, peer_work=PEER_TOKENS),
            **labels,
        )


def peer_of(model: NgramModel) -> Any:
    """fast-gram over the shards of a model."""
    folders = [str(shard.path) for shard in model.shards if shard.num_documents]
    return GramEngine(folders, eos_token_id=EOS_TOKEN_ID, threads=1)


def open_bench(flags: Flags, *overrides: str) -> Bench:
    """Compose the configuration of the command line."""
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        cfg = compose("config", [*flags.overrides, *overrides])
    context = RunContext(
        store=ArtifactStore(root=Path(cfg.paths.outputs) / "artifacts"),
        executor=ProcessExecutor(workers=WORKERS),
        progress=SilentProgress(),
    )
    exp = build(cfg)
    fit = exp.tokenizer.fit(exp.train_corpus or exp.corpus)
    exp = replace(exp, tokenizer=context.make(fit))
    return Bench(exp=exp, context=context, flags=flags)


def rows(flags: Flags) -> Iterator[Row]:
    """Samplers, one image, the whole stage, growth, first call and memory."""
    bench = open_bench(flags)
    model = bench.model()
    tokens = sum(shard.num_tokens for shard in model.shards)
    name = f"{bench.exp.corpus.name}, {bench.exp.tokenizer.name}, {tokens:,} tokens"
    table = f"samplers, {name}: 2 threads, peer 1 thread"
    for what, sampler in SAMPLERS.items():
        yield bench.row(what, sampler, model, table=table)
    yield _one_image(bench, model, table)
    yield _whole_stage(bench, model, table)
    yield from _growth_of_corpus(bench)
    yield from _growth_of_image(bench)
    yield from _first_call(flags, name)


def _one_image(bench: Bench, model: NgramModel, table: str) -> Row:
    num_tokens, peer = bench.exp.tokenizer.spec.length, peer_of(model)
    turns = compare(
        bench.writer(model, INFINIGRAM, images=1, workers=1),
        lambda: fast_gram_loop(peer, INFINIGRAM, 32, num_tokens, 0),
        repeats=bench.flags.repeats,
    )
    return Row(
        what="one image alone, infinigram, 1 thread",
        ours=f"{turns.seconds * 1e3:.3g} ms",
        peer=f"{turns.peer_seconds * 1e3:.3g} ms",
        ratio=turns.ratio(),
        table=table,
    )


def _whole_stage(bench: Bench, model: NgramModel, table: str) -> Row:
    """Sampling, decoding, trace, files, hashes and the sync of the disk."""
    images, peer, seeds = bench.flags.images or STAGE_IMAGES, peer_of(model), count()
    with tempfile.TemporaryDirectory(dir=bench.context.store.root.parent) as folder:
        store = ArtifactStore(root=Path(folder))
        context = replace(bench.context, store=store)
        prepared = model.prepared(INFINIGRAM, bench.context, bench.exp.tokenizer.spec.layout)

        def whole_stage() -> None:
            stage = Generate(
                model=_Prepared(prepared),
                sampler=INFINIGRAM,
                tokenizer=bench.exp.tokenizer,
                num_samples=images,
                seed=next(seeds),
            )
            context.make(stage)

        turns = compare(
            whole_stage,
            lambda: fast_gram_loop(peer, INFINIGRAM, 32, PEER_TOKENS, 0),
            repeats=bench.flags.repeats,
        )
    tokens = images * bench.exp.tokenizer.spec.length
    return Row(
        what=f"the whole generate stage, {images} images, infinigram",
        ours=rate(tokens, turns.seconds, "tokens/s"),
        peer=rate(PEER_TOKENS, turns.peer_seconds, "tokens/s"),
        ratio=turns.ratio(work=tokens, peer_work=PEER_TOKENS),
        notes=f"{turns.seconds:.2f} s with decoding, trace and files",
        table=table,
    )


class _Prepared:
    """A model whose side files lie in another store."""

    def __init__(self, model: NgramModel) -> None:
        self.identity, self.generate = model.identity, model.generate

    def prepared(self, *_: object) -> _Prepared:
        return self


def _growth_of_corpus(bench: Bench) -> Iterator[Row]:
    num_shards = len(bench.stage.tokens.shards)
    for size in sorted({min(size, num_shards) for size in (1, 5, 20)}):
        model = bench.model(size)
        table = f"growth with the corpus, {bench.exp.tokenizer.name}"
        what = f"{size} token shards, {model.shards[0].num_tokens:,} tokens"
        yield bench.row(f"{what}: infinigram", INFINIGRAM, model, table=table)
        yield bench.row(f"{what}: context 6", SAMPLERS["max_context=6"], model, table=table)
    if num_shards > 1:
        apart = replace(bench.stage, shard_tokens=1)
        model = bench.over(bench.context.make(apart))
        yield bench.row(
            f"{num_shards} index shards: infinigram",
            INFINIGRAM,
            model,
            table=table,
            notes="index.shard_tokens=1",
        )


def _growth_of_image(bench: Bench) -> Iterator[Row]:
    for name, sizes in LEVELS.items():
        tokenizer = PyramidTokenizer(name=name, sizes=sizes)
        shards = bench.stage.tokens.images[:1]
        tokens = bench.context.make(Tokenize(shards=shards, tokenizer=tokenizer))
        stage = replace(bench.stage, tokens=tokens)
        one = replace(bench, exp=replace(bench.exp, tokenizer=tokenizer))
        one = replace(
            one, flags=replace(bench.flags, images=max(2**20 // tokenizer.spec.length, 2))
        )
        model = bench.over(bench.context.make(stage))
        yield one.row(
            f"{name}, {tokenizer.spec.length:,} tokens an image: infinigram",
            INFINIGRAM,
            model,
            table="growth with the image, one token shard",
        )


def _first_call(flags: Flags, name: str) -> Iterator[Row]:
    """What a fresh install pays once; what the process holds afterwards."""
    with tempfile.TemporaryDirectory() as cache:
        for label in ("fresh install: kernels compile", "kernels cached on disk"):
            call = f"from benchmarks.generation import child; child({flags!r})"
            environment = {**os.environ, "XDG_CACHE_HOME": cache}
            output = subprocess.run(
                [sys.executable, "-c", f"from benchmarks.timing import Flags; {call}"],
                stdout=subprocess.PIPE, text=True, check=True, env=environment,
            ).stdout.split()  # fmt: skip
            yield Row(
                what=f"{label}: first image",
                ours=f"{float(output[-2]):.2f} s",
                notes=f"then {int(output[-1]) / 2**20:,.0f} MiB beside the mapped index, {name}",
                table="first call of a process, infinigram",
            )


def child(flags: Flags) -> None:
    """Print the seconds of one image, and the bytes held beside maps while 64 are written."""
    bench = open_bench(flags)
    model = bench.model()
    before = own_memory()
    print(seconds(bench.writer(model, INFINIGRAM, images=1)))
    result = bench.writer(model, INFINIGRAM, images=64)()
    print(own_memory() - before)
    del result


if __name__ == "__main__":
    sys.exit(main(rows, __doc__))
