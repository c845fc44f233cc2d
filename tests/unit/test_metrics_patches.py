from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imagegram.errors import ConfigError
from imagegram.layout import TokenLayout
from imagegram.metrics import nearest_tiles, patches
from imagegram.metrics.nearest_tiles import nearest_squares, search_tiles, textured, tiles_at
from imagegram.metrics.patches import PatchMetric
from imagegram.records import Measured, Measurement
from tests.picture_sets import PictureReference, collages, digits, image_set, pictures

TRAINING = pictures(120, seed=0)
REFERENCE = PictureReference.of(TRAINING, pictures(120, seed=1))
METRIC = PatchMetric()


def measure(
    images: np.ndarray, metric: PatchMetric = METRIC, reference: PictureReference = REFERENCE
) -> Measurement:
    return metric.measure(generated=image_set(images), reference=reference)


def value(measured: Measured) -> float:
    assert measured.value is not None, measured.note
    return measured.value


# --------------------------------------------------------------------------------- the search


def is_textured(tile: list[list[int]]) -> bool:
    """5 % of full range about the mean colour; the squared range is 255^2 = 65025."""
    spread = 0.0
    for channel in zip(*tile, strict=True):
        mean = sum(channel) / len(channel)
        spread += sum((x - mean) ** 2 for x in channel) / len(channel)
    return spread / 3 >= 65025 / 400


def brute_force(images: np.ndarray, training: np.ndarray, tile: int, anywhere: bool) -> np.ndarray:
    """(B, P) squared distances, tile by tile in whole numbers; infinite where there is none."""

    def cut(image: np.ndarray) -> list[list[list[int]]]:
        grid = range(0, image.shape[0] - tile + 1, tile)
        return [
            [image[y + dy, x + dx].tolist() for dy in range(tile) for dx in range(tile)]
            for y, x in itertools.product(grid, grid)
        ]

    known = [cut(image) for image in training]
    result = []
    for image in images:
        row = []
        for place, ours in enumerate(cut(image)):
            theirs = [t for k in known for t in (k if anywhere else [k[place]]) if is_textured(t)]
            squares = [
                sum(
                    (a - b) ** 2
                    for p, q in zip(ours, t, strict=True)
                    for a, b in zip(p, q, strict=True)
                )
                for t in theirs
            ]
            row.append(min(squares, default=np.inf) if is_textured(ours) else np.inf)
        result.append(row)
    return np.array(result)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), anywhere=st.booleans())
def test_the_search_is_exact(data: st.DataObject, anywhere: bool) -> None:
    # Extreme values, flat tiles, tiles at the limit of flatness (one number 51 more than all
    # others of its channel), and a border of one pixel.
    def drawn(largest: int) -> np.ndarray:
        shape = st.tuples(st.integers(1, largest), *map(st.just, (5, 5, 3)))
        return data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 50, 51, 255])))

    images, training = drawn(3), drawn(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_tiles, "_QUERIES", 2)
        patch.setattr(nearest_tiles, "_ROWS", 2)
        blocks = [training[:2], training[2:]] if len(training) > 2 else [training]
        found = search_tiles([images, images[:1]], blocks, tile=2, anywhere=anywhere, workers=2)
    expected = brute_force(images, training, 2, anywhere)
    np.testing.assert_array_equal(found[0].squares, expected)
    np.testing.assert_array_equal(found[1].squares, expected[:1])
    known = [
        [is_textured(t.reshape(-1, 3).tolist()) for t in tiles_at(images, 2, place)]
        for place in nearest_tiles.places(5, 2)
    ]
    np.testing.assert_array_equal(found[0].textured, np.array(known).T)


# 48 and 192 numbers go through float32, 768 and 3,072 do not fit.
@pytest.mark.parametrize("tile", [4, 8, 16, 32])
def test_squares_are_whole_numbers_at_every_size(tile: int) -> None:
    rng = np.random.default_rng(tile)
    rows = rng.choice(np.array([0, 1, 254, 255], np.uint8), size=(40, 3 * tile**2))
    queries = rng.choice(np.array([0, 1, 254, 255], np.uint8), size=(30, 3 * tile**2))
    queries[0], rows[1] = 0, 255  # as far apart as can be
    queries[5], queries[6] = rows[9], rows[9]
    queries[6, 0] ^= 1  # one less or more than a copy
    found = nearest_squares(queries, rows)
    apart = ((queries[:, None].astype(np.int64) - rows) ** 2).sum(axis=2)
    assert found.tolist() == apart.min(axis=1).tolist()
    assert found[5:7].tolist() == [0.0, 1.0]
    assert nearest_squares(queries[:1], rows[1:2]).tolist() == [255**2 * 3 * tile**2]


@given(
    tiles=arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(12)), elements=st.integers(90, 140))
)
def test_texture_is_about_the_mean_colour(tiles: np.ndarray) -> None:
    tiles[0] = [255, 0, 0] * 4  # a colour is no texture
    expected = [is_textured(tile.reshape(-1, 3).tolist()) for tile in tiles]
    assert textured(tiles).tolist() == expected
    assert not expected[0]


def test_five_per_cent_of_full_range_is_texture() -> None:
    tiles = np.full((2, 12), 100, np.uint8)
    tiles[:, 0] = 151, 150  # one of four pixels, in one of three channels
    assert textured(tiles).tolist() == [True, False]


# --------------------------------------------------------------------------------- the metric


def test_copied_tiles_are_counted_at_the_rate_that_was_planted() -> None:
    rng = np.random.default_rng(7)
    images = pictures(100, seed=2)
    planted = rng.random((100, 4, 4)) < 0.3
    for b, row, column in np.argwhere(planted).tolist():
        tile = (slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
        images[(b, *tile)] = TRAINING[(rng.integers(len(TRAINING)), *tile)]
    measurement = measure(images, PatchMetric(tile_sizes=(4,)))
    exact = measurement.scalars["exact_patch_rate"]
    assert value(exact) == pytest.approx(planted.mean(), abs=1e-12)
    rate = measurement.scalars["patch_copy_rate"]
    assert rate.low is not None
    assert rate.high is not None
    # What was planted, and 1 % of the rest.
    assert rate.low <= planted.mean() + 0.01 * (1 - planted.mean()) <= rate.high
    shares = measurement.curves["patch_copy_share"]
    assert (shares >= planted.mean(axis=(1, 2))).all()
    assert shares.mean() == pytest.approx(value(rate))


def test_a_collage_is_all_copied_and_a_training_image_too() -> None:
    for images in (collages(TRAINING, 50, seed=3), TRAINING):
        scalars = measure(images).scalars
        assert set(scalars) == {
            "patch_copy_rate",
            "patch_copy_rate_4px",
            "patch_copy_rate_8px",
            "exact_patch_rate",
        }
        assert [part.value for part in scalars.values()] == [1.0] * 4
        assert scalars["patch_copy_rate"].low is None  # a bootstrap of equal shares knows nothing


def test_thresholds_hold_their_rate_on_held_out_images() -> None:
    calibration = REFERENCE.calibration
    assert calibration is not None
    own = measure(calibration.images).scalars
    floor = measure(pictures(200, seed=4)).scalars
    for name in ("patch_copy_rate", "patch_copy_rate_4px", "patch_copy_rate_8px"):
        assert value(own[name]) <= 0.01
        # 4,000 tiles on average; a rate of 1 % has a standard error of at most 0.35 % of those of
        # 8 pixels, beside that of the threshold itself, which is set on 480 tiles.
        assert value(floor[name]) < 0.035
    assert value(floor["exact_patch_rate"]) == 0.0


def test_a_tile_with_a_little_noise_is_a_copy_but_no_exact_one() -> None:
    noisy = np.where(np.indices(TRAINING.shape).sum(axis=0) % 2, TRAINING + 2, TRAINING)
    scalars = measure(noisy.astype(np.uint8)).scalars
    assert value(scalars["patch_copy_rate"]) == 1.0
    assert value(scalars["exact_patch_rate"]) == 0.0


def test_the_place_matters_unless_anywhere_is_asked_for() -> None:
    moved = np.roll(TRAINING[:40], 4, axis=2)
    same = measure(moved, PatchMetric(tile_sizes=(4,))).scalars
    free = measure(moved, PatchMetric(tile_sizes=(4,), anywhere=True)).scalars
    assert value(same["patch_copy_rate"]) < 0.05
    assert value(free["patch_copy_rate_anywhere"]) == 1.0
    assert value(free["exact_patch_rate_anywhere"]) == 1.0
    off_the_grid = np.roll(TRAINING[:40], 2, axis=2)
    scalars = measure(off_the_grid, PatchMetric(tile_sizes=(4,), anywhere=True)).scalars
    assert value(scalars["patch_copy_rate_anywhere"]) < 0.05


def test_flat_tiles_are_in_neither_count() -> None:
    images = pictures(20, seed=5)
    images[:, :8] = TRAINING[0, 0, 0]  # the upper half is flat
    images[:5] = 128  # these altogether
    images[5:, 8:12] = TRAINING[:15, 8:12]  # half of the rest is copied
    measurement = measure(images, PatchMetric(tile_sizes=(4,)))
    assert value(measurement.scalars["exact_patch_rate"]) == 0.5
    shares = measurement.curves["patch_copy_share"]
    assert np.isnan(shares[:5]).all()
    assert (shares[5:] >= 0.5).all()
    flat = measure(images[:5], PatchMetric(tile_sizes=(4,))).scalars
    assert flat["patch_copy_rate"].value is None
    assert flat["patch_copy_rate"].note == "no tile has texture"


def test_sizes_are_pooled_by_area() -> None:
    # A quarter is copied in tiles of 4 pixels, nothing in tiles of 8.
    images = pictures(30, seed=6)
    for row, column in itertools.product((0, 8), repeat=2):
        tile = (slice(None), slice(row, row + 4), slice(column, column + 4))
        images[tile] = TRAINING[:30][tile]
    exact = [
        value(measure(images, PatchMetric(tile_sizes=sizes)).scalars["exact_patch_rate"])
        for sizes in ((4,), (8,), (4, 8))
    ]
    assert exact == [0.25, 0.0, 0.125]  # and not 4 of 16 + 4 tiles
    scalars = measure(images).scalars
    small, large = (value(scalars[f"patch_copy_rate_{size}px"]) for size in (4, 8))
    assert value(scalars["patch_copy_rate"]) == pytest.approx((small + large) / 2)


def test_collages_of_real_training_images_are_seen_and_real_images_are_not() -> None:
    training = digits(700, first=0)
    reference = PictureReference.of(training, digits(350, first=700))
    metric = PatchMetric(tile_sizes=(8,))
    floor = measure(digits(350, first=1050), metric, reference).scalars
    collage = measure(collages(training, 350, seed=3), metric, reference).scalars
    assert value(floor["patch_copy_rate"]) < 0.03
    assert value(floor["exact_patch_rate"]) < 0.01
    assert value(collage["patch_copy_rate"]) == value(collage["exact_patch_rate"]) == 1.0


def test_blocks_and_workers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = collages(TRAINING, 10, seed=3)
    images[:, :5] = pictures(10, seed=8)[:, :5]
    whole = measure(images, reference=dataclasses.replace(REFERENCE, workers=1))
    monkeypatch.setattr(patches, "_BLOCK_BYTES", 7 * images[0].nbytes)
    parts = measure(images, reference=dataclasses.replace(REFERENCE, workers=3))
    assert whole.scalars == parts.scalars
    assert whole.recipe == parts.recipe


def test_without_held_out_images_only_exact_copies_are_counted() -> None:
    reference = dataclasses.replace(REFERENCE, calibration=None)
    measurement = measure(TRAINING[:10], reference=reference)
    assert "held-out" in measurement.scalars["patch_copy_rate"].note
    assert value(measurement.scalars["exact_patch_rate"]) == 1.0
    assert not measurement.curves


def test_held_out_tiles_that_are_copies_leave_no_threshold() -> None:
    reference = PictureReference.of(TRAINING, TRAINING[:50])
    scalars = measure(TRAINING[:10], reference=reference).scalars
    assert scalars["patch_copy_rate"].value is None
    assert "distance 0" in scalars["patch_copy_rate"].note


@pytest.mark.parametrize(
    ("heights", "side", "sizes"),
    [
        ((8, 16, 32), 32, [4]),
        ((8, 16, 32, 64, 128), 128, [4, 8, 16]),
        ((1, 2, 4), 16, [4, 8]),  # one cell is the image
        ((8, 16, 32), 64, [4, 8]),  # decoded to twice its size
        ((12, 24), 32, []),  # no whole pixels
        ((1,), 256, []),
    ],
)
def test_tiles_are_the_cells_of_the_levels(
    heights: tuple[int, ...], side: int, sizes: list[int]
) -> None:
    layout = TokenLayout.pyramid(heights)
    assert METRIC.tiles_of(layout, side) == sizes
    assert PatchMetric(tile_sizes=[16, 4, 300]).tiles_of(layout, 256) == [4, 16]


@pytest.mark.parametrize("sizes", [(), (1, 4), (4, 4), (-2,)])
def test_tiles_that_say_nothing_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"tile_sizes is .*; use different sides of 2 pixels"):
        PatchMetric(tile_sizes=sizes)
