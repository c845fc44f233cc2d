"""Training of autoencoders with a quantizer: cuts, devices, pieces, codes in use, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imagegram.errors import ConfigError
from imagegram.tokenizers.conv_vq.sizes import ConvSizes
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.reconstruction import Reconstruction
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import SegmentHandle, TrainSegment, train_in_segments
from imagegram.training.state import TrainingState
from tests.pictures import context
from tests.toy_training import Quarters, bytes_of, optimization

QUANTIZER = Quantization(kind="ema", vocab_size=16, dim=4, normalized=False, decay=0.9)


def conv(quantizer: Quantization) -> ConvSizes:
    return ConvSizes(
        image_size=8,
        patch_size=4,
        channels=64,
        multipliers=(1,),
        num_blocks=1,
        **quantizer.sizes(),
    )


def train(root: Path, quantizer: Quantization = QUANTIZER, **options: Any) -> SegmentHandle:
    steps = options.pop("steps", 12)
    how = optimization(steps=steps, learning_rate=3e-3, gradient_clip_val=1.0)
    whole = TrainSegment(
        objective=Reconstruction(
            architecture=conv(quantizer), quantizer=quantizer, flips=options.pop("flips", True)
        ),
        optimization=how,
        items=options.pop("items", Quarters()),
        validation=Quarters(first=1000, count=40),
        last_step=steps,
        trainer=TrainerOptions(**{"accelerator": "cpu", "segment_steps": steps} | options),
    )
    return train_in_segments(context(root), whole, description="toy")


def state(handle: SegmentHandle) -> TrainingState:
    return TrainingState.read(handle.state)


@pytest.mark.parametrize("kind", ["ema", "gradient", "clustering", "fsq"])
def test_any_cut_gives_the_same_state(kind: str, tmp_path: Path) -> None:
    quantizer = replace(QUANTIZER, kind=kind, levels=(4, 4))
    whole = train(tmp_path / "whole", quantizer)
    cut = train(tmp_path / "cut", quantizer, segment_steps=5)
    assert bytes_of(cut.artifact.path) == bytes_of(whole.artifact.path)
    assert ("clusters" in state(whole).networks) == (kind != "fsq")


@pytest.mark.parametrize("kind", ["ema", "clustering"])
def test_two_processes_are_one(kind: str, tmp_path: Path) -> None:
    quantizer = replace(QUANTIZER, kind=kind)
    alone, together = (
        state(train(tmp_path / f"{devices}", quantizer, devices=devices, steps=6))
        for devices in (1, 2)
    )
    for name in ("autoencoder", "clusters"):
        for key, ours in alone.networks[name].items():
            theirs = together.networks[name][key]
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5, msg=f"{name}.{key}")


def test_accumulated_pieces_are_one_batch(tmp_path: Path) -> None:
    whole, cut = (
        state(train(tmp_path / f"{count}", accumulate_grad_batches=count, steps=6))
        for count in (1, 4)
    )
    for key, ours in whole.networks["autoencoder"].items():
        torch.testing.assert_close(
            cut.networks["autoencoder"][key], ours, rtol=1e-4, atol=1e-5, msg=key
        )


def test_codes_of_moving_averages_have_no_moments_but_an_average(tmp_path: Path) -> None:
    found = state(train(tmp_path))
    name = "quantizer.vectors"
    assert f"autoencoder.{name}" not in found.optimizers["main"]["exp_avg"]
    assert not found.averages["autoencoder"][name].equal(found.networks["autoencoder"][name])
    learned = state(train(tmp_path / "gradient", replace(QUANTIZER, kind="gradient")))
    assert f"autoencoder.{name}" in learned.optimizers["main"]["exp_avg"]


def test_it_learns_and_uses_its_ids(tmp_path: Path) -> None:
    last = train(tmp_path, steps=120).history[-1]
    assert set(last) == {"step", "val/mse", "val/psnr", "val/ids_used", "val/perplexity"}
    first = train(tmp_path / "short", steps=1).history[-1]
    assert last["val/psnr"] > first["val/psnr"] + 3
    assert last["val/ids_used"] > 0.8
    assert 1 < last["val/perplexity"] <= 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "emma"}, "did you mean 'ema'"),
        ({"vocab_size": 65_536}, "tokenizer.quantizer.vocab_size=65536 must lie in 2 ... 65535"),
        ({"dim": 0}, "tokenizer.quantizer.dim=0 must lie in 1"),
        ({"normalized": True, "dim": 1}, "directions need two numbers"),
        ({"decay": 1.0}, "tokenizer.quantizer.decay=1.0"),
        ({"revive_below": 2.0}, "tokenizer.quantizer.revive_below=2.0"),
        ({"commitment": -1.0}, "tokenizer.quantizer.commitment=-1.0"),
        ({"kind": "fsq", "levels": (8, 1)}, "tokenizer.quantizer.levels=[8, 1]"),
    ],
)
def test_what_cannot_be_learned_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        replace(QUANTIZER, **changes).check()
    assert message in str(error.value)


def test_only_what_counts_for_a_kind_is_its_identity() -> None:
    ours = QUANTIZER.identity()
    assert replace(QUANTIZER, levels=(3, 3)).identity() == ours
    assert replace(QUANTIZER, decay=0.5).identity() != ours
    rounds = replace(QUANTIZER, kind="fsq")
    assert replace(rounds, decay=0.5, vocab_size=99).identity() == rounds.identity()
    assert replace(rounds, levels=(3, 3)).identity() != rounds.identity()
