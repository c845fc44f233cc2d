"""Stages, and what they may use: the contract between an experiment and the artifact store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
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
    """Progress bars of long work; may be silent."""

    def start(self, description: str, total: int, unit: str) -> int:
        """Open a bar of ``total`` units; return its id."""

    def advance(self, task: int, steps: int = 1) -> None:
        """Move a bar."""

    def finish(self, task: int) -> None:
        """Close a bar."""


class Executor(Protocol):
    """Runs independent jobs, in this process, in others, or on other machines."""

    @property
    def workers(self) -> int:
        """Number of threads that a stage may use in this process."""

    @property
    def elsewhere(self) -> bool:
        """Whether jobs run on other machines, which all have threads of their own."""

    def threads(self, num_jobs: int, at_once: int | None) -> int:
        """Return the number of threads that each of some jobs may use, ``at_once`` at a time."""

    def map(
        self,
        function: Callable[[Item, Progress], Result],
        items: Sequence[Item],
        progress: Progress,
        *,
        at_once: int | None = None,
    ) -> Iterator[Result]:
        """Return the results of ``function(item, progress)`` in order; an error stops the rest.

        At most ``at_once`` jobs run at a time on a machine, if given.
        """


@dataclass
class Made:
    """What a context has made so far.

    Attributes:
        seconds: that it took, each counted once where one artifact is made on the way to another.
        bytes: that were written, without files that artifacts share.
    """

    seconds: float = 0.0
    bytes: int = 0

    def add(self, artifact: Artifact) -> None:
        """Count the bytes of a new artifact."""
        states = [(artifact.path / name).stat() for name in artifact.manifest.files]
        self.bytes += sum(state.st_size for state in states if state.st_nlink == 1)


class Context(Protocol):
    """Means that a stage may use besides its own fields; they never change its result."""

    @property
    def made(self) -> Made:
        """What was made so far, by :meth:`make` and :meth:`make_all`."""

    @property
    def progress(self) -> Progress:
        """Progress bars of the run."""

    @property
    def workers(self) -> int:
        """Number of processes or threads that stages may use."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that stages may use, as of now."""

    @property
    def elsewhere(self) -> bool:
        """Whether :meth:`make_all` makes stages on other machines."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Pass points of curves, ``group/name``, on to the loggers (used by training)."""

    def show(self, opens: Callable[[], AbstractContextManager[Any]], *, step: int) -> None:
        """Offer a component with the weights of a step to whoever shows what it can do by now.

        Args:
            opens: opens the component, while its context lasts; costs a read of its weights.
            step: number of finished steps.
        """

    def missing(self, stages: Sequence[S]) -> list[S]:
        """Return the stages that have no artifact yet."""

    def make(self, stage: Stage[T] | Ready[T]) -> T:
        """Return the handle of another stage, after making its artifact if that is missing."""

    def make_all(
        self, stages: Sequence[Stage[T]], *, description: str, at_once: int | None = None
    ) -> list[T]:
        """Return the handles of independent stages, in order, made by the executor."""


class Surroundings(Protocol):
    """Store, workers and memory that the cost of a stage depends on besides its own fields."""

    @property
    def workers(self) -> int:
        """Number of processes or threads of the run."""

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
            stage: a stage without an artifact.
            facts: expected facts of its manifest that later stages read; None: unknown.
            parts: parts of a collection, found or expected.
        """

    def rate(self, stage: Stage[Any], *, builtin: float | None = None) -> Rate:
        """Return the seconds per unit of a stage with a ``RATE``.

        Args:
            stage: the stage to be made.
            builtin: seconds per unit when no artifact has been measured; None: those of ``RATE``.
        """

    def newest(self, kind: str) -> Sequence[Manifest]:
        """Return the manifests of the newest artifacts of a kind, newest first."""


class Stage(Protocol[T_co]):
    """One step of an experiment: a frozen dataclass whose fields are its identity.

    The cost of a stage is unknown until its class overrides ``forecast``.

    Attributes:
        kind: folder of its artifacts.
        group: part of the flow that it belongs to, an entry of ``stages=[...]``.
        VERSION: bumped when its results change.

    Some have more:

        PARTS: classes of the stages that it makes.
        RATE: a ``PerUnit``, the unit that its duration is proportional to.
        units: method that counts the units of its ``RATE`` by the facts of an artifact.
        kernels: packages of the compiled kernels that it calls, see ``early_kernels.py``.
        SIDE_OF: field with the artifact that this one belongs to; runs do not list it.
    """

    kind: ClassVar[str]
    group: ClassVar[str]
    VERSION: ClassVar[int]

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the artifact's files into the empty folder ``out``; return its facts (JSON)."""

    def load(self, artifact: Artifact) -> T_co:
        """Return the typed handle of a finished artifact; opens memory maps, reads no bulk data."""

    def forecast(self, at: Surroundings) -> Cost | None:
        """Return the cost of the stage, or the counts of its artifact if that is found.

        Called before anything is made. None: unknown; plans then report the stage as unforeseen.
        """
        return None


@dataclass(frozen=True)
class Ready(Generic[T_co]):
    """A stage that makes no artifact: a run returns its value, as for an untrained component.

    Attributes:
        value: value that the run returns.
    """

    value: T_co


class Makes(Protocol):
    """A flow's way to a result: find a stage's artifact, or make it, or foresee it."""

    def __call__(self, name: str, stage: Stage[T] | Ready[T]) -> T:
        """Return the handle of a stage, which the run records under a name."""
