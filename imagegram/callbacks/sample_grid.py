"""SampleGrid: sends the generated images to every logger that accepts pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from imagegram.images import grids


@dataclass(frozen=True, kw_only=True)
class SampleGrid:
    """Logs ``generate/grid`` and ``generate/samples`` after the generate stage, of images.

    Attributes:
        max_images: single samples to log; the grid shows at most 64.
    """

    max_images: int = 16

    def on_stage_start(self, run: Any, name: str) -> None:
        """Do nothing: there are no pictures yet."""

    def on_stage_end(self, run: Any, name: str, handle: Any) -> None:
        """Send the pictures."""
        if name != "generate" or handle.images is None:
            return
        images = np.asarray(handle.images[: self.max_images])
        run.mirror.images("generate/grid", grids.grid(handle.images[:64])[None], ["samples"])
        run.mirror.images("generate/samples", images, [f"sample {i}" for i in range(len(images))])

    def on_run_end(self, run: Any) -> None:
        """Do nothing: the pictures were sent after the generate stage."""
