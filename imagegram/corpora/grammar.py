"""GrammarCorpus: stories of a small language, drawn from a grammar whose entropy is known.

    python -m imagegram.run modality=text corpus=grammar tokenizer.vocab_size=320

What no generator can do better than is known here: ``bits_per_byte`` of a model beside the entropy
that is shown when a run begins, and whether a text belongs to the language at all
(``texts/grammar.py``). Document n depends on (seed, n) alone, so a larger corpus holds the smaller.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from imagegram.corpora.written import WrittenCorpus
from imagegram.errors import ConfigError
from imagegram.seeding import MAX_SEED, uniform_rows
from imagegram.store.fingerprint import NOT_IDENTITY, digest
from imagegram.store.snapshot import Snapshot
from imagegram.texts.grammar import SENTENCES, STORIES, Grammar

#: Random numbers that are drawn at a time; most stories take fewer.
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class GrammarCorpus(WrittenCorpus):
    """Stories of known entropy.

    Attributes:
        name: name in tables and reports.
        write_to: folder that the JSON lines are written below.
        num_documents: stories.
        seed: 0 ... 2**64 - 1; story n depends on (seed, n).
        documents_per_shard: documents of one shard.
        num_shards: only the first N shards; None: all.
        holdout_fraction: share of the documents to hold out, near-duplicates together.
        max_holdout: hold out about this many where that share would be more.
        near_duplicate_similarity: share of common phrases, 0 ... 1, from which on two documents
            are near-duplicates.
        max_failed_fraction: share of unreadable documents in a shard above which its tokenization
            fails.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    VERSION: ClassVar[int] = 1
    grammar: ClassVar[Grammar] = STORIES

    name: str = field(default="grammar", metadata=NOT_IDENTITY)
    num_documents: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.num_documents < 1:
            raise ConfigError(
                f"corpus.num_documents must be at least 1, got {self.num_documents}; type "
                "corpus.num_documents=NUMBER"
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(
                f"corpus.seed must lie in 0 ... 2**64 - 1, got {self.seed}; type corpus.seed=0"
            )
        super().__post_init__()

    @property
    def folder(self) -> Path:
        """The folder of these stories."""
        drawn = [self.VERSION, self.grammar.rules, self.grammar.start, self.seed]
        size = [self.num_documents, self.documents_per_shard]
        return Path(self.write_to) / f"grammar-{digest([*drawn, *size])}"

    def documents(self) -> Iterator[tuple[str, str]]:
        """Yield key and text of every story."""
        return ((f"story {n}", self.document(n)) for n in range(self.num_documents))

    def document(self, number: int) -> str:
        """Draw one story.

        >>> print(GrammarCorpus().document(2))
        Ben sees the boat that Ben wants a book. Clara sees a ball. The end.
        """
        return self.grammar.draw(_uniforms(self.seed, number).__next__)

    def entropy(self) -> dict[str, float]:
        """Return the entropy in closed form: bits of a document, of a sentence, and of a byte.

        A sentence is counted with the choice of who follows; bits of a byte are those of very many
        documents, ends of documents included.
        """
        bits = self.grammar.entropy()
        return {
            "bits_per_document": bits,
            "bits_per_sentence": bits / sum(map(self.grammar.expected, SENTENCES)),
            "bits_per_byte": bits / self.grammar.expected_bytes(),
        }

    def look(self) -> Snapshot:
        """Return the files that are there now, and the entropy; raises like ``shards``."""
        found = super().look()
        entropy = self.entropy()
        words = ", ".join(
            f"{entropy[name]:.3f} bits a {name.rpartition('_')[2]}" for name in entropy
        )
        counts: dict[str, Any] = {**found.counts, **entropy}
        return replace(found, found=f"{found.found}; entropy {words}", counts=counts)


def _uniforms(seed: int, document: int) -> Iterator[float]:
    """Yield the random numbers of one document."""
    rows = np.array([document], dtype=np.uint64)
    for step in itertools.count():
        first, _ = uniform_rows(seed=seed, samples_B=rows, num_tokens=_BLOCK, step=step)
        yield from first[0].tolist()
