"""Stages, and what they may use: the contract between an experiment and the artifact store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from imagegram.store.cost import Cost, Rate
from imagegram.store.manifest import Artifact, Manifest

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", bound="Stage[Any]")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
    """Tells a person how far long work has come; may be silent."""

    def start(self, description: str, total: int, unit: str) -> int:
        """Open a bar of ``total`` units; returns its id."""

    def advance(self, task: int, steps: int = 1) -> None:
        """Move a bar."""

    def finish(self, task: int) -> None:
        """Close a bar."""


class Executor(Protocol):
    """Runs independent jobs, in this process or in others."""

    @property
    def workers(self) -> int:
        """How many jobs run at a time."""

    def map(
        self,
        function: Callable[[Item, Progress], Result],
        items: Sequence[Item],
        progress: Progress,
        *,
        at_once: int | None = None,
    ) -> Iterator[Result]:
        """Results of ``function(item, progress)`` in order; the first error stops the rest.

        At most ``at_once`` run at a time, when it is given.
        """


class Context(Protocol):
    """What a stage may use besides its own fields; none of it changes its result."""

    @property
    def progress(self) -> Progress:
        """Where to report progress."""

    @property
    def workers(self) -> int:
        """Processes or threads that this machine may spend."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that may be spent, now."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Points of curves, ``group/name``, for the loggers; training has them."""

    def missing(self, stages: Sequence[S]) -> list[S]:
        """Those that no artifact is there for."""

    def make(self, stage: Stage[T] | Ready[T]) -> T:
        """The handle of another stage, made first when it is missing (parts, features)."""

    def make_all(
        self, stages: Sequence[Stage[T]], *, description: str, at_once: int | None = None
    ) -> list[T]:
        """Handles of independent stages, made through the executor; order kept."""


class Surroundings(Protocol):
    """What the cost of a stage depends on besides its own fields."""

    @property
    def workers(self) -> int:
        """Processes or threads of the run."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that the run may spend."""

    def find(self, stage: Stage[Any]) -> Artifact | None:
        """Return the finished artifact of a stage, or None."""

    def expect(
        self,
        stage: Stage[Any],
        facts: Mapping[str, Any] | None,
        parts: Sequence[Artifact] = (),
    ) -> Artifact:
        """Return the artifact of a missing stage, as it will be named.

        Args:
            stage: of which no artifact is there.
            facts: of its manifest, as far as later stages ask; None: unknown.
            parts: found or expected, of a stage that writes a collection.
        """

    def rate(self, stage: Stage[Any], *, builtin: float | None = None) -> Rate:
        """Return how long a unit of a stage with a ``RATE`` takes.

        Args:
            stage: what is going to be made.
            builtin: seconds of a unit where no artifact tells; None: those of ``RATE``.
        """

    def newest(self, kind: str) -> Sequence[Manifest]:
        """Return the manifests of the newest artifacts of a kind, newest first."""


class Stage(Protocol[T_co]):
    """One step of an experiment: a frozen dataclass whose fields are its identity.

    A stage that derives from this class is unforeseen until it has a ``forecast`` of its own.

    Attributes:
        kind: the folder of its artifacts.
        group: the part of the flow that it belongs to, an entry of ``stages=[...]``.
        VERSION: bumped when its results change.

    Some have more:

        PARTS: classes of the stages that it makes.
        RATE: a ``PerUnit``, what the seconds of its artifacts are counted by.
        SIDE_OF: field that holds the artifact beside which this one lies; no run names it.
    """

    kind: ClassVar[str]
    group: ClassVar[str]
    VERSION: ClassVar[int]

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the artifact's files into the empty folder ``out``; return facts (JSON)."""

    def load(self, artifact: Artifact) -> T_co:
        """The typed handle of a finished artifact; opens memory maps, reads no bulk data."""

    def forecast(self, at: Surroundings) -> Cost | None:
        """Return what the stage costs, or the counts of its artifact where that is found.

        Called before anything is made. None: unknown, which plans say.
        """
        return None


@dataclass(frozen=True)
class Ready(Generic[T_co]):
    """A value that a run hands back as it is, where others learn: there is nothing to make.

    Attributes:
        value: what ``run`` returns.
    """

    value: T_co
