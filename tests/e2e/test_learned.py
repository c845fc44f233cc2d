"""Whole experiments with a tokenizer that is trained by the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram.plan.planner import foresee
from imagegram.run import flow
from imagegram.store.artifacts import ArtifactStore
from imagegram.tools import export
from tests.conftest import compose, read_summary
from tests.e2e.test_cached_run import run
from tests.hub_server import serving_alone

WORDS = ("tokenizer=ordered_fsq_tiny", "metric=[copying,prefix]", "encoder=pixels")
RunHere = Callable[..., Path]


def stages(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_summary(folder)["stages"]
    return found


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learned")


def test_it_is_trained_once_and_its_curves_are_told(outputs: Path) -> None:
    words = ("debug=tiny", *WORDS, f"paths.outputs={outputs}")
    first, modules = run(*words)
    assert "torch" in modules
    events = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    curve = [event for event in events if event["event"] == "curve"]
    assert [event["step"] for event in curve] == sorted(event["step"] for event in curve)
    assert curve[-1]["step"] == 150
    assert {"train/loss", "val/mse_k1", "val/mse_k8"} <= set().union(*curve)
    again, modules = run(*words)
    assert modules == "[]"
    assert all(stage["hit"] for stage in stages(again).values())
    assert read_summary(first)["scores"] == read_summary(again)["scores"]
    assert next(iter(stages(first))) == "fit_tokenizer"


def test_a_shorter_prefix_is_cut_without_training_or_tokenizing(
    outputs: Path, run_here: RunHere
) -> None:
    whole = run_here(*WORDS, outputs=outputs)
    short = run_here(*WORDS, "tokenizer.num_tokens=3", outputs=outputs)
    made = {name for name, stage in stages(short).items() if not stage["hit"]}
    assert {"fit_tokenizer", "split", "tokenize"}.isdisjoint(made)
    assert {"tokenize_prefix", "select", "select_holdout", "index", "generate"} <= made
    tokens = np.load(short / "samples" / "tokens.npy")
    assert tokens.shape[1] == 3
    scores = read_summary(short)["scores"]
    assert scores["prefix_psnr_k2"]["floor"] == pytest.approx(
        read_summary(whole)["scores"]["prefix_psnr_k2"]["floor"]
    )


def test_the_same_weights_by_another_path_find_the_same_tokens(
    outputs: Path, run_here: RunHere, tmp_path: Path
) -> None:
    whole = run_here(*WORDS, outputs=outputs)
    weights = Path(stages(whole)["fit_tokenizer"]["path"]) / "model.safetensors"
    copied = tmp_path / "other.safetensors"
    copied.write_bytes(weights.read_bytes())
    again = run_here(*WORDS, f"tokenizer.checkpoint={copied}", outputs=outputs)
    assert "fit_tokenizer" not in stages(again)
    assert all(stage["hit"] for stage in stages(again).values())


def test_what_a_run_trained_is_pushed_and_another_run_reads_it_by_name(
    outputs: Path, run_here: RunHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("metric=[copying,nll]", "encoder=pixels", "trainer.max_steps=5")
    sampled = [run_here("tokenizer=titok_tiny", "generator=ar", *words, outputs=outputs)]
    with serving_alone(monkeypatch, tmp_path / "cache", token="hf_nobody"):
        for part in ("tokenizer", "generator"):
            out = [f"part={part}", f"out={tmp_path / part}", f"push=someone/{part}"]
            assert export.main([f"run={sampled[0]}", *out]) == 0
            card = (tmp_path / part / "README.md").read_text()
            assert "Corpus: `demo_tiny`." in card
            assert "Trained for 5 steps of" in card
            assert "On held-out items: " in card
            assert str(outputs) not in card
        names = [f"{part}.checkpoint=someone/{part}" for part in ("tokenizer", "generator")]
        sampled.append(
            run_here("tokenizer=titok_tiny", "generator=ar", *names, *words, outputs=outputs)
        )
    made = {name for name, stage in stages(sampled[1]).items() if not stage["hit"]}
    assert {"fit_tokenizer", "fit", "generate"} <= made
    assert {"tokenize", "select", "index"}.isdisjoint(made)
    for name in ("samples/tokens.npy", "samples/images.npy", "samples/trace/log_prob.npy"):
        np.testing.assert_array_equal(*(np.load(folder / name) for folder in sampled))


def test_a_plan_knows_what_is_trained_and_what_is_not(outputs: Path, run_here: RunHere) -> None:
    from imagegram.experiment import build

    folder = run_here(*WORDS, outputs=outputs)

    def look(*words: str) -> dict[str, Any]:
        exp = build(compose("debug=tiny", *WORDS, f"paths.outputs={outputs}", *words))
        store = ArtifactStore(root=outputs / "artifacts")
        forecast = foresee(exp, flow, store=store, workers=1, memory_bytes=10**10, hashes=True)
        return {stage.name: stage for stage in forecast.stages}

    known = look()
    assert {name: stage.digest for name, stage in known.items() if stage.digest} == {
        name: stage["digest"] for name, stage in stages(folder).items()
    }
    assert all(stage.cached == stage.parts for name, stage in known.items() if stage.digest)
    other = look("tokenizer.optimization.steps=151", "tokenizer.num_tokens=2")
    assert other["fit_tokenizer"].cached == other["tokenize"].cached == 0
    assert other["split"].cached == 1


def test_a_trained_generator_is_audited_like_any_other(outputs: Path, run_here: RunHere) -> None:
    words = ("tokenizer=ordered_fsq_tiny", "generator=maskgit", "encoder=pixels")
    words += ("metric=[copying,order]", "trainer.max_steps=20")
    first = run_here(*words, outputs=outputs)
    assert next(name for name in stages(first) if name not in PREPARING) == "fit"
    summary = read_summary(first)
    assert {"exact_copy_rate", "largest_source_share"} <= set(summary["scores"])
    assert "forced_copy_rate" not in summary["scores"]  # the trace of a network has no counts
    assert summary["scores"]["exact_copy_rate"]["floor"] is not None
    assert "order" in (first / "report.html").read_text()
    trace = {path.stem: np.load(path) for path in (first / "samples/trace").glob("*.npy")}
    assert set(trace) == {"probability", "entropy", "step"}
    tokens = np.load(first / "samples" / "tokens.npy")
    assert all(array.shape == tokens.shape for array in trace.values())
    assert not (Path(stages(first)["floor"]["path"]) / "trace").exists()
    more = run_here(*words, "num_samples=6", outputs=outputs)
    assert stages(more)["fit"]["hit"]
    np.testing.assert_array_equal(np.load(more / "samples" / "tokens.npy")[:4], tokens)


#: Stages before a generator is fitted.
PREPARING = ("fit_tokenizer", "split", "tokenize", "select", "select_holdout", "index")


def test_tokens_of_a_grid_are_places(outputs: Path, run_here: RunHere) -> None:
    words = ("tokenizer=conv_vq_tiny", "sampler.matching=position", "encoder=pixels")
    words += ("metric=[copying,reconstruction]", "trainer.max_steps=40")
    folder = run_here(*words, outputs=outputs)
    scores = read_summary(folder)["scores"]
    assert scores["psnr"]["floor"] > 10
    assert scores["codebook_usage"]["floor"] > 0.25
    assert np.load(folder / "samples" / "tokens.npy").shape[1] == 64
    weights = Path(stages(folder)["fit_tokenizer"]["path"])
    assert (weights / "reconstructions.png").is_file()


def test_tokens_without_order_say_so(outputs: Path, run_here: RunHere) -> None:
    words = ("tokenizer=titok_tiny", "sampler.matching=position", "encoder=pixels")
    words += ("metric=[copying,aligned,prefix]", "trainer.max_steps=20")
    folder = run_here(*words, outputs=outputs)
    scores = read_summary(folder)["scores"]
    assert scores["largest_source_share"]["floor"] is not None
    assert scores["aligned_agreement"]["floor"] is not None
    assert scores["copied_prefix_share"]["value"] is None
    assert scores["prefix_psnr_k8"]["floor"] > 5
    page = (folder / "report.html").read_text()
    assert "these tokens have no order" in page
    assert "The order of these tokens says nothing" in page
    assert "By prefix position" not in page
