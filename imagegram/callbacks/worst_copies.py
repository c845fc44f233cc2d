"""WorstCopies: logs the samples that copy most beside the training items that they copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from imagegram.images import grids
from imagegram.images.modality import IMAGES_FILE
from imagegram.records import Images
from imagegram.report.pairs import Pair, read_pairs
from imagegram.report.passages import read_copies
from imagegram.report.text_pages import copies_of, page_of, plain_list


@dataclass(frozen=True, kw_only=True)
class WorstCopies:
    """Logs ``copies/worst`` when the run ends: sample, nearest training image and source in a row.

    Pictures, not cells of a table: an offline run would lose those. They are read from ``pairs/``
    and ``samples/`` of the run folder; a run that was not evaluated has none. Of texts a page:
    every sample with its runs coloured, above the passages that most of it is from.

    Attributes:
        max_pairs: pictures to log; the sample that copies most comes first.
    """

    max_pairs: int = 16

    def on_stage_start(self, run: Any, name: str) -> None:
        """Do nothing: there are no pictures yet."""

    def on_stage_end(self, run: Any, name: str, handle: Any) -> None:
        """Do nothing: the report finds the neighbours, at the end of the run."""

    def on_run_end(self, run: Any) -> None:
        """Send the pictures, or the page of texts."""
        if copies := read_copies(run.folder)[: self.max_pairs]:
            texts = plain_list([record["text"] for record in copies])
            run.mirror.page("copies/worst", page_of(copies_of(copies)), texts)
            return
        pictures = run.folder / "samples" / IMAGES_FILE
        if not (run.folder / "pairs" / "pairs.json").exists() or not pictures.exists():
            return
        images = np.load(pictures, mmap_mode="r")
        pairs = read_pairs(run.folder / "pairs")[: self.max_pairs]
        strips_BHWC = np.stack([strip(images[pair.sample], pair) for pair in pairs])
        run.mirror.images("copies/worst", strips_BHWC, [caption(pair) for pair in pairs])


def strip(sample_HWC: Images, pair: Pair) -> Images:
    """Put sample, nearest training image and source in a row, enlarged.

    The place of the source is white where it is the nearest training image.
    """
    assert pair.nearest is not None
    white = np.full_like(pair.nearest.image, 255)
    source = white if pair.source is None else pair.source.image
    row = np.stack([sample_HWC, pair.nearest.image, source])
    return grids.grid(row, columns=3, scale=grids.scale_for(len(sample_HWC), target=64))


def caption(pair: Pair) -> str:
    """Return a caption that names the pictures of the strip, left to right."""
    assert pair.nearest is not None
    words = [f"sample {pair.sample}" + (" (exact copy)" if pair.exact else "")]
    words.append(f"nearest: image {pair.nearest.document}, RMS {pair.nearest.rms:.1f}")
    if pair.source is not None:
        words.append(f"source: image {pair.source.document}, RMS {pair.source.rms:.1f}")
    if pair.share is not None:
        words.append(f"{pair.share:.0%} of its tokens from one image")
    return " | ".join(words)
