"""What the evaluation and the report cost while they are missing; see ``costs.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from imagegram.plan import sizes
from imagegram.plan.costs import PROCESS_BYTES, Cost, Surroundings, is_made, num_images
from imagegram.report.pairs import FindPairs
from imagegram.stages.embed import Embed, EmbedReference
from imagegram.stages.evaluate import Evaluate
from imagegram.stages.generate import SampleSet
from imagegram.stages.match import Match
from imagegram.stages.measure import Measure
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Stage

#: What torch adds to a process.
_TORCH_BYTES: Final = 700_000_000
#: What a search for the longest matches takes at most.
_MATCH_BYTES: Final = 600_000_000
#: Numbers of a feature, when no artifact tells: those of EfficientNet-lite0.
_NUM_FEATURES: Final = 1280


def evaluation_cost(stage: Evaluate, at: Surroundings) -> Cost:
    """Metric after metric; the seconds of a metric include the features that it asked for."""
    missing = [
        part
        for metric in stage.metrics
        for part in stage.parts(metric).values()
        if not _is_there(part, at)
    ]
    metrics = {repr(identity(part.metric)): part.metric for part in missing}
    encoders = {
        repr(identity(metric.encoder)): metric.encoder
        for metric in metrics.values()
        if hasattr(metric, "encoder")
    }
    rates = [
        (num_images(part.images), at.rates.of(part.kind, identity(part.metric))) for part in missing
    ]
    total = sum(num_images(images) for images in stage.sets.values())
    rows = (total + stage.max_reference_images) * len(encoders)
    asks_index = any("matches" in metric.NEEDS for metric in metrics.values())
    asks_all = any("training_features" in metric.NEEDS for metric in metrics.values())
    parts = len(stage.metrics) * len(stage.sets)
    return Cost(
        facts={},
        cached=parts - len(missing),
        parts=parts,
        images=total,
        disk_bytes=sizes.scores_bytes(sum(num_images(part.images) for part in missing))
        + (_matches_bytes(stage, at) if asks_index else 0)
        + sum(
            _features_bytes(stage, encoder, at, all_training=asks_all)
            for encoder in encoders.values()
        ),
        memory_bytes=PROCESS_BYTES
        + (_MATCH_BYTES if asks_index else 0)
        + (_TORCH_BYTES if encoders else 0)
        + sizes.features_bytes(num_images=rows, num_features=_NUM_FEATURES),
        seconds=sum(count * rate.seconds for count, rate in rates),
        source=rates[0][1].source if rates else "",
    )


def _is_there(part: Measure, at: Surroundings) -> bool:
    """Whether a measurement is cached: the content of image sets to come is unknown."""
    sets: list[Any] = [images for images in (part.images, part.calibration) if images]
    return all(is_made(images.artifact) for images in sets) and at.find(part) is not None


def _missing_images(
    stage: Evaluate, part: Callable[[SampleSet], Stage[Any]], at: Surroundings
) -> list[int]:
    """Sizes of the image sets whose part is not there; those of sets to come never are."""
    sets: list[Any] = list(stage.sets.values())
    return [
        num_images(images)
        for images in sets
        if not is_made(images.artifact)
        or at.find(part(SampleSet(artifact=images.artifact))) is None
    ]


def _matches_bytes(stage: Evaluate, at: Surroundings) -> int:
    """Longest matches of the image sets in the index."""
    missing = _missing_images(stage, lambda images: Match(model=stage.model, images=images), at)
    length = stage.tokenizer.spec.length
    return sum(sizes.matches_bytes(num_images=count, num_tokens=length) for count in missing)


def _features_bytes(stage: Evaluate, encoder: Any, at: Surroundings, *, all_training: bool) -> int:
    """Features of the image sets and of training images, as far as they are not there."""
    num_features = at.rates.num_features(identity(encoder)) or _NUM_FEATURES
    missing = _missing_images(stage, lambda images: Embed(encoder=encoder, images=images), at)
    documents, taken = stage.tokens.num_documents, num_images(stage.ceiling)
    others = documents - (taken if documents >= 2 * taken else 0)
    wanted = [(taken, min(others, stage.max_reference_images), stage.max_reference_images)]
    if all_training:
        wanted.append((0, documents, documents))
    for num_skipped, count, max_images in wanted:
        reference = EmbedReference(
            encoder=encoder,
            tokens=stage.tokens,
            tokenizer=stage.tokenizer,
            image_size=at.image_size,
            num_skipped=num_skipped,
            max_images=max_images,
            seed=stage.seed,
        )
        if at.find(reference) is None:
            missing.append(count)
    return sum(sizes.features_bytes(num_images=n, num_features=num_features) for n in missing)


def report_cost(stage: FindPairs, at: Surroundings) -> Cost:
    """The run folder, which every run writes anew, and the search for its pairs."""
    disk, seconds, source = sizes.run_folder_bytes(at.image_size), 0.5, ""
    if at.find(stage) is None:
        rate = at.rates.of(stage.kind)
        disk += sizes.pairs_bytes(stage.max_pairs, at.image_size)
        seconds += rate.seconds * stage.tokens.num_documents
        source = rate.source
    return Cost(
        facts={},
        images=num_images(stage.generated),
        disk_bytes=disk,
        memory_bytes=PROCESS_BYTES,
        seconds=seconds,
        source=source,
    )
