"""A run whose artifacts are all there starts nothing that only computing needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import REPOSITORY, clean_environment, read_summary

HEAVY = ("torch", "lightning", "numba", "faiss", "sklearn", "skimage", "matplotlib", "tensorboard")
PROGRAM = f"""
import sys
from imagegram.run import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
print([name for name in {HEAVY} if name in sys.modules])
"""


def run(*words: str) -> tuple[Path, str]:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    folder, modules = result.stdout.splitlines()[-2:]
    return Path(folder), modules


def test_a_cached_run_imports_no_compiler_and_no_network(demo_outputs: Path) -> None:
    words = ["debug=tiny", "logger=wandb", f"paths.outputs={demo_outputs}"]
    first, _ = run(*words)
    again, modules = run(*words)
    assert modules == "[]"
    summaries = [read_summary(folder) for folder in (first, again)]
    assert all(stage["hit"] for stage in summaries[1]["stages"].values())
    assert summaries[0]["scores"] == summaries[1]["scores"]
    files = [
        {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if "wandb" not in path.parts
        }
        for folder in (first, again)
    ]
    assert files[0] == files[1]
    assert list(again.glob("wandb/offline-run-*/*.wandb"))
    pictures = [
        (folder / "report.html").read_text().count("data:image/png") for folder in (first, again)
    ]
    assert pictures[0] == pictures[1] > 8


def test_another_generator_measures_its_own_samples_alone(
    run_here: Callable[..., Path], tmp_path: Path
) -> None:
    """Floors, ceilings and planted sets are measured once, whatever generator is beside them."""
    words = ("metric=[copying]", "planted=[copies_20]")
    learned = (
        "generator=maskgit",
        "generator.width=16",
        "generator.depth=1",
        "generator.optimization.steps=2",
        "generator.optimization.warmup_steps=0",
        "generator.optimization.batch_size=2",
    )
    run_here(*words, outputs=tmp_path / "outputs")
    measured = {path.name for path in (tmp_path / "outputs/artifacts/measurement").iterdir()}
    folder = run_here(*words, *learned, outputs=tmp_path / "outputs")
    after = {path.name for path in (tmp_path / "outputs/artifacts/measurement").iterdir()}
    assert len(measured) == 4  # generated, floor, ceiling, planted
    assert len(after - measured) == 1
    stages = read_summary(folder)["stages"]
    assert [name for name, record in stages.items() if not record["hit"]] == [
        "fit", "generate", "ceiling", "floor", "copies_20", "evaluate"
    ]  # fmt: skip
