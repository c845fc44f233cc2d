"""Sorting: the code keeps the order of tokens, and every route writes the table by definition."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.errors import StageError
from imagegram.indexes.build import sort as build
from imagegram.indexes.build.byte_code import IDS, ByteCode, most_bytes
from imagegram.indexes.build.sort import build_table, sort_bytes
from imagegram.indexes.format import pointer_width


def little_endian(token: int) -> bytes:
    return token.to_bytes(2, "little")


def word(code: ByteCode, token: int) -> bytes:
    second = int(code.second[token])
    return bytes([int(code.lead[token])] + ([second] if second >= 0 else []))


def table_by_definition(stream: list[int]) -> bytes:
    data = np.array(stream, "<u2").tobytes()
    width = pointer_width(len(stream))
    ranked = sorted(range(0, len(data), 2), key=lambda byte: data[byte:])
    return b"".join(byte.to_bytes(width, "little") for byte in ranked)


def built(stream: list[int], **options: bool) -> bytes:
    with TemporaryDirectory() as folder:
        tokens, table = Path(folder) / "tokenized.0", Path(folder) / "table.0"
        np.array(stream, "<u2").tofile(tokens)
        assert build_table(tokens, table, **options) == pointer_width(len(stream))
        return table.read_bytes()


#: Alphabets around every border of the code: 1, 256, 257, 258, 511, 512 and many distinct tokens.
ALPHABETS = [
    [7],
    [0, 65535],
    list(range(256)),
    [*range(256), 65535],
    [*range(257), 65535],
    list(range(0, 511 * 100, 100)),
    list(range(0, 512 * 100, 100)),
    list(range(0, 65536, 13)),
]


@st.composite
def streams(draw: st.DrawFn) -> list[int]:
    """Every token of an alphabet once, and a draw of some few of them many times over."""
    alphabet = draw(st.sampled_from(ALPHABETS))
    some = draw(st.lists(st.sampled_from(alphabet), min_size=1, max_size=4))
    repeated = draw(st.lists(st.sampled_from(some), max_size=200))
    once = draw(st.booleans())
    seed = draw(st.integers(0, 2**32 - 1))
    order = np.random.default_rng(seed).permutation(alphabet).tolist() if once else []
    return [*repeated, *order, *repeated]


@settings(max_examples=200)
@given(stream=streams(), force_wide=st.booleans())
def test_the_table_is_the_order_of_the_bytes(stream: list[int], force_wide: bool) -> None:
    assert built(stream, force_wide=force_wide) == table_by_definition(stream)


@settings(max_examples=200)
@given(
    alphabet=st.sampled_from(ALPHABETS),
    weights=st.lists(st.integers(1, 1000), min_size=1, max_size=50),
)
def test_the_code_keeps_the_order_and_its_bound(alphabet: list[int], weights: list[int]) -> None:
    counts = np.zeros(IDS, np.int64)
    counts[alphabet] = np.resize(weights, len(alphabet))
    code = ByteCode.of(counts)
    words = [word(code, token) for token in sorted(alphabet, key=little_endian)]
    assert words == sorted(set(words))  # in order, and no two alike
    leads = [each[:1] for each in words if len(each) == 1]
    assert not set(leads) & {each[:1] for each in words if len(each) == 2}  # no word begins another
    total = int(counts.sum())
    long = sum(int(counts[token]) for token in alphabet if len(word(code, token)) == 2)
    assert code.num_bytes(total) == total + long <= most_bytes(total, len(alphabet))


def test_the_rarest_neighbours_become_long() -> None:
    counts = np.full(257, 100)
    counts[[40, 41]] = 3
    code = ByteCode.of(counts)
    assert [token for token in range(257) if code.second[token] >= 0] == [40, 41]
    assert code.num_bytes(1000) == 1006


def test_blocks_join(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.random.default_rng(0).integers(0, 600, 3000)
    stream[:2000] %= 257
    monkeypatch.setattr(build, "_BLOCK", 7)
    for tokens in (stream[:2000].tolist(), stream.tolist()):
        assert built(tokens) == table_by_definition(tokens)


def test_64_bits_take_over_where_32_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.random.default_rng(0).integers(0, 256, 500).tolist()
    narrow = sort_bytes(500, 256)
    monkeypatch.setattr(build, "_WIDE", 400)
    assert sort_bytes(500, 256) == narrow + 4 * 500
    assert built(stream) == table_by_definition(stream)


def test_a_sort_that_does_not_fit_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pydivsufsort.divsufsort", refuse)
    np.arange(600, dtype="<u2").tofile(tmp_path / "tokenized.0")
    with pytest.raises(StageError, match=r"600 tokens.*6000 bytes.*index\.shard_tokens=300"):
        build_table(tmp_path / "tokenized.0", tmp_path / "table.0")
