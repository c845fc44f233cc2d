"""The Tokenizer contract, over every YAML of conf/tokenizer."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hydra.utils import instantiate
from PIL import Image

from imagegram import schema
from imagegram.protocols import Tokenizer
from imagegram.records import EOS_TOKEN_ID
from imagegram.store.fingerprint import canonical_json, identity
from tests.conftest import compose
from tests.pictures import noise

NAMES = sorted(path.stem for path in schema.CONF.glob("tokenizer/*.yaml"))
ODD = noise(3, size=50)[:37, :11]
IMAGES = [
    noise(0, size=50),
    ODD,
    ODD[:1, :1],
    np.zeros((9, 200, 3), np.uint8),
    np.full((3, 3, 3), 255, np.uint8),
]


@pytest.fixture(params=NAMES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    built: Tokenizer = instantiate(compose(f"tokenizer={request.param}").tokenizer, _convert_="all")
    return built


def test_ids_have_the_declared_shape_and_range(tokenizer: Tokenizer) -> None:
    assert tokenizer.layout.num_tokens == tokenizer.num_tokens
    assert tokenizer.vocab_size <= EOS_TOKEN_ID
    for image in IMAGES:
        tokens, num_clipped = tokenizer.encode(image)
        assert tokens.shape == (tokenizer.num_tokens,)
        assert tokens.dtype == np.uint16
        assert int(tokens.max()) < tokenizer.vocab_size  # so never the separator
        assert num_clipped >= 0


def test_encoding_depends_on_the_image_alone(tokenizer: Tokenizer) -> None:
    first = [tokenizer.encode(image)[0] for image in IMAGES]
    second = [tokenizer.encode(image.copy())[0] for image in reversed(IMAGES)]
    for one, other in zip(first, reversed(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_decoding_is_independent_of_the_batch(tokenizer: Tokenizer) -> None:
    tokens = np.stack([tokenizer.encode(image)[0] for image in IMAGES])
    together = tokenizer.decode(tokens)
    assert together.dtype == np.uint8
    assert together.shape[0] == len(IMAGES)
    assert together.shape[3] == 3
    for row, image in enumerate(together):
        np.testing.assert_array_equal(tokenizer.decode(tokens[row : row + 1])[0], image)
    assert tokenizer.decode(tokens[:0]).shape == (0, *together.shape[1:])
    assert tokenizer.decode(tokens[:1], output_size=24).shape == (1, 24, 24, 3)


def test_decode_of_encode_is_exact_where_nothing_clips(tokenizer: Tokenizer) -> None:
    for image in IMAGES:
        tokens, num_clipped = tokenizer.encode(image)
        (decoded,) = tokenizer.decode(tokens[None])
        side = decoded.shape[0]
        target = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        assert np.count_nonzero(decoded != np.asarray(target)) <= num_clipped


def test_it_travels_and_has_an_identity(tokenizer: Tokenizer) -> None:
    again = pickle.loads(pickle.dumps(tokenizer))
    assert canonical_json(identity(again)) == canonical_json(identity(tokenizer))
    assert hash(tokenizer) == hash(again)
