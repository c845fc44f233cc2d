"""Training as cached stages: a chain of segments, each an artifact that the next continues from.

    state.safetensors   networks, their moving averages and the optimizers' moments (``state.py``)
    history.jsonl       points of the curves since the first step, one JSON object a line

A state is identified by objective, data and number of finished steps, whatever segments led there:
steps are functions of their number (``loop.py``). So a killed training continues from the last
state that exists, even if earlier states were removed.

With AdamW a state is four times as large as the weights. Nothing refers to states once a training
is finished: ``python -m imagegram.tools.gc --unused`` removes them, and their images, and keeps the
weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from imagegram.errors import StageError
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT
from imagegram.store.stage import Context, Stage
from imagegram.training.course import HISTORY, STATE, Course, FirstWeights
from imagegram.training.objective import Items, Objective
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact


@dataclass(frozen=True, kw_only=True)
class SegmentHandle:
    """A finished segment.

    Attributes:
        artifact: on disk.
        last_step: number of finished steps.
    """

    artifact: Artifact
    last_step: int

    @property
    def state(self) -> Path:
        """Path of the state file."""
        return self.artifact.path / STATE

    @property
    def history(self) -> list[dict[str, Any]]:
        """Points of the curves since the first step of the training."""
        return [json.loads(line) for line in (self.artifact.path / HISTORY).open()]


@dataclass(kw_only=True)
class Watcher:
    """Reports the progress of a training to a bar and to the loggers.

    Attributes:
        context: context of the stage that trains.
        bar: bar of the whole training.
        curves: stands before the names of the curves.
        step: step up to which points were logged.
    """

    context: Context
    bar: int
    curves: str = ""
    step: int = 0

    def advance(self, steps: int) -> None:
        """Move the bar."""
        self.context.progress.advance(self.bar, steps)

    def point(self, step: int, values: dict[str, float]) -> None:
        """Log a point of curves."""
        named = {f"{self.curves}{name}": value for name, value in values.items()}
        self.context.log(named, step=step)
        self.step = step

    def catch_up(self, history: list[dict[str, Any]]) -> None:
        """Log the points of a segment that were not logged while it was made."""
        missed = [line for line in history if line["step"] > self.step]
        for line in missed:
            self.point(line["step"], {k: v for k, v in line.items() if k != "step"})


@dataclass(frozen=True, kw_only=True)
class TrainSegment(Stage[SegmentHandle]):
    """The stage that trains from one state to the next.

    Attributes:
        objective: networks, batches, losses.
        optimization: steps of the whole training, rates, seed.
        items: items to train on.
        validation: items to validate on at the end.
        last_step: number of finished steps in the state that is written.
        previous: a finished segment to continue from; None: this is the first one.
        trainer: where to train.
        watcher: reports the progress of the whole training; None: no reports.
        setting: see :class:`Course`.
        first_weights: what the first step begins with; None: random weights.
    """

    kind: ClassVar[str] = "training_state"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 2

    objective: Objective
    optimization: Optimization
    items: Items
    validation: Items
    last_step: int
    previous: SegmentHandle | None = field(default=None, metadata=NOT_IDENTITY)
    trainer: TrainerOptions = field(default_factory=TrainerOptions, metadata=NOT_IDENTITY)
    watcher: Watcher | None = field(default=None, metadata=NOT_IDENTITY)
    setting: str = field(default="", metadata=NOT_IDENTITY)
    first_weights: FirstWeights | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write state and history.

        Raises:
            StageError: when the loss is not finite.
        """
        from imagegram.training.loop import train

        watcher = self.watcher or Watcher(
            context=context, bar=context.progress.start("train", self.last_step, "steps")
        )
        first_step = 0 if self.previous is None else self.previous.last_step
        course = Course(
            objective=self.objective,
            optimization=self.optimization,
            trainer=self.trainer,
            items=self.items,
            validation=self.validation,
            start=None if self.previous is None else self.previous.state,
            first_step=first_step,
            last_step=self.last_step,
            folder=out,
            setting=self.setting,
            first_weights=None if self.first_weights is None else self.first_weights.path,
        )
        train(course, advance=watcher.advance, point=watcher.point)
        if not (out / STATE).exists():
            raise StageError(
                f"training ended before step {self.last_step}: it was interrupted; run the same "
                "command again, it continues"
            )
        history = out / HISTORY
        if self.previous is not None:
            before = (self.previous.artifact.path / HISTORY).read_text()
            history.write_text(before + history.read_text())
        return {"first_step": first_step, "last_step": self.last_step}

    def load(self, artifact: Artifact) -> SegmentHandle:
        """Return the handle of a finished segment."""
        return SegmentHandle(artifact=artifact, last_step=self.last_step)


def train_in_segments(
    context: Context,
    whole: TrainSegment,
    *,
    description: str,
    curves: str = "",
    after: Callable[[SegmentHandle], None] | None = None,
) -> SegmentHandle:
    """Train to the end from the last existing state; return the last segment.

    Points of the curves go to the loggers as they come, those of found segments first, so that the
    curves are whole after a resume.

    Args:
        context: of the stage that trains.
        whole: a segment that ends with the last step; where others end, they are the same.
        description: for the bar.
        curves: stands before the names of the curves, for the loggers.
        after: called with every segment that was made, not found.
    """
    bar = context.progress.start(description, whole.last_step, "steps")
    watcher = Watcher(context=context, bar=bar, curves=curves)
    ends = whole.trainer.segment_ends(whole.last_step)
    segments = [replace(whole, last_step=end, watcher=watcher) for end in ends]
    missing = {segment.last_step for segment in context.missing(segments)}
    found = [number for number, segment in enumerate(segments) if segment.last_step not in missing]
    handle: SegmentHandle | None = None
    for segment in segments[found[-1] if found else 0 :]:
        handle = context.make(replace(segment, previous=handle))
        if segment.last_step not in missing:
            watcher.advance(segment.last_step)
        watcher.catch_up(handle.history)
        if after is not None and segment.last_step in missing:
            after(handle)
    context.progress.finish(bar)
    assert handle is not None
    return handle
