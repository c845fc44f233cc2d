"""NetworkModel: what trained networks share when they sample: weights, device, labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.label import LabelCondition
from imagegram.conditions.labels import ANY
from imagegram.conditions.own import OwnLabels
from imagegram.conditions.prompt import without_prompt
from imagegram.generators.learned import Architecture
from imagegram.generators.trained import TrainedModel
from imagegram.protocols import Condition
from imagegram.store.weights import CLASSES


@dataclass(frozen=True, kw_only=True)
class NetworkModel(TrainedModel):
    """A trained network that samples tokens; a family says what its network is.

    Attributes:
        artifact, device, dtype: see :class:`TrainedModel`.
        architecture: sizes of the network; the number of classes is :attr:`sizes`'.
        labels: key of the labels that it learned; None: it learned none.
        has_null: whether it learned to write without a label.
    """

    architecture: Architecture
    labels: str | None = None
    has_null: bool = True

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The labels that the network learned, in sorted order; (): none."""
        path = self.artifact.path / CLASSES
        return tuple(json.loads(path.read_text())) if path.exists() else ()

    @property
    def sizes(self) -> Architecture:
        """Sizes of the network, with the number of its classes."""
        return dataclasses.replace(self.architecture, num_classes=len(self.classes))

    def condition_of(
        self, metadata: Iterable[Mapping[str, Any]], condition: Condition | None
    ) -> Condition | None:
        """Return the condition of documents: their own labels, where samples are given labels."""
        condition = without_prompt(condition)
        if condition is None or self.labels is None:
            return condition
        return OwnLabels.of(metadata, key=self.labels)

    def classes_of(
        self, condition: Condition | None, samples: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """Return the (B,) class of every row.

        A row without a label is of the null class; where the network learned none, of the class
        that its number gives.

        Args:
            condition: of the rows: a label, or their own ones; None: no label.
            samples: (B,) ids of the rows.

        Raises:
            ConfigError: for a label that the network never saw.
        """
        num_classes = len(self.classes)
        if condition is None or not num_classes:
            return np.full(len(samples), num_classes, dtype=np.int64)
        assert isinstance(condition, LabelCondition | OwnLabels)
        classes_B = condition.of_samples(self.classes, samples).astype(np.int64)
        unknown = num_classes if self.has_null else (samples % num_classes).astype(np.int64)
        return np.where(classes_B == ANY, unknown, classes_B)
