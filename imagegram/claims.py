"""A run folder belongs to one run, and the folder of a multirun to one multirun.

    with opened(cfg, folder):      # refused when another run has the folder, whoever is faster
        ...

The claim is the file ``summary.json`` (of a multirun ``.claimed``), created only if it is not
there: of several processes exactly one succeeds, also on a network file system. Hydra's own copies
of the configuration are written after it, for Hydra itself would write into the folder of another.
"""

from __future__ import annotations

import atexit
import json
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from imagegram.errors import ConfigError, ImagegramError
from imagegram.experiment import build
from imagegram.store.run_files import SUMMARY, write_summary
from imagegram.sweeps.jobs import is_job
from imagegram.sweeps.objective import check_objective, check_search
from imagegram.sweeps.search import check_values, continue_search, is_search, varied_keys

#: Says that a folder of jobs belongs to a multirun.
CLAIMED: Final = ".claimed"
#: Folder of the configuration inside a run folder; its files are Hydra's.
_HYDRA: Final = ".hydra"


@contextmanager
def opened(cfg: DictConfig, folder: Path) -> Iterator[None]:
    """Claim a run folder, and record how it ended if that happens before the run has begun.

    Args:
        cfg: configuration of the run.
        folder: made when it is not there.

    Raises:
        ConfigError: when the folder is that of another run.
    """
    _claim(cfg, folder)
    try:
        yield
    except BaseException as error:
        summary = json.loads((folder / SUMMARY).read_text())
        if summary["status"] == "running":  # no run has closed it
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            write_summary(folder, **(summary | {"status": status, "error": str(error)}))
        raise


def _claim(cfg: DictConfig, folder: Path) -> None:
    begun = {
        "status": "running",
        "seed": cfg.seed,
        "scores": {},
        "config": {},
        "stages": {},
        "notes": [],
        "error": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / SUMMARY).open("x") as stream:
            stream.write(json.dumps(begun, indent=1) + "\n")
    except FileExistsError:
        raise _taken(folder) from None
    (folder / _HYDRA).mkdir(exist_ok=True)
    OmegaConf.save(cfg, folder / _HYDRA / "config.yaml")
    if HydraConfig.initialized():
        node = HydraConfig.get()
        OmegaConf.save(OmegaConf.create({"hydra": node}), folder / _HYDRA / "hydra.yaml")
        OmegaConf.save(node.overrides.task, folder / _HYDRA / "overrides.yaml")


def _taken(folder: Path) -> ConfigError:
    status = ""
    with suppress(OSError, ValueError, KeyError, TypeError):
        status = f" ({json.loads((folder / SUMMARY).read_text())['status']})"
    return ConfigError(
        f"{folder} holds another run{status}, and a run folder belongs to one run; leave out "
        f"hydra.run.dir= (what was computed is found again), or move the old one: {_move(folder)}"
    )


def _move(folder: Path) -> str:
    """Return the command that moves a folder aside, to a name that is free."""
    number = next(n for n in range(1, 10**6) if not folder.with_name(f"{folder.name}.{n}").exists())
    return f"mv {shlex.quote(str(folder))} {shlex.quote(f'{folder}.{number}')}"


class Claims(Callback):
    """Hydra callback that refuses, before anything is made, what no run and no sweep can use.

    Its refusals end the process: Hydra turns other errors of a callback into warnings.

    Attributes:
        jobs, values: jobs of a multirun that ended in this process, and those with a result.
    """

    def __init__(self) -> None:
        self.jobs = self.values = 0

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folders of a run."""
        with _refusing():
            _check_folders(config, Path(config.hydra.run.dir), "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the folder of a multirun; let a search go on where its study is."""
        folder = Path(config.hydra.sweep.dir)
        with _refusing():
            _check_folders(config, folder, "hydra.sweep.dir")
            _check_search(config)
            claim_sweep(folder)
            continue_search(config.hydra)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """End a search without any value in a sentence: its sweeper would look for the best."""
        self.jobs += 1
        self.values += (
            job_return.status == JobStatus.COMPLETED and job_return.return_value is not None
        )
        if is_search(config.hydra) and self.jobs == config.hydra.sweeper.n_trials:
            with _refusing():
                check_values(config.hydra, self.values)


def _check_search(config: DictConfig) -> None:
    """Refuse an objective that no job can have, before a study counts a trial.

    Where the jobs differ in what they measure, or a value is missing that only they have, each job
    is checked when it begins.
    """
    check_search(config.hydra, config.objective)
    varied = {key.partition(".")[0] for key in varied_keys(config.hydra)}
    if config.objective.minimize is None or varied & {"metric", "encoder", "stages"}:
        return
    try:
        exp = build(config)
    except ImagegramError:
        return
    check_objective(config.objective, exp.metrics, exp.stages)


def claim_sweep(folder: Path) -> None:
    """Claim the folder of a multirun.

    Raises:
        ConfigError: when it holds jobs, or another multirun has claimed it.
    """
    jobs = _num_jobs(folder)
    try:
        if jobs:
            raise FileExistsError
        (folder / CLAIMED).open("x").close()
        atexit.register(_release, folder)
    except FileExistsError:
        raise ConfigError(
            f"{folder} holds another sweep ({jobs} jobs), and its report would mix the two; leave "
            "out hydra.sweep.dir= (what was computed is found again: a sweep that was cut short "
            f"goes on at once), or move the old one: {_move(folder)}"
        ) from None


def _release(folder: Path) -> None:
    """Give up the folder of a multirun that ended before its first job: it is not used."""
    with suppress(OSError):
        if not _num_jobs(folder):
            (folder / CLAIMED).unlink()


def _num_jobs(folder: Path) -> int:
    return sum(is_job(child) for child in folder.iterdir() if not child.is_symlink())


def _check_folders(config: DictConfig, folder: Path, key: str) -> None:
    """Refuse folders that cannot be written, and a change of the working directory.

    Raises:
        ConfigError: naming the folder and the reason.
    """
    if config.hydra.job.chdir:
        raise ConfigError(
            "hydra.job.chdir=true would make every relative path mean another place (outputs, "
            "data, corpus.path); leave it out: a run writes into its run folder without it"
        )
    check_writable(Path(config.paths.outputs), "paths.outputs")
    check_writable(folder, key)


def check_writable(folder: Path, key: str) -> None:
    """Make a folder, and write a file there.

    Raises:
        ConfigError: naming the folder and the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write to {folder.absolute()}: {error.strerror}; "
            f"give another folder: {key}=FOLDER"
        ) from error


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except ImagegramError as error:
        sys.stderr.write(f"imagegram: {error}\n")
        sys.exit(1)
