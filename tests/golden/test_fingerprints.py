"""Pinned identities of shipped configurations: nobody throws away a ten-hour token set by accident.

A changed digest means that every artifact of that component is made again everywhere. If that is
meant, bump the component's ``VERSION`` where results changed, and write the file anew: make golden.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hydra.utils import instantiate

from imagegram import schema
from imagegram.store.fingerprint import digest, identity
from tests.conftest import compose

GOLDEN = Path(__file__).with_name("fingerprints.json")
COMPONENTS = [
    f"{group}={path.stem}"
    for group in ("tokenizer", "sampler", "condition", "encoder")
    for path in sorted(schema.CONF.glob(f"{group}/*.yaml"))
    if path.stem not in ("module", "none")  # one is the user's own file, one is nothing
]


@pytest.mark.parametrize("word", COMPONENTS)
def test_the_identity_of_a_shipped_component_is_pinned(word: str) -> None:
    group = word.partition("=")[0]
    now = digest(identity(instantiate(compose(word)[group], _convert_="all")))
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("IMAGEGRAM_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps({**known, word: now}, indent=1, sort_keys=True) + "\n")
        return
    assert known[word] == now


def test_speed_and_place_are_no_identity() -> None:
    plain = instantiate(compose("encoder=pixels").encoder, _convert_="all")
    for words in (["paths.data=elsewhere"], ["runtime.workers=7"]):
        cfg = compose("encoder=pixels", *words)
        assert identity(instantiate(cfg.encoder, _convert_="all")) == identity(plain)
    ours, theirs = (
        instantiate(compose(f"encoder.batch_size={size}").encoder, _convert_="all")
        for size in (1, 64)
    )
    assert identity(ours) == identity(theirs)


def test_a_later_knob_is_no_identity_at_its_default() -> None:
    zero, plain, anchored = (
        identity(instantiate(compose("sampler=balanced", *words).sampler, _convert_="all"))
        for words in (["sampler.anchor=0"], [], ["sampler.anchor=4"])
    )
    assert zero == plain == {k: v for k, v in anchored.items() if k != "anchor"}
    assert anchored["anchor"] == 4
