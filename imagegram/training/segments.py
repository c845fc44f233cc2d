"""Training as cached stages: a chain of segments, each an artifact that the next continues from.

    state.safetensors   weights, their moving average and AdamW's moments after ``last_step`` steps
    history.jsonl       points of the curves since the first step, one JSON object a line

A state is known by what is trained, on what, and how many steps are behind it, whatever segments
led there: steps are functions of their number (``training/loop.py``). So a killed training goes on
from the last state that is there, whichever earlier ones were removed meanwhile.

States are four times as large as the weights. Nothing refers to them once a training is finished:
``python -m imagegram.tools.gc --unused`` removes them, and their images, and keeps the weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from imagegram.errors import StageError
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.stage import Context
from imagegram.training.objective import Items, Objective
from imagegram.training.optimization import Hardware, Optimization

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

STATE: Final = "state.safetensors"
HISTORY: Final = "history.jsonl"


@dataclass(frozen=True, kw_only=True)
class SegmentHandle:
    """A finished segment.

    Attributes:
        artifact: on disk.
        last_step: steps behind the state.
    """

    artifact: Artifact
    last_step: int

    @property
    def state(self) -> Path:
        """The state file."""
        return self.artifact.path / STATE

    @property
    def history(self) -> list[dict[str, Any]]:
        """Points of the curves since the first step of the training."""
        return [json.loads(line) for line in (self.artifact.path / HISTORY).open()]


@dataclass(frozen=True, kw_only=True)
class TrainSegment:
    """The stage that trains from one state to the next.

    Attributes:
        objective: network, batches, loss.
        optimization: steps of the whole training, rates, seed.
        items: what is trained on.
        validation: what the end is validated on.
        last_step: steps behind the state that is written.
        previous: a finished segment to continue from; None: fresh weights.
        hardware: where to train.
        bar: of the whole training, moved by every step; None: nobody watches.
    """

    kind: ClassVar[str] = "training_state"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1

    objective: Objective
    optimization: Optimization
    items: Items
    validation: Items
    last_step: int
    previous: SegmentHandle | None = field(default=None, metadata=NOT_IDENTITY)
    hardware: Hardware = field(default_factory=Hardware, metadata=NOT_IDENTITY)
    bar: int | None = field(default=None, metadata=NOT_IDENTITY)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write state and history.

        Raises:
            StageError: when the loss is no number.
        """
        from imagegram.training.loop import Course, train

        def advance(steps: int) -> None:
            if self.bar is not None:
                context.progress.advance(self.bar, steps)

        first_step = 0 if self.previous is None else self.previous.last_step
        course = Course(
            objective=self.objective,
            optimization=self.optimization,
            hardware=self.hardware,
            items=self.items,
            validation=self.validation,
            start=None if self.previous is None else self.previous.state,
            first_step=first_step,
            last_step=self.last_step,
            folder=out,
        )
        train(course, advance=advance)
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
        """The handle of a finished segment."""
        return SegmentHandle(artifact=artifact, last_step=self.last_step)


def train_in_segments(
    context: Context, whole: TrainSegment, *, segment_steps: int, description: str
) -> SegmentHandle:
    """Train to the end, from the last state that is there; returns the last segment.

    The curves go to the loggers after every segment, those of found segments first, so that they
    are whole after a resume.

    Args:
        context: of the stage that trains.
        whole: a segment that ends with the last step; where others end, they are the same.
        segment_steps: steps of a segment.
        description: for the bar.
    """
    ends = [*range(segment_steps, whole.last_step, segment_steps), whole.last_step]
    bar = context.progress.start(description, whole.last_step, "steps")
    segments = [replace(whole, last_step=end, bar=bar) for end in ends]
    missing = {segment.last_step for segment in context.missing(segments)}
    found = [number for number, segment in enumerate(segments) if segment.last_step not in missing]
    handle: SegmentHandle | None = None
    told = 0
    for segment in segments[found[-1] if found else 0 :]:
        is_found = segment.last_step not in missing
        handle = context.make(replace(segment, previous=handle))
        if is_found:
            context.progress.advance(bar, segment.last_step)
        for step, values in _points(handle.history):
            if step > told:
                context.log(values, step=step)
        told = segment.last_step
    context.progress.finish(bar)
    assert handle is not None
    return handle


def _points(history: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and numbers of every line."""
    for line in history:
        yield line["step"], {name: value for name, value in line.items() if name != "step"}
