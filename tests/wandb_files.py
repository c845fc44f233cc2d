"""Reads offline W&B runs back, record by record: what a dashboard would be told."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32768


def records(path: Path) -> Iterator[Any]:
    """Records of a ``.wandb`` file: LevelDB log framing around protobuf messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = 7, b""
    while position + 7 <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def read_live_run(run_folder: Path) -> dict[str, Any]:
    """What the logger of a run wrote into its run folder.

    Returns:
        ``id``, ``name``, ``group``, ``tags``, ``sweep``; ``config``, ``history`` and ``summary``
        by key; ``globs``, the patterns of define_metric; ``media``, (key, caption) of each picture
        in order; ``files``, their names on disk.
    """
    # a folder without such a file is that of a process that did not start
    (path,) = run_folder.glob("wandb/offline-run-*/*.wandb")
    folder = path.parent
    run: dict[str, Any] = {"config": {}, "history": {}, "summary": {}, "globs": [], "media": []}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            header = record.run
            run |= {"id": header.run_id, "name": header.display_name, "group": header.run_group}
            run |= {"tags": list(header.tags), "sweep": header.sweep_id}
            _update(run["config"], header.config.update)
        elif kind == "config":
            _update(run["config"], record.config.update)
        elif kind == "history":
            _update(run["history"], record.history.item)
        elif kind == "summary":
            _update(run["summary"], record.summary.update)
        elif kind == "metric":
            run["globs"].append(record.metric.glob_name)
    for key, value in run["history"].items():
        if isinstance(value, dict) and value.get("_type") == "images/separated":
            run["media"] += [(key, caption) for caption in value["captions"]]
            for name in value["filenames"]:
                assert (folder / "files" / name).is_file()
    run["files"] = sorted(file.name for file in folder.glob("files/media/images/**/*.png"))
    return run


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        *outer, last = item.nested_key or [item.key]
        node = target
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = json.loads(item.value_json)
