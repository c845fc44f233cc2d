from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from imagegram.encoders.pixels import PixelEncoder
from imagegram.errors import ConfigError
from imagegram.metrics import memorization
from imagegram.metrics.memorization import (
    CellDistances,
    MemorizationMetric,
    authentic_images,
    cell_distances,
    ct_score,
    usable_cells,
)
from imagegram.records import Measured
from tests.picture_sets import PictureReference, collages, digits, image_set, pictures

METRIC = MemorizationMetric(encoder=PixelEncoder(resolution=4))
TRAINING = pictures(300, seed=0)
REFERENCE = PictureReference.of(TRAINING, pictures(200, seed=1))


def scores(images: np.ndarray, reference: PictureReference = REFERENCE) -> dict[str, Measured]:
    return METRIC.measure(generated=image_set(images), reference=reference).scalars


def value(images: np.ndarray, score: str) -> float:
    measured = scores(images)[score]
    assert measured.value is not None
    assert measured.low is not None
    assert measured.high is not None
    assert measured.low <= measured.value <= measured.high
    return measured.value


# ----------------------------------------------------------------------------------- authpct


def authentic_by_definition(generated: np.ndarray, training: np.ndarray) -> list[bool]:
    result = []
    for image in generated:
        apart = [float(np.linalg.norm(image - t)) for t in training]
        t = int(np.argmin(apart))
        others = [float(np.linalg.norm(training[t] - u)) for i, u in enumerate(training) if i != t]
        result.append(min(others) < apart[t])
    return result


@given(data=st.data())
def test_authentic_images_are_the_definition(data: st.DataObject) -> None:
    # On a line with different sizes of both sets, doubles and copies included. Two training images
    # that are equally near may differ in their own nearest: the definition leaves that open.
    whole = st.integers(0, 40)
    training = data.draw(
        arrays(np.float64, st.tuples(st.integers(2, 8), st.just(1)), elements=whole)
    )
    generated = data.draw(
        arrays(np.float64, st.tuples(st.integers(1, 9), st.just(1)), elements=whole)
    )
    apart = np.abs(generated - training.T)
    nearest = apart == apart.min(axis=1, keepdims=True)
    assume(all(len(set(training[row, 0])) == 1 for row in nearest))
    found = authentic_images(generated=generated, training=training)
    assert found.tolist() == authentic_by_definition(generated, training)


def test_the_nearest_training_image_is_looked_up_among_training_images() -> None:
    # Training images 0 and 1 are 2 apart, 2 and 3 are 20 apart. Image 0 is 5 from training image 3
    # (not authentic: 20 > 5), image 1 is 5 from training image 0 (authentic: 2 < 5).
    training = np.array([[0.0], [2.0], [100.0], [120.0]])
    generated = np.array([[125.0], [-5.0]])
    assert authentic_images(generated=generated, training=training).tolist() == [False, True]
    # The index error of the authors' code: for each training image its nearest *generated* one,
    # whose index is then taken for a training image's.
    own = np.array([2.0, 2.0, 20.0, 20.0])
    to_generated = np.abs(training - generated.T)
    wrong = to_generated.min(axis=1) > own[to_generated.argmin(axis=1)]
    assert wrong.tolist() == [True, True, True, True]


def test_copies_are_not_authentic_and_held_out_images_are_half_the_time() -> None:
    assert value(np.concatenate([TRAINING[:199], pictures(1, seed=9)]), "authpct") < 1
    floor = value(pictures(400, seed=2), "authpct")
    assert 30 < floor < 80
    planted = pictures(400, seed=2)
    planted[:80] = TRAINING[:80]
    assert value(planted, "authpct") == pytest.approx(0.8 * floor, abs=4)


def test_a_single_training_image_has_no_other() -> None:
    reference = PictureReference.of(TRAINING[:1], pictures(30, seed=1))
    measured = scores(TRAINING[:30], reference)
    assert measured["authpct"].value is None
    assert "single training image" in measured["authpct"].note
    assert measured["ct"].value is None


# ---------------------------------------------------------------------------------------- ct


def ct_by_definition(
    generated: np.ndarray, held_out: np.ndarray, training: np.ndarray, seed: int
) -> float:
    """Meehan et al. as published: components, cells, nearest images and z scores, one by one."""
    components = PCA(n_components=min(64, *training.shape), random_state=seed)
    low = components.fit_transform(training)
    clusters = KMeans(n_clusters=3, n_init=10, random_state=seed).fit(low)
    sets = {"T": low, "G": components.transform(generated), "P": components.transform(held_out)}
    cells = {name: clusters.predict(part) for name, part in sets.items()}
    weighted, weights = 0.0, 0.0
    for cell in range(3):
        g, p, t = (sets[name][cells[name] == cell] for name in "GPT")
        if not len(g) / len(generated) > 20 / len(generated) or not len(p):
            continue
        to_g, to_p = ([np.linalg.norm(t - x, axis=1).min() for x in part] for part in (g, p))
        m, n = len(g), len(p)
        u = mannwhitneyu(to_g, to_p, alternative="less").statistic
        z = (u - (m * n / 2 - 0.5)) / np.sqrt(m * n * (m + n + 1) / 12)
        weighted, weights = weighted + len(p) * z, weights + len(p)
    return weighted / weights


@pytest.mark.parametrize("seed", [0, 1])
def test_ct_is_the_published_statistic(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 8)) * 6
    training, held_out, generated = (
        (centres[rng.choice(3, n, p=[0.6, 0.3, 0.1])] + rng.normal(size=(n, 8)))
        for n in (90, 70, 80)
    )
    generated[:9] = training[:9]
    ours, theirs = cell_distances(
        [generated, held_out], training=training, fitted=training, seed=seed, workers=2
    )
    cells = usable_cells(generated=ours, held_out=theirs)
    assert len(cells) < 3  # 10 % of 80 images are too few
    found = ct_score(generated=ours, held_out=theirs, cells=cells)
    expected = ct_by_definition(generated, held_out, training, seed)
    assert found == pytest.approx(expected, rel=1e-9)


def test_training_images_may_come_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    training, generated = rng.normal(size=(50, 6)), rng.normal(size=(40, 6))
    fit = {"training": training, "fitted": training[:30], "seed": 0}
    (whole,) = cell_distances([generated], **fit)
    monkeypatch.setattr(memorization, "_ROWS", 7)
    (parts,) = cell_distances([generated], **fit)
    np.testing.assert_array_equal(whole.cells, parts.cells)
    np.testing.assert_allclose(whole.distances, parts.distances, rtol=1e-12)


@given(
    ours=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    theirs=st.lists(st.integers(0, 4), min_size=1, max_size=12),
)
def test_equal_distances_count_half(ours: list[int], theirs: list[int]) -> None:
    sets = [
        CellDistances(cells=np.zeros(len(part), int), distances=np.array(part, float))
        for part in (ours, theirs)
    ]
    u = sum((g > p) + 0.5 * (g == p) for g in ours for p in theirs)
    m, n = len(ours), len(theirs)
    z = (u - (m * n / 2 - 0.5)) / np.sqrt(m * n * (m + n + 1) / 12)
    assert ct_score(generated=sets[0], held_out=sets[1], cells=[0]) == pytest.approx(z)


def test_copies_are_far_below_zero() -> None:
    assert value(TRAINING[:200], "ct") < -5
    assert abs(value(pictures(200, seed=5), "ct")) < 3


def test_collages_of_real_training_images_read_as_more_novel_than_real_images() -> None:
    training = digits(700, first=0)
    reference = PictureReference.of(training, digits(350, first=700))
    floor = scores(digits(350, first=1050), reference)
    collage = scores(collages(training, 350, seed=3), reference)
    copies = scores(training[:350], reference)
    for score in ("authpct", "ct"):
        low, middle, high = (part[score].value for part in (copies, floor, collage))
        assert low is not None
        assert middle is not None
        assert high is not None
        assert low < middle < high
    assert collage["authpct"].value > 90
    assert collage["ct"].value > 5


def test_ct_says_why_it_has_no_value() -> None:
    unheld = dataclasses.replace(REFERENCE, calibration=None)
    assert "no held-out images" in scores(TRAINING[:50], unheld)["ct"].note
    assert "no cell holds more than 20" in scores(TRAINING[:20])["ct"].note
    alike = PictureReference.of(TRAINING[:1].repeat(5, axis=0), pictures(30, seed=1))
    assert "fewer than 3 different" in scores(TRAINING[:50], alike)["ct"].note


def test_one_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="jackknife_blocks is 1; use 2 or more"):
        MemorizationMetric(encoder=PixelEncoder(), jackknife_blocks=1)
