"""States of training on disk: tensors in safetensors, never pickle.

``network.NAME`` and ``average.NAME`` are weights and their moving average, ``first.NAME`` and
``second.NAME`` the moments of AdamW; the number of steps is in the file's metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Everything that the next step needs, by parameter name.

    Attributes:
        step: optimizer steps behind it.
        network: weights.
        average: their moving average.
        first, second: AdamW's moments.
    """

    step: int
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]

    def write(self, path: Path) -> None:
        """Write a safetensors file."""
        tensors = {
            f"{group}.{name}": tensor.detach().cpu().contiguous()
            for group in _GROUPS
            for name, tensor in getattr(self, group).items()
        }
        save_file(tensors, path, metadata={"step": str(self.step)})

    @classmethod
    def read(cls, path: Path) -> TrainingState:
        """Read what :meth:`write` wrote."""
        groups: dict[str, dict[str, Tensor]] = {group: {} for group in _GROUPS}
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no dictionary
                group, _, name = key.partition(".")
                groups[group][name] = file.get_tensor(key)
            step = int(file.metadata()["step"])
        return cls(step=step, **groups)


_GROUPS = ("network", "average", "first", "second")
