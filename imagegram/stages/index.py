"""Index: a suffix array over every token shard, the trained state of the n-gram generator.

One artifact a shard: the four token files of the token shard (hard links where the file system
allows) and ``table.0``. The collection only lists them, so every size of a corpus shares its
shards. Any of them opens without this package: ``fastgram.GramEngine(folder, ...)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from imagegram.errors import ArtifactError
from imagegram.indexes.format import IndexShard
from imagegram.protocols import Context
from imagegram.stages.parts import link_or_copy, open_parts, write_parts
from imagegram.store.artifacts import Artifact, removal
from imagegram.store.fingerprint import NOT_IDENTITY

if TYPE_CHECKING:
    from imagegram.generators.ngram import FittedNgram
    from imagegram.stages.tokens import TokenSet, TokenShard

#: Files of a token shard that an index shard shares.
TOKEN_FILES: Final = ("tokenized.0", "offset.0", "metadata.0", "metaoff.0")


@dataclass(frozen=True, kw_only=True)
class BuildIndexShard:
    """The stage that sorts the suffixes of one token shard."""

    kind: ClassVar[str] = "index_shard"
    VERSION: ClassVar[int] = 1

    tokens: TokenShard

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Link the token files and write ``table.0``.

        Raises:
            ArtifactError: when the token files do not hold what their manifest says.
            StageError: when the sort does not fit into memory.
        """
        from imagegram.indexes.build import build_table

        for name in TOKEN_FILES:
            link_or_copy(self.tokens.artifact.path / name, out / name)
        task = context.progress.start("sort suffixes", 1, "shards")
        build_table(out / "tokenized.0", out / "table.0")
        context.progress.advance(task)
        context.progress.finish(task)
        shard = IndexShard.open(out)
        self._reconcile(shard)
        return {
            "num_documents": shard.num_documents,
            "num_tokens": shard.num_tokens,
            "pointer_width": shard.pointer_width,
            "table_bytes": int(shard.table.size),
        }

    def _reconcile(self, shard: IndexShard) -> None:
        """Every count of the token shard's manifest must be found again in the index."""
        folder = self.tokens.artifact.path
        documents, length = self.tokens.num_documents, self.tokens.num_tokens
        expected = (documents, documents * (length + 1) + 1)
        if (shard.num_documents, shard.num_tokens) != expected:
            raise ArtifactError(
                f"{folder}: its manifest promises {documents} documents of {length} tokens "
                f"({expected[1]} with separators), but the files hold {shard.num_documents} "
                f"documents and {shard.num_tokens} tokens. Remove it with: {removal(folder)} "
                "and run again"
            )
        if documents and shard.document_length != length:
            raise ArtifactError(
                f"{folder / 'offset.0'}: its documents are not all {length} tokens long. Remove it "
                f"with: {removal(folder)} and run again"
            )

    def load(self, artifact: Artifact) -> IndexShard:
        """The opened shard."""
        return IndexShard.open(artifact.path, artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class BuildIndex:
    """The stage that indexes a token set; fitting an n-gram generator is nothing else.

    Attributes:
        tokens: what to index.
        engine: who answers the queries; all engines give the same answers.
    """

    kind: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (BuildIndexShard,)

    tokens: TokenSet
    engine: str = field(default="native", metadata=NOT_IDENTITY)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Build the missing shards; write ``shards.json``.

        Raises:
            ArtifactError: when shards and token set disagree in their counts.
        """
        parts = [BuildIndexShard(tokens=shard) for shard in self.tokens.shards]
        shards = context.make_all(parts, description="index")
        artifacts = [shard.artifact for shard in shards if shard.artifact is not None]
        write_parts(out, kind=BuildIndexShard.kind, parts=artifacts)
        facts = [artifact.facts for artifact in artifacts]
        totals = {
            name: sum(int(fact[name]) for fact in facts)
            for name in ("num_documents", "num_tokens", "table_bytes")
        }
        if totals["num_documents"] != self.tokens.num_documents:
            raise ArtifactError(
                f"{self.tokens.artifact.path} promises {self.tokens.num_documents} documents, but "
                f"its index shards hold {totals['num_documents']}. Remove it with: "
                f"{removal(self.tokens.artifact.path)} and run again"
            )
        widths = [int(fact["pointer_width"]) for fact in facts]
        return {**totals, "pointer_width": max(widths, default=0), "num_shards": len(facts)}

    def load(self, artifact: Artifact) -> FittedNgram:
        """The fitted generator over the opened shards.

        Raises:
            ArtifactError: when a shard was removed or damaged.
            IndexFormatError: when a shard breaks the format.
        """
        from imagegram.generators.ngram import FittedNgram

        shards = tuple(IndexShard.open(part.path, artifact=part) for part in open_parts(artifact))
        return FittedNgram(artifact=artifact, shards=shards, engine=self.engine)
