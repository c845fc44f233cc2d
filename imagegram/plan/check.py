"""The check at the start of a run: refuses a run that the machine cannot hold."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Final

from omegaconf import DictConfig

from imagegram.errors import CapacityError, ImagegramError
from imagegram.executors.budget import budget_bytes
from imagegram.experiment import Experiment, num_workers
from imagegram.plan.forecast import Forecast
from imagegram.plan.planner import Flow, foresee
from imagegram.plan.rates import Rates
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import human_bytes

#: Number of records of an uncached corpus that the first, rough estimate counts.
_QUICK_RECORDS: Final = 1000


def refuse_what_cannot_fit(cfg: DictConfig, exp: Experiment, flow: Flow) -> Forecast | None:
    """Refuse a run that needs more disk than ``paths.outputs`` has free, or too much memory.

    A rough estimate comes first; only if it would refuse the run, all records are counted. Errors
    of the corpus or the store are left to the run, which reports them with the stage's name.

    Returns:
        The forecast; None when there is none.

    Raises:
        CapacityError: saying what is needed, what is free, and what to type.
    """
    outputs = Path(cfg.paths.outputs).absolute()
    outputs.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(outputs).free
    store = ArtifactStore(root=outputs / "artifacts")
    look = partial(
        foresee,
        exp,
        flow,
        store=store,
        workers=num_workers(cfg),
        memory_bytes=budget_bytes(cfg.runtime.memory_gb),
        rates=Rates(None),
    )
    try:
        forecast = look(max_counted=_QUICK_RECORDS)
        if forecast.disk_bytes > free or forecast.refusals:
            forecast = look(max_counted=None, hashes=True)
    except ImagegramError:
        return None
    if forecast.disk_bytes > free:
        raise _refusal(forecast, free, outputs)
    if forecast.refusals:
        raise CapacityError(forecast.refusals[0])
    return forecast


def _refusal(forecast: Forecast, free: int, outputs: Path) -> CapacityError:
    largest = max(forecast.stages, key=lambda stage: stage.disk_bytes)
    return CapacityError(
        f"the run needs {human_bytes(forecast.disk_bytes)} more in {outputs}, most of it for "
        f"{largest.name} ({human_bytes(largest.disk_bytes)}), but {human_bytes(free)} are free; "
        "type python -m imagegram.tools.plan with the same words to see every stage, then take a "
        "smaller corpus or tokenizer, give another folder with paths.outputs=FOLDER, or make room: "
        "python -m imagegram.tools.gc"
    )
