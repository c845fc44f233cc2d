"""Loggers, callbacks and the console show a run; what they cannot do is told, and nothing else."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from imagegram.errors import ConfigError
from imagegram.experiment import build
from imagegram.loggers.mirror import Mirror
from imagegram.run_folder import Run
from imagegram.stages.split import Split
from tests.conftest import REPOSITORY, clean_environment, compose, read_summary

NAMES = {"name": "n", "group": "g", "tags": []}
NUMBERS = {"seed": 1}


class Broken:
    """A logger, and a callback, of which one method fails."""

    def __init__(self, method: str) -> None:
        self.method, self.calls = method, []  # type: tuple[str, list[str]]

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any, **__: Any) -> None:
            self.calls.append(name)
            if name == self.method:
                raise RuntimeError("no network\nand more")

        return call


@pytest.mark.parametrize("method", ["log_hyperparams", "log_metrics", "log_image", "finalize"])
def test_a_logger_that_fails_is_left_out_in_a_sentence(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loggers = {"broken": Broken(method), "whole": Broken("")}
    monkeypatch.setattr(
        "imagegram.loggers.mirror.build_logger", lambda node, **_: loggers[node["_target_"]]
    )
    said: list[str] = []
    nodes = {name: {"_target_": name} for name in loggers}
    mirror = Mirror(nodes, names=NAMES, say=said.append)
    for _ in range(2):
        mirror.config(NUMBERS)
        mirror.scalars({"x": 1.0})
        mirror.images("key", np.zeros((1, 2, 2, 3), np.uint8), ["caption"])
    mirror.finish("success")
    reason = "RuntimeError: no network"
    assert said == [f"logger=broken failed, and the run goes on without it: {reason}"]
    assert loggers["broken"].calls.count(method) == 1
    assert loggers["broken"].calls[-1] == method
    assert loggers["whole"].calls.count("finalize") == 1


def test_texts_go_to_each_logger_as_it_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, ...]] = []
    experiment = SimpleNamespace(add_text=lambda *words: told.append(("plain", *words)))
    loggers = {
        "wandb": SimpleNamespace(log_html=lambda *words: told.append(("page", *words))),
        "tensorboard": SimpleNamespace(experiment=experiment),
        "csv": SimpleNamespace(experiment=object()),
    }
    monkeypatch.setattr(
        "imagegram.loggers.mirror.build_logger", lambda node, **_: loggers[node["_target_"]]
    )
    nodes = {name: {"_target_": name} for name in loggers}
    mirror = Mirror(nodes, names=NAMES, say=pytest.fail)
    mirror.page("copies/worst", Markup("<p>&lt;</p>"), "<")
    assert told == [("page", "copies/worst", "<p>&lt;</p>"), ("plain", "copies/worst", "<")]


def test_a_folder_that_cannot_be_written_costs_its_logger_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    node = compose("logger=csv").logger.csv
    node.save_dir = str(tmp_path / "file")
    said: list[str] = []
    mirror = Mirror({"csv": node}, names=NAMES, say=said.append)
    mirror.scalars({"x": 1.0})
    mirror.finish("success")
    (sentence,) = said
    assert sentence.startswith("logger=csv failed, and the run goes on without it: ")


def test_a_mistyped_argument_of_a_logger_is_refused(tmp_path: Path) -> None:
    node = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "x", "entty": "y"}
    with pytest.raises(ConfigError, match="entty"):
        Mirror({"csv": node}, names=NAMES, say=pytest.fail)


@pytest.mark.parametrize("hook", ["on_stage_start", "on_stage_end", "on_run_end"])
def test_a_callback_that_fails_is_a_note(
    hook: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exp = build(compose("debug=tiny", f"paths.outputs={tmp_path}"))
    broken, whole = Broken(hook), Broken("")
    exp = dataclasses.replace(exp, callbacks=(broken, whole))
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    with Run(compose("debug=tiny", f"paths.outputs={tmp_path}"), exp, folder) as run:
        for _ in range(2):
            run("split", Split(corpus=exp.corpus))
    summary = read_summary(folder)
    assert summary["status"] == "completed"
    (note,) = summary["notes"]
    assert note.startswith(f"callback Broken failed in {hook}, and the run goes on without it")
    assert note.partition("\n")[0] in capsys.readouterr().err
    assert broken.calls.count(hook) == 1
    assert whole.calls[-1] == "on_run_end"
    assert (tmp_path / "latest").resolve() == folder


PROGRAM = """
import sys
from pathlib import Path
from imagegram.executors.commands import exit_cleanly, unbroken_pipes

def main():
    for number in range(20000):
        print("a line", number)
        print("and one", number, file=sys.stderr)
    Path(sys.argv[1]).touch()
    return 0

with unbroken_pipes():
    status = exit_cleanly(main)
sys.exit(status)
"""


def test_a_run_goes_on_when_nobody_reads_its_output(tmp_path: Path) -> None:
    finished = tmp_path / "finished"
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    line = f"{sys.executable} {program} {finished} 2>&1 | head -n 1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert result.stdout.splitlines()[1:] == ["0"]
    assert not result.stderr
    assert finished.exists()
