"""The part that is validated on: disjoint, near-duplicates together; and the best weights on it."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from imagegram.errors import ConfigError
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.models.cores import one_core
from imagegram.plan.planner import StoreSurroundings
from imagegram.plan.rates import Rates
from imagegram.stages import validation
from imagegram.stages.validation import found_parts, parts_of, validation_part
from imagegram.store.artifacts import fingerprint
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import TrainSegment, train_in_segments
from imagegram.training.state import TrainingState
from imagegram.training.tokens import TokenData, TokenItems
from tests.pictures import context
from tests.token_shards import FakeSelect, FakeTokens, FakeTokenShard

END = 65535


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def names(count: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


# ---------------------------------------------------------------------------------- the choice


@settings(max_examples=60, deadline=None)
@given(
    clusters=st.lists(st.integers(0, 9), min_size=12, max_size=40),
    data=st.data(),
    fraction=st.floats(0.02, 0.5),
)
def test_clusters_stay_together_and_order_decides_nothing(
    clusters: list[int], data: st.DataObject, fraction: float
) -> None:
    count = len(clusters)
    lengths = np.array(data.draw(st.lists(st.integers(1, 9), min_size=count, max_size=count)))
    labels, hashes = np.array(clusters), names(count)
    if len(set(clusters)) < 2:
        return
    held = validation_part(labels, hashes, lengths, fraction=fraction)
    assert held.any()
    assert not held.all()
    for cluster in set(clusters):
        assert len(set(held[labels == cluster].tolist())) == 1
    order = np.array(data.draw(st.permutations(range(count))))
    again = validation_part(
        labels[order], [hashes[i] for i in order], lengths[order], fraction=fraction
    )
    np.testing.assert_array_equal(again, held[order])


def test_the_share_is_of_tokens_and_large_clusters_stay_in_training() -> None:
    lengths = np.full(1000, 10)
    labels = np.arange(1000)
    labels[:300] = 0
    held = validation_part(labels, names(1000), lengths, fraction=0.05)
    assert not held[:300].any()
    assert 0.05 <= held.mean() <= 0.051
    lengths[500:] = 0
    held = validation_part(labels, names(1000), lengths, fraction=0.1)
    assert 0.1 <= lengths[held].sum() / lengths.sum() <= 0.15


def test_too_few_documents_cannot_be_parted() -> None:
    with pytest.raises(ConfigError, match=r"1 different.*validation_fraction=0"):
        validation_part(np.zeros(5, int), names(5), np.ones(5, int), fraction=0.1)


# ----------------------------------------------------------------------------------- the parts


def ragged(root: Path, count: int = 40) -> Any:
    rows = [tuple((7 * i + j) % 250 for j in range(i % 13)) for i in range(count)]
    shards = tuple(FakeTokenShard(rows=tuple(rows[a::2]), length=None) for a in range(2))
    return dataclasses.replace(context(root).make(FakeTokens(parts=shards)), window=4)


def rows_of(tokens: Any) -> list[tuple[int, ...]]:
    return [tuple(tokens.document(n).tolist()) for n in range(tokens.num_documents)]


def test_both_parts_are_disjoint_and_together_everything(tmp_path: Path) -> None:
    whole, ctx = ragged(tmp_path), context(tmp_path)
    some = ctx.make(FakeSelect(tokens=whole, chosen=(tuple(range(1, 20)), tuple(range(15)))))
    some = dataclasses.replace(some, window=4)
    for tokens in (whole, some):
        fit, held = map(ctx.make, parts_of(tokens, 0.2))
        assert sorted(rows_of(fit) + rows_of(held)) == sorted(rows_of(tokens))
        assert not set(filter(None, rows_of(held))) & set(rows_of(fit))
        assert held.num_tokens == sum(map(len, rows_of(held)))
        assert 0.2 <= held.num_tokens / tokens.num_tokens <= 0.3
        assert (fit.window, fit.document_length) == (4, None)
        assert fit.identity() != held.identity()


def test_near_duplicates_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, ctx = ragged(tmp_path), context(tmp_path)
    pairs = np.arange(40) // 2 * 2
    monkeypatch.setattr(validation, "clusters_of", lambda *_: pairs)
    fit, held = map(ctx.make, parts_of(dataclasses.replace(tokens, near_duplicate_limit=0.8), 0.2))
    order = rows_of(tokens)
    number = {row: place for place, row in enumerate(order) if row}
    first, second = ({pairs[number[r]] for r in rows_of(part) if r} for part in (fit, held))
    assert second
    assert not first & second


def test_what_is_held_out_has_no_part_in_it(tmp_path: Path) -> None:
    tokens, ctx = ragged(tmp_path), context(tmp_path)
    holdout = ragged(tmp_path, 10)
    plain = TokenData(tokens=tokens, holdout=holdout)
    assert set(plain.identity()) == {"tokens", "holdout"}
    walled = TokenData(tokens=tokens, holdout=holdout, validation_fraction=0.2)
    assert walled.identity() == TokenData(tokens=tokens, validation_fraction=0.2).identity()
    at = StoreSurroundings(store=ctx.store, rates=Rates(ctx.store), workers=1, memory_bytes=10**10)
    assert walled.found(at) is None
    assert found_parts(tokens, 0.2, at) is None
    prepared = walled.prepare(ctx)
    assert prepared.validated_on == "validation"
    again = walled.found(at)
    assert again is not None
    assert again.items.identity() == prepared.items.identity()


# ------------------------------------------------------------------------------ random offsets


def test_windows_begin_anywhere_in_their_document(tmp_path: Path) -> None:
    rows = ((1, 2, 3, 4, 5, 6, 7, 8, 9), (11,), (21, 22, 23, 24), ())
    tokens = context(tmp_path).make(FakeTokens(parts=(FakeTokenShard(rows=rows, length=None),)))
    tokens = dataclasses.replace(tokens, window=4)
    items = TokenItems(tokens=tokens, random_offsets=True)
    allowed = set()
    for row in rows:
        ended = [*row, END, END, END, END]
        last = max(len(row) + 1 - 4, 0)
        allowed |= {tuple(ended[start : start + 4]) for start in range(last + 1)}
    seen: set[tuple[int, ...]] = set()
    for step in range(200):
        rng = np.random.Generator(np.random.Philox(key=step))
        found = items.draw(np.arange(len(items)), rng).tolist()
        seen |= {tuple(row) for row in found}
        again = items.draw(np.arange(len(items)), np.random.Generator(np.random.Philox(key=step)))
        assert again.tolist() == found
    assert seen == {row for row in allowed if row[0] != END}
    assert items.gather(np.arange(2)).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    plain = TokenItems(tokens=tokens)
    assert plain.identity() != items.identity()
    assert plain.draw(np.arange(2), np.random.default_rng(0)).tolist() == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
    ]


# ----------------------------------------------------------------------------- the best weights


def generator(**changes: Any) -> AutoregressiveGenerator:
    how: dict[str, Any] = {"steps": 24, "batch_size": 8, "learning_rate": 0.1, "ema_decay": 0.5}
    how |= {"final_learning_rate": 0.1, **changes.pop("optimization", {})}
    fields = {"width": 16, "depth": 1, "num_heads": 2, "validation_fraction": 0.3, **changes}
    return AutoregressiveGenerator(optimization=Optimization(**how), **fields)


def whole_segment(root: Path, own: AutoregressiveGenerator, every: int = 100) -> TrainSegment:
    tokens = ragged(root)
    prepared = own.data(tokens, None).prepare(context(root))
    recipe: Any = own.fit(tokens, index=None).component  # type: ignore[arg-type]
    return TrainSegment(
        objective=recipe.objective(),
        optimization=own.optimization,
        items=prepared.items,
        validation=prepared.validation,
        last_step=own.optimization.steps,
        trainer=TrainerOptions(accelerator="cpu", segment_steps=every),
    )


BEST = {"keep": "best", "looks": 6}


def test_the_best_is_that_of_all_looks(tmp_path: Path) -> None:
    """Brute force: a state and its loss after each look of a training that keeps the last."""
    every = train_in_segments(
        context(tmp_path), whole_segment(tmp_path, generator(), 4), description=""
    )
    losses = {
        line["step"]: line["val/bits_per_token"]
        for line in every.history
        if "val/bits_per_token" in line
    }
    assert list(losses) == [4, 8, 12, 16, 20, 24]
    best = min(losses, key=lambda step: losses[step])
    assert best != 24  # or keeping the last would do as well
    (then,) = [a for a in context(tmp_path).store if a.facts.get("last_step") == best]
    expected = TrainingState.read(then.path / "state.safetensors").averages

    own = generator(optimization=BEST)
    kept = train_in_segments(context(tmp_path), whole_segment(tmp_path, own), description="")
    state = TrainingState.read(kept.state)
    assert state.best is not None
    assert (state.best.step, state.best.loss) == (best, losses[best])
    assert [line["step"] for line in kept.history if "val/bits_per_token" in line] == list(losses)
    for name, tensor in expected["autoregressive"].items():
        assert (state.with_best().averages["autoregressive"][name] == tensor).all()
        assert (state.averages["autoregressive"][name].shape) == tensor.shape
    last = TrainingState.read(every.state).averages["autoregressive"]
    assert all((state.averages["autoregressive"][name] == last[name]).all() for name in last)

    fit: Any = dataclasses.replace(own, trainer=TrainerOptions(accelerator="cpu")).fit(
        ragged(tmp_path),
        index=None,  # type: ignore[arg-type]
    )
    model = context(tmp_path).make(fit)
    written = load_file(model.artifact.path / "model.safetensors")
    assert all(
        (written[name] == tensor).all() for name, tensor in expected["autoregressive"].items()
    )
    facts = model.artifact.facts
    assert (facts["kept_step"], facts["validated_on"]) == (best, "validation")
    assert facts["val/bits_per_token"] == losses[best]


def test_cut_or_killed_the_best_is_the_same(tmp_path: Path) -> None:
    own = generator(optimization=BEST)
    whole = train_in_segments(
        context(tmp_path / "a"), whole_segment(tmp_path / "a", own), description=""
    )
    root = tmp_path / "b"
    half = dataclasses.replace(whole_segment(root, own, 7), last_step=14)
    train_in_segments(context(root), half, description="")
    (first,) = [a for a in context(root).store if a.facts.get("last_step") == 7]
    shutil.rmtree(first.path)  # only the last state is continued from
    cut = train_in_segments(context(root), whole_segment(root, own, 7), description="")
    assert cut.state.read_bytes() == whole.state.read_bytes()


def test_keeping_the_best_is_part_of_the_identity_and_keeping_the_last_is_not() -> None:
    plain = Optimization(steps=4, batch_size=2, learning_rate=0.1)
    assert "keep" not in str(fingerprint_of(plain))
    assert fingerprint_of(dataclasses.replace(plain, keep="best")) != fingerprint_of(plain)


def fingerprint_of(how: Optimization) -> Any:
    from imagegram.store.fingerprint import identity

    return identity(how)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_fraction": 0.0, "optimization": BEST}, r"floor.*validation_fraction=0\.05"),
        ({"validation_fraction": 0.9}, r"validation_fraction=0\.9 must be a share.*0\.5"),
        ({"optimization": {"keep": "first"}}, r"generator\.optimization\.keep='first'"),
        ({"optimization": {"keep": "best", "looks": 0}}, r"generator\.optimization\.looks"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generator(**changes)


def test_a_component_without_such_a_part_keeps_the_last(tmp_path: Path) -> None:
    own = generator()
    fit: Any = own.fit(ragged(tmp_path), index=None)  # type: ignore[arg-type]
    component = dataclasses.replace(
        fit.component, generator=dataclasses.replace(own, optimization=own.optimization)
    )
    object.__setattr__(
        component.generator, "optimization", dataclasses.replace(own.optimization, keep="best")
    )
    stage = dataclasses.replace(
        fit, component=component, data=dataclasses.replace(fit.data, validation_fraction=0.0)
    )
    assert fingerprint(stage)[0] != fingerprint(fit)[0]
    with pytest.raises(ConfigError, match=r"generator\.optimization\.keep=last"):
        context(tmp_path).make(stage)
