"""The manifest: written last, so that its presence means the artifact is complete.

Each artifact has one ``manifest.json``: its identity payload, its files with size and sha256, the
counts of the stage, and the versions that made it. See ``docs/formats.md``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import imagegram
from imagegram.errors import ArtifactError

MANIFEST: Final = "manifest.json"
#: File of a collection with the kind and digests of its parts.
PARTS_FILE: Final = "shards.json"
_BLOCK_BYTES: Final = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileEntry:
    """Size in bytes and sha256 (hex) of one file of an artifact."""

    size_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of ``manifest.json``; see ``docs/formats.md``.

    Attributes:
        kind, digest, payload: identity of the artifact.
        files: size and sha256 by path.
        facts: counts of the stage.
        created_at, duration_s, made_by: time, duration in seconds, and versions of the software.
        cpu_s, memory_bytes: processor seconds, and the peak of memory without mapped files, of the
            process that made it and those that it started; 0: not measured.
        own_s: seconds without those of other artifacts that were made on the way; None: not
            measured.
        side_of: field of the payload that names the artifact it belongs to; empty: none.
    """

    kind: str
    digest: str
    payload: dict[str, Any]
    files: dict[str, FileEntry]
    facts: dict[str, Any]
    created_at: str
    duration_s: float
    made_by: dict[str, str]
    side_of: str = ""
    own_s: float | None = None
    cpu_s: float = 0.0
    memory_bytes: int = 0

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into ``folder`` and force it to disk."""
        path = folder / MANIFEST
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n")
        sync_path(path)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``folder/manifest.json``.

        Raises:
            ArtifactError: when it is missing or does not parse.
        """
        path = folder / MANIFEST
        try:
            raw = json.loads(path.read_text())
            files = {name: FileEntry(**entry) for name, entry in raw.pop("files").items()}
            return cls(files=files, **raw)
        except FileNotFoundError:
            raise ArtifactError(f"{folder}: no {MANIFEST}, so this is not an artifact") from None
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"{path}: not a manifest of an artifact ({error}); if a run made it, remove it "
                f"with: {removal(folder)}, and run again"
            ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished artifact on disk, or, in a plan, one still to be made; its identity is its digest.

    Attributes:
        path: the folder.
        manifest: its manifest; of an artifact still to be made, only the identity.
        expected_parts: parts that an artifact still to be made will list; None: it is made.
    """

    path: Path
    manifest: Manifest
    expected_parts: tuple[Artifact, ...] | None = None

    @property
    def is_made(self) -> bool:
        """Whether the artifact is on disk."""
        return self.expected_parts is None

    @property
    def kind(self) -> str:
        """The stage's kind, which is also the name of the parent folder."""
        return self.manifest.kind

    @property
    def digest(self) -> str:
        """Twelve hex digits."""
        return self.manifest.digest

    @property
    def facts(self) -> dict[str, Any]:
        """Counts of the stage that made the artifact."""
        return self.manifest.facts

    def identity(self) -> str:
        """Return ``kind/digest``, which downstream fingerprints contain instead of the content."""
        return f"{self.kind}/{self.digest}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Handle:
    """A finished artifact that stages load and take as a field; identified by its digest.

    Attributes:
        artifact: the artifact.
    """

    artifact: Artifact

    def identity(self) -> str:
        """Return ``kind/digest`` of the artifact."""
        return self.artifact.identity()


def removal(folder: Path) -> str:
    """Return the command that removes an artifact, for any location of the outputs folder."""
    outputs = shlex.quote(str(folder.absolute().parents[2]))
    return f"python -m imagegram.tools.gc digest={folder.name} paths.outputs={outputs}"


def read_parts(folder: Path) -> tuple[str, list[str]]:
    """Return kind and digests of the parts that a collection lists, in order.

    Raises:
        ValueError, KeyError, TypeError: when the list is damaged.
    """
    listing = json.loads((folder / PARTS_FILE).read_text())
    return str(listing["kind"]), list(listing["digests"])


def made_by() -> dict[str, str]:
    """Return the versions of the software that writes artifacts; not part of an identity."""
    return {"imagegram": imagegram.__version__, "python": platform.python_version()}


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Return size and sha256 of every file below ``folder``, by relative POSIX path."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the lock
        hashes = list(pool.map(file_sha256, paths))
    return {
        path.relative_to(folder).as_posix(): FileEntry(size_bytes=path.stat().st_size, sha256=hash_)
        for path, hash_ in zip(paths, hashes, strict=True)
    }


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file, read in blocks."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def sync_path(path: Path) -> None:
    """Force a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def human_bytes(size: float) -> str:
    """Format a number of bytes for people.

    >>> human_bytes(1536)
    '1.5 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def short_facts(facts: Mapping[str, Any]) -> str:
    """Format the first counts of a stage as one line."""
    shown = []
    for name, value in facts.items():
        if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
            continue
        text = f"{value:,}" if isinstance(value, int) else value
        shown.append(f"{name}={text:.4g}" if isinstance(value, float) else f"{name}={text}")
    return " ".join(shown[:5])
