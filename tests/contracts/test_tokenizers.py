"""The Tokenizer contract, over every YAML of conf/tokenizer."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from PIL import Image

from imagegram import schema
from imagegram.errors import TokenError
from imagegram.protocols import Tokenizer
from imagegram.records import EOS_TOKEN_ID
from imagegram.store.fingerprint import canonical_json, identity
from imagegram.store.stage import Ready
from tests.conftest import compose
from tests.pictures import context, ids_of, noise

NAMES = sorted(path.stem for path in schema.CONF.glob("tokenizer/*.yaml"))
ODD = noise(3, size=50)[:37, :11]
IMAGES = [
    noise(0, size=50),
    ODD,
    ODD[:1, :1],
    np.zeros((9, 200, 3), np.uint8),
    np.full((3, 3, 3), 255, np.uint8),
]


#: Learned in seconds, a few steps here; the weights of the others are fetched, or take a GPU.
TRAINED = ("conv_vq_tiny", "ordered_fsq_tiny", "titok_tiny", "titok_two_stage_tiny")


def build(name: str, *words: str) -> Tokenizer:
    cfg = compose(f"tokenizer={name}", *words)
    built: Tokenizer = instantiate(cfg.tokenizer, _convert_="all")
    return built


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every tokenizer that can have its weights here."""
    outputs = tmp_path_factory.mktemp("weights")
    cfg = compose(f"tokenizer={request.param}", "debug=tiny", f"paths.outputs={outputs}")
    corpus = instantiate(cfg.corpus, _convert_="all")
    recipe = build(request.param, "trainer.max_steps=4")
    if request.param == "hf_tokenizer":
        pytest.skip("it is somebody's file; it has tests of its own")
    fit = recipe.fit(corpus)
    if not isinstance(fit, Ready) and request.param not in TRAINED:
        pytest.skip("its weights are neither here nor quickly trained; it has tests of its own")
    return context(outputs).make(fit)


def test_ids_have_the_declared_shape_and_range(tokenizer: Tokenizer) -> None:
    assert tokenizer.spec.vocab_size <= EOS_TOKEN_ID
    for image in IMAGES:
        encoded = tokenizer.encode([tokenizer.prepare(image)])
        (tokens,) = encoded.documents
        assert tokens.shape == (tokenizer.spec.length,)
        assert tokens.dtype == np.uint16
        assert int(tokens.max()) < tokenizer.spec.vocab_size  # so never the separator
        assert all(count >= 0 for count in encoded.counts.values())


def test_encoding_depends_on_the_image_alone(tokenizer: Tokenizer) -> None:
    first = [ids_of(tokenizer, image) for image in IMAGES]
    second = [ids_of(tokenizer, image.copy()) for image in reversed(IMAGES)]
    for one, other in zip(first, reversed(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_decoding_is_independent_of_the_batch(tokenizer: Tokenizer) -> None:
    tokens = np.stack([ids_of(tokenizer, image) for image in IMAGES])
    together = tokenizer.decode(tokens)
    assert together.dtype == np.uint8
    assert together.shape[0] == len(IMAGES)
    assert together.shape[3] == 3
    assert together.shape[1] == tokenizer.image_size
    for row, image in enumerate(together):
        np.testing.assert_array_equal(tokenizer.decode(tokens[row : row + 1])[0], image)
    assert tokenizer.decode(tokens[:0]).shape == (0, *together.shape[1:])
    assert tokenizer.decode(tokens[:1], output_size=24).shape == (1, 24, 24, 3)


def test_batches_and_single_images_get_the_same_ids(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode([tokenizer.prepare(image) for image in IMAGES])
    for row, image in zip(encoded.documents, IMAGES, strict=True):
        np.testing.assert_array_equal(row, ids_of(tokenizer, image))
    alone = [tokenizer.encode([tokenizer.prepare(image)]).counts for image in IMAGES]
    for name, count in encoded.counts.items():
        assert count == sum(counts[name] for counts in alone)


def test_a_shorter_one_writes_the_first_tokens_of_its_encoder(tokenizer: Tokenizer) -> None:
    assert tokenizer.encoder.encoder == tokenizer.encoder
    if not tokenizer.spec.layout.is_ranked:
        pytest.skip("it has one length")
    short = replace(tokenizer, num_tokens=3)  # type: ignore[type-var]
    assert short.spec.length == 3
    assert identity(short.encoder) == identity(tokenizer.encoder)
    for image in IMAGES:
        whole = ids_of(tokenizer.encoder, image)
        np.testing.assert_array_equal(ids_of(short, image), whole[:3])
        np.testing.assert_array_equal(
            short.decode(whole[None, :3]), tokenizer.encoder.decode(whole[None, :3])
        )


def test_ids_outside_the_vocabulary_are_never_wrapped(tokenizer: Tokenizer) -> None:
    tokens = ids_of(tokenizer, IMAGES[0])[None].copy()
    for wrong in (tokenizer.spec.vocab_size, EOS_TOKEN_ID):
        tokens[0, 1] = wrong
        with pytest.raises(TokenError, match=f"id {wrong} of image 0"):
            tokenizer.decode(tokens)


def test_decode_of_encode_is_exact_where_nothing_clips(tokenizer: Tokenizer) -> None:
    for image in IMAGES:
        encoded = tokenizer.encode([tokenizer.prepare(image)])
        if "clipped" not in encoded.counts:
            pytest.skip("it does not keep everything, and says nothing else")
        tokens, num_clipped = encoded.documents[0], encoded.counts["clipped"]
        (decoded,) = tokenizer.decode(tokens[None])
        side = decoded.shape[0]
        target = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        assert np.count_nonzero(decoded != np.asarray(target)) <= num_clipped


@pytest.mark.parametrize("name", NAMES)
def test_it_travels_and_has_an_identity(name: str) -> None:
    tokenizer = build(name)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert canonical_json(identity(again)) == canonical_json(identity(tokenizer))
    assert hash(tokenizer) == hash(again)
