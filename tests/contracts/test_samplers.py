"""What every shipped sampler of the n-gram must do, over every YAML of conf/sampler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate

from imagegram import schema
from imagegram.layout import TokenLayout
from imagegram.records import EOS_TOKEN_ID
from imagegram.samplers.ngram import NgramSampler
from imagegram.store.fingerprint import canonical_json, identity
from tests.conftest import compose
from tests.generation import first_samples, fit

NAMES = schema.choices("sampler", NgramSampler)
LAYOUT = TokenLayout.pyramid((2, 4))
T = LAYOUT.num_tokens


@pytest.fixture(params=NAMES)
def sampler(request: pytest.FixtureRequest) -> NgramSampler:
    built: NgramSampler = instantiate(compose(f"sampler={request.param}").sampler, _convert_="all")
    assert built.name == request.param
    return built


def images(count: int, *, vocabulary: int = 256) -> list[list[int]]:
    return np.random.default_rng(1).integers(0, vocabulary, (count, T)).tolist()


def generate(model, sampler: NgramSampler, count: int) -> np.ndarray:
    return model.generate(sampler=sampler, layout=LAYOUT, samples=first_samples(count), seed=0)[0]


def test_identity_is_json(sampler: NgramSampler) -> None:
    assert canonical_json(identity(sampler))


def test_context_lengths_fit_the_layout(sampler: NgramSampler) -> None:
    limits = sampler.max_context_per_position(LAYOUT)
    assert limits.shape == (T,)
    assert limits.min() >= 1


def test_one_image_is_reproduced(sampler: NgramSampler, tmp_path: Path) -> None:
    corpus = images(1)
    tokens_BT = generate(fit(tmp_path, [corpus]), sampler, 5)
    np.testing.assert_array_equal(tokens_BT, np.repeat(corpus, 5, axis=0))


def test_copies_of_two_images_give_these_two(sampler: NgramSampler, tmp_path: Path) -> None:
    first, second = images(2)
    corpus = [first, second] * 250
    tokens_BT = generate(fit(tmp_path, [corpus[:300], corpus[300:]]), sampler, 30)
    drawn = {tuple(row) for row in tokens_BT.tolist()}
    assert drawn <= {tuple(first), tuple(second)}
    assert len(drawn) == (1 if sampler.temperature == 0 else 2)


def test_the_separator_is_never_written(sampler: NgramSampler, tmp_path: Path) -> None:
    """Tokens of a document's end recur inside, so free contexts do run into separators."""
    corpus = images(40, vocabulary=2)
    assert (generate(fit(tmp_path, [corpus]), sampler, 20) != EOS_TOKEN_ID).all()
