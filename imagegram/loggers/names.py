"""Name, group and tags of a run in dashboards: one run a job, jobs grouped by sweep.

The running job knows Hydra's configuration, a finished one has it in ``.hydra/hydra.yaml``; both
are named here, so that a dashboard that is built again looks like the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

#: The groups whose choices become tags.
_TAGGED: Final = ("corpus", "tokenizer", "sampler")
#: W&B takes no longer tag.
_MAX_TAG: Final = 64
#: ... and shows no longer name; the job's number is in its folder, so nothing is confused.
_MAX_NAME: Final = 128


def running_names(folder: Path) -> dict[str, Any]:
    """Names of the job of this process.

    Args:
        folder: its run folder.
    """
    from hydra.core.hydra_config import HydraConfig

    return run_names(folder, HydraConfig.get() if HydraConfig.initialized() else None)


def run_names(folder: Path, hydra: Any | None) -> dict[str, Any]:
    """``name``, ``group`` and ``tags`` of a run.

    Args:
        folder: its run folder.
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
