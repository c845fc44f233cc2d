"""The worst copies of a report on texts: every sample with its runs coloured by their source."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from imagegram.protocols import TextTokenizer
from imagegram.records import row_sizes
from imagegram.report.provenance import TracedSample
from imagegram.texts.highlight import Run, coded, highlighted


def text_card(
    one: TracedSample, text: str, tokens_T: NDArray[np.integer[Any]], tokenizer: TextTokenizer
) -> dict[str, Any]:
    """What the template shows of one traced sample.

    Args:
        one: where its tokens are from.
        text: the sample.
        tokens_T: its tokens.
        tokenizer: that decoded them.
    """
    size = int(row_sizes(np.asarray(tokens_T)[None])[0])
    ranks = {source.cluster: rank for rank, source in enumerate(one.sources)}
    offsets = tokenizer.offsets(tokens_T)
    runs = [
        Run(
            start=int(offsets[start]),
            end=int(offsets[end]),
            length=int(one.spans[start]),
            rank=ranks.get(int(one.clusters[start])),
            title=_title(one, start, ranks),
        )
        for start, end in phrases(one, size)
    ]
    written = one.clusters[:size]
    named = sum(source.share for source in one.sources)
    seen = float((written >= 0).mean()) if size else 0.0
    return {
        "size": size,
        "text": highlighted(text, runs, longest=len(tokens_T)),
        "passages": [
            source.passage.marked(rank=rank) if source.passage else Markup("")
            for rank, source in enumerate(one.sources)
        ],
        "keys": [coded(str(source.metadata["key"])) for source in one.sources],
        "rest": max(0.0, seen - named),
        "unseen": 1.0 - seen if size else 0.0,
    }


def phrases(one: TracedSample, size: int) -> list[tuple[int, int]]:
    """First token and end of every stretch that was taken from one place, among the first tokens.

    Args:
        one: a traced sample.
        size: tokens to look at; the others are padding.
    """
    if not size:
        return []
    documents = one.documents[:size].astype(np.int64)
    moved = one.positions[:size].astype(np.int64) - np.arange(size)
    breaks = np.flatnonzero((np.diff(documents) != 0) | (np.diff(moved) != 0)) + 1
    stretches = itertools.pairwise([0, *breaks.tolist(), size])
    return [(start, end) for start, end in stretches if documents[start] >= 0]


def _title(one: TracedSample, token: int, ranks: dict[int, int]) -> str:
    rank = ranks.get(int(one.clusters[token]))
    length, position = int(one.spans[token]), int(one.positions[token])
    name = f"training text {one.documents[token]}"
    if rank is not None:
        source = one.sources[rank]
        same = source.document == one.documents[token]
        name += f" {'' if same else 'near-duplicate of '}'{source.metadata['key']}'"
    return f"{name}, {length:,} token{'' if length == 1 else 's'} from token {position + 1:,}"
