"""Import: the stage that takes the weights of a file over, instead of a training.

``generators/weights.py`` and ``tokenizers/imports.py`` say for what: which weights fit, and what is
kept of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from imagegram.store.cost import Cost
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.stage import Context, Stage, Surroundings
from imagegram.store.weights import FetchFile, Source

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

T_co = TypeVar("T_co", covariant=True)


class Importable(Protocol[T_co]):
    """A component whose weights may come from a file."""

    @property
    def name(self) -> str:
        """Name of the component."""

    @property
    def architecture(self) -> Any:
        """Sizes of the network."""

    def trained(self, artifact: Artifact) -> T_co:
        """Return the component with the weights in an artifact."""


C = TypeVar("C", bound=Importable[Any])


@dataclass(frozen=True, kw_only=True)
class Import(Stage[T_co], Generic[T_co, C]):
    """The stage that checks the weights of a file and keeps them as a training would.

    Attributes:
        component: what the weights are for.
        source: the file.
    """

    PARTS: ClassVar[tuple[type, ...]] = (FetchFile,)

    component: C = field(metadata=NOT_IDENTITY)
    source: Source

    def identity(self) -> dict[str, Any]:
        """Return the identity: sizes and weights."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "architecture": identity(self.component.architecture),
            "weights": self.source.identity(),
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the weights.

        Raises:
            ConfigError: for weights of another network.
        """
        path = self.source.fetched(context)
        return {"name": self.component.name, "file": path.name, **self.take_over(path, out)}

    def take_over(self, path: Path, out: Path) -> dict[str, Any]:
        """Write the weights of a file as a training does; return facts of them.

        Raises:
            ConfigError: for weights of another network.
        """
        raise NotImplementedError

    def load(self, artifact: Artifact) -> T_co:
        """Return the component with the weights."""
        loaded: T_co = self.component.trained(artifact)
        return loaded

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee a copy of the weights."""
        if found := at.find(self):
            return Cost.found(found)
        expected = at.expect(self, {})
        return Cost(
            artifact=expected,
            handle=self.foreseen(expected),
            disk_bytes=self.source.size_bytes,
            memory_bytes=2 * self.source.size_bytes,
            source="size of the file",
        )

    def foreseen(self, expected: Artifact) -> Any:
        """Return what a plan goes on with, for an artifact that is still to be made."""
        return self.load(expected)
