"""Who is held out: whole clusters, all with the same probability, against brute force."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from imagegram.executors.serial import SerialExecutor
from imagegram.images.modality import IMAGES
from imagegram.protocols import Modality
from imagegram.stages import holdout
from imagegram.stages.holdout import Choice, Policy, choose
from imagegram.texts.modality import TEXTS
from tests.pictures import context

LIMITS = {IMAGES: 6.0, TEXTS: 0.8}


@dataclass(frozen=True)
class Scanned:
    """A scanned shard in memory."""

    modality: Modality
    arrays: tuple[NDArray[Any], NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.arrays[0])

    def sketches(self) -> NDArray[Any]:
        return self.arrays[0]

    def hashes(self) -> NDArray[np.uint8]:
        return self.arrays[1]


def hashes_of(contents: Sequence[Any], seed: int = 0) -> NDArray[np.uint8]:
    digests = [hashlib.sha256(f"{seed}:{content}".encode()).digest() for content in contents]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)


def plain(levels: Sequence[float]) -> NDArray[np.uint8]:
    """Thumbnails of one grey each: near-duplicates if their levels differ by at most 6."""
    grey = np.asarray(levels, dtype=np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (len(grey), 16, 16, 3)).copy()


def distinct(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Thumbnails that are far from each other and from grey ones."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def chosen(
    sketches: NDArray[Any],
    hashes: NDArray[np.uint8],
    *,
    modality: Modality = IMAGES,
    cuts: Sequence[int] = (),
    workers: int = 1,
    **policy: Any,
) -> Choice:
    how: dict[str, Any] = {"fraction": 0.1, "max_items": 10**6, "limit": LIMITS[modality]}
    parts = zip(np.split(sketches, cuts), np.split(hashes, cuts), strict=True)
    shards: Any = [Scanned(modality, part) for part in parts]
    at = replace(context(Path()), executor=SerialExecutor(workers=workers))
    return choose(shards, Policy(**{**how, **policy}), at)


def brute_force(
    sketches: NDArray[Any], hashes: NDArray[np.uint8], modality: Modality, fraction: float
) -> list[int]:
    """Cluster everything; a cluster goes by the draw of its member of lowest rank."""
    labels = modality.cluster(sketches, limit=LIMITS[modality])
    largest = max(10, int(0.1 * fraction * len(labels)))
    held: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        lowest = min(members, key=lambda item: hashes[item, 8:16].tobytes())
        draw = int.from_bytes(hashes[lowest, :8].tobytes(), "big") / 2**64
        if len(members) <= largest and draw < fraction:
            held += members.tolist()
    return sorted(held)


def mutated_sketches(seed: int) -> NDArray[np.uint32]:
    """MinHash values of 120 families: each member has a few other values than one before it."""
    rng = np.random.default_rng(seed)
    rows: list[NDArray[np.uint32]] = []
    for _ in range(120):
        family = [rng.integers(0, 2**32, 128, dtype=np.uint32)]
        for _ in range(rng.choice([0, 0, 0, 1, 2, 5])):
            row = family[rng.integers(len(family))].copy()
            row[rng.integers(0, 128, rng.integers(0, 40))] += np.uint32(1)
            family.append(row)
        rows += family
    return np.stack(rows)[rng.permutation(len(rows))]


def chained_thumbnails(seed: int) -> NDArray[np.uint8]:
    """A hundred pictures alone, and grey ones in chains of many lengths, with copies."""
    rng = np.random.default_rng(seed)
    grey = plain(rng.choice(np.arange(0, 256, 3), 60))
    mixed = np.concatenate([distinct(100, seed), grey])
    return mixed[rng.permutation(len(mixed))]


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    fraction=st.sampled_from([0.03, 0.2, 0.5, 0.9]),
    modality=st.sampled_from([IMAGES, TEXTS]),
    cut=st.integers(0, 120),
)
def test_the_choice_is_that_of_brute_force(
    seed: int, fraction: float, modality: Modality, cut: int
) -> None:
    make: Any = {IMAGES: chained_thumbnails, TEXTS: mutated_sketches}[modality]
    sketches = make(seed)
    contents = [sketch.tobytes().hex() for sketch in sketches]  # equal sketches are equal files
    hashes = hashes_of(contents, seed)
    expected = brute_force(sketches, hashes, modality, fraction)
    options: dict[str, Any] = {"modality": modality, "fraction": fraction}
    for cuts in ((), (cut,), (3, 4, 4, 100)):
        assert chosen(sketches, hashes, cuts=cuts, **options).held.tolist() == expected


def test_order_and_threads_change_nothing() -> None:
    sketches = chained_thumbnails(5)
    hashes = hashes_of(range(len(sketches)))
    whole = chosen(sketches, hashes, fraction=0.4)
    assert len(whole.held) > 20
    threaded = chosen(sketches, hashes, cuts=range(10, 160, 10), workers=4, fraction=0.4)
    assert threaded.held.tolist() == whole.held.tolist()
    order = np.random.default_rng(0).permutation(len(sketches))
    other = chosen(sketches[order], hashes[order], cuts=(50, 90), fraction=0.4)
    assert sorted(order[other.held]) == whole.held.tolist()
    assert other.num_clusters == whole.num_clusters


def test_clusters_of_all_sizes_are_held_out_as_often() -> None:
    """The smallest hash of a cluster would hold out 88 % of those of 20, and 10 % of singles."""
    sizes = np.repeat([1, 2, 5, 20], 150)
    base = distinct(len(sizes), seed=7) // 2
    sketches = np.repeat(base, sizes, axis=0)
    members = np.concatenate([np.arange(size) for size in sizes])
    sketches += members[:, None, None, None].astype(np.uint8) % 4  # near, not equal
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rounds, share = 8, 0.1
    counts = np.zeros(len(sizes), dtype=int)
    for seed in range(rounds):
        held = chosen(sketches, hashes_of(range(len(labels)), seed), fraction=share).held
        whole = np.unique(labels[held], return_counts=True)
        np.testing.assert_array_equal(whole[1], sizes[whole[0]])  # all or none of a cluster
        counts[whole[0]] += 1
    of_size = np.array([counts[sizes == size].sum() for size in (1, 2, 5, 20)])
    each = rounds * 150
    squares = ((of_size - each * share) ** 2 / (each * share * (1 - share))).sum()
    assert chi2.sf(squares, df=4) > 0.05, of_size


def test_copies_of_one_file_have_one_draw() -> None:
    """However often a picture is there, it is held out with the same probability."""
    sketches = np.concatenate([distinct(200), np.repeat(distinct(1, seed=9), 9, axis=0)])
    often = 0
    for seed in range(200):
        contents = [*range(200), *["copy"] * 9]
        held = chosen(sketches, hashes_of(contents, seed), fraction=0.1).held
        assert set(held[held >= 200]) in (set(), set(range(200, 209)))
        often += int((held >= 200).any())
    assert 8 <= often <= 34  # of 20 expected, at 0.1 %


def test_a_large_cluster_stays_in_training() -> None:
    """600 frames of a film beside 400 pictures: neither the floor nor the corpus is lost to it."""
    frames = plain(np.arange(600) % 200)  # neighbours differ by one level: one chain
    sketches = np.concatenate([distinct(400), frames])
    for seed in range(5):
        choice = chosen(sketches, hashes_of(range(1000), seed), cuts=(300, 700), fraction=0.2)
        assert (choice.held < 400).all()
        assert 50 < len(choice.held) < 120
        assert len(choice.large) == 1
        assert (choice.large[0] >= 400).all()
        assert choice.num_clusters == 401


def test_the_search_gives_up_on_a_cluster_that_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A chain of 768 links would take hundreds of rounds to its ends."""
    chain = np.tril(np.full((768, 768), 120, dtype=np.uint8)).reshape(-1, 16, 16, 3)
    sketches = np.concatenate([chain, distinct(400)])
    rounds = []
    search = holdout.Clusters._search

    def counted(self: Any, fresh: Any) -> Any:
        rounds.append(len(fresh))
        return search(self, fresh)

    monkeypatch.setattr(holdout.Clusters, "_search", counted)
    choice = chosen(sketches, hashes_of(range(1168)), fraction=0.1)
    assert (choice.held >= 768).all()
    assert len(choice.held) > 20
    assert 0 < len(rounds) < 10


def test_few_clusters_hold_nothing_out() -> None:
    for count, expected in ((99, 0), (100, 100)):
        sketches = np.concatenate([distinct(count), distinct(count)])
        held = chosen(sketches, hashes_of([*range(count), *range(count)]), fraction=1.0).held
        assert len(held) == 2 * expected


def test_clusters_are_counted_where_candidates_are_few() -> None:
    """Three candidates cannot tell whether there are a hundred clusters."""
    choice = chosen(distinct(300), hashes_of(range(300)), fraction=0.01)
    assert choice.num_clusters == 300
    assert len(choice.held) == choice.num_held_clusters <= 9
    assert chosen(distinct(90), hashes_of(range(90)), fraction=0.01).num_clusters == 90


def test_no_more_are_held_out_than_asked_for() -> None:
    sketches, hashes = distinct(3000), hashes_of(range(3000))
    held = chosen(sketches, hashes, max_items=60).held
    assert 36 <= len(held) <= 84  # binomial, at 0.1 %
    more = chosen(sketches, hashes, max_items=120).held
    assert set(held) < set(more)
    assert len(chosen(sketches, hashes, max_items=0).held) == 0
    assert len(chosen(sketches, hashes, fraction=0.0).held) == 0


def test_a_corpus_without_items() -> None:
    assert len(chosen(distinct(0), hashes_of([])).held) == 0
