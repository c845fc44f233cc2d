"""Train: one cached stage that trains a component on data and returns it with its weights.

A component that learns is a frozen dataclass with ``optimization`` and ``trainer`` among its
fields; see :class:`Trainable`. The stage prepares the data, trains in cached segments, and lets the
component write the weights that it keeps of the last state, beside ``history.jsonl``, the curves.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TypeVar, cast

from imagegram.errors import ConfigError
from imagegram.store.cost import NPY_HEADER, PROCESS_BYTES, Cost
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.stage import Context, Stage, Surroundings
from imagegram.training.course import HISTORY
from imagegram.training.objective import VALIDATION, Data, Items, Objective, Prepared
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.pixels import CorpusPixels
from imagegram.training.previews import Previews
from imagegram.training.segments import SegmentHandle, TrainSegment, train_in_segments
from imagegram.training.tokens import TokenData

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact
    from imagegram.training.state import TrainingState

#: Bytes of a float32 parameter.
_BYTES: Final = 4
#: Copies of the weights in a state: the weights, their average, two moments. In a step the
#: gradients come to them.
_STATE: Final = 4

T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D", bound=Data)


class Trainable(Protocol[T_co]):
    """A component that is trained.

    Its ``__post_init__`` applies the overrides of the group ``trainer`` and checks both::

        prefix = "generator.optimization."
        effective = self.trainer.applied_to(self.optimization, prefix=prefix)
        object.__setattr__(self, "optimization", effective)
    """

    @property
    def name(self) -> str:
        """Name of the component in tables and progress bars."""

    @property
    def optimization(self) -> Optimization:
        """Steps, rates and seed: what decides the weights besides objective and data."""

    @property
    def trainer(self) -> TrainerOptions:
        """Where the component is trained; not part of its identity."""

    def objective(self) -> Objective:
        """Return the objective; its identity is used for that of the component."""

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the weights that :meth:`trained` reads, and pictures, into the artifact's folder.

        Args:
            out: the folder of the artifact.
            state: the last state.
            validation: items that were validated on.
        """

    def trained(self, artifact: Artifact) -> T_co:
        """Return the component with the weights of a finished training; reads no bulk data."""


class LearnsClasses(Protocol[T_co]):
    """A component whose items may have classes; how many is known when they have been read."""

    def with_classes(self, classes: tuple[str, ...]) -> Trainable[T_co]:
        """Return the component for items of these classes."""


@dataclass(frozen=True, kw_only=True)
class Train(Stage[T_co], Generic[T_co, D]):
    """The stage that prepares data, trains a component and keeps its weights.

    Attributes:
        component: the component to train.
        data: the data to train it on.
        curves: stands before the names of its curves.
    """

    PARTS: ClassVar[tuple[type, ...]]
    #: How fields of the component are written on the command line.
    SETTING: ClassVar[str]

    component: Trainable[T_co]
    data: D
    curves: str = field(default="", metadata=NOT_IDENTITY)

    def identity(self) -> dict[str, Any]:
        """Return the identity: objective, optimization and data, not the other fields."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "objective": identity(self.component.objective()),
            "optimization": identity(self.component.optimization),
            "data": self.data.identity(),
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Train, then write the component's weights and ``history.jsonl``."""
        from imagegram.training.state import TrainingState

        prepared = self.data.prepare(context)
        self._check_keep(prepared)
        component = self._for(self.begun(context), prepared)
        optimization, whole = component.optimization, self._whole(component, prepared)
        last = train_in_segments(
            context,
            whole,
            description=f"train {component.name}",
            curves=self.curves,
            after=self._after(context, component, prepared.validation),
        )
        shutil.copyfile(last.artifact.path / HISTORY, out / HISTORY)
        state = TrainingState.read(last.state).with_best()
        component.write_trained(out, state, prepared.validation)
        kept = last.last_step if state.best is None else state.best.step
        scores = {
            name: value
            for line in last.history
            if line["step"] == kept
            for name, value in line.items()
            if name.startswith("val/")
        }
        return {
            "name": self.component.name,
            "steps": optimization.steps,
            "num_items": len(prepared.items),
            "validated_on": prepared.validated_on,
            **({} if state.best is None else {"kept_step": kept}),
            **({"num_classes": len(prepared.classes)} if prepared.classes else {}),
            **scores,
        }

    def _check_keep(self, prepared: Prepared) -> None:
        """Refuse to choose weights on what is measured, or where nothing tells which are best.

        Raises:
            ConfigError: with what to type.
        """
        if self.component.optimization.keep != "best":
            return
        asked = f"{self.SETTING}optimization.keep=best"
        if prepared.validated_on != VALIDATION:
            raise ConfigError(
                f"{asked} chooses weights by a validation loss, but {self.component.name} has no "
                "part that is validated on, and held-out documents are the floor; type "
                f"{self.SETTING}optimization.keep=last"
            )
        if self.component.objective().module().validation_loss is None:
            raise ConfigError(
                f"{asked}: {self.component.name} has no validation loss; type "
                f"{self.SETTING}optimization.keep=last"
            )

    def begun(self, context: Context) -> Trainable[T_co]:
        """Return the component with all that its training begins with."""
        return self.component

    def _for(self, component: Trainable[T_co], prepared: Prepared) -> Trainable[T_co]:
        """Return the component for the classes of its items."""
        if not prepared.classes:
            return component
        return cast(LearnsClasses[T_co], component).with_classes(prepared.classes)

    def _whole(self, component: Trainable[T_co], prepared: Prepared) -> TrainSegment:
        """Return the whole training as one segment."""
        return TrainSegment(
            objective=component.objective(),
            optimization=component.optimization,
            items=prepared.items,
            validation=prepared.validation,
            last_step=component.optimization.steps,
            trainer=component.trainer,
            setting=self.SETTING,
        )

    def _after(
        self, context: Context, component: Trainable[T_co], validation: Items
    ) -> Callable[[SegmentHandle], None] | None:
        """Return what is done after every segment; None: nothing."""
        return None

    def load(self, artifact: Artifact) -> T_co:
        """Return the component with its weights."""
        return self.component.trained(artifact)


@dataclass(frozen=True, kw_only=True)
class TrainTokenizer(Train[T_co, CorpusPixels]):
    """The stage that trains a tokenizer on the images of a corpus."""

    kind: ClassVar[str] = "tokenizer"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (*CorpusPixels.PARTS, TrainSegment)
    SETTING: ClassVar[str] = "tokenizer."

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee the disk space of the pixels; the duration of a training cannot be foreseen.

        Until it has weights, a tokenizer is identified by its recipe: no later stage is found.
        """
        if found := at.find(self):
            return Cost.found(found)
        images = sum(map(len, self.data.corpus.shards))
        return Cost(
            artifact=at.expect(self, {}),
            handle=self.component,
            images=images,
            disk_bytes=images * 3 * self.data.image_size**2 + NPY_HEADER,
            source="time not foreseen",
        )


@dataclass(frozen=True, kw_only=True)
class TrainGenerator(Train[T_co, TokenData]):
    """The stage that trains a generator on the tokens of a corpus."""

    kind: ClassVar[str] = "generator"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (*TokenData.PARTS, TrainSegment)
    SETTING: ClassVar[str] = "generator."

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee the disk space of weights and states, and the memory of one step's weights.

        How long a training takes, and what its features need, cannot be foreseen; neither can the
        number of labels, which are read when it begins.
        """
        if found := at.find(self):
            return Cost.found(found, images=self.data.tokens.num_documents)
        expected = at.expect(self, {})
        model = self.component.trained(expected)
        weights = _BYTES * _num_parameters(model)
        states = self._missing_states(at)
        return Cost(
            artifact=expected,
            handle=model,
            images=self.data.tokens.num_documents,
            disk_bytes=weights * (1 + _STATE * states),
            memory_bytes=PROCESS_BYTES + weights * (1 + _STATE),
            source="time not foreseen",
        )

    def _after(
        self, context: Context, component: Trainable[T_co], validation: Items
    ) -> Callable[[SegmentHandle], None] | None:
        """Return what offers the generator in training to those who show samples of it."""
        from imagegram.training.state import TrainingState

        def write(out: Path, state: Path) -> None:
            component.write_trained(out, TrainingState.read(state), validation)

        return Previews(context, write, component.trained)

    def _missing_states(self, at: Surroundings) -> int:
        """Return the number of states still to be written, after the last one that exists."""
        ends = self.component.trainer.segment_ends(self.component.optimization.steps)
        prepared = self.data.found(at)
        if prepared is None:
            return len(ends)
        whole = self._whole(self._for(self.component, prepared), prepared)
        found = [at.find(replace(whole, last_step=end)) is not None for end in ends]
        return found[::-1].index(True) if any(found) else len(ends)


def _num_parameters(model: Any) -> int:
    """Return the number of parameters of a model that says what its network is; else 0."""
    make: Any = getattr(model, "make_network", None)
    if make is None:
        return 0
    import torch

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make().parameters())
