"""Build the W&B dashboard again from ``outputs/``: every finished run; offline without a key.

python -m imagegram.tools.sync_wandb                       all runs and sweeps below outputs/
python -m imagegram.tools.sync_wandb --dry-run             say what would be written
python -m imagegram.tools.sync_wandb project=NAME entity=ME paths.outputs=FOLDER

A run folder holds all that the live logger had: configuration, numbers, pictures. The runs are
written below ``outputs/wandb/`` under an id that follows from the folder's name and what was made
in it, so that a second call writes only what is new.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from imagegram.callbacks.sample_grid import SampleGrid
from imagegram.callbacks.throughput import Throughput
from imagegram.callbacks.worst_copies import WorstCopies
from imagegram.errors import ConfigError
from imagegram.executors.progress import RichProgress
from imagegram.loggers.headline import dashboard
from imagegram.loggers.mirror import Mirror
from imagegram.loggers.names import run_names
from imagegram.loggers.wandb import TARGET, has_key
from imagegram.tools.arguments import exit_cleanly, parse

#: Where the runs are written, below ``outputs/``.
FOLDER: Final = "wandb"
_PARTIAL: Final = ".partial-"


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run folder, read.

    Attributes:
        outputs: the outputs folder that it lies in; may have been moved since the run.
        folder: the run folder.
        summary: ``summary.json``.
    """

    outputs: Path
    folder: Path
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        """Its place below ``outputs/``."""
        return self.folder.relative_to(self.outputs).as_posix()

    @property
    def run_id(self) -> str:
        """What W&B calls it: 16 hexadecimal digits of name and digests."""
        digests = {name: stage["digest"] for name, stage in self.summary["stages"].items()}
        words = json.dumps([self.name, digests], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:16]

    def hydra(self) -> Any | None:
        """The node ``hydra`` of the configuration; None when Hydra did not start the run."""
        path = self.folder / ".hydra" / "hydra.yaml"
        return OmegaConf.load(path).hydra if path.exists() else None

    def config(self) -> dict[str, Any]:
        """What the live logger got: the configuration, less the loggers, and what was counted."""
        path = self.folder / ".hydra" / "config.yaml"
        config = OmegaConf.load(path) if path.exists() else OmegaConf.create({})
        assert isinstance(config, DictConfig)
        config.pop("logger", None)  # names the run folder through a resolver of the running job
        values: Any = OmegaConf.to_container(config, resolve=True)
        return {"seed": self.summary["seed"], **values, **self.summary.get("config", {})}

    def scalars(self) -> dict[str, float]:
        """Scores in every form that dashboards show."""
        record: dict[str, Any] = {}
        if stage := self.summary["stages"].get("evaluate"):
            place = Path(stage["path"]).parts[-2:]  # kind/digest
            path = self.outputs.joinpath("artifacts", *place, "scores.json")
            if path.exists():  # the cache may have been emptied
                record = json.loads(path.read_text())
        return dashboard(
            self.summary["scores"],
            recipes=record.get("recipes"),
            intervals=record.get("intervals"),
        )

    def replay(self, mirror: Mirror) -> None:
        """Show the callbacks what the live run showed them."""
        records = {name: SimpleNamespace(**stage) for name, stage in self.summary["stages"].items()}
        run = SimpleNamespace(folder=self.folder, mirror=mirror, records=records)
        for name in records:
            handle = SimpleNamespace(artifact=SimpleNamespace(facts={}))
            if name == "generate":
                handle.images = np.load(self.folder / "samples" / "images.npy", mmap_mode="r")
                tokens_BT = np.load(self.folder / "samples" / "tokens.npy", mmap_mode="r")
                handle.artifact.facts = dict(
                    zip(("num_images", "num_tokens"), tokens_BT.shape, strict=True)
                )
                SampleGrid().on_stage_end(run, name, handle)
            Throughput().on_stage_end(run, name, handle)
        WorstCopies().on_run_end(run)


def stored_runs(outputs: Path) -> list[StoredRun]:
    """All run folders below an outputs folder, oldest first.

    Raises:
        ConfigError: for a summary that is none, and when there is no run at all.
    """
    found = [*outputs.glob("runs/*/summary.json"), *outputs.glob("sweeps/*/*/summary.json")]
    runs = []
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns):
        try:
            summary = json.loads(path.read_text())
        except ValueError as error:
            raise ConfigError(
                f"{path} cannot be read ({error}); remove the folder {path.parent} and try again"
            ) from error
        runs.append(StoredRun(outputs=outputs, folder=path.parent, summary=summary))
    if not runs:
        raise ConfigError(
            f"no runs in {outputs.absolute()}; name another folder with paths.outputs=FOLDER, or "
            "make one: python -m imagegram.run"
        )
    return runs


def written_ids(target: Path) -> set[str]:
    """Ids of the W&B runs in a folder; a run is moved there when it is whole."""
    return {path.stem.removeprefix("run-") for path in target.glob("*run-*/run-*.wandb")}


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Nobody else writes into ``target``; what a killed writer left is removed.

    Raises:
        ConfigError: when somebody else does.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target / ".lock", timeout=0):
            for abandoned in target.glob(f"{_PARTIAL}*"):
                shutil.rmtree(abandoned)
            yield
    except Timeout as error:
        raise ConfigError(
            f"another sync_wandb is writing to {target}; wait until it has ended"
        ) from error


def write(run: StoredRun, target: Path, **node: Any) -> None:
    """Write one W&B run into ``target``: whole, or not at all.

    W&B still writes when a run has finished; only its teardown waits for the last byte.

    Args:
        run: what to write.
        target: folder of W&B runs.
        node: ``project``, ``offline`` and further arguments of ``wandb.init``.
    """
    import wandb

    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=target) as partial:
        node |= {"_target_": TARGET, "save_dir": partial, "id": run.run_id}
        mirror = Mirror({"wandb": node}, **run_names(run.folder, run.hydra()))
        status = "failed"
        try:
            mirror.config(run.config())
            run.replay(mirror)
            mirror.scalars(run.scalars())
            status = "success"
        finally:
            mirror.finish(status)
            wandb.teardown()
        (written,) = Path(partial).glob(f"wandb/*run-*-{run.run_id}")
        shutil.move(written, target / written.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Write what is missing; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m imagegram.tools.sync_wandb",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be written")
    keys = {"paths.outputs": "outputs", "project": "imagegram", "entity": ""}
    flags, values = parse(parser, argv, keys)
    outputs = Path(values["paths.outputs"])
    target = outputs / FOLDER
    runs = stored_runs(outputs)
    finished = [run for run in runs if run.summary["status"] == "completed"]
    for run in runs:
        if run not in finished:
            print(f"left out, {run.summary['status']}: {run.name}")
    offline = not has_key()
    node: dict[str, Any] = {"project": values["project"], "offline": offline}
    if values["entity"]:
        node["entity"] = values["entity"]
    if not offline:
        node["resume"] = "allow"  # the server may know the id already
    verb = "would write" if flags.dry_run else "wrote"
    with nullcontext() if flags.dry_run else locked(target):
        known = written_ids(target)
        missing = [run for run in finished if run.run_id not in known]
        if not flags.dry_run:
            _write_all(missing, target, node)
    for run in missing:
        print(f"{verb} {run.run_id}: {run.name}")
    print(
        f"{verb} {len(missing)} runs; {len(finished) - len(missing)} were there, "
        f"{len(runs) - len(finished)} are unfinished"
    )
    if live := sum(any(run.folder.glob("wandb/*run-*")) for run in finished):
        print(f"{live} runs also have a wandb/ of their own; upload that or this, not both")
    if offline and not flags.dry_run:
        print(f"to upload: wandb sync {target}/offline-run-*")
    return 0


def _write_all(runs: Sequence[StoredRun], target: Path, node: dict[str, Any]) -> None:
    with RichProgress() as progress:
        task = progress.start("W&B runs", len(runs), "runs")
        for run in runs:
            write(run, target, **node)
            progress.advance(task)
        progress.finish(task)


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
