"""Index: suffix arrays over the token shards, for searching the tokens of any generator.

One search in a large shard costs hardly more than one in a small shard, so consecutive token
shards are joined to one index shard until it holds ``shard_tokens`` tokens. An index shard opens
without this package: ``fastgram.GramEngine(folder, ...)``. The collection only lists them; a larger
corpus shares the full index shards of a smaller one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from imagegram.errors import ArtifactError, CapacityError, ConfigError
from imagegram.indexes.build.sort import SHARD_TOKENS, check_shard_tokens, sort_bytes
from imagegram.indexes.format import ExpectedShard, IndexShard, pointer_width
from imagegram.indexes.open import StoredIndex
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES
from imagegram.stages.token_shard import TokenShard
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact, removal
from imagegram.store.parts import link_or_copy, open_parts, write_parts
from imagegram.store.stage import Context, Surroundings

#: Files of a token shard that an index shard shares.
TOKEN_FILES: Final = ("tokenized.0", "offset.0", "metadata.0", "metaoff.0")
#: Bytes of one worker: interpreter, compiled code and blocks.
_PROCESS_BYTES: Final = 250_000_000


@dataclass(frozen=True, kw_only=True)
class BuildIndexShard:
    """The stage that sorts the suffixes of consecutive token shards, joined to one stream.

    Attributes:
        tokens: at least one, of one tokenizer.
        build_device: where suffixes are sorted; the table is the same.
    """

    kind: ClassVar[str] = "index_shard"
    group: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 2
    RATE: ClassVar[PerUnit] = PerUnit("num_tokens", seconds=1.2e-7)

    tokens: tuple[TokenShard, ...]
    build_device: str = field(default="cpu", metadata=NOT_IDENTITY)

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the stream, separators included."""
        return sum(shard.stream_tokens - 1 for shard in self.tokens) + 1

    @property
    def _is_one_file(self) -> bool:
        return len(self.tokens) == 1 and self.tokens[0].is_whole

    @property
    def memory_bytes(self) -> int:
        """Peak memory of :meth:`run` on this machine, in bytes."""
        if self.build_device != "cpu":
            return _PROCESS_BYTES
        distinct = max(shard.vocab_size for shard in self.tokens) + 1  # and the separator
        return _PROCESS_BYTES + sort_bytes(self.num_tokens, distinct)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Link the token files, or join those of several shards, and write ``table.0``.

        Raises:
            ArtifactError: when the token files do not hold what their manifests say.
            StageError: when the sort does not fit into memory.
        """
        from imagegram.indexes.build.sort import build_table

        for shard in self.tokens:
            _check_tokens(shard)
        if self._is_one_file:
            for name in TOKEN_FILES:
                link_or_copy(self.tokens[0].artifact.path / name, out / name)
        else:
            _join(self.tokens, out)
        task = context.progress.start("sort suffixes", 1, "shards")
        build_table(out / "tokenized.0", out / "table.0", device=self.build_device)
        context.progress.advance(task)
        context.progress.finish(task)
        index = IndexShard.open(out)
        return {
            "num_documents": index.num_documents,
            "num_tokens": index.num_tokens,
            "pointer_width": index.pointer_width,
            "table_bytes": int(index.table.size),
        }

    def load(self, artifact: Artifact) -> IndexShard:
        """Open the shard."""
        return IndexShard.open(artifact.path, artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee a sort on one core; token files are hard links, unless some are joined or cut."""
        if found := at.find(self):
            counts = {"images": found.facts["num_documents"], "tokens": found.facts["num_tokens"]}
            return Cost.found(found, **counts)
        documents = sum(shard.num_documents for shard in self.tokens)
        disk = self.num_tokens * pointer_width(self.num_tokens)
        if not self._is_one_file:
            disk += TOKEN_BYTES * self.num_tokens + documents * (8 + 8)
            disk += sum(shard.metadata_bytes for shard in self.tokens)
        rate = at.rate(self)
        return Cost(
            artifact=at.expect(self, {"num_documents": documents, "num_tokens": self.num_tokens}),
            images=documents,
            tokens=self.num_tokens,
            disk_bytes=disk,
            memory_bytes=self.memory_bytes - _PROCESS_BYTES,
            seconds=rate.seconds * self.num_tokens,
            source=rate.source,
        )


@dataclass(frozen=True, kw_only=True)
class BuildIndex:
    """The stage that indexes a token set.

    Attributes:
        tokens: the token set to index.
        shard_tokens: join token shards up to this many tokens, separators included; a token shard
            that is larger becomes an index shard of its own.
        build_device: where suffixes are sorted: ``cpu``, ``cuda``, ``cuda:1`` ...
    """

    kind: ClassVar[str] = "index"
    group: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (BuildIndexShard,)
    kernels: ClassVar[tuple[str, ...]] = ("imagegram.indexes.build",)

    tokens: TokenSet
    shard_tokens: int = SHARD_TOKENS
    build_device: str = field(default="cpu", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        check_shard_tokens(self.shard_tokens)

    def parts(self) -> tuple[BuildIndexShard, ...]:
        """Index shards in the order of their documents: as few as possible, joined greedily."""
        groups: list[list[TokenShard]] = []
        filled = 0
        for shard in self.tokens.shards:
            if groups and filled + shard.stream_tokens - 1 <= self.shard_tokens:
                groups[-1].append(shard)
                filled += shard.stream_tokens - 1  # the last separator is the next one's first
            else:
                groups.append([shard])
                filled = shard.stream_tokens
        return tuple(
            BuildIndexShard(tokens=tuple(group), build_device=self.build_device) for group in groups
        )

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Build the missing shards, as many at a time as fit in memory; write ``shards.json``.

        Raises:
            CapacityError: when one shard alone needs more memory than allowed.
            ArtifactError: when shards and token set disagree in their counts.
        """
        parts = self.parts()
        at_once = None
        if missing := context.missing(parts):
            at_once = sorts_at_once(missing, context.memory_bytes)
        shards = context.make_all(parts, description="index", at_once=at_once)
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

    def load(self, artifact: Artifact) -> StoredIndex:
        """Open the index with its shards.

        Raises:
            ArtifactError: when a shard was removed or damaged.
            IndexFormatError: when a shard breaks the format.
        """
        shards = tuple(IndexShard.open(part.path, artifact=part) for part in open_parts(artifact))
        return StoredIndex(shards=shards, artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee as many sorts at a time as workers and memory allow."""
        if found := at.find(self):
            counts = {"images": found.facts["num_documents"], "tokens": found.facts["num_tokens"]}
            return Cost.found(found, handle=self._expected(found), **counts)
        parts = self.parts()
        costs = [part.forecast(at) for part in parts]
        missing = [part for part, cost in zip(parts, costs, strict=True) if not cost.cached]
        at_once, refusal = at.workers, ""
        try:
            if missing:
                at_once = min(at_once, sorts_at_once(missing, at.memory_bytes))
        except CapacityError as error:
            at_once, refusal = 1, str(error)
        whole = Cost.together(costs, at_once=at_once)
        facts = {"num_documents": whole.images, "num_tokens": whole.tokens}
        artifact = at.expect(self, facts, [cost.artifact for cost in costs if cost.artifact])
        handle = self._expected(artifact)
        return replace(whole, artifact=artifact, handle=handle, refusal=refusal)

    def _expected(self, artifact: Artifact) -> StoredIndex:
        """Return the stand-in for the index in a plan; no shard is opened."""
        length = self.tokens.document_length
        shards = tuple(ExpectedShard.of(part, length=length) for part in open_parts(artifact))
        return StoredIndex(shards=shards, artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class Indexing:
    """Settings of indexing: the ``index`` group of the configuration.

    Attributes:
        name: name of the configuration file.
        shard_tokens: largest number of tokens of an index shard that joins token shards.
        build_device: where suffixes are sorted: ``cpu``, ``cuda``, ``cuda:1`` ...; the same index.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    shard_tokens: int = SHARD_TOKENS
    build_device: str = field(default="cpu", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        check_shard_tokens(self.shard_tokens)
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.build_device):
            raise ConfigError(
                f"index.build_device={self.build_device!r}: allowed: cpu, cuda, cuda:NUMBER"
            )

    def check_machine(self) -> None:
        """Refuse a device that is not there, before anything is tokenized."""
        if self.build_device != "cpu":
            from imagegram.indexes.torch_device import choose_device

            choose_device(self.build_device, setting="index.build_device")

    def build(self, tokens: TokenSet) -> BuildIndex:
        """Return the stage that indexes a token set."""
        return BuildIndex(
            tokens=tokens, shard_tokens=self.shard_tokens, build_device=self.build_device
        )


def sorts_at_once(parts: Sequence[BuildIndexShard], budget: int) -> int:
    """Return how many ``parts`` fit in ``budget`` bytes of memory at a time, at least 1.

    Raises:
        CapacityError: when the largest part alone needs more.
    """
    largest = max(parts, key=lambda part: part.memory_bytes)
    if largest.memory_bytes > budget:
        raise _too_large(largest, budget)
    if largest.build_device != "cpu":
        return 1  # all parts share the memory of the device
    return budget // largest.memory_bytes


def _too_large(part: BuildIndexShard, budget: int) -> CapacityError:
    """Return the error; it names the largest shard size that fits, if token shards do."""
    need = part.memory_bytes
    fitting = part.num_tokens * (budget - _PROCESS_BYTES) // max(need - _PROCESS_BYTES, 1)
    advice = "make the shards of the corpus smaller"
    if fitting >= max(shard.stream_tokens for shard in part.tokens):
        advice = f"build smaller index shards: index.shard_tokens={fitting}"
    return CapacityError(
        f"sorting an index shard of {part.num_tokens:,} tokens needs about {need / 1e9:.2f} GB of "
        f"memory, and {budget / 1e9:.2f} GB may be spent; {advice}, or allow more: "
        f"runtime.memory_gb={need / 1e9 + 0.01:.2f}"
    )


def _check_tokens(shard: TokenShard) -> None:
    """Check that the files of a token shard have the counts of its manifest."""
    folder, whole = shard.artifact.path, TokenShard(artifact=shard.artifact)
    expected = (whole.num_documents, whole.stream_tokens)
    found = (
        (folder / "offset.0").stat().st_size // 8,
        (folder / "tokenized.0").stat().st_size // TOKEN_BYTES,
    )
    again = f"Remove it with: {removal(folder)} and run again"
    if found != expected:
        raise ArtifactError(
            f"{folder}: its manifest promises {expected[0]} documents ({expected[1]} tokens with "
            f"separators), but the files hold {found[0]} documents and {found[1]} tokens. {again}"
        )
    lengths, length = np.diff(shard.separators) - 1, shard.document_length
    if length is not None and (lengths != length).any():
        raise ArtifactError(
            f"{folder / 'offset.0'}: its documents are not all {length} tokens long. {again}"
        )
    if (lengths < 0).any() or shard.separators[0]:
        raise ArtifactError(f"{folder / 'offset.0'}: its entries do not ascend from 0. {again}")
    if (shard.stream[shard.separators] != EOS_TOKEN_ID).any():
        raise ArtifactError(
            f"{folder / 'tokenized.0'}: there is no separator {EOS_TOKEN_ID} where a document "
            f"begins. {again}"
        )


def _join(shards: Sequence[TokenShard], out: Path) -> None:
    """Write the files of one shard with the documents of all token shards, in their order.

    Documents that follow each other are copied as they lie there, with the separators before them.
    """
    with ExitStack() as stack:
        stream, offsets, lines, positions = (
            stack.enter_context((out / name).open("wb")) for name in TOKEN_FILES
        )
        for shard in shards:
            for first, end in shard.runs():
                metadata = np.memmap(shard.artifact.path / "metadata.0", mode="r")
                places, bytes_ = shard.separators[first : end + 1], shard.lines[first : end + 1]
                moved = (places[:-1] - places[0]) * TOKEN_BYTES + stream.tell()
                offsets.write(moved.astype("<u8").tobytes())
                stream.write(shard.stream[places[0] : places[-1]].data)
                positions.write((bytes_[:-1] - bytes_[0] + lines.tell()).astype("<u8").tobytes())
                lines.write(metadata[bytes_[0] : bytes_[-1]].data)
        stream.write(EOS_TOKEN_ID.to_bytes(TOKEN_BYTES, "little"))
