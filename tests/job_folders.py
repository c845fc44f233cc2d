"""Job folders of sweeps as a multirun leaves them, made in a moment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

Parts = Mapping[str, float | None]
NO_PARTS: dict[str, float | None] = dict.fromkeys(
    ("value", "floor", "ceiling", "low", "high", "normalized")
)
CONFIG: dict[str, Any] = {
    "corpus.name": "toy",
    "corpus.num_shards": 1,
    "tokenizer.name": "pyramid2",
    "tokenizer.sizes": [8, 16],
    "sampler.name": "infinigram",
    "sampler.max_context": 3,
    "sampler.matching": "free",
    "encoder.name": "pixels",
    "num_samples": 4,
    "seed": 0,
    "paths.outputs": "outputs",
}


def parts(value: float | None, **others: float | None) -> dict[str, float | None]:
    """One score of a summary."""
    return NO_PARTS | {"value": value} | others


def make_job(
    sweep: Path,
    number: int,
    *,
    config: Mapping[str, Any] | None = None,
    scores: Mapping[str, Parts] | None = None,
    recipes: Mapping[str, Mapping[str, str]] | None = None,
    status: str = "completed",
    error: str | None = None,
    num_images: int | None = None,
    samples: Sequence[int] = (),
) -> Path:
    """A job folder ``<sweep>/<number>_job``, with the artifacts that it points to beside the sweep.

    Args:
        sweep: folder of the multirun.
        number: of the job.
        config: dotted keys that differ from CONFIG; a key with None where it should be null.
        scores: of the summary.
        recipes: of its evaluation; None: the evaluation is gone.
        status: of the summary; empty: there is no summary yet.
        error: of the summary.
        num_images: of its token artifact; None: it is gone.
        samples: one grey level a sample.
    """
    folder = sweep / f"{number}_job"
    (folder / ".hydra").mkdir(parents=True)
    merged = OmegaConf.create({})
    for key, value in {**CONFIG, **(config or {})}.items():
        OmegaConf.update(merged, key, value, force_add=True)
    OmegaConf.save(merged, folder / ".hydra" / "config.yaml")
    if not status:
        return folder
    stages: dict[str, Any] = {}
    if recipes is not None:
        path = sweep / "artifacts" / f"evaluation{number}"
        path.mkdir(parents=True)
        (path / "scores.json").write_text(json.dumps({"recipes": recipes}))
        stages["evaluate"] = _stage(path)
    if num_images is not None:
        path = sweep / "artifacts" / f"tokens{number}"
        path.mkdir(parents=True)
        (path / "manifest.json").write_text(json.dumps({"facts": {"num_documents": num_images}}))
        stages["select"] = _stage(path)
    summary = {
        "status": status,
        "seed": merged.seed,
        "error": error,
        "scores": scores or {},
        "stages": stages,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    if samples:
        (folder / "samples").mkdir()
        images = np.array(samples, dtype=np.uint8)[:, None, None, None].repeat(4, axis=1)
        np.save(folder / "samples" / "images.npy", images.repeat(4, axis=2).repeat(3, axis=3))
    return folder


def _stage(path: Path) -> dict[str, Any]:
    return {"hit": False, "digest": path.name, "duration_s": 1.5, "path": str(path)}
