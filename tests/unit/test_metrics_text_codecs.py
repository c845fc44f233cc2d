"""Compressed files of texts: nothing is lost, bytes are counted right, copies cost little."""

from __future__ import annotations

import bz2
import lzma
import zlib

import numpy as np
import pytest

from imagegram.errors import ConfigError
from imagegram.metrics.text_codecs import COMPRESSORS, TextCodecMetric, in_content_order
from tests.documents import documents
from tests.text_sets import TextReference, text_set

DECOMPRESS = {"zlib": zlib.decompress, "bz2": bz2.decompress, "xz": lzma.decompress}
TRAINING = documents(60, seed=0)
REFERENCE = TextReference.of(TRAINING)


def scores(texts: list[str], **knobs: int) -> dict[str, float | None]:
    measured = TextCodecMetric(**knobs).measure(generated=text_set(texts), reference=REFERENCE)
    return {name: score.value for name, score in measured.scalars.items()}


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256)) * 9, "añb".encode() * 5000])
def test_what_was_compressed_comes_back(name: str, data: bytes) -> None:
    assert DECOMPRESS[name](COMPRESSORS[name](data)) == data


def test_scores_are_the_bytes_of_one_file() -> None:
    texts = ["añb", "b", "añb again"]
    data = in_content_order([text.encode() for text in texts])
    assert sorted(data.split(b"\0")) == sorted(text.encode() for text in texts)
    num_bytes = 4 + 1 + 10
    training = in_content_order([text.encode() for text in TRAINING])
    grown = len(COMPRESSORS["xz"](training + b"\0" + data)) - len(COMPRESSORS["xz"](training))
    assert scores(texts) == {
        **{
            f"{name}_bits_per_byte": 8 * len(compress(data)) / num_bytes
            for name, compress in COMPRESSORS.items()
        },
        "xz_training_bits_per_byte": 8 * grown / num_bytes,
    }


def test_texts_that_stand_in_the_corpus_cost_little_after_it() -> None:
    copies, new = scores(TRAINING[:20]), scores(documents(20, seed=9))
    noise = scores(
        ["".join(map(chr, row)) for row in np.random.default_rng(0).integers(32, 127, (20, 300))]
    )
    values = [each["xz_training_bits_per_byte"] or 0.0 for each in (copies, new, noise)]
    assert values[0] < 0.2 * values[1] < values[1] < 0.5 * values[2]
    assert values[2] > 6
    assert values[1] < (new["xz_bits_per_byte"] or 0.0)


def test_the_compressor_looks_back_over_the_whole_file() -> None:
    small, large = (COMPRESSORS["xz"](bytes(size)) for size in (1 << 20, 9 << 20))
    assert lzma.decompress(small, memlimit=4 << 20) == bytes(1 << 20)
    with pytest.raises(lzma.LZMAError):  # whoever reads it needs the window: 16 MB
        lzma.decompress(large, memlimit=9 << 20)


def test_nothing_written_and_no_training_text_have_no_value() -> None:
    assert set(scores([""]).values()) == {None}
    few = scores(["one text"], max_training_bytes=0)
    assert few["xz_training_bits_per_byte"] is None
    assert few["xz_bits_per_byte"] is not None


@pytest.mark.parametrize("size", [-1, 1 << 26])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="max_training_bytes"):
        TextCodecMetric(max_training_bytes=size)
