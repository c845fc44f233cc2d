"""Autoregressive: who sees whom, the cache, truncation, orders, ends, and that it learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.generators.autoregressive.network import Autoregressive
from imagegram.generators.autoregressive.objective import NextToken
from imagegram.generators.autoregressive.sampling import draw_rows, score_rows
from imagegram.generators.autoregressive.training import NETWORK
from imagegram.generators.drawing import draw_ids, probabilities
from imagegram.generators.learned import Architecture
from imagegram.models.cores import one_core
from imagegram.models.transformer import build
from imagegram.records import EOS_TOKEN_ID
from imagegram.samplers.sequential import SequentialSampler
from imagegram.samplers.truncation import truncate
from imagegram.seeding import uniforms
from imagegram.training.optimization import Optimization
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

V, T = 7, 6
SIZES = Architecture(vocab_size=V, num_tokens=T, width=16, depth=2, num_heads=2)
PLAIN = SequentialSampler(name="raster", temperature=1.0)
NONE = np.zeros(64, np.int64)  # the class of every row, where a network knows none


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core(), torch.no_grad():
        yield


@pytest.fixture(scope="module")
def network() -> Autoregressive:
    made = build(Autoregressive, seed=5, **SIZES.arguments())
    assert isinstance(made, Autoregressive)
    with torch.no_grad():  # logits as large as a trained network's
        made.to_logits.weight.mul_(20)
    return made.eval()


def some_ids(rows: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, V, (rows, T), generator=torch.Generator().manual_seed(seed))


def logits(network: Autoregressive, ids: torch.Tensor, order: Any = None) -> torch.Tensor:
    return network.to_logits(network(ids, order))


def test_a_step_sees_the_tokens_before_it_and_no_others(network: Autoregressive) -> None:
    ids = some_ids(1)
    for place in range(T):
        other = ids.clone()
        other[0, place] = (ids[0, place] + 1) % V
        equal = (logits(network, ids) == logits(network, other)).all(dim=-1)[0].tolist()
        assert equal == [step <= place for step in range(T)]


def test_cached_logits_are_those_of_the_whole_row(network: Autoregressive) -> None:
    ids = some_ids()
    whole = logits(network, ids)
    steps = network.begin(torch.zeros(len(ids), dtype=torch.int64))
    for step in range(T):
        last = None if step == 0 else ids[:, step - 1]
        torch.testing.assert_close(
            network.step(last, step, steps), whole[:, step], atol=1e-5, rtol=1e-5
        )


def test_raster_order_is_the_identity_permutation(network: Autoregressive) -> None:
    ids, order = some_ids(), torch.arange(T).expand(3, T)
    torch.testing.assert_close(logits(network, ids, order), logits(network, ids))


def test_orders_with_one_beginning_differ_by_their_target_alone(network: Autoregressive) -> None:
    ids = some_ids(1)
    left, right = torch.tensor([[2, 0, 1, 3, 4, 5]]), torch.tensor([[2, 0, 4, 1, 3, 5]])
    one, two = logits(network, ids, left), logits(network, ids, right)
    torch.testing.assert_close(one[:, :2], two[:, :2])
    assert not torch.allclose(one[:, 2], two[:, 2])
    same = build(Autoregressive, seed=5, **SIZES.arguments())
    same.targets.zero_()
    torch.testing.assert_close(logits(same, ids, left)[:, :3], logits(same, ids, right)[:, :3])


@given(
    weights=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    top_k=st.sampled_from([None, 1, 2, 5, 40]),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.1]),
    min_p=st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=100)
def test_probabilities_are_the_scalar_definition(
    weights: list[int], temperature: float, top_k: int | None, top_p: float, min_p: float
) -> None:
    sampler = SequentialSampler(
        name="x", temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    )
    logits_V = np.log(np.array(weights, np.float64))
    found = probabilities(torch.from_numpy(logits_V), temperature, sampler).numpy()
    largest = int(np.argmax(weights))
    if temperature == 0.0:
        expected = np.eye(len(weights))[largest]
    else:
        expected = np.exp((logits_V - logits_V.max()) / temperature)
        kept = np.sort(expected)[::-1][:top_k]  # the share of a token is that among these
        shares = np.cumsum(kept) / kept.sum()
        if top_p < 1 and np.isclose(shares, top_p).any():
            return  # rounding decides
        truncate(expected, largest, top_k or 0, top_p, min_p)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_an_impossible_id_is_never_drawn() -> None:
    p = torch.tensor([[0.0, 0.5, 0.5, 0.0]], dtype=torch.float64).expand(4, 4)
    uniform = torch.tensor([0.0, 0.499999, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert draw_ids(p, uniform).tolist() == [1, 1, 2, 2]


def test_rows_are_drawn_by_their_own_uniforms(network: Autoregressive) -> None:
    """The reference draws one row, one position at a time, without a cache."""
    samples = np.array([3, 2**40], np.uint64)
    drawn = draw_rows(network, samples, NONE[:2], sampler=PLAIN, seed=9, end=None)
    check_drawn(network, drawn, samples, until=[0, 0])


def test_prompts_are_continued_as_without_a_cache(network: Autoregressive) -> None:
    samples = np.array([3, 2**40, 3], np.uint64)
    given = some_ids().numpy()[:3].astype(np.uint16)
    until = np.array([2, T, 0])
    drawn = draw_rows(
        network, samples, NONE[:3], sampler=PLAIN, seed=9, end=None, prompts_B=(given, until)
    )
    for row, size in enumerate(until.tolist()):
        assert drawn[row, :size].tolist() == given[row, :size].tolist()
    check_drawn(network, drawn, samples, until=until.tolist())
    cut = given[:, : T - 1], np.minimum(until, T - 1)
    shorter = draw_rows(network, samples, NONE[:3], sampler=PLAIN, seed=9, end=None, prompts_B=cut)
    assert torch.equal(shorter, drawn[:, : T - 1])


def check_drawn(
    network: Autoregressive, drawn: torch.Tensor, samples: np.ndarray, *, until: list[int]
) -> None:
    for row, sample in enumerate(samples.tolist()):
        ids = torch.zeros(1, T, dtype=torch.int64)
        ids[0, : until[row]] = drawn[row, : until[row]]
        for position in range(until[row], T):
            p = logits(network, ids)[0, position].double().softmax(dim=-1).numpy()
            uniform, _ = uniforms(seed=9, sample=sample, position=position)
            ids[0, position] = int(np.searchsorted(np.cumsum(p), uniform, side="right"))
        assert ids[0].tolist() == drawn[row].tolist()


def test_log_probabilities_are_those_of_the_softmax(network: Autoregressive) -> None:
    ids = some_ids()
    found = score_rows(network, ids)
    log_p = logits(network, ids).double().log_softmax(dim=-1)
    expected = log_p.gather(-1, ids[..., None])[..., 0]
    np.testing.assert_allclose(found["log_prob"], expected, rtol=1e-5)
    bits = -(log_p.exp() * log_p).sum(dim=-1) / np.log(2)
    np.testing.assert_allclose(found["entropy"], bits, rtol=1e-5)


def test_what_comes_behind_an_end_is_an_end(network: Autoregressive) -> None:
    samples = np.arange(64, dtype=np.uint64)
    drawn = draw_rows(network, samples, NONE, sampler=PLAIN, seed=0, end=V - 1)
    is_end = drawn == V - 1
    assert is_end.any()
    assert not is_end.all()
    assert torch.equal(is_end.cummax(dim=1).values, is_end)


@pytest.mark.parametrize("anneal", [(0.0, 0.0), (0.5, 0.75), (1.0, 1.0)])
def test_batches_hold_orders_while_they_may_be_permuted(anneal: tuple[float, float]) -> None:
    objective = NextToken(architecture=SIZES, anneal=anneal, ends=False)
    batch = objective.batch(np.zeros((5, T), np.uint16), np.random.default_rng(0))
    assert len(batch) == (2 if anneal == (0.0, 0.0) else 4)
    assert (batch[1] == 1).all()
    if len(batch) == 4:
        assert np.array_equal(np.sort(batch[2], axis=1), np.tile(np.arange(T), (5, 1)))
    ends = NextToken(architecture=SIZES, anneal=(0.0, 0.0), ends=True)
    rows = np.array([[1, EOS_TOKEN_ID, EOS_TOKEN_ID], [1, 2, 3]], np.uint16)
    ids, weights = ends.batch(rows, np.random.default_rng(0))
    assert ids.tolist() == [[1, V - 1, V - 1], [1, 2, 3]]
    np.testing.assert_allclose(weights, np.array([[1, 1, 0], [1, 1, 1]]) * 6 / 5)


@pytest.mark.parametrize("anneal", [(0.0, 0.0), (1.0, 1.0)])
def test_the_loss_of_a_step_is_the_mean_of_its_pieces(
    network: Autoregressive, anneal: tuple[float, float]
) -> None:
    objective = NextToken(architecture=SIZES, anneal=anneal, ends=True)
    module: Any = objective.module()
    module.log = lambda *_: None
    module.networks = torch.nn.ModuleDict({NETWORK: network})
    module.course = SimpleNamespace(optimization=OPTIMIZATION, first_step=0, batches_per_step=1)
    rng = np.random.default_rng(0)
    items = rng.integers(0, V, (8, T)).astype(np.uint16)
    batch = tuple(map(torch.from_numpy, objective.batch(items, rng)))

    def loss(rows: slice) -> torch.Tensor:
        found: torch.Tensor = module.training_step(tuple(array[rows] for array in batch), 0)
        return found

    halves = loss(slice(0, None, 2)), loss(slice(1, None, 2))
    torch.testing.assert_close(loss(slice(None)), (halves[0] + halves[1]) / 2)
    counted = batch[1] > 0
    assert not counted.all()
    if anneal == (0.0, 0.0):
        log_p = network.to_logits(network(batch[0], None)).log_softmax(dim=-1)
        own = -log_p.gather(2, batch[0][:, :, None])[:, :, 0]
        torch.testing.assert_close(loss(slice(None)), own[counted].mean())


OPTIMIZATION = Optimization(
    steps=300, batch_size=16, learning_rate=1e-2, final_learning_rate=1e-4, warmup_steps=10
)


def trained(tmp_path: Path, rows: Any, *, length: int | None = 4, **fields: Any) -> Any:
    shard = FakeTokenShard(rows=tuple(tuple(map(int, row)) for row in rows), length=length)
    tokens = context(tmp_path).make(FakeTokens(parts=(shard,)))
    tokens = dataclasses.replace(tokens, window=4)
    generator = AutoregressiveGenerator(
        width=16, depth=1, num_heads=2, optimization=OPTIMIZATION, **fields
    )
    index: Any = None
    return context(tmp_path).make(generator.fit(tokens, index=index))


def bits_per_row(model: Any, rows: NDArray[Any]) -> NDArray[Any]:
    layout: Any = None
    scored = model.score(rows.astype(np.uint16), sampler=PLAIN, layout=layout, seed=0)
    return np.asarray(-scored["log_prob"].sum(axis=1) / np.log(2))


@pytest.mark.parametrize("anneal", [(0.0, 0.0), (0.3, 0.6)])
def test_it_learns_what_follows(tmp_path: Path, anneal: tuple[float, float]) -> None:
    """Rows count upwards from a random digit: 3 bits for the first token, none for the others."""
    with torch.enable_grad():
        rows = (np.arange(8)[:, None] + np.arange(4)) % 8
        model = trained(tmp_path, np.tile(rows, (4, 1)), anneal=anneal)
    assert bits_per_row(model, rows).mean() < 3.6
    assert bits_per_row(model, rows[:, ::-1]).mean() > 6


def test_documents_that_end_early_are_learned_and_scored(tmp_path: Path) -> None:
    with torch.enable_grad():
        model = trained(tmp_path, [(1, 2), (5, 6, 7, 8)] * 8, length=None)
    end = EOS_TOKEN_ID
    rows = np.array([[1, 2, end, end], [5, 6, 7, 8]])
    assert bits_per_row(model, rows).max() < 1.5
    assert bits_per_row(model, np.array([[1, 2, 7, 8]]))[0] > 4
    layout: Any = dataclasses.make_dataclass("Layout", ["num_tokens"])(4)
    ids, trace = model.generate(
        np.arange(40, dtype=np.uint64), sampler=PLAIN, layout=layout, seed=1
    )
    known = {(1, 2, end, end), (5, 6, 7, 8)}
    assert sum(tuple(row) in known for row in ids.tolist()) > 30
    assert not trace["log_prob"][:, 3][ids[:, 2] == end].any()


@pytest.mark.parametrize("anneal", [(0.5,), (0.7, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_an_anneal_that_cannot_be_is_refused(anneal: Any) -> None:
    with pytest.raises(ConfigError, match=r"generator\.anneal="):
        AutoregressiveGenerator(anneal=anneal, optimization=OPTIMIZATION)
