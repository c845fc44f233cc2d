"""metrics.jsonl: the local record that every dashboard mirrors. One JSON object per line."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any


class JsonlLogger:
    """Appends one line an event and flushes it, so that a killed run keeps what it logged."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def log(self, event: str, **values: Any) -> None:
        """Append ``{"event": ..., "time": ..., **values}``."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"event": event, "time": now, **values}, allow_nan=False)
        with self._path.open("a") as stream:
            stream.write(line + "\n")
