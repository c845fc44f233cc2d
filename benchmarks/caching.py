"""Sampling from an autoregressive transformer with cached keys and values, beside none.

    python -m benchmarks.caching
    python -m benchmarks.caching --images 8 generator=rar_b

Without a cache every step computes the steps before it again. Weights are fresh: what is drawn does
not matter here, but both draw the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import Flags, Row, compare, main, rate
from imagegram.experiment import build
from imagegram.generators.autoregressive.sampling import draw_rows
from imagegram.generators.autoregressive.sizes import make_fresh
from imagegram.generators.drawing import draw_ids, probabilities
from imagegram.models.cores import one_core
from imagegram.notebook import compose
from imagegram.samplers.sequential import SequentialSampler
from imagegram.seeding import uniform_rows

IMAGES = 32
#: Tokens of an image, and ids: those of titok, of a pyramid's level, of conv_vq.
SHAPES = ((32, 1024), (192, 256), (256, 512))
SAMPLER = SequentialSampler(name="raster", temperature=1.0)


def rows(flags: Flags) -> Iterator[Row]:
    """The network of a generator on tokens of several lengths."""
    generator: Any = build(compose(["generator=ar", *flags.overrides])).generator
    samples = np.arange(flags.images or IMAGES, dtype=np.uint64)
    for length, vocab_size in SHAPES:
        sizes = generator.sizes(vocab_size=vocab_size, num_tokens=length)
        network = make_fresh(sizes, seed=0).eval()
        with one_core():
            assert cached(network, samples).equal(uncached(network, samples))
            turns = compare(
                lambda network=network: cached(network, samples),
                lambda network=network: uncached(network, samples),
                repeats=flags.repeats,
            )
        yield Row(
            what=f"{length} tokens of {vocab_size:,} ids",
            ours=rate(len(samples), turns.seconds, "images/s"),
            peer=rate(len(samples), turns.peer_seconds, "images/s"),
            ratio=turns.ratio(),
            table=f"sampling with cached keys and values beside none, generator={generator.name}, "
            f"{len(samples)} images at a time, 1 core",
        )


def cached(network: Any, samples: NDArray[np.uint64]) -> torch.Tensor:
    """Draw (B, T) ids as a run does."""
    classes = np.zeros(len(samples), dtype=np.int64)
    with torch.inference_mode():
        return draw_rows(network, samples, classes, sampler=SAMPLER, seed=0, end=None)


def uncached(network: Any, samples: NDArray[np.uint64]) -> torch.Tensor:
    """Draw the same ids from all logits of all steps so far."""
    length = network.num_tokens
    first, _ = uniform_rows(seed=0, samples_B=samples, num_tokens=length)
    uniforms_BT = torch.from_numpy(first)
    ids_BT = torch.zeros(len(samples), length, dtype=torch.int64)
    classes_B = torch.zeros(len(samples), dtype=torch.int64)
    with torch.inference_mode():
        for step in range(length):
            features_BTW = network(ids_BT[:, : step + 1], None, classes_B)
            logits_BV = network.to_logits(features_BTW[:, step : step + 1])[:, 0]
            p_BV = probabilities(logits_BV, SAMPLER.temperature, SAMPLER)
            ids_BT[:, step] = draw_ids(p_BV, uniforms_BT[:, step])
    return ids_BT


if __name__ == "__main__":
    main(rows, __doc__)
