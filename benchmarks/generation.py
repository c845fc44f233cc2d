"""Generation and index build beside their peers, in one run, on the demo corpus.

    make bench ARGS="--images 8"

Peers: ``fastgram.GramEngine`` driven one ``ntd`` a token (its public API: a list of ints in, a dict
out), and a suffix sort that reads the table back from numpy. Every pair is timed alternately; the
ratio is printed with its minimum, median and maximum. Results: ``benchmarks/results.md``.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

from imagegram import schema
from imagegram.callbacks.progress import RichProgress
from imagegram.executors.process import ProcessExecutor
from imagegram.experiment import build
from imagegram.records import EOS_TOKEN_ID
from imagegram.stages.context import RunContext
from imagegram.stages.split import Split
from imagegram.stages.tokenize import Tokenize
from imagegram.store.artifacts import ArtifactStore


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def fast_gram_loop(engine: object, num_tokens: int, seed: int) -> list[int]:
    """The best plain loop on fast-gram: one ntd a token, temperature 0.9, top-k 20, context 32."""
    rng = np.random.default_rng(seed)
    history = [EOS_TOKEN_ID]
    while len(history) <= num_tokens:
        dist = engine.ntd(history[-32:])["result_by_token_id"]  # type: ignore[attr-defined]
        items = [
            (token, entry["cont_cnt"]) for token, entry in dist.items() if token != EOS_TOKEN_ID
        ]
        items.sort(key=lambda item: (-item[1], item[0]))
        tokens, counts = zip(*items[:20], strict=True)
        weights = np.array(counts, dtype=np.float64) ** (1 / 0.9)
        history.append(int(tokens[rng.choice(len(tokens), p=weights / weights.sum())]))
    return history[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--images", type=int, default=64, help="images that the native engine makes"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("overrides", nargs="*", help="of the configuration, e.g. corpus=demo")
    flags = parser.parse_args()
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        cfg = compose("config", ["sampler=infinigram", *flags.overrides])
    exp = build(cfg)
    with RichProgress() as progress:
        context = RunContext(
            store=ArtifactStore(root=Path(cfg.paths.outputs) / "artifacts"),
            executor=ProcessExecutor(workers=2),
            progress=progress,
        )
        tokens = context.make(
            Tokenize(images=context.make(Split(corpus=exp.corpus)).train, tokenizer=exp.tokenizer)
        )
        model = context.make(exp.generator.fit(tokens))
    rows = compare_generation(exp, model, tokens, flags)
    report = "\n".join(
        [
            f"Machine: {platform.machine()}, Python {platform.python_version()}, 2 workers. "
            f"Corpus: {tokens.num_documents:,} images, {model.index.num_tokens:,} tokens.",
            "",
            "| what | imagegram, tokens/s | peer, tokens/s | ratio min / median / max |",
            "|---|---|---|---|",
            *rows,
        ]
    )
    print(report)
    return 0


def compare_generation(
    exp: object, model: object, tokens: object, flags: argparse.Namespace
) -> list[str]:
    from fastgram import GramEngine

    layout = exp.tokenizer.layout  # type: ignore[attr-defined]
    engine = GramEngine([str(shard.path) for shard in model.shards], eos_token_id=0)  # type: ignore[attr-defined]
    samples = np.arange(flags.images, dtype=np.uint64)

    def native() -> None:
        model.generate(  # type: ignore[attr-defined]
            sampler=exp.sampler,
            layout=layout,
            samples=samples,
            seed=0,
            workers=2,  # type: ignore[attr-defined]
        )

    native()  # compile
    ours, theirs = [], []
    peer_tokens = min(4000, layout.num_tokens)
    for repeat in range(flags.repeats):
        ours.append(flags.images * layout.num_tokens / seconds(native))
        theirs.append(
            peer_tokens / seconds(lambda r=repeat: fast_gram_loop(engine, peer_tokens, r))
        )
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return [
        f"| generate, {flags.images} images | {statistics.median(ours):,.0f} | "
        f"{statistics.median(theirs):,.0f} (fast-gram, 1 thread) | "
        f"{ratios[0]:.1f} / {statistics.median(ratios):.1f} / {ratios[-1]:.1f} |"
    ]


if __name__ == "__main__":
    sys.exit(main())
