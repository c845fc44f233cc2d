"""Smoothed counts of places: the kernels compute their definition, and it is a distribution."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.errors import ConfigError, TokenError
from imagegram.generators.mixture.generator import InterpolatedGenerator
from imagegram.generators.smoothed.generator import SmoothedNgramGenerator
from imagegram.generators.smoothed_spatial.contexts import CLASSES, ERRORS, MOST
from imagegram.generators.smoothed_spatial.generator import SmoothedSpatialGenerator
from imagegram.generators.smoothed_spatial.index import smoothed_chances
from imagegram.generators.smoothed_spatial.levels import levels_of
from imagegram.generators.smoothed_spatial.model import SmoothedSpatialModel
from imagegram.generators.smoothed_spatial.reference import (
    chance_reference,
    distribution_reference,
    guess_reference,
    leaf_reference,
    rounded,
)
from imagegram.indexes.build.stage import Indexing
from imagegram.layout import TokenLayout
from imagegram.samplers.masked import MaskedSampler
from imagegram.samplers.sequential import SequentialSampler
from imagegram.stages.tokens import TokenSet
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

SIZES = ((2, 4), (3,), (1, 3, 6))
PLAIN = SequentialSampler(name="raster", temperature=1.0)


def documents(sizes: tuple[int, ...], count: int, *, seed: int = 0) -> np.ndarray:
    """Tokens of pictures: slopes with noise, and one with nothing but extremes."""
    rng = np.random.default_rng(seed)
    pictures = []
    for number in range(count):
        slopes = rng.normal(0, 20, (2, 3))
        rows, columns = np.indices((16, 16)) / 4
        picture = 128 + rows[..., None] * slopes[0] + columns[..., None] * slopes[1]
        noise = (
            rng.integers(0, 2, (16, 16, 3)) * 255 if number == 1 else rng.normal(0, 6, (16, 16, 3))
        )
        pictures.append(np.clip(picture + noise, 0, 255).astype(np.uint8))
    tokenizer = PyramidTokenizer(name="toy", sizes=sizes)
    return np.array(tokenizer.encode(pictures).documents)


def token_set(root: Path, sizes: tuple[int, ...], rows: np.ndarray) -> TokenSet:
    shard = FakeTokenShard(rows=tuple(map(tuple, rows.tolist())), length=rows.shape[1])
    made: Any = FakeTokens(parts=(shard,))
    tokens: TokenSet = context(root).make(made)
    tokenizer: Any = PyramidTokenizer(name="toy", sizes=sizes)
    return replace(tokens, tokenizer=tokenizer)


def fit(root: Path, sizes: tuple[int, ...], rows: np.ndarray, **knobs: Any) -> SmoothedSpatialModel:
    generator = SmoothedSpatialGenerator(
        **{"max_decisions": 4, "validation_fraction": 0.1, **knobs}
    )
    tokens = token_set(root, sizes, rows)
    return context(root).make(generator.fit(tokens, index=cast("Any", None)))


@pytest.fixture(scope="module", params=SIZES, ids=str)
def fitted(request: Any, tmp_path_factory: Any) -> Fitted:
    rows = documents(request.param, 60)
    return fit(tmp_path_factory.mktemp("counts"), request.param, rows), rows


Fitted = tuple[SmoothedSpatialModel, np.ndarray]


def sizes_of(model: SmoothedSpatialModel) -> tuple[int, ...]:
    return model.layout.heights


def score(model: SmoothedSpatialModel, rows: np.ndarray) -> np.ndarray:
    return model.score(rows, sampler=PLAIN, layout=model.layout, seed=0)["log_prob"]


def test_the_kernels_compute_the_definition(fitted: Fitted) -> None:
    """Brute force over every token: guess, leaf, chance, and the whole distribution."""
    model, _ = fitted
    layout, counts = model.layout, model.counts
    rows = documents(sizes_of(model), 3, seed=5)
    rows[2] = np.random.default_rng(1).integers(0, 256, rows.shape[1])  # no picture at all
    told = score(model, rows)
    steps = model.steps(np.arange(3, dtype=np.uint64), layout=layout)
    position, last = 0, None
    for n, level in enumerate(levels_of(rows, layout, model.tokenizer)):
        contexts = counts.contexts[n]
        errors = np.zeros_like(level.tokens)
        for place in np.ndindex(*level.tokens.shape[1:]):
            log_p = steps(last, position).numpy()
            for document in range(3):
                leaf = leaf_reference(level, document, place, contexts, errors[document])
                cls, guess, _ = guess_reference(level, document, place, contexts)
                expected = distribution_reference(
                    counts.chances[n][cls, leaf], guess, int(level.bases[(document, *place)])
                )
                np.testing.assert_allclose(np.exp(log_p[document]), expected, rtol=1e-9)
                assert expected.sum() == pytest.approx(1.0, abs=1e-12)
                token = int(rows[document, position])
                assert told[document, position] == np.float32(log_p[document, token])
                own = int(level.tokens[(document, *place)]) - rounded(guess)
                errors[(document, *place)] = own
            last = torch.from_numpy(rows[:, position].astype(np.int64))
            position += 1
    assert position == layout.num_tokens


def test_counts_are_those_of_every_training_token_and_chances_follow_the_formula(
    fitted: Fitted, tmp_path: Path
) -> None:
    rows = fitted[1]
    model = fit(tmp_path, sizes_of(fitted[0]), rows, validation_fraction=0.0)
    for n, level in enumerate(levels_of(rows, model.layout, model.tokenizer)):
        contexts = model.counts.contexts[n]
        counts = np.load(model.artifact.path / f"level{n}_counts.npy")
        strengths = np.load(model.artifact.path / f"level{n}_strengths.npy")
        assert (strengths == 64).all()
        expected = np.zeros_like(counts)
        for document in range(len(rows)):
            errors = np.zeros_like(level.tokens[0])
            for place in np.ndindex(*errors.shape):
                leaf = leaf_reference(level, document, place, contexts, errors)
                cls, guess, _ = guess_reference(level, document, place, contexts)
                errors[place] = level.tokens[(document, *place)] - rounded(guess)
                expected[cls, leaf, int(errors[place]) + MOST] += 1
        np.testing.assert_array_equal(counts, expected)
        assert counts.sum() == level.tokens.size
        for cls in range(CLASSES):
            depth = int(contexts.depths[cls])
            for leaf in range(1 << depth):
                np.testing.assert_allclose(
                    model.counts.chances[n][cls, leaf, ::50],
                    [
                        chance_reference(counts[cls, : 1 << depth], strengths[cls], leaf, depth, e)
                        for e in range(-MOST, MOST + 1, 50)
                    ],
                    rtol=1e-6,
                )


def test_what_is_learned_helps_on_other_pictures(fitted: Fitted) -> None:
    model, _ = fitted
    others = documents(sizes_of(model), 40, seed=9)[2:]
    bits = -score(model, others).mean() / np.log(2)
    assert bits < 6.0  # of 8; slopes with a noise of 6 levels: 4.6 at least
    facts = model.artifact.facts
    assert all(0 < facts[f"val/bits_level{n}"] < 9 for n in range(model.layout.num_levels))


def test_decisions_and_strengths_are_chosen(tmp_path: Path) -> None:
    """Many pictures: several decisions, and not all shorter contexts are worth the same."""
    rows = documents((4,), 400)
    model, plain = (
        fit(tmp_path, (4,), rows, max_decisions=depth, validation_fraction=0.05) for depth in (6, 0)
    )
    assert model.counts.contexts[0].depths.max() >= 4
    assert plain.counts.contexts[0].depths.max() == 0
    strengths = np.load(model.artifact.path / "level0_strengths.npy")[[0, 4, 8]]
    assert len(np.unique(strengths)) > 1
    bits = [facts["val/bits_level0"] for facts in (model.artifact.facts, plain.artifact.facts)]
    assert bits[0] <= bits[1] + 1e-9  # a strength large enough leaves the shorter context


@settings(max_examples=30, deadline=None)
@given(data=st.data(), depth=st.integers(0, 3))
def test_chances_sum_to_one(data: st.DataObject, depth: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    counts = rng.integers(0, 3, (1 << depth, ERRORS)) * rng.integers(0, 2, (1 << depth, 1))
    strengths = 2.0 ** rng.integers(0, 15, depth + 1)
    chances = smoothed_chances(counts, strengths)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    assert (chances > 0).all()
    with_less = smoothed_chances(counts, strengths, until=depth)
    assert with_less.shape == (max(1 << depth >> 1, 1), ERRORS)


def test_samples_are_pictures_with_the_frequencies_that_are_told(fitted: Fitted) -> None:
    model, _ = fitted
    how: Any = {"sampler": PLAIN, "layout": model.layout, "seed": 3}
    samples, trace = model.generate(np.arange(300, dtype=np.uint64), **how)
    some, part = model.generate(np.array([7, 250], dtype=np.uint64), **how)
    np.testing.assert_array_equal(some, samples[[7, 250]])
    np.testing.assert_array_equal(part["log_prob"], trace["log_prob"][[7, 250]])
    np.testing.assert_array_equal(trace["log_prob"], score(model, samples))
    told = np.exp(model.steps(np.zeros(1, np.uint64), layout=model.layout)(None, 0)[0].numpy())
    found = np.cumsum(np.bincount(samples[:, 0], minlength=256)) / 300
    np.testing.assert_allclose(found, np.cumsum(told), atol=0.12)


def test_one_document_and_other_ends(tmp_path: Path) -> None:
    rows = documents((1, 2), 1)
    model = fit(tmp_path / "one", (1, 2), rows, validation_fraction=0.0)
    assert np.isfinite(score(model, rows)).all()
    assert pickle.loads(pickle.dumps(model)).counts.chances[0].shape == (CLASSES, 1, ERRORS)
    with pytest.raises(ConfigError, match=r"type generator\.validation_fraction=0"):
        fit(tmp_path / "one", (1, 2), rows)
    with pytest.raises(ConfigError, match="at least one training document"):
        fit(tmp_path / "none", (1, 2), rows[:0], validation_fraction=0.0)
    with pytest.raises(TokenError, match="no images of this tokenizer"):
        score(model, rows[:, :5])


def test_what_does_not_fit_is_refused() -> None:
    generator = SmoothedSpatialGenerator()
    with pytest.raises(ConfigError, match=r"max_decisions=17 must be 0 \.\.\. 16"):
        SmoothedSpatialGenerator(max_decisions=17)
    with pytest.raises(ConfigError, match="type tokenizer=pyramid3, or for any tokens"):
        generator.check_tokenizer(cast("Any", SimpleNamespace(name="titok")))
    layout = PyramidTokenizer(sizes=(2,)).spec.layout
    with pytest.raises(ConfigError, match="sampler=raster"):
        generator.check(MaskedSampler(name="masked"), layout)


def test_a_mixture_with_runs_of_tokens_is_no_worse_than_either(tmp_path: Path) -> None:
    sizes = (2, 4)
    rows = documents(sizes, 120)
    rows[60:] = rows[:60]  # every picture twice: runs foretell what places do not
    tokens = token_set(tmp_path, sizes, rows)
    layout = TokenLayout.pyramid(sizes)
    index = context(tmp_path).make(Indexing(name="any").build(tokens))
    generator = InterpolatedGenerator(
        first=SmoothedNgramGenerator(max_context=3, matching="channel"),
        second=SmoothedSpatialGenerator(max_decisions=3),
        validation_fraction=0.1,
    )
    generator.check(PLAIN, layout)
    assert generator.second.validation_fraction == 0.1
    model = context(tmp_path).make(generator.fit(tokens, index=index))
    facts = model.artifact.facts
    alone = min(facts["val/bits_per_token_first"], facts["val/bits_per_token_second"])
    assert facts["val/bits_per_token"] <= alone + 1e-9
    told = model.score(rows[:4], sampler=PLAIN, layout=layout, seed=0)
    assert np.isfinite(told["log_prob"]).all()
