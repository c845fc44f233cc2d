"""ImportTokenizer: the stage that takes published weights over, instead of a training.

    tokenizer=titok_l32 tokenizer.checkpoint=FOLDER/tokenizer_titok_l32.bin
    tokenizer=titok_l32 tokenizer.checkpoint=OWNER/PAGE/model.safetensors

The file may be on this machine or on the hub, see ``generators/weights.py``. Its sizes are those of
the configuration; every tensor must fit, and none may be left over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from imagegram.generators.weights import FetchFile, Source
from imagegram.models.checkpoints import Shapes, read_tensors
from imagegram.store.cost import Cost
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.stage import Context, Stage, Surroundings
from imagegram.tokenizers.sizes import NetworkSizes

if TYPE_CHECKING:
    from torch import Tensor

    from imagegram.store.manifest import Artifact

T_co = TypeVar("T_co", covariant=True)


class Importable(Protocol[T_co]):
    """A tokenizer whose weights may come from a file of others."""

    @property
    def name(self) -> str:
        """Name of the tokenizer."""

    @property
    def architecture(self) -> NetworkSizes:
        """Sizes of the network."""

    def taken_over(self, tensors: dict[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
        """Return the weights of a file under the names of the network.

        Raises:
            ConfigError: for weights of another network.
        """

    def write_weights(self, path: Path, weights: dict[str, Tensor]) -> None:
        """Write weights as a training does."""

    def trained(self, artifact: Artifact) -> T_co:
        """Return the tokenizer with the weights in an artifact."""


@dataclass(frozen=True, kw_only=True)
class ImportTokenizer(Stage[T_co], Generic[T_co]):
    """The stage that checks the weights of a file and keeps them as a training would.

    Attributes:
        component: the tokenizer, with the sizes of its network.
        source: the file.
    """

    kind: ClassVar[str] = "tokenizer"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (FetchFile,)

    component: Importable[T_co] = field(metadata=NOT_IDENTITY)
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
        weights = read_published(self.component, path, setting=self.source.setting)
        self.component.write_weights(out / "model.safetensors", weights)
        num_parameters = sum(tensor.numel() for tensor in weights.values())
        return {
            "name": self.component.name,
            "file": path.name,
            "num_parameters": num_parameters,
        }

    def load(self, artifact: Artifact) -> T_co:
        """Return the tokenizer with the weights."""
        return self.component.trained(artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee a copy of the weights; until they are here, no later stage is found."""
        if found := at.find(self):
            return Cost.found(found)
        return Cost(
            artifact=at.expect(self, {}),
            handle=self.component,
            disk_bytes=self.source.size_bytes,
            memory_bytes=2 * self.source.size_bytes,
            source="size of the file",
        )


def read_published(component: Importable[Any], path: Path, *, setting: str) -> dict[str, Tensor]:
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
