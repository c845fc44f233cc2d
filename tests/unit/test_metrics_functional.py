from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from imagegram.metrics import functional
from imagegram.metrics.functional import (
    FrechetPair,
    frechet_distance,
    kernel_distance,
    length_edges,
    length_histogram,
    novelty_curve,
)
from tests.index_folders import BruteForce, stream_of


def exact_gaussian(mean: np.ndarray, covariance: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n points whose *sample* mean and covariance are the given ones, up to rounding."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(mean)))
    x -= x.mean(axis=0)
    whitened = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return whitened @ np.linalg.cholesky(covariance).T + mean


def random_covariance(d: int, seed: int) -> np.ndarray:
    a = np.random.default_rng(seed).normal(size=(d, d))
    return a @ a.T + np.eye(d)


# ------------------------------------------------------------------------------------ Frechet


def test_frechet_distance_of_commuting_gaussians_is_the_closed_form() -> None:
    # Diagonal covariances commute: FD = |m1 - m2|^2 + sum (sqrt s1 - sqrt s2)^2. The samples have
    # these moments exactly, so only float64 rounding is left: about 1e-13 a term.
    s1, s2 = np.array([4.0, 1.0, 0.25]), np.array([1.0, 9.0, 0.25])
    m1, m2 = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 5.0])
    distance = frechet_distance(
        generated=exact_gaussian(m1, np.diag(s1), 50, 0),
        reference=exact_gaussian(m2, np.diag(s2), 80, 1),
    )
    expected = ((m1 - m2) ** 2).sum() + ((np.sqrt(s1) - np.sqrt(s2)) ** 2).sum()
    assert distance == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n", "r"), [(60, 90), (8, 90), (60, 8), (8, 9)])
def test_frechet_distance_is_the_matrix_square_root_form_at_any_rank(n: int, r: int) -> None:
    # D = 12: the last three cases have fewer images than features. sqrtm of a singular product is
    # good to about sqrt(machine epsilon) * |S| ~ 1e-6, hence the tolerance.
    d = 12
    x = exact_gaussian(np.ones(d), random_covariance(d, 2), 60, 0)[:n]
    y = exact_gaussian(np.zeros(d), random_covariance(d, 3), 90, 1)[:r]
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(axis=0) - y.mean(axis=0)
    expected = shift @ shift + np.trace(s1 + s2) - 2 * np.trace(sqrtm(s1 @ s2)).real
    assert frechet_distance(generated=x, reference=y) == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_is_zero_for_itself_symmetric_and_blind_to_order() -> None:
    x = exact_gaussian(np.zeros(6), random_covariance(6, 0), 40, 0)
    y = exact_gaussian(np.ones(6), random_covariance(6, 1), 30, 1)
    scale = np.trace(np.cov(x, rowvar=False))
    # The square roots of eigenvalues that are 0 up to 1e-16 * scale^2 are up to 1e-8 * scale.
    assert abs(frechet_distance(generated=x, reference=x)) < 1e-7 * scale
    forward = frechet_distance(generated=x, reference=y)
    assert forward == pytest.approx(frechet_distance(generated=y, reference=x), rel=1e-9)
    assert forward == pytest.approx(frechet_distance(generated=x[::-1], reference=y), rel=1e-9)


def test_frechet_and_kernel_distance_grow_with_a_shift() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 5)), rng.normal(size=(300, 5))
    shifts = [0.0, 0.5, 1.0, 2.0, 4.0]
    for distance in (
        lambda g: frechet_distance(generated=g, reference=y),
        lambda g: kernel_distance(generated=g, reference=y).value,
    ):
        values = [distance(x + shift) for shift in shifts]
        assert values == sorted(values)
        assert values[-1] > values[1] > values[0]


# More images than features, fewer, and a subset that has fewer where the whole set has more.
@pytest.mark.parametrize(("n", "blocks"), [(40, 4), (6, 3), (9, 3)])
def test_a_pair_without_a_block_is_the_distance_of_the_rest(n: int, blocks: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 7)) + 100, rng.normal(size=(50, 7)) + 101
    pair = FrechetPair.fit(generated=x, reference=y, blocks=blocks, workers=2)
    assert pair.distance() == pytest.approx(frechet_distance(generated=x, reference=y), rel=1e-9)
    for block in range(blocks):
        rest = x[np.arange(n) % blocks != block]
        expected = frechet_distance(generated=rest, reference=y)
        # Centred, n <= 7 rows leave an eigenvalue of 0 up to 1e-16, whose root is up to 1e-8.
        assert pair.distance(block) == pytest.approx(expected, rel=1e-8)


# ------------------------------------------------------------------------------------- kernel


def mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, pair by pair."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    def within(z: np.ndarray) -> float:
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if i != j]
        return float(np.mean([k(z[i], z[j]) for i, j in pairs]))

    return within(x) + within(y) - 2 * float(np.mean([k(a, b) for a in x for b in y]))


def test_kernel_distance_and_its_error_are_the_definitions() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 4)), rng.normal(size=(12, 4)) + 0.5
    result = kernel_distance(generated=x, reference=y)
    assert result.value == pytest.approx(mmd2(x, y), rel=1e-10)
    without = np.array([mmd2(np.delete(x, i, axis=0), y) for i in range(len(x))])
    variance = (len(x) - 1) / len(x) * ((without - without.mean()) ** 2).sum()
    assert result.standard_error == pytest.approx(np.sqrt(variance), rel=1e-8)


def test_windows_of_a_document_are_left_out_together() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 4)), rng.normal(size=(12, 4)) + 0.5
    documents = np.array([4, 7, 4, 2, 7, 4, 9, 2, 11])
    result = kernel_distance(generated=x, reference=y, documents=documents)
    assert result.value == kernel_distance(generated=x, reference=y).value
    without = np.array([mmd2(x[documents != one], y) for one in (2, 4, 7, 9, 11)])
    variance = 4 / 5 * ((without - without.mean()) ** 2).sum()
    assert result.standard_error == pytest.approx(np.sqrt(variance), rel=1e-8)
    assert result.num_left_out == 5
    alone = kernel_distance(generated=x, reference=y, documents=np.zeros(9, int))
    assert np.isnan(alone.standard_error)


def test_tiles_and_workers_change_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(33, 6)), rng.normal(size=(29, 6)) + 0.5
    whole = kernel_distance(generated=x, reference=y)
    distance = frechet_distance(generated=x, reference=y)
    monkeypatch.setattr(functional, "_ROWS", 4)
    one = kernel_distance(generated=x, reference=y, workers=1)
    assert one == kernel_distance(generated=x, reference=y, workers=5)
    assert one.value == pytest.approx(whole.value, rel=1e-10)
    assert one.standard_error == pytest.approx(whole.standard_error, rel=1e-10)
    assert frechet_distance(generated=x, reference=y) == pytest.approx(distance, rel=1e-10)


def test_kernel_distance_agrees_with_torchmetrics() -> None:
    import torch
    from torchmetrics.image.kid import poly_mmd

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 6))
    theirs = poly_mmd(torch.from_numpy(x), torch.from_numpy(y), degree=3, gamma=None, coef=1.0)
    assert kernel_distance(generated=x, reference=y).value == pytest.approx(float(theirs), rel=1e-9)


def test_kernel_distance_is_unbiased_and_its_error_is_the_spread() -> None:
    # 200 draws of equal distributions: the mean of unbiased estimates lies within 4 standard
    # errors of 0 (a false alarm in 16,000 seeds; the seed is fixed).
    rng = np.random.default_rng(0)
    values = [
        kernel_distance(generated=rng.normal(size=(20, 4)), reference=rng.normal(size=(25, 4)))
        for _ in range(200)
    ]
    estimates = np.array([v.value for v in values])
    assert abs(estimates.mean()) < 4 * estimates.std() / np.sqrt(len(estimates))


# ---------------------------------------------------------------------------------- sequences


@given(data=st.data())
def test_novelty_is_the_share_of_unseen_ngrams(data: st.DataObject) -> None:
    token = st.integers(0, 2)
    document = st.lists(token, min_size=6, max_size=6)
    brute = BruteForce([stream_of(data.draw(st.lists(document, min_size=1, max_size=3)))])
    rows = data.draw(st.lists(document, min_size=1, max_size=3))
    lengths = np.array([brute.suffix_lengths(row) for row in rows])
    curve = novelty_curve(lengths, max_n=8)
    late = novelty_curve(lengths, max_n=8, positions=np.arange(3, 6))
    for positions, longer in ((None, curve), (np.arange(3, 6), late), (np.array([5, 3, 4]), late)):
        short = novelty_curve(lengths, max_n=2, positions=positions)
        np.testing.assert_array_equal(short, longer[:, :2])
    for b, row in enumerate(rows):
        for n in range(1, 9):
            unseen = {e: brute.count(row[e - n + 1 : e + 1]) == 0 for e in range(n - 1, len(row))}
            expected = np.mean(list(unseen.values())) if unseen else np.nan
            np.testing.assert_equal(curve[b, n - 1], expected)
            of_level = [unseen[e] for e in unseen if e >= 3]
            np.testing.assert_equal(late[b, n - 1], np.mean(of_level) if of_level else np.nan)


@given(maximum=st.integers(0, 100_000))
def test_length_edges_ascend_and_hold_every_length(maximum: int) -> None:
    edges = length_edges(maximum)
    assert (np.diff(edges) > 0).all()
    assert edges[0] == 0
    assert edges[-1] <= max(maximum, 1)
    assert (edges[2:] <= 2 * edges[1:-1]).all()
    assert length_histogram(np.array([0, maximum]), edges).sum() == pytest.approx(1)


def test_a_histogram_of_nothing_is_empty() -> None:
    assert length_histogram(np.array([]), np.array([0, 1])).tolist() == [0.0, 0.0]
