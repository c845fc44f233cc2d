"""N-gram generation on the fast-gram package: the reference's loop, fast-gram's counts.

fast-gram counts separators as next tokens; they are taken out, and where too few candidates are
left the suffix is shortened. It knows neither positions nor documents of a context, so only
``matching=free`` with counted places is possible. It is here to be compared with, not to be fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imagegram.conditions.labels import ANY
from imagegram.generators.ngram.engine import Job, Request, no_ends
from imagegram.generators.ngram.reference import (
    Candidates,
    Place,
    ReferenceEngine,
    StreamCorpus,
    trace_rows,
)
from imagegram.indexes.base import Index
from imagegram.indexes.open import make_engine
from imagegram.records import EOS_TOKEN_ID, Tokens, Trace


@dataclass(frozen=True, kw_only=True, eq=False)
class FastgramEngine(ReferenceEngine):
    """The definition, with counts by the package fast-gram."""

    @staticmethod
    def refuses(request: Request) -> str | None:
        """Refuse what needs positions or documents of a context."""
        sampler = request.sampler
        if (why_not := no_ends(request, "fastgram")) is not None:
            return why_not
        if request.conditions:
            return (
                f"generator.engine=fastgram cannot do {request.conditions[0]}; use "
                "generator.engine=native, or leave that knob at its default"
            )
        if sampler.matching != "free" or sampler.count_documents:
            return (
                f"generator.engine=fastgram cannot do sampler.matching={sampler.matching} with "
                f"sampler.count_documents={sampler.count_documents}: it knows neither positions "
                "nor documents of a context; use generator.engine=native, or sampler.matching=free "
                "sampler.count_documents=false"
            )
        return None

    def rows(self, job: Job) -> tuple[Tokens, Trace]:
        """Write (B, T) tokens and their trace."""
        needed = min(job.sampler.min_count, self.corpus.num_documents)
        return trace_rows(FastgramLookup(index=self.index, corpus=self.corpus, needed=needed), job)

    @cached_property
    def index(self) -> Index:
        """Index of the shards, opened by the package."""
        return make_engine(self.files.shards, engine="fastgram")


@dataclass(frozen=True, kw_only=True)
class FastgramLookup:
    """Candidates by ``Index.next_token``.

    Attributes:
        index: index of the package.
        corpus: the same streams.
        needed: candidates that a context needs.
    """

    index: Index
    corpus: StreamCorpus
    needed: int

    def candidates(self, history: Sequence[int], limit: int, label: int = ANY) -> Candidates:
        """Find the candidates of the longest suffix that enough tokens of images follow."""
        while True:
            found = self.index.next_token(history, max_context=limit, min_count=self.needed)
            inside = found.tokens != EOS_TOKEN_ID
            tokens, counts = found.tokens[inside], found.counts[inside].astype(np.int64)
            if found.suffix_len == 0 or int(counts.sum()) >= self.needed:
                break
            limit = found.suffix_len - 1
        suffix = list(history[len(history) - found.suffix_len :])

        def choose(token: int, number: int) -> Place:
            at = self.index.occurrences([*suffix, token], limit=number + 1)[number]
            firsts = self.corpus.first_documents
            shard = int(np.searchsorted(firsts, at.document, side="right")) - 1
            separator = int(self.corpus.separators[shard][at.document - firsts[shard]])
            return Place(shard, separator + 1 + at.position + len(suffix))

        def contains(place: Place) -> bool:
            first, stream = place.at - len(suffix), self.corpus.streams[place.shard]
            return first >= 0 and stream[first : place.at].tolist() == suffix

        return Candidates(found.suffix_len, tokens, counts, choose, contains)
