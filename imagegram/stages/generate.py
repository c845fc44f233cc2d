"""Generate: sample images from a fitted generator. Replay: the same trace for real images.

Both write the same files, so that every metric measures generated, held-out and training images
through one code path: ``tokens.npy``, ``images.npy``, ``trace.npz`` (see ``docs/formats.md``).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram import pictures
from imagegram.generators.trace import check_counts
from imagegram.npz import map_arrays
from imagegram.protocols import Context, FittedGenerator, Sampler, Tokenizer
from imagegram.records import Images, Tokens, Trace
from imagegram.stages.tokens import TokenSet
from imagegram.store.artifacts import Artifact

_DECODE_BATCH: Final = 256
_GRID_IMAGES: Final = 64


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """Tokens of images with their trace; opens memory maps lazily (an ``ImageSet``)."""

    artifact: Artifact

    def identity(self) -> str:
        """kind/digest of the artifact."""
        return self.artifact.identity()

    @property
    def num_images(self) -> int:
        """B."""
        return int(self.tokens.shape[0])

    @cached_property
    def tokens(self) -> Tokens:
        """(B, T) uint16, memory-mapped."""
        return np.load(self.artifact.path / "tokens.npy", mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def images(self) -> Images:
        """(B, S, S, 3) uint8, memory-mapped."""
        return np.load(self.artifact.path / "images.npy", mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def trace(self) -> Trace:
        """What decided each token, arrays (B, T), memory-mapped."""
        return Trace(**map_arrays(self.artifact.path / "trace.npz"))


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Sample ``num_samples`` images; image i depends only on (seed, i).

    Attributes:
        model: a fitted generator.
        sampler: the knobs.
        tokenizer: decodes, and tells what each position means.
        num_samples: at least 1.
        seed: 0 ... 2**64 - 1.
        output_size: side of the decoded images in pixels; None: the tokenizer's finest level.
    """

    kind: ClassVar[str] = "samples"
    VERSION: ClassVar[int] = 1
    model: FittedGenerator
    sampler: Sampler
    tokenizer: Tokenizer
    num_samples: int
    seed: int
    output_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self.num_samples, self.seed)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Sample, decode, write."""
        tokens, trace = self.model.generate(
            sampler=self.sampler,
            layout=self.tokenizer.layout,
            samples=np.arange(self.num_samples, dtype=np.uint64),
            seed=self.seed,
            progress=context.progress,
            workers=context.workers,
        )
        return write_samples(out, tokens, trace, self.tokenizer, self.output_size, context)

    def load(self, artifact: Artifact) -> SampleSet:
        """Open the samples."""
        return SampleSet(artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Real documents with the trace of a sampler that was forced to write them.

    Of held-out documents this is the floor of every metric, of training documents its ceiling.

    Attributes:
        model, sampler, tokenizer, seed, output_size: those of :class:`Generate`.
        documents: the token set to draw from, without replacement.
        num_images: how many at most; fewer when the set is smaller.
    """

    kind: ClassVar[str] = "replay"
    VERSION: ClassVar[int] = 1
    model: FittedGenerator
    sampler: Sampler
    tokenizer: Tokenizer
    documents: TokenSet
    num_images: int
    seed: int
    output_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self.num_images, self.seed)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Choose documents, replay, decode, write."""
        chosen = select_documents(self.documents.num_documents, self.seed)[: self.num_images]
        tokens = self.documents.gather(chosen)
        trace = self.model.replay(
            tokens,
            sampler=self.sampler,
            layout=self.tokenizer.layout,
            seed=self.seed,
            progress=context.progress,
            workers=context.workers,
        )
        np.save(out / "documents.npy", chosen)
        return write_samples(out, tokens, trace, self.tokenizer, self.output_size, context)

    def load(self, artifact: Artifact) -> SampleSet:
        """Open the replayed documents."""
        return SampleSet(artifact=artifact)


def select_documents(num_documents: int, seed: int) -> NDArray[np.int64]:
    """All document ids in the order in which evaluation draws them: a seeded permutation.

    The ceiling takes the first ones, the reference of the feature distances the ones after them,
    so that the two stay disjoint while there are enough documents.
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    return generator.permutation(num_documents).astype(np.int64)


def write_samples(
    out: Path,
    tokens_BT: Tokens,
    trace: Trace,
    tokenizer: Tokenizer,
    output_size: int | None,
    context: Context,
) -> dict[str, Any]:
    """Write tokens, trace, decoded images and the grid; images are decoded batch by batch."""
    np.save(out / "tokens.npy", tokens_BT)
    np.savez(out / "trace.npz", **dataclasses.asdict(trace))
    count = len(tokens_BT)
    first = tokenizer.decode(tokens_BT[:1], output_size=output_size)
    shape = (count, *first.shape[1:])
    task = context.progress.start("decode", count, "images")
    shown: list[Images] = []
    with (out / "images.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        for start in range(0, count, _DECODE_BATCH):
            batch = tokenizer.decode(
                tokens_BT[start : start + _DECODE_BATCH], output_size=output_size
            )
            stream.write(np.ascontiguousarray(batch).tobytes())
            if start < _GRID_IMAGES:
                shown.append(batch[: _GRID_IMAGES - start])
            context.progress.advance(task, len(batch))
    context.progress.finish(task)
    pictures.save_png(out / "grid.png", pictures.grid(np.concatenate(shown)))
    return {
        "num_images": count,
        "num_tokens": int(tokens_BT.shape[1]),
        "image_size": int(shape[1]),
        "forced_steps": int((trace.num_distinct == 1).sum()),
        "mean_suffix_len": float(trace.suffix_len.mean()),
    }
