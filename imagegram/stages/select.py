"""Select the training documents of a corpus, or the held-out ones, by its split.

    documents.npy   (N,) uint32: numbers of the chosen documents in their token shard
    skipped.jsonl   one line for every readable image that is left out of training, with its reason

One artifact a shard, and a collection of them. No token is read: the keys beside the tokens decide,
and thumbnails where whole shards are held out, so another split costs seconds. Every record of a
shard is chosen or counted under a reason: the counts must add up.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from imagegram.corpora.viewed import viewed
from imagegram.errors import CorpusError, StageError
from imagegram.executors.threads import chunks, map_in_order
from imagegram.images.views import ORIGINAL, VIEWS
from imagegram.protocols import ImageShard, Tokenizer
from imagegram.stages.prefix import Prefix
from imagegram.stages.skips import SKIPPED, nothing_left
from imagegram.stages.split import SplitHandle, SplitShard
from imagegram.stages.token_costs import set_cost, shard_counts
from imagegram.stages.token_shard import DOCUMENTS, SELECTION_SHARD, TokenShard
from imagegram.stages.tokenize import Tokenize
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import NPY_HEADER, Cost
from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT
from imagegram.store.parts import write_parts
from imagegram.store.stage import Context, Makes, Surroundings

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

#: uint32 numbers of documents.
_NUMBER_BYTES: Final = 4
#: Of one core for a document, with some hundred held-out images to compare with.
_SECONDS: Final = 1e-5


@dataclass(frozen=True, kw_only=True)
class SelectShard:
    """The stage that chooses the documents of one token shard.

    Attributes:
        tokens: all documents of the shard.
        images: the part of the shard that is wanted.
        judged: of views, the documents of the images as they are, one for one, whose keys and
            sketches decide; None: those of ``tokens``.
    """

    kind: ClassVar[str] = SELECTION_SHARD
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1

    tokens: TokenShard
    images: SplitShard
    judged: TokenShard | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the two files.

        Raises:
            StageError: when the counts do not add up.
        """
        if self.judged is not None and self.judged.num_documents != self.tokens.num_documents:
            raise StageError(
                f"{self.tokens.artifact.path}: {self.tokens.num_documents} views of "
                f"{self.judged.num_documents} images; this is a defect of imagegram, please report "
                "it"
            )
        reasons = list(self._reasons(context))
        chosen = np.flatnonzero([reason is None for reason in reasons])
        np.save(out / DOCUMENTS, chosen.astype(np.uint32))
        with (out / SKIPPED).open("w") as lines:
            for document, reason in enumerate(reasons if self.images.part == "train" else ()):
                if reason is not None:
                    key = self.tokens.metadata(document)["key"]
                    lines.write(json.dumps({"key": key, "reason": reason}) + "\n")
        facts = self.tokens.artifact.facts
        left_out = Counter(reason for reason in reasons if reason is not None)
        skipped = Counter(facts["skipped"]) + left_out
        if facts["num_records"] != len(chosen) + skipped.total():
            raise StageError(
                f"{self.tokens.artifact.path}: {facts['num_records']} records, but {len(chosen)} "
                f"documents and {skipped.total()} skipped; this is a defect of imagegram, please "
                "report it"
            )
        return {
            "num_documents": len(chosen),
            "num_tokens": int(self.tokens.lengths[chosen].sum()),
            "num_records": facts["num_records"],
            "skipped": dict(sorted(skipped.items())),
        }

    def _reasons(self, context: Context) -> Iterator[str | None]:
        """Yield the reason why each document is left out; None: it is chosen."""
        part, judged = self.images.open(), self.judged or self.tokens
        keys = _keys(judged) if part.held_keys else [""] * judged.num_documents
        if part.near_held is None:
            yield from map(part.skip_key, keys)
            return

        def look(documents: list[int]) -> list[str | None]:
            return [
                part.skip_key(keys[document])
                or part.skip_sketch(np.asarray(judged.sketches[document]))
                for document in documents
            ]

        everyone = chunks(range(judged.num_documents), size=256)
        for some in map_in_order(look, everyone, workers=context.workers):
            yield from some

    def load(self, artifact: Artifact) -> TokenShard:
        """Return the handle of the chosen documents."""
        return TokenShard(artifact=self.tokens.artifact, selection=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee a pass over keys and thumbnails; no near-duplicate is expected."""
        if found := at.find(self):
            return shard_counts(self.load(found))
        every = self.tokens.num_documents
        chosen = min(self.images.expected_documents, every)
        facts = {
            "num_documents": chosen,
            "num_tokens": chosen * self.tokens.num_tokens // max(every, 1),
        }
        expected = self.load(at.expect(self, facts, [self.tokens.artifact]))
        return replace(
            shard_counts(expected),
            disk_bytes=NPY_HEADER + _NUMBER_BYTES * chosen,
            seconds=_SECONDS * every / at.workers,
            source="built in",
            threaded=True,
        )


def _keys(tokens: TokenShard) -> list[str]:
    with (tokens.artifact.path / "metadata.0").open("rb") as lines:
        return [json.loads(line)["key"] for line in lines]


@dataclass(frozen=True, kw_only=True)
class Select:
    """The stage that chooses the documents of one part of a corpus, shard by shard.

    Attributes:
        tokens: all documents of the corpus.
        images: the same part of every shard that has such documents.
        views: views of the images, in the order of their documents: all images, then all again.
    """

    kind: ClassVar[str] = "selection"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (SelectShard,)

    tokens: TokenSet
    images: tuple[SplitShard, ...]
    views: tuple[str, ...] = field(default=(ORIGINAL,), metadata=NOT_IDENTITY_AT_DEFAULT)

    @cached_property
    def parts(self) -> tuple[SelectShard, ...]:
        """One stage per shard and view; a token shard is found by what it was made from."""
        contents = [shard.identity() for shard in self.tokens.images]
        shards = dict(zip(contents, self.tokens.shards, strict=True))
        parts = []
        for view, images in itertools.product(self.views, self.images):
            tokens = shards[viewed(images.shard, view).identity()]
            judged = None if view == ORIGINAL else shards[images.shard.identity()]
            parts.append(SelectShard(tokens=tokens, images=images, judged=judged))
        return tuple(parts)

    @property
    def _shards(self) -> tuple[ImageShard, ...]:
        """Shards of images in the order of :attr:`parts`."""
        pairs = itertools.product(self.views, self.images)
        return tuple(viewed(images.shard, view) for view, images in pairs)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Choose the documents of all shards; write ``shards.json``.

        Raises:
            CorpusError: when no training image is left.
        """
        shards = [context.make(part) for part in self.parts]
        selections = [shard.selection for shard in shards if shard.selection is not None]
        write_parts(out, kind=SelectShard.kind, parts=selections)
        facts = [selection.facts for selection in selections]
        once = facts[: len(self.images)]  # a record counts once, however many views it has
        totals = {
            "num_documents": sum(int(fact["num_documents"]) for fact in facts),
            "num_tokens": sum(int(fact["num_tokens"]) for fact in facts),
            "num_records": sum(int(fact["num_records"]) for fact in once),
        }
        skipped = sum((Counter(fact["skipped"]) for fact in once), Counter[str]())
        is_train = any(images.part == "train" for images in self.images)
        if is_train and not totals["num_documents"]:
            why = nothing_left(skipped, self.images[0].shard.path)
            noun = self.images[0].split.corpus.modality.noun
            raise CorpusError(
                f"no training {noun} is left of {totals['num_records']} records {why}"
            )
        same = ("document_length", "vocab_size", "tokenizer")
        return {
            **totals,
            **{name: self.tokens.artifact.facts[name] for name in same},
            "skipped": dict(sorted(skipped.items())),
            "num_shards": len(shards),
            **({} if len(self.views) == 1 else {"num_views": len(self.views)}),
        }

    def load(self, artifact: Artifact) -> TokenSet:
        """Return the handle of the chosen documents."""
        return TokenSet(artifact=artifact, images=self._shards)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee shards that are made one after the other."""
        names = ("document_length", "vocab_size")
        facts = {name: self.tokens.artifact.facts[name] for name in names}
        if len(self.views) > 1:
            facts["num_views"] = len(self.views)
        return set_cost(self, self.parts, at, images=self._shards, at_once=1, **facts)


def tokenize(run: Makes, split: SplitHandle, tokenizer: Tokenizer) -> tuple[TokenSet, TokenSet]:
    """Tokenize a corpus; return its training documents and its held-out documents.

    Views of training images are documents of their own; held-out images are taken as they are.
    """
    corpus = split.corpus
    views = VIEWS[corpus.views]
    others = [view for view in views if view != ORIGINAL]
    pairs = itertools.product(others, corpus.shards)
    tokens = tokenize_shards(
        run,
        "tokenize",
        shards=(
            *corpus.shards,
            *(viewed(shard, view) for view, shard in pairs),
            *corpus.holdout_shards,
        ),
        tokenizer=tokenizer,
        max_failed_fraction=corpus.max_failed_fraction,
    )
    train = run("select", Select(tokens=tokens, images=split.train, views=views))
    holdout = run("select_holdout", Select(tokens=tokens, images=split.holdout))
    known: dict[str, Any] = {
        "window": tokens.window,
        "tokenizer": tokenizer,
        "modality": corpus.modality,
        "near_duplicate_limit": corpus.near_duplicate_limit,
    }
    return replace(train, **known), replace(holdout, **known)


def tokenize_shards(
    run: Makes,
    name: str,
    *,
    shards: tuple[ImageShard, ...],
    tokenizer: Tokenizer,
    max_failed_fraction: float,
) -> TokenSet:
    """Tokenize shards; return all documents, cut to the length that the tokenizer asks for."""
    tokens: TokenSet = run(
        name,
        Tokenize(
            shards=shards, tokenizer=tokenizer.encoder, max_failed_fraction=max_failed_fraction
        ),
    )
    length = tokenizer.spec.document_length
    if length is not None and length != tokens.document_length:
        tokens = run(f"{name}_prefix", Prefix(tokens=tokens, length=length))
    return replace(tokens, window=tokenizer.spec.length)
