"""What generators that learn a network share: sizes, labels, weights on disk.

The families are ``maskgit`` and ``autoregressive``; their networks are trained by the stage
``training.fit.TrainGenerator``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.label import ALL_LABELS, LabelCondition
from imagegram.errors import ConfigError
from imagegram.generators.weights import (
    ImportWeights,
    TrainFrom,
    refuse_other_fields,
    refuse_other_tokens,
    source_of,
)
from imagegram.models.checkpoints import Shapes, read_tensors, shapes_of, write_weights
from imagegram.models.dtypes import require_dtype
from imagegram.protocols import Condition
from imagegram.records import EOS_TOKEN_ID, row_sizes
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.kinds import check_label
from imagegram.stages.tokens import TokenSet
from imagegram.stages.validation import check_fraction
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT
from imagegram.store.weights import CLASSES, MODEL, Source
from imagegram.training.fit import TrainGenerator
from imagegram.training.objective import Items
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.tokens import TokenData, read_labels

if TYPE_CHECKING:
    from torch import Tensor, nn

    from imagegram.store.manifest import Artifact
    from imagegram.training.state import TrainingState


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a transformer over tokens.

    Attributes:
        vocab_size: number of ids of a token, V.
        num_tokens: number of positions, T.
        width: features of a position.
        depth: number of blocks.
        num_heads: number of attention heads; divides ``width``.
        num_classes: number of labels, K; class K is no label. 0: the network knows no labels.
    """

    vocab_size: int
    num_tokens: int
    width: int
    depth: int
    num_heads: int
    num_classes: int = field(default=0, metadata=NOT_IDENTITY_AT_DEFAULT)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a network; classes only where there are some."""
        sizes = dataclasses.asdict(self)
        return sizes if self.num_classes else {k: v for k, v in sizes.items() if k != "num_classes"}

    def check(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        for name in ("width", "depth", "num_heads"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"generator.{name}={value} must be at least 1")
        if self.width % self.num_heads:
            raise ConfigError(
                f"generator.num_heads={self.num_heads} must divide generator.width={self.width}; "
                "type generator.num_heads=1"
            )


def as_ids(tokens_BT: NDArray[Any], sizes: Architecture) -> NDArray[np.int64]:
    """Return int64 ids of a network; the separator becomes the last id."""
    ids_BT = tokens_BT.astype(np.int64)
    ids_BT[ids_BT == EOS_TOKEN_ID] = sizes.vocab_size - 1
    return ids_BT


def counted(tokens_BT: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of (B, T) tokens are of a document or its end, not padding behind it.

    >>> counted(np.array([[1, 2, 65535, 65535]])).tolist()
    [[True, True, True, False]]
    """
    return np.asarray(np.arange(tokens_BT.shape[1]) <= row_sizes(tokens_BT)[:, None])


@dataclass(frozen=True, kw_only=True)
class LearnedGenerator:
    """The fields of a generator that trains a transformer; families add theirs.

    Attributes:
        name: name of the configuration file.
        width, depth, num_heads: sizes of the network, see :class:`Architecture`.
        labels: key of the JSON beside an item whose values are the labels that the network learns
            to write under, ``caption`` also the text beside it; None: it learns none.
        label_dropout: share of the training documents whose label is hidden, so that the network
            learns to write without one too, which guidance needs; without ``labels`` unused.
        validation_fraction: share of the training documents that is validated on instead of
            trained on (``stages/validation.py``); 0: held-out documents are looked at, and nothing
            is chosen by them.
        optimization: steps, rates, seed of its training.
        trainer: where the network is trained.
        device: device that samples: ``cpu``, ``cuda``.
        dtype: numbers that it samples and scores with; ``bfloat16`` is about twice as fast for wide
            networks, and gives slightly other probabilities.
        checkpoint: file of weights to sample from instead of training, see ``weights.py``; None:
            train.
        start: file of weights that the training begins with; None: random ones.
    """

    name: str = field(metadata=NOT_IDENTITY)
    width: int = 128
    depth: int = 4
    num_heads: int = 2
    labels: str | None = None
    label_dropout: float = 0.1
    validation_fraction: float = field(default=0.0, metadata=NOT_IDENTITY_AT_DEFAULT)
    optimization: Optimization
    trainer: TrainerOptions = field(default_factory=TrainerOptions, metadata=NOT_IDENTITY)
    device: str = field(default="cpu", metadata=NOT_IDENTITY)
    dtype: str = field(default="float32", metadata=NOT_IDENTITY)  # the model answers for it
    checkpoint: str | None = None
    start: str | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        """Apply the overrides of the group ``trainer``; refuse impossible sizes."""
        effective = self.trainer.applied_to(self.optimization, prefix="generator.optimization.")
        object.__setattr__(self, "optimization", effective)
        self.sizes(vocab_size=1, num_tokens=1).check()
        if not 0.0 <= self.label_dropout < 1.0:
            raise ConfigError(
                f"generator.label_dropout={self.label_dropout} must be at least 0 and below 1; "
                "type generator.label_dropout=0.1"
            )
        require_dtype(self.dtype, setting="generator.dtype")
        check_fraction(self.validation_fraction, setting="generator.validation_fraction")
        if effective.keep == "best" and not self.validation_fraction:
            raise ConfigError(
                "generator.optimization.keep=best would choose weights on held-out documents, the "
                "floor of every score; type generator.validation_fraction=0.05, or "
                "generator.optimization.keep=last"
            )
        if self.labels == "":
            raise ConfigError(
                "generator.labels is empty; type generator.labels=KEY, a key of the JSON beside an "
                "item, or generator.labels=null"
            )
        _ = self.source  # refuses what is no file

    @property
    def source(self) -> Source | None:
        """Where weights are, to sample from or to begin with; None: there are none.

        Raises:
            ConfigError: when they are asked for both, or in no file.
        """
        return source_of(checkpoint=self.checkpoint, start=self.start)

    @property
    def has_null(self) -> bool:
        """Whether the network learns to write without a label."""
        return self.labels is None or self.label_dropout > 0.0

    def check_label(self, condition: Condition | None, guidance: Guidance) -> None:
        """Refuse labels that the network does not learn, and guidance where nothing guides.

        Raises:
            ConfigError: with what to type instead.
        """
        check_label(
            condition,
            guidance,
            labels=self.labels,
            has_null=self.has_null,
            generator=self.name,
        )

    def weights_of(self, recipe: Any, data: TokenData) -> TrainGenerator[Any] | ImportWeights[Any]:
        """Return the stage that trains the network of a recipe, or takes over its weights."""
        source = self.source
        if source is None:
            return TrainGenerator(component=recipe, data=data)
        taken: ImportWeights[Any] = ImportWeights(component=recipe, source=source, data=data)
        return taken if self.start is None else TrainFrom(component=recipe, data=data, taken=taken)

    def data(self, tokens: TokenSet, holdout: TokenSet | None) -> TokenData:
        """Return the training data: documents, with their labels where these are learned."""
        return TokenData(
            tokens=tokens,
            holdout=holdout,
            labels=self.labels,
            has_null=self.has_null,
            validation_fraction=self.validation_fraction,
        )

    def check_machine(self) -> None:
        """Refuse a device that is not there, and weights of another network."""
        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="generator.device")
        source = self.source
        if source is not None and source.path is not None:
            setting = source.setting
            shapes = shapes_of(read_tensors(source.path, setting=setting))
            found = self.sizes_in(shapes, setting=setting)
            wanted = self.sizes(vocab_size=found.vocab_size, num_tokens=found.num_tokens)
            refuse_other_fields(found, wanted, generator=self, setting=setting)

    def check_documents(self, tokens: TokenSet, condition: Condition | None) -> None:
        """Refuse a label that no training document has, which nothing would be learned of.

        A checkpoint knows its own labels.

        Raises:
            ConfigError: naming labels that there are.
        """
        if self.labels is None or self.checkpoint is not None:
            return
        if isinstance(condition, LabelCondition) and condition.label != ALL_LABELS:
            found = read_labels(tokens, self.labels)
            condition.of_samples(found.names, np.zeros(1, dtype=np.uint64), keys=found.keys)

    def sizes_in(self, shapes: Shapes, *, setting: str) -> Architecture:
        """Return the sizes of the network of this family that some weights are of.

        Args:
            shapes: names and shapes of the weights.
            setting: how they are asked for.

        Raises:
            ConfigError: for weights of another family, or without a part that tells the sizes.
        """
        raise NotImplementedError

    def architecture(self, tokens: TokenSet, *, extra_ids: int = 0) -> Architecture:
        """Return the sizes of the network for the documents of a token set.

        Args:
            tokens: training documents.
            extra_ids: ids besides those of the tokenizer.
        """
        vocab_size = int(tokens.artifact.facts["vocab_size"]) + extra_ids
        return self.sizes(vocab_size=vocab_size, num_tokens=tokens.length)

    def sizes(self, *, vocab_size: int, num_tokens: int) -> Architecture:
        """Return the sizes of the network for so many ids and positions, without classes."""
        sizes = {name: getattr(self, name) for name in ("width", "depth", "num_heads")}
        return Architecture(vocab_size=vocab_size, num_tokens=num_tokens, **sizes)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A generator with the sizes that its tokens give, for ``training.fit.TrainGenerator``.

    A family adds ``objective()``, ``make_network()`` and ``trained(artifact)``.

    Attributes:
        generator: the configured generator.
        architecture: sizes of its network.
        classes: labels of its classes; (): it learns none, or they are not read yet.
        first_weights: file of the weights that its training begins with; None: random ones, or they
            are not taken over yet.
    """

    generator: LearnedGenerator
    architecture: Architecture
    classes: tuple[str, ...] = ()
    first_weights: Path | None = None

    def started(self, folder: Path) -> Self:
        """Return the recipe whose training begins with the weights in a folder."""
        return dataclasses.replace(self, first_weights=folder / MODEL)

    @property
    def name(self) -> str:
        """Name of the generator in tables and progress bars."""
        return self.generator.name

    @property
    def optimization(self) -> Optimization:
        """Steps, rates and seed of the training."""
        return self.generator.optimization

    @property
    def trainer(self) -> TrainerOptions:
        """Where the network is trained."""
        return self.generator.trainer

    def num_classes_of(self, shapes: Shapes, *, setting: str) -> int:
        """Return the number of classes of some weights.

        Args:
            shapes: names and shapes of the weights.
            setting: how they are asked for.

        Raises:
            ConfigError: for weights of another network, or for other tokens.
        """
        found = self.generator.sizes_in(shapes, setting=setting)
        refuse_other_fields(found, self.architecture, generator=self.generator, setting=setting)
        refuse_other_tokens(found, self.architecture, setting=setting)
        return found.num_classes

    @property
    def label_dropout(self) -> float:
        """Share of the documents whose label is hidden; 0 where there are no labels."""
        return 0.0 if self.generator.labels is None else self.generator.label_dropout

    def with_classes(self, classes: tuple[str, ...]) -> Self:
        """Return the recipe of a network for these labels."""
        sizes = dataclasses.replace(self.architecture, num_classes=len(classes))
        return dataclasses.replace(self, classes=classes, architecture=sizes)

    def make_network(self) -> nn.Module:
        """Build the network, with any weights."""
        raise NotImplementedError

    def shapes(self) -> Shapes:
        """Return names and shapes of the network's weights."""
        import torch

        with torch.device("meta"):
            return shapes_of(self.make_network().state_dict())

    def own(self, tensors: dict[str, Tensor], *, setting: str) -> dict[str, Tensor]:
        """Return the weights of a file as the network has them: of most families, as they are."""
        return tensors

    def model_fields(self, artifact: Artifact) -> dict[str, Any]:
        """Return the fields of a ``NetworkModel`` with the weights of a finished training."""
        names = ("device", "dtype", "labels", "has_null")
        known = {name: getattr(self.generator, name) for name in names}
        return {"artifact": artifact, "architecture": self.architecture, **known}

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the averaged weights; see :meth:`write_weights`."""
        ((network, weights),) = state.averages.items()
        self.write_weights(out, weights, network=network)

    def write_weights(
        self, out: Path, weights: Mapping[str, Tensor], *, network: str = "network"
    ) -> None:
        """Write weights, with the sizes of the network in the file's metadata, by its name.

        Labels, where there are any, are written beside them.
        """
        described = json.dumps(self.architecture.arguments())
        write_weights(out / MODEL, weights, {network: described})
        if self.classes:
            (out / CLASSES).write_text(json.dumps(self.classes) + "\n")
