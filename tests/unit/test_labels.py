"""Labels of documents in training, in sampling, with guidance, and in the score of documents."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imagegram.conditions.label import LabelCondition
from imagegram.errors import ConfigError
from imagegram.experiment import check_documents
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.generators.autoregressive.network import Autoregressive
from imagegram.generators.autoregressive.objective import NextToken
from imagegram.generators.autoregressive.sampling import draw_rows
from imagegram.generators.drawing import guided
from imagegram.generators.learned import Architecture
from imagegram.generators.maskgit.objective import MaskedPrediction
from imagegram.models.cores import one_core
from imagegram.models.transformer import build
from imagegram.samplers.guidance import SCHEDULES, Guidance
from imagegram.samplers.sequential import SequentialSampler
from imagegram.seeding import uniforms
from imagegram.stages.generate import Replay
from imagegram.stages.planted import Planted
from imagegram.store.artifacts import fingerprint
from imagegram.store.fingerprint import digest, identity
from imagegram.training.optimization import Optimization
from imagegram.training.tokens import TokenData
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

V, T, K = 7, 6, 3
SIZES = Architecture(vocab_size=V, num_tokens=T, width=16, depth=2, num_heads=2, num_classes=K)
OPTIMIZATION = Optimization(
    steps=250, batch_size=16, learning_rate=1e-2, final_learning_rate=1e-4, warmup_steps=10
)
LABEL = LabelCondition(name="label")
#: Documents count from the number of their label.
ROWS = {"zero": (0, 1, 2), "one": (1, 2, 3), "two": (2, 3, 4)}
LAYOUT: Any = dataclasses.make_dataclass("Layout", ["num_tokens"])(3)


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def sampler(temperature: float = 1.0, **guidance: Any) -> SequentialSampler:
    return SequentialSampler(name="raster", temperature=temperature, guidance=Guidance(**guidance))


def token_set(
    root: Path, *labels: str | None, rows: Any = None, length: int | None = 3, window: Any = None
) -> Any:
    documents = tuple(rows or (ROWS[label or "zero"] for label in labels))
    shard = FakeTokenShard(rows=documents, labels=labels, length=length)
    tokens = context(root).make(FakeTokens(parts=(shard,)))
    return dataclasses.replace(tokens, window=window)


def generator(**fields: Any) -> AutoregressiveGenerator:
    sizes = {"width": 16, "depth": 1, "num_heads": 2, "labels": "label"}
    return AutoregressiveGenerator(**{"optimization": OPTIMIZATION, **sizes, **fields})


@pytest.fixture(scope="module")
def network() -> Autoregressive:
    made = build(Autoregressive, seed=5, **SIZES.arguments())
    assert isinstance(made, Autoregressive)
    with torch.no_grad():  # logits as large as a trained network's
        made.to_logits.weight.mul_(20)
    return made.eval()


# ----------------------------------------------------------------------------------- training data


def test_a_document_has_the_number_of_its_label(tmp_path: Path) -> None:
    tokens = token_set(tmp_path, "two", "one", None, "zero")
    held_out = token_set(tmp_path, "one", "two", rows=((5, 5, 5), (6, 6, 6)))
    prepared = TokenData(tokens=tokens, holdout=held_out, labels="label").prepare(context(tmp_path))
    assert prepared.classes == ("one", "two", "zero")
    rows = np.arange(4)
    assert prepared.items.gather(rows)[:, -1].tolist() == [1, 0, 3, 2]
    assert prepared.items.gather(rows)[:, :-1].tolist() == tokens.gather(rows).tolist()
    assert prepared.validation.gather(np.arange(2))[:, -1].tolist() == [0, 1]
    again = pickle.loads(pickle.dumps(prepared.items))
    assert again.gather(rows).tolist() == prepared.items.gather(rows).tolist()


def test_windows_have_the_label_of_their_document(tmp_path: Path) -> None:
    rows = ((1, 2, 3, 4, 5), (6,))
    tokens = token_set(tmp_path, "b", "a", rows=rows, length=None, window=2)
    items = TokenData(tokens=tokens, labels="label").prepare(context(tmp_path)).items
    assert items.gather(np.arange(4))[:, -1].tolist() == [1, 1, 1, 0]


def test_labels_that_are_missing_are_refused(tmp_path: Path) -> None:
    tokens = token_set(tmp_path, "one", None)
    with pytest.raises(ConfigError, match=r"generator\.labels=synset.*keys there: label, place"):
        TokenData(tokens=tokens, labels="synset").prepare(context(tmp_path))
    with pytest.raises(ConfigError, match=r"1 of 2 documents have no label.*label_dropout=0\.1"):
        TokenData(tokens=tokens, labels="label", has_null=False).prepare(context(tmp_path))
    whole, other = token_set(tmp_path, "one", "one"), token_set(tmp_path, "two")
    data = TokenData(tokens=whole, holdout=other, labels="label", has_null=False)
    with pytest.raises(ConfigError, match=r"1 of 1 documents have no label, or none that training"):
        data.prepare(context(tmp_path))
    seen = dataclasses.replace(data, has_null=True).prepare(context(tmp_path))
    assert seen.validation.gather(np.arange(1))[:, -1].tolist() == [1]


def test_a_label_that_no_document_has_is_refused_before_the_training(tmp_path: Path) -> None:
    tokens = token_set(tmp_path, "two", "one", None)
    learner = generator()
    for fine in (None, LABEL, dataclasses.replace(LABEL, label="two")):
        learner.check_documents(tokens, fine)
    mistyped = dataclasses.replace(LABEL, label="tow")
    with pytest.raises(ConfigError, match=r"condition\.label=tow: no training .* mean 'two'"):
        learner.check_documents(tokens, mistyped)
    generator(labels=None).check_documents(tokens, mistyped)
    generator(checkpoint="some/page").check_documents(tokens, mistyped)  # which has its own
    stages = ("tokenize", "generate")
    exp: Any = SimpleNamespace(generator=learner, condition=mistyped, stages=stages)
    with pytest.raises(ConfigError, match="mean 'two'"):
        check_documents(exp, tokens)
    exp.stages = ("tokenize", "fit")
    check_documents(exp, tokens)


def test_labels_are_hidden_from_a_share_of_the_documents() -> None:
    task = NextToken(architecture=SIZES, anneal=(0.0, 0.0), ends=False, label_dropout=0.25)
    items = np.ones((4000, T + 1), np.int32)
    ids, _, classes = task.batch(items, np.random.default_rng(0))
    assert ids.shape == (4000, T)
    assert set(classes.tolist()) == {1, K}
    assert 0.22 < (classes == K).mean() < 0.28
    kept = dataclasses.replace(task, label_dropout=0.0).batch(items, np.random.default_rng(0))[-1]
    assert (kept == 1).all()


def test_a_training_without_labels_is_the_one_it_was(tmp_path: Path) -> None:
    """The digests of objectives from before there were labels."""
    sizes = dataclasses.replace(SIZES, num_classes=0)
    raster = NextToken(architecture=sizes, anneal=(0.0, 0.0), ends=False)
    masked = MaskedPrediction(architecture=sizes, label_smoothing=0.1, unmasked_weight=0.1)
    assert digest(identity(raster)) == "680af6493b1c"
    assert digest(identity(masked)) == "2884612d26af"
    tokens, index = token_set(tmp_path, "one", "two"), None
    plain = generator(labels=None)
    assert set(plain.fit(tokens, index=index).data.identity()) == {"tokens", "holdout"}
    labelled = generator(labels="label")
    digests = {
        fingerprint(each.fit(tokens, index=index))[0]
        for each in (plain, labelled, dataclasses.replace(labelled, label_dropout=0.2))
    }
    assert len(digests) == 3
    unused = dataclasses.replace(plain, label_dropout=0.2)
    assert fingerprint(unused.fit(tokens, index=index))[0] in digests


# --------------------------------------------------------------------------- guidance and sampling


def test_published_schedules_begin_at_one_and_end_at_their_scale() -> None:
    for schedule in ("linear", "power_cosine"):
        guidance = Guidance(scale=4.0, schedule=schedule, power=2.0)
        values = [guidance.at(step, 100) for step in range(100)]
        assert values[0] == 1.0
        assert values == sorted(values)
        assert 3.9 < values[-1] < 4.0
    assert Guidance(scale=2.5).at(3, 8) == 2.5


@pytest.mark.parametrize(
    ("field", "value"), [("scale", -1.0), ("power", -0.5), ("schedule", "cosine")]
)
def test_a_guidance_that_cannot_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"sampler\.guidance\.{field}="):
        Guidance(**{field: value})


def test_no_guidance_is_no_identity() -> None:
    assert "guidance" not in identity(sampler())
    assert identity(sampler(scale=2.0))["guidance"]["scale"] == 2.0


def test_a_scale_of_one_is_one_pass(network: Autoregressive) -> None:
    rows: list[int] = []
    hook = network.transformer.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    samples, classes = np.arange(5, dtype=np.uint64), np.array([0, 1, 2, 0, 1])
    try:
        one, plain, two = (
            draw_rows(network, samples, classes, sampler=each, seed=3, end=None)
            for each in (sampler(scale=1.0, schedule="linear"), sampler(), sampler(scale=2.0))
        )
    finally:
        hook.remove()
    assert rows == [5] * (2 * T) + [10] * T
    assert torch.equal(one, plain)
    assert not torch.equal(one, two)


def test_a_step_at_scale_one_is_the_conditional_pass() -> None:
    logits = torch.randn(6, V, generator=torch.Generator().manual_seed(0))
    assert torch.equal(guided(logits, 1.0), logits[:3])
    torch.testing.assert_close(guided(logits, 3.0), logits[3:] + 3 * (logits[:3] - logits[3:]))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_guided_rows_are_drawn_as_by_two_whole_passes(
    network: Autoregressive, schedule: str
) -> None:
    """The reference draws one row, one position at a time, without a cache."""
    how = Guidance(scale=2.5, schedule=schedule, power=1.5)
    samples, classes = np.array([3, 2**40, 7], np.uint64), np.array([2, 0, K])
    given = dataclasses.replace(sampler(), guidance=how)
    with torch.no_grad():
        drawn = draw_rows(network, samples, classes, sampler=given, seed=9, end=None)
        for row, sample in enumerate(samples.tolist()):
            ids = torch.zeros(1, T, dtype=torch.int64)
            for position in range(T):
                under, without = (
                    network.to_logits(network(ids, None, torch.tensor([which])))[0, position]
                    for which in (int(classes[row]), K)
                )
                logits = without + how.at(position, T) * (under - without)
                p = logits.double().softmax(dim=-1).numpy()
                uniform, _ = uniforms(seed=9, sample=sample, position=position)
                ids[0, position] = int(np.searchsorted(np.cumsum(p), uniform, side="right"))
            assert ids[0].tolist() == drawn[row].tolist()


# ------------------------------------------------------------------------------------ whole models


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("labels")
    index: Any = None
    tokens = token_set(root, *("zero", "one", "two") * 8)
    with one_core():
        return context(root).make(generator(label_dropout=0.25).fit(tokens, index=index))


def test_samples_are_of_the_label_that_is_asked_for(trained: Any) -> None:
    samples = np.arange(30, dtype=np.uint64)
    ask = {"sampler": sampler(), "layout": LAYOUT, "seed": 1}
    assert trained.classes == ("one", "two", "zero")
    every, trace = trained.generate(samples, condition=LABEL, **ask)
    firsts = np.array([1, 2, 0])[samples % 3]
    assert (every[:, 0] == firsts).mean() > 0.8
    replayed = trained.score(
        every, condition=LABEL, samples=samples, sampler=sampler(), layout=LAYOUT, seed=1
    )
    for name, array_BT in trace.items():
        np.testing.assert_array_equal(array_BT, replayed[name])
    some, _ = trained.generate(samples[[29, 4]], condition=LABEL, **ask)
    np.testing.assert_array_equal(some, every[[29, 4]])
    plain, _ = trained.generate(samples, **ask)
    assert len(set(plain[:, 0].tolist())) == 3
    one = dataclasses.replace(LABEL, label="two")
    strict = {**ask, "sampler": sampler(scale=3.0)}
    guided_rows, _ = trained.generate(samples, condition=one, **strict)
    assert (guided_rows[:, 0] == 2).all()
    apart, _ = trained.generate(samples[[17]], condition=one, **strict)
    np.testing.assert_array_equal(apart, guided_rows[[17]])
    with pytest.raises(ConfigError, match=r"condition\.label=three: no training image has it"):
        trained.generate(samples, condition=dataclasses.replace(LABEL, label="three"), **ask)


def test_a_model_travels_with_its_labels(trained: Any) -> None:
    again = pickle.loads(pickle.dumps(trained))
    ids, _ = again.generate(
        np.arange(3, dtype=np.uint64), condition=LABEL, sampler=sampler(), layout=LAYOUT, seed=0
    )
    assert ids.shape == (3, 3)


def test_documents_are_scored_under_their_own_labels(trained: Any, tmp_path: Path) -> None:
    labels, documents = ("two", "zero", "one", None, "strange"), [(i, i, i) for i in range(5)]
    tokens = token_set(tmp_path, *labels, rows=documents)
    rows = np.arange(5)
    own = trained.condition_of(tokens.metadata_of(rows), LABEL)
    assert trained.classes_of(own, rows.astype(np.uint64)).tolist() == [1, 2, 0, 3, 3]
    always = dataclasses.replace(trained, has_null=False)
    assert always.classes_of(own, rows.astype(np.uint64)).tolist() == [1, 2, 0, 0, 1]
    assert trained.condition_of(tokens.metadata_of(rows), None) is None
    planted = Planted(
        recipe="copies_50", train=tokens, holdout=tokens, layout=LAYOUT, num_documents=4, seed=0
    )
    whose = [one["info"].get("label") for one in planted.metadata_of(rows[:4])]
    assert whose == [labels[ids[0]] for ids in planted.gather(rows[:4]).tolist()]
    collages = dataclasses.replace(planted, recipe="collages")
    assert list(collages.metadata_of(rows[:2])) == [{}, {}]


def test_a_replay_gives_documents_their_own_labels(trained: Any, tmp_path: Path) -> None:
    tokens, nothing = token_set(tmp_path, "zero", "one", "two"), None
    stage = Replay(
        model=trained,
        sampler=sampler(),
        tokenizer=nothing,
        documents=tokens,
        num_images=3,
        seed=0,
        condition=LABEL,
    )
    own: Any = stage._condition(trained, np.array([1, 2]))
    assert own.labels == ("one", "two")

    class Ngram: ...

    assert stage._condition(Ngram(), np.array([1, 2])) is LABEL


# ---------------------------------------------------------------------------------------- refusals


def test_what_no_label_can_mean_is_refused_when_composed() -> None:
    learned, blind, bound = generator(), generator(labels=None), generator(label_dropout=0.0)
    guided_by = sampler(scale=2.0)
    learned.check(sampler(), LAYOUT, LABEL)
    learned.check(guided_by, LAYOUT, LABEL)
    learned.check(sampler(), LAYOUT, None)
    bound.check(sampler(), LAYOUT, LABEL)
    for given, how, condition, words in (
        (blind, sampler(), LABEL, r"generator=ar learns no labels.*generator\.labels=KEY"),
        (
            learned,
            sampler(),
            LabelCondition(name="label", key="synset"),
            r"type condition\.key=label",
        ),
        (learned, guided_by, None, r"none is asked for; type condition=label, or"),
        (blind, guided_by, None, r"type condition=label generator\.labels=KEY, or"),
        (
            bound,
            guided_by,
            LABEL,
            r"sampler\.guidance\.scale needs a generator.*label_dropout=0\.1",
        ),
        (bound, sampler(), None, r"condition=none needs a generator.*or condition=label"),
    ):
        with pytest.raises(ConfigError, match=words):
            given.check(how, LAYOUT, condition)
    for fields in ({"label_dropout": 1.0}, {"label_dropout": -0.1}, {"labels": ""}):
        with pytest.raises(ConfigError, match=r"generator\.label"):
            generator(**fields)
