"""Jobs of a sweep, read from their folders: configuration, scores, recipes, stages.

A job that failed, was killed or never began is also a job: it has a status and no scores.

>>> flatten({"sampler": {"name": "greedy", "top_k": None}, "sizes": [8, 16]})
{'sampler.name': 'greedy', 'sampler.top_k': None, 'sizes': '[8, 16]'}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from imagegram.errors import ConfigError
from imagegram.metrics.shipped import recorded_infos
from imagegram.records import ScoreInfo
from imagegram.stages.evaluate import SCORES, Score
from imagegram.store.run_files import SUMMARY

#: Fields of every score in ``summary.json``, in the order of the tables.
PARTS: Final = ("value", "floor", "ceiling", "low", "high", "normalized")
Scalar = bool | int | float | str | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run folder.

    Attributes:
        folder: absolute path of the run folder.
        name: name of the folder, after that of its sweep where several sweeps are read.
        status: ``completed``, ``failed``, ``interrupted``, ``running`` (killed, or at work) or
            ``unreadable``.
        error: why it failed, or cannot be read.
        config: flattened, interpolations as written, lists as JSON.
        scores: by name.
        recipes: recipe by score name (what comparable numbers must share); None when its artifact
            was removed.
        infos: description by score name.
        stages: by name, ``hit``, ``digest``, ``duration_s`` and ``path``.
        num_images: number of training images; None when its artifact was removed.
    """

    folder: Path
    name: str
    status: str
    error: str | None = None
    config: Mapping[str, Scalar] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, str]] | None = None
    infos: Mapping[str, ScoreInfo] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    num_images: int | None = None

    @property
    def is_completed(self) -> bool:
        """Whether every requested stage finished."""
        return self.status == "completed"

    @property
    def outcome(self) -> str:
        """Status for readers; a job that did not record its end is unfinished."""
        return "unfinished" if self.status == "running" else self.status

    @property
    def seed(self) -> Scalar:
        """Seed of the samples; None when the configuration cannot be read."""
        return self.config.get("seed")

    @property
    def duration_s(self) -> float:
        """Duration of all stages of this run, in seconds."""
        return sum(float(stage["duration_s"]) for stage in self.stages.values())


def flatten(node: Any, prefix: str = "") -> dict[str, Scalar]:
    """Flatten nested mappings, joining keys by dots; values other than scalars become JSON."""
    if isinstance(node, Mapping):
        flat: dict[str, Scalar] = {}
        for key, value in node.items():
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    plain = node is None or isinstance(node, bool | int | float | str)
    return {prefix: node if plain else json.dumps(node)}


def read_jobs(paths: Sequence[Path]) -> tuple[Job, ...]:
    """Read the jobs of sweeps or runs; jobs of a sweep are in the order in which they began.

    Args:
        paths: folders of multiruns, or single run folders; one named twice is read once.

    Raises:
        ConfigError: a folder is missing, or holds no job; says what to type.
    """
    folders = dict.fromkeys(folder for path in paths for folder in job_folders(path))
    several = len({folder.parent for folder in folders}) > 1
    return tuple(
        read_job(folder, f"{folder.parent.name}/{folder.name}" if several else folder.name)
        for folder in folders
    )


def job_folders(path: Path) -> list[Path]:
    """Return the run folders of a sweep; for a run folder, itself.

    Raises:
        ConfigError: there is no run folder.
    """
    if not path.is_dir():
        raise ConfigError(f"sweep: no folder {path.absolute()}{_suggestion(path)}")
    path = path.resolve()
    if is_job(path):
        return [path]
    children = [child for child in path.iterdir() if not child.is_symlink()]  # outputs/latest
    found = sorted((child for child in children if is_job(child)), key=_order)
    if not found:
        raise ConfigError(
            f"sweep: {path} holds no job (a folder with summary.json or .hydra/config.yaml)"
            f"{_suggestion(path)}"
        )
    return found


def newest_sweep(outputs: Path) -> Path | None:
    """Return the multirun that began last below an outputs folder."""
    sweeps = sorted(child for child in (outputs / "sweeps").glob("*") if child.is_dir())
    return sweeps[-1] if sweeps else None


def read_job(folder: Path, name: str) -> Job:
    """Read one run folder; read errors are reported in ``status`` and ``error``."""
    try:
        config = flatten(OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml")))
        if not (folder / SUMMARY).exists():
            return Job(folder=folder, name=name, status="running", config=config)
        summary = json.loads((folder / SUMMARY).read_text())
        scores = {
            score: Score(**{part: parts.get(part) for part in PARTS})
            for score, parts in summary["scores"].items()
        }
        record = _read_record(folder, summary["stages"].get("evaluate"))
        tokens = _find_artifact(folder, summary["stages"].get("select"), "manifest.json")
        return Job(
            folder=folder,
            name=name,
            status=summary["status"],
            error=summary["error"],
            config=config,
            scores=scores,
            recipes=record.get("recipes"),
            infos=recorded_infos(record, scores),
            stages=summary["stages"],
            num_images=json.loads(tokens.read_text())["facts"]["num_documents"] if tokens else None,
        )
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = f"{type(error).__name__}: {error}"
        return Job(folder=folder, name=name, status="unreadable", error=reason)


def planned_jobs(sweep: Path) -> int | None:
    """Return the planned number of jobs of a multirun; None if only its sweeper knows it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        hydra = OmegaConf.load(sweep / "multirun.yaml").hydra
        if not hydra.sweeper._target_.endswith("BasicSweeper"):
            return None
        params = [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()]
        last = {  # an override on the command line replaces that of the experiment
            item.get_key_element(): item
            for item in OverridesParser.create().parse_overrides(
                params + list(hydra.overrides.task)
            )
        }
    except (OSError, OmegaConfBaseException, HydraException):
        return None
    count = 1
    for item in last.values():
        if item.is_sweep_override():
            count *= len(list(item.sweep_string_iterator()))
    return count


def _read_record(folder: Path, stage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Read the ``scores.json`` of a run, or of its artifact in older run folders; else empty."""
    own = folder / SCORES
    path = own if own.is_file() else _find_artifact(folder, stage, SCORES)
    record: dict[str, Any] = json.loads(path.read_text()) if path else {}
    return record


def _find_artifact(folder: Path, stage: Mapping[str, Any] | None, file: str) -> Path | None:
    """Find a file of a stage's artifact, also after the outputs folder was moved."""
    if stage is None:
        return None
    recorded = Path(stage["path"])
    moved: Iterable[Path] = (
        parent / "artifacts" / recorded.parent.name / recorded.name for parent in folder.parents
    )
    return next((path / file for path in (recorded, *moved) if (path / file).is_file()), None)


def is_job(folder: Path) -> bool:
    """Return whether a folder is a run folder."""
    return (folder / SUMMARY).is_file() or (folder / ".hydra" / "config.yaml").is_file()


def _order(folder: Path) -> tuple[float, str]:
    number = re.match(r"\d+", folder.name)
    return (int(number[0]) if number else float("inf"), folder.name)


def _suggestion(path: Path) -> str:
    for outputs in (path, path.parent, path.parent.parent, Path("outputs")):
        if newest := newest_sweep(outputs):
            return f"; the newest sweep there is: sweep={newest}"
    return "; make a sweep: python -m imagegram.run -m sampler.max_context=3,6,12"
