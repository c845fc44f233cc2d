"""The parts of the torch engine: the definition's bits, intervals by brute force, refusals."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram import seeding
from imagegram.errors import ConfigError, UnsupportedError
from imagegram.generators.ngram.engine import Files, Job
from imagegram.generators.ngram.lockstep import order as torch_order
from imagegram.generators.ngram.lockstep import philox as torch_philox
from imagegram.generators.ngram.lockstep import shape as torch_shape
from imagegram.generators.ngram.lockstep.engine import LockstepEngine
from imagegram.generators.ngram.lockstep.order import MAX_CONTEXT, OrderTensors
from imagegram.generators.ngram.lockstep.shape import SIDE, Shaper
from imagegram.generators.ngram.lockstep.votes import Votes
from imagegram.indexes import torch_device
from imagegram.indexes.build.orders import build_order
from imagegram.indexes.format import IndexShard
from imagegram.indexes.order import Order
from imagegram.layout import TokenLayout
from imagegram.samplers.ngram import distribution
from imagegram.samplers.truncation import entropy_bits
from tests.generation import assert_same, first_samples, fit, sampler
from tests.index_folders import write_index

CPU = torch.device("cpu")
LAYOUT = TokenLayout.pyramid((1, 2))
T = LAYOUT.num_tokens


def documents(count: int, *, vocabulary: int = 4, length: int = T) -> list[list[int]]:
    random = np.random.Generator(np.random.Philox(count))
    return random.integers(0, vocabulary, (count, length)).tolist()


def order_of(folder: Path, corpus: list[list[int]], *, aligned: bool = False) -> Order:
    shard = IndexShard.open(write_index(folder, corpus))
    build_order(shard, folder, aligned=aligned)
    return Order.open(folder, shard=shard, aligned=aligned)


# -------------------------------------------------------------------------------------- arithmetic


@given(
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3),
)
@settings(max_examples=50, deadline=None)
def test_philox_is_the_definition(seed: int, samples: list[int], positions: list[int]) -> None:
    bits = torch.from_numpy(np.array(samples, dtype=np.uint64).view(np.int64))
    found = torch_philox.uniforms(seed=seed, samples_B=bits, positions_P=torch.tensor(positions))
    for p, position in enumerate(positions):
        for b, sample in enumerate(samples):
            expected = seeding.uniforms(seed=seed, sample=sample, position=position)
            assert (found[0][p, b].item(), found[1][p, b].item()) == expected


@given(
    st.lists(
        st.lists(st.integers(1, 10**6) | st.integers(1, SIDE - 1), min_size=1, max_size=90),
        min_size=2,
        max_size=5,
    ),
    st.sampled_from([0.0, 0.001, 0.3, 0.9, 1.0, 2.0]),
    st.sampled_from([None, 1, 2, 7]),
    st.sampled_from([1.0, 0.9, 0.5]) | st.floats(0.01, 0.99),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_shapes_have_the_bits_of_the_definition(
    columns: list[list[int]],
    temperature: float,
    top_k: int | None,
    top_p: float,
    min_p: float,
    bounded: bool,
) -> None:
    if bounded:
        columns = [[min(count, SIDE - 1) for count in column] for column in columns]
    counts_KE = torch.zeros(max(map(len, columns)), len(columns), dtype=torch.int64)
    for e, column in enumerate(columns):
        counts_KE[: len(column), e] = torch.tensor(column)
    knobs = sampler(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    shaped = Shaper(sampler=knobs, device=CPU).shape(counts_KE, bounded=bounded)
    for e, column in enumerate(columns):
        p_K = distribution(np.array(column), temperature, top_k or 0, top_p, min_p)
        found_K = shaped.probability[:, e].numpy()
        np.testing.assert_array_equal(found_K[: len(column)], p_K)
        assert (found_K[len(column) :] == 0).all()
        np.testing.assert_array_equal(shaped.cumulative[: len(column), e], np.cumsum(p_K))
        assert shaped.last[e] == np.flatnonzero(p_K)[-1]
        assert shaped.entropy[e].item() == np.float32(entropy_bits(p_K))


def test_sums_without_an_ordered_cumsum(monkeypatch: pytest.MonkeyPatch) -> None:
    values_KE = torch.from_numpy(np.random.Generator(np.random.Philox(1)).random((400, 3)))
    expected = torch_shape.running_sum(values_KE)
    monkeypatch.setattr(torch_shape, "_adds_in_order", lambda device: False)
    assert torch.equal(torch_shape.running_sum(values_KE), expected)


def test_an_entropy_between_two_floats_is_left_to_the_host(monkeypatch) -> None:
    asked = []

    def host(p_K: np.ndarray) -> float:
        asked.append(p_K.size)
        return entropy_bits(p_K)

    monkeypatch.setattr(torch_shape, "entropy_bits", host)
    random = np.random.Generator(np.random.Philox(2))
    counts_KE = torch.from_numpy(random.integers(1, 200, (200, 50_000)))
    knobs = sampler(temperature=1.0)
    shaped = Shaper(sampler=knobs, device=CPU).shape(counts_KE[:3], bounded=True)
    assert len(asked) < 100  # and most are not
    wide = Shaper(sampler=knobs, device=CPU).shape(counts_KE[:, :2000], bounded=True)
    for shape, counts in ((shaped, counts_KE[:3]), (wide, counts_KE)):
        for e in range(0, 2000, 100):
            p_K = distribution(counts[:, e].numpy(), 1.0, 0, 1.0, 0.0)
            assert shape.entropy[e].item() == np.float32(entropy_bits(p_K))


# --------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("aligned", [False, True])
def test_intervals_by_brute_force(tmp_path: Path, aligned: bool) -> None:
    """Three levels of minima; a skewed pair of tokens, so that intervals have all widths."""
    random = np.random.Generator(np.random.Philox(3))
    corpus = (random.random((550, 63)) < 0.02).astype(int).tolist()
    order = order_of(tmp_path, corpus, aligned=aligned)
    assert len(OrderTensors.load(order, CPU).levels) == 4
    lcp, n = order.lcp.astype(int), order.shard.num_tokens
    ranks = random.integers(0, n, 600)
    depths = random.integers(1, 40, 600)
    lo, hi = OrderTensors.load(order, CPU).interval(torch.tensor(ranks), torch.tensor(depths))
    for rank, depth, a, b in zip(ranks, depths, lo.tolist(), hi.tolist(), strict=True):
        below = np.flatnonzero(lcp < depth)
        assert a == below[below <= rank][-1]
        assert b == min([*below[below > rank][:1], n])


@pytest.mark.parametrize("needed", [2, 3, 7, 10_000])
def test_shortened_contexts_occur_often_enough(tmp_path: Path, needed: int) -> None:
    order = order_of(tmp_path, documents(20, vocabulary=2, length=63) * 2)
    stream, n = order.shard.tokens.tobytes(), order.shard.num_tokens
    random = np.random.Generator(np.random.Philox(4))
    ends = random.integers(40, n + 1, 100)
    lengths = random.integers(0, 40, 100)
    tensors = OrderTensors.load(order, CPU)
    found = tensors.shorten(
        tensors.supported(needed), torch.tensor(ends), torch.tensor(lengths), 40
    )
    for end, length, short in zip(ends, lengths, found.tolist(), strict=True):
        fitting = [
            m
            for m in range(1, length + 1)
            if sum(stream.startswith(stream[2 * (end - m) : 2 * end], 2 * i) for i in range(n))
            >= needed
        ]
        assert short == max(fitting, default=0)


# ------------------------------------------------------------------------------------------ engine


@pytest.mark.parametrize("knobs", [{"max_context": (1, 9)}, {"min_count": 3}, {"max_context": 2}])
def test_a_memory_that_forgets_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knobs: dict[str, object]
) -> None:
    model = fit(tmp_path, [documents(200)], engine="torch")
    wanted = {
        "sampler": sampler(**knobs), "layout": LAYOUT, "samples": first_samples(50), "seed": 3
    }  # fmt: skip
    expected = model.generate(**wanted)
    sizes = []
    forget = Votes.forget_rare

    def forgetful(votes: Votes) -> bool:
        votes.most_groups = 5
        sizes.append(votes._keys.numel())
        return forget(votes)

    monkeypatch.setattr(Votes, "forget_rare", forgetful)
    assert_same(expected, model.generate(**wanted))
    assert max(sizes) > 0


def test_a_fitted_model_generates_and_travels(tmp_path: Path) -> None:
    torch_, naive = (
        fit(tmp_path / engine, [[], documents(9)], engine=engine) for engine in ("torch", "naive")
    )
    wanted = {
        "sampler": sampler(max_context=4), "layout": LAYOUT, "samples": first_samples(3), "seed": 1
    }  # fmt: skip
    expected = naive.generate(**wanted)
    assert_same(expected, torch_.generate(**wanted))
    assert_same(expected, pickle.loads(pickle.dumps(torch_)).generate(**wanted))
    assert torch_.index.count([65535]) == naive.index.count([65535])


def test_refusals_name_the_native_engine(tmp_path: Path) -> None:
    one = fit(tmp_path / "1", [documents(3)], engine="torch")
    two = fit(tmp_path / "2", [documents(3)] * 2, engine="torch")

    def generate(model, layout: TokenLayout = LAYOUT, **knobs: object) -> None:
        model.generate(sampler=sampler(**knobs), layout=layout, samples=first_samples(1), seed=0)

    for model, knobs in (
        (two, {}),
        (one, {"matching": "level"}),
        (one, {"matching": "channel"}),
        (one, {"count_documents": True}),
    ):
        with pytest.raises(UnsupportedError, match=r"generator\.engine=native"):
            generate(model, **knobs)
    with pytest.raises(UnsupportedError, match=rf"max_context={MAX_CONTEXT}"):
        generate(one, TokenLayout.sequence(40_000), max_context=40_000)


def test_an_index_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = order_of(tmp_path, documents(30))
    held = OrderTensors.load(order, CPU)
    tensors = (held.tokens, held.table, held.inverse, held.repeat, *held.levels)
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    asked: list[int] = []
    monkeypatch.setattr(
        torch_order, "require_memory", lambda size, device, what: asked.append(size)
    )
    OrderTensors.load(order, CPU)
    assert asked == [needed]
    monkeypatch.undo()
    monkeypatch.setattr(torch_device, "free_bytes", lambda device: needed)
    with pytest.raises(UnsupportedError, match=r"GB on device cpu.*generator\.engine=native"):
        OrderTensors.load(order, CPU)


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpu:1"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=r"generator\.device"):
        torch_device.choose_device(name)


def test_a_missing_order_is_made(tmp_path: Path) -> None:
    order = order_of(tmp_path, documents(20), aligned=True)
    job = Job(
        sampler=sampler(matching="position", max_context=3),
        layout=LAYOUT,
        samples=first_samples(9),
        seed=2,
        device="cpu",
    )
    given_ = LockstepEngine(files=Files(shards=(order.shard,), orders=(order,)))
    without = LockstepEngine(files=Files(shards=(order.shard,)))
    assert_same(given_.rows(job), without.rows(job))
