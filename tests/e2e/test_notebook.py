"""``imagegram.run(...)`` and ``imagegram.open_run(...)``: runs as Python objects."""

from __future__ import annotations

import base64
import html
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import imagegram
from imagegram.errors import ConfigError, CorpusError
from tests.conftest import clean_environment, read_summary

SMALL = ("debug=tiny", "metric=[copying]", "planted=[]")


@pytest.fixture
def words(demo_outputs: Path) -> tuple[str, ...]:
    return (*SMALL, f"paths.outputs={demo_outputs}")


def test_importing_the_package_imports_little() -> None:
    code = (
        "import sys, imagegram; heavy = {'torch', 'wandb', 'numba', 'hydra'} & set(sys.modules);"
        "assert not heavy, heavy; print(imagegram.__version__, sorted(dir(imagegram))[-2:])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "0.1.0 ['open_run', 'run']\n"
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        imagegram.walk  # noqa: B018


def test_a_run_is_an_object_and_a_folder(words: tuple[str, ...], demo_outputs: Path) -> None:
    run = imagegram.run(*words)
    assert run.folder.parent == demo_outputs.resolve() / "runs"
    assert (demo_outputs / "latest").resolve() == run.folder
    assert run.status == "completed"
    assert run.scores == read_summary(run.folder)["scores"]
    assert run.scores["exact_copy_rate"]["ceiling"] == 1.0
    assert np.array_equal(run.samples.images, np.load(run.folder / "samples" / "images.npy"))
    assert len(run.samples) == 4
    assert set(run.samples.trace) >= {"suffix_len"}
    assert run.report == run.folder / "report.html"
    assert run.report.is_file()
    assert (run.folder / ".hydra" / "config.yaml").is_file()
    with pytest.raises(ConfigError, match=r"texts\.jsonl is not there"):
        _ = run.samples.texts
    again = imagegram.run(*words)  # twice in one process
    assert again.folder != run.folder
    assert all(record["hit"] for record in again.summary["stages"].values())


def test_a_run_shows_its_scores_and_its_samples(words: tuple[str, ...]) -> None:
    run = imagegram.run(*words)
    page = run._repr_html_()
    grid = base64.b64encode((run.folder / "samples" / "grid.png").read_bytes()).decode()
    assert grid in page
    assert "held-out" in page
    assert "<script" not in page
    for info, score in run.headline():
        assert html.escape(info.show(score["value"])) in page
        assert info.show(score["floor"]) in repr(run)
    assert "exact_copy_rate" in {info.name for info, _ in run.headline()}
    assert repr(run).startswith(f"{run.folder}: completed\n")


def test_a_run_of_an_earlier_version_shows_its_ranked_scores(tmp_path: Path) -> None:
    score = {"value": 0.5, "floor": 0.0, "low": None, "high": None}
    infos = {name: {"name": name, "rank": rank} for name, rank in (("b", 2), ("a", 1), ("c", 0))}
    summary = {"status": "completed", "scores": dict.fromkeys(infos, score)}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "scores.json").write_text(json.dumps({"infos": infos}))
    shown = imagegram.open_run(tmp_path).headline()
    assert [info.name for info, _ in shown] == ["a", "b"]


def test_samples_are_copies_of_the_files(words: tuple[str, ...]) -> None:
    run = imagegram.run(*words)
    run.samples.tokens[:] = 0
    assert np.load(run.folder / "samples" / "tokens.npy").any()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tokenizer=pyramyd2", "did you mean 'pyramid2'"),
        ("sampler.temprature=1", "did you mean 'sampler.temperature'"),
        ("corpus.path=photos", "type corpus=folder corpus.path=photos"),
        ("corpus.path=", "is empty"),
        ("seed=-1", "seed must lie in"),
        ("-m", "loop over runs instead of -m"),
        ("--help", "no word of a configuration"),
    ],
)
def test_errors_are_raised(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        imagegram.run("debug=tiny", f"paths.outputs={tmp_path}", word)


def test_a_run_that_fails_raises_and_stays_open_to_look_at(tmp_path: Path) -> None:
    words = ("corpus=folder", f"corpus.path={tmp_path / 'none'}", "logger=none", "runtime=ci")
    with pytest.raises(CorpusError, match="is not a folder"):
        imagegram.run(*words, f"paths.outputs={tmp_path / 'out'}")
    run = imagegram.open_run(tmp_path / "out" / "latest")
    assert run.status == "failed"
    assert "is not a folder" in run._repr_html_()
    assert run.headline() == []
    with pytest.raises(ConfigError, match="is not there"):
        _ = run.samples.images


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"paths\.outputs=FOLDER"):
        imagegram.run("debug=tiny", f"paths.outputs={tmp_path / 'file' / 'out'}")


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run folder: it has no summary\.json; give"):
        imagegram.open_run(tmp_path)
    (tmp_path / "0_seed=0").mkdir()
    (tmp_path / "0_seed=0" / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"open one of its jobs, such as .*0_seed=0"):
        imagegram.open_run(str(tmp_path))


def test_texts_are_shown_escaped(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    lines = [{"index": 0, "text": "a <b>"}, {"index": 1, "text": "c"}]
    (tmp_path / "samples" / "texts.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    (tmp_path / "summary.json").write_text('{"status": "completed", "scores": {}}')
    run = imagegram.open_run(tmp_path)
    assert run.samples.texts == ["a <b>", "c"]
    assert "<blockquote>a &lt;b&gt;</blockquote>" in run._repr_html_()


def test_a_hydra_of_the_notebook_is_left_alone(words: tuple[str, ...]) -> None:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    imagegram.run(*words)
    assert (GlobalHydra.instance().hydra, HydraConfig.instance().cfg) == before


FEW = ("corpus.images_per_shard=8", "corpus.num_holdout=8")
SCRIPT = """
import imagegram
print("begins")
run = imagegram.run(*{words}, "runtime.workers=2", "corpus.seed=5", *{few}, "stages=[tokenize]")
print(run.status)
"""


def test_a_script_needs_no_guard_for_its_worker_processes(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(words=words, few=FEW))
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**clean_environment(), "PYTHONPATH": str(Path(imagegram.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "begins\ncompleted\n", result.stderr


def test_the_module_is_still_a_module(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    from imagegram import run
    from imagegram.run import flow

    assert run.flow is flow
    assert command("imagegram.run", ["--version"]).stdout.startswith("imagegram 0.1.0 (Python 3")
