"""Where weights are: a file of this machine, or one of the Hugging Face Hub, which a stage fetches.

generator.checkpoint=FOLDER/rar_b.bin                a file, .safetensors or .bin
generator.checkpoint=yucornetto/RAR/rar_b.bin        a file of the hub
generator.checkpoint=yucornetto/RAR/rar_b.bin@v1     of a branch, tag or commit
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from imagegram.errors import ConfigError
from imagegram.store.cost import Cost
from imagegram.store.hashing import file_stamp
from imagegram.store.manifest import file_sha256
from imagegram.store.pages import Asked, Page
from imagegram.store.stage import Context, Stage, Surroundings

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

_PAGE: Final = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./-]+\.(?:safetensors|bin|pt|pth))(@(?P<at>[\w./-]+))?"
)


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
