"""Small Parquet files as the ``datasets`` library writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pictures import encode, noise

LABELS = ("apple pie", "baklava", "caprese")
IMAGE = {"_type": "Image"}


def images(seeds: Sequence[int]) -> list[dict[str, Any] | None]:
    return [{"bytes": encode(noise(seed)), "path": f"{seed}.png"} for seed in seeds]


def write(
    path: Path,
    columns: dict[str, Any],
    features: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A file of these columns; ``features`` are what the schema says of them."""
    table = pa.table(columns)
    if features is not None:
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def write_images(path: Path, seeds: Sequence[int], **options: Any) -> Path:
    """Images and their labels."""
    labels = [seed % len(LABELS) for seed in seeds]
    features = {"image": IMAGE, "label": {"names": [*LABELS], "_type": "ClassLabel"}}
    return write(path, {"image": images(seeds), "label": labels}, features, **options)
