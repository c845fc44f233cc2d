"""Samplers that ask more of a document, beside the same sampler without that knob.

    python -m benchmarks.conditions
    python -m benchmarks.conditions corpus=tiny_imagenet_20 paths.data=DATA tokenizer=ordered_fsq

Without the knob the index is walked; the ratio is what the knob costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.generation import open_bench
from benchmarks.timing import Flags, Row, compare, main, rate
from imagegram.samplers.ngram import NgramSampler

IMAGES = 128
CONDITIONS: dict[str, dict[str, int]] = {
    "anchor=1": {"anchor": 1},
    "anchor=4": {"anchor": 4},
    "anchor=4 min_count=4": {"anchor": 4, "min_count": 4},
    "context_digits=2": {"context_digits": 2},
    "context_digits=2 anchor=4": {"context_digits": 2, "anchor": 4},
}
MATCHINGS = ("position", "free")


def rows(flags: Flags) -> Iterator[Row]:
    """Every condition, matched at the same position and anywhere."""
    bench = open_bench(flags)
    model = bench.model()
    images = flags.images or IMAGES
    tokens = images * bench.exp.tokenizer.spec.length
    name = f"{bench.exp.corpus.name}, {bench.exp.tokenizer.name}"
    for matching in MATCHINGS:
        plain = NgramSampler(name="plain", matching=matching, max_context=2)
        for what, knobs in CONDITIONS.items():
            without = replace(plain, min_count=knobs.get("min_count", 1))
            turns = compare(
                bench.writer(model, replace(plain, **knobs), images=images, workers=1),  # type: ignore[arg-type]
                bench.writer(model, without, images=images, workers=1),
                repeats=flags.repeats,
            )
            yield Row(
                what=f"matching={matching} {what}",
                ours=rate(tokens, turns.seconds, "tokens/s"),
                peer=rate(tokens, turns.peer_seconds, "tokens/s"),
                ratio=turns.ratio(),
                table=f"conditions beside none, {name}, context 2, 1 thread",
            )


if __name__ == "__main__":
    main(rows, __doc__)
