"""The search is exact and the clusters are connected components, against brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imagegram.images.near_duplicates import ThumbnailSearch, cluster_labels


def brute_force(thumbnails: np.ndarray, rms: float) -> np.ndarray:
    """(N, N) whether two thumbnails are within ``rms``."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.int64)
    squares = ((flat[:, None] - flat[None]) ** 2).sum(-1)
    near: np.ndarray = squares <= rms * rms * flat.shape[1]
    return near


thumbnail_sets = st.tuples(
    st.integers(0, 2**32 - 1), st.integers(1, 14), st.sampled_from([0, 1, 3, 8, 40])
).map(lambda args: make(*args))


def make(seed: int, count: int, spread: int) -> np.ndarray:
    """Pictures around two centres, with exact copies among them."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(50, 200, (2, 16, 16, 3))
    moves = rng.integers(-spread, spread + 1, (count, 16, 16, 3))
    pictures = (centres[rng.integers(0, 2, count)] + moves).astype(np.uint8)
    pictures[rng.integers(0, count)] = pictures[0]
    return pictures


@given(thumbnail_sets, st.sampled_from([0.0, 0.5, 2.0, 6.0, 40.0, 255.0]))
def test_neighbours_are_those_of_brute_force(thumbnails: np.ndarray, rms: float) -> None:
    near = brute_force(thumbnails, rms)
    search = ThumbnailSearch.over(thumbnails)
    for row, thumbnail in enumerate(thumbnails):
        assert search.neighbours(thumbnail, rms=rms).tolist() == np.flatnonzero(near[row]).tolist()
        after = search.neighbours(thumbnail, rms=rms, first=row + 1)
        assert after.tolist() == [i for i in np.flatnonzero(near[row]) if i > row]
        before = search.neighbours(thumbnail, rms=rms, end=row)
        assert before.tolist() == [i for i in np.flatnonzero(near[row]) if i < row]


@given(thumbnail_sets, st.sampled_from([0.0, 1.0, 6.0, 20.0]))
def test_clusters_are_connected_components(thumbnails: np.ndarray, rms: float) -> None:
    reach = brute_force(thumbnails, rms)
    for _ in range(len(thumbnails)):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    expected = reach.argmax(axis=1)  # the lowest index that is reached
    assert cluster_labels(thumbnails, rms=rms).tolist() == expected.tolist()


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=20),
    st.sampled_from([0.0, 1.0, 2.0, np.nextafter(2.0, 0), 5.5, 6.0]),
)
def test_plain_pictures_differ_by_their_means_alone(levels: list[int], rms: float) -> None:
    # The bound by overall means that the search begins with is then the distance itself.
    thumbnails = np.array(levels, np.uint8)[:, None, None, None] * np.ones((16, 16, 3), np.uint8)
    reach = brute_force(thumbnails, rms)
    for _ in levels:
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    assert cluster_labels(thumbnails, rms=rms).tolist() == reach.argmax(axis=1).tolist()


def test_the_limit_itself_is_near() -> None:
    pair = np.zeros((2, 16, 16, 3), np.uint8)
    pair[1] = 6
    assert cluster_labels(pair, rms=6.0).tolist() == [0, 0]
    assert cluster_labels(pair, rms=5.999).tolist() == [0, 1]


def test_no_thumbnails() -> None:
    nothing = np.empty((0, 16, 16, 3), np.uint8)
    assert cluster_labels(nothing, rms=6.0).tolist() == []
    assert ThumbnailSearch.over(nothing).neighbours(np.zeros((16, 16, 3), "u1"), rms=6.0).size == 0
