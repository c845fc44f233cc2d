"""Smoothed n-grams that write, mixtures of two models, and the weight that they are mixed by."""

from __future__ import annotations

import dataclasses
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagegram.errors import ConfigError
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.generators.maskgit.generator import MaskGitGenerator
from imagegram.generators.mixture import generator as mixture
from imagegram.generators.mixture.generator import InterpolatedGenerator
from imagegram.generators.mixture.weights import learn_weights, mixed_log_probs
from imagegram.generators.smoothed.generator import SmoothedNgramGenerator
from imagegram.indexes import open_index
from imagegram.indexes.build.stage import Indexing
from imagegram.indexes.naive import NaiveIndex
from imagegram.indexes.smoothing import NextTokens, smoothed
from imagegram.layout import TokenLayout
from imagegram.records import EOS_TOKEN_ID, Counting, Tokens
from imagegram.samplers.masked import MaskedSampler
from imagegram.samplers.sequential import SequentialSampler
from imagegram.stages.validation import parts_of
from imagegram.training.optimization import Optimization
from tests.index_folders import stream_of, write_index
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

V, T = 4, 6
TOKEN = st.integers(0, V - 1)
RAGGED = st.lists(st.lists(TOKEN, max_size=9), min_size=1, max_size=6).filter(any)
EQUAL = st.lists(st.lists(TOKEN, min_size=T, max_size=T), min_size=1, max_size=5)
PLAIN = SequentialSampler(name="raster", temperature=1.0)
LAYOUT = TokenLayout.sequence(T)


def padded(rows: list[list[int]]) -> Tokens:
    tokens = np.full((len(rows), T), EOS_TOKEN_ID, dtype=np.uint16)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids[:T]
    return tokens


# ------------------------------------------------------------------------- whole distributions


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    ends=st.booleans(),
    continuations=st.booleans(),
    discount=st.sampled_from([None, 0.75]),
    max_context=st.integers(1, 4),
    num_classes=st.integers(1, 2),
)
def test_distributions_hold_the_probabilities_of_single_tokens(
    data: st.DataObject,
    ends: bool,
    continuations: bool,
    discount: float | None,
    max_context: int,
    num_classes: int,
) -> None:
    """Brute force: every next token asked for by itself, in two engines, over two shards."""
    shards = data.draw(st.lists(RAGGED if ends else EQUAL, min_size=1, max_size=2))
    row = data.draw(st.lists(TOKEN, max_size=T - 1))
    classes = np.zeros(1, np.int32) if ends else np.arange(T, dtype=np.int32) % num_classes
    how: dict[str, Any] = {
        "max_context": max_context,
        "discount": discount,
        "counting": Counting(class_of=classes, continuations=continuations, ends=ends),
        "vocab_size": V,
        "workers": 1,
    }
    context_ids = row if ends else [EOS_TOKEN_ID, *row]
    naive = NaiveIndex.of_streams([stream_of(documents) for documents in shards])
    nexts = [[*row, token] for token in range(V)] + ([row] if ends else [])
    rows = padded([(each + [0] * T)[:T] if not ends else each for each in nexts])
    wanted = smoothed(rows, naive, **how)[:, len(row)]
    found = NextTokens(index=naive, **how).after(context_ids, len(row))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    with tempfile.TemporaryDirectory() as root:
        folders = [
            write_index(Path(root) / f"{number}", documents)
            for number, documents in enumerate(shards)
        ]
        native = open_index(folders)
        there = NextTokens(index=native, **how)
        np.testing.assert_array_equal(there.after(context_ids, len(row)), found)
        again = pickle.loads(pickle.dumps(NextTokens(index=naive, **how)))
        np.testing.assert_array_equal(again.after(context_ids, len(row)), found)


# --------------------------------------------------------------------------------- the weights


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(5, 200))
def test_the_learned_weight_is_the_best_of_a_fine_grid(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = np.log(rng.beta(0.5, 2.0, size=(2, count)) + 1e-6)
    weights = learn_weights(log_probs)
    grid = np.linspace(0.0, 1.0, 2001)
    losses = [-mixed_log_probs(log_probs, np.array([w, 1 - w])).mean() for w in grid]
    assert weights.sum() == pytest.approx(1.0)
    assert -mixed_log_probs(log_probs, weights).mean() <= min(losses) + 1e-6
    assert weights[0] == pytest.approx(grid[int(np.argmin(losses))], abs=0.02)


def test_one_component_alone_is_itself() -> None:
    log_probs = np.log([[0.2, 0.3], [0.5, 0.1]])
    for weight in (0.0, 1.0):
        mixed = mixed_log_probs(log_probs, np.array([weight, 1 - weight]))
        np.testing.assert_allclose(mixed, log_probs[int(weight == 0.0)], rtol=1e-12)
    assert learn_weights(np.empty((2, 0))).tolist() == [0.5, 0.5]


# --------------------------------------------------------------------------- mixtures of models


def ragged(root: Path, count: int = 40) -> Any:
    rng = np.random.default_rng(3)
    rows = [[0] * int(rng.integers(1, 14)) for _ in range(count)]
    for row in rows:  # after 0 comes 1, after 1 comes 2 or 3
        for place in range(1, len(row)):
            row[place] = {0: 1, 1: int(rng.integers(2, 4))}.get(row[place - 1], 0)
    shard = FakeTokenShard(rows=tuple(map(tuple, rows)), length=None)
    tokens = context(root).make(FakeTokens(parts=(shard,)))
    facts = tokens.artifact.manifest.facts
    facts["vocab_size"] = V
    return dataclasses.replace(tokens, window=T)


def network(**changes: Any) -> AutoregressiveGenerator:
    how = Optimization(steps=30, batch_size=8, learning_rate=1e-2)
    return AutoregressiveGenerator(
        name="ar", width=16, depth=1, num_heads=2, optimization=how, **changes
    )


def mixed(**changes: Any) -> InterpolatedGenerator:
    fields = {
        "first": SmoothedNgramGenerator(max_context=2),
        "second": network(),
        "validation_fraction": 0.2,
        **changes,
    }
    return InterpolatedGenerator(**fields)


def fitted(root: Path, generator: Any) -> Any:
    tokens, ctx = ragged(root), context(root)
    index = ctx.make(Indexing(name="default").build(tokens))
    model = ctx.make(generator.fit(tokens, index=index))
    return model.prepared(PLAIN, ctx, LAYOUT)


HOW: dict[str, Any] = {"sampler": PLAIN, "layout": LAYOUT, "seed": 3}


@pytest.mark.parametrize("which", ["smoothed_ngram", "ar", "interpolated", "two_ngrams"])
def test_a_scored_model_sums_to_one_over_the_vocabulary(which: str, tmp_path: Path) -> None:
    """Brute force: every next id after some beginnings, and the end of the document."""
    generators = {
        "smoothed_ngram": SmoothedNgramGenerator(max_context=3),
        "ar": network(),
        "interpolated": mixed(),
        "two_ngrams": mixed(second=SmoothedNgramGenerator(smoothing="absolute", max_context=1)),
    }
    model = fitted(tmp_path, generators[which])
    for begun in ([], [0], [0, 1, 3], [3, 3, 3, 3, 3]):
        rows = padded([[*begun, token] for token in range(V)] + [begun])
        log_probs = model.score(rows, **HOW)["log_prob"][:, len(begun)].astype(np.float64)
        assert np.exp(log_probs).sum() == pytest.approx(1.0, abs=1e-6)
        steps = model.steps(np.arange(2, dtype=np.uint64), layout=LAYOUT)
        told = steps(None, 0)
        for number, token in enumerate(begun, start=1):
            told = steps(torch.tensor([token, token]), number)
        assert told.shape == (2, V + 1)
        np.testing.assert_allclose(told[1], log_probs, atol=2e-5)


def test_a_mixture_writes_and_scores(tmp_path: Path) -> None:
    model = fitted(tmp_path, mixed())
    whole, trace = model.generate(np.arange(64, dtype=np.uint64), **HOW)
    for rows in ([0], list(range(7)), [63, 5]):
        some, part = model.generate(np.array(rows, dtype=np.uint64), **HOW)
        np.testing.assert_array_equal(some, whole[rows])
        np.testing.assert_array_equal(part["log_prob"], trace["log_prob"][rows])
    np.testing.assert_array_equal(model.score(whole, **HOW)["log_prob"], trace["log_prob"])
    assert (whole == EOS_TOKEN_ID).any()
    first, second = (each.score(whole, **HOW)["log_prob"].astype(float) for each in model.models)
    expected = np.log(model.weights[0] * np.exp(first) + model.weights[1] * np.exp(second))
    np.testing.assert_allclose(trace["log_prob"], expected, atol=1e-6)
    # Frequencies of the first token are its probabilities.
    many, _ = model.generate(np.arange(2000, dtype=np.uint64), **HOW)
    p = np.exp(model.steps(np.zeros(1, np.uint64), layout=LAYOUT)(None, 0)[0].numpy())
    counts = np.bincount(np.where(many[:, 0] == EOS_TOKEN_ID, V, many[:, 0]), minlength=V + 1)
    np.testing.assert_allclose(counts / 2000, p, atol=4 * np.sqrt(0.25 / 2000))


def test_the_weight_is_learned_on_documents_that_no_component_has_seen(tmp_path: Path) -> None:
    generator = mixed()
    model = fitted(tmp_path, generator)
    tokens, ctx = ragged(tmp_path), context(tmp_path)
    fit, validation = map(ctx.make, parts_of(tokens, 0.2))
    counted = ctx.make(Indexing(name="any").build(fit))
    ngram = ctx.make(generator.first.fit(fit, index=counted))
    own = ctx.make(
        dataclasses.replace(network(), validation_fraction=0.2).fit(tokens, index=counted)
    )
    assert own.identity() == model.models[1].identity()  # trained once, for both
    assert model.models[0].index.identity() != counted.identity()  # at last it counts everything
    rows = validation.windows()
    tokens_BT = rows.gather(np.arange(rows.num_documents))
    log_probs = []
    for each in (ngram, own):
        found = each.score(tokens_BT, **HOW)["log_prob"].astype(np.float64)
        steps = [min((row != EOS_TOKEN_ID).sum() + 1, T) for row in tokens_BT]
        log_probs.append(np.concatenate([row[:n] for row, n in zip(found, steps, strict=True)]))
    np.testing.assert_allclose(model.weights, learn_weights(np.array(log_probs)), atol=1e-9)
    facts = model.artifact.facts
    alone = min(facts["val/bits_per_token_first"], facts["val/bits_per_token_second"])
    assert facts["val/bits_per_token"] <= alone + 1e-9


def test_a_given_weight_is_taken(tmp_path: Path) -> None:
    model = fitted(tmp_path, mixed(weight=0.25, validation_fraction=0.0))
    assert model.weights.tolist() == [0.25, 0.75]
    assert mixture.WEIGHTS in model.artifact.manifest.files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_fraction": 0.0}, r"validation_fraction=0 leaves no documents.*weight=0\.5"),
        ({"weight": 1.5}, r"generator\.weight=1\.5 must be a share"),
        ({"validation_fraction": 0.7}, r"validation_fraction=0\.7"),
    ],
)
def test_impossible_mixtures_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mixed(**changes)


def test_components_that_cannot_be_mixed_are_refused() -> None:
    masked = MaskGitGenerator(
        name="maskgit", optimization=Optimization(steps=2, batch_size=2, learning_rate=1e-3)
    )
    with pytest.raises(ConfigError, match=r"generator\.second cannot be part of a mixture"):
        mixed(second=masked).check(PLAIN, LAYOUT)
    with pytest.raises(ConfigError, match=r"sampler=raster"):
        mixed().check(MaskedSampler(name="masked"), LAYOUT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_context": 0}, r"generator\.max_context=0"),
        ({"discount": 1.5}, r"generator\.discount=1\.5.*null"),
        ({"smoothing": "good_turing"}, r"generator\.smoothing='good_turing'"),
        ({"matching": "position"}, r"generator\.matching='position'"),
    ],
)
def test_impossible_smoothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SmoothedNgramGenerator(**changes)
