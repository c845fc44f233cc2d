"""Records that are no documents: skipped with a reason, counted, refused when they are many."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from imagegram.corpora.mends import HIDDEN, mends
from imagegram.errors import UNKNOWN_LOSS, CorpusError, Unreadable
from imagegram.protocols import ImageShard, Modality
from imagegram.records import Item, Record, Sketches
from imagegram.stages.split import CHOSEN_SKIPS, PartFilter

#: File with one JSON line for each skipped record.
SKIPPED: Final = "skipped.jsonl"
_SHOWN_KEYS: Final = 5


def read_item(
    record: Record, modality: Modality, part: PartFilter | None = None
) -> tuple[Item, Sketches] | str:
    """Return the item of a record and its sketch, or the reason why it is skipped.

    Args:
        record: record of a shard.
        modality: kind of the item.
        part: part of the corpus that is read; None: all.
    """
    if record.failure is not None:
        return record.failure
    if part is not None and (reason := part.skip_key(record.key)) is not None:
        return reason
    try:
        item = modality.read(record.data)
    except Unreadable as refusal:
        return refusal.reason
    if record.view is not None:
        item = modality.view(item, record.view)
    sketch = modality.sketch(item)
    if part is not None and (reason := part.skip_sketch(sketch)) is not None:
        return reason
    return item, sketch


def skip_line(record: Record, reason: str) -> bytes:
    """Return the line of ``skipped.jsonl`` for a record."""
    line = {"key": record.key, "reason": reason, "member": record.locator.member}
    return json.dumps(line).encode() + b"\n"


def refuse_failures(
    shard: ImageShard,
    folder: Path,
    *,
    allowed: float,
    num_records: int,
    skipped: Mapping[str, int],
) -> None:
    """Refuse a shard in which more records failed than its corpus allows *now*.

    A shard that ends early is refused however few failed, unless all may fail: how many records it
    lost is unknown.

    Args:
        shard: shard of the images.
        folder: folder with the list of skips, for the keys of the first failures.
        allowed: share of its records that may fail.
        num_records: number of its records.
        skipped: number of skipped records by reason.

    Raises:
        CorpusError: with the reasons, the first keys, and what to type.
    """
    failures = {why: n for why, n in skipped.items() if why not in (*CHOSEN_SKIPS, HIDDEN)}
    num_failed = sum(failures.values())
    is_cut = any(why in failures for why in UNKNOWN_LOSS) and allowed < 1
    # Rounded up: one bad photo of a dozen is skipped. A shard without any document is refused.
    most = num_records if allowed == 1 else min(math.ceil(allowed * num_records), num_records - 1)
    if num_failed <= most and not is_cut:
        return
    counts = ", ".join(f"{why}: {n}" for why, n in failures.items())
    text = f"{shard.path}: {num_failed} of {num_records} records cannot be read ({counts})"
    num_whole = num_records - sum(skipped.values())
    if is_cut:
        (place, *_) = _first_keys(folder, UNKNOWN_LOSS)
        text += f"; {num_whole} are whole, how many are lost behind {place} is unknown"
    else:
        keys = ", ".join(_first_keys(folder, tuple(failures)))
        text += f", first {keys}; at most {allowed:.1%} may fail"
    text += ". To mend it: " + "; ".join(mends(failures, shard.path) or ["replace these files"])
    if is_cut and num_whole:
        text += "; or go on with what is whole: corpus.max_failed_fraction=1"
    elif num_failed < num_records:
        share = min(num_failed / num_records + 0.001, 1)
        text += f"; or go on without them: corpus.max_failed_fraction={share:.3f}"
    raise CorpusError(text)


def nothing_left(skipped: Mapping[str, int], path: Path) -> str:
    """Return why no record of a corpus is left, and what to type.

    Args:
        skipped: number of skipped records by reason.
        path: of a shard.
    """
    counts = ", ".join(f"{why}: {n}" for why, n in sorted(skipped.items())) or "none"
    remedy = "give a larger corpus"
    if any(reason in CHOSEN_SKIPS for reason in skipped):
        remedy += ", or hold out less: corpus.holdout_fraction=0"
    elif skipped:  # not one could be read
        remedy = "to mend it: " + "; ".join(mends(skipped, path) or ["replace these files"])
    return f"(skipped: {counts}); {remedy}"


def _first_keys(folder: Path, reasons: Sequence[str]) -> list[str]:
    """Return the keys of the first records that were skipped for one of some reasons."""
    lines = map(json.loads, (folder / SKIPPED).read_text().splitlines())
    keys = (line["key"] for line in lines if line["reason"] in reasons)
    return list(itertools.islice(keys, _SHOWN_KEYS))
