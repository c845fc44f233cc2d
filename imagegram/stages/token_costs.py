"""Costs of token sets: ``forecast`` of ``Tokenize``, ``Prefix``, ``Select`` and their shards.

>>> round(token_shard_bytes(1000, num_tokens=4_032_000, metadata_bytes=436_000) / 1e6, 2)
9.29
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagegram.records import TOKEN_BYTES
from imagegram.stages.token_shard import TokenShard
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import NPY_HEADER, THUMBNAIL_BYTES, Cost
from imagegram.store.stage import Stage, Surroundings

if TYPE_CHECKING:
    from imagegram.protocols import ImageShard


def prefix_shard_bytes(documents: int, *, num_tokens: int) -> int:
    """Return the bytes of stream, with separators, and offsets; other files are hard links."""
    return TOKEN_BYTES * (num_tokens + documents + 1) + 8 * documents


def token_shard_bytes(documents: int, *, num_tokens: int, metadata_bytes: int) -> int:
    """Return the bytes of stream and offsets, metadata with its offsets, thumbnails."""
    beside = documents * (8 + THUMBNAIL_BYTES) + metadata_bytes + NPY_HEADER
    return prefix_shard_bytes(documents, num_tokens=num_tokens) + beside


def shard_counts(shard: TokenShard) -> Cost:
    """Return the counts of a found or expected token shard, without bytes and seconds."""
    artifact = shard.selection or shard.artifact
    return Cost(
        artifact=artifact,
        cached=int(artifact.is_made),
        images=shard.num_documents,
        tokens=shard.stream_tokens,
    )


def shard_cost(stage: Any, at: Surroundings, documents: int, *, metadata_bytes: int) -> Cost:
    """Return the cost of tokenizing all images of a shard on one core.

    Args:
        stage: stage with a tokenizer.
        at: store, workers and memory.
        documents: number of images.
        metadata_bytes: bytes of the metadata of an image.
    """
    if found := at.find(stage):
        return shard_counts(TokenShard(artifact=found))
    spec, rate = stage.tokenizer.spec, at.rate(stage)
    facts = {
        "num_documents": documents,
        "num_tokens": documents * spec.length,
        "document_length": spec.document_length,
        "vocab_size": spec.vocab_size,
        "metadata_bytes": documents * metadata_bytes,
    }
    names = ("num_tokens", "metadata_bytes")
    return replace(
        shard_counts(TokenShard(artifact=at.expect(stage, facts))),
        disk_bytes=token_shard_bytes(documents, **{name: facts[name] for name in names}),
        seconds=rate.seconds * stage.units(facts),
        source=rate.source,
    )


def set_cost(
    stage: Stage[TokenSet],
    parts: Sequence[Stage[TokenShard]],
    at: Surroundings,
    *,
    images: tuple[ImageShard, ...],
    at_once: int,
    **facts: Any,
) -> Cost:
    """Return the cost of a token set.

    Its handle is not that of ``Tokenize.load``, which may refuse the failures of a finished set.

    Args:
        stage: stage that lists the parts.
        parts: stages of its shards.
        at: store, workers and memory.
        images: shards that were tokenized, for the handle.
        at_once: number of parts that are made at a time.
        facts: facts of the set besides its counts.
    """
    if found := at.find(stage):
        handle = TokenSet(artifact=found, images=images)
        tokens = handle.num_tokens + handle.num_documents + int(found.facts["num_shards"])
        return Cost.found(found, images=handle.num_documents, tokens=tokens, handle=handle)
    costs = [cost for part in parts if (cost := part.forecast(at)) is not None]
    whole = Cost.together(costs, at_once=at_once)
    num_tokens = whole.tokens - whole.images - len(costs)
    facts |= {"num_documents": whole.images, "num_tokens": num_tokens, "skipped": {}}
    shards = [cost.artifact for cost in costs if cost.artifact is not None]
    artifact = at.expect(stage, facts, shards)
    return replace(whole, artifact=artifact, handle=TokenSet(artifact=artifact, images=images))
