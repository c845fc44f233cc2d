"""Token shards of given documents, as if a tokenizer had made them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from imagegram.stages.token_shard import DOCUMENTS, SELECTION_SHARD, TokenShard
from imagegram.stages.tokens import TokenSet
from imagegram.store.manifest import Artifact
from imagegram.store.parts import write_parts
from tests.index_folders import write_index

Rows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class FakeTokenShard:
    """Writes the files of a token shard.

    Attributes:
        rows: the documents.
        claimed: how many documents the manifest says that it holds.
        length: tokens of a document by the manifest; None: they differ.
        labels: label of each document; (): none has one, None: this one has none.
    """

    kind: ClassVar[str] = "token_shard"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1

    rows: Rows
    claimed: int | None = None
    length: int | None = 3
    labels: tuple[str | None, ...] = ()

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        write_index(out, self.rows, metadata=True)
        (out / "table.0").unlink()
        if self.labels:
            self._write_labels(out)
        missing = 0 if self.claimed is None else self.claimed - len(self.rows)
        return {
            "num_documents": len(self.rows) + missing,
            "num_tokens": sum(map(len, self.rows)) + 3 * missing,
            "document_length": self.length,
            "vocab_size": 256,
            "num_records": len(self.rows) + missing,
            "skipped": {},
        }

    def _write_labels(self, out: Path) -> None:
        infos = [{"place": 1} if label is None else {"label": label} for label in self.labels]
        lines = [json.dumps({"info": info}).encode() + b"\n" for info in infos]
        (out / "metadata.0").write_bytes(b"".join(lines))
        offsets = np.cumsum([0, *map(len, lines[:-1])])
        offsets.astype("<u8").tofile(out / "metaoff.0")

    def load(self, artifact: Artifact) -> TokenShard:
        return TokenShard(artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class FakeTokens:
    """A token set of such shards; ``claimed`` is the number of documents by its manifest."""

    kind: ClassVar[str] = "tokens"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1

    parts: tuple[FakeTokenShard, ...]
    claimed: int | None = None

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        made = [context.make(part).artifact for part in self.parts]
        write_parts(out, kind="token_shard", parts=made)
        totals = {
            name: sum(artifact.facts[name] for artifact in made)
            for name in ("num_documents", "num_tokens")
        }
        if self.claimed is not None:
            totals["num_documents"] = self.claimed
        return {
            **totals,
            "document_length": self.parts[0].length,
            "vocab_size": 256,
            "tokenizer": "tiny",
            "skipped": {"corrupt": 2, "held_out": 5},
        }

    def load(self, artifact: Artifact) -> TokenSet:
        return TokenSet(artifact=artifact, images=())


@dataclass(frozen=True, kw_only=True)
class FakeSelectShard:
    """Selects documents by their numbers."""

    kind: ClassVar[str] = SELECTION_SHARD
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1

    tokens: TokenShard
    chosen: tuple[int, ...]
    note: str = ""

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        np.save(out / DOCUMENTS, np.array(self.chosen, np.uint32))
        lengths = self.tokens.lengths[list(self.chosen)]
        return {"num_documents": len(self.chosen), "num_tokens": int(lengths.sum())}

    def load(self, artifact: Artifact) -> TokenShard:
        return TokenShard(artifact=self.tokens.artifact, selection=artifact)


@dataclass(frozen=True, kw_only=True)
class FakeSelect:
    """Such a selection of every shard; a note makes it another one of the same documents."""

    kind: ClassVar[str] = "selection"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1

    tokens: TokenSet
    chosen: tuple[tuple[int, ...], ...]
    note: str = ""

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        pairs = zip(self.tokens.shards, self.chosen, strict=True)
        made = [
            context.make(FakeSelectShard(tokens=shard, chosen=chosen, note=self.note)).selection
            for shard, chosen in pairs
        ]
        write_parts(out, kind=SELECTION_SHARD, parts=made)
        totals = {
            name: sum(artifact.facts[name] for artifact in made)
            for name in ("num_documents", "num_tokens")
        }
        return totals | {"document_length": self.tokens.document_length}

    def load(self, artifact: Artifact) -> TokenSet:
        return TokenSet(artifact=artifact, images=())
