"""Name, group and tags of a run in dashboards: one run per job, jobs grouped by sweep.

A running job reads Hydra's configuration from memory, a finished one from ``.hydra/hydra.yaml``;
both get their names here, so that a rebuilt dashboard equals the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

#: The groups whose choices become tags.
_TAGGED: Final = ("corpus", "tokenizer", "sampler")
#: Longest tag that W&B accepts.
_MAX_TAG: Final = 64
#: Longest name that W&B shows; the job's number is in its folder, so names stay distinct.
_MAX_NAME: Final = 128


def running_names(folder: Path) -> dict[str, Any]:
    """Return the names of the job in this process.

    Args:
        folder: its run folder.
    """
    from hydra.core.hydra_config import HydraConfig

    return run_names(folder, HydraConfig.get() if HydraConfig.initialized() else None)


def run_names(folder: Path, hydra: Any | None) -> dict[str, Any]:
    """Return ``name``, ``group`` and ``tags`` of a run.

    Args:
        folder: the run folder.
        hydra: the node ``hydra`` of its configuration; None when Hydra did not start it.
    """
    if hydra is None:
        return {"name": folder.name, "group": "notebook", "tags": []}
    choices = hydra.runtime.choices
    tags = [f"{group}={choices[group]}"[:_MAX_TAG] for group in _TAGGED]
    experiment = choices.get("experiment")
    if str(getattr(hydra.mode, "name", hydra.mode)) == "MULTIRUN":
        name = hydra.job.override_dirname or folder.name
        group = experiment or folder.parent.name
    else:
        name, group = folder.name, experiment or "runs"
    return {"name": name[:_MAX_NAME], "group": group, "tags": tags}
