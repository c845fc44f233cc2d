"""The sentence about too few held-out images, and what it says to type."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.stages.holdout import Policy
from imagegram.stages.reference_sets import floor_size, too_few_held_out
from imagegram.stages.split import SplitHandle


def split_of(
    num_scanned: int, *, whole: bool = False, note: str = "", **policy: Any
) -> SplitHandle:
    facts = {"num_scanned": num_scanned, "whole_shards": whole, "note": note}
    artifact: Any = SimpleNamespace(facts=facts, path=Path())
    return SplitHandle(artifact=artifact, corpus=WebDatasetCorpus(tars="x", **policy))


def test_enough_held_out_images_need_no_word() -> None:
    split = split_of(100_000)
    assert too_few_held_out(split, {"generated": 1000, "floor": 1000}) is None
    film = split_of(100_000, note="a film stays in training")
    assert too_few_held_out(film, {"generated": 5, "floor": 5}) == "a film stays in training"


@pytest.mark.parametrize(
    ("num_items", "policy", "words"),
    [
        (200_000, {}, {"max_holdout": 7758}),
        (100_000, {"holdout_fraction": 0.05, "max_holdout": 99_999}, {"holdout_fraction": 0.08}),
        (30_000, {}, {"holdout_fraction": 0.26, "max_holdout": 7758}),
        (12_000, {}, {}),  # no more than half of a corpus
    ],
)
def test_what_to_type_holds_out_enough(
    num_items: int, policy: dict[str, Any], words: dict[str, Any]
) -> None:
    said = too_few_held_out(split_of(num_items, **policy), {"generated": 5000, "floor": 49})
    assert said is not None
    assert said.startswith("floor: 49 held-out images for 5,000 samples; scores that move with")
    typed = " ".join(f"corpus.{name}={value}" for name, value in words.items())
    advice = f"type {typed} or num_samples=49" if words else "hold out more, or type num_samples=49"
    assert said.endswith(f"; {advice}")
    if words:
        corpus = split_of(num_items, **(policy | words)).corpus
        drawn = Policy(fraction=corpus.holdout_fraction, max_items=corpus.max_holdout, limit=6.0)
        assert floor_size(int(drawn.probability(num_items) * num_items), 5000) == 5000


def test_named_shards_are_the_users_own() -> None:
    said = too_few_held_out(split_of(256, whole=True), {"generated": 1000, "floor": 128})
    assert said is not None
    assert said.endswith("hold out more, or type num_samples=128")


def test_no_floor_says_why() -> None:
    small = split_of(40, note="nothing is held out of fewer than 100 different images")
    said = too_few_held_out(small, {"generated": 4})
    assert said is not None
    assert said.startswith("no floor: nothing is held out of fewer than 100 different images; no")
    off = too_few_held_out(split_of(0, holdout_fraction=0.0), {"generated": 4})
    assert off is not None
    assert off.startswith("no floor: nothing is held out; no score is compared")
