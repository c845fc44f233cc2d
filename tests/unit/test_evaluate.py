from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from imagegram.encoders.pixels import PixelEncoder
from imagegram.errors import ConfigError
from imagegram.executors.context import RunContext
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.metrics.copying import CopyingMetric
from imagegram.metrics.frechet import FrechetMetric
from imagegram.metrics.kernel import KernelMetric
from imagegram.metrics.novelty import NoveltyMetric
from imagegram.metrics.order import OrderMetric
from imagegram.metrics.prdc import PrdcMetric
from imagegram.records import Features, Images, Measured, Measurement, ScoreInfo
from imagegram.stages.embed import Embed, EmbedReference
from imagegram.stages.evaluate import Evaluate, Evaluation, Score, combine, normalized
from imagegram.stages.generate import select_documents
from imagegram.stages.match import Match
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.fingerprint import identity
from tests.image_sets import TOKENIZER, MemoryImages, MemoryIndex, MemoryTokens, random_tokens

CORPUS = MemoryTokens(shards=[random_tokens(90, seed=0), random_tokens(70, seed=1)])
SAMPLES = MemoryImages.of(np.concatenate([CORPUS.all[:10], random_tokens(40, seed=2)]))
FLOOR = MemoryImages.of(random_tokens(50, seed=3))
CEILING = MemoryImages.of(CORPUS.all[select_documents(160, 0)[:50]])


@dataclass(frozen=True, kw_only=True)
class CountingEncoder:
    """Mean colours; remembers how many images it has seen."""

    seen: ClassVar[list[int]] = []
    name: str = "counting"

    def encode(self, images_BHWC: Images) -> Features:
        self.seen.append(len(images_BHWC))
        return images_BHWC.mean(axis=(1, 2)).astype(np.float32)


@dataclass(frozen=True)
class MarkedImages(MemoryImages):
    """The same tokens in another artifact, as a replay under another sampler is."""

    @classmethod
    def of(cls, images: MemoryImages) -> MarkedImages:  # type: ignore[override]
        return cls(tokens=images.tokens, trace=images.trace, images=images.images)

    def identity(self) -> str:
        return f"other_{super().identity()}"


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(
        store=ArtifactStore(root=tmp_path), executor=SerialExecutor(), progress=SilentProgress()
    )


def evaluate(context: RunContext, *metrics: Any, **changes: Any) -> Evaluation:
    fields: dict[str, Any] = {
        "metrics": metrics,
        "generated": SAMPLES,
        "floor": FLOOR,
        "ceiling": CEILING,
        "tokens": CORPUS,
        "tokenizer": TOKENIZER,
        "index": CORPUS.index(),
        "seed": 0,
        "near_duplicate_rms": 6.0,
    }
    return context.make(Evaluate(**fields | changes))


def test_value_floor_and_ceiling_come_from_the_three_sets(context: RunContext) -> None:
    score = evaluate(context, CopyingMetric()).scores["exact_copy_rate"]
    assert (score.value, score.floor, score.ceiling) == (0.2, 0.0, 1.0)
    assert score.low is not None
    assert score.high is not None
    assert score.low < 0.2 < score.high


def test_metrics_of_features_share_them(context: RunContext) -> None:
    CountingEncoder.seen.clear()
    encoder = CountingEncoder()
    metrics = [FrechetMetric(encoder=encoder), KernelMetric(encoder=encoder)]
    first = evaluate(context, *metrics)
    # Generated, held-out and training images, and the 110 documents that the ceiling did not take.
    assert sum(CountingEncoder.seen) == 50 + 50 + 50 + 110
    seen = len(CountingEncoder.seen)
    assert set(first.scores) == {"fd_counting", "kd_counting"}
    second = evaluate(context, *metrics, PrdcMetric(encoder=encoder))
    assert len(CountingEncoder.seen) == seen
    assert {name: second.scores[name] for name in first.scores} == first.scores
    assert second.recipes["coverage"]["N_ref"] == "110"


def test_metrics_of_tokens_share_the_matches(context: RunContext) -> None:
    asked: list[int] = []

    class CountingIndex(MemoryIndex):
        def match_lengths(self, tokens_BT: Any, **options: Any) -> Any:
            asked.append(len(tokens_BT))
            return super().match_lengths(tokens_BT, **options)

    whole = CORPUS.index()
    index = CountingIndex(shards=whole.shards, digest=whole.digest)
    evaluate(context, CopyingMetric(), NoveltyMetric(max_n=4, shown_n=(4,)), index=index)
    assert asked == [50, 50, 50]
    # The same tokens under another sampler: the trace is another, the matches are these.
    again = MemoryImages.of(FLOOR.tokens, suffix_len=np.ones(FLOOR.tokens.shape, np.uint16))
    assert identity(Match(index=index, images=again)) == identity(Match(index=index, images=FLOOR))
    lengths = context.make(Match(index=index, images=again)).lengths
    assert len(asked) == 3
    np.testing.assert_array_equal(lengths, CORPUS.index().match_lengths(FLOOR.tokens))


def test_features_are_known_by_their_pixels(context: RunContext) -> None:
    encoder = PixelEncoder(resolution=2)
    stage = Embed(encoder=encoder, images=SAMPLES)
    again = MemoryImages.of(SAMPLES.tokens, suffix_len=np.ones(SAMPLES.tokens.shape, np.uint16))
    assert identity(Embed(encoder=encoder, images=again)) == identity(stage)
    assert identity(Embed(encoder=encoder, images=FLOOR)) != identity(stage)
    assert identity(Embed(encoder=PixelEncoder(resolution=1), images=SAMPLES)) != identity(stage)
    np.testing.assert_array_equal(context.make(stage).features, encoder.encode(SAMPLES.images))


@pytest.mark.parametrize(("skipped", "maximum"), [(50, 2000), (50, 30), (100, 2000), (160, 20)])
def test_the_reference_leaves_out_the_ceiling_while_enough_others_exist(
    context: RunContext, skipped: int, maximum: int
) -> None:
    encoder = PixelEncoder(resolution=2)
    stage = EmbedReference(
        encoder=encoder,
        tokens=CORPUS,
        tokenizer=TOKENIZER,
        image_size=2,
        num_skipped=skipped,
        max_images=maximum,
        seed=4,
    )
    handle = context.make(stage)
    documents = np.load(handle.artifact.path / "documents.npy")
    ceiling = set(select_documents(160, 4)[:skipped].tolist())
    if skipped == 50:
        assert not ceiling & set(documents.tolist())
        assert len(documents) == min(maximum, 110)
    else:
        assert len(documents) == min(maximum, 160)
    expected = encoder.encode(TOKENIZER.decode(CORPUS.gather(documents)))
    np.testing.assert_array_equal(handle.features, expected)


def test_without_held_out_images_the_floor_is_missing_and_said_so(context: RunContext) -> None:
    evaluation = evaluate(context, CopyingMetric(), floor=None)
    assert all(score.floor is None for score in evaluation.scores.values())
    assert "no held-out images" in evaluation.notes["exact_copy_rate"]
    assert set(evaluation.curves) == {"generated", "ceiling"}


def test_too_few_images_are_null_with_a_reason(context: RunContext) -> None:
    one = MemoryImages.of(random_tokens(1, seed=9))
    encoder = PixelEncoder(resolution=2)
    metrics = [FrechetMetric(encoder=encoder), PrdcMetric(encoder=encoder)]
    evaluation = evaluate(context, *metrics, generated=one)
    assert evaluation.scores["fd_pixels"].value is None
    assert evaluation.scores["fd_pixels"].floor is not None
    assert "generated: 1 images, at least 2" in evaluation.notes["fd_pixels"]
    assert "at least 6" in evaluation.notes["recall"]


def test_sets_of_unequal_size_are_pointed_out(context: RunContext) -> None:
    smaller = MemoryImages.of(FLOOR.tokens[:20])
    evaluation = evaluate(context, KernelMetric(encoder=PixelEncoder(resolution=2)), floor=smaller)
    assert "floor: N = 20, not 50" in evaluation.notes["kd_pixels"]


def test_two_metrics_may_not_write_one_score(context: RunContext) -> None:
    metrics = [KernelMetric(encoder=PixelEncoder(resolution=size)) for size in (1, 2)]
    with pytest.raises(ConfigError, match="two metrics write the score 'kd_pixels'"):
        evaluate(context, *metrics)


def test_what_is_not_a_number_becomes_null() -> None:
    bad = Measurement(scalars={"x": Measured(value=float("nan"), low=float("inf"))}, curves={})
    good = Measurement(scalars={"x": Measured(value=2.0, low=1.0, high=3.0)}, curves={})
    sets = {"generated": bad, "floor": good, "ceiling": good}
    record = combine(sets, metric=CopyingMetric(), lacks={})
    assert Score(**record["scores"]["x"]) == Score(value=None, floor=2.0, ceiling=2.0)
    assert record["notes"]["x"] == "generated: not a finite number"
    assert record["intervals"]["x"]["floor"] == [1.0, 3.0]
    json.dumps(record, allow_nan=False)


def test_planted_sets_are_measured_beside_the_others(context: RunContext) -> None:
    half = MemoryImages.of(np.concatenate([CORPUS.all[100:125], random_tokens(25, seed=8)]))
    evaluation = evaluate(context, CopyingMetric(), planted={"copies_50": half})
    values = evaluation.values["exact_copy_rate"]
    assert values == {"generated": 0.2, "floor": 0.0, "ceiling": 1.0, "copies_50": 0.5}
    low, high = evaluation.intervals["exact_copy_rate"]["copies_50"]
    assert low is not None
    assert high is not None
    assert low < 0.5 < high
    assert evaluation.scores["exact_copy_rate"].normalized == 0.2
    assert set(evaluation.curves) == set(values)


def test_a_metric_that_reads_no_trace_measures_real_images_once(context: RunContext) -> None:
    def made() -> int:
        return len(list((context.store.root / "measurement").glob("[0-9a-f]*")))

    evaluate(context, NoveltyMetric(max_n=4, shown_n=(4,)), OrderMetric())
    before = made()
    other = {
        name: MemoryImages.of(images.tokens, num_distinct=np.ones(images.tokens.shape, np.uint16))
        for name, images in {"floor": FLOOR, "ceiling": CEILING, "generated": SAMPLES}.items()
    }
    again = {name: MarkedImages.of(images) for name, images in other.items()}
    evaluation = evaluate(context, NoveltyMetric(max_n=4, shown_n=(4,)), OrderMetric(), **again)
    assert made() == before + 3  # order reads traces: all three once more; novelty none
    assert evaluation.scores["forced_copy_rate"].value == 1.0


def test_a_metric_that_promised_not_to_read_a_trace_may_not(context: RunContext) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Liar:
        NEEDS: ClassVar[frozenset[str]] = frozenset({"ids"})
        SCORES: ClassVar[tuple[ScoreInfo, ...]] = ()
        name: str = "liar"

        def measure(self, *, generated: Any, reference: Any) -> Measurement:
            value = float(generated.trace["entropy"].mean())
            return Measurement(scalars={"lie": Measured(value=value)}, curves={})

    with pytest.raises(ConfigError, match="name the array in its NEEDS"):
        evaluate(context, Liar())


def test_what_is_known_of_a_score_lies_beside_it(context: RunContext) -> None:
    evaluation = evaluate(context, OrderMetric(), FrechetMetric(encoder=PixelEncoder(resolution=2)))
    assert evaluation.infos.keys() == evaluation.scores.keys()
    forced, distance = evaluation.infos["forced_copy_rate"], evaluation.infos["fd_pixels"]
    assert (forced.better, forced.reads_trace, forced.moves_with_n) == ("lower", True, False)
    assert (distance.better, distance.reads_trace, distance.moves_with_n) == ("lower", False, True)
    assert "of pixels features" in distance.words
    assert evaluation.skipped == {}


def test_a_metric_that_cannot_be_asked_is_left_out_and_said(context: RunContext) -> None:
    def without(images: MemoryImages) -> Any:
        return dataclasses.replace(images, trace={})

    sets = {"generated": SAMPLES, "floor": FLOOR, "ceiling": CEILING}
    bare = {name: without(images) for name, images in sets.items()}
    evaluation = evaluate(context, OrderMetric(), CopyingMetric(), **bare)
    assert set(evaluation.skipped) == {"order"}
    assert evaluation.skipped["order"].startswith("metric order needs the contexts that")
    assert "forced_copy_rate" not in evaluation.scores
    assert evaluation.scores["exact_copy_rate"].value == 0.2

    evaluation = evaluate(context, OrderMetric(), floor=bare["floor"])
    score = evaluation.scores["forced_copy_rate"]
    assert (score.value, score.floor, score.ceiling) == (0.0, None, 0.0)
    note = evaluation.notes["forced_copy_rate"]
    assert note.startswith("floor: metric order needs the contexts that")
    assert set(evaluation.values["forced_copy_rate"]) == {"generated", "ceiling"}


@pytest.mark.parametrize(
    ("floor", "ceiling", "expected"),
    [
        ((0.0, 0.0, 0.1), (1.0, 0.9, 1.0), 0.2),
        ((1.0, 0.9, 1.1), (0.0, -0.1, 0.1), 0.8),  # training images read lower
        ((0.0, -0.6, 0.6), (1.0, 0.4, 1.6), None),  # not told apart
        ((0.2, None, None), (0.2, None, None), None),
        ((0.0, None, None), (1.0, None, None), None),  # nobody knows the noise
        ((0.0, 0.0, 0.1), (1.0, None, None), 0.2),  # all training images read the same
        ((0.9, 0.8, 1.1), (1.0, None, None), None),
        ((None, None, None), (1.0, 0.9, 1.0), None),
    ],
)
def test_a_value_is_normalized_where_the_metric_tells_held_out_from_training(
    floor: tuple[float | None, ...], ceiling: tuple[float | None, ...], expected: float | None
) -> None:
    parts = {
        name: Measured(value=value, low=low, high=high)
        for name, (value, low, high) in {
            "generated": (0.2, 0.1, 0.3),
            "floor": floor,
            "ceiling": ceiling,
        }.items()
    }
    assert normalized(parts) == expected
