"""ImportTokenizer: the stage that takes published weights over, instead of a training.

    tokenizer=titok_l32 tokenizer.checkpoint=FOLDER/tokenizer_titok_l32.bin
    tokenizer=titok_l32 tokenizer.checkpoint=OWNER/PAGE/model.safetensors
    tokenizer=titok tokenizer.checkpoint=OWNER/NAME

Where they are says ``store/weights.py``. What a training of this package wrote brings its sizes.
Those of other files are the configuration's; every tensor must fit, and none may be left over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from imagegram.models.checkpoints import Shapes, read_tensors
from imagegram.models.imports import Import, Importable
from imagegram.store.parts import copy_file
from imagegram.store.weights import MODEL

if TYPE_CHECKING:
    from torch import Tensor

    from imagegram.store.manifest import Artifact

T_co = TypeVar("T_co", covariant=True)


class ImportableTokenizer(Importable[T_co], Protocol[T_co]):
    """A tokenizer whose weights may come from a file of others."""

    def is_own(self, path: Path) -> bool:
        """Return whether a file is one that a training of this tokenizer wrote."""

    def taken_over(self, tensors: dict[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
        """Return the weights of a file under the names of the network.

        Raises:
            ConfigError: for weights of another network.
        """

    def write_weights(self, path: Path, weights: dict[str, Tensor]) -> None:
        """Write weights as a training does."""


@dataclass(frozen=True, kw_only=True)
class ImportTokenizer(Import[T_co, ImportableTokenizer[Any]]):
    """The stage that takes over the weights of a tokenizer."""

    kind: ClassVar[str] = "tokenizer"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1

    def take_over(self, path: Path, out: Path) -> dict[str, Any]:
        """Write the weights under the names of the network; copy a file that has them already.

        Raises:
            ConfigError: for weights of another network.
        """
        if self.component.is_own(path):
            copy_file(path, out / MODEL)
            return {}
        weights = read_published(self.component, path, setting=self.source.setting)
        self.component.write_weights(out / MODEL, weights)
        return {"num_parameters": sum(tensor.numel() for tensor in weights.values())}

    def foreseen(self, expected: Artifact) -> Any:
        """Return the tokenizer: until its weights are here, no later stage is found."""
        return self.component


def read_published(
    component: ImportableTokenizer[Any], path: Path, *, setting: str
) -> dict[str, Tensor]:
    """Return the weights of a file under the names of a tokenizer's network.

    Raises:
        ConfigError: for weights of another network, and files that hold more than tensors.
    """
    import torch

    sizes = component.architecture
    with torch.device("meta"):
        network = sizes.network()(**sizes.as_dict())
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return component.taken_over(read_tensors(path, setting=setting), expected)
