"""Costs of image sets: ``forecast`` of ``Generate``, ``Replay`` and ``Decode``."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from imagegram.errors import UnforeseenError
from imagegram.executors.foresight import Foresight
from imagegram.records import TOKEN_BYTES
from imagegram.store.cost import NPY_HEADER, PROCESS_BYTES, Cost
from imagegram.store.stage import Surroundings

#: Number of images in the grid.
GRID_IMAGES: Final = 64
#: Number of tokens that are held at a time, with 24 bytes of trace each: 0.4 GB.
BATCH_TOKENS: Final = 1 << 24
#: Bytes of the trace of a token, in seven fields: 2 + 4 + 2 + 4 + 4 + 4 + 4.
_TRACE_BYTES: Final = 24
#: Number of files: tokens, seven fields of the trace, decoded images.
_NUM_FILES: Final = 9


def images_cost(stage: Any, at: Surroundings, count: int) -> Cost:
    """Return the cost of images, and of the artifacts that the model makes for its sampler.

    Args:
        stage: stage with a tokenizer and an output size; with model and sampler if it traces.
        at: store, workers and memory.
        count: number of images.
    """
    if found := at.find(stage):
        count, length = int(found.facts["num_images"]), int(found.facts["num_tokens"])
        return Cost.found(found, images=count, tokens=count * length)
    length, side = (
        stage.tokenizer.spec.length,
        stage.output_size or getattr(stage.tokenizer, "image_size", 0),
    )
    context, rate, traced = Foresight(at), at.rate(stage), hasattr(stage, "model")
    if traced:
        with suppress(UnforeseenError):  # the model itself is unforeseen
            layout = stage.tokenizer.spec.layout
            stage.model.prepared(stage.sampler, context, layout, stage.condition)
    artifact = at.expect(stage, {"num_images": count, "num_tokens": length, "image_size": side})
    held = min(count * length, BATCH_TOKENS)
    return Cost(
        artifact=artifact,
        handle=stage.load(artifact),
        sides=context.costs,
        images=count,
        tokens=count * length,
        disk_bytes=samples_bytes(count, num_tokens=length, image_size=side, traced=traced),
        memory_bytes=PROCESS_BYTES + held * (TOKEN_BYTES + _TRACE_BYTES),
        seconds=rate.shared(count * length, at.workers),
        source=rate.source,
    )


def samples_bytes(num_images: int, *, num_tokens: int, image_size: int, traced: bool) -> int:
    """Return the bytes of tokens, trace, decoded images and an uncompressed grid."""
    image = 3 * image_size**2
    tokens = num_images * num_tokens * (TOKEN_BYTES + (_TRACE_BYTES if traced else 0))
    return tokens + (num_images + min(num_images, GRID_IMAGES)) * image + _NUM_FILES * NPY_HEADER
