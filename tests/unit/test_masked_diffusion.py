"""Masked diffusion: documents of any length, a loss and scores that bound the code length."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagegram.conditions.prompt import GivenTokens
from imagegram.errors import ConfigError
from imagegram.generators.maskgit.backbones import make_fresh
from imagegram.generators.maskgit.generator import MaskGitGenerator
from imagegram.generators.maskgit.objective import BACKBONES, MaskedPrediction
from imagegram.generators.maskgit.published import sizes_in
from imagegram.generators.maskgit.ragged import count_lengths
from imagegram.generators.maskgit.sampling import sample_chunks, score_rows
from imagegram.generators.maskgit.sizes import RaggedSizes
from imagegram.generators.maskgit.training import NETWORK
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import shapes_of
from imagegram.models.cores import one_core
from imagegram.records import EOS_TOKEN_ID, row_sizes
from imagegram.samplers.masked import CONFIDENCE, SCHEDULES, MaskedSampler
from imagegram.training.optimization import Optimization
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

V, T, END = 3, 3, EOS_TOKEN_ID
SIZES = RaggedSizes(vocab_size=V, num_tokens=T, width=8, depth=1, num_heads=2)
TASK = MaskedPrediction(
    architecture=SIZES, label_smoothing=0.0, unmasked_weight=0.0, rates="uniform"
)
RANDOM = MaskedSampler(
    name="diffusion", steps=T, schedule="linear", temperature=1.0, confidence="random"
)
#: All documents of up to T tokens, V behind their end.
ALL = [
    [*row, *[V] * (T - size)]
    for size in range(T + 1)
    for row in itertools.product(range(V), repeat=size)
]
HOW = Optimization(steps=1, batch_size=1, learning_rate=1e-3)
LENGTHS = torch.tensor([0.1, 0.2, 0.3, 0.4])


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def network(backbone: str = "transformer", **sizes: Any) -> Any:
    """A network whose conditionals are far from uniform."""
    how = SIZES.arguments() | sizes
    found: Any = make_fresh(backbone, seed=1, **how)
    found.lengths.copy_(LENGTHS if how["num_tokens"] == T else found.lengths)
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if name.startswith(("to_logits", "lm_head", "model.lm_head")):
                parameter.mul_(20)
    return found.eval()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_stands_behind_the_end_changes_no_bit_of_loss_and_gradients(backbone: str) -> None:
    module: Any = dataclasses.replace(TASK, backbone=backbone).module()
    module.log = lambda *_: None
    module.networks = torch.nn.ModuleDict({NETWORK: network(backbone)})
    items = np.array([[1, 2, END], [0, END, END], [2, 2, 0]], np.uint16)
    batch = TASK.batch(items, np.random.default_rng(0))
    found = []
    for filler in (0, 2):
        ids, masked, weights, there = map(torch.from_numpy, batch)
        module.zero_grad()
        loss = module.training_step((ids.masked_fill(~there, filler), masked, weights, there), 0)
        loss.backward()
        found.append((loss.detach(), [p.grad for p in module.networks.parameters()]))
    (loss, gradients), (again, others) = found
    assert loss > 0
    assert torch.equal(loss, again)
    for mine, other in zip(gradients, others, strict=True):
        assert (mine is None and other is None) or torch.equal(mine, other)


@torch.no_grad()
def slow_bits(model: Any, row: list[int]) -> float:
    """Nats of a document given its length: n times the mean loss of k masked ones, over all k."""
    size, total = row.index(V) if V in row else len(row), 0.0
    there = torch.arange(T)[None] < size
    for count in range(1, size + 1):
        subsets = list(itertools.combinations(range(size), count))
        for subset in subsets:
            ids = torch.tensor([[V if p in subset else min(row[p], V - 1) for p in range(T)]])
            log_p = model(ids, None, there)[0].double().log_softmax(-1)
            losses = [-float(log_p[place, row[place]]) for place in subset]
            total += sum(losses) / count / len(subsets)
    return total


def test_the_loss_is_the_bound_of_the_code_length() -> None:
    """Documents of two lengths; the mean over masks against all masks, one by one."""
    module: Any = TASK.module()
    module.log = lambda *_: None
    model = network()
    module.networks = torch.nn.ModuleDict({NETWORK: model})
    rows = [[1, 2, V], [0, 2, 1]]
    expected = sum(slow_bits(model, row) for row in rows) / 5  # nats of one of five tokens
    items = np.array([[1, 2, END], [0, 2, 1]] * 4000, np.uint16)
    with torch.no_grad():
        batch = tuple(map(torch.from_numpy, TASK.batch(items, np.random.default_rng(0))))
        found = float(module.training_step(batch, 0))
    assert found == pytest.approx(expected, rel=0.03)


def test_every_share_of_masks_is_as_likely() -> None:
    items = np.zeros((6000, T), np.uint16)
    ids, masked, weights, there = TASK.batch(items, np.random.default_rng(0))
    assert there.all()
    counts = masked.sum(axis=1)
    assert np.bincount(counts, minlength=T + 1).tolist() == [0, 2000, 2000, 2000]
    np.testing.assert_allclose(weights, masked * (T / counts)[:, None], rtol=1e-6)
    assert weights.mean() == pytest.approx(1.0)
    assert ids.dtype == np.int64


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("steps", [1, 2, T])
def test_probabilities_of_all_documents_sum_to_one(backbone: str, steps: int) -> None:
    """In the order of one sample, whatever it is: lengths and ends are among them."""
    model, sampler = network(backbone), dataclasses.replace(RANDOM, steps=steps)
    rows = torch.tensor(ALL)
    for sample in (0, 5, 2**60):
        samples = np.full(len(rows), sample, np.uint64)
        classes = torch.zeros(len(rows), dtype=torch.int64)
        trace = score_rows(model, rows, classes, sampler=sampler, seed=3, samples_B=samples)
        total = np.exp(trace["log_prob"].sum(axis=1)).sum()
        assert total == pytest.approx(1.0, abs=1e-6)
        spread = np.exp(trace["log_prob"].sum(axis=1))[-(V**T) :]
        assert spread.max() > 2 * spread.min()  # not because all are alike


def test_the_mean_over_orders_is_the_bound_of_the_loss() -> None:
    model = network()
    for row in ([1, 2, V], [2, 0, 1]):
        rows = torch.tensor([row] * 600)
        samples = np.arange(600, dtype=np.uint64)
        classes = torch.zeros(600, dtype=torch.int64)
        trace = score_rows(model, rows, classes, sampler=RANDOM, seed=0, samples_B=samples)
        size = T if V not in row else row.index(V)
        nats = -trace["log_prob"].sum(axis=1).mean() + math.log(LENGTHS[size])
        assert nats == pytest.approx(slow_bits(model, row), rel=0.03)


def test_a_length_is_told_at_the_end_or_with_the_last_token() -> None:
    rows = torch.tensor([[V, V, V], [1, V, V], [1, 0, 2]])
    samples = np.zeros(3, np.uint64)
    classes = torch.zeros(3, dtype=torch.int64)
    model = network()
    trace = score_rows(model, rows, classes, sampler=RANDOM, seed=0, samples_B=samples)
    assert trace["log_prob"][0].tolist() == pytest.approx([math.log(0.1), 0, 0])
    assert trace["log_prob"][1, 1:].tolist() == pytest.approx([math.log(0.2), 0])
    assert trace["probability"][:, 1].tolist()[:2] == pytest.approx([0, 0.2])
    assert (trace["step"][0] == 0).all()
    certain = network()
    certain.lengths.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    other = score_rows(
        certain, rows[2:], classes[2:], sampler=RANDOM, seed=0, samples_B=samples[2:]
    )
    difference = trace["log_prob"][2] - other["log_prob"][0]
    np.testing.assert_allclose(difference, [0, 0, math.log(0.4)], atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("confidence", CONFIDENCE)
@pytest.mark.parametrize("steps", [1, 3, 9])
def test_rows_of_any_length_and_prompt_are_filled_in(
    schedule: str, confidence: str, steps: int
) -> None:
    """No mask is left, prompts stay, and a row depends on its own number and prompt alone."""
    model = network(num_tokens=6)
    sampler = MaskedSampler(
        name="masked", steps=steps, schedule=schedule, temperature=2.0, confidence=confidence
    )
    prompts = GivenTokens(rows=((), (2, 0), (1,) * 6, (0,)))

    def fill(numbers: list[int]) -> dict[str, Any]:
        samples = np.array(numbers, np.uint64)
        given = prompts.of_samples(samples, num_tokens=6)
        classes = np.zeros(len(samples), np.int64)
        how: Any = {"sampler": sampler, "seed": 3, "prompts": [given]}
        (made,) = sample_chunks(model, [samples], [classes], **how)
        return made

    whole = fill(list(range(40)))
    is_end = whole["tokens"] == V
    assert (is_end[:, :-1] <= is_end[:, 1:]).all()
    sizes = (~is_end).sum(axis=1)
    assert len(set(sizes[::4].tolist())) > 3
    assert (sizes[1::4] > 2).all()
    assert (whole["tokens"][1::4, :2] == [2, 0]).all()
    assert (whole["tokens"][2::4] == 1).all()
    assert whole["step"].max() < min(steps, 6)
    assert (whole["probability"][1::4, :2] == 1).all()
    assert whole["tokens"].max() <= V
    alone = fill([9])
    for name, values in alone.items():
        np.testing.assert_array_equal(values[0], whole[name][9], err_msg=name)


def test_lengths_are_counted_and_none_is_impossible(tmp_path: Path) -> None:
    shard = FakeTokenShard(rows=((1,) * 5, (2,), (1, 2)), length=None)
    tokens = context(tmp_path).make(FakeTokens(parts=(shard,)))
    windows: Any = dataclasses.replace(tokens, window=T).windows()
    counted = Items(windows)
    # Windows of 3, 2, 1 and 2 tokens.
    np.testing.assert_allclose(count_lengths(counted, T), np.array([1, 2, 3, 2]) / 8)


@dataclasses.dataclass
class Items:
    rows: Any

    def __len__(self) -> int:
        return int(self.rows.num_documents)

    def gather(self, rows: Any) -> Any:
        return self.rows.gather(rows)

    def identity(self) -> Any:
        return None


@pytest.mark.parametrize("backbone", BACKBONES)
def test_weights_tell_that_documents_differ_in_length(backbone: str) -> None:
    found = sizes_in(shapes_of(network(backbone).state_dict()), backbone=backbone, setting="x")
    assert isinstance(found, RaggedSizes)
    assert (found.num_tokens, found.vocab_size) == (T, V)
    even: Any = make_fresh(backbone, seed=0, **SIZES.arguments() | {"ragged": False})
    assert not isinstance(
        sizes_in(shapes_of(even.state_dict()), backbone=backbone, setting="x"), RaggedSizes
    )


def test_it_learns_documents_of_two_lengths(tmp_path: Path) -> None:
    """Documents count upwards from a random digit, modulo 4; half of them end early."""
    rows = [tuple((first + step) % 4 for step in range(6)) for first in range(4)]
    rows += [row[:3] for row in rows]
    shard = FakeTokenShard(rows=tuple(rows * 8), length=None)
    tokens = context(tmp_path).make(FakeTokens(parts=(shard,)))
    tokens = dataclasses.replace(tokens, window=6)
    generator = MaskGitGenerator(
        width=32,
        depth=2,
        num_heads=2,
        backbone="local",
        label_smoothing=0.0,
        unmasked_weight=0.0,
        rates="uniform",
        optimization=dataclasses.replace(
            HOW, steps=120, batch_size=32, learning_rate=5e-3, warmup_steps=20, ema_decay=0.95
        ),
    )
    index: Any = None
    model = context(tmp_path).make(generator.fit(tokens, index=index))
    layout = TokenLayout.sequence(6, order="raster")
    sampler = dataclasses.replace(RANDOM, steps=6, annealing="constant")
    how: Any = {"sampler": sampler, "layout": layout, "seed": 0}
    ids, trace = model.generate(np.arange(64, dtype=np.uint64), **how)
    legal = [
        b == (a + 1) % 4
        for row, size in zip(ids.tolist(), row_sizes(ids), strict=True)
        for a, b in itertools.pairwise(row[:size])
    ]
    assert np.mean(legal) > 0.6  # chance: 0.25
    assert 0.3 < (row_sizes(ids) == 3).mean() < 0.7
    again = model.score(ids, **how)
    np.testing.assert_array_equal(again["log_prob"], trace["log_prob"])
    documents = tokens.windows().gather(np.arange(8))
    bits = -model.score(documents, **how)["log_prob"].sum(axis=1) / math.log(2)
    assert 3 <= bits.mean() < 6  # one of eight documents; by lengths and ids alone, ten
    prompt = GivenTokens(rows=((1, 2), ()))
    ids, trace = model.generate(np.arange(40, dtype=np.uint64), condition=prompt, **how)
    assert (ids[::2, :2] == [1, 2]).all()
    assert (ids[::2, 2] == 3).mean() > 0.5
    assert trace["is_prompt"].sum(axis=1).tolist() == [2, 0] * 20


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rates": "linear"}, "generator.rates='linear'"),
        ({"rates": "uniform"}, "type generator.label_smoothing=0 generator.unmasked_weight=0"),
    ],
)
def test_what_is_no_bound_is_refused(fields: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MaskGitGenerator(optimization=HOW, **fields)
