"""tools.latents on a finished run: texts to latents and back, noise, prompts, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram.errors import ConfigError
from imagegram.run import run_experiment
from imagegram.tools.latents import main
from tests.e2e.test_text_runs import configured

SMALL = (
    *("generator=latent_flow", "trainer=cpu", "trainer.max_steps=20", "num_samples=2"),
    *("generator.width=16", "generator.depth=1", "generator.num_heads=2"),
    *("generator.autoencoder.width=32", "generator.autoencoder.latent_size=8"),
    *("planted=[]", "metric=[copying]", "tokenizer.window=10"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("latents")
    (root / "run").mkdir()
    run_experiment(configured(root, *SMALL), root / "run")
    return f"run={root / 'run'}"


def test_texts_become_latents_and_latents_texts(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "latents.npy"
    assert main(["encode", run, "text=The cat sat", f"out={out}"]) == 0
    latents: Any = np.load(out)
    assert latents.dtype == np.float32
    assert latents.shape[0] == 1
    assert latents.shape[1] <= 3  # ten tokens are three chunks
    assert latents.shape[2] == 8
    with pytest.raises(ConfigError, match="exists already"):
        main(["encode", run, "text=The cat sat", f"out={out}"])
    capsys.readouterr()
    main(["decode", run, f"latents={out}"])
    decoded = capsys.readouterr().out
    main(["reconstruct", run, "text=The cat sat"])
    assert capsys.readouterr().out == decoded
    main(["denoise", run, "text=The cat sat", "noise=0"])
    assert capsys.readouterr().out == decoded


def test_prompts_and_seeds(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["continue", run, "text=The", "num_samples=2", "seed=3"])
    lines = capsys.readouterr().out
    assert lines.startswith("The")
    main(["continue", run, "text=The", "num_samples=2", "seed=3"])
    assert capsys.readouterr().out == lines
    main(["generate", run, "num_samples=2"])
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reconstruct"], "text= is missing"),
        (["encode", "text=a", "out=a.pkl"], "must end in .npy"),
        (["denoise", "text=a", "noise=2"], "must lie in 0 ... 1"),
        (["denoise", "text=a", "noise=much"], "is no number"),
        (["decode", "latents=missing.npy"], "there is no such file"),
        (["encode", "text=a", "out=missing/a.npy"], "there is no folder missing"),
        (["generate", "num_samples=0"], "num_samples=0 must be a whole number of at least 1"),
        (["generate", "num_samples=1.5"], "num_samples=1.5 must be a whole number"),
        (["continue", "text=a", "seed=-1"], "seed=-1 must be a whole number of at least 0"),
        (["denoise", "text=a", "seed=nan"], "seed=nan must be a whole number"),
        (["reconstruct", "text=" + "The cat sat on the mat. " * 9], "this run has latents for 10"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    run: str, words: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        main([*words, run])


def test_pickles_and_latents_of_other_runs_are_refused(run: str, tmp_path: Path) -> None:
    pickled, other = tmp_path / "pickled.npy", tmp_path / "other.npy"
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    np.save(other, np.zeros((1, 3, 7), dtype=np.float32))
    with pytest.raises(ConfigError, match="no array of numbers"):
        main(["decode", run, f"latents={pickled}"])
    with pytest.raises(ConfigError, match=r"received \(1, 3, 7\)"):
        main(["decode", run, f"latents={other}"])
