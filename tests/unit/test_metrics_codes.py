"""Scores of sentence codes, beside their definitions written out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from imagegram.metrics.codes import CodesMetric, all_codes, chance, retrieved
from imagegram.metrics.kernel import TextKernelMetric
from imagegram.records import EOS_TOKEN_ID, Measurement
from tests.coded_sets import (
    TRAINING,
    CodedReference,
    coded_set,
    coded_tokenizer,
    tiny_encoder,
)
from tests.documents import documents
from tests.text_sets import TextReference, text_set

FRESH = documents(30, seed=3, longest=4)


def measured(images: Any) -> Measurement:
    return CodesMetric().measure(generated=images, reference=CodedReference.of())


def value(measurement: Measurement, name: str) -> float:
    found = measurement.scalars[name].value
    assert found is not None
    return found


def test_real_texts_have_their_own_codes_and_errors_fall() -> None:
    for texts in (TRAINING[:20], FRESH):
        found = measured(coded_set(texts))
        assert value(found, "code_agreement") == value(found, "code_agreement_1") == 1
        errors = [value(found, f"code_error_{count}") for count in (1, 2, 3)]
        assert errors == sorted(errors, reverse=True)
        np.testing.assert_allclose(found.curves["code_error"], errors)
        assert value(found, "code_chance_1") < 0.6


def test_scores_are_those_of_their_definitions() -> None:
    images, tokenizer = coded_set(FRESH), coded_tokenizer()
    found = measured(images)
    sentences = [one for row in images.sentences for one in row]
    vectors = tokenizer.embed(sentences).astype(np.float64)
    codes, _ = all_codes(tokenizer, images.tokens)
    coded = np.array([sum(tokenizer.codebooks[k][c] for k, c in enumerate(row)) for row in codes])
    far = ((vectors - coded) ** 2).sum(axis=1)
    assert value(found, "code_error_3") == pytest.approx(far.mean(), rel=1e-5)
    cosine = (vectors * coded).sum(axis=1) / np.linalg.norm(coded, axis=1)
    assert value(found, "code_cosine") == pytest.approx(cosine.mean(), rel=1e-5)
    hits = [
        {sentences[j].strip() for j in np.flatnonzero(near >= near.max() - 1e-9)}
        >= {sentences[i].strip()}
        for i, near in enumerate(coded @ vectors.T)
    ]
    assert value(found, "code_retrieval") == pytest.approx(np.mean(hits))
    pairs = [
        codes[i, 0] == codes[j, 0] for i in range(len(codes)) for j in range(len(codes)) if i != j
    ]
    assert value(found, "code_chance_1") == pytest.approx(np.mean(pairs))
    shares = np.bincount(codes[:, 0]) / len(codes)
    shares = shares[shares > 0]
    assert found.curves["code_perplexity"][0] == pytest.approx(np.exp(-(shares @ np.log(shares))))
    assert found.curves["code_usage"][0] == len(shares) / 8


def test_codes_of_another_codebook_agree_by_chance() -> None:
    other = coded_tokenizer(seed=1)
    images = coded_set(FRESH, of=other)
    found = measured(images)
    own = measured(coded_set(FRESH))
    assert value(found, "code_agreement") < 0.5 < value(own, "code_agreement")
    assert value(found, "code_error_3") > 1.5 * value(own, "code_error_3")
    assert value(found, "code_cosine") < value(own, "code_cosine")


def test_codes_that_are_missing_do_not_count() -> None:
    images = coded_set(FRESH)
    tokens = images.tokens.copy()
    tokens[:, 2::3] = EOS_TOKEN_ID  # a row ends before the third code of its first sentence
    sentences = [row[:1] for row in images.sentences]
    cut = measured(dataclasses.replace(images, tokens=tokens, sentences=sentences))
    assert value(cut, "code_agreement") == 1
    assert value(cut, "code_error_3") == value(cut, "code_error_2")


def test_nothing_written_is_no_score() -> None:
    images = coded_set(TRAINING[:2])
    empty = np.full_like(images.tokens, EOS_TOKEN_ID)
    found = measured(dataclasses.replace(images, tokens=empty, sentences=[[], []]))
    assert all(one.value is None and one.note for one in found.scalars.values())
    assert found.scalars.keys() == measured(images).scalars.keys()


def test_chance_and_retrieval_of_a_few() -> None:
    assert chance(np.array([0]), np.array([0])) is None
    assert chance(np.array([-1, 1]), np.array([1, 1])) == 1
    vectors = np.eye(3, dtype=np.float32)
    coded = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1], [1, 0, 0]], dtype=np.float32)
    sentences = ["a", "b", "c", "a "]
    found = retrieved(sentences, vectors[[0, 1, 2, 0]], coded)
    assert found.tolist() == [True, False, True, True]


def test_texts_of_the_corpus_are_nearer_than_others() -> None:
    from imagegram.encoders.sentences import SentenceEmbedder

    embedder = SentenceEmbedder(folder=str(tiny_encoder()), max_tokens=24)
    metric = TextKernelMetric(embedder=embedder)
    reference = TextReference.of(documents(80, seed=4))
    same = metric.measure(generated=text_set(documents(40, seed=5)), reference=reference)
    other = metric.measure(
        generated=text_set(["zzz 123 qqq !!! " * 5] * 20 + ["xx 9 yy"] * 20), reference=reference
    )
    (name,) = same.scalars
    assert name == "kd_text_encoder"
    assert same.recipe["read"] == "24 tokens of a text"
    near, far = same.scalars[name], other.scalars[name]
    assert near.value is not None
    assert far.value is not None
    assert near.low is not None
    assert near.low < 0.01
    assert far.value > 10 * abs(near.value)
