"""Generation beside its peer, in one run, on any corpus.

    make bench
    make bench ARGS="--repeats 3 corpus=tiny_imagenet_20 paths.data=DATA"

The peer is the best plain loop on fast-gram with the same sampler: ``GramEngine.ntd`` once a token,
lists in and dicts out, one thread (its default threads cost it most of its speed). Both are timed
in turn; the ratio is given as minimum, median and maximum. Recorded: ``benchmarks/results.md``.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastgram import GramEngine
from hydra import compose, initialize_config_dir

from imagegram import schema
from imagegram.callbacks.progress import RichProgress
from imagegram.executors.process import ProcessExecutor
from imagegram.experiment import build
from imagegram.protocols import Sampler
from imagegram.records import EOS_TOKEN_ID
from imagegram.stages.context import RunContext
from imagegram.stages.split import Split
from imagegram.stages.tokenize import Tokenize
from imagegram.store.artifacts import ArtifactStore

WORKERS = 2
PEER_TOKENS = 4000


def seconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def fast_gram_loop(engine: Any, sampler: Sampler, context: int, num_tokens: int, seed: int) -> None:
    """Write ``num_tokens`` tokens, one query each."""
    rng = np.random.default_rng(seed)
    history = [EOS_TOKEN_ID]
    while len(history) <= num_tokens:
        result = engine.ntd(history[-context:])["result_by_token_id"]
        items = [(t, entry["cont_cnt"]) for t, entry in result.items() if t != EOS_TOKEN_ID]
        items.sort(key=lambda item: (-item[1], item[0]))
        tokens, counts = zip(*items[: sampler.top_k], strict=True)
        weights = np.array(counts, dtype=np.float64) ** (1 / sampler.temperature)
        history.append(int(tokens[rng.choice(len(tokens), p=weights / weights.sum())]))


def main() -> int:
    """Time and print one row of the table."""
    parser = argparse.ArgumentParser(
        "benchmarks.generation", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--images", type=int, default=64, help="that the native engine makes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    flags = parser.parse_args()
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        cfg = compose("config", ["sampler=infinigram", *flags.overrides])
    exp = build(cfg)
    with RichProgress() as progress:
        context = RunContext(
            store=ArtifactStore(root=Path(cfg.paths.outputs) / "artifacts"),
            executor=ProcessExecutor(workers=WORKERS),
            progress=progress,
        )
        split = context.make(Split(corpus=exp.corpus))
        tokens = context.make(Tokenize(images=split.train, tokenizer=exp.tokenizer))
        model: Any = context.make(exp.generator.fit(tokens))

    layout = exp.tokenizer.layout
    longest = int(exp.sampler.max_context_per_position(layout).max())
    engine = GramEngine([str(s.path) for s in model.shards], eos_token_id=EOS_TOKEN_ID, threads=1)
    samples = np.arange(flags.images, dtype=np.uint64)

    def native() -> None:
        model.generate(sampler=exp.sampler, layout=layout, samples=samples, seed=0, workers=WORKERS)

    cold = seconds(native)  # opens the index, and compiles on a fresh install
    ours, theirs = [], []
    for repeat in range(flags.repeats):
        ours.append(flags.images * layout.num_tokens / seconds(native))
        duration = seconds(
            lambda seed=repeat: fast_gram_loop(engine, exp.sampler, longest, PEER_TOKENS, seed)
        )
        theirs.append(PEER_TOKENS / duration)
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{platform.machine()}, Python {platform.python_version()}; first call {cold:.1f} s")
    print("corpus, tokens | shards | images | native, 2 threads | fast-gram, 1 thread | ratio")
    print(
        f"{exp.corpus.name}, {model.index.num_tokens:,} | {len(model.shards)} | {flags.images} | "
        f"{statistics.median(ours):,.0f} tokens/s | {statistics.median(theirs):,.0f} tokens/s | "
        f"{ratios[0]:.1f} / {statistics.median(ratios):.1f} / {ratios[-1]:.1f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
