"""A run shows what it found of its corpus, reads that, and says what changed meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imagegram.experiment import Experiment, build
from imagegram.run import flow, run_experiment
from imagegram.run_folder import Run
from imagegram.tools import plan
from tests.conftest import compose, read_summary
from tests.pictures import encode, noise


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number in range(9):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(noise(number)) if number else b"")
    (root / "IMG_1.HEIC").touch()
    return root


def words(photos: Path, outputs: Path) -> list[str]:
    own = ["corpus=folder", f"corpus.path={photos}", "corpus.images_per_shard=4"]
    return [*own, f"paths.outputs={outputs}", "tokenizer=pyramid2", "logger=none", "runtime=ci"]


def test_what_is_found_is_shown_first_and_kept(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    cfg = compose(*words(photos, tmp_path / "outputs"), "stages=[tokenize]")
    run = run_experiment(cfg, folder)
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == f"{photos}: 9 images in 2 folders; 1 other file (1 .heic)"
    summary = read_summary(folder)
    (record,) = summary["input"]
    assert record["images"] == 9
    assert record["others"] == {".heic": 1}
    assert record["changed"] is None
    assert run.records["tokenize"].path in {s["path"] for s in summary["stages"].values()}
    facts = json.loads((Path(run.records["tokenize"].path) / "manifest.json").read_text())["facts"]
    assert (facts["num_documents"], facts["skipped"]) == (8, {"empty_file": 1})


def test_files_that_come_during_a_run_are_in_none_of_its_parts(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files come before every stage: every stage sees the files of the start all the same."""

    def arriving(exp: Experiment, run: Any) -> None:
        def step(name: str, stage: Any) -> Any:
            for number in range(3):
                (photos / f"new_{name}_{number}.png").write_bytes(encode(noise(99)))
            return make(name, stage)

        make = type(run).__call__.__get__(run)
        with monkeypatch.context() as patch:
            patch.setattr(type(run), "__call__", lambda _, *stage: step(*stage))
            flow(exp, run)

    folder = tmp_path / "run"
    folder.mkdir()
    cfg = compose(*words(photos, tmp_path / "outputs"), "stages=[tokenize]")
    exp = build(cfg)
    with Run(cfg, exp, folder) as run:
        arriving(exp, run)
    summary = read_summary(folder)
    facts = json.loads((Path(run.records["tokenize"].path) / "manifest.json").read_text())["facts"]
    assert facts["num_documents"] + sum(facts["skipped"].values()) == 9
    assert summary["status"] == "completed"
    assert "photos changed while it was read" in summary["input"][0]["changed"]
    assert "files came (new_" in summary["input"][0]["changed"]
    assert "ATTENTION: " in capsys.readouterr().err


def test_a_tokenizer_is_trained_on_the_files_of_the_same_listing(photos: Path) -> None:
    folder = ["corpus=folder", f"corpus.path={photos}"]
    exp = build(compose(*folder, "corpus@train_corpus=folder", f"train_corpus.path={photos}"))
    assert exp.train_corpus is exp.corpus
    assert exp.corpora == (exp.corpus,)
    exp = build(compose(*folder, "corpus@train_corpus=folder", "train_corpus.path=other"))
    assert exp.corpora == (exp.corpus, exp.train_corpus)


def test_a_plan_shows_what_is_found(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.main(words(photos, tmp_path / "outputs"))
    assert capsys.readouterr().out.startswith(f"{photos}: 9 images in 2 folders")


def test_debug_tiny_reads_the_first_shard_of_any_corpus(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    words = ["debug=tiny", "corpus=folder", f"corpus.path={photos}", "corpus.images_per_shard=4"]
    words += [f"paths.outputs={tmp_path / 'outputs'}", "stages=[tokenize]"]
    run_experiment(compose(*words), tmp_path / "run")
    assert "num_records=4 " in capsys.readouterr().err
    assert len(build(compose(*words, "corpus.num_shards=2")).corpus.shards) == 2
    for words in (["corpus=huggingface"], ["corpus=webdataset"], ["corpus=tiny_imagenet_1"]):
        assert compose("debug=tiny", *words).corpus.num_shards == 1
    assert compose("corpus=webdataset").corpus.num_shards is None
    texts = compose("debug=tiny_text", "corpus=huggingface_text")
    assert texts.corpus.num_shards == 1
