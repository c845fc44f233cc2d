"""The metric of LPIPS: pairs one by one, what it is not defined for, and what it asks for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from imagegram.errors import ConfigError, MissingDependencyError
from imagegram.metrics.lpips import LpipsMetric
from imagegram.models import lpips, lpips_weights
from imagegram.models.lpips import Lpips
from imagegram.models.pictures import to_float
from imagegram.models.transformer import build
from imagegram.records import Images, Measured
from tests.image_sets import MemoryImages, MemoryReference, MemoryTokens, random_tokens

REFERENCE = MemoryReference(MemoryTokens(shards=[random_tokens(3, seed=0)]))
TOKENS = random_tokens(40, seed=1)


def network(_: str = "alexnet") -> Lpips:
    """One with weights of no meaning."""
    made = build(Lpips, seed=0, network="alexnet")
    assert isinstance(made, Lpips)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.normal_(0.1, 0.1, generator=generator)
    return made


def pictures(side: int, *, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (len(TOKENS), side, side, 3), dtype=np.uint8)


def measure(images: Images, originals: Images | None) -> Measured:
    some = dataclasses.replace(MemoryImages.of(TOKENS), images=images, originals=originals)
    found = LpipsMetric().measure(generated=some, reference=REFERENCE)
    assert found.scalars.keys() == {"lpips_alexnet"}
    return found.scalars["lpips_alexnet"]


def test_it_is_the_mean_of_the_pairs_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "load_lpips", network)
    images, originals = pictures(32, seed=0), pictures(32, seed=1)
    made, alone = network(), []
    for pair in zip(images, originals, strict=True):
        some, other = (to_float(torch.from_numpy(image[None])) for image in pair)
        alone.append(float(made(some, other)))
    found = measure(images, originals)
    assert found.value == pytest.approx(np.mean(alone), rel=1e-5)
    assert np.std(alone) > 0
    assert found.low < found.value < found.high  # type: ignore[operator]
    assert measure(images, images).value == 0.0


def test_where_nothing_can_be_compared_it_says_why() -> None:
    assert "no original" in measure(pictures(32, seed=0), None).note
    small = pictures(31, seed=0)
    assert "needs images of 32 pixels, these have 31" in measure(small, small).note


def test_what_it_needs_is_asked_for_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"metric\.lpips\.network=vgg is unknown; did you mean"):
        LpipsMetric(network="vgg")
    monkeypatch.setattr(lpips_weights, "PACKAGE", "no_such_package")
    with pytest.raises(MissingDependencyError, match=r"metric=\[lpips\] needs .* leave that"):
        LpipsMetric().check_machine()
