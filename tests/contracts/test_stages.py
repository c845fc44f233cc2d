"""What a run asks of any stage: a group of the flow; no list elsewhere has to know its kind."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import imagegram
from imagegram.errors import ConfigError, ImagegramError
from imagegram.experiment import build
from imagegram.run_folder import Run
from imagegram.schema import STAGES
from imagegram.store.manifest import Artifact
from tests.conftest import compose, read_summary


def stage_classes() -> list[type]:
    """Every stage class of the package."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(imagegram.__path__, "imagegram."):
        if module.name.endswith("__main__"):
            continue
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if cls.__module__.startswith("imagegram.") and isinstance(vars(cls).get("kind"), str):
                found[cls.__qualname__] = cls
    return list(found.values())


@pytest.mark.parametrize("cls", stage_classes(), ids=lambda cls: cls.__name__)
def test_a_stage_says_kind_group_and_version(cls: Any) -> None:
    assert cls.group in STAGES
    assert cls.kind.isidentifier()
    assert cls.VERSION >= 1


@dataclass(frozen=True, kw_only=True)
class Distil:
    """A stage of a kind that the package has never heard of."""

    kind: ClassVar[str] = "distilled"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1
    text: str

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        (out / "text.txt").write_text(self.text)
        return {"length": len(self.text)}

    def load(self, artifact: Artifact) -> str:
        return (artifact.path / "text.txt").read_text()


def open_run(tmp_path: Path, *words: str) -> Run:
    cfg = compose("debug=tiny", f"paths.outputs={tmp_path}", *words)
    (tmp_path / "run").mkdir(exist_ok=True)
    return Run(cfg, build(cfg), tmp_path / "run")


def test_a_run_makes_a_stage_of_an_unknown_kind(tmp_path: Path) -> None:
    for hit in (False, True):
        with open_run(tmp_path) as run:
            assert run("distil", Distil(text="wine")) == "wine"
        record = read_summary(tmp_path / "run")["stages"]["distil"]
        assert record["hit"] is hit
        assert Path(record["path"]).parent.name == "distilled"


def test_a_stage_after_the_last_group_ends_the_run(tmp_path: Path) -> None:
    with open_run(tmp_path, "stages=[tokenize,index]") as run:
        run("distil", Distil(text="wine"))
    summary = read_summary(tmp_path / "run")
    assert summary["status"] == "completed"
    assert not summary["stages"]


def test_a_group_that_is_left_out_must_be_cached(tmp_path: Path) -> None:
    with (
        pytest.raises(ImagegramError, match=r"run it once with stages=\[tokenize,index,fit\]"),
        open_run(tmp_path, "stages=[tokenize,generate]") as run,
    ):
        run("distil", Distil(text="wine"))


def test_a_group_that_the_flow_does_not_have_is_refused(tmp_path: Path) -> None:
    class Stray(Distil):
        group: ClassVar[str] = "fitt"

    with (
        pytest.raises(ConfigError, match="did you mean 'fit'"),
        open_run(tmp_path) as run,
    ):
        run("distil", Stray(text="wine"))
