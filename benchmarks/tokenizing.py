"""Tokenizing beside the plain Pillow tokenizer, in one run, on any corpus.

    python -m benchmarks.tokenizing
    python -m benchmarks.tokenizing --images 500 corpus=tiny_imagenet_20 paths.data=DATA

The peer is the definition as one would write it with Pillow and numpy: decode, five times resize
the picture, and the reconstruction, subtract, clip. Both begin with the bytes of a file and end
with its tokens, on one core; they must be equal. Where ``paths.data`` holds ``photos256`` (tars of
photographs of 256 x 256 pixels), these are measured too.
"""

from __future__ import annotations

import io
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from hydra import compose, initialize_config_dir
from PIL import Image

from benchmarks.timing import Flags, Row, compare, main, peak_memory, rate
from imagegram import schema
from imagegram.corpora.patterns import expand
from imagegram.corpora.tar import TarShard
from imagegram.executors.context import RunContext
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.progress import SilentProgress
from imagegram.experiment import build
from imagegram.images.decode import quiet, read_picture, thumbnail
from imagegram.protocols import Corpus, ImageShard
from imagegram.records import Images, Tokens
from imagegram.stages.select import tokenize
from imagegram.stages.split import Split
from imagegram.store.artifacts import ArtifactStore
from imagegram.tokenizers.pyramid import PyramidTokenizer, encode_reference
from imagegram.tokenizers.residuals import ZERO_RESIDUAL

_IMAGES: Final = 200
_WORKERS: Final = 2
_SHARDS: Final = (1, 5, 20)
_SIZES: Final = (4, 8, 16, 32, 64, 128)
_LEVELS: Final = {
    "pyramid2": _SIZES[1:3],
    "pyramid3": _SIZES[1:4],
    "pyramid4": _SIZES[1:5],
    "pyramid5": _SIZES[1:],
    "pyramid6": _SIZES,
}


def tokens_of(tokenizer: PyramidTokenizer, image: Images) -> Tokens:
    """The tokens of one image."""
    (tokens_T,) = tokenizer.encode([tokenizer.prepare(image)]).documents
    return tokens_T


def plain_encode(data: bytes, sizes: tuple[int, ...]) -> Tokens:
    """The peer: a file to its tokens by Pillow and numpy."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return encode_reference(np.asarray(picture), PyramidTokenizer(sizes=sizes))[0]


def plain_decode(tokens_T: Tokens, sizes: tuple[int, ...]) -> Images:
    """The peer: tokens to pixels by Pillow and numpy."""
    recon, done = np.zeros((0, 0, 3), np.uint8), 0
    for size in sizes:
        n = size * size * 3
        level = tokens_T[done : done + n].reshape(size, size, 3).astype(np.int16)
        if done:
            larger = Image.fromarray(recon).resize((size, size), Image.Resampling.BILINEAR)
            level = np.clip(np.asarray(larger).astype(np.int16) + level - ZERO_RESIDUAL, 0, 255)
        recon = level.astype(np.uint8)
        done += n
    return recon


@dataclass(frozen=True, kw_only=True)
class Files:
    """Encoded pictures to measure on.

    Attributes:
        name: what the results call them.
        data: the bytes of each.
    """

    name: str
    data: tuple[bytes, ...]

    @classmethod
    def of(cls, name: str, shards: Sequence[ImageShard], count: int) -> Files:
        """The first ``count`` pictures."""
        records = itertools.chain.from_iterable(shards)
        data = itertools.islice((r.data for r in records if r.failure is None), count)
        return cls(name=name, data=tuple(data))


def encoding(
    files: Files, tokenizer: PyramidTokenizer, repeats: int, *, table: str, tokens: bool = False
) -> Row:
    """From the bytes of files to their tokens, ours beside the peer."""

    def ours() -> list[Tokens]:
        with quiet():
            return [tokens_of(tokenizer, read_picture(d)) for d in files.data]

    def theirs() -> list[Tokens]:
        return [plain_encode(data, tokenizer.sizes) for data in files.data]

    assert all(np.array_equal(a, b) for a, b in zip(ours(), theirs(), strict=True))
    turns = compare(ours, theirs, repeats=repeats)
    work, unit = len(files.data), "images/s"
    if tokens:
        work, unit = work * tokenizer.spec.length, "tokens/s"
    return Row(
        what=f"{files.name}, {tokenizer.name}",
        ours=rate(work, turns.seconds, unit),
        peer=rate(work, turns.peer_seconds, unit),
        ratio=turns.ratio(),
        notes="identical tokens",
        table=table,
    )


def decoding(files: Files, tokenizer: PyramidTokenizer, repeats: int, *, table: str) -> Row:
    """From tokens to pixels, a batch at a time, ours beside the peer."""
    with quiet():
        encoded = [tokens_of(tokenizer, read_picture(data)) for data in files.data]
    tokens_BT = np.stack(encoded)

    def theirs() -> list[Images]:
        return [plain_decode(tokens_T, tokenizer.sizes) for tokens_T in tokens_BT]

    assert np.array_equal(tokenizer.decode(tokens_BT), np.stack(theirs()))
    turns = compare(lambda: tokenizer.decode(tokens_BT), theirs, repeats=repeats)
    return Row(
        what=f"{files.name}, {tokenizer.name}, tokens to pixels",
        ours=rate(len(tokens_BT), turns.seconds, "images/s"),
        peer=rate(len(tokens_BT), turns.peer_seconds, "images/s"),
        ratio=turns.ratio(),
        notes="identical pixels",
        table=table,
    )


def whole_stages(corpus: Corpus, tokenizer: PyramidTokenizer) -> Iterator[Row]:
    """Split, tokenize and select a corpus and its first shards from nothing; time and memory."""
    available = len(corpus.shards)  # the demo writes its own on first use
    black = np.zeros((64, 64, 3), np.uint8)
    thumbnail(black)
    tokens_of(tokenizer, black)  # kernels are loaded, so that what grows from now on are images
    at_first = peak_memory()
    counts = [n for n in _SHARDS if n < available] or [1]
    if hasattr(corpus, "num_shards") and available > 1:
        sizes = [replace(corpus, num_shards=n) for n in counts] + [corpus]  # type: ignore[type-var]
    else:
        sizes = [corpus]
    for size, workers in itertools.product(sizes, (1, _WORKERS)):
        with tempfile.TemporaryDirectory() as folder:
            context = RunContext(
                store=ArtifactStore(root=Path(folder)),
                executor=ProcessExecutor(workers=workers),
                progress=SilentProgress(),
            )
            started = time.perf_counter()
            split = context.make(Split(corpus=size))
            tokens, _ = tokenize(lambda _, stage, at=context: at.make(stage), split, tokenizer)
            duration = time.perf_counter() - started
        grown = (peak_memory() - at_first) / 2**20
        notes = f"{grown:,.0f} MiB more than before the first image" if workers == 1 else ""
        shards = f"{len(size.shards)} shard{'s' if len(size.shards) > 1 else ''}"
        yield Row(
            what=f"{shards}, {tokens.num_documents:,} images, workers: {workers}",
            ours=f"{duration:.2f} s, {tokens.num_documents / duration:,.0f} images/s",
            notes=notes,
            table=f"split, tokenize and select from nothing, files written: {corpus.name}, "
            f"{tokenizer.name}",
        )


def rows(flags: Flags) -> Iterator[Row]:
    """The whole stage, one core, decoding, levels."""
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        cfg = compose("config", list(flags.overrides))
    exp = build(cfg)
    yield from whole_stages(exp.corpus, exp.tokenizer)  # type: ignore[arg-type]
    count = flags.images or _IMAGES
    sets = [Files.of(exp.corpus.name, exp.corpus.shards, count)]
    photos = expand(str(Path(cfg.paths.data) / "photos256"))
    if photos and photos[0].is_file():
        shards = [TarShard(name=path.stem, path=path) for path in photos]
        sets.append(Files.of("photos256", shards, count))
    one_core = "one core, a file's bytes to its tokens"
    for files, name in itertools.product(sets, ("pyramid3", "pyramid5")):
        tokenizer = PyramidTokenizer(name=name, sizes=_LEVELS[name])
        yield encoding(files, tokenizer, flags.repeats, table=one_core)
        yield decoding(files, tokenizer, flags.repeats, table=one_core)
    for name, levels in _LEVELS.items():
        tokenizer = PyramidTokenizer(name=name, sizes=levels)
        table = "growth with levels, one core"
        yield encoding(sets[-1], tokenizer, flags.repeats, table=table, tokens=True)


if __name__ == "__main__":
    sys.exit(main(rows, __doc__ or ""))
