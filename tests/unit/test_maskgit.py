"""MaskGIT: fixed tokens stay, no mask is left, rows depend on (seed, i) alone, and it learns."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from imagegram.errors import ConfigError
from imagegram.generators.maskgit.masks import random_masks
from imagegram.generators.maskgit.network import MaskGit
from imagegram.generators.maskgit.objective import Architecture, MaskedPrediction
from imagegram.generators.maskgit.sampling import draw, fill_in, lowest
from imagegram.generators.maskgit.training import NETWORK
from imagegram.models.transformer import build
from imagegram.samplers.masked import CONFIDENCE, MaskedSampler
from imagegram.seeding import uniform_rows, uniforms

V, T = 7, 6


def logits_of(ids_BT: Tensor) -> Tensor:
    """Fixed logits that depend on what is filled in already."""
    table = torch.randn(T, V, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return table + (ids_BT % V)[:, :, None] * 0.1


def fill(
    sampler: MaskedSampler, samples: list[int], seed: int = 3
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    ids, trace = fill_in(
        logits_of,
        sampler=sampler,
        seed=seed,
        samples_B=np.array(samples, dtype=np.uint64),
        num_tokens=T,
        vocab_size=V,
        device=torch.device("cpu"),
    )
    return ids.numpy(), {name: array.numpy() for name, array in trace.items()}


@pytest.mark.parametrize("confidence", CONFIDENCE)
@pytest.mark.parametrize("steps", [1, 2, 3, T, 5 * T])
def test_no_mask_is_left_and_rows_are_their_own(confidence: str, steps: int) -> None:
    sampler = MaskedSampler(name="masked", steps=steps, temperature=2.0, confidence=confidence)
    ids, trace = fill(sampler, [0, 1, 2, 3])
    assert ids.max() < V
    assert trace["step"].max() < min(steps, 5 * T)
    alone, alone_trace = fill(sampler, [2])
    np.testing.assert_array_equal(ids[2:3], alone)
    for name in trace:
        np.testing.assert_array_equal(trace[name][2:3], alone_trace[name])


def test_a_fixed_token_never_changes() -> None:
    seen: list[NDArray[np.int64]] = []

    def watch(ids_BT: Tensor) -> Tensor:
        seen.append(ids_BT.numpy().copy())
        return logits_of(ids_BT)

    ids, trace = fill_in(
        watch,
        sampler=MaskedSampler(name="masked", steps=5, temperature=3.0),
        seed=0,
        samples_B=np.arange(16, dtype=np.uint64),
        num_tokens=T,
        vocab_size=V,
        device=torch.device("cpu"),
    )
    for step, before in enumerate(seen):
        fixed = before < V
        np.testing.assert_array_equal(fixed, trace["step"].numpy() < step)
        np.testing.assert_array_equal(before[fixed], ids.numpy()[fixed])


def test_samples_are_distinct() -> None:
    ids, _ = fill(MaskedSampler(name="masked", steps=3, temperature=4.0), list(range(64)))
    assert len(np.unique(ids, axis=0)) > 32


def test_without_temperature_the_most_probable_token_is_taken() -> None:
    sampler = MaskedSampler(name="masked", steps=1, temperature=0.0)
    ids, trace = fill(sampler, [0, 1])
    expected = logits_of(torch.full((1, T), V)).argmax(dim=-1).numpy()
    np.testing.assert_array_equal(ids, np.repeat(expected, 2, axis=0))
    assert not (trace["probability"] != 1).any()


def test_draws_follow_the_softmax() -> None:
    logits = torch.tensor([[[0.0, 1.0, 2.0, -1.0]]], dtype=torch.float64)
    num = 20_000
    first, _ = uniform_rows(seed=0, samples_B=np.arange(num, dtype=np.uint64), num_tokens=1)
    ids, log_prob, entropy = draw(logits.expand(num, 1, 4), 2.0, torch.from_numpy(first))
    p = (logits / 2).softmax(dim=-1)[0, 0]
    counts = torch.bincount(ids.flatten(), minlength=4)
    chi_square = float(((counts - num * p) ** 2 / (num * p)).sum())
    assert chi_square < 16.3  # 0.1 % of the chi-square distribution with 3 degrees of freedom
    np.testing.assert_allclose(log_prob[:, 0].exp(), p[ids[:, 0]])
    np.testing.assert_allclose(entropy[0, 0], -(p * p.log2()).sum())


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_uniform_rows_are_the_scalar_definition(seed: int, sample: int, step: int) -> None:
    rows = uniform_rows(seed=seed, samples_B=np.array([sample], np.uint64), num_tokens=3, step=step)
    for position in range(3):
        expected = uniforms(seed=seed, sample=sample, position=position, step=step)
        assert (rows[0][0, position], rows[1][0, position]) == expected


def test_the_lowest_values_are_the_first_among_equals() -> None:
    values = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert lowest(values, 2).tolist() == [[False, True, True, False]]
    assert not lowest(values, 0).any()


@pytest.mark.parametrize(
    ("knob", "value"),
    [("steps", 0), ("temperature", -1.0), ("temperature", math.nan), ("confidence", "logits")],
)
def test_a_knob_out_of_range_is_refused(knob: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"sampler.{knob}="):
        MaskedSampler(**{"name": "masked", knob: value})


SIZES = Architecture(vocab_size=V, num_tokens=T, width=16, depth=1, num_heads=2)


def test_masks_have_the_asked_size() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([1, 3, 6])
    assert random_masks(counts, T, rng).sum(axis=1).tolist() == [1, 3, 6]
    task = MaskedPrediction(architecture=SIZES, label_smoothing=0.1, unmasked_weight=0.1)
    ids, masked, weights = task.batch(np.zeros((500, T), np.uint16), rng)
    assert ids.dtype == np.int64
    assert weights.mean() == pytest.approx(1.0)
    assert weights[~masked].mean() == pytest.approx(0.1 * weights[masked].mean())
    assert masked.any(axis=1).all()
    assert 0.55 < masked.mean() < 0.75  # the mean of arccos(u) / (pi / 2) is 2 / pi


def test_a_masked_token_is_not_seen() -> None:
    network = build(MaskGit, seed=0, **asdict(SIZES))
    ids = torch.randint(0, V, (1, T), generator=torch.Generator().manual_seed(0))
    masked = torch.zeros(1, T, dtype=torch.bool)
    masked[0, 2] = True
    other, changed = ids.clone(), ids.clone()
    other[0, 2] = (ids[0, 2] + 1) % V
    changed[0, 0] = (ids[0, 0] + 1) % V
    left, right, third = (network(x.masked_fill(masked, V)) for x in (ids, other, changed))
    assert torch.equal(left, right)
    assert not torch.equal(third[0, 2], left[0, 2])


def test_the_loss_of_a_step_is_the_mean_of_its_pieces() -> None:
    task = MaskedPrediction(architecture=SIZES, label_smoothing=0.1, unmasked_weight=0.1)
    module = task.module()
    module.log = lambda *_: None
    module.networks = torch.nn.ModuleDict({NETWORK: build(MaskGit, seed=0, **asdict(SIZES))})
    rng = np.random.default_rng(0)
    items = rng.integers(0, V, (8, T)).astype(np.uint16)
    batch = tuple(map(torch.from_numpy, task.batch(items, rng)))

    def loss(rows: slice) -> Tensor:
        return module.training_step(tuple(array[rows] for array in batch), 0)

    with torch.no_grad():
        halves = (loss(slice(0, None, 2)), loss(slice(1, None, 2)))
        torch.testing.assert_close(loss(slice(None)), sum(halves) / 2)
        ids, masked, _ = batch
        logits = module.networks[NETWORK](ids.masked_fill(masked, V))
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), ids, reduction="none", label_smoothing=0.1
        )
        weights = torch.where(masked, 1.0, 0.1)
        torch.testing.assert_close(loss(slice(None)), (losses * weights).sum() / weights.sum())
