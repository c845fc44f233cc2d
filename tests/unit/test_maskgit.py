"""MaskGIT: fixed tokens stay, no mask is left, rows depend on (seed, i) alone, and it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from imagegram.errors import ConfigError
from imagegram.generators.drawing import draw_ids, probabilities
from imagegram.generators.maskgit.masks import random_masks
from imagegram.generators.maskgit.network import MaskGit
from imagegram.generators.maskgit.objective import Architecture, MaskedPrediction
from imagegram.generators.maskgit.sampling import fill_in, lowest, sample_chunks, told
from imagegram.generators.maskgit.training import NETWORK
from imagegram.models.transformer import build
from imagegram.samplers.masked import CONFIDENCE, SCHEDULES, MaskedSampler
from imagegram.seeding import uniform_rows, uniforms

V, T = 7, 6


def both(ids_BT: Tensor, _: int) -> tuple[Tensor, Tensor]:
    """:func:`logits_of`, which nothing guides."""
    logits_BTV = logits_of(ids_BT)
    return logits_BTV, logits_BTV


def logits_of(ids_BT: Tensor) -> Tensor:
    """Fixed logits that depend on what is filled in already."""
    table = torch.randn(T, V, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return table + (ids_BT % V)[:, :, None] * 0.1


def fill(
    sampler: MaskedSampler, samples: list[int], seed: int = 3
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    ids, trace = fill_in(
        both,
        sampler=sampler,
        seed=seed,
        samples_B=np.array(samples, dtype=np.uint64),
        num_tokens=T,
        vocab_size=V,
        device=torch.device("cpu"),
    )
    return ids.numpy(), {name: array.numpy() for name, array in trace.items()}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("confidence", CONFIDENCE)
@pytest.mark.parametrize("steps", [1, 2, 3, T, 5 * T])
def test_no_mask_is_left_and_rows_are_their_own(schedule: str, confidence: str, steps: int) -> None:
    sampler = MaskedSampler(
        name="masked", steps=steps, schedule=schedule, temperature=2.0, confidence=confidence
    )
    ids, trace = fill(sampler, [0, 1, 2, 3])
    assert ids.max() < V
    assert trace["step"].max() < min(steps, T)
    alone, alone_trace = fill(sampler, [2])
    np.testing.assert_array_equal(ids[2:3], alone)
    for name in trace:
        np.testing.assert_array_equal(trace[name][2:3], alone_trace[name])


def test_a_fixed_token_never_changes() -> None:
    seen: list[NDArray[np.int64]] = []

    def watch(ids_BT: Tensor, step: int) -> tuple[Tensor, Tensor]:
        seen.append(ids_BT.numpy().copy())
        return both(ids_BT, step)

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


@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_samples_are_distinct(confidence: str) -> None:
    """Ids and confidences that are NaN would be all alike."""
    sampler = MaskedSampler(name="masked", steps=3, temperature=4.0, confidence=confidence)
    ids, trace = fill(sampler, list(range(64)))
    assert len(np.unique(ids, axis=0)) > 48  # of six tokens, some of which are the most probable
    assert len(np.unique(trace["step"], axis=0)) > 32


@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_no_two_of_500_samples_of_a_network_are_alike(confidence: str) -> None:
    network = build(MaskGit, seed=1, vocab_size=64, num_tokens=16, width=16, depth=1, num_heads=2)
    how = MaskedSampler(name="masked", steps=4, temperature=2.0, confidence=confidence)
    chunk = ([np.arange(500, dtype=np.uint64)], [np.zeros(500, np.int64)])
    (made,) = sample_chunks(network.eval(), *chunk, sampler=how, seed=7)
    assert len(np.unique(made["tokens"], axis=0)) == 500


@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_rows_that_are_decided_apart_are_the_same(
    confidence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are where many positions and ids would take much memory."""
    how = MaskedSampler(name="masked", steps=3, temperature=2.0, confidence=confidence, top_p=0.9)
    together = fill(how, list(range(9)))
    monkeypatch.setattr("imagegram.generators.maskgit.sampling._MAX_LOGITS", 2 * T * V)
    apart = fill(how, list(range(9)))
    np.testing.assert_array_equal(apart[0], together[0])
    for name, values in together[1].items():
        np.testing.assert_array_equal(apart[1][name], values)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_tokens", [1, 2, 7, 64, 256])
def test_a_schedule_masks_fewer_and_fewer(schedule: str, num_tokens: int) -> None:
    for steps in (1, 3, num_tokens, 4 * num_tokens):
        sampler = MaskedSampler(name="masked", steps=steps, schedule=schedule)
        passes = range(sampler.num_steps(num_tokens))
        masked = [sampler.num_masked(step, num_tokens) for step in passes]
        assert masked == sorted(masked, reverse=True)
        assert masked[-1] == 0
        assert all(masked[:-1])
        if schedule in ("linear", "arccos", "cosine") and steps == num_tokens:
            assert all(left >= num_tokens - step - 1 for step, left in enumerate(masked))
    linear = MaskedSampler(name="masked", steps=num_tokens, schedule="linear")
    left = [linear.num_masked(step, num_tokens) for step in range(num_tokens)]
    assert left == list(range(num_tokens))[::-1]


def test_temperatures_of_the_steps() -> None:
    linear = MaskedSampler(name="masked", steps=4, temperature=8.0)
    assert [linear.noise(step, 8) for step in range(4)] == [6.0, 4.0, 2.0, 0.0]
    assert [linear.noise(step, 2) for step in range(2)] == [4.0, 0.0]  # two steps for two tokens
    constant = MaskedSampler(name="masked", steps=4, temperature=8.0, annealing="constant")
    assert [constant.noise(step, 8) for step in range(4)] == [8.0] * 4


def test_what_is_cut_away_is_not_drawn() -> None:
    greedy = MaskedSampler(name="masked", steps=1, temperature=3.0, annealing="constant", top_k=1)
    ids, trace = fill(greedy, list(range(8)))
    expected = logits_of(torch.full((1, T), V)).argmax(dim=-1).numpy()
    np.testing.assert_array_equal(ids, np.repeat(expected, 8, axis=0))
    assert (trace["probability"] == 1).all()


def test_softmax_temperature_divides_the_logits() -> None:
    """With the same divisor at every step it is the temperature, in random order."""
    knobs = {"name": "masked", "steps": 3, "confidence": "random", "annealing": "constant"}
    halved, plain = (
        fill(MaskedSampler(**knobs, **more), [0, 1, 2])
        for more in (
            {"temperature": 1.0, "softmax_temperature": (2.0, 2.0)},
            {"temperature": 2.0},
        )
    )
    np.testing.assert_array_equal(halved[0], plain[0])
    for name in plain[1]:
        np.testing.assert_allclose(halved[1][name], plain[1][name], rtol=1e-12)


def slow_log_prob(row: list[int], *, sampler: MaskedSampler, seed: int, sample: int) -> list[float]:
    """Log-probability of every token of one row in the random order of (seed, sample)."""
    hidden, found = set(range(T)), [math.nan] * T
    for step in range(min(sampler.steps, T)):
        noise = {
            position: uniforms(seed=seed, sample=sample, position=position, step=step)[1]
            for position in hidden
        }
        keep_masked = min(sampler.num_masked(step, T), len(hidden) - 1)
        order = sorted(hidden, key=lambda position: noise[position])
        seen = torch.tensor([[V if p in hidden else row[p] for p in range(T)]])
        logits = logits_of(seen)[0]
        for position in order[keep_masked:]:
            weights = [math.exp(logit) for logit in logits[position].tolist()]
            found[position] = math.log(weights[row[position]] / math.fsum(weights))
            hidden.remove(position)
        if not hidden:
            break
    return found


@pytest.mark.parametrize("steps", [1, 3, T, 4 * T])
def test_given_tokens_have_the_likelihood_of_the_slow_definition(steps: int) -> None:
    sampler = MaskedSampler(
        name="masked", steps=steps, temperature=3.0, confidence="random", top_p=0.7
    )
    rows = np.random.default_rng(0).integers(0, V, (5, T))
    samples = np.array([0, 7, 2**40, 2**64 - 1, 3], np.uint64)
    ids, trace = fill_in(
        both,
        sampler=sampler,
        seed=11,
        samples_B=samples,
        num_tokens=T,
        vocab_size=V,
        device=torch.device("cpu"),
        known_BT=torch.from_numpy(rows),
    )
    np.testing.assert_array_equal(ids.numpy(), rows)
    for row, sample, found in zip(rows, samples, trace["log_prob"], strict=True):
        expected = slow_log_prob(row.tolist(), sampler=sampler, seed=11, sample=int(sample))
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    if steps >= T:  # one token a step: an order of the tokens
        assert (np.sort(trace["step"], axis=1) == np.arange(T)).all()


def test_with_one_token_a_step_the_bound_is_that_of_any_order() -> None:
    """The mean over all orders of a model whose conditionals agree is its likelihood itself."""
    table = np.random.default_rng(1).random((3, 3, 3))
    table /= table.sum()

    def conditionals(ids_BT: Tensor, _: int) -> tuple[Tensor, Tensor]:
        rows = []
        for row in ids_BT.tolist():
            logits = []
            for place in range(3):
                chosen = tuple(
                    slice(None) if i == place or known == 3 else known
                    for i, known in enumerate(row)
                )
                left = table[tuple(slice(c, c + 1) if isinstance(c, int) else c for c in chosen)]
                logits.append(np.log(left.sum(axis=tuple(a for a in range(3) if a != place))))
            rows.append(logits)
        return (torch.tensor(np.array(rows)),) * 2

    known = torch.tensor([[0, 2, 1]]).expand(40, 3)
    _, trace = fill_in(
        conditionals,
        sampler=MaskedSampler(name="any_order", steps=3, confidence="random"),
        seed=0,
        samples_B=np.arange(40, dtype=np.uint64),
        num_tokens=3,
        vocab_size=3,
        device=torch.device("cpu"),
        known_BT=known,
    )
    np.testing.assert_allclose(trace["log_prob"].sum(dim=1), math.log(table[0, 2, 1]))
    assert len(np.unique(trace["step"], axis=0)) == 6  # all orders were drawn


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
    sampler = MaskedSampler(name="masked")
    p_BTV = probabilities(logits.expand(num, 1, 4), 2.0, sampler)
    ids = draw_ids(p_BTV, torch.from_numpy(first))
    p = (logits / 2).softmax(dim=-1)[0, 0]
    counts = torch.bincount(ids.flatten(), minlength=4)
    chi_square = float(((counts - num * p) ** 2 / (num * p)).sum())
    assert chi_square < 16.3  # 0.1 % of the chi-square distribution with 3 degrees of freedom
    trace = told(p_BTV, ids, step=0)
    np.testing.assert_allclose(trace["probability"][:, 0], p[ids[:, 0]])
    np.testing.assert_allclose(trace["entropy"][0, 0], -(p * p.log2()).sum())


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
    [
        ("steps", 0),
        ("steps", 1.5),
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("top_k", 0),
        ("confidence", "logits"),
        ("schedule", "arcsin"),
        ("annealing", "none"),
        ("softmax_temperature", (1.0, 0.0)),
        ("softmax_temperature", (1.0,)),
    ],
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
    network = build(MaskGit, seed=0, **SIZES.arguments())
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
    module.networks = torch.nn.ModuleDict({NETWORK: build(MaskGit, seed=0, **SIZES.arguments())})
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
