"""Throughput: logs the duration of each stage and the rate of generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Logs ``<stage>/duration_s`` and, where tokens were generated, ``generate/tokens_per_s``."""

    def on_stage_start(self, run: Any, name: str) -> None:
        """Do nothing: the run measures the time."""

    def on_stage_end(self, run: Any, name: str, handle: Any) -> None:
        """Log the seconds, and the rate unless the stage was found in the cache."""
        record = run.records[name]
        values = {f"{name}/duration_s": record.duration_s}
        if not record.hit and name == "generate":
            facts = handle.artifact.facts
            tokens = facts["num_images"] * facts["num_tokens"]
            values[f"{name}/tokens_per_s"] = tokens / record.duration_s
        run.mirror.scalars(values)

    def on_run_end(self, run: Any) -> None:
        """Do nothing: each stage was logged when it ended."""
