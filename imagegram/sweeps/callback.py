"""A Hydra callback that writes the report of a multirun into its folder when it ends.

    python -m imagegram.run -m sampler.max_context=3,6,12

On by default through ``conf/hydra/callbacks/sweep_report.yaml``; ``hydra/callbacks=none`` turns it
off. It does nothing in a single run, and this module imports little because every run imports it.
"""

from __future__ import annotations

import atexit
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepReport(Callback):
    """Hydra callback that writes the report of a multirun; its errors never fail the sweep."""

    def __init__(self) -> None:
        self.folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the folder; Hydra does not call the end hook if a job of the multirun failed."""
        self.folder = Path(config.hydra.sweep.dir).absolute()
        atexit.register(self._write)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report."""
        atexit.unregister(self._write)
        self._write()

    def _write(self) -> None:
        if self.folder is None or not any(self.folder.glob("*/summary.json")):
            return  # no job began, or the sweeper keeps its jobs elsewhere
        try:
            from imagegram.sweeps.write import write_report

            path = write_report([self.folder], out=self.folder)
        except Exception as error:  # noqa: BLE001 - the jobs are finished and must count as such
            again = f"python -m imagegram.tools.report sweep={self.folder}"
            reason = f"{type(error).__name__}: {error}"
            sys.stderr.write(f"imagegram: no report of the sweep ({reason}); try: {again}\n")
        else:
            sys.stderr.write(f"report of the sweep: {path}\n")
