"""The artifact store: fingerprint, look up, else make in a temporary folder and rename.

An artifact is a folder ``<root>/<kind>/<digest>/`` whose manifest was written last. ``kill -9``
at any moment leaves only a ``.partial-*`` folder, which nothing ever reads and ``tools.gc`` sweeps.
A lock per digest lets the jobs of a parallel sweep share their work.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock

from imagegram.errors import ArtifactError, StageError, explain_os_error
from imagegram.store.fingerprint import digest, identity
from imagegram.store.manifest import (
    MANIFEST,
    Artifact,
    Manifest,
    list_files,
    made_by,
    removal,
    sync_path,
)
from imagegram.store.usage import Usage

if TYPE_CHECKING:
    from imagegram.store.stage import Context, Stage

PARTIAL: Final = ".partial-"
LOCKS: Final = ".locks"


def fingerprint(stage: Stage[Any]) -> tuple[str, dict[str, Any]]:
    """Return digest and payload of a stage: kind, VERSION, identity fields and upstreams.

    A stage that makes other stages names their classes in ``PARTS``: a new VERSION of a part gives
    the whole a new digest, so that a collection never lists outdated parts.
    """
    payload = {"kind": stage.kind, **identity(stage)}
    if versions := _part_versions(type(stage)):
        payload["parts"] = versions
    return digest(payload), payload


def _part_versions(cls: type) -> dict[str, int]:
    """Return the VERSIONs of the parts of a stage class, and of their parts."""
    versions: dict[str, int] = {}
    for part in getattr(cls, "PARTS", ()):
        versions |= {part.__name__: part.VERSION} | _part_versions(part)
    return versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArtifactStore:
    """All artifacts below one folder.

    Attributes:
        root: the folder, usually ``outputs/artifacts``; made on first use.
    """

    root: Path

    def find(self, stage: Stage[Any]) -> Artifact | None:
        """Return the finished artifact of ``stage``, or None.

        Raises:
            ArtifactError: when a folder of that name holds something else, or a file of it is
                missing or has another size than its manifest says.
        """
        return self._find(stage.kind, *fingerprint(stage))

    def _find(self, kind: str, name: str, payload: dict[str, Any]) -> Artifact | None:
        folder = self.root / kind / name
        if not (folder / MANIFEST).exists():
            return None
        artifact = Artifact(path=folder, manifest=Manifest.read(folder))
        if artifact.manifest.payload != payload:
            raise ArtifactError(
                f"{folder}: its manifest describes another artifact than the one asked for "
                f"(two payloads share the digest {name}, or the manifest was edited); "
                f"remove it with: {removal(folder)}"
            )
        check_sizes(artifact)
        return artifact

    def make(self, stage: Stage[Any], context: Context) -> tuple[Artifact, bool]:
        """Find or make the artifact of ``stage``; return it and whether it was found.

        Raises:
            StageError: when the stage leaves no file, or the disk or the permissions refuse.
        """
        name, payload = fingerprint(stage)  # computed once: some stages hash their input for it
        if (artifact := self._find(stage.kind, name, payload)) is not None:
            return artifact, True
        try:
            locks = self.root / LOCKS
            locks.mkdir(parents=True, exist_ok=True)
            with FileLock(locks / f"{stage.kind}-{name}.lock"):
                artifact = self._find(stage.kind, name, payload)
                if artifact is not None:  # another job was faster
                    return artifact, True
                return self._produce(stage, context, name, payload), False
        except OSError as error:
            reason = explain_os_error(error, outputs=self.root.parent)
            raise StageError(f"stage {stage.kind}: {reason}; nothing half-made is kept") from error

    def _produce(
        self, stage: Stage[Any], context: Context, name: str, payload: dict[str, Any]
    ) -> Artifact:
        parent = self.root / stage.kind
        parent.mkdir(parents=True, exist_ok=True)
        partial = parent / f"{PARTIAL}{name}-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            before = context.made.seconds
            with Usage() as usage:
                facts = stage.run(partial, context)
                files = list_files(partial)
            manifest = Manifest(
                kind=stage.kind,
                digest=name,
                payload=payload,
                files=files,
                facts=facts,
                created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                duration_s=round(usage.seconds, 6),
                made_by=made_by(),
                side_of=getattr(stage, "SIDE_OF", ""),
                own_s=round(usage.seconds - (context.made.seconds - before), 6),
                cpu_s=round(usage.cpu_s, 3),
                memory_bytes=usage.memory_bytes,
            )
            for file in manifest.files:
                sync_path(partial / file)
            manifest.write(partial)
            sync_path(partial)
            final = parent / name
            if final.exists():  # a folder without a manifest is unfinished, so it is replaced
                shutil.rmtree(final)
            partial.rename(final)
            sync_path(parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return Artifact(path=final, manifest=manifest)

    def __iter__(self) -> Iterator[Artifact]:
        """Yield every finished artifact, by kind and digest."""
        for path in sorted(self.root.glob(f"*/*/{MANIFEST}")):
            if not path.parent.name.startswith(PARTIAL):
                yield Artifact(path=path.parent, manifest=Manifest.read(path.parent))

    def partials(self) -> list[Path]:
        """Return the unfinished folders that killed stages left behind."""
        return sorted(self.root.glob(f"*/{PARTIAL}*"))


def check_sizes(artifact: Artifact) -> None:
    """Compare the size of every file with the manifest; cheap, and finds truncated files.

    Raises:
        ArtifactError: naming the file, the two sizes and the command that removes the artifact.
    """
    for name, entry in artifact.manifest.files.items():
        path = artifact.path / name
        size = path.stat().st_size if path.exists() else None
        if size != entry.size_bytes:
            found = "is missing" if size is None else f"has {size} bytes"
            raise ArtifactError(
                f"{path} {found}, its manifest says {entry.size_bytes}: it was damaged after it "
                f"was made. Remove it with: {removal(artifact.path)} and run again"
            )
