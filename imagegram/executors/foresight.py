"""Foresight: takes the place of a context, and foresees what it is asked to make.

    context = Foresight(at)
    model.prepared(sampler, context, layout)  # decides as it does in a run
    context.costs                             # of what it would have made

So whatever decides in a run which artifacts are made decides in a plan which are foreseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from imagegram.errors import UnforeseenError
from imagegram.executors.progress import SilentProgress
from imagegram.store.cost import Cost
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Progress, Ready, Stage, Surroundings

T = TypeVar("T")
S = TypeVar("S", bound=Stage[Any])


@dataclass(frozen=True)
class Expected:
    """Stands for a handle of which nothing is known but its identity.

    Attributes:
        artifact: found or expected; None: its name cannot be known yet.
    """

    artifact: Artifact | None

    def identity(self) -> str:
        """Return kind/digest of the artifact."""
        if self.artifact is None:
            raise UnforeseenError("what an unforeseen stage makes has no name yet")
        return self.artifact.identity()

    def __getattr__(self, name: str) -> Any:
        """Refuse everything else."""
        raise UnforeseenError(f"{name} is known only when the stage is made")


@dataclass(frozen=True)
class Foresight:
    """The Context of a forecast.

    Attributes:
        at: what costs depend on.
        costs: of everything that was asked for, by its description.
    """

    at: Surroundings
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def progress(self) -> Progress:
        """Nothing is reported."""
        return SilentProgress()

    @property
    def workers(self) -> int:
        """Processes or threads of the run."""
        return self.at.workers

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that the run may spend."""
        return self.at.memory_bytes

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Nothing is logged."""

    def missing(self, stages: Sequence[S]) -> list[S]:
        """Return those that no artifact is there for."""
        return [stage for stage in stages if self.at.find(stage) is None]

    def make(self, stage: Stage[T] | Ready[T]) -> T:
        """Return what stands for the handle of a stage."""
        if isinstance(stage, Ready):
            return stage.value
        return self.make_all([stage], description=stage.kind)[0]

    def make_all(
        self, stages: Sequence[Stage[T]], *, description: str, at_once: int | None = None
    ) -> list[T]:
        """Return what stands for the handles of independent stages, in their order."""
        costs = [foresee_stage(stage, self.at) for stage in stages]
        self.costs[description] = Cost.together(costs, at_once=at_once or self.workers)
        return [cost.handle for cost in costs]


def foresee_stage(stage: Stage[Any], at: Surroundings) -> Cost:
    """Return the cost of a stage, with what stands for its handle; never None."""
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
    """The cost of a stage that does not foresee it: nothing where it is found."""
    if (found := at.find(stage)) is not None:
        return Cost.found(found)
    return Cost(artifact=at.expect(stage, None), known=False)
