"""NetworkModel: what trained networks share when they sample: weights, device, labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.label import LabelCondition
from imagegram.conditions.labels import ANY
from imagegram.conditions.own import OwnLabels
from imagegram.conditions.prompt import without_prompt
from imagegram.generators.learned import Architecture
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Sampler
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context
from imagegram.store.weights import CLASSES, MODEL

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class NetworkModel:
    """A trained network that samples; a family says what its network is.

    Attributes:
        artifact: the finished training, with the weights.
        architecture: sizes of the network; the number of classes is :attr:`sizes`'.
        device: device that samples.
        dtype: numbers that it computes with, see :data:`imagegram.models.dtypes.DTYPES`.
        labels: key of the labels that it learned; None: it learned none.
        has_null: whether it learned to write without a label.
    """

    artifact: Artifact
    architecture: Architecture
    device: str
    dtype: str = "float32"
    labels: str | None = None
    has_null: bool = True

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without the network, which another process reads again."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    def identity(self) -> Any:
        """Return kind/digest of the training; with it the numbers, where these are others."""
        training = self.artifact.identity()
        return training if self.dtype == "float32" else [training, self.dtype]

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

    def make_network(self) -> nn.Module:
        """Build the network of the family, with any weights."""
        raise NotImplementedError

    @cached_property
    def network(self) -> Any:
        """The network with its weights, in evaluation mode, on its device."""
        import torch
        from safetensors.torch import load_file

        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="generator.device")
        with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
            network = self.make_network()
        network.load_state_dict(load_file(self.artifact.path / MODEL))
        return network.eval().to(self.device)

    def prepared(
        self,
        sampler: Sampler,
        context: Context,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> Self:
        """Return itself: nothing makes it faster."""
        return self
