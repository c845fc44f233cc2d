"""Foresight: a context that estimates the cost of stages instead of making them.

    context = Foresight(at)
    model.prepared(sampler, context, layout)  # decides as it does in a run
    context.costs                             # costs of the stages that it would have made

So the same code decides which artifacts a run makes and which of them a plan counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from imagegram.errors import UnforeseenError
from imagegram.executors.progress import SilentProgress
from imagegram.store.cost import Cost
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Made, Progress, Ready, Stage, Surroundings

T = TypeVar("T")
S = TypeVar("S", bound=Stage[Any])


@dataclass(frozen=True)
class Expected:
    """A stand-in for a handle in a plan; only its identity is known.

    Attributes:
        artifact: found or expected; None when its digest cannot be known yet.
    """

    artifact: Artifact | None

    def identity(self) -> str:
        """Return kind/digest of the artifact."""
        if self.artifact is None:
            raise UnforeseenError("what an unforeseen stage makes has no name yet")
        return self.artifact.identity()

    def __getattr__(self, name: str) -> Any:
        """Refuse every other attribute."""
        raise UnforeseenError(f"{name} is known only when the stage is made")


@dataclass(frozen=True)
class Foresight:
    """The Context of a forecast.

    Attributes:
        at: store, workers and memory that costs depend on.
        costs: cost of every requested stage, by its description.
    """

    at: Surroundings
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def made(self) -> Made:
        """Nothing."""
        return Made()

    @property
    def progress(self) -> Progress:
        """Progress that shows nothing."""
        return SilentProgress()

    @property
    def workers(self) -> int:
        """Number of processes or threads of the run."""
        return self.at.workers

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that the run may spend."""
        return self.at.memory_bytes

    @property
    def elsewhere(self) -> bool:
        """False: a plan is of this machine."""
        return False

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Drop the points: a plan logs nothing."""

    def show(self, opens: Callable[[], AbstractContextManager[Any]], *, step: int) -> None:
        """Show nothing: a plan trains nothing."""

    def missing(self, stages: Sequence[S]) -> list[S]:
        """Return the stages that have no artifact yet."""
        return [stage for stage in stages if self.at.find(stage) is None]

    def make(self, stage: Stage[T] | Ready[T]) -> T:
        """Return a stand-in for the handle of a stage, and note its cost."""
        if isinstance(stage, Ready):
            return stage.value
        return self.make_all([stage], description=stage.kind)[0]

    def make_all(
        self, stages: Sequence[Stage[T]], *, description: str, at_once: int | None = None
    ) -> list[T]:
        """Return stand-ins for handles of independent stages, in order, and note their costs."""
        costs = [foresee_stage(stage, self.at) for stage in stages]
        self.costs[description] = Cost.together(costs, at_once=at_once or self.workers)
        return [cost.handle for cost in costs]


def foresee_stage(stage: Stage[Any], at: Surroundings) -> Cost:
    """Return the cost of a stage, including a stand-in for its handle."""
    try:
        cost = stage.forecast(at) or _unforeseen(stage, at)
    except UnforeseenError:
        cost = Cost(known=False)
    if cost.handle is not None:
        return cost
    if cost.artifact is not None and cost.artifact.is_made:
        return replace(cost, handle=stage.load(cost.artifact))
    return replace(cost, handle=Expected(cost.artifact))


def _unforeseen(stage: Stage[Any], at: Surroundings) -> Cost:
    """Return the cost of a stage without a forecast: zero if its artifact exists, else unknown."""
    if (found := at.find(stage)) is not None:
        return Cost.found(found)
    return Cost(artifact=at.expect(stage, None), known=False)
