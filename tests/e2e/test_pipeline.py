"""The whole pipeline on a tiny corpus: the contract for scripts, the cache, copies, failures."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagegram.errors import ConfigError, CorpusError, ImagegramError
from imagegram.experiment import build
from imagegram.run import run_experiment
from imagegram.run_folder import Run
from imagegram.stages.split import Split
from imagegram.tools import gc
from tests.conftest import compose, read_summary

RunHere = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
PLANTED = {"shuffled", "copies_20", "collages"}
STAGES = {
    "split",
    "tokenize",
    "select",
    "select_holdout",
    "index",
    "generate",
    "ceiling",
    "floor",
    "calibration",
    *PLANTED,
    "evaluate",
}


def test_the_contract_for_scripts(command: Command, demo_outputs: Path) -> None:
    result = command("imagegram.run", ["debug=tiny", f"paths.outputs={demo_outputs}"])
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    folder = Path(line)
    assert (demo_outputs / "latest").resolve() == folder.resolve()
    assert_console_ends_with_the_answer(result.stderr, folder)
    summary = read_summary(folder)
    assert summary["status"] == "completed"
    assert summary["seed"] == 0
    assert set(summary["stages"]) == STAGES
    for record in summary["stages"].values():
        used = {"duration_s", "cpu_s", "memory_bytes", "disk_bytes"}
        assert set(record) == {"hit", "digest", "path"} | used
        assert (Path(record["path"]) / "manifest.json").exists()
    for score in summary["scores"].values():
        assert set(score) == {"value", "floor", "ceiling", "low", "high", "normalized"}
    tokens = np.load(folder / "samples" / "tokens.npy")
    assert tokens.shape == (4, 960)
    assert tokens.dtype == np.uint16
    assert tokens.max() < 256
    images = np.load(folder / "samples" / "images.npy")
    assert images.shape == (4, 16, 16, 3)
    assert images.dtype == np.uint8
    trace = [np.load(path) for path in (folder / "samples" / "trace").iterdir()]
    assert len(trace) == 7
    assert {array.shape for array in trace} == {(4, 960)}
    assert Image.open(folder / "samples" / "grid.png").size[0] > 16
    html = (folder / "report.html").read_text()
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html
    assert (folder / ".hydra" / "config.yaml").exists()


def assert_console_ends_with_the_answer(console: str, folder: Path) -> None:
    """Numbers beside their floors, sentences, then the path of the report."""
    answer = console[console.rindex("\n\n") :].splitlines()[2:]
    assert re.match(r"exact copies +\d of 4, .* held-out \d of 4 ", answer[0])
    assert re.match(r"largest source +[\d.]+ % .* held-out [\d.]+ %", answer[1])
    assert re.match(r"\d of 4 samples (is an|are) exact cop", answer[4])
    assert "held-out images" in answer[5]
    assert answer[-1] == f"report: {folder / 'report.html'}"
    page = (folder / "report.html").read_text()
    assert page.index("<h1>") < page.index('<dl class="numbers">') < page.index('id="samples"')


def test_scores_csv_holds_every_set(run_here: RunHere) -> None:
    folder = run_here("metric=[copying]")
    with (folder / "scores.csv").open() as stream:
        rows = {(row["score"], row["set"]): row for row in csv.DictReader(stream)}
    scores = read_summary(folder)["scores"]
    assert {score for score, _ in rows} == set(scores)
    sets = {which for _, which in rows}
    assert {"generated", "floor", "ceiling", "shuffled", "copies_20", "collages"} <= sets
    assert float(rows["exact_copy_rate", "ceiling"]["value"]) == 1.0
    for name, score in scores.items():
        for which, part in (("generated", "value"), ("floor", "floor"), ("ceiling", "ceiling")):
            text = rows[name, which]["value"]
            assert (float(text) if text else None) == score[part]


def test_what_was_planted_is_recovered(run_here: RunHere) -> None:
    folder = run_here(
        "metric=[copying,aligned]", "num_samples=10", "planted=[copies_10,copies_30,collages]"
    )
    with (folder / "scores.csv").open() as stream:
        read = {
            (row["score"], row["set"]): float(row["value"])
            for row in csv.DictReader(stream)
            if row["value"]
        }
    for score in ("exact_copy_rate", "near_exact_rate", "copied_through_level1_rate"):
        assert read[score, "floor"] == 0
        assert read[score, "copies_10"] == 0.1
        assert read[score, "copies_30"] == 0.3
        assert read[score, "collages"] == 0  # no whole image was copied ...
    assert read["num_effective_sources", "collages"] < 5  # ... but four quarters were
    assert read["num_effective_sources", "collages"] < read["num_effective_sources", "floor"] / 5
    assert read["num_phrases", "collages"] < read["num_phrases", "floor"] / 2


def test_metrics_jsonl_holds_the_numbers_of_the_summary(run_here: RunHere) -> None:
    folder = run_here()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = {line.pop("name"): line for line in lines if line["event"] == "score"}
    for name, values in read_summary(folder)["scores"].items():
        assert {key: scores[name][key] for key in values} == values
    assert lines[-1]["event"] == "run"
    assert lines[-1]["status"] == "completed"


def hits(folder: Path) -> dict[str, bool]:
    return {name: record["hit"] for name, record in read_summary(folder)["stages"].items()}


def test_a_second_run_computes_nothing_and_another_sampler_only_samples(run_here: RunHere) -> None:
    run_here()
    again = hits(run_here("runtime.workers=2", "generator.engine=naive"))
    assert all(again.values()), again
    other = hits(run_here("sampler.temperature=0.5"))
    made = {name for name, hit in other.items() if not hit}
    assert made == {"generate", "ceiling", "floor", *PLANTED, "evaluate"}


def test_a_sampler_is_its_knobs_and_not_its_name(run_here: RunHere) -> None:
    run_here("sampler=greedy")
    again = hits(run_here("sampler=infinigram", "sampler.temperature=0", "sampler.top_k=null"))
    assert again["generate"]


def test_gc_keeps_what_a_run_was_made_of(run_here: RunHere, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    folder = run_here("metric=[copying]", outputs=outputs)
    (outputs / "runs").mkdir()
    folder.rename(outputs / "runs" / "kept")
    assert gc.main(["--unused", f"paths.outputs={outputs}"]) == 0
    assert all(hits(run_here("metric=[copying]", outputs=outputs)).values())
    assert list(outputs.glob("artifacts/measurement/*"))


def test_a_larger_corpus_reuses_the_smaller_ones_shards(run_here: RunHere) -> None:
    from imagegram.store.artifacts import ArtifactStore
    from imagegram.tools.ls import describe

    small = run_here("corpus.num_shards=1", "index.shard_tokens=1")
    outputs = Path(read_summary(small)["stages"]["index"]["path"]).parents[1]
    listed = {a.digest: describe(a) for a in ArtifactStore(root=outputs)}
    larger = run_here("corpus.num_shards=2", "index.shard_tokens=1")
    for stage in ("tokenize", "index"):
        paths = [
            Path(read_summary(folder)["stages"][stage]["path"]) / "shards.json"
            for folder in (small, larger)
        ]
        few, many = (json.loads(path.read_text())["digests"] for path in paths)
        assert set(few) < set(many)
        assert set(few) <= set(listed)


def test_gc_sees_what_a_run_under_way_refers_to(tmp_path: Path) -> None:
    cfg = compose("debug=tiny", f"paths.outputs={tmp_path}")
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    exp = build(cfg)
    with Run(cfg, exp, folder) as run:
        split = run("split", Split(corpus=exp.corpus))
        assert read_summary(folder)["status"] == "running"
        assert gc.main(["--unused", f"paths.outputs={tmp_path}"]) == 0
        assert split.artifact.path.exists()


def test_stages_end_early(run_here: RunHere) -> None:
    folder = run_here("stages=[tokenize,index]")
    assert set(hits(folder)) == {"split", "tokenize", "select", "select_holdout", "index"}
    assert read_summary(folder)["status"] == "completed"


def test_a_stage_that_is_left_out_and_not_cached_says_what_to_type(run_here: RunHere) -> None:
    run_here("stages=[tokenize,index]")
    with pytest.raises(ImagegramError, match=r"stages=\[tokenize,index,fit,generate\]"):
        run_here("stages=[evaluate]", "seed=12345")


@pytest.mark.parametrize("copies", [1, 500])
def test_a_corpus_of_copies_is_copied(tmp_path: Path, copies: int) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    originals = [
        np.kron(rng.integers(0, 256, (16, 16, 3)), np.ones((2, 2, 1))).astype(np.uint8)
        for _ in range(1 if copies == 1 else 2)
    ]
    for number in range(copies):
        name = os.fsdecode(b"caf\xe9.png") if copies == 1 else f"{number:03}.png"  # not UTF-8
        Image.fromarray(originals[number % len(originals)]).save(photos / name)
    folder = run_folder(photos, tmp_path)
    assert copies > 1 or r"caf\xe9.png" in (folder / "report.html").read_text()
    scores = read_summary(folder)["scores"]
    for name in ("exact_copy_rate", "largest_source_share", "forced_copy_rate"):
        assert scores[name]["ceiling"] == pytest.approx(1.0, abs=0.02), name
        assert scores[name]["value"] == pytest.approx(1.0, abs=0.02), name
    assert scores["exact_copy_rate"]["value"] == 1.0
    assert scores["largest_source_share"]["value"] == 1.0


def run_folder(photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    cfg = compose(
        "corpus=folder",
        f"corpus.path={photos}",
        "tokenizer=pyramid2",
        "logger=none",
        "runtime=ci",
        "num_samples=4",
        f"paths.outputs={tmp_path / 'outputs'}",
    )
    run_experiment(cfg, folder)
    return folder


def test_no_samples_is_refused(run_here: RunHere) -> None:
    with pytest.raises(ConfigError, match="num_samples must be at least 1, received 0"):
        run_here("num_samples=0")


def test_a_context_that_does_not_fit_the_tokenizer_is_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="has 3 entries, but the tokenizer has 2 levels"):
        build(compose("debug=tiny", "sampler.max_context=[1,2,3]"))


def test_an_encoder_without_its_target_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.target=VALUE"):
        build(compose("debug=tiny", "encoder=module"))


@pytest.mark.parametrize("inside", ["outputs", "a/../deep/er", "."])
def test_outputs_inside_the_corpus_are_refused(tmp_path: Path, inside: str) -> None:
    words = ["corpus=folder", f"corpus.path={tmp_path}", f"paths.outputs={tmp_path / inside}"]
    with pytest.raises(ConfigError, match="generated pictures for training images"):
        build(compose(*words))
    build(compose(*words[:1], f"corpus.path={tmp_path / 'out'}", f"paths.outputs={tmp_path}"))


def test_an_unknown_stage_is_refused(run_here: RunHere) -> None:
    with pytest.raises(ConfigError, match="did you mean 'tokenize'"):
        run_here("stages=[tokenise]")


def test_a_missing_corpus_names_folder_and_command(run_here: RunHere, tmp_path: Path) -> None:
    exp = build(compose("corpus=cc12m_10", f"paths.data={tmp_path}"))
    with pytest.raises(CorpusError, match=r"imagegram\.tools\.download corpus=cc12m_10") as caught:
        _ = exp.corpus.shards
    assert str(tmp_path / "cc12m") in str(caught.value)


def test_a_failed_job_does_not_spoil_the_others(command: Command, tmp_path: Path) -> None:
    words = ["-m", "debug=tiny", "num_samples=3,0,2", f"paths.outputs={tmp_path}"]
    words += ["metric=[copying]"]
    result = command("imagegram.run", words)
    assert result.returncode != 0
    assert "num_samples must be at least 1" in result.stderr
    summaries = [
        read_summary(path.parent) for path in sorted(tmp_path.glob("sweeps/*/*/summary.json"))
    ]
    assert [summary["status"] for summary in summaries] == ["completed", "failed", "completed"]
