"""``patch_copy_rate``: share of pixel tiles that were copied from training images.

This is the only pixel test that detects collages of several training images; the copying metric
measures exact copies of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.executors.tiles import row_tiles
from imagegram.intervals import ratio_over_images
from imagegram.layout import TokenLayout
from imagegram.metrics.features import undefined
from imagegram.metrics.nearest_tiles import TileDistances, search_tiles
from imagegram.metrics.thresholds import NO_CALIBRATION, allowed, never_flags, threshold_of
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Images, Measured, Measurement, ScoreInfo
from imagegram.stages.effort import Effort

#: Smallest side of a tile that is made from a level's cells: smaller ones look alike by chance.
_MIN_SIDE: Final = 4
#: Bytes of training images that are decoded at a time.
_BLOCK_BYTES: Final = 1 << 25


@dataclass(frozen=True, kw_only=True)
class PatchMetric:
    """Metric of the share of textured tiles that are training tiles, at 1 % false positives.

    ``patch_copy_rate``: tiles nearer to a training tile than 99 % of the textured tiles of held-out
    images are, of all sizes, by area. ``exact_patch_rate``: tiles that equal a training tile.
    Training tiles are those of the tokenizer's reconstructions, at the same place. Flat tiles, see
    ``metrics/nearest_tiles.py``, are not counted.

    Attributes:
        name: name of this metric in the configuration.
        tile_sizes: sides in pixels; None: of the cells of the tokenizer's levels, from 4 pixels to
            less than the image; of ordered tokens, which have no cells, an eighth and a quarter of
            the image.
        anywhere: training tiles at any place of the grid; takes as many times longer as there are
            places. The scores are then called ``patch_copy_rate_anywhere`` and so on.
    """

    VERSION: ClassVar[int] = 1
    EFFORT: ClassVar[Effort] = Effort(training_token=7.4e-8, pair_token=5e-12)
    NEEDS: ClassVar[frozenset[str]] = frozenset({"images"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="patch_copy_rate",
            title="copied tiles",
            words="Textured tiles nearer to a training tile at the same place than 99 % of "
            "held-out ones. Sees collages.",
            unit="% of tiles",
            better="lower",
            group="copying",
            short="patch_copy_gap",
            short_of="gap",
            per_image=("patch_copy_share",),
        ),
        ScoreInfo(
            name="patch_copy_rate_{size:d}px",
            title="copied tiles of {size} pixels",
            words="The same, tiles of {size} pixels only.",
            unit="% of tiles",
            better="lower",
            group="copying",
        ),
        ScoreInfo(
            name="exact_patch_rate",
            title="tiles copied exactly",
            words="Textured tiles of pixels that equal a training tile. Sees collages.",
            unit="% of tiles",
            better="lower",
            group="copying",
        ),
        ScoreInfo(
            name="patch_copy_rate_anywhere",
            title="copied tiles at any place",
            words="Textured tiles nearer to a training tile at any place than 99 % of held-out "
            "ones. Sees collages.",
            unit="% of tiles",
            better="lower",
            group="copying",
            per_image=("patch_copy_share",),
        ),
        ScoreInfo(
            name="patch_copy_rate_anywhere_{size:d}px",
            title="copied tiles of {size} pixels at any place",
            words="The same, tiles of {size} pixels only.",
            unit="% of tiles",
            better="lower",
            group="copying",
        ),
        ScoreInfo(
            name="exact_patch_rate_anywhere",
            title="tiles copied exactly at any place",
            words="Textured tiles of pixels that equal a training tile at any place. Sees "
            "collages.",
            unit="% of tiles",
            better="lower",
            group="copying",
        ),
    )

    name: str = "patches"
    tile_sizes: tuple[int, ...] | None = None
    anywhere: bool = False

    def __post_init__(self) -> None:
        """Accept a YAML list and refuse tiles that are always flat."""
        if self.tile_sizes is None:
            return
        sizes = tuple(self.tile_sizes)
        object.__setattr__(self, "tile_sizes", sizes)
        if not sizes or min(sizes) < 2 or len(set(sizes)) < len(sizes):
            raise ConfigError(
                f"metric.{self.name}.tile_sizes is {list(sizes)}; use different sides of 2 pixels "
                f"or more, for example metric.{self.name}.tile_sizes=[4,8], or null for the cells "
                "of the tokenizer's levels"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against all training images, B N H W C multiplications a size.

        On two cores 1,000 images of 32 pixels beside 20,000 training images take five seconds a
        size, and held-out images for the threshold as long again.
        """
        side = int(generated.images.shape[1])
        sizes = self.tiles_of(reference.layout, side)
        suffix = "_anywhere" if self.anywhere else ""
        rates = [f"patch_copy_rate{suffix}"]
        if len(sizes) > 1:
            rates += [f"{rates[0]}_{size}px" for size in sizes]
        calibration = reference.calibration
        recipe = {
            "N": str(generated.num_images),
            "N_ref": str(reference.documents.num_documents),
            "N_held_out": str(0 if calibration is None else calibration.num_images),
            "tiles": ", ".join(f"{size} px" for size in sizes) or "none",
            "place": "any of the grid" if self.anywhere else "the same",
            "codec": "tokenizer on both sides",
        }
        if not sizes:
            reason = undefined(
                f"no tile is between {_MIN_SIDE} pixels and the image, {side} pixels"
            )
            scalars = dict.fromkeys([*rates, f"exact_patch_rate{suffix}"], reason)
            return Measurement(scalars=scalars, curves={}, recipe=recipe)
        sets = [generated.images] + ([] if calibration is None else [calibration.images])
        counts = []
        for size in sizes:
            ours, *others = self._search(sets, size, reference)
            counts.append(_Counts.of(size, ours, others[0] if others else None))
            recipe[f"threshold_{size}px"] = counts[-1].recipe
        groups = [counts, *([count] for count in counts)][: len(rates)]
        seed = reference.seed
        scalars = {
            rate: _share(group, "copied", seed) for rate, group in zip(rates, groups, strict=True)
        }
        scalars[f"exact_patch_rate{suffix}"] = _share(counts, "exact", seed)
        return Measurement(scalars=scalars, curves=_curves(counts), recipe=recipe)

    def tiles_of(self, layout: TokenLayout, side: int) -> list[int]:
        """Return the sides of tiles in pixels, ascending."""
        if self.tile_sizes is not None:
            return [size for size in sorted(self.tile_sizes) if size <= side]
        rows = layout.heights if layout.is_picture else (8, 4)
        cells = {side // height for height in rows if side % height == 0}
        return sorted(cell for cell in cells if _MIN_SIDE <= cell < side)

    def _search(self, sets: list[Images], size: int, reference: Reference) -> list[TileDistances]:
        documents = reference.documents
        at_once = max(1, _BLOCK_BYTES // sets[0][0].nbytes)

        def blocks() -> Iterator[Images]:
            for rows in row_tiles(documents.num_documents, at_once):
                ids = np.arange(rows.start, rows.stop)
                yield reference.decode(documents.gather(ids), documents=ids)

        task = reference.progress.start(f"{size} px tiles", documents.num_documents, "images")
        found = search_tiles(
            sets,
            blocks(),
            tile=size,
            anywhere=self.anywhere,
            workers=reference.workers,
            advance=lambda images: reference.progress.advance(task, images),
        )
        reference.progress.finish(task)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counts:
    """Numbers of pixels of every image in textured tiles of one size.

    Attributes:
        textured: (B,) pixels in textured tiles.
        exact: (B,) pixels in tiles that equal a training tile.
        copied: (B,) pixels in tiles below the threshold; None without a threshold.
        recipe: the threshold, in words.
        reason: why there is no threshold.
    """

    textured: NDArray[np.float64]
    exact: NDArray[np.float64]
    copied: NDArray[np.float64] | None
    recipe: str
    reason: str

    @classmethod
    def of(cls, size: int, ours: TileDistances, held_out: TileDistances | None) -> _Counts:
        """Set the threshold on the held-out tiles and count."""

        def area(tiles: NDArray[np.bool_]) -> NDArray[np.float64]:
            return np.asarray(tiles.sum(axis=1) * float(size**2))

        squares = np.empty(0) if held_out is None else held_out.squares[held_out.textured]
        threshold, reason, recipe = 0.0, NO_CALIBRATION, "none"
        if len(squares):
            threshold = threshold_of(squares)
            reason = never_flags(threshold) or ""
            recipe = (
                f"below an RMS of {np.sqrt(threshold / (3 * size**2)):.2f}, as at most "
                f"{allowed(len(squares))} of {len(squares)} held-out tiles are"
            )
        return cls(
            textured=area(ours.textured),
            exact=area(ours.squares == 0),
            copied=None if reason else area(ours.squares < threshold),
            recipe=recipe,
            reason=reason,
        )


def _share(groups: list[_Counts], of_what: str, seed: int) -> Measured:
    """Return the share of textured tiles of all groups, by area, with its interval."""
    parts = [getattr(counts, of_what) for counts in groups]
    reasons = [counts.reason for counts, part in zip(groups, parts, strict=True) if part is None]
    if reasons:
        return undefined(reasons[0])
    textured_B = np.sum([counts.textured for counts in groups], axis=0)
    if not textured_B.any():
        return undefined("no tile has texture")
    return ratio_over_images(np.sum(parts, axis=0), textured_B, seed=seed)


def _curves(groups: list[_Counts]) -> dict[str, NDArray[np.float64]]:
    """Return the (B,) share of each image, NaN without textured tiles; empty without threshold."""
    parts = [counts.copied for counts in groups if counts.copied is not None]
    if len(parts) < len(groups):
        return {}
    textured_B = np.sum([counts.textured for counts in groups], axis=0)
    shares = np.full(len(textured_B), np.nan)
    np.divide(np.sum(parts, axis=0), textured_B, out=shares, where=textured_B > 0)
    return {"patch_copy_share": shares}
