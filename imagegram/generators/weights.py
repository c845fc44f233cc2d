"""ImportWeights: the stage that takes published weights over, instead of a training.

    generator.checkpoint=FOLDER/rar_b.bin                a file, .safetensors or .bin
    generator.checkpoint=yucornetto/RAR/rar_b.bin        a file of the Hugging Face Hub
    generator.checkpoint=yucornetto/RAR/rar_b.bin@v1     of a branch, tag or commit

Whose classes the weights know is not in them. They are numbers, 0 ... K - 1, unless the corpus has
labels that are no numbers, and as many: then its labels in sorted order, which is how ImageNet's
synsets are numbered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TypeVar

from imagegram.errors import ConfigError
from imagegram.models.checkpoints import Shapes, read_tensors, require_shapes, shapes_of
from imagegram.store.cost import Cost
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.hashing import file_stamp
from imagegram.store.manifest import file_sha256
from imagegram.store.pages import Asked, Page
from imagegram.store.stage import Context, Stage, Surroundings
from imagegram.training.tokens import TokenData, read_labels

if TYPE_CHECKING:
    from torch import Tensor

    from imagegram.store.manifest import Artifact

T_co = TypeVar("T_co", covariant=True)

SETTING: Final = "generator.checkpoint"
_PAGE: Final = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./-]+\.(?:safetensors|bin|pt|pth))(@(?P<at>[\w./-]+))?"
)


class Importable(Protocol[T_co]):
    """A recipe whose weights may come from a file."""

    @property
    def architecture(self) -> Any:
        """Sizes of the network, without classes."""

    @property
    def name(self) -> str:
        """Name of the generator."""

    def num_classes_of(self, shapes: Shapes) -> int:
        """Return the number of classes that weights know.

        Raises:
            ConfigError: for weights of another family, or of other sizes than the recipe's.
        """

    def with_classes(self, classes: tuple[str, ...]) -> Importable[T_co]:
        """Return the recipe for these labels."""

    def shapes(self) -> Shapes:
        """Return names and shapes of the network's weights."""

    def write_weights(self, out: Path, weights: Mapping[str, Tensor]) -> None:
        """Write weights and labels, as a training does."""

    def trained(self, artifact: Artifact) -> T_co:
        """Return the model."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where weights are: a file of this machine, or of a page of the hub.

    Attributes:
        path: the file; None: it is on the hub.
        repo, file, revision: page, file on it, branch, tag or commit.
        setting: how it is asked for: ``generator.checkpoint``.
    """

    path: Path | None = None
    repo: str = ""
    file: str = ""
    revision: str = "main"
    setting: str = SETTING

    @classmethod
    def of(cls, checkpoint: str, *, setting: str = SETTING) -> Source:
        """Read ``generator.checkpoint``, or another setting.

        Raises:
            ConfigError: when it is neither a file nor one of the hub.
        """
        if (path := Path(checkpoint).expanduser()).exists():
            return cls(path=path, setting=setting)
        found = _PAGE.fullmatch(checkpoint)
        if found is None or checkpoint.startswith((".", "/")):
            raise ConfigError(
                f"{setting}={checkpoint}: there is no such file, and it is none of the hub; type "
                f"{setting}=FOLDER/NAME.safetensors, NAME.bin, or OWNER/PAGE/NAME.bin"
            )
        revision = found["at"] or "main"
        return cls(repo=found["repo"], file=found["file"], revision=revision, setting=setting)

    @property
    def size_bytes(self) -> int:
        """Size of a file of this machine; 0: only the hub knows."""
        return 0 if self.path is None else self.path.stat().st_size

    def fetched(self, context: Context) -> Path:
        """Return the path of the file, which is fetched first where the hub has it."""
        return self.path or context.make(FetchFile(source=self))

    def identity(self) -> Any:
        """Return the sha256 of a file of this machine, or page, revision and file."""
        if self.path is None:
            return [self.repo, self.revision, self.file]
        return _sha256(self.path, file_stamp(self.path))


@lru_cache(maxsize=8)
def _sha256(path: Path, stamp: str) -> str:
    return file_sha256(path)


@dataclass(frozen=True, kw_only=True)
class FetchFile(Stage[Path]):
    """The stage that fetches one file of weights from the hub.

    Attributes:
        source: page and file.
    """

    kind: ClassVar[str] = "weights"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1

    source: Source

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Fetch the file; facts: where it is from, by commit, sha256 and size."""
        source, setting = self.source, self.source.setting
        asked = Asked(
            repo=setting,
            revision=f"the part behind @ of {setting}",
            instead=f"{setting}=FOLDER/NAME.bin",
        )
        # What has arrived outlives a failure, and is continued by the next run.
        kept = out.with_name(f"{out.name.rpartition('-')[0] or out.name}-download")
        page = Page(repo=source.repo, revision=source.revision, kept=kept, asked=asked)
        fetched = page.fetch(source.file, out / Path(source.file).name)
        if fetched is None:
            raise ConfigError(
                f"{setting}={source.repo}/{source.file}: the page has no such file (revision "
                f"{source.revision}); its files are on https://huggingface.co/{source.repo}"
            )
        return fetched

    def load(self, artifact: Artifact) -> Path:
        """Return the path of the file."""
        return artifact.path / Path(self.source.file).name

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee nothing: only the hub knows how large a file is."""
        if found := at.find(self):
            return Cost.found(found)
        return Cost(artifact=at.expect(self, {}), source="not foreseen")


@dataclass(frozen=True, kw_only=True)
class ImportWeights(Stage[T_co], Generic[T_co]):
    """The stage that checks the weights of a file and keeps them as a training would.

    Attributes:
        component: the recipe of the network.
        source: the file.
        data: documents whose labels may name the classes.
    """

    kind: ClassVar[str] = "generator"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (FetchFile,)

    component: Importable[T_co] = field(metadata=NOT_IDENTITY)
    source: Source
    data: TokenData

    def identity(self) -> dict[str, Any]:
        """Return the identity: sizes, weights, and labels where they are read."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "architecture": identity(self.component.architecture),
            "weights": self.source.identity(),
            "labels": None if self.data.labels is None else self.data.identity(),
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the weights, and the labels of their classes.

        Raises:
            ConfigError: for weights of another network, or a corpus with other labels.
        """
        path = self.source.fetched(context)
        tensors = read_tensors(path, setting=SETTING)
        shapes = shapes_of(tensors)
        classes = self._classes(self.component.num_classes_of(shapes))
        component = self.component.with_classes(classes)
        require_shapes(shapes, component.shapes(), setting=f"{SETTING}={path}")
        component.write_weights(out, {name: tensor.float() for name, tensor in tensors.items()})
        num_parameters = sum(tensor.numel() for tensor in tensors.values())
        return {
            "name": self.component.name,
            "file": path.name,
            "num_parameters": num_parameters,
            "num_classes": len(classes),
        }

    def _classes(self, num_classes: int) -> tuple[str, ...]:
        if self.data.labels is None:
            return numbered(num_classes)
        names = read_labels(self.data.tokens, self.data.labels).names
        return classes_of(names, num_classes, key=self.data.labels)

    def load(self, artifact: Artifact) -> T_co:
        """Return the model."""
        return self.component.trained(artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee a copy of the weights."""
        if found := at.find(self):
            return Cost.found(found)
        expected = at.expect(self, {})
        return Cost(
            artifact=expected,
            handle=self.load(expected),
            disk_bytes=self.source.size_bytes,
            memory_bytes=2 * self.source.size_bytes,
            source="size of the file",
        )


def numbered(num_classes: int) -> tuple[str, ...]:
    """Return the classes 0 ... K - 1 as labels."""
    return tuple(map(str, range(num_classes)))


def classes_of(names: Sequence[str], num_classes: int, *, key: str) -> tuple[str, ...]:
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
    some = ", ".join(sorted(set(names) - set(numbers))[:3])
    raise ConfigError(
        f"generator.labels={key}: the corpus has {len(names)} labels ({some} ...), but {SETTING} "
        f"knows {num_classes} classes, so they are not the same; type another generator.labels=KEY "
        f"whose labels are numbers 0 ... {num_classes - 1}, or generator.labels=null"
    )


def refuse_other_fields(found: Any, wanted: Any) -> None:
    """Refuse weights of other sizes than the generator's.

    Args:
        found: sizes of the weights, an ``Architecture``.
        wanted: sizes of the generator.

    Raises:
        ConfigError: with the fields to type.
    """
    names = ("width", "depth", "num_heads", "hidden")
    other = {
        name: getattr(found, name)
        for name in names
        if getattr(found, name, None) != getattr(wanted, name, None)
    }
    if other:
        was = ", ".join(f"generator.{name}={getattr(wanted, name)}" for name in other)
        words = " ".join(f"generator.{name}={value}" for name, value in other.items())
        raise ConfigError(f"{SETTING}: the weights are of another size than {was}; type {words}")


def refuse_other_tokens(found: Any, wanted: Any) -> None:
    """Refuse weights that write other tokens than the tokenizer's.

    Args:
        found: sizes of the weights, an ``Architecture``.
        wanted: sizes that the tokenizer asks for.

    Raises:
        ConfigError: saying which.
    """
    have = (found.num_tokens, found.vocab_size)
    want = (wanted.num_tokens, wanted.vocab_size)
    if have != want:
        raise ConfigError(
            f"{SETTING}: the weights write {have[0]:,} tokens of {have[1]:,} ids, but the "
            f"tokenizer makes {want[0]:,} of {want[1]:,}; type tokenizer=NAME with the tokenizer "
            "that they were trained on"
        )
