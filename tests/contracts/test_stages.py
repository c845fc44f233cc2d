"""What runs and plans ask of any stage; no list elsewhere has to know its kind."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import imagegram
from imagegram.errors import ConfigError, ImagegramError
from imagegram.experiment import build
from imagegram.plan.forecast import Forecast
from imagegram.plan.planner import foresee
from imagegram.run import flow
from imagegram.run_folder import Run
from imagegram.schema import STAGES
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Stage
from imagegram.tools.plan import show
from tests.conftest import compose, read_summary


def stage_classes() -> list[type]:
    """Every stage class of the package."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(imagegram.__path__, "imagegram."):
        if module.name.endswith("__main__"):
            continue
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            is_stage = isinstance(vars(cls).get("kind"), str) and hasattr(cls, "VERSION")
            if cls.__module__.startswith("imagegram.") and is_stage:
                found[cls.__qualname__] = cls
    return list(found.values())


@pytest.mark.parametrize("cls", stage_classes(), ids=lambda cls: cls.__name__)
def test_a_stage_says_kind_group_and_version(cls: Any) -> None:
    assert cls.group in STAGES
    assert cls.kind.isidentifier()
    assert cls.VERSION >= 1


@dataclass(frozen=True, kw_only=True)
class Distil(Stage[str]):
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


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A generator that learns, in a stage that does not foresee its cost."""

    name: str = "learner"

    def fit(self, tokens: Any, **_: Any) -> Stage[Any]:
        return Distil(text=str(tokens.identity()))

    def scores(self, sampler: Any) -> bool:
        return True


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


# --------------------------------------------------------------------------------------- the plan


def plan(tmp_path: Path, flow: Callable[..., None], **changes: Any) -> Forecast:
    """A plan of a flow, with some components of the experiment exchanged."""
    exp = build(compose("debug=tiny", "num_samples=8", f"paths.outputs={tmp_path}"))
    store = ArtifactStore(root=tmp_path / "artifacts")
    exp = dataclasses.replace(exp, **changes)
    return foresee(exp, flow, store=store, workers=1, memory_bytes=10**10)


def distil(exp: Any, run: Any) -> None:
    run("distil", Distil(text="wine"))


def test_a_stage_without_a_forecast_is_unforeseen_until_it_is_made(tmp_path: Path) -> None:
    forecast = plan(tmp_path, distil)
    (row,) = forecast.stages
    assert forecast.unforeseen == ("distil",)
    assert forecast.is_whole
    assert (row.known, row.cached, row.parts, forecast.disk_bytes) == (False, 0, 1, 0)
    with open_run(tmp_path) as run:
        distil(None, run)
    assert row.digest == read_summary(tmp_path / "run")["stages"]["distil"]["digest"]
    (row,) = plan(tmp_path, distil).stages
    assert (row.known, row.cached, row.parts) == (True, 1, 1)


def test_a_flow_that_asks_what_is_unforeseen_is_planned_up_to_there(tmp_path: Path) -> None:
    def ask(exp: Any, run: Any) -> None:
        text = run("distil", Distil(text="wine"))
        run("again", Distil(text=text.upper()))

    forecast = plan(tmp_path, ask)
    assert [row.name for row in forecast.stages] == ["distil"]
    assert not forecast.is_whole


def test_what_follows_an_unforeseen_model_is_planned(tmp_path: Path) -> None:
    learned = {row.name: row for row in plan(tmp_path, flow, generator=Learner()).stages}
    counted = {row.name: row for row in plan(tmp_path, flow).stages}
    (unforeseen,) = (name for name, row in learned.items() if not row.known)
    assert learned[unforeseen].digest
    assert {*learned, "aligned orders"} >= set(counted)
    for name in ("tokenize", "generate", "ceiling", "evaluate", "report"):
        for field in ("images", "tokens", "disk_bytes"):
            assert getattr(learned[name], field) == getattr(counted[name], field), name
        # How fast a model samples is not known of one that is unforeseen, that of a walk is.
        slower = name in ("generate", "ceiling")
        assert (learned[name].seconds > counted[name].seconds) == slower, name
        assert slower or learned[name].seconds == counted[name].seconds


def test_the_table_says_what_is_unforeseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(plan(tmp_path, distil), 10**9, tmp_path)
    text = capsys.readouterr().out
    assert re.search(r"^ *distil +unknown +not foreseen *$", text, re.MULTILINE)
    assert "without a share in these sums: distil" in text
