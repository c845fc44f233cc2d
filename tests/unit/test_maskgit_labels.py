"""MaskGIT under labels: training, guided sampling beside a slow reference, scores, refusals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from imagegram.conditions.label import LabelCondition
from imagegram.errors import ConfigError
from imagegram.generators.learned import Architecture
from imagegram.generators.maskgit.backbones import make_fresh
from imagegram.generators.maskgit.generator import MaskGitGenerator
from imagegram.generators.maskgit.network import MaskGit
from imagegram.generators.maskgit.objective import BACKBONES, MaskedPrediction
from imagegram.generators.maskgit.sampling import sample_chunks, score_rows
from imagegram.models.cores import one_core
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.masked import MaskedSampler
from imagegram.seeding import uniforms
from imagegram.store.fingerprint import identity
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

V, T, K = 7, 6, 3
SIZES = Architecture(vocab_size=V, num_tokens=T, width=16, depth=1, num_heads=2, num_classes=K)
LABEL = LabelCondition(name="label")
LAYOUT: Any = dataclasses.make_dataclass("Layout", ["num_tokens"])(3)
#: Documents count from the number of their label.
ROWS = {"one": (1, 2, 3), "two": (2, 3, 4), "zero": (0, 1, 2)}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@pytest.fixture(scope="module", params=BACKBONES)
def network(request: pytest.FixtureRequest) -> Any:
    made = make_fresh(request.param, seed=5, **SIZES.arguments())
    with torch.no_grad():  # weights as large as a trained network's
        if isinstance(made, MaskGit):
            made.to_logits.weight.mul_(20)
        else:
            for weight in made.parameters():
                weight.mul_(8 if weight.ndim > 1 else 1)
            (head,) = [p for name, p in made.named_parameters() if name.endswith("head.weight")]
            head.mul_(20)
    return made.eval()


def sampler(steps: int = 4, **fields: Any) -> MaskedSampler:
    guidance = Guidance(**fields.pop("guidance", {}))
    return MaskedSampler(name="masked", steps=steps, guidance=guidance, **fields)


def sample(network: Any, how: MaskedSampler, samples: Any, classes: Any) -> dict[str, Any]:
    """One chunk of any size."""
    given = ([np.array(samples, np.uint64)], [np.array(classes)])
    (made,) = sample_chunks(network, *given, sampler=how, seed=9)
    return made


# --------------------------------------------------------------------------- guidance and sampling


def test_guided_rows_are_filled_in_as_by_two_whole_passes(network: Any) -> None:
    """The reference fills in one row, in random order, one pass for each class."""
    how = sampler(
        guidance={"scale": 2.5, "schedule": "power_cosine", "power": 1.5},
        confidence="random",
        temperature=1.5,
        annealing="constant",
    )
    samples, classes = [3, 2**40, 7], [2, 0, 1]
    drawn = sample(network, how, samples, classes)
    for row, number in enumerate(samples):
        ids = torch.full((1, T), V)
        for step in range(4):
            hidden = [t for t in range(T) if ids[0, t] == V]
            with torch.no_grad():
                under, without = (
                    network(ids, torch.tensor([which]))[0].double() for which in (classes[row], K)
                )
            logits = without + how.guidance.at(step, 4) * (under - without)
            noise = {t: uniforms(seed=9, sample=number, position=t, step=step) for t in range(T)}
            order = sorted(hidden, key=lambda t: noise[t][1])
            for t in order[min(how.num_masked(step, T), len(hidden) - 1) :]:
                sums = (logits[t] / 1.5).softmax(dim=-1).cumsum(dim=-1).numpy()
                ids[0, t] = int(np.searchsorted(sums, noise[t][0], side="right"))
                assert drawn["step"][row, t] == step
                log_prob = float(under[t].log_softmax(dim=-1)[ids[0, t]])  # unguided
                assert drawn["log_prob"][row, t] == pytest.approx(log_prob, abs=1e-5)
        assert ids[0].tolist() == drawn["tokens"][row].tolist()


def test_a_scale_of_one_is_one_pass(network: Any) -> None:
    rows: list[int] = []
    hook = network.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    classes = [0, 1, 2, 0, 1]
    try:
        one, plain, two, rising = (
            sample(network, sampler(guidance=guidance), range(5), classes)["probability"]
            for guidance in (
                {"scale": 1.0, "schedule": "linear"},
                {},
                {"scale": 4.0},
                {"scale": 4.0, "schedule": "linear"},
            )
        )
    finally:
        hook.remove()
    assert rows == [5] * 8 + [10] * 4 + [5, 10, 10, 10]
    np.testing.assert_array_equal(one, plain)
    assert (two != plain).any()
    assert (rising != two).any()


def test_given_tokens_have_the_trace_of_their_samples(network: Any) -> None:
    how = sampler(confidence="random", temperature=1.0, guidance={"scale": 3.0})
    samples, classes = np.array([5, 0, 2**63], np.uint64), np.array([1, 2, K])
    drawn = sample(network, how, samples, classes)
    tokens, labels = torch.from_numpy(drawn["tokens"]), torch.from_numpy(classes)
    scored = score_rows(network, tokens, labels, sampler=how, seed=9, samples_B=samples)
    for name, array in scored.items():
        np.testing.assert_array_equal(array, drawn[name], err_msg=name)


# ------------------------------------------------------------------------------------ whole models


def generator(**fields: Any) -> MaskGitGenerator:
    how = Optimization(steps=300, batch_size=16, learning_rate=5e-3, warmup_steps=10)
    sizes = {"width": 16, "depth": 1, "num_heads": 2, "labels": "label", "label_smoothing": 0.0}
    return MaskGitGenerator(**{"optimization": how, **sizes, **fields})


def test_labels_are_hidden_from_a_share_of_the_documents() -> None:
    task = MaskedPrediction(
        architecture=SIZES, label_smoothing=0.1, unmasked_weight=0.1, label_dropout=0.25
    )
    items = np.ones((4000, T + 1), np.int32)
    ids, masked, _, classes = task.batch(items, np.random.default_rng(0))
    assert ids.shape == masked.shape == (4000, T)
    assert set(classes.tolist()) == {1, K}
    assert 0.22 < (classes == K).mean() < 0.28
    plain = dataclasses.replace(task, architecture=dataclasses.replace(SIZES, num_classes=0))
    same = plain.batch(items[:, :-1], np.random.default_rng(0))
    for ours, theirs in zip((ids, masked), same, strict=False):
        np.testing.assert_array_equal(ours, theirs)  # a label changes no mask
    assert "backbone" not in identity(plain)
    assert identity(dataclasses.replace(plain, backbone="bert"))["backbone"] == "bert"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_samples_are_of_the_label_that_is_asked_for(backbone: str, tmp_path: Any) -> None:
    names = ("zero", "one", "two") * 8
    shard = FakeTokenShard(rows=tuple(ROWS[name] for name in names), labels=names, length=3)
    tokens, index = context(tmp_path).make(FakeTokens(parts=(shard,))), None
    fit = generator(backbone=backbone, label_dropout=0.25).fit(tokens, index=index)
    trained: Any = context(tmp_path).make(fit)
    assert trained.classes == ("one", "two", "zero")
    samples = np.arange(30, dtype=np.uint64)
    any_order = sampler(steps=3, confidence="random", temperature=1.0, annealing="constant")
    ask = {"sampler": any_order, "layout": LAYOUT, "seed": 1}
    every, _ = trained.generate(samples, condition=LABEL, **ask)
    expected = np.array(list(ROWS.values()))[samples % 3]
    assert (every == expected).mean() > 0.8
    some, _ = trained.generate(samples[[29, 4]], condition=LABEL, **ask)
    np.testing.assert_array_equal(some, every[[29, 4]])
    plain, _ = trained.generate(samples, **ask)
    assert {1, 2, 3} <= set(plain[:, 1].tolist())
    two = dataclasses.replace(LABEL, label="two")
    strict = sampler(guidance={"scale": 3.0}, temperature=1.0)
    guided, _ = trained.generate(samples, condition=two, **{**ask, "sampler": strict})
    apart, _ = trained.generate(samples[[17]], condition=two, **{**ask, "sampler": strict})
    np.testing.assert_array_equal(apart, guided[[17]])
    own, other = (
        trained.score(
            np.array([ROWS["two"]], np.uint16),
            condition=dataclasses.replace(LABEL, label=label),
            **ask,
        )["log_prob"].sum()
        for label in ("two", "zero")
    )
    assert own > other + 2
    with pytest.raises(ConfigError, match=r"condition\.label=three: no training image has it"):
        trained.generate(samples, condition=dataclasses.replace(LABEL, label="three"), **ask)


@pytest.mark.parametrize("backbone", ["bert", "uvit"])
def test_checkpointing_changes_no_bit(backbone: str, tmp_path: Any) -> None:
    """Dropout is drawn again as it was."""
    files, index = [], None
    for checkpointing in (False, True):
        made_in = context(tmp_path / str(checkpointing))
        shard = FakeTokenShard(rows=tuple(ROWS.values()), labels=tuple(ROWS), length=3)
        tokens = made_in.make(FakeTokens(parts=(shard,)))
        trainer = TrainerOptions(gradient_checkpointing=checkpointing, accelerator="cpu")
        how = Optimization(steps=4, batch_size=8, learning_rate=1e-2)
        given = generator(backbone=backbone, depth=3, trainer=trainer, optimization=how)
        trained: Any = made_in.make(given.fit(tokens, index=index))
        files.append(load_file(trained.artifact.path / "model.safetensors"))
    assert files[0].keys() == files[1].keys()
    for name, tensor in files[0].items():
        assert torch.equal(tensor, files[1][name]), name


def test_what_no_label_can_mean_is_refused_when_composed() -> None:
    learned, blind, bound = generator(), generator(labels=None), generator(label_dropout=0.0)
    guided_by = sampler(guidance={"scale": 2.0})
    learned.check(guided_by, LAYOUT, LABEL)
    learned.check(sampler(), LAYOUT, None)
    bound.check(sampler(), LAYOUT, LABEL)
    for given, how, condition, words in (
        (blind, sampler(), LABEL, r"generator=maskgit learns no labels.*generator\.labels=KEY"),
        (learned, guided_by, None, r"none is asked for; type condition=label, or"),
        (bound, guided_by, LABEL, r"label_dropout=0\.1"),
        (bound, sampler(), None, r"or condition=label"),
    ):
        with pytest.raises(ConfigError, match=words):
            given.check(how, LAYOUT, condition)
