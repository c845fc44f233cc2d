"""QuiltingModel: pictures of training documents that are put together; tokens are read off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.executors.progress import SilentProgress
from imagegram.executors.threads import map_in_order
from imagegram.generators.quilting.guides import draw_guides
from imagegram.generators.quilting.quilt import Plan, grid, paint_quilts, pinwheel
from imagegram.generators.quilting.soften import soften_seams
from imagegram.generators.ready import ReadyModel
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Sampler, Tokenizer
from imagegram.records import Images, Tokens, Trace
from imagegram.samplers.kinds import require_kind
from imagegram.samplers.quilting import GRID, QuiltingSampler
from imagegram.seeding import check_counts
from imagegram.stages.decoding import encoded_pictures
from imagegram.store.manifest import Handle
from imagegram.store.stage import Progress

#: Files of the model, see ``build.py``.
PIXELS: Final = "pixels"
THUMBNAILS: Final = "thumbnails"
CLUSTERS: Final = "clusters"
#: Pictures that a thread paints at a time, at most: all training pictures are read once for them.
_TOGETHER: Final = 256
#: Name of the trace: the document whose patch shows the middle of a token's place.
PATCH_DOCUMENT: Final = "patch_document"


@dataclass(frozen=True, kw_only=True)
class QuiltingModel(Handle, ReadyModel):
    """Pictures of training documents, and thumbnails of them.

    Attributes:
        artifact: their files.
        tokenizer: reads tokens off the quilts.
        mirror: whether mirror images give patches too.
    """

    tokenizer: Tokenizer
    mirror: bool

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the opened files."""
        names = ("artifact", "tokenizer", "mirror")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def _pixels(self) -> Images:
        pixels: Images = np.load(self.artifact.path / f"{PIXELS}.npy", mmap_mode="r")
        return pixels

    @cached_property
    def _thumbnails(self) -> NDArray[np.uint32]:
        found: NDArray[np.uint32] = np.load(self.artifact.path / f"{THUMBNAILS}.npy", mmap_mode="r")
        return found

    @cached_property
    def _clusters(self) -> NDArray[np.int64]:
        clusters: NDArray[np.int64] = np.load(self.artifact.path / f"{CLUSTERS}.npy")
        return clusters

    def generate(
        self,
        samples: NDArray[np.uint64],
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        condition: Condition | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> tuple[Tokens, Trace]:
        """Paint quilts; return the (B, T) tokens of what they show.

        The trace is ``patch_document``, (B, T) int32: the training document whose patch shows the
        middle of the place of a token, of an ordered or unordered sequence that of the picture.

        Raises:
            ConfigError: without samples, or with fewer images than blocks.
        """
        check_counts(len(samples), seed)
        own = require_kind(sampler, QuiltingSampler, group="sampler", generator="quilting")
        plan = self.plan(own)
        together = min(_TOGETHER, -(-len(samples) // max(workers, 1)))
        starts = range(0, len(samples), together)
        progress = progress or SilentProgress()
        task = progress.start("quilt", len(samples) * layout.num_tokens, "tokens")
        tokens_BT = np.empty((len(samples), layout.num_tokens), dtype=np.uint16)
        owners_BT = np.empty((len(samples), layout.num_tokens), dtype=np.int32)
        made = map_in_order(
            lambda start: self.quilts(samples[start : start + together], own, plan, seed),
            starts,
            workers=workers,
        )
        for start, (images, owners) in zip(starts, made, strict=True):
            rows = slice(start, start + len(images))
            tokens_BT[rows] = encoded_pictures(self.tokenizer, images)
            owners_BT[rows] = at_places(owners, layout)
            progress.advance(task, len(images) * layout.num_tokens)
        progress.finish(task)
        return tokens_BT, {PATCH_DOCUMENT: owners_BT}

    def plan(self, sampler: QuiltingSampler) -> Plan:
        """Return where blocks and patches lie.

        Raises:
            ConfigError: with fewer images, near-duplicates counted once, than blocks.
        """
        size, side = self._thumbnails.shape[1], self._pixels.shape[1]
        cell = side // size
        arrange = grid if sampler.arrangement == GRID else pinwheel
        plan = Plan(
            side=side,
            cell=cell,
            blocks=arrange(size, sampler.block),
            overlap=round(sampler.overlap * cell),
            guide_weight=sampler.guide_weight,
            shift=round(sampler.shift * cell),
        )
        images = len(np.unique(self._clusters))
        if images < len(plan.blocks):
            raise ConfigError(
                f"a quilt of {len(plan.blocks)} blocks takes one patch of an image, and the "
                f"corpus has {images} that are no near-duplicates; give more, or larger blocks: "
                f"sampler.arrangement={GRID} sampler.block={size}"
            )
        return plan

    def quilts(
        self, samples: NDArray[np.uint64], sampler: QuiltingSampler, plan: Plan, seed: int
    ) -> tuple[Images, NDArray[np.int32]]:
        """Return (B, S, S, 3) uint8 quilts, and the (B, S, S) document of every pixel.

        Args:
            samples: (B,) sample ids; a quilt is a function of its own and of the seed.
            sampler: how guides are mixed, and what is left of seams.
            plan: where blocks and patches lie.
            seed: 0 ... 2**64 - 1.
        """
        shape = self._thumbnails.shape[1:]
        guides_BC = draw_guides(
            self._thumbnails.reshape(len(self._thumbnails), -1),
            self._clusters,
            samples,
            seed=seed,
            num_images=sampler.guide_images,
            contrast=sampler.guide_contrast,
            largest=255 * plan.cell**2,
        )
        images, owners = paint_quilts(
            self._pixels,
            self._clusters,
            guides_BC.reshape(-1, *shape),
            plan,
            mirror=self.mirror,
        )
        return soften_seams(images, owners, sampler.seam_step), owners


def at_places(owners: NDArray[np.int32], layout: TokenLayout) -> NDArray[np.int32]:
    """Return the (B, T) documents at the middle of the places of tokens.

    >>> owners = np.array([[[5, 5, 6, 6]] * 4], dtype=np.int32)
    >>> at_places(owners, TokenLayout.pyramid((1, 2)))[0, ::3].tolist()
    [6, 5, 6, 5, 6]
    """
    side = owners.shape[1]
    return np.concatenate([owners[:, y, x] for y, x in _middles(side, layout)], axis=1)


def _middles(
    side: int, layout: TokenLayout
) -> Iterator[tuple[NDArray[np.integer], NDArray[np.integer]]]:
    """Yield rows and columns of the pixels in the middle of all places, level by level."""
    for n, span in enumerate(layout.level_slices):
        height, width = layout.heights[n], layout.widths[n]
        if not layout.is_picture:  # no place of a picture
            height = width = 1
        row, column = np.minimum(layout.row[span], height - 1), layout.column[span]
        column = np.minimum(column, width - 1)
        yield (2 * row + 1) * side // (2 * height), (2 * column + 1) * side // (2 * width)
