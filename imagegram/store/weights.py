"""Where weights are: a file of this machine, or one of the Hugging Face Hub, which a stage fetches.

    generator.checkpoint=FOLDER/rar_b.bin                a file, .safetensors or .bin
    generator.checkpoint=FOLDER                          FOLDER/model.safetensors
    generator.checkpoint=yucornetto/RAR/rar_b.bin        a file of the hub
    generator.checkpoint=OWNER/NAME                      model.safetensors of a page of the hub
    generator.checkpoint=OWNER/NAME@v1                   of a branch, tag or commit

Of a page are fetched this file and the labels beside it, ``classes.json``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Final

from imagegram.errors import ConfigError
from imagegram.store.cost import Cost
from imagegram.store.hashing import file_stamp
from imagegram.store.manifest import file_sha256
from imagegram.store.pages import Asked, Page
from imagegram.store.stage import Context, Stage, Surroundings

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

MODEL: Final = "model.safetensors"
#: Beside the weights of a network of latents: those of the autoencoder that the latents are of.
AUTOENCODER: Final = "autoencoder.safetensors"
#: Beside weights that know classes: their labels, in order, as a training writes them.
CLASSES: Final = "classes.json"
_ENDS: Final = (".safetensors", ".bin", ".pt", ".pth")
_PAGE: Final = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(/(?P<file>[\w./-]+))?(@(?P<at>[\w./-]+))?")


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
    setting: str

    @classmethod
    def of(cls, checkpoint: str, *, setting: str) -> Source:
        """Read a setting such as ``generator.checkpoint``.

        Raises:
            ConfigError: when it is neither a file nor one of the hub.
        """
        path = Path(checkpoint).expanduser()
        if path.is_dir() and not (path / MODEL).exists():
            raise ConfigError(
                f"{setting}={checkpoint}: the folder has no {MODEL}; type {setting}=FOLDER of a "
                "network that was saved or exported, or the name of a file"
            )
        if path.exists():
            return cls(path=path / MODEL if path.is_dir() else path, setting=setting)
        found = None if checkpoint.startswith((".", "/")) else _PAGE.fullmatch(checkpoint)
        file = MODEL if found is None else found["file"] or MODEL
        if found is None or not file.endswith(_ENDS) or found["repo"].endswith(_ENDS):
            raise ConfigError(
                f"{setting}={checkpoint}: there is no such file, and it is none of the hub; type "
                f"{setting}=FOLDER/NAME.safetensors, NAME.bin, OWNER/PAGE or OWNER/PAGE/NAME.bin"
            )
        return cls(repo=found["repo"], file=file, revision=found["at"] or "main", setting=setting)

    @property
    def size_bytes(self) -> int:
        """Size of a file of this machine; 0: only the hub knows."""
        return 0 if self.path is None else self.path.stat().st_size

    def fetched(self, context: Context) -> Path:
        """Return the path of the file, which is fetched first where the hub has it."""
        return self.path or context.make(FetchFile(source=self))

    def identity(self) -> Any:
        """Return the sha256 of a file of this machine, or page, revision and file.

        Labels and the autoencoder beside a file of this machine have theirs.
        """
        if self.path is None:
            return [self.repo, self.revision, self.file]
        beside = (self.path.with_name(name) for name in (CLASSES, AUTOENCODER))
        files = [self.path, *(path for path in beside if path != self.path)]
        hashes = [stamped_sha256(path, file_stamp(path)) for path in files if path.is_file()]
        return hashes[0] if len(hashes) == 1 else hashes


def read_classes(weights: Path, *, setting: str) -> tuple[str, ...] | None:
    """Return the labels beside weights, in the order of their classes; None: there are none.

    Raises:
        ConfigError: for a damaged file.
    """
    path = weights.with_name(CLASSES)
    if not path.is_file():
        return None
    try:
        labels = json.loads(path.read_text())
        return tuple(map(str, labels))
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(
            f"{setting}: {path} is no list of labels ({error}); export the network again, or "
            "remove the file"
        ) from error


@lru_cache(maxsize=16)
def stamped_sha256(path: Path, stamp: str) -> str:
    """Return the sha256 of a file; ``stamp`` makes a file that was written anew another one."""
    return file_sha256(path)


def package_folders(name: str) -> list[Path]:
    """Return the folders of a package whose weights are read; it is looked for, never imported.

    >>> package_folders("a_package_that_nobody_has")
    []
    """
    spec = find_spec(name)
    return [] if spec is None else [Path(each) for each in spec.submodule_search_locations or ()]


@dataclass(frozen=True, kw_only=True)
class FetchFile(Stage[Path]):
    """The stage that fetches one file of weights from the hub, and the labels beside it.

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
            instead=f"{setting}=FOLDER/{MODEL}",
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
        page = replace(page, revision=fetched["commit"])
        labels = page.fetch(str(PurePosixPath(source.file).with_name(CLASSES)), out / CLASSES)
        return fetched if labels is None else {**fetched, "labels_sha256": labels["sha256"]}

    def load(self, artifact: Artifact) -> Path:
        """Return the path of the file."""
        return artifact.path / Path(self.source.file).name

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee nothing: only the hub knows how large a file is."""
        if found := at.find(self):
            return Cost.found(found)
        return Cost(artifact=at.expect(self, {}), source="not foreseen")
