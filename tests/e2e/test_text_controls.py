"""Whole runs of the controls of a latent flow on texts: they continue texts, and are scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagegram.run import run_experiment
from imagegram.texts.samples import read_texts
from tests.e2e.test_text_runs import configured

SMALL = (
    *("trainer=cpu", "trainer.max_steps=20", "num_samples=4", "metric=[nll]", "planted=[]"),
    *("generator.width=16", "generator.depth=1", "generator.num_heads=2", "tokenizer.window=10"),
    *("generator.optimization.looks=2", "generator.validation_fraction=0.1"),
    *("condition=prompt", "condition.texts=[The,'']"),
)


@pytest.mark.parametrize("name", ["masked_diffusion", "chunk_transformer"])
def test_a_control_writes_scores_and_continues_texts(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    finished = run_experiment(configured(tmp_path, f"generator={name}", *SMALL), run)
    assert np.load(run / "samples" / "tokens.npy").shape == (4, 10)
    texts = read_texts(run / "samples" / "texts.jsonl")
    assert [text.startswith("The") for text in texts[::2]] == [True, True]
    for score in ("nll_bits_per_token", "nll_bits_per_byte"):
        values = finished.scores[score]
        assert 0 < values["floor"] < 15
        assert 0 < values["ceiling"] < 15
