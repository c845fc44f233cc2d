"""Small real files for tests: encoded pictures, tars of them, and a context to make stages in."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagegram.executors.context import RunContext
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.store.artifacts import ArtifactStore

Member = tuple[str, bytes]


def noise(seed: int, *, size: int = 20) -> NDArray[np.uint8]:
    """A picture like no other: blocks of random colours."""
    rng = np.random.default_rng(seed)
    return np.kron(
        rng.integers(0, 256, (5, 5, 3), dtype=np.uint8), np.ones((size // 5, size // 5, 1), "u1")
    )


def encode(pixels: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


def sample(key: str, seed: int, *, caption: str = "a caption") -> list[Member]:
    """The members of one WebDataset sample."""
    return [
        (f"{key}.png", encode(noise(seed))),
        (f"{key}.txt", caption.encode()),
        (f"{key}.json", json.dumps({"seed": seed}).encode()),
    ]


def write_tar(path: Path, members: Iterable[Member]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_samples(path: Path, seeds: Sequence[int]) -> Path:
    """A tar with one sample a seed, keyed by its number."""
    members = [m for number, seed in enumerate(seeds) for m in sample(f"{number:04d}", seed)]
    return write_tar(path, members)


def ids_of(tokenizer: Any, item: Any) -> NDArray[np.uint16]:
    """The ids that a tokenizer makes of one item."""
    (ids,) = tokenizer.encode([tokenizer.prepare(item)]).documents
    return ids


def context(root: Path) -> RunContext:
    store = ArtifactStore(root=root / "artifacts")
    return RunContext(store=store, executor=SerialExecutor(), progress=SilentProgress())
