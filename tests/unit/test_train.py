"""Training in segments: any cut, kill or number of cores gives the same weights, to the bit."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagegram.errors import ConfigError, StageError
from imagegram.executors.context import RunContext
from imagegram.layout import prefix_lengths
from imagegram.store.artifacts import fingerprint
from imagegram.tokenizers.ordered_fsq.objective import keep_lengths
from imagegram.training.draws import batch_rows, generator
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import SegmentHandle, train_in_segments
from imagegram.training.state import TrainingState
from tests.conftest import REPOSITORY
from tests.pictures import context
from tests.toy_training import Quarters, bytes_of, optimization, segment


def train(root: Path, *, segment_steps: int = 12, **changes: Any) -> SegmentHandle:
    whole = segment(trainer={"segment_steps": segment_steps}, **changes)
    return train_in_segments(context(root), whole, description="toy")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SegmentHandle:
    """Twelve steps in one go."""
    return train(tmp_path_factory.mktemp("whole"))


def test_segments_compose_to_the_uninterrupted_run(whole: SegmentHandle, tmp_path: Path) -> None:
    cut = train(tmp_path, segment_steps=5)
    assert bytes_of(cut.artifact.path) == bytes_of(whole.artifact.path)
    assert cut.artifact.digest == whole.artifact.digest
    assert [line["step"] for line in cut.history] == [5, 5, 10, 10, 12, 12]
    assert cut.history[-1] == whole.history[-1]


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_segments_compose_in_half_precision_too(precision: str, tmp_path: Path) -> None:
    one, three = (
        train(tmp_path / f"{steps}", segment_steps=steps, precision=precision) for steps in (12, 4)
    )
    assert bytes_of(one.artifact.path) == bytes_of(three.artifact.path)


def test_the_number_of_cores_changes_no_bit(whole: SegmentHandle, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        for cores in (1, 3):
            torch.set_num_threads(cores)
            again = train(tmp_path / f"{cores}")
            assert bytes_of(again.artifact.path) == bytes_of(whole.artifact.path)
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(threads)


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.unit.test_train import train
train(Path(sys.argv[1]), segment_steps=3)
"""


def test_a_killed_training_goes_on_to_the_same_weights(
    whole: SegmentHandle, tmp_path: Path
) -> None:
    program = PROGRAM.format(repository=str(REPOSITORY))
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    states = tmp_path / "artifacts" / "training_state"
    deadline = time.monotonic() + 120
    while not list(states.glob("[0-9a-f]*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = list(states.glob("[0-9a-f]*"))
    assert 1 <= len(before) < 4
    finished = train(tmp_path, segment_steps=3)
    assert bytes_of(finished.artifact.path) == bytes_of(whole.artifact.path)
    assert all(path.exists() for path in before)


def test_a_failing_step_leaves_the_segments_before_it(
    whole: SegmentHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Quarters.gather
    rows_seen = 0

    def gather(self: Quarters, rows: Any) -> Any:
        nonlocal rows_seen
        rows_seen += len(rows)
        if rows_seen > 9 * 16 + 40:  # five steps, a validation, and four steps more
            raise OSError(5, "the disk is gone", "pixels.npy")
        return original(self, rows)

    monkeypatch.setattr(Quarters, "gather", gather)
    with pytest.raises(StageError, match="the disk is gone"):
        train(tmp_path, segment_steps=5)
    monkeypatch.undo()
    kept = list((tmp_path / "artifacts" / "training_state").iterdir())
    assert len(kept) == 1
    resumed = train(tmp_path, segment_steps=5)
    assert bytes_of(resumed.artifact.path) == bytes_of(whole.artifact.path)


def test_removed_states_before_the_last_are_not_missed(
    whole: SegmentHandle, tmp_path: Path
) -> None:
    options = {"segment_steps": 4}
    half = dataclasses.replace(segment(trainer=options), last_step=8)
    told: list[int] = []
    ctx = dataclasses.replace(context(tmp_path), curves=lambda _, step: told.append(step))
    train_in_segments(ctx, half, description="toy")
    assert told == [4, 4, 8, 8]
    (first,) = [a for a in ctx.store if a.facts["last_step"] == 4]
    shutil.rmtree(first.path)
    told.clear()
    finished = train_in_segments(ctx, segment(trainer=options), description="toy")
    assert bytes_of(finished.artifact.path) == bytes_of(whole.artifact.path)
    assert told == [4, 4, 8, 8, 12, 12]  # the whole curve, also after a resume
    assert not first.path.exists()


def test_what_decides_a_state(tmp_path: Path) -> None:
    plain = segment()
    digest = fingerprint(plain)[0]
    same = dataclasses.replace(plain, trainer=TrainerOptions(devices=2, compile=True))
    assert fingerprint(same)[0] == digest
    for other in (
        segment(learning_rate=1e-3),
        segment(seed=1),
        segment(keep="uniform"),
        dataclasses.replace(plain, last_step=4),
        dataclasses.replace(plain, items=Quarters(count=65)),
    ):
        assert fingerprint(other)[0] != digest


def test_states_hold_tensors_and_nothing_that_runs(whole: SegmentHandle) -> None:
    for path in whole.artifact.path.iterdir():
        assert path.suffix in {".safetensors", ".jsonl", ".json"}
        start = path.read_bytes()[:4]
        assert start[:2] not in (b"\x80\x02", b"\x80\x04", b"PK")
    state = TrainingState.read(whole.state)
    assert state.step == 12
    (network,), (average,) = state.networks.values(), state.averages.values()
    named = {f"autoencoder.{name}" for name in network}
    assert set(network) == set(average)
    assert set(state.optimizers["main"]) == {"exp_avg", "exp_avg_sq", "step"}
    assert all(set(moments) == named for moments in state.optimizers["main"].values())


def test_the_average_is_that_of_the_weights_of_every_step(tmp_path: Path) -> None:
    handles = []
    ctx = context(tmp_path)
    previous = None
    for step in range(1, 5):
        stage = dataclasses.replace(segment(), last_step=step, previous=previous)
        previous = ctx.make(stage)
        handles.append(TrainingState.read(previous.state))
    networks = [state.networks["autoencoder"] for state in handles]
    for name, expected in networks[0].items():
        for network in networks[1:]:
            expected = expected * 0.8 + network[name] * 0.2
        torch.testing.assert_close(handles[-1].averages["autoencoder"][name], expected)


def test_training_learns_and_more_tokens_say_more(tmp_path: Path) -> None:
    done = train(tmp_path, segment_steps=300, steps=300, warmup_steps=10)
    losses = [line["train/loss"] for line in done.history if "train/loss" in line]
    assert losses[-1] < 0.25 * losses[0]
    scores = [done.history[-1][f"val/mse_k{k}"] for k in (1, 2, 4)]
    assert scores[2] < scores[1] < scores[0]
    assert scores[2] < 0.8 * scores[0]


def test_a_diverging_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"diverged.*optimization\.learning_rate"):
        train(tmp_path, learning_rate=1e30, steps=4, warmup_steps=0)


def test_progress_moves_one_bar(tmp_path: Path) -> None:
    class Bars:
        def __init__(self) -> None:
            self.events: list[tuple[str, int]] = []

        def start(self, description: str, total: int, unit: str) -> int:
            self.events.append((description, total))
            return 7

        def advance(self, task: int, steps: int = 1) -> None:
            assert task == 7
            self.events.append(("advance", steps))

        def finish(self, task: int) -> None:
            self.events.append(("finish", task))

    def run() -> list[tuple[str, int]]:
        bars = Bars()
        ctx: RunContext = dataclasses.replace(context(tmp_path), progress=bars)
        train_in_segments(ctx, segment(steps=4, trainer={"segment_steps": 2}), description="toy")
        return bars.events

    assert run() == [("toy", 4), *[("advance", 1)] * 4, ("finish", 7)]
    assert run() == [("toy", 4), ("advance", 4), ("finish", 7)]


# ------------------------------------------------------------------------------------------- draws


def test_every_epoch_has_every_item_once_in_an_order_of_its_own() -> None:
    steps = [batch_rows(seed=5, step=step, batch_size=7, num_items=10) for step in range(10)]
    epochs = np.concatenate(steps).reshape(7, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 7
    again = batch_rows(seed=5, step=3, batch_size=7, num_items=10)
    np.testing.assert_array_equal(again, steps[3])
    large = batch_rows(seed=5, step=0, batch_size=25, num_items=10)
    assert np.bincount(large).tolist() == [3 if n in large[20:] else 2 for n in range(10)]


@pytest.mark.parametrize(("how", "lengths"), [("pow2", [1, 2, 4, 6]), ("uniform", range(1, 7))])
def test_nested_dropout_draws_every_length_alike(how: str, lengths: Any) -> None:
    rng = generator(seed=0, purpose=1, number=4)
    drawn = keep_lengths(rng, how=how, batch_size=6000, num_registers=6)
    assert sorted(set(drawn.tolist())) == list(lengths)
    expected = 6000 / len(list(lengths))
    for length in lengths:
        assert abs(int((drawn == length).sum()) - expected) < 5 * math.sqrt(expected)


def test_prefix_lengths_end_with_the_whole() -> None:
    assert prefix_lengths(1) == (1,)
    assert prefix_lengths(32) == (1, 2, 4, 8, 16, 32)
    assert prefix_lengths(12) == (1, 2, 4, 8, 12)


def test_streams_of_steps_and_purposes_differ() -> None:
    drawn = {
        generator(seed=seed, purpose=purpose, number=number).integers(2**62)
        for seed in (0, 1)
        for purpose in (0, 1)
        for number in (0, 1)
    }
    assert len(drawn) == 8


def test_the_rate_rises_then_falls_to_nothing() -> None:
    how = optimization(steps=100, warmup_steps=10)
    rates = [how.rate(step) for step in range(100)]
    assert np.argmax(rates) in (9, 10)
    assert max(rates) == pytest.approx(3e-3)
    assert rates[0] == pytest.approx(3e-4)
    assert rates[-1] < 1e-5
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"steps": 0}, "tokenizer.steps=0"),
        ({"ema_decay": 1.5}, "tokenizer.ema_decay=1.5"),
        ({"warmup_steps": 13}, "tokenizer.warmup_steps=13"),
        ({"batch_size": 0}, "tokenizer.batch_size=0"),
        ({"precision": "bf16-mix"}, "did you mean 'bf16-mixed'"),
        ({"final_learning_rate": 1.0}, "tokenizer.final_learning_rate=1.0"),
        ({"betas": [0.9]}, "tokenizer.betas=[0.9]"),
        ({"gradient_clip_val": 0.0}, "tokenizer.gradient_clip_val=null"),
    ],
)
def test_numbers_that_no_training_can_have(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError) as error:
        optimization(**changes).check(prefix="tokenizer.")
    assert word in str(error.value)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"devices": 3}, "type trainer.devices=1"),
        ({"devices": 0}, "trainer.devices=0"),
        ({"devices": 4, "accumulate_grad_batches": 8}, "must divide x.batch_size=16"),
        ({"accelerator": "gpus"}, "did you mean 'gpu'"),
        ({"strategy": "dpp"}, "did you mean 'ddp'"),
        ({"segment_steps": 0}, "trainer.segment_steps=0"),
        ({"precision": "16"}, "x.precision=16"),
        ({"max_steps": 0}, "x.steps=0"),
    ],
)
def test_what_no_trainer_can_do(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainerOptions(**options).applied_to(optimization(), prefix="x.")
    assert word in str(error.value)


def test_a_trainer_has_its_say() -> None:
    how = optimization()
    assert TrainerOptions(devices=4).applied_to(how, prefix="") == how
    said = TrainerOptions(precision="bf16-mixed", gradient_clip_val=2.0, max_steps=2)
    expected = {"precision": "bf16-mixed", "gradient_clip_val": 2.0, "steps": 2, "warmup_steps": 2}
    assert said.applied_to(how, prefix="") == dataclasses.replace(how, **expected)
    assert TrainerOptions(max_steps=99).applied_to(how, prefix="") == how


def test_a_stage_travels_light(whole: SegmentHandle) -> None:
    assert len(pickle.dumps(dataclasses.replace(segment(), previous=whole))) < 4000
    assert json.dumps(fingerprint(segment())[1])
