"""A whole run over sentence codes: learned, indexed, generated, measured, shown; and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.run import run_experiment
from imagegram.store.artifacts import ArtifactStore
from imagegram.texts.samples import read_texts
from tests.conftest import compose, read_summary
from tests.documents import documents
from tests.sentence_encoders import write_encoder

METRICS = "metric=[copying,verbatim,vocabulary,codes,kd_minilm]"


def configured(root: Path, *words: str, outputs: str = "outputs") -> Any:
    """A run on stories of a small language, with a tiny encoder."""
    root.mkdir(exist_ok=True)
    if not (root / "encoder").is_dir():
        write_encoder(root / "encoder")
    texts = root / "stories.jsonl"
    lines = [{"key": f"story{n}", "text": text} for n, text in enumerate(documents(150, seed=7))]
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return compose(
        *("modality=text", "debug=tiny_text", "tokenizer=sentence_rvq_tiny", "corpus=jsonl"),
        *(f"corpus.files={texts}", f"tokenizer.embedder.folder={root}/encoder"),
        *(f"paths.outputs={root}/{outputs}", METRICS, "num_samples=12"),
        f"metric.kd_minilm.embedder.folder={root}/encoder",
        *words,
    )


def run(root: Path, name: str, *words: str, outputs: str = "outputs") -> Path:
    cfg = configured(root, *words, outputs=outputs)
    folder = root / name
    folder.mkdir()
    run_experiment(cfg, folder)
    return folder


def test_a_run_over_codes_is_measured_and_found_again(tmp_path: Path) -> None:
    folder = run(tmp_path, "run")
    scores = json.loads((folder / "scores.json").read_text())["values"]
    assert scores["code_agreement"]["floor"] == scores["code_agreement"]["ceiling"] == 1
    assert scores["code_error_4"]["floor"] < scores["code_error_1"]["floor"]
    assert scores["exact_copy_rate"]["ceiling"] == 1
    assert scores["exact_copy_rate"]["copies_20"] > 0
    assert "kd_text_encoder" in scores
    tokens = np.load(folder / "samples" / "tokens.npy")
    assert tokens.shape == (12, 16)
    written = tokens < 65535
    assert ((tokens // 16 == np.arange(16) % 4) | ~written).all()  # each token at its stage
    texts = read_texts(folder / "samples" / "texts.jsonl")
    stories = " ".join(documents(150, seed=7))
    assert all(one.strip(". ") in stories for text in texts for one in text.split(". ") if one)
    assert 'class="run s0 o' in (folder / "report.html").read_text()
    again = read_summary(run(tmp_path, "again"))
    assert all(stage["hit"] for stage in again["stages"].values())


def written(root: Path) -> dict[str, int]:
    """When each finished part of the embedding was written."""
    parts = (root / "outputs" / "artifacts" / "sentence_vectors").glob("[0-9a-f]*")
    return {part.name: (part / "vectors.npy").stat().st_mtime_ns for part in parts}


def test_a_killed_embedding_goes_on_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, calls = SentenceEmbedder.embed, []

    def killed(self: SentenceEmbedder, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(self, *args, **kwargs)

    monkeypatch.setattr(SentenceEmbedder, "embed", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "killed", "stages=[tokenize]")
    kept = written(tmp_path)
    assert len(kept) == 2
    run(tmp_path, "resumed", "stages=[tokenize]")
    monkeypatch.undo()
    assert kept.items() < written(tmp_path).items()
    run(tmp_path, "whole", "stages=[tokenize]", outputs="other")
    ours, theirs = (
        {
            one.identity(): one.manifest.files
            for one in ArtifactStore(root=tmp_path / name / "artifacts")
        }
        for name in ("outputs", "other")
    )
    assert ours.keys() == theirs.keys()
    for name in ours:
        if name.split("/")[0] in ("sentence_vectors", "sentences", "tokenizer", "token_shard"):
            assert ours[name] == theirs[name]
