"""Tokenize: all readable images of a corpus to token streams, one artifact a shard.

Held-out images are tokenized too: the split selects among documents later (``select.py``), so
another split tokenizes nothing again. Each record of a shard is either a document or skipped under
a reason, and the counts must add up. The files of a shard are those of ``token_files.py``.

Shards are tokenized side by side in processes, a small corpus in this process; spare workers become
threads within a shard. A thread holds one picture at a time, in 6 to 11 bytes for each of its
pixels, and at most 32 files and 32 documents (2 bytes a token) wait for their turn.

A tokenizer with a network (one with a ``batch_size``) is run in this process, shard after shard:
threads decode and prepare the pictures, and the network takes a batch of them at a time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from imagegram.corpora.viewed import ViewedShard
from imagegram.errors import StageError, TokenError, Unreadable
from imagegram.executors.threads import chunks, map_in_order
from imagegram.images.modality import IMAGES
from imagegram.protocols import ImageShard, Tokenizer
from imagegram.records import Item, Record, Tokens
from imagegram.stages.scan import are_few
from imagegram.stages.skips import read_item, refuse_failures
from imagegram.stages.token_costs import set_cost, shard_cost
from imagegram.stages.token_files import TokenDocument, TokenWriter
from imagegram.stages.token_shard import TokenShard
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.hashing import changed_while_read
from imagegram.store.parts import write_parts
from imagegram.store.stage import Context, Surroundings

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

#: A record with its document, or with the reason why it is skipped.
_Outcome = tuple[Record, TokenDocument | str]


#: What an image of some hundred pixels a side costs, and each of its tokens, in tokens of a text.
_IMAGE_UNITS: Final = 3600
_TOKEN_UNITS: Final = 0.075


@dataclass(frozen=True, kw_only=True)
class TokenizeShard:
    """The stage that tokenizes one shard, in one pass and bounded memory.

    Attributes:
        shard: shard of images.
        tokenizer: encoder of the images.
        max_failed_fraction: share of unreadable images above which the shard is refused.
    """

    kind: ClassVar[str] = "token_shard"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 5
    RATE: ClassVar[PerUnit] = PerUnit("num_tokens", like="tokenizer", seconds=8.0e-8)

    shard: ImageShard
    tokenizer: Tokenizer
    max_failed_fraction: float = field(default=1.0, metadata=NOT_IDENTITY)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the six files of a token shard.

        Raises:
            CorpusError: when more images than allowed cannot be read, or the shard changes.
            TokenError: when the tokenizer breaks its contract.
            StageError: when the counts do not add up.
        """
        shard = self.shard
        content = shard.identity()
        writer, num_records = self._write(out, context)
        if shard.identity() != content:
            raise changed_while_read(shard.path)
        num_documents, skipped = len(writer.sketches), dict(sorted(writer.skipped.items()))
        if num_records != num_documents + sum(skipped.values()):
            raise StageError(
                f"{shard.path}: {num_records} records, but {num_documents} documents and "
                f"{sum(skipped.values())} skipped; this is a defect of imagegram, please report it"
            )
        facts = {
            "num_documents": num_documents,
            "num_tokens": writer.num_tokens,
            "document_length": self.tokenizer.spec.document_length,
            "num_records": num_records,
            "skipped": skipped,
            "counts": dict(sorted(writer.counts.items())),
            "vocab_size": self.tokenizer.spec.vocab_size,
            "tokenizer": self.tokenizer.name,
            "shard": shard.name,
            "sketches": self.tokenizer.modality.SKETCHES,
        }
        self.check_failures(out, facts)
        return facts

    def units(self, facts: Mapping[str, Any]) -> float:
        """Count tokens; of images what takes as long as reading and shrinking each."""
        tokens = int(facts["num_tokens"])
        if self.tokenizer.modality is not IMAGES:
            return tokens
        return _IMAGE_UNITS * int(facts["num_documents"]) + _TOKEN_UNITS * tokens

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee the tokens of all images, on one core."""
        bytes_each = getattr(self.shard, "metadata_bytes", 0)
        return shard_cost(self, at, len(self.shard), metadata_bytes=bytes_each)

    def _write(self, out: Path, context: Context) -> tuple[TokenWriter, int]:
        """Write all documents; return the writer, with its counts, and the number of records."""
        shard, modality = self.shard, self.tokenizer.modality
        task = context.progress.start(f"tokenize {shard.name}", len(shard), modality.nouns)
        num_records = 0

        def read(records: Sequence[Record]) -> list[_Outcome]:
            return [(record, self._read(record)) for record in records]

        with ExitStack() as stack:
            stack.enter_context(modality.reading())
            writer = TokenWriter(out, stack, modality)
            chunked = map_in_order(read, chunks(shard), workers=context.workers)
            if self.tokenizer.batch_size is not None:
                outcomes = itertools.chain.from_iterable(chunked)
                chunked = self._in_batches(outcomes, self.tokenizer.batch_size)
            for some in chunked:
                for record, document in some:
                    if isinstance(document, str):
                        writer.skip(record, document)
                    else:
                        writer.add(document)
                num_records += len(some)
                context.progress.advance(task, len(some))
            writer.close()
        context.progress.finish(task)
        return writer, num_records

    def _read(self, record: Record) -> TokenDocument | str:
        """Return the document of a record, for a network only prepared; or why it is skipped."""
        found = read_item(record, self.tokenizer.modality)
        if isinstance(found, str):
            return found
        item, sketch = found
        metadata = json.dumps(self._metadata(record, item)).encode() + b"\n"
        try:
            prepared = self.tokenizer.prepare(item)
        except Unreadable as refusal:  # a text that the tokenizer would not give back
            return refusal.reason
        document = TokenDocument(prepared, sketch, metadata)
        if self.tokenizer.batch_size is None:
            (document,) = self._encode([document])
        return document

    def _encode(self, documents: Sequence[TokenDocument]) -> list[TokenDocument]:
        """Return prepared documents with their tokens; the first one has the counts of all."""
        encoded = self.tokenizer.encode([document.tokens for document in documents])
        for tokens in encoded.documents:
            self._check_tokens(tokens)
        done = [
            replace(document, tokens=tokens)
            for document, tokens in zip(documents, encoded.documents, strict=True)
        ]
        return [replace(done[0], counts=encoded.counts), *done[1:]]

    def _in_batches(
        self, outcomes: Iterable[_Outcome], batch_size: int
    ) -> Iterator[list[_Outcome]]:
        """Encode prepared documents in batches; skipped records keep their place among them."""
        waiting: list[_Outcome] = []
        prepared: list[TokenDocument] = []

        def encoded() -> list[_Outcome]:
            done = iter(self._encode(prepared) if prepared else ())
            return [
                (record, document if isinstance(document, str) else next(done))
                for record, document in waiting
            ]

        for record, document in outcomes:
            waiting.append((record, document))
            if isinstance(document, str):
                continue
            prepared.append(document)
            if len(prepared) == batch_size:
                yield encoded()
                waiting, prepared = [], []
        yield encoded()

    def _check_tokens(self, tokens: Tokens) -> None:
        spec = self.tokenizer.spec
        is_document = tokens.ndim == 1 and spec.document_length in (None, len(tokens))
        if not is_document or int(tokens.max(initial=0)) >= spec.vocab_size:
            count = "any number of" if spec.ragged else spec.length
            raise TokenError(
                f"tokenizer {self.tokenizer.name} gave {tokens.shape} ids up to "
                f"{int(tokens.max(initial=0))}; it declares {count} ids below {spec.vocab_size}"
            )

    def _metadata(self, record: Record, item: Item) -> dict[str, Any]:
        return {
            "key": record.key if record.view is None else f"{record.key} ({record.view})",
            "shard": self.shard.name,
            **({} if record.view is None else {"view": record.view}),
            "sha256": hashlib.sha256(record.data).hexdigest(),
            **self.tokenizer.modality.facts(item),
            "caption": record.caption,
            "info": record.info,
            "locator": {
                "member": record.locator.member,
                "offset": record.locator.offset,
                "size": record.locator.size,
            },
        }

    def check_failures(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Refuse token files of a shard in which more images failed than are allowed *now*.

        Args:
            folder: folder of the token shard, for the keys of the first failures.
            facts: counts of the tokenization.

        Raises:
            CorpusError: with the reasons, the first keys, and what to type.
        """
        refuse_failures(
            self.shard,
            folder,
            allowed=self.max_failed_fraction,
            num_records=int(facts["num_records"]),
            skipped=facts["skipped"],
        )

    def load(self, artifact: Artifact) -> TokenShard:
        """Return the handle of a finished token shard."""
        return TokenShard(artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class Tokenize:
    """The stage that tokenizes a corpus, shard by shard.

    Attributes:
        shards: shards in the order of the corpus.
        tokenizer: encoder of the images.
        max_failed_fraction: share of unreadable images above which a shard is refused.
    """

    kind: ClassVar[str] = "tokens"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 5
    PARTS: ClassVar[tuple[type, ...]] = (TokenizeShard,)

    shards: tuple[ImageShard, ...]
    tokenizer: Tokenizer
    max_failed_fraction: float = field(default=1.0, metadata=NOT_IDENTITY)

    @property
    def parts(self) -> tuple[TokenizeShard, ...]:
        """Stages of the shards."""
        how: dict[str, Any] = {
            "tokenizer": self.tokenizer,
            "max_failed_fraction": self.max_failed_fraction,
        }
        return tuple(TokenizeShard(shard=shard, **how) for shard in self.shards)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Packages of the compiled kernels that it calls."""
        return getattr(self.tokenizer, "kernels", ())

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Make all token shards; write ``shards.json``."""
        parts = self.parts
        # A network uses all threads of a machine, so one shard after the other.
        in_turn = self.tokenizer.batch_size is not None and not context.elsewhere
        if are_few(self.shards) or in_turn:
            shards = [context.make(part) for part in parts]
        else:
            shards = context.make_all(parts, description="tokenize")
        write_parts(out, kind=TokenizeShard.kind, parts=[shard.artifact for shard in shards])
        facts = [shard.artifact.facts for shard in shards]
        # A record counts once, however many views of it are tokenized.
        once = [
            shard.artifact.facts
            for shard, images in zip(shards, self.shards, strict=True)
            if not isinstance(images, ViewedShard)
        ]
        skipped = sum((Counter(fact["skipped"]) for fact in once), Counter[str]())
        totals = {
            "num_documents": sum(int(fact["num_documents"]) for fact in facts),
            "num_tokens": sum(int(fact["num_tokens"]) for fact in facts),
            "num_records": sum(int(fact["num_records"]) for fact in once),
        }
        counts: Counter[str] = Counter()
        for fact in facts:
            counts.update(fact["counts"])  # a sum of counters would drop those that are 0
        return {
            **totals,
            "document_length": self.tokenizer.spec.document_length,
            "counts": dict(sorted(counts.items())),
            "skipped": dict(sorted(skipped.items())),
            "vocab_size": self.tokenizer.spec.vocab_size,
            "tokenizer": self.tokenizer.name,
            "num_shards": len(shards),
        }

    def load(self, artifact: Artifact) -> TokenSet:
        """Return the handle of a finished token set.

        Raises:
            CorpusError: when more images of a shard failed than this corpus allows. The limit is no
                identity, so the artifact may come from a run with a laxer one.
        """
        tokens = TokenSet(artifact=artifact, images=self.shards)
        if artifact.facts["skipped"]:
            for part, shard in zip(self.parts, tokens.shards, strict=True):
                part.check_failures(shard.artifact.path, shard.artifact.facts)
        return tokens

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee the shards, each on a process of its own."""
        return set_cost(
            self,
            self.parts,
            at,
            images=self.shards,
            at_once=at.workers,
            document_length=self.tokenizer.spec.document_length,
            vocab_size=self.tokenizer.spec.vocab_size,
        )
