"""What a run would miss after an hour is refused before its first stage."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from imagegram import schema
from imagegram.errors import ConfigError, ImagegramError, MissingDependencyError
from imagegram.experiment import build, check_machine
from imagegram.run import run_experiment
from imagegram.training.options import TrainerOptions
from tests.conftest import compose, read_summary

FLEXTOK = "tokenizer=flextok_d18_d18_in1k"
FSQ = "tokenizer=ordered_fsq_tiny"


def check(*overrides: str) -> None:
    check_machine(build(compose("debug=tiny", "encoder=pixels", *overrides)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encoder=efficientnet_lite0", "encoder.device=quantum"], "encoder.device=quantum"),
        (["encoder=module", "encoder.target=nowhere:net"], "cannot be imported"),
        (["encoder=module", "encoder.target=torch.nn:Identitty"], "cannot be imported"),
        (["encoder=module", "encoder.target=:net"], "cannot be imported"),
        (["encoder=module", "encoder.target=net.ts"], "neither a TorchScript file"),
        ([FSQ, "tokenizer.device=quantum"], r"type tokenizer.device=cpu"),
        ([FSQ, "tokenizer.checkpoint=nowhere.safetensors"], "nowhere.safetensors"),
        ([FLEXTOK, "tokenizer.checkpoint=nowhere.safetensors"], "there is no such file"),
        ([FLEXTOK, "tokenizer.device=quantum"], r"type tokenizer.device=cpu"),
        (["generator=ngram_torch", "generator.device=quantum"], "generator.device=quantum"),
        ([FSQ, "generator=maskgit", "generator.device=quantum"], r"type generator.device=cpu"),
        ([FSQ, "generator=maskgit", "trainer.accelerator=gpuu"], "did you mean 'gpu'"),
        ([FSQ, "trainer.devices=0"], "trainer.devices=0 must be at least 1"),
        ([FSQ, "generator=maskgit", "trainer.accelerator=mps"], "type trainer=cpu"),
        (["index.build_device=cuda:77"], r"index.build_device=cuda:77: torch .* finds cpu"),
        (["metric=[kernl]"], "kernl"),
    ],
)
def test_what_is_not_there_is_refused_before_any_stage(words: list[str], message: str) -> None:
    with pytest.raises(Exception, match=message) as raised:
        check(*words)
    assert isinstance(raised.value, ConfigError) or words == ["metric=[kernl]"]


def test_compilation_that_is_switched_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")
    check()
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    with pytest.raises(ConfigError, match="unset NUMBA_DISABLE_JIT"):
        check()


def test_a_cuda_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def empty(*_: Any, device: str) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for words in (["encoder=efficientnet_lite0", "encoder.device=cuda"],):
        with pytest.raises(ConfigError, match=r"not compiled with CUDA.*type encoder.device=cpu"):
            check(*words)
    with pytest.raises(ConfigError, match=r"finds 0 of gpu here; type trainer=cpu"):
        TrainerOptions(accelerator="gpu").check_machine()
    TrainerOptions(accelerator="auto").check_machine()
    TrainerOptions(accelerator="cpu", devices=4).check_machine()


@pytest.mark.parametrize("package", ["flextok", "torchvision"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def find_all_but(name: str, *given: Any) -> Any:
        return None if name == package else find("json" if name == "flextok" else name, *given)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but)
    with pytest.raises(MissingDependencyError, match=rf"{package}.*pip install 'imagegram\[fl"):
        check(FLEXTOK)


def test_only_what_the_requested_stages_need_is_asked_for() -> None:
    encoder = ["encoder=module", "encoder.target=nowhere:net"]
    check(*encoder, "stages=[tokenize,index]")
    check("generator=ngram_torch", "generator.device=quantum", "stages=[tokenize]")
    with pytest.raises(ConfigError):
        check(*encoder)


def test_a_run_makes_nothing_before_it_is_refused(tmp_path: Path) -> None:
    words = ["debug=tiny", f"paths.outputs={tmp_path}", "encoder=module", "encoder.target=no:net"]
    with pytest.raises(ConfigError):
        run_experiment(compose(*words), tmp_path)
    summary = read_summary(tmp_path)
    assert (summary["status"], summary["stages"]) == ("failed", {})
    assert "cannot be imported" in summary["error"]
    assert not list(tmp_path.glob("artifacts/*/*"))


@pytest.mark.parametrize("workers", ["-3", "0"])
def test_workers_that_cannot_be(workers: str, tmp_path: Path) -> None:
    cfg = compose("debug=tiny", f"paths.outputs={tmp_path}", f"runtime.workers={workers}")
    with pytest.raises(ConfigError, match=rf"runtime.workers={workers} must be at least 1"):
        run_experiment(cfg, tmp_path)


def test_whatever_has_a_device_checks_it() -> None:
    """A new component with a field ``device`` cannot forget to ask for it."""
    with_device = {
        cls
        for cls in schema.component_classes().values()
        if dataclasses.is_dataclass(cls)
        and any(field.name.endswith("device") for field in dataclasses.fields(cls))
    }
    assert len(with_device) >= 6
    assert [cls.__name__ for cls in with_device if not hasattr(cls, "check_machine")] == []


def test_a_check_is_made_of_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new component with ``check_machine`` is asked, wherever it is a field."""
    from imagegram.encoders.pixels import PixelEncoder

    def refuse(self: PixelEncoder) -> None:
        raise ConfigError("asked")

    monkeypatch.setattr(PixelEncoder, "check_machine", refuse, raising=False)
    for metric in ("kernel", "frechet", "prdc", "vendi", "memorization"):
        with pytest.raises(ImagegramError, match="asked"):
            check(f"metric=[{metric}]")
