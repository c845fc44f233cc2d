"""Prefix: the first tokens of every document, cut from the token set of whole documents.

One tokenization serves every length: the network that made the tokens does not run again. The other
files (metadata, thumbnails, skips) are shared by hard links.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES
from imagegram.stages.skips import SKIPPED
from imagegram.stages.token_costs import prefix_shard_bytes, set_cost, shard_counts
from imagegram.stages.token_shard import TokenShard
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import Cost
from imagegram.store.parts import link_or_copy, write_parts
from imagegram.store.stage import Context, Surroundings

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

_SHARED: Final = ("metadata.0", "metaoff.0", "thumbnails.npy", SKIPPED)
#: Number of tokens that are held at a time: 32 MB.
_BLOCK_TOKENS: Final = 1 << 24
#: Seconds to cut a document: far less than other stages take.
_SECONDS: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class PrefixShard:
    """The stage that cuts the documents of one token shard.

    Attributes:
        shard: shard of whole documents.
        length: number of first tokens to keep, 1 ... ``shard.document_length``.
    """

    kind: ClassVar[str] = "token_shard"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 2

    shard: TokenShard
    length: int

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the six files of a token shard."""
        with (out / "tokenized.0").open("wb") as stream:
            for block in self._blocks():
                block.tofile(stream)
            np.array([EOS_TOKEN_ID], dtype="<u2").tofile(stream)
        width = (self.length + 1) * TOKEN_BYTES
        offsets = np.arange(self.shard.num_documents, dtype="<u8") * width
        offsets.tofile(out / "offset.0")
        for name in _SHARED:
            link_or_copy(self.shard.artifact.path / name, out / name)
        return self.shard.artifact.facts | prefix_facts(self.shard, self.length)

    def _blocks(self) -> Iterator[NDArray[np.uint16]]:
        """Yield (N, 1 + length) rows of separator and tokens, some documents at a time."""
        size = max(_BLOCK_TOKENS // (self.length + 1), 1)
        for start in range(0, self.shard.num_documents, size):
            documents = np.arange(start, min(start + size, self.shard.num_documents))
            some = self.shard.gather(documents, np.zeros_like(documents), self.length)
            block = np.empty((len(some), self.length + 1), dtype="<u2")
            block[:, 0], block[:, 1:] = EOS_TOKEN_ID, some
            yield block

    def load(self, artifact: Artifact) -> TokenShard:
        """Return the handle of a finished token shard."""
        return TokenShard(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee a copy of the stream; the other files are hard links."""
        if found := at.find(self):
            return shard_counts(self.load(found))
        facts = self.shard.artifact.facts | prefix_facts(self.shard, self.length)
        artifact = at.expect(self, facts | {"metadata_bytes": self.shard.metadata_bytes})
        documents = self.shard.num_documents
        return replace(
            shard_counts(self.load(artifact)),
            disk_bytes=prefix_shard_bytes(documents, num_tokens=facts["num_tokens"]),
            seconds=_SECONDS * documents,
            source="built in",
        )


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The stage that cuts a token set, shard by shard.

    Attributes:
        tokens: token set of whole documents.
        length: number of first tokens to keep, 1 ... ``tokens.document_length``.
    """

    kind: ClassVar[str] = "tokens"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (PrefixShard,)

    tokens: TokenSet
    length: int

    @property
    def parts(self) -> tuple[PrefixShard, ...]:
        """Stages of the shards."""
        return tuple(PrefixShard(shard=shard, length=self.length) for shard in self.tokens.shards)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Cut all shards; write ``shards.json``."""
        shards = [context.make(part) for part in self.parts]
        write_parts(out, kind=PrefixShard.kind, parts=[shard.artifact for shard in shards])
        return self.tokens.artifact.facts | prefix_facts(self.tokens, self.length)

    def load(self, artifact: Artifact) -> TokenSet:
        """Return the handle of a finished token set."""
        return TokenSet(artifact=artifact, images=self.tokens.images)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee one shard after the other."""
        return set_cost(
            self,
            self.parts,
            at,
            images=self.tokens.images,
            at_once=1,
            document_length=self.length,
            vocab_size=self.tokens.artifact.facts["vocab_size"],
        )


def prefix_facts(tokens: TokenShard | TokenSet, length: int) -> dict[str, int]:
    """Return the facts that differ for the first tokens of all documents."""
    return {"document_length": length, "num_tokens": tokens.num_documents * length}
