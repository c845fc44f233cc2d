"""States of training on disk: tensors in safetensors, never pickle.

    network.NAME.KEY            weights and buffers of a network
    average.NAME.KEY            their moving average
    optimizer.NAME.FIELD.KEY    moments of a parameter: exp_avg, exp_avg_sq, step
    best.NAME.KEY               the average with the lowest validation loss so far, if it is kept

The number of steps is in the file's metadata, with step and loss of the best average. A parameter
without moments (frozen, or never reached by a gradient) has no optimizer entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from imagegram.models.checkpoints import write_weights

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Best:
    """The averaged networks with the lowest validation loss so far.

    Attributes:
        step: number of finished steps when they were looked at.
        loss: their validation loss.
        averages: weights and buffers of each averaged network.
    """

    step: int
    loss: float
    averages: dict[str, Tensors]


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """The state that the next step continues from, by names.

    Attributes:
        step: number of finished steps.
        networks: weights and buffers of each network.
        averages: moving averages of the networks that have one.
        optimizers: moments of each optimizer, by field and name of the parameter.
        best: the best averages so far; None: none was looked at.
    """

    step: int
    networks: dict[str, Tensors] = field(default_factory=dict)
    averages: dict[str, Tensors] = field(default_factory=dict)
    optimizers: dict[str, dict[str, Tensors]] = field(default_factory=dict)
    best: Best | None = None

    def write(self, path: Path) -> None:
        """Write a safetensors file."""
        metadata = {"step": str(self.step)}
        if self.best is not None:  # one entry, as safetensors writes several in any order
            facts = {"step": self.step, "best_step": self.best.step, "best_loss": self.best.loss}
            metadata = {"steps": json.dumps(facts)}
        write_weights(path, dict(self._flat()), metadata)

    def with_best(self) -> TrainingState:
        """Return the state with the best averages in the place of the last ones."""
        return self if self.best is None else replace(self, averages=self.best.averages)

    def _flat(self) -> Iterator[tuple[str, Tensor]]:
        best = {} if self.best is None else self.best.averages
        groups = (("network", self.networks), ("average", self.averages), ("best", best))
        for group, networks in groups:
            for name, tensors in networks.items():
                for key, tensor in tensors.items():
                    yield f"{group}.{name}.{key}", tensor
        for name, fields in self.optimizers.items():
            for what, tensors in fields.items():
                for key, tensor in tensors.items():
                    yield f"optimizer.{name}.{what}.{key}", tensor

    @classmethod
    def read(cls, path: Path) -> TrainingState:
        """Read what :meth:`write` wrote."""
        names = ("network", "average", "optimizer", "best")
        groups: dict[str, dict[str, Any]] = {name: {} for name in names}
        with safe_open(path, framework="pt") as file:
            for full in file.keys():  # noqa: SIM118 - not a dictionary
                group, name, key = full.split(".", 2)
                entries = groups[group].setdefault(name, {})
                if group == "optimizer":
                    what, _, key = key.partition(".")
                    entries = entries.setdefault(what, {})
                entries[key] = file.get_tensor(full)
            metadata = file.metadata()
        best = None
        facts = json.loads(metadata.get("steps", "{}")) or metadata
        if "best_step" in facts:
            step, loss = int(facts["best_step"]), float(facts["best_loss"])
            best = Best(step=step, loss=loss, averages=groups["best"])
        return cls(
            step=int(facts["step"]),
            networks=groups["network"],
            averages=groups["average"],
            optimizers=groups["optimizer"],
            best=best,
        )


def parameter_names(networks: nn.ModuleDict) -> dict[int, str]:
    """Return the names of all parameters, ``network.key``, by the id of the parameter."""
    return {id(parameter): name for name, parameter in networks.named_parameters()}


def read_moments(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensors]:
    """Return the moments of an optimizer, by field and name of the parameter."""
    fields: dict[str, Tensors] = {}
    for parameter, known in optimizer.state.items():
        for what, value in known.items():
            if value is not None:
                fields.setdefault(what, {})[names[id(parameter)]] = torch.as_tensor(value)
    return fields


def restore_moments(
    optimizer: torch.optim.Optimizer, names: dict[int, str], fields: dict[str, Tensors]
) -> None:
    """Load the moments of :func:`read_moments` into a fresh optimizer, on its devices."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, Tensors] = {}
    for number, parameter in enumerate(parameters):
        name = names[id(parameter)]
        known = {what: tensors[name] for what, tensors in fields.items() if name in tensors}
        if known:
            state[number] = known
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
