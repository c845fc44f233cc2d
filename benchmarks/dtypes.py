"""Sampling with bfloat16 (generator.dtype=bfloat16) beside float32.

    python -m benchmarks.dtypes
    python -m benchmarks.dtypes --images 4

The published widths with a quarter of the blocks. Weights are fresh: what is drawn does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.timing import Flags, Row, compare, main, rate
from imagegram.generators.autoregressive.sampling import draw_chunks
from imagegram.generators.autoregressive.sizes import make_fresh as fresh_sequential
from imagegram.generators.learned import Architecture
from imagegram.generators.maskgit.backbones import make_fresh as fresh_masked
from imagegram.generators.maskgit.sampling import sample_chunks
from imagegram.models.cores import one_core
from imagegram.samplers.masked import MaskedSampler
from imagegram.samplers.sequential import SequentialSampler

IMAGES = 8
SEQUENTIAL = SequentialSampler(name="raster", temperature=1.0)
MASKED = MaskedSampler(name="masked", steps=8)
#: The presets, their backbone and sizes.
PUBLISHED: dict[str, tuple[str, dict[str, int]]] = {
    "maskgit_bert": ("bert", {"width": 768, "depth": 6, "num_heads": 16, "num_tokens": 64}),
    "maskgit_uvit": ("uvit", {"width": 1024, "depth": 5, "num_heads": 16, "num_tokens": 128}),
    "ar, width of rar_b": ("", {"width": 768, "depth": 6, "num_heads": 16, "num_tokens": 256}),
}


def rows(flags: Flags) -> Iterator[Row]:
    """Yield one row a network."""
    images = flags.images or IMAGES
    for name, (backbone, sizes) in PUBLISHED.items():
        draw = sampling(backbone, sizes, images)
        with one_core():
            turns = compare(
                lambda draw=draw: draw("bfloat16"),
                lambda draw=draw: draw("float32"),
                repeats=flags.repeats,
            )
        yield Row(
            what=f"{name}: {sizes['num_tokens']} tokens, {sizes['depth']} blocks",
            ours=rate(images, turns.seconds, "images/s"),
            peer=rate(images, turns.peer_seconds, "images/s"),
            ratio=turns.ratio(),
            table=f"sampling with bfloat16 beside float32, {images} images at a time, 1 core",
        )


def sampling(backbone: str, sizes: dict[str, int], images: int) -> Callable[[str], object]:
    """Return what samples images with a network; takes the name of a dtype."""
    samples = [np.arange(images, dtype=np.uint64)]
    classes = [np.zeros(images, dtype=np.int64)]
    network: Any
    if backbone:
        network = fresh_masked(backbone, seed=0, vocab_size=4096, **sizes).eval()
        return lambda dtype: list(
            sample_chunks(network, samples, classes, sampler=MASKED, seed=0, dtype=dtype)
        )
    network = fresh_sequential(Architecture(vocab_size=1024, **sizes), seed=0).eval()
    return lambda dtype: list(
        draw_chunks(network, samples, classes, sampler=SEQUENTIAL, seed=0, end=None, dtype=dtype)
    )


if __name__ == "__main__":
    main(rows, __doc__)
