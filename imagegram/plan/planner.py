"""The flow of a run, walked without running it.

    forecast = foresee(exp, flow, store=store, workers=2)
    forecast.disk_bytes, forecast.seconds

The flow of ``run.py`` is called with a :class:`Planner` in place of the run. Digests follow from
what was asked for and not from results, so the planner knows of every stage whether it is cached,
up to the last one; for those that are not it foresees counts, bytes and seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, cast

from imagegram.experiment import Experiment
from imagegram.plan import sizes
from imagegram.plan.corpus import PlannedCorpus
from imagegram.plan.forecast import Forecast, StageForecast
from imagegram.plan.rates import Rate, Rates
from imagegram.protocols import Corpus, Stage
from imagegram.run_folder import STAGE_OF_KIND
from imagegram.schema import STAGES
from imagegram.stages.embed import Embed, EmbedReference
from imagegram.stages.evaluate import Evaluate, MeasureMetric
from imagegram.stages.generate import Generate, Replay
from imagegram.stages.index import BuildIndex, BuildIndexShard
from imagegram.stages.split import MIN_CLUSTERS, Split, SplitShard
from imagegram.stages.tokenize import Tokenize, TokenizeShard
from imagegram.stages.tokens import TokenSet, TokenShard
from imagegram.store.artifacts import Artifact, ArtifactStore, fingerprint
from imagegram.store.fingerprint import identity
from imagegram.store.manifest import Manifest

#: Starting worker processes, which import what they need.
_POOL_SECONDS: Final = 1.0
#: Resident: the interpreter with the kernels; what a worker adds; what torch adds.
_PROCESS_BYTES: Final = 250_000_000
_WORKER_BYTES: Final = 200_000_000
_TORCH_BYTES: Final = 700_000_000
#: Numbers of a feature, when no artifact tells: those of EfficientNet-lite0.
_NUM_FEATURES: Final = 1280

Flow = Callable[[Experiment, Any], None]


def foresee(
    exp: Experiment,
    flow: Flow,
    *,
    store: ArtifactStore,
    workers: int,
    rates: Rates | None = None,
    max_counted: int | None = 20_000,
    hashes: bool = False,
) -> Forecast:
    """Walk the flow of an experiment and say what it will cost.

    Args:
        exp: what would be run.
        flow: calls its second argument with (name, stage) as it would call a run.
        store: what is there already.
        workers: of the run.
        rates: seconds a unit; None: those that the store tells.
        max_counted: records to count in tar headers; None: all.
        hashes: read shards that were never hashed, to know whether they are cached.

    Raises:
        CorpusError: when shards are missing.
        ArtifactError: when what is there is damaged.
    """
    corpus = PlannedCorpus.of(exp.corpus, max_counted=max_counted, hashes=hashes)
    # A frozen dataclass has no settable name, which the protocol's own name would be.
    exp = dataclasses.replace(exp, corpus=cast(Corpus, corpus))
    planner = Planner(exp, store, workers, rates or Rates(store))
    with contextlib.suppress(_EndOfPlanError):
        flow(exp, planner)
    return Forecast(
        stages=tuple(planner.stages),
        num_estimated=corpus.num_estimated,
        num_unknown=corpus.num_unknown,
    )


class _EndOfPlanError(Exception):
    """Raised at the first stage after the last requested one."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Stands for the handle of a model, of images or of scores: only their identity is asked.

    Attributes:
        artifact: found or foreseen.
        scores: none, as nothing was measured.
    """

    artifact: Artifact
    scores: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def identity(self) -> str:
        """kind/digest of the artifact."""
        return self.artifact.identity()


@dataclass(frozen=True, kw_only=True)
class ExpectedTokens(TokenSet):
    """A token set whose shards may not be there yet.

    Attributes:
        expected: its shards.
    """

    expected: tuple[TokenShard, ...]

    @cached_property
    def shards(self) -> tuple[TokenShard, ...]:
        """Found or foreseen."""
        return self.expected


class Planner:
    """Takes the place of a run in the flow; see the module.

    Attributes:
        stages: what was foreseen so far.
    """

    def __init__(self, exp: Experiment, store: ArtifactStore, workers: int, rates: Rates) -> None:
        self.stages: list[StageForecast] = []
        self._exp = exp
        self._store = store
        self._workers = workers
        self._rates = rates
        self._last_stage = max(STAGES.index(stage) for stage in exp.stages)
        self._foreseers: dict[str, Callable[[str, Any], Any]] = {
            "split": self._split,
            "tokens": self._tokens,
            "index": self._index,
            "samples": self._images,
            "replay": self._images,
            "evaluation": self._evaluation,
        }

    def __call__(self, name: str, stage: Stage[Any]) -> Any:
        """Foresee one stage; returns what stands for its handle."""
        if STAGES.index(STAGE_OF_KIND[stage.kind]) > self._last_stage:
            raise _EndOfPlanError
        return self._foreseers[stage.kind](name, stage)

    def config(self, values: Any) -> None:
        """Nothing is logged."""

    def collect(self, handle: Any, name: str) -> None:
        """Nothing is collected: hard links cost nothing."""

    def score(self, scores: Any) -> None:
        """Nothing was measured."""

    def report(self, evaluation: Any, *, generated: Any, tokens: Any) -> None:
        """The report, which is written anew by every run."""
        side = self._image_size
        self.stages.append(
            StageForecast(
                name="report",
                cached=0,
                parts=1,
                images=self._exp.num_samples,
                disk_bytes=sizes.run_folder_bytes(side),
                memory_bytes=_PROCESS_BYTES,
                seconds=0.5,
            )
        )

    # ------------------------------------------------------------------------------------- stages

    def _split(self, name: str, stage: Split) -> Any:
        found = self._find(stage)
        scanned = stage.corpus.holdout_shards or stage.corpus.shards[:1]
        if found is not None:
            num_scanned = int(found.facts["num_scanned"])
            self.stages.append(StageForecast(name=name, cached=1, parts=1, images=num_scanned))
            return stage.load(found)
        whole = bool(stage.corpus.holdout_shards)
        records = sum(len(shard) for shard in scanned)
        held = records if whole else round(records * stage.corpus.holdout_fraction)
        if not whole and records < MIN_CLUSTERS:
            held = 0
        rate = self._rates.of(stage.kind)
        self.stages.append(
            StageForecast(
                name=name,
                cached=0,
                parts=1,
                images=records,
                disk_bytes=sizes.split_bytes(held),
                memory_bytes=_PROCESS_BYTES + sizes.split_bytes(records),
                seconds=records * rate.seconds,  # one process
                source=rate.source,
            )
        )
        return stage.load(
            self._expect(
                stage, {"num_holdout": held, "num_scanned": records, "whole_shards": whole}
            )
        )

    def _tokens(self, name: str, stage: Tokenize) -> TokenSet:
        length = stage.tokenizer.num_tokens
        found = self._find(stage)
        if found is not None:
            documents, shards = int(found.facts["num_documents"]), len(stage.images)
            self.stages.append(
                StageForecast(
                    name=name,
                    cached=shards,
                    parts=shards,
                    images=documents,
                    tokens=documents * (length + 1) + shards,
                )
            )
            return TokenSet(artifact=found, images=stage.images)
        parts, missing, disk = [], [], 0
        for images in stage.images:
            part = TokenizeShard(images=images, tokenizer=stage.tokenizer)
            if (artifact := self._find(part)) is None:
                documents = _documents(images)
                metadata = documents * images.shard.metadata_bytes  # type: ignore[attr-defined]
                disk += sizes.token_shard_bytes(
                    documents=documents, num_tokens=length, metadata_bytes=metadata
                )
                missing.append(documents)
                facts = {"num_documents": documents, "num_tokens": length, "skipped": {}}
                artifact = self._expect(part, facts | {"metadata_bytes": metadata})
            parts.append(TokenShard(artifact=artifact))
        rate = self._rates.of(TokenizeShard.kind, identity(stage.tokenizer))
        documents = sum(part.num_documents for part in parts)
        self.stages.append(
            StageForecast(
                name=name,
                cached=len(parts) - len(missing),
                parts=len(parts),
                images=documents,
                tokens=documents * (length + 1) + len(parts),
                disk_bytes=disk,
                memory_bytes=_PROCESS_BYTES + min(self._workers, len(missing)) * _WORKER_BYTES,
                seconds=self._seconds(rate, [count * length for count in missing]),
                source=rate.source,
            )
        )
        facts = {"num_documents": documents, "num_tokens": length, "skipped": {}}
        artifact = self._expect(stage, facts)
        return ExpectedTokens(artifact=artifact, images=stage.images, expected=tuple(parts))

    def _index(self, name: str, stage: BuildIndex) -> Expected:
        found = self._find(stage)
        if found is not None:
            facts = found.facts
            shards, documents = int(facts["num_shards"]), int(facts["num_documents"])
            tokens = int(facts["num_tokens"])
            self.stages.append(
                StageForecast(
                    name=name, cached=shards, parts=shards, images=documents, tokens=tokens
                )
            )
            return Expected(artifact=found)
        missing, total, disk = [], 0, 0
        parts = [BuildIndexShard(tokens=shard) for shard in stage.tokens.shards]
        for part in parts:
            shard = part.tokens
            tokens = sizes.stream_tokens(shard.num_documents, shard.num_tokens)
            total += tokens
            if self._find(part) is None:
                missing.append(tokens)
                disk += sizes.index_shard_bytes(num_tokens=tokens, copied_bytes=0)
        rate = self._rates.of(BuildIndexShard.kind)
        largest = sorted(missing, reverse=True)[: self._workers]
        self.stages.append(
            StageForecast(
                name=name,
                cached=len(parts) - len(missing),
                parts=len(parts),
                images=stage.tokens.num_documents,
                tokens=total,
                disk_bytes=disk,
                memory_bytes=_PROCESS_BYTES + sum(map(sizes.index_memory, largest)),
                seconds=self._seconds(rate, missing),
                source=rate.source,
            )
        )
        return Expected(artifact=self._expect(stage, {}))

    def _images(self, name: str, stage: Generate | Replay) -> Expected:
        length = stage.tokenizer.num_tokens
        found = self._find(stage)
        if found is not None:
            count = int(found.facts["num_images"])
            self.stages.append(
                StageForecast(name=name, cached=1, parts=1, images=count, tokens=count * length)
            )
            return Expected(artifact=found)
        if isinstance(stage, Replay):
            count = min(stage.num_images, stage.documents.num_documents)
        else:
            count = stage.num_samples
        side = self._image_size
        rate = self._rates.of(stage.kind, identity(stage.sampler))
        self.stages.append(
            StageForecast(
                name=name,
                cached=0,
                parts=1,
                images=count,
                tokens=count * length,
                disk_bytes=sizes.samples_bytes(
                    num_images=count, num_tokens=length, image_size=side
                ),
                memory_bytes=_PROCESS_BYTES
                + sizes.samples_memory(num_images=count, num_tokens=length),
                seconds=self._shared_seconds(rate, count * length),
                source=rate.source,
            )
        )
        return Expected(artifact=self._expect(stage, {"num_images": count}))

    def _evaluation(self, name: str, stage: Evaluate) -> Expected:
        found = self._find(stage)
        sets = [images for images in (stage.generated, stage.floor, stage.ceiling) if images]
        counts = {images.artifact.digest: _num_images(images) for images in sets}  # type: ignore[attr-defined]
        if found is not None:
            parts = len(stage.metrics)
            self.stages.append(
                StageForecast(name=name, cached=parts, parts=parts, images=sum(counts.values()))
            )
            return Expected(artifact=found)
        shared = {
            field.name: getattr(stage, field.name)
            for field in dataclasses.fields(stage)
            if field.name != "metrics"
        }
        missing = [
            metric
            for metric in stage.metrics
            if self._find(MeasureMetric(metric=metric, **shared)) is None
        ]
        num_samples = _num_images(stage.generated)
        seconds, source = 0.0, ""
        for metric in missing:
            rate = self._rates.of(MeasureMetric.kind, identity(metric))
            seconds += rate.seconds * num_samples
            source = rate.source
        encoders = {
            repr(identity(metric.encoder)): metric.encoder
            for metric in missing
            if hasattr(metric, "encoder")
        }
        disk = sizes.scores_bytes(num_samples) if missing else 0
        disk += sum(self._features_bytes(stage, encoder) for encoder in encoders.values())
        features = sum(counts.values()) + stage.max_reference_images
        self.stages.append(
            StageForecast(
                name=name,
                cached=len(stage.metrics) - len(missing),
                parts=len(stage.metrics),
                images=sum(counts.values()),
                disk_bytes=disk,
                memory_bytes=_PROCESS_BYTES
                + (_TORCH_BYTES if encoders else 0)
                + len(encoders) * features * _NUM_FEATURES * 4,
                seconds=seconds,
                source=source,
            )
        )
        return Expected(artifact=self._expect(stage, {}))

    def _features_bytes(self, stage: Evaluate, encoder: Any) -> int:
        """Features of the image sets and of the reference, as far as they are not there."""
        total = 0
        num_features = self._rates.num_features(identity(encoder)) or _NUM_FEATURES
        num_images = _num_images(stage.ceiling)
        for images in (stage.generated, stage.floor, stage.ceiling):
            if images is None:
                continue
            artifact = images.artifact  # type: ignore[attr-defined]
            if artifact.manifest.files and self._has_features(encoder, artifact):
                continue
            total += sizes.features_bytes(num_images=_num_images(images), num_features=num_features)
        reference = EmbedReference(
            encoder=encoder,
            tokens=stage.tokens,
            tokenizer=stage.tokenizer,
            image_size=self._image_size,
            num_skipped=num_images,
            max_images=stage.max_reference_images,
            seed=stage.seed,
        )
        if self._find(reference) is None:
            others = stage.tokens.num_documents
            others -= num_images if others >= 2 * num_images else 0
            count = min(others, stage.max_reference_images)
            total += sizes.features_bytes(num_images=count, num_features=num_features)
        return total

    def _has_features(self, encoder: Any, artifact: Artifact) -> bool:
        from imagegram.stages.generate import SampleSet

        return self._find(Embed(encoder=encoder, images=SampleSet(artifact=artifact))) is not None

    # -------------------------------------------------------------------------------------- common

    @property
    def _image_size(self) -> int:
        return self._exp.output_size or self._exp.tokenizer.layout.heights[-1]

    def _find(self, stage: Stage[Any]) -> Artifact | None:
        return self._store.find(stage)

    def _expect(self, stage: Stage[Any], facts: dict[str, Any]) -> Artifact:
        """The artifact as it will be named."""
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
        return Artifact(path=self._store.root / stage.kind / digest, manifest=manifest)

    def _seconds(self, rate: Rate, parts: list[int]) -> float:
        """Of parts that worker processes make side by side."""
        if not parts:
            return 0.0
        share = max(max(parts), sum(parts) / min(self._workers, len(parts)))
        pool = _POOL_SECONDS if min(self._workers, len(parts)) > 1 else 0.0
        return pool + rate.seconds * share

    def _shared_seconds(self, rate: Rate, units: int) -> float:
        """Of one stage whose threads share the work."""
        return rate.seconds * units / (self._workers if rate.per_core else 1)


def _num_images(images: Any) -> int:
    return int(images.artifact.facts["num_images"])


def _documents(images: SplitShard) -> int:
    """Images of one part of a shard, before any is refused."""
    split, records = images.split, len(images.shard)
    first = images.shard.name == split.corpus.shards[0].name
    if images.part == "holdout":
        return records if split.artifact.facts["whole_shards"] else min(split.num_holdout, records)
    if split.artifact.facts["whole_shards"] or not first:
        return records
    return records - split.num_holdout
