"""The worst copies of a report on texts: every sample with its runs coloured by their source."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from imagegram.protocols import TextTokenizer
from imagegram.records import row_sizes
from imagegram.report.provenance import TracedSample
from imagegram.texts.highlight import Passage, Run, coded, highlighted

#: File of a run folder of texts: its worst copies, for pages of sweeps and for programs.
COPIES: Final = "copies.jsonl"


def copied_text(
    one: TracedSample, text: str, tokens_T: NDArray[np.integer[Any]], tokenizer: TextTokenizer
) -> dict[str, Any]:
    """What is known of one traced sample, as JSON: a line of ``copies.jsonl``.

    Args:
        one: where its tokens are from.
        text: the sample.
        tokens_T: its tokens.
        tokenizer: that decoded them.

    Returns:
        ``sample``, ``tokens`` (how many), ``longest`` (how many there could be), ``text``, ``runs``
        (each a :class:`Run`) and ``sources``, largest first: ``key``, ``document``, ``share`` and
        ``passage`` (a :class:`Passage`, or null).
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
    sources = [
        {
            "key": str(source.metadata["key"]),
            "document": int(source.document),
            "share": float(source.share),
            "passage": None if source.passage is None else asdict(source.passage),
        }
        for source in one.sources
    ]
    return {
        "sample": int(one.sample),
        "tokens": size,
        "longest": len(tokens_T),
        "text": text,
        "runs": [asdict(run) for run in runs],
        "sources": sources,
    }


def marked_text(record: Mapping[str, Any]) -> Markup:
    """The text of a :func:`copied_text` as HTML, its runs coloured by their source."""
    runs = [Run(**run) for run in record["runs"]]
    return highlighted(record["text"], runs, longest=record["longest"])


def marked_passages(record: Mapping[str, Any]) -> list[Markup]:
    """The passages of a :func:`copied_text` as HTML, empty where a source has none."""
    return [
        Passage(**source["passage"]).marked(rank=rank) if source["passage"] else Markup("")
        for rank, source in enumerate(record["sources"])
    ]


def text_card(one: TracedSample, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of one traced sample.

    Args:
        one: where its tokens are from.
        record: of :func:`copied_text`.
    """
    size = record["tokens"]
    seen = float((one.clusters[:size] >= 0).mean()) if size else 0.0
    return {
        "size": size,
        "text": marked_text(record),
        "passages": marked_passages(record),
        "keys": [coded(source["key"]) for source in record["sources"]],
        "rest": max(0.0, seen - sum(source["share"] for source in record["sources"])),
        "unseen": 1.0 - seen if size else 0.0,
    }


def write_copies(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write ``copies.jsonl``: the worst copies with their sources, a line each."""
    # Escapes, as in texts.jsonl: some characters end a line for some readers.
    lines = (json.dumps(record) + "\n" for record in records)
    (folder / COPIES).write_text("".join(lines), encoding="utf-8", newline="\n")


def read_copies(folder: Path) -> list[dict[str, Any]]:
    """Read ``copies.jsonl`` of a run folder; [] where there is none."""
    path = folder / COPIES
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


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
