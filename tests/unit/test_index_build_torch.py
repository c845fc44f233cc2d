"""Sorting suffixes by torch: the table of libdivsufsort, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imagegram.errors import CapacityError, ConfigError
from imagegram.indexes.build import sort_torch as build_torch
from imagegram.indexes.build.sort import build_table
from imagegram.indexes.build.sort_torch import sort_suffixes, write_sorted
from imagegram.indexes.build.stage import Indexing
from imagegram.indexes.format import pointer_width
from imagegram.store.fingerprint import identity


@settings(max_examples=200)
@given(stream=st.lists(st.sampled_from([0, 1, 255, 256, 65534, 65535]), min_size=1, max_size=60))
@example(stream=[65535])
@example(stream=[7] * 100)
@example(stream=[65535, 3, 256] * 40)
def test_suffixes_are_in_the_order_of_their_bytes(stream: list[int]) -> None:
    data = np.array(stream, "<u2").tobytes()
    tokens = torch.from_numpy(np.array(stream, np.uint16).view(np.int16))
    expected = sorted(range(len(stream)), key=lambda i: data[2 * i :])
    assert sort_suffixes(tokens).tolist() == expected


def test_both_builders_write_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).integers(0, 3, (60, 20), dtype=np.uint16)
    rows[30:] = rows[:30]
    stream = np.append(np.pad(rows, ((0, 0), (1, 0)), constant_values=65535).ravel(), 65535)
    stream.astype("<u2").tofile(tmp_path / "tokenized.0")
    build_table(tmp_path / "tokenized.0", tmp_path / "expected")
    monkeypatch.setattr(build_torch, "_BLOCK", 100)
    with (tmp_path / "table.0").open("wb") as table:
        width = pointer_width(stream.size)
        count = write_sorted(tmp_path / "tokenized.0", table, width, device="cpu")
    assert count == stream.size
    assert (tmp_path / "table.0").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_device_that_is_not_there_or_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, table = tmp_path / "tokenized.0", tmp_path / "table.0"
    np.arange(100, dtype="<u2").tofile(tokens)
    with pytest.raises(ConfigError, match=r"index\.build_device=cuda:77: .* finds cpu"):
        build_table(tokens, table, device="cuda:77")
    monkeypatch.setattr(build_torch, "free_bytes", lambda device: 720)
    with table.open("wb") as file, pytest.raises(CapacityError, match="shard_tokens=10, or type"):
        write_sorted(tokens, file, 1, device="cpu")


def test_the_device_is_no_part_of_the_identity_and_is_checked_early() -> None:
    on_gpu = Indexing(name="default", build_device="cuda:1")
    assert identity(on_gpu) == identity(Indexing(name="default"))
    with pytest.raises(ConfigError, match="allowed: cpu, cuda, cuda:NUMBER"):
        Indexing(name="default", build_device="gpu")
