"""Previews: a component with the weights of an unfinished training, for pictures while it trains.

They take at most a twentieth of the time of a training, and have no part in its result.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from imagegram.store.artifacts import PARTIAL
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context
from imagegram.training.segments import SegmentHandle

#: Largest share of the time of a training that is spent on previews.
_SHARE: Final = 0.05

#: Writes what a finished training would have kept of a state, into a folder.
Write = Callable[[Path, Path], None]


class Previews:
    """Offers the component of each finished segment to the callbacks of a run.

    Args:
        context: context of the stage that trains.
        write: writes weights of a state (a path) into a folder.
        load: opens the component of such a folder.
    """

    def __init__(self, context: Context, write: Write, load: Callable[[Artifact], Any]) -> None:
        self.context, self.write, self.load = context, write, load
        self.started, self.spent = time.monotonic(), 0.0

    def __call__(self, segment: SegmentHandle) -> None:
        """Offer the component of a segment, unless previews have taken too long."""
        before = time.monotonic()
        if self.spent > _SHARE * (before - self.started):
            return
        self.context.show(lambda: self.opened(segment), step=segment.last_step)
        self.spent += time.monotonic() - before

    @contextmanager
    def opened(self, segment: SegmentHandle) -> Iterator[Any]:
        """Open the component with the weights of a segment, while the context lasts."""
        # Beside the state, where there is room; tools.gc sweeps what a killed run leaves.
        beside = segment.artifact.path.parent
        with tempfile.TemporaryDirectory(prefix=f"{PARTIAL}preview-", dir=beside) as name:
            folder = Path(name)
            self.write(folder, segment.state)
            yield self.load(Artifact(path=folder, manifest=segment.artifact.manifest))
