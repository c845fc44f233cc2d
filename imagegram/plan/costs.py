"""What each kind of stage costs while it is missing; see ``planner.py``.

Every function takes the stage and its surroundings and returns a :class:`Cost`. Artifacts are
*expected* before they are made: with the digest that they will have, the facts that later stages
ask for, and no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from imagegram.errors import CapacityError
from imagegram.indexes.build.order_stage import BuildOrder, check_order_memory
from imagegram.indexes.build.stage import BuildIndex, BuildIndexShard, sorts_at_once
from imagegram.plan import sizes
from imagegram.plan.rates import Rate, Rates
from imagegram.protocols import Corpus, Tokenizer
from imagegram.stages.generate import Decode, Generate, Replay
from imagegram.stages.prefix import Prefix, prefix_facts
from imagegram.stages.split import MIN_CLUSTERS, Split, SplitShard
from imagegram.stages.tokenize import Tokenize, TokenizeShard
from imagegram.stages.tokens import TokenShard
from imagegram.store.artifacts import ArtifactStore, fingerprint
from imagegram.store.fingerprint import identity
from imagegram.store.manifest import Artifact, Manifest
from imagegram.store.stage import Stage

#: Starting worker processes, which import what they need.
_POOL_SECONDS: Final = 2.0
#: Resident: the interpreter with the kernels; what a worker adds.
PROCESS_BYTES: Final = 250_000_000
_WORKER_BYTES: Final = 200_000_000
#: Of a document that is cut: far less than anything else.
_PREFIX_SECONDS: Final = 1e-6
#: Facts of a token set that are sums of those of its shards.
_COUNTS: Final = ("num_documents", "num_tokens")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a cost depends on besides the stage.

    Attributes:
        store: what is there.
        rates: seconds a unit.
        workers: processes or threads.
        memory_bytes: that may be spent.
        image_size: side of the decoded images in pixels.
    """

    store: ArtifactStore
    rates: Rates
    workers: int
    memory_bytes: int
    image_size: int

    def find(self, stage: Stage[Any]) -> Artifact | None:
        """The finished artifact of a stage."""
        return self.store.find(stage)

    def expect(self, stage: Stage[Any], facts: dict[str, Any]) -> Artifact:
        """The artifact of a missing stage, as it will be named."""
        digest, payload = fingerprint(stage)
        manifest = Manifest(
            kind=stage.kind,
            digest=digest,
            payload=payload,
            files={},
            facts=facts,
            created_at="",
            duration_s=0.0,
            made_by={},
        )
        return Artifact(path=self.store.root / stage.kind / digest, manifest=manifest)

    def parts_seconds(
        self, rate: Rate, parts: Sequence[int], *, at_once: int | None = None
    ) -> float:
        """Of parts, in units, that worker processes make side by side."""
        if not parts:
            return 0.0
        used = min(at_once or self.workers, len(parts))
        share = max(max(parts), sum(parts) / used)
        return (_POOL_SECONDS if used > 1 else 0.0) + rate.seconds * share

    def shared_seconds(self, rate: Rate, units: int) -> float:
        """Of one stage whose threads share the work."""
        return rate.seconds * units / (self.workers if rate.per_core else 1)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a missing stage: the fields of a forecast, and what the stages after it ask.

    Attributes:
        facts: of its manifest, as far as they are asked.
        refusal: why the stage cannot be made on this machine; empty when it can.
    """

    facts: dict[str, Any]
    cached: int = 0
    parts: int = 1
    images: int = 0
    tokens: int = 0
    disk_bytes: int = 0
    memory_bytes: int = 0
    seconds: float = 0.0
    source: str = ""
    refusal: str = ""


def is_made(artifact: Artifact) -> bool:
    """Whether an artifact was found, not expected."""
    return bool(artifact.manifest.files)


def split_cost(stage: Split, at: Surroundings) -> Cost:
    """One process decodes the scanned shards."""
    whole = bool(stage.corpus.holdout_shards)
    scanned = sum(len(shard) for shard in stage.corpus.holdout_shards or stage.corpus.shards[:1])
    held = scanned if whole else round(scanned * stage.corpus.holdout_fraction)
    if not whole and scanned < MIN_CLUSTERS:
        held = 0
    rate = at.rates.of(stage.kind)
    return Cost(
        facts={"num_holdout": held, "num_scanned": scanned, "whole_shards": whole},
        images=scanned,
        disk_bytes=sizes.split_bytes(held),
        memory_bytes=PROCESS_BYTES + sizes.split_bytes(scanned),
        seconds=rate.seconds * scanned,
        source=rate.source,
    )


def prefix_shards(stage: Prefix, at: Surroundings) -> tuple[TokenShard, ...]:
    """The parts of a missing prefix, found or expected."""
    shards = []
    for part in stage.parts:
        facts = part.shard.artifact.facts | prefix_facts(part.shard, stage.length)
        if "metadata_bytes" not in facts:
            facts["metadata_bytes"] = _metadata_bytes(part.shard.artifact)
        shards.append(TokenShard(artifact=at.find(part) or at.expect(part, facts)))
    return tuple(shards)


def prefix_cost(stage: Prefix, shards: Sequence[TokenShard], at: Surroundings) -> Cost:
    """Streams are copied; what lies beside the tokens is shared by hard links."""
    missing = [shard for shard in shards if not is_made(shard.artifact)]
    documents = sum(shard.num_documents for shard in shards)
    return Cost(
        facts=set_facts(shards, stage.length),
        cached=len(shards) - len(missing),
        parts=len(shards),
        images=documents,
        tokens=sum(shard.stream_tokens for shard in shards),
        disk_bytes=sum(
            sizes.prefix_shard_bytes(documents=shard.num_documents, num_tokens=shard.num_tokens)
            for shard in missing
        ),
        memory_bytes=PROCESS_BYTES + _WORKER_BYTES,
        seconds=_PREFIX_SECONDS * sum(shard.num_documents for shard in missing),
        source="built in",
    )


def token_shards(stage: Tokenize, at: Surroundings) -> tuple[TokenShard, ...]:
    """The parts of a missing token set, found or expected."""
    spec, shards = stage.tokenizer.spec, []
    for images in stage.images:
        part = TokenizeShard(images=images, tokenizer=stage.tokenizer)
        artifact = at.find(part)
        if artifact is None:
            documents = _documents(images)
            facts = {
                "num_documents": documents,
                "num_tokens": documents * spec.length,
                "document_length": spec.document_length,
                "vocab_size": spec.vocab_size,
                "metadata_bytes": documents * images.shard.metadata_bytes,  # type: ignore[attr-defined]
            }
            artifact = at.expect(part, facts)
        shards.append(TokenShard(artifact=artifact))
    return tuple(shards)


def _documents(images: SplitShard) -> int:
    """Images of one part of a shard, before any is refused."""
    split, records = images.split, len(images.shard)
    whole = bool(split.artifact.facts["whole_shards"])
    if images.part == "holdout":
        return records if whole else min(split.num_holdout, records)
    is_first = images.shard.name == split.corpus.shards[0].name
    return records - split.num_holdout if is_first and not whole else records


def tokens_cost(stage: Tokenize, shards: Sequence[TokenShard], at: Surroundings) -> Cost:
    """Processes side by side, one a shard."""
    missing = [shard for shard in shards if not is_made(shard.artifact)]
    documents = sum(shard.num_documents for shard in shards)
    rate = at.rates.of(TokenizeShard.kind, identity(stage.tokenizer))
    return Cost(
        facts=set_facts(shards, stage.tokenizer.spec.document_length),
        cached=len(shards) - len(missing),
        parts=len(shards),
        images=documents,
        tokens=sum(shard.stream_tokens for shard in shards),
        disk_bytes=sum(
            sizes.token_shard_bytes(
                documents=shard.num_documents,
                num_tokens=shard.num_tokens,
                metadata_bytes=_metadata_bytes(shard.artifact),
            )
            for shard in missing
        ),
        memory_bytes=PROCESS_BYTES + min(at.workers, len(missing)) * _WORKER_BYTES,
        seconds=at.parts_seconds(rate, [shard.num_tokens for shard in missing]),
        source=rate.source,
    )


def set_facts(shards: Sequence[TokenShard], document_length: int | None) -> dict[str, Any]:
    """Facts of a token set, of those of its shards."""
    totals = {name: sum(int(shard.artifact.facts[name]) for shard in shards) for name in _COUNTS}
    return {**totals, "document_length": document_length, "skipped": {}}


def fit_cost(stage: Stage[Any], at: Surroundings) -> Cost:
    """Weights that are fetched or trained: no number of images tells how long that takes.

    What is known is the room for the pixels that a training reads.
    """
    corpus: Corpus | None = getattr(stage, "corpus", None)
    if corpus is None:
        return Cost(facts={}, source="not foreseen")
    tokenizer: Tokenizer = stage.tokenizer  # type: ignore[attr-defined]
    images = sum(len(shard) for shard in corpus.shards)
    pixels = sizes.pixels_bytes(num_images=images, image_size=tokenizer.image_size)
    return Cost(facts={}, images=images, disk_bytes=pixels, source="time not foreseen")


def index_cost(stage: BuildIndex, at: Surroundings) -> Cost:
    """As many sorts side by side as there are workers."""
    parts = stage.parts()
    missing = [part for part in parts if at.find(part) is None]
    counts = [part.num_tokens for part in missing]
    at_once, refusal = at.workers, ""
    if missing:
        try:
            at_once = min(at_once, sorts_at_once(missing, at.memory_bytes))
        except CapacityError as error:
            at_once, refusal = 1, str(error)
    sorts = sorted((part.memory_bytes for part in missing), reverse=True)[:at_once]
    total = sum(part.num_tokens for part in parts)
    rate = at.rates.of(BuildIndexShard.kind)
    return Cost(
        facts={"num_shards": len(parts), "num_tokens": total},
        cached=len(parts) - len(missing),
        parts=len(parts),
        images=stage.tokens.num_documents,
        tokens=total,
        disk_bytes=sum(map(_index_bytes, missing)),
        memory_bytes=PROCESS_BYTES + sum(sorts),
        seconds=at.parts_seconds(rate, counts, at_once=at_once),
        source=rate.source,
        refusal=refusal,
    )


def index_parts(stage: BuildIndex, at: Surroundings) -> tuple[Artifact, ...]:
    """The shards of a missing index, found or expected."""
    shards = []
    for part in stage.parts():
        documents = sum(shard.num_documents for shard in part.tokens)
        facts = {"num_tokens": part.num_tokens, "num_documents": documents}
        shards.append(at.find(part) or at.expect(part, facts))
    return tuple(shards)


def orders_cost(shards: Sequence[Artifact], aligned: bool, at: Surroundings) -> Cost:
    """Side files of index shards; threads share a shard, processes share the shards."""
    counts = [int(shard.facts["num_tokens"]) for shard in shards]
    stages = [BuildOrder(shard=_Named(artifact=shard), aligned=aligned) for shard in shards]  # type: ignore[arg-type]
    missing = [
        (count, shard.path)
        for stage, count, shard in zip(stages, counts, shards, strict=True)
        if at.find(stage) is None
    ]
    memory, refusal = 0, ""
    for count, path in sorted(missing, reverse=True)[: at.workers]:
        try:
            memory += check_order_memory(count, str(path), at.memory_bytes)
        except CapacityError as error:
            refusal = refusal or str(error)
    rate = at.rates.of(BuildOrder.kind)
    return Cost(
        facts={},
        cached=len(stages) - len(missing),
        parts=len(stages),
        tokens=sum(counts),
        disk_bytes=sum(sizes.order_bytes(num_tokens=n, aligned=aligned) for n, _ in missing),
        memory_bytes=PROCESS_BYTES + memory,
        seconds=at.shared_seconds(rate, sum(count for count, _ in missing)),
        source=rate.source,
        refusal=refusal,
    )


@dataclass(frozen=True, kw_only=True)
class _Named:
    """Stands for an index shard, of which an order's digest needs the identity alone."""

    artifact: Artifact

    def identity(self) -> str:
        return self.artifact.identity()


def _index_bytes(part: BuildIndexShard) -> int:
    """The table, and the token files of several shards joined to one."""
    copied = 0
    if len(part.tokens) > 1:
        documents = sum(shard.num_documents for shard in part.tokens)
        metadata = sum(_metadata_bytes(shard.artifact) for shard in part.tokens)
        copied = sizes.joined_bytes(
            documents=documents, num_tokens=part.num_tokens, metadata_bytes=metadata
        )
    return sizes.index_shard_bytes(num_tokens=part.num_tokens, copied_bytes=copied)


def _metadata_bytes(shard: Artifact) -> int:
    """Of a token shard that was found or is expected."""
    if is_made(shard):
        return shard.manifest.files["metadata.0"].size_bytes
    return int(shard.facts["metadata_bytes"])


def images_cost(stage: Generate | Replay | Decode, at: Surroundings) -> Cost:
    """Threads share the images; decoded ones have no trace, and no sampler."""
    length = stage.tokenizer.spec.length
    like, size = None, sizes.decoded_bytes
    if isinstance(stage, Generate):
        count = stage.num_samples
    elif isinstance(stage, Replay):
        count = min(stage.num_images, stage.documents.num_documents)
    else:
        count = min(stage.num_images, stage.documents.num_documents - stage.num_skipped)
    if not isinstance(stage, Decode):
        like, size = identity(stage.sampler), sizes.samples_bytes
    rate = at.rates.of(stage.kind, like)
    return Cost(
        facts={"num_images": count},
        images=count,
        tokens=count * length,
        disk_bytes=size(num_images=count, num_tokens=length, image_size=at.image_size),
        memory_bytes=PROCESS_BYTES + sizes.samples_memory(num_images=count, num_tokens=length),
        seconds=at.shared_seconds(rate, count * length),
        source=rate.source,
    )


def num_images(images: Any) -> int:
    """Of a set that was found or is expected."""
    return int(images.artifact.facts["num_images"])
