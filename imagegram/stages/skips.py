"""Records that are no documents: skipped with a reason, counted, refused when they are many."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from imagegram.errors import CorpusError, Unreadable
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
    """Refuse a shard in which more images failed than its corpus allows *now*.

    Args:
        shard: shard of the images.
        folder: folder with the list of skips, for the keys of the first failures.
        allowed: share of its records that may fail.
        num_records: number of its records.
        skipped: number of skipped records by reason.

    Raises:
        CorpusError: with the reasons, the first keys, and what to type.
    """
    failures = {why: n for why, n in skipped.items() if why not in CHOSEN_SKIPS}
    num_failed = sum(failures.values())
    if num_failed > allowed * num_records:
        share = num_failed / num_records
        lines = map(json.loads, (folder / SKIPPED).read_text().splitlines())
        failed = (line["key"] for line in lines if line["reason"] in failures)
        keys = itertools.islice(failed, _SHOWN_KEYS)
        raise CorpusError(
            f"{shard.path}: {num_failed} of {num_records} images cannot be read "
            f"({', '.join(f'{why}: {n}' for why, n in failures.items())}), first "
            f"{', '.join(keys)}; at most {allowed:.1%} may fail. Mend the shard, or go on "
            f"without them: corpus.max_failed_fraction={min(share + 0.001, 1):.3f}"
        )
