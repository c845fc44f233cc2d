"""Costs of image sets: ``forecast`` of ``Generate``, ``Replay`` and ``Decode``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from imagegram.errors import UnforeseenError
from imagegram.executors.budget import available_bytes
from imagegram.executors.foresight import Foresight
from imagegram.records import TOKEN_BYTES
from imagegram.store.cost import NPY_HEADER, PROCESS_BYTES, Cost
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Surroundings

#: Number of images in the grid.
GRID_IMAGES: Final = 64
#: Number of tokens that are held at a time, with 24 bytes of trace each: 0.4 GB.
BATCH_TOKENS: Final = 1 << 24
#: Bytes of the trace of a token, in seven fields: 2 + 4 + 2 + 4 + 4 + 4 + 4.
_TRACE_BYTES: Final = 24
#: Memory of kernels that sample, and of pictures that are decoded at a time.
ENGINE_BYTES: Final = 120_000_000
#: Of a walk: share of tokens that have no alternative, in samples and training documents, and in
#: others; cost of a choice in each further shard, and of a copied token, in choices.
_FORCED: Final = 0.99
_FORCED_ELSEWHERE: Final = 0.4
_CHOICE_OF_A_SHARD: Final = 0.4
_COPIED_TOKEN: Final = 1 / 40
#: Seconds of a choice on one core.
_CHOICE_SECONDS: Final = 4.5e-6
#: Seconds of reading a page of a mapped file that is not in memory (docs/scale.md), and pages that
#: a choice reads in a shard; a copied token reads one.
_PAGE_SECONDS: Final = 9.0e-5
_PAGES_OF_A_CHOICE: Final = 5
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
    facts = {"num_images": count, "num_tokens": length, "image_size": side}
    context, traced = Foresight(at), hasattr(stage, "model")
    walked = _walked_facts(stage, count * length) if traced else {}
    rate = at.rate(stage, builtin=_CHOICE_SECONDS if walked else None)
    if traced:
        with suppress(UnforeseenError):  # the model itself is unforeseen
            layout = stage.tokenizer.spec.layout
            stage.model.prepared(stage.sampler, context, layout, stage.condition)
    artifact = at.expect(stage, facts)
    memory = PROCESS_BYTES + ENGINE_BYTES
    memory += min(count * length, BATCH_TOKENS) * (TOKEN_BYTES + _TRACE_BYTES)
    seconds, source = rate.shared(sampling_units(facts | walked), at.workers), rate.source
    if missing := _missing_share(stage, memory) if walked else 0.0:
        seconds += missing * _pages_read(facts | walked) * _PAGE_SECONDS / at.workers
        source = f"{source}; {missing:.0%} of the index is not in memory"
    return Cost(
        artifact=artifact,
        handle=stage.load(artifact),
        sides=context.costs,
        images=count,
        tokens=count * length,
        disk_bytes=samples_bytes(count, num_tokens=length, image_size=side, traced=traced),
        memory_bytes=memory,
        seconds=seconds,
        source=source,
    )


def index_facts(model: Any) -> dict[str, int]:
    """Return in how many index shards a model looks a context up; nothing where it has none."""
    shards = getattr(model, "shards", None)
    return {} if shards is None else {"num_index_shards": len(shards)}


def sampling_units(facts: Mapping[str, Any]) -> float:
    """Count the units of sampled or replayed images, by the facts of their artifact.

    Tokens; where a walk copies most of them, its choices, each in all index shards.
    """
    tokens = int(facts["num_images"]) * int(facts["num_tokens"])
    if not {"forced_steps", "num_index_shards"} <= facts.keys():
        return tokens
    choices = tokens - int(facts["forced_steps"])
    shards = 1 + _CHOICE_OF_A_SHARD * (int(facts["num_index_shards"]) - 1)
    return choices * shards + tokens * _COPIED_TOKEN


def _walked_facts(stage: Any, tokens: int) -> dict[str, int]:
    """Return what a walk is expected to find; nothing where the model does not walk."""
    shards = index_facts(stage.model)
    if not shards:
        return {}
    documents = getattr(stage, "documents", None)
    known = documents is None or _holds(stage.model, documents)
    return shards | {"forced_steps": round(tokens * (_FORCED if known else _FORCED_ELSEWHERE))}


def _missing_share(stage: Any, memory_bytes: int) -> float:
    """Return the share of the files read at random that memory cannot hold, 0 to 1.

    Args:
        stage: stage with a model that walks.
        memory_bytes: memory of the stage itself.
    """
    bytes_read = getattr(stage.model, "bytes_read", None)
    if bytes_read is None:
        return 0.0
    read = bytes_read(stage.sampler, stage.tokenizer.spec.layout, stage.condition)
    kept = max(available_bytes() - memory_bytes, 0)
    return max(0.0, 1 - kept / read) if read else 0.0


def _pages_read(facts: Mapping[str, Any]) -> float:
    """Count the pages of mapped files that a walk reads at random."""
    tokens = int(facts["num_images"]) * int(facts["num_tokens"])
    choices = (tokens - int(facts["forced_steps"])) * int(facts["num_index_shards"])
    return tokens + choices * _PAGES_OF_A_CHOICE


def _holds(model: Any, documents: Any) -> bool:
    """Return whether documents are those that the index of a model was built of."""
    artifact = getattr(model.index, "artifact", None)
    return artifact is not None and artifact.manifest.payload.get("tokens") == identity(documents)


def samples_bytes(num_images: int, *, num_tokens: int, image_size: int, traced: bool) -> int:
    """Return the bytes of tokens, trace, decoded images and an uncompressed grid."""
    image = 3 * image_size**2
    tokens = num_images * num_tokens * (TOKEN_BYTES + (_TRACE_BYTES if traced else 0))
    return tokens + (num_images + min(num_images, GRID_IMAGES)) * image + _NUM_FILES * NPY_HEADER
