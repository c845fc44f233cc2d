"""Nearest training images: of features, and of hashes."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imagegram.images.decode import thumbnail
from imagegram.metrics import hashes, nearest
from imagegram.metrics.features import all_finite
from imagegram.metrics.hashes import DifferenceHash, nearest_hash
from imagegram.metrics.nearest import nearest_rows


@given(data=st.data(), k=st.integers(1, 6))
def test_nearest_rows_are_those_of_a_sort(data: st.DataObject, k: int) -> None:
    # Small whole numbers: many equal distances, and none is inexact.
    rows = data.draw(
        arrays(np.float32, st.tuples(st.integers(1, 9), st.just(2)), elements=st.integers(0, 3))
    )
    queries = data.draw(
        arrays(np.float32, st.tuples(st.integers(0, 5), st.just(2)), elements=st.integers(0, 3))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_ROWS", 2)
        patch.setattr(nearest, "_QUERIES", 3)
        found = nearest_rows(queries, rows, k=k, workers=2)
    for b, query in enumerate(queries):
        distances = [float(np.linalg.norm(query.astype(float) - row)) for row in rows]
        expected = sorted(distances)[:k]
        assert found.distances[b].tolist() == pytest.approx(expected, rel=1e-12)
        assert [distances[i] for i in found.ids[b]] == pytest.approx(expected, rel=1e-12)
        assert len(set(found.ids[b].tolist())) == len(expected)


def test_a_copy_is_at_exactly_zero_whatever_its_scale() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 300)).astype(np.float32) * 1000 + 5000
    found = nearest_rows(rows[[7, 30]], rows, k=2)
    assert found.distances[:, 0].tolist() == [0.0, 0.0]
    assert found.ids[:, 0].tolist() == [7, 30]
    assert (found.distances[:, 1] > 0).all()


def test_workers_and_progress_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    queries, rows = rng.normal(size=(40, 7)), rng.normal(size=(5000, 7))
    steps: list[int] = []
    one = nearest_rows(queries, rows, k=3, workers=1, advance=steps.append)
    two = nearest_rows(queries, rows, k=3, workers=3)
    np.testing.assert_array_equal(one.distances, two.distances)
    np.testing.assert_array_equal(one.ids, two.ids)
    assert sum(steps) == len(rows)


def test_memory_does_not_grow_with_the_training_images(tmp_path: Path) -> None:
    def peak(num_rows: int) -> int:
        """Bytes that are taken by a search among mapped features, and a look at all of them."""
        path = tmp_path / f"{num_rows}.npy"
        np.save(path, np.random.default_rng(0).normal(size=(num_rows, 64)).astype(np.float32))
        rows = np.load(path, mmap_mode="r")
        tracemalloc.start()
        assert all_finite(rows)
        nearest_rows(queries, rows, k=50)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    queries = np.zeros((10, 64), np.float32)
    peak(4096)  # what is imported on first use
    assert peak(16 * 4096) < 1.1 * peak(4096)


def test_one_number_that_is_not_finite_is_found_in_any_block() -> None:
    features = np.zeros((5000, 2), np.float32)
    assert all_finite(features)
    assert all_finite(features[:0])
    for row in (0, 2047, 2048, 4999):
        features[row, 1] = np.nan
        assert not all_finite(features)
        features[row, 1] = 0


# ------------------------------------------------------------------------------------ hashes


def hash_by_definition(image: np.ndarray) -> list[int]:
    """Eight rows of nine cells of the thumbnail, in fractions."""
    small = thumbnail(image)
    luma = [[int(299 * r + 587 * g + 114 * b) for r, g, b in row] for row in small.tolist()]

    def cell(row: int, column: int) -> Fraction:
        total = Fraction(0)
        for y in (2 * row, 2 * row + 1):
            for x in range(16):
                left = max(Fraction(x), Fraction(16 * column, 9))
                right = min(Fraction(x + 1), Fraction(16 * (column + 1), 9))
                total += luma[y][x] * max(right - left, Fraction(0))
        return total

    cells = [[cell(row, column) for column in range(9)] for row in range(8)]
    return [int(row[i + 1] > row[i]) for row in cells for i in range(8)]


@pytest.mark.parametrize("side", [2, 16, 33])
def test_a_hash_is_the_definition(side: int) -> None:
    images = np.random.default_rng(side).integers(256, size=(6, side, side, 3)).astype(np.uint8)
    images[0] = 77  # flat: no cell is brighter than another
    images[1] = images[1] // 128  # many equal cells
    expected = [hash_by_definition(image) for image in images]
    assert expected[0] == [0] * 64
    assert DifferenceHash().encode(images).tolist() == expected


def test_a_hash_outlives_what_hardly_shows() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(40, 210, size=(20, 4, 4, 1)).repeat(8, axis=1).repeat(8, axis=2)
    images = (coarse + np.zeros(3)).astype(np.uint8)
    brighter = (images * 1.1).astype(np.uint8)
    encode = DifferenceHash().encode
    changed = (encode(images) != encode(brighter)).sum(axis=1)
    others = (encode(images) != encode(images[::-1])).sum(axis=1)
    assert changed.max() <= 8
    assert others.min() > 8


@given(data=st.data())
def test_the_nearest_hash_is_that_of_all_blocks(data: st.DataObject) -> None:
    bits = arrays(np.float32, st.tuples(st.integers(1, 6), st.just(64)), elements=st.integers(0, 1))
    queries, blocks = data.draw(bits), data.draw(st.lists(bits, min_size=1, max_size=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashes, "_BLOCK", 2)
        found = nearest_hash(queries, blocks, workers=2)
    training = np.concatenate(blocks)
    assert found.tolist() == [(query != training).sum(axis=1).min() for query in queries]


def test_hashes_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(256, size=(7, 20, 20, 3)).astype(np.uint8)
    whole = DifferenceHash().encode(images)
    monkeypatch.setattr(hashes, "_AT_ONCE", 3)
    np.testing.assert_array_equal(DifferenceHash().encode(images), whole)
