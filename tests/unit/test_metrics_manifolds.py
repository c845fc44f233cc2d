"""Manifolds of features: precision, recall, density, coverage, and what subsets need of them."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.metrics import manifolds
from imagegram.metrics.manifolds import ManifoldPair, pairwise_distances, prdc


def by_definition(x: np.ndarray, y: np.ndarray, k: int) -> list[float]:
    """Precision, recall, density and coverage, pair by pair."""

    def radius(points: np.ndarray, i: int) -> float:
        return float(sorted(np.linalg.norm(points - points[i], axis=1))[k])

    x_radii = [radius(x, i) for i in range(len(x))]
    y_radii = [radius(y, i) for i in range(len(y))]
    between = [[float(np.linalg.norm(a - b)) for b in y] for a in x]
    in_y = [[d <= r for d, r in zip(row, y_radii, strict=True)] for row in between]
    in_x = [[d <= r for d in row] for row, r in zip(between, x_radii, strict=True)]
    return [
        float(np.mean([any(row) for row in in_y])),
        float(np.mean([any(row[j] for row in in_x) for j in range(len(y))])),
        float(np.mean([sum(row) for row in in_y])) / k,
        float(np.mean([min(row[j] for row in between) <= y_radii[j] for j in range(len(y))])),
    ]


# Whole numbers, many of them equal: no distance is rounded to the other side of a radius.
POINTS = st.lists(st.tuples(*[st.integers(-4, 4)] * 2), min_size=1, max_size=14)


@given(x=POINTS, y=POINTS, k=st.integers(1, 3), blocks=st.integers(1, 5), tile=st.integers(1, 6))
def test_all_and_every_rest_are_the_definitions(
    x: list[tuple[int, int]], y: list[tuple[int, int]], k: int, blocks: int, tile: int
) -> None:
    generated, reference = np.array(x, np.float32), np.array([*y, *[(0, 9)] * k], np.float32)
    done: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifolds, "_TILE", tile)
        pair = ManifoldPair.fit(
            generated=generated,
            reference=reference,
            nearest_k=k,
            blocks=blocks,
            workers=2,
            advance=done.append,
        )
    assert sum(done) == 2 * len(x)
    for without in (None, *range(blocks)):
        rest = generated[np.arange(len(x)) % blocks != (-1 if without is None else without)]
        found = list(pair.measure(without).values())
        if len(rest) <= k:
            assert np.isnan(found).all()
        else:
            assert found == pytest.approx(by_definition(rest, reference, k))


def test_prdc_agrees_with_the_package_of_its_authors() -> None:
    from prdc import compute_prdc

    rng = np.random.default_rng(0)
    generated, reference = rng.normal(size=(40, 3)) * 0.8 + 0.3, rng.normal(size=(60, 3))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = compute_prdc(reference, generated, 5)
    ours = prdc(generated=generated, reference=reference, nearest_k=5)
    assert ours == pytest.approx({name: float(value) for name, value in theirs.items()})


def test_mode_collapse_has_precision_and_no_recall() -> None:
    # Which set is which: collapsed samples all lie among real ones, real ones hardly among them.
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(200, 4))
    collapsed = reference[:1] + rng.normal(size=(100, 4)) * 1e-3
    scores = prdc(generated=collapsed, reference=reference)
    assert scores["precision"] == 1.0
    assert scores["recall"] < 0.05
    swapped = prdc(generated=reference, reference=collapsed)
    assert swapped["precision"] == scores["recall"]
    assert swapped["recall"] == scores["precision"]


def test_copies_of_a_corpus_of_duplicates_are_inside_it() -> None:
    reference = np.repeat(np.random.default_rng(0).normal(size=(2, 1280)) * 50, 20, axis=0)
    scores = prdc(generated=reference[[0] * 8 + [-1] * 8], reference=reference)
    assert scores["precision"] == scores["recall"] == scores["coverage"] == 1.0


def test_equal_rows_are_at_distance_zero() -> None:
    x = np.random.default_rng(0).normal(size=(20, 1280)).astype(np.float32) + 100
    distances = pairwise_distances(x, x)
    assert (np.diag(distances) == 0).all()
    direct = np.sqrt(((x[3].astype(float) - x[7]) ** 2).sum())
    assert distances[3, 7] == pytest.approx(direct, rel=1e-6)
