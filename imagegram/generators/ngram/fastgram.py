"""N-gram generation on the fast-gram package: the reference's loop, fast-gram's counts.

fast-gram counts separators as next tokens; they are taken out, and where too few candidates are
left the suffix is shortened. It knows neither positions nor documents of a context, so only
``matching=free`` with counted places is possible. It is here to be compared with, not to be fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagegram.errors import UnsupportedError
from imagegram.generators.ngram.conditions import refuse_conditions
from imagegram.generators.ngram.reference import Candidates, Place, StreamCorpus
from imagegram.indexes import Index
from imagegram.indexes.labels import ANY, Labels
from imagegram.layout import TokenLayout
from imagegram.protocols import Sampler
from imagegram.records import EOS_TOKEN_ID


@dataclass(frozen=True, kw_only=True)
class FastgramLookup:
    """Candidates by ``Index.next_token``."""

    index: Index
    corpus: StreamCorpus
    sampler: Sampler
    layout: TokenLayout
    labels: Labels | None = None

    def __post_init__(self) -> None:
        refuse_conditions(self.sampler, "fastgram")
        if self.sampler.matching != "free" or self.sampler.count_documents:
            raise UnsupportedError(
                f"engine fastgram cannot do sampler.matching={self.sampler.matching} with "
                f"sampler.count_documents={self.sampler.count_documents}: it knows neither "
                "positions nor documents of a context. Use generator.engine=native, or "
                "sampler.matching=free sampler.count_documents=false"
            )

    def candidates(self, history: Sequence[int], limit: int, label: int = ANY) -> Candidates:
        """Candidates of the longest suffix that enough tokens of images follow."""
        needed = min(self.sampler.min_count, self.corpus.num_documents)
        while True:
            found = self.index.next_token(history, max_context=limit, min_count=needed)
            inside = found.tokens != EOS_TOKEN_ID
            tokens, counts = found.tokens[inside], found.counts[inside].astype(np.int64)
            if found.suffix_len == 0 or int(counts.sum()) >= needed:
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
