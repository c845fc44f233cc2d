"""Opening indexes: find the shards in folders and choose an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from imagegram.errors import ConfigError, IndexFormatError, did_you_mean
from imagegram.indexes.base import Index
from imagegram.indexes.format import IndexShard, open_shards, rebuild
from imagegram.store.manifest import MANIFEST, PARTS_FILE, Artifact, Manifest, read_parts

ENGINES: Final = ("native", "torch", "naive", "fastgram")


def open_index(dirs: str | Path | Sequence[str | Path], *, engine: str = "native") -> Index:
    """Open index folders: artifacts of the store, or folders of infini-gram and fast-gram.

    Args:
        dirs: one folder or several: an index artifact (``shards.json``), a folder with
            ``tokenized.N``, ``table.N`` and ``offset.N``, or a folder of such folders.
        engine: ``native``, ``torch``, ``naive`` or ``fastgram``; all give the same answers.

    Raises:
        IndexFormatError: when a folder holds no whole index.
        ConfigError: for an unknown engine.
    """
    folders = [dirs] if isinstance(dirs, str | Path) else list(dirs)
    shards = tuple(shard for folder in folders for shard in find_shards(Path(folder)))
    return make_engine(shards, engine=engine)


def make_engine(shards: Sequence[IndexShard], *, engine: str, device: str | None = None) -> Index:
    """Make an engine over open shards.

    Args:
        shards: shards in the order of their documents.
        engine: one of :data:`ENGINES`.
        device: device of the torch engine: ``cpu``, ``cuda``, ``cuda:1`` ...; None: the fastest.

    Raises:
        ConfigError: for an unknown engine.
        IndexFormatError: when there is no shard.
    """
    if not shards:
        raise IndexFormatError("an index needs at least one shard; give an index folder")
    if engine == "native":
        from imagegram.indexes.native import NativeIndex

        return NativeIndex(shards=tuple(shards))
    if engine == "torch":
        from imagegram.indexes.torch import TorchIndex

        return TorchIndex(shards=tuple(shards), device=device)
    if engine == "naive":
        from imagegram.indexes.naive import NaiveIndex

        return NaiveIndex(shards=tuple(shards))
    if engine == "fastgram":
        from imagegram.indexes.fastgram import FastgramIndex

        return FastgramIndex(shards=tuple(shards))
    raise ConfigError(f"unknown index engine {engine!r}: {did_you_mean(engine, ENGINES)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredIndex:
    """The index of an artifact, whose engine starts with the first query.

    A run whose stages are all cached makes no query, and so loads no compiler.

    Attributes:
        shards: shards in the order of their documents.
        artifact: artifact of the store.
    """

    shards: tuple[IndexShard, ...]
    artifact: Artifact

    def identity(self) -> str:
        """Return ``index/digest``."""
        return self.artifact.identity()

    @cached_property
    def _engine(self) -> Index:
        return make_engine(self.shards, engine="native")

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute from the engine."""
        if name.startswith("__"):  # copy and pickle call this before the fields exist
            raise AttributeError(name)
        return getattr(self._engine, name)


def find_shards(folder: Path) -> tuple[IndexShard, ...]:
    """Open the shards of an index artifact, an index folder, or a folder of index folders.

    Raises:
        IndexFormatError: when there are none, or one of them is broken or missing.
    """
    if not folder.is_dir():
        raise IndexFormatError(
            f"{folder} is not a folder; python -m imagegram.tools.ls lists the indexes made so far"
        )
    if (folder / PARTS_FILE).exists():
        return _shards_of_artifact(folder)
    if not any(folder.glob("tokenized.*")):
        # hidden folders were left behind by killed jobs
        seen = (part for part in folder.iterdir() if not part.name.startswith("."))
        parts = sorted(part for part in seen if any(part.glob("tokenized.*")))
        if parts:
            return tuple(shard for part in parts for shard in open_shards(part))
    if (folder / MANIFEST).exists():
        return (_open_artifact(folder),)
    return open_shards(folder)


def _shards_of_artifact(folder: Path) -> tuple[IndexShard, ...]:
    try:
        kind, digests = read_parts(folder)
    except (ValueError, KeyError, TypeError) as error:
        raise IndexFormatError(
            f"{folder / PARTS_FILE}: not a list of shards ({error}); {rebuild(folder)}"
        ) from error
    if kind != "index_shard":
        raise IndexFormatError(
            f"{folder} collects artifacts of kind {kind!r}, not index shards; give an artifact of "
            "kind index (python -m imagegram.tools.ls lists them)"
        )
    parts = [folder.parent.parent / kind / digest for digest in digests]
    for part in parts:
        if not (part / MANIFEST).exists():
            raise IndexFormatError(
                f"{part}, a shard of {folder}, is missing; repeat the run that made the index"
            )
    return tuple(_open_artifact(part) for part in parts)


def _open_artifact(folder: Path) -> IndexShard:
    return IndexShard.open(folder, artifact=Artifact(path=folder, manifest=Manifest.read(folder)))
