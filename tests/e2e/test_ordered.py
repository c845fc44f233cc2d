"""Whole experiments with an ordered tokenizer: every metric, the originals, the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram import schema
from imagegram.images.decode import decode_image
from imagegram.run import run_experiment
from imagegram.stages.evaluate import Evaluation
from imagegram.store.manifest import Artifact, Manifest
from tests.conftest import read_summary
from tests.ordered_tokenizer import BatchedOrderedTokenizer, compose_ordered, square
from tests.pictures import encode, noise

#: All but those whose weights are installed apart.
METRICS = sorted({path.stem for path in schema.CONF.glob("metric/*.yaml")} - {"lpips", "judge"})
FIELDS: dict[str, Any] = {"num_tokens": 16, "image_size": 16, "digits": [39, 39, 41]}


@pytest.fixture(scope="module")
def folder(demo_outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny demo in which everything is measured."""
    words = ["debug=tiny", f"paths.outputs={demo_outputs}", f"metric=[{','.join(METRICS)}]"]
    words += ["encoder=pixels", "num_samples=12", "planted=[shuffled,collages]"]
    folder = tmp_path_factory.mktemp("ordered")
    run_experiment(compose_ordered(*words, batched=True, **FIELDS), folder)
    return folder


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    path = Path(read_summary(folder)["stages"]["evaluate"]["path"])
    return Evaluation(artifact=Artifact(path=path, manifest=Manifest.read(path)))


def test_every_score_is_there_or_says_why(evaluation: Evaluation) -> None:
    values, notes = evaluation.values, evaluation.notes
    for score, sets in values.items():
        missing = [which for which, value in sets.items() if value is None]
        assert not missing or score in notes
    whole = {name for name, sets in values.items() if all(v is None for v in sets.values())}
    assert "novelty_n32" in whole  # of images of 16 tokens
    assert not whole & {"exact_copy_rate", "bits_per_dim", "aligned_agreement", "order"}
    assert not [name for name in values if "level" in name]
    collages = {name: sets["collages"] for name, sets in values.items()}
    assert collages["copied_through_k4_rate"] == 1
    assert collages["copied_through_k16_rate"] == 0
    assert values["copied_through_k16_rate"]["ceiling"] == 1


def test_the_error_falls_with_the_prefix_and_ends_at_that_of_all_tokens(
    evaluation: Evaluation,
) -> None:
    for which in ("floor", "ceiling"):
        curves = evaluation.curves[which]
        assert curves["prefix_lengths"].tolist() == [1, 2, 4, 8, 16]
        assert (np.diff(curves["prefix_psnr"]) > 0).all()
        psnr = evaluation.values["psnr"][which]
        assert curves["prefix_psnr"][-1] == pytest.approx(psnr)
        assert curves["id_entropy"].shape == (16,)


def test_the_report_tells_positions_and_draws_no_cells(folder: Path) -> None:
    html = (folder / "report.html").read_text()
    for title in ("By prefix position", "Reconstruction by prefix length", "What the scores can"):
        assert title in html
    assert "Where there was choice" not in html
    assert not re.search(r"level \d", html)
    assert html.count('class="ribbon"') == html.count('class="plate"') == 12
    assert "row 0" not in html


def test_originals_are_what_the_tokenizer_sees_of_the_files(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(30):
        wide = np.concatenate([noise(number, size=40), noise(99 - number, size=40)], axis=1)
        (photos / f"{number:02}.png").write_bytes(encode(wide))
    words = [f"paths.outputs={tmp_path / 'outputs'}", "logger=none", "runtime=ci"]
    words += ["corpus=folder", f"corpus.path={photos}", "num_samples=4"]
    words += ["metric=[reconstruction]", "encoder=pixels"]
    config = compose_ordered(*words, batched=True, **FIELDS)
    folder = tmp_path / "run"
    folder.mkdir()
    run_experiment(config, folder)
    ceiling = Path(read_summary(folder)["stages"]["ceiling"]["path"])
    tokenizer = BatchedOrderedTokenizer(**FIELDS)
    images = np.load(ceiling / "images.npy")
    prepared = [square(decode_image(file.read_bytes()), 16) for file in sorted(photos.iterdir())]
    decoded = tokenizer.decode(tokenizer.encode(prepared).documents)
    errors = []
    for image in images:
        (match,) = np.flatnonzero((decoded == image).all(axis=(1, 2, 3)))
        errors.append(((image.astype(float) - prepared[match]) ** 2).mean())
    scores = json.loads((folder / "summary.json").read_text())["scores"]
    assert scores["psnr"]["ceiling"] == pytest.approx(10 * np.log10(255**2 / np.mean(errors)))
