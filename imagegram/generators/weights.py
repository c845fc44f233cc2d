"""ImportWeights: the stage that takes weights over, instead of a training, or before one.

Where they are says ``generator.checkpoint``, or ``generator.start`` where a training begins with
them (:class:`TrainFrom`), see ``store/weights.py``. Whose classes the weights
know is beside them, where a training of this package wrote them. Published ones do not tell: their
classes are numbers, 0 ... K - 1, unless the corpus has labels that are no numbers, and as many:
then its labels in sorted order, which is how ImageNet's synsets are numbered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar, cast

from imagegram import schema
from imagegram.errors import ConfigError
from imagegram.models.checkpoints import Shapes, read_tensors, require_shapes, shapes_of
from imagegram.models.imports import Import, Importable
from imagegram.store.stage import Context
from imagegram.store.weights import CLASSES, Source, read_classes
from imagegram.training.course import FirstWeights
from imagegram.training.fit import Trainable, TrainGenerator
from imagegram.training.objective import Prepared
from imagegram.training.segments import TrainSegment
from imagegram.training.tokens import TokenData, read_labels

if TYPE_CHECKING:
    from torch import Tensor

T_co = TypeVar("T_co", covariant=True)

#: Weights to sample from, and weights to begin a training with.
CHECKPOINT: Final = "generator.checkpoint"
START: Final = "generator.start"


class ImportableGenerator(Importable[T_co], Protocol[T_co]):
    """A recipe whose weights may come from a file; its architecture is without classes."""

    def num_classes_of(self, shapes: Shapes, *, setting: str) -> int:
        """Return the number of classes that weights know.

        Args:
            shapes: names and shapes of the weights.
            setting: how they are asked for.

        Raises:
            ConfigError: for weights of another family, or of other sizes than the recipe's.
        """

    def with_classes(self, classes: tuple[str, ...]) -> ImportableGenerator[T_co]:
        """Return the recipe for these labels."""

    def shapes(self) -> Shapes:
        """Return names and shapes of the network's weights."""

    def own(self, tensors: dict[str, Tensor], *, setting: str) -> dict[str, Tensor]:
        """Return the weights of a file as the network has them.

        Raises:
            ConfigError: for weights of another network.
        """

    def write_weights(self, out: Path, weights: Mapping[str, Tensor]) -> None:
        """Write weights and labels, as a training does."""


def source_of(*, checkpoint: str | None, start: str | None) -> Source | None:
    """Read ``generator.checkpoint`` and ``generator.start``; None: there is neither.

    Raises:
        ConfigError: when there are both, or one is neither a file nor one of the hub.
    """
    if checkpoint is not None and start is not None:
        raise ConfigError(
            f"{CHECKPOINT} takes the place of a training, {START} begins one; leave one of them out"
        )
    if start is not None:
        return Source.of(start, setting=START)
    return None if checkpoint is None else Source.of(checkpoint, setting=CHECKPOINT)


@dataclass(frozen=True, kw_only=True)
class ImportWeights(Import[T_co, ImportableGenerator[Any]]):
    """The stage that takes over the weights of a generator.

    Attributes:
        data: documents whose labels may name the classes.
    """

    kind: ClassVar[str] = "generator"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1

    data: TokenData

    def identity(self) -> dict[str, Any]:
        """Return the identity: sizes, weights, labels where they are read, who reads captions."""
        labels = None if self.data.labels is None else self.data.identity()
        own = {**super().identity(), "labels": labels}
        reader = self.data.reader()
        return own if reader is None else own | {"reader": reader}

    def take_over(self, path: Path, out: Path) -> dict[str, Any]:
        """Write the weights, and the labels of their classes.

        Raises:
            ConfigError: for weights of another network, or a corpus with other labels.
        """
        setting = self.source.setting
        tensors = self.component.own(read_tensors(path, setting=setting), setting=setting)
        shapes = shapes_of(tensors)
        classes = self._classes(self.component.num_classes_of(shapes, setting=setting), path)
        component = self.component.with_classes(classes)
        require_shapes(shapes, component.shapes(), setting=f"{setting}={path}")
        component.write_weights(out, {name: tensor.float() for name, tensor in tensors.items()})
        num_parameters = sum(tensor.numel() for tensor in tensors.values())
        return {"num_parameters": num_parameters, "num_classes": len(classes)}

    def _classes(self, num_classes: int, path: Path) -> tuple[str, ...]:
        setting = self.source.setting
        recorded = read_classes(path, setting=setting)
        if recorded is not None and len(recorded) != num_classes:
            raise ConfigError(
                f"{setting}: {path.with_name(CLASSES)} has {len(recorded)} labels, but the weights "
                f"beside it know {num_classes} classes; give both files of one training"
            )
        if self.data.labels is None:
            return recorded or numbered(num_classes)
        names = read_labels(self.data.tokens, self.data.labels).names
        if recorded is None:
            return classes_of(names, num_classes, key=self.data.labels, setting=setting)
        if names and not set(names) & set(recorded):
            raise ConfigError(
                f"generator.labels={self.data.labels}: no label of the corpus ({_some(names)}) is "
                f"one of those that {setting} learned ({_some(recorded)}); type another "
                "generator.labels=KEY, or generator.labels=null"
            )
        return recorded


@dataclass(frozen=True, kw_only=True)
class TrainFrom(TrainGenerator[T_co]):
    """The stage that trains a generator, beginning with weights that are taken over first.

    Attributes:
        taken: the stage that takes them over.
    """

    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (
        *TrainGenerator.PARTS,
        *ImportWeights.PARTS,
        ImportWeights,
    )

    taken: Import[T_co, Any]

    def identity(self) -> dict[str, Any]:
        """Return the identity of the training, and the weights that it begins with."""
        return super().identity() | {"start": self.taken.source.identity()}

    def begun(self, context: Context) -> Trainable[T_co]:
        """Return the recipe that knows the files of the weights."""
        recipe: Any = self.component
        model: Any = context.make(self.taken)
        begun: Trainable[T_co] = recipe.started(model.artifact.path)
        return begun

    def _for(self, component: Trainable[T_co], prepared: Prepared) -> Trainable[T_co]:
        """Return the recipe for the classes of the documents.

        Raises:
            ConfigError: for weights of other classes.
        """
        recipe: Any = super()._for(component, prepared)
        if recipe.first_weights is not None:
            known = read_classes(recipe.first_weights, setting=self.taken.source.setting) or ()
            refuse_other_classes(known, prepared.classes, setting=self.taken.source.setting)
        return cast(Trainable[T_co], recipe)

    def _whole(self, component: Trainable[T_co], prepared: Prepared) -> TrainSegment:
        """Return the whole training as one segment."""
        recipe: Any = component
        first = FirstWeights(source=self.taken.source, path=recipe.first_weights)
        return dataclasses.replace(super()._whole(component, prepared), first_weights=first)


def refuse_other_classes(known: Sequence[str], wanted: Sequence[str], *, setting: str) -> None:
    """Refuse to begin with weights that know other labels than the documents have.

    Raises:
        ConfigError: naming some of both.
    """
    if tuple(known) != tuple(wanted):
        have, want = (
            f"{len(names)} labels ({_some(names)})" if names else "no labels"
            for names in (known, wanted)
        )
        raise ConfigError(
            f"{setting}: the weights know {have}, but {want} are to be learned; type "
            f"generator.labels=KEY for the labels of the weights, or null, or {setting}=FILE with "
            "other weights"
        )


def numbered(num_classes: int) -> tuple[str, ...]:
    """Return the classes 0 ... K - 1 as labels."""
    return tuple(map(str, range(num_classes)))


def classes_of(
    names: Sequence[str], num_classes: int, *, key: str, setting: str = CHECKPOINT
) -> tuple[str, ...]:
    """Return the labels of the classes of some weights, beside a corpus with some labels.

    Raises:
        ConfigError: when the labels of the corpus cannot be those of the classes.

    >>> classes_of(("n02", "n01"), 2, key="label"), classes_of(("1",), 3, key="label")
    (('n01', 'n02'), ('0', '1', '2'))
    """
    numbers = numbered(num_classes)
    if set(names) <= set(numbers):
        return numbers
    if len(names) == num_classes:
        return tuple(sorted(names))
    some = _some(set(names) - set(numbers))
    raise ConfigError(
        f"generator.labels={key}: the corpus has {len(names)} labels ({some}), but {setting} "
        f"knows {num_classes} classes, so they are not the same; type another generator.labels=KEY "
        f"whose labels are numbers 0 ... {num_classes - 1}, or generator.labels=null"
    )


def _some(names: Iterable[str]) -> str:
    """Return the first labels, for a message."""
    first = sorted(names)
    return ", ".join(first[:3]) + (" ..." if len(first) > 3 else "")


def refuse_other_fields(
    found: Any, wanted: Any, *, generator: Any, setting: str = CHECKPOINT
) -> None:
    """Refuse weights of other sizes than the generator's.

    Args:
        found: sizes of the weights, an ``Architecture``.
        wanted: sizes of the generator.
        generator: the generator.
        setting: how the weights are asked for.

    Raises:
        ConfigError: with the fields to type.
    """
    names = (
        *("width", "depth", "num_heads", "hidden", "chunk_size", "local_depth"),
        *("head_width", "head_depth"),
    )
    other = {
        name: getattr(found, name)
        for name in names
        if hasattr(wanted, name) and getattr(found, name, None) != getattr(wanted, name)
    }
    if other:
        size = ", ".join(f"{name} {getattr(found, name)}" for name in names if hasattr(found, name))
        was = " ".join(f"generator.{name}={getattr(wanted, name)}" for name in other)
        words = " ".join(f"generator.{name}={value}" for name, value in other.items())
        fitting = [
            f"generator={name}" for name in _presets(found, names, backbone=generator.backbone)
        ]
        raise ConfigError(
            f"{setting}: the weights are of a network of {size}, not of {was}; type "
            f"{' or '.join([*fitting, words])}"
        )


def _presets(found: Any, names: Sequence[str], *, backbone: str) -> list[str]:
    """Return the configurations of a generator with this backbone and these sizes."""
    sizes = {name: getattr(found, name) for name in names if hasattr(found, name)}
    wanted = {"backbone": backbone, **sizes}
    return [
        name
        for name, fields in schema.fields_of("generator").items()
        if all(fields.get(key) == value for key, value in wanted.items())
    ]


def refuse_other_tokens(found: Any, wanted: Any, *, setting: str = CHECKPOINT) -> None:
    """Refuse weights that write other tokens than the tokenizer's.

    Args:
        found: sizes of the weights, an ``Architecture``.
        wanted: sizes that the tokenizer asks for.
        setting: how the weights are asked for.

    Raises:
        ConfigError: saying which.
    """
    have = (found.num_tokens, found.vocab_size)
    want = (wanted.num_tokens, wanted.vocab_size)
    if have != want:
        raise ConfigError(
            f"{setting}: the weights write {have[0]:,} tokens of {have[1]:,} ids, but the "
            f"tokenizer makes {want[0]:,} of {want[1]:,}; type tokenizer=NAME with the tokenizer "
            "that they were trained on"
        )
