"""Building an index beside the builder that sorts bytes, on any corpus; and the orders beside it.

    python -m benchmarks.indexing
    python -m benchmarks.indexing --repeats 3 corpus=tiny_imagenet_20 paths.data=DATA

The peer sorts the bytes of the stream with the same libdivsufsort and keeps the even positions,
block by block. Both write the same table from the same file, on one thread. Memory is the most that
a process of its own held for it, less what the same process holds with everything imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from pydivsufsort import divsufsort

from benchmarks.timing import Flags, Row, compare, main, peak_memory, rate, seconds
from imagegram import schema
from imagegram.executors.context import RunContext
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.progress import SilentProgress
from imagegram.experiment import build
from imagegram.indexes.build.orders import build_order
from imagegram.indexes.build.sort import build_table
from imagegram.indexes.format import IndexShard, pointer_width
from imagegram.stages.tokenize import Tokenize
from imagegram.store.artifacts import ArtifactStore

_BLOCK = 1 << 18
_TABLE = "building a table, one thread"
_ORDERS = "ordering the suffixes of a table"


def byte_sorting_builder(tokens_path: Path, table_path: Path) -> None:
    """The peer: suffixes of all bytes, of which those at even positions are wanted."""
    stream = np.fromfile(tokens_path, np.uint8)
    width = pointer_width(stream.size // 2)
    suffixes = divsufsort(stream)
    with table_path.open("wb") as table:
        for start in range(0, suffixes.size, _BLOCK):
            block = suffixes[start : start + _BLOCK]
            pointers = block[block % 2 == 0].astype("<i8").view(np.uint8).reshape(-1, 8)
            table.write(np.ascontiguousarray(pointers[:, :width]).data)


BUILDERS: dict[str, Callable[[Path, Path], object]] = {
    "ours": build_table,
    "peer": byte_sorting_builder,
}


def child(name: str, folder: str) -> None:
    """Build a table of one token, then that of ``folder``; print the bytes at each peak."""
    small = Path(folder) / "small"
    small.write_bytes(b"\xff\xff")
    BUILDERS[name](small, Path(folder) / "small.table")
    before = peak_memory()
    BUILDERS[name](Path(folder) / "tokenized.0", Path(folder) / "table.0")
    print(peak_memory() - before)


def memory(name: str, folder: Path) -> int:
    """Bytes that one build takes at its peak, in a process of its own."""
    call = f"from benchmarks.indexing import child; child({name!r}, {str(folder)!r})"
    command = [sys.executable, "-c", call]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return int(output.split()[-1])


def rows(flags: Flags) -> Iterator[Row]:
    """The largest index shard of the corpus: its table, memory, and both orders."""
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        cfg = compose("config", list(flags.overrides))
    exp = build(cfg)
    context = RunContext(
        store=ArtifactStore(root=Path(cfg.paths.outputs) / "artifacts"),
        executor=ProcessExecutor(workers=2),
        progress=SilentProgress(),
    )
    tokens = context.make(Tokenize(shards=exp.corpus.shards, tokenizer=exp.tokenizer))
    part = max(exp.index.build(tokens).parts(), key=lambda part: part.num_tokens)
    shard = context.make(part)
    what = f"{exp.corpus.name}, {exp.tokenizer.name}, {shard.num_tokens:,} tokens"
    with tempfile.TemporaryDirectory(dir=shard.path.parent, prefix=".partial-bench-") as name:
        folder = Path(name)
        (folder / "tokenized.0").symlink_to((shard.path / "tokenized.0").resolve())
        yield from _tables(what, folder, shard, flags.repeats)
        yield from _orders(what, folder, shard)


def _tables(what: str, folder: Path, shard: IndexShard, repeats: int) -> Iterator[Row]:
    source, n = folder / "tokenized.0", shard.num_tokens
    made = {name: folder / f"{name}.table" for name in BUILDERS}
    turns = compare(
        partial(build_table, source, made["ours"]),
        partial(byte_sorting_builder, source, made["peer"]),
        repeats=repeats,
    )
    assert made["ours"].read_bytes() == made["peer"].read_bytes()
    yield Row(
        what=what,
        ours=rate(n, turns.seconds, "tokens/s"),
        peer=rate(n, turns.peer_seconds, "tokens/s"),
        ratio=turns.ratio(),
        notes="peer: libdivsufsort over the bytes; identical tables",
        table=_TABLE,
    )
    ours, peer = (memory(name, folder) / n for name in BUILDERS)
    yield Row(
        what=f"{what}: memory at its peak",
        ours=f"{ours:.2f} bytes/token",
        peer=f"{peer:.2f} bytes/token",
        ratio=(peer / ours,) * 3,
        notes="ratio: the peer's over ours",
        table=_TABLE,
    )


def _orders(what: str, folder: Path, shard: IndexShard) -> Iterator[Row]:
    for aligned in (False, True):
        for workers in (1, 2):
            out = folder / f"order-{aligned}-{workers}"
            out.mkdir()
            call = partial(build_order, shard, out, aligned=aligned, workers=workers)
            duration = min(seconds(call) for _ in range(2))
            size = sum(file.stat().st_size for file in out.iterdir()) / shard.num_tokens
            yield Row(
                what=f"{'aligned' if aligned else 'suffix'} order, {workers} threads; {what}",
                ours=rate(shard.num_tokens, duration, "tokens/s"),
                notes=f"{size:.2f} bytes/token on disk",
                table=_ORDERS,
            )


if __name__ == "__main__":
    sys.exit(main(rows, __doc__))
