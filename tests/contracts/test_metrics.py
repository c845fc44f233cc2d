"""What every metric of conf/ promises."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate

from imagegram import schema
from imagegram.generators.ngram.trace import empty_trace
from imagegram.layout import TokenLayout
from imagegram.protocols import Metric
from imagegram.records import Images, Measurement, ScoreInfo, Tokens
from imagegram.stages.needs import NEEDS
from tests.coded_sets import TRAINING, CodedReference, coded_set, tiny_encoder
from tests.conftest import compose
from tests.documents import documents
from tests.image_sets import TOKENIZER, MemoryImages, MemoryReference, MemoryTokens, random_tokens
from tests.judges import tiny_judge
from tests.text_sets import TextReference, text_set

NAMES = sorted(path.stem for path in schema.CONF.glob("metric/*.yaml"))
CORPUS = MemoryTokens(shards=[random_tokens(40, seed=0, vocabulary=40)])
REFERENCE = MemoryReference(CORPUS)
SAMPLES = MemoryImages.of(
    np.concatenate([CORPUS.all[:8], random_tokens(42, seed=1, vocabulary=40)])
)


#: Knobs that decide which scores are written.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "patches": [{}, {"tile_sizes": (2, 4)}, {"tile_sizes": (2, 4), "anywhere": True}]
}

STORIES = documents(24, seed=0, longest=3)
TEXT_REFERENCE = TextReference.of(STORIES)
TEXT_SAMPLES: MemoryImages = text_set([*STORIES[:4], *documents(10, seed=1, longest=3)])


def data_of(name: str) -> tuple[MemoryImages, Any]:
    """Return samples and a corpus as a metric needs them."""
    if "sentences" in metric_of(name).NEEDS:
        return coded_samples(), CodedReference.of()
    is_text = "text" in metric_of(name).NEEDS
    return (TEXT_SAMPLES, TEXT_REFERENCE) if is_text else (SAMPLES, REFERENCE)


@functools.cache
def coded_samples() -> Any:
    return coded_set([*TRAINING[:8], *documents(6, seed=2, longest=4)])


class LargeReference(MemoryReference):
    """Training images of 8 pixels, in which tiles have room."""

    def decode(self, tokens_BT: Tokens, **known: Any) -> Images:
        return TOKENIZER.decode(tokens_BT, output_size=8)


def metric_of(name: str) -> Metric:
    # max_n beyond the 15 tokens of the toy layout is part of the contract: null, not an error.
    node = compose(f"metric=[{name}]", "encoder=pixels", "encoder.resolution=2").metric[name]
    if "embedder" in node:
        node.embedder.folder = str(tiny_encoder())
    if name == "judge":  # its weights are a package of their own
        node.model = str(judge_folder())
    metric: Metric = instantiate(node, _convert_="all")
    return metric


@functools.cache
def judge_folder() -> Path:
    return tiny_judge(Path(tempfile.mkdtemp()))


def values(measurement: Measurement) -> dict[str, float]:
    """The scores that are defined."""
    scalars = measurement.scalars
    return {name: part.value for name, part in scalars.items() if part.value is not None}


def permuted(images: MemoryImages, order: np.ndarray) -> MemoryImages:
    trace = {name: values[order] for name, values in images.trace.items()}
    if images.texts is not None:
        texts = [images.texts[row] for row in order]
        own = images.sentences and [images.sentences[row] for row in order]
        changed = {"tokens": images.tokens[order], "trace": trace, "texts": texts}
        return dataclasses.replace(images, **changed, sentences=own)
    return MemoryImages(images.tokens[order], trace, images.images[order])


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_named_finite_and_inside_their_interval(name: str) -> None:
    samples, reference = data_of(name)
    measurement = metric_of(name).measure(generated=samples, reference=reference)
    assert measurement.scalars
    for score, measured in measurement.scalars.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", score)
        if measured.value is None:
            assert measured.note
            continue
        assert math.isfinite(measured.value)
        assert (measured.low is None) == (measured.high is None)
        if measured.low is not None and measured.high is not None:
            assert measured.low <= measured.value <= measured.high
    for curve in measurement.curves.values():
        assert not np.isinf(curve).any()


@pytest.mark.parametrize("name", NAMES)
def test_measuring_twice_gives_the_same_numbers(name: str) -> None:
    metric, (samples, reference) = metric_of(name), data_of(name)
    first = metric.measure(generated=samples, reference=reference)
    second = metric.measure(generated=samples, reference=reference)
    assert first.scalars == second.scalars
    assert first.curves.keys() == second.curves.keys()
    for key in first.curves:
        np.testing.assert_array_equal(first.curves[key], second.curves[key])


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    metric, (samples, reference) = metric_of(name), data_of(name)
    order = np.random.default_rng(0).permutation(samples.num_images)
    first = metric.measure(generated=samples, reference=reference)
    second = metric.measure(generated=permuted(samples, order), reference=reference)
    assert values(first) == pytest.approx(values(second), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_and_a_corpus_of_one_image_raise_nothing(name: str) -> None:
    images: MemoryImages = MemoryImages.of(CORPUS.all[:1])
    reference: Any = MemoryReference(MemoryTokens(shards=[CORPUS.all[:1]]))
    if "sentences" in metric_of(name).NEEDS:
        images, reference = coded_set(TRAINING[:1]), CodedReference.of()
    elif data_of(name)[0] is TEXT_SAMPLES:
        images, reference = text_set(STORIES[:1]), TextReference.of(STORIES[:1])
    measurement = metric_of(name).measure(generated=images, reference=reference)
    for measured in measurement.scalars.values():
        assert measured.value is not None or measured.note


@functools.cache
def scores_of(name: str) -> frozenset[str]:
    """All scores that a metric writes, of places of a picture and of an ordered sequence."""
    images = dataclasses.replace(SAMPLES, images=TOKENIZER.decode(SAMPLES.tokens, output_size=8))
    metric: Any = metric_of(name)
    sets: list[tuple[MemoryImages, Any]] = []
    if "text" not in metric.NEEDS:
        for layout in (REFERENCE.layout, TokenLayout.sequence(REFERENCE.layout.num_tokens)):
            sets.append((images, LargeReference(CORPUS, layout=layout)))
    if {"ids", "matches", "text", "trace.log_prob"} >= metric.NEEDS:
        row = TokenLayout.sequence(TEXT_SAMPLES.tokens.shape[1], order="raster")
        sets.append((TEXT_SAMPLES, dataclasses.replace(TEXT_REFERENCE, layout=row)))
    if "sentences" in metric.NEEDS:
        sets.append(data_of(name))
    found: set[str] = set()
    for measured, reference in sets:
        for knobs in VARIANTS.get(name, [{}]):
            measurement = dataclasses.replace(metric, **knobs).measure(
                generated=measured, reference=reference
            )
            found |= measurement.scalars.keys()
            if hasattr(metric, "across"):
                found |= metric.across({"generated": measurement}).keys()
    return frozenset(found)


@pytest.mark.parametrize("name", NAMES)
def test_every_score_is_described_once_and_every_description_is_of_a_score(name: str) -> None:
    infos = metric_of(name).SCORES
    used: set[str] = set()
    for score in scores_of(name):
        (info,) = (info for info in infos if info.named(score) is not None)
        used.add(info.name)
    assert used == {info.name for info in infos}


@pytest.mark.parametrize("name", NAMES)
def test_descriptions_can_be_shown(name: str) -> None:
    for score in scores_of(name):
        (info,) = (one for info in metric_of(name).SCORES if (one := info.named(score)))
        assert info.name == score
        assert info.words.endswith(".")
        assert "{" not in info.words
        assert info.group not in ("", ScoreInfo.group)
        assert info.better in ("lower", "higher", None)
        assert info.short_of in ("value", "floor", "gap")
        assert re.fullmatch(r"[a-z0-9_]*", info.short)


@pytest.mark.parametrize("name", NAMES)
def test_curves_of_images_have_one_number_an_image(name: str) -> None:
    metric, (samples, reference) = metric_of(name), data_of(name)
    curves = metric.measure(generated=samples, reference=reference).curves
    for curve in {curve for info in metric.SCORES for curve in info.per_image} & curves.keys():
        assert curves[curve].shape == (samples.num_images,)


@pytest.mark.parametrize("name", NAMES)
def test_needs_exist(name: str) -> None:
    arrays = {f"trace.{array}" for array in (*empty_trace(0, 0), "log_prob", "error_none")}
    assert metric_of(name).NEEDS
    assert {*NEEDS, *arrays} >= metric_of(name).NEEDS


def test_short_names_are_of_one_score() -> None:
    shorts = [info.short for name in NAMES for info in metric_of(name).SCORES if info.short]
    assert len(shorts) == len(set(shorts))
