"""An auditor: what was written, encoded again by another tokenizer and looked up in its index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate

from imagegram.errors import ConfigError
from imagegram.experiment import build
from imagegram.indexes.open import open_index
from imagegram.records import EOS_TOKEN_ID
from imagegram.run import run_experiment
from imagegram.texts.samples import read_texts
from tests.conftest import compose
from tests.documents import documents

WORDS = (
    *("modality=text", "tokenizer.vocab_size=256", "tokenizer.window=40", "num_samples=16"),
    *("metric=[copying,verbatim,vocabulary]", "planted=[copies_50]", "sampler.max_context=6"),
    *("logger=none", "runtime=ci"),
)
AUDITOR = ("auditor=bpe", "auditor.vocab_size=330", "auditor.window=20")


def configured(root: Path, *words: str) -> Any:
    """A configuration whose corpus was written beforehand."""
    cfg = compose(*WORDS, f"paths.outputs={root}/outputs", *words)
    folder = instantiate(cfg.corpus, _convert_="all").folder
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"key": f"story{n}", "text": text} for n, text in enumerate(documents(200, seed=7))]
    (folder / "00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return cfg


def longest_run(row: list[int], documents: list[bytes]) -> int:
    """Most tokens in a row that a document has too, by looking for all of them."""
    for length in range(len(row), 0, -1):
        for start in range(len(row) - length + 1):
            run = np.array(row[start : start + length], dtype=">u4").tobytes()
            if any(run in document for document in documents):
                return length
    return 0


def test_what_is_written_is_looked_up_in_the_tokens_of_the_auditor(tmp_path: Path) -> None:
    (run := tmp_path / "run").mkdir()
    finished = run_experiment(configured(tmp_path, *AUDITOR), run)
    scores = finished.scores
    stages = finished.records
    assert {"auditor_tokenizer", "auditor_tokenize", "auditor_index"} <= set(stages)
    # Both are there, under names of their own; a metric that looks nothing up is measured once.
    assert {"exact_copy_rate", "surface_exact_copy_rate"} <= set(scores)
    assert not any(name.startswith("surface_legal") for name in scores)
    # In bytes a run is several times as long as in pieces.
    assert scores["longest_run_tokens"]["value"] > scores["surface_longest_run_tokens"]["value"] > 1
    share = scores["surface_largest_source_share"]
    assert share["ceiling"] > max(share["floor"], 0.9)
    # The texts are those of the samples, read again by the merges of the auditor.
    merges = next(Path(stages["auditor_tokenizer"].path).glob("tokenizer.json"))
    auditor = instantiate(
        compose(*WORDS, *AUDITOR).auditor, checkpoint=str(merges), _convert_="all"
    )
    texts = read_texts(run / "samples" / "texts.jsonl")
    expected = [auditor.encode([text]).documents[0][:20].tolist() for text in texts]
    folders = (tmp_path / "outputs" / "artifacts" / "surface").iterdir()
    rows = [np.load(folder / "tokens.npy") for folder in folders]
    padded = [row + [EOS_TOKEN_ID] * (20 - len(row)) for row in expected]
    assert padded in [tokens_BT.tolist() for tokens_BT in rows]
    # Their longest runs are those that a search through all training documents finds.
    opened = open_index(stages["auditor_index"].path)
    train = [opened.document(n).astype(">u4").tobytes() for n in range(opened.num_documents)]
    slow = [longest_run(row, train) for row in expected]
    assert scores["surface_longest_run_tokens"]["value"] == pytest.approx(np.mean(slow))


def test_an_auditor_changes_nothing_of_the_scores_and_the_answer(tmp_path: Path) -> None:
    (first := tmp_path / "first").mkdir()
    (second := tmp_path / "second").mkdir()
    without = run_experiment(configured(tmp_path), first)
    both = run_experiment(configured(tmp_path, *AUDITOR), second)
    assert all(both.scores[name] == score for name, score in without.scores.items())
    assert both.answer is not None
    assert without.answer is not None
    assert [n.title for n in both.answer.numbers] == [n.title for n in without.answer.numbers]
    page = (second / "report.html").read_text()
    assert "longest copied run, tokens of the surface" in page
    assert "auditor.window, whose ends are not read" in page


def test_images_have_no_auditor() -> None:
    with pytest.raises(ConfigError, match="auditor=bpe reads texts, but corpus=demo holds images"):
        build(compose("auditor=bpe"))
