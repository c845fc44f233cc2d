"""Cards of the worst copies: every sample with its sources, by cell and by token."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from PIL import Image

from imagegram.images import grids
from imagegram.layout import TokenLayout
from imagegram.protocols import ImageSet
from imagegram.records import Images
from imagegram.report.figures import level_label
from imagegram.report.overlays import ProvenancePainter
from imagegram.report.pairs import Pair
from imagegram.report.provenance import TracedSample

#: Side of pictures in pixels: smaller ones are enlarged, so that their pixels stay sharp in print;
#: larger ones are reduced where they are shown small.
_SIDE: Final = 64


def copy_cards(
    traced: Sequence[TracedSample],
    pairs: Sequence[Pair],
    *,
    generated: ImageSet,
    layout: TokenLayout,
) -> list[dict[str, Any]]:
    """Return one card per traced sample, in their order.

    Args:
        traced: the worst copies with the sources of their tokens.
        pairs: the same samples with their nearest training images.
        generated: all samples.
        layout: layout of their tokens.
    """
    by_sample = {pair.sample: pair for pair in pairs}
    drawn = [level for level in range(layout.num_levels) if _is_picture(layout, level)]
    cards = []
    for one in traced:
        pair, image = by_sample[one.sample], np.asarray(generated.images[one.sample])
        assert pair.nearest is not None
        painter = ProvenancePainter(traced=one, layout=layout)
        credited = {source.document for source in one.sources if source.image is not None}
        card = {
            "sample": one.sample,
            "pair": pair,
            "image": data_url(image),
            "grey": small_url(_grey(image)) if drawn else None,
            "overlays": [
                {
                    "label": level_label(layout, level),
                    "size": painter.size(level),
                    "shapes": painter.overlay(level),
                }
                for level in reversed(drawn)  # the finest is the large one
            ],
            "ribbons": [
                {"label": level_label(layout, level), "svg": painter.ribbon(level)}
                for level in range(layout.num_levels)
            ],
            "num_sources": one.num_sources,
            "sources": one.sources,
            "rest": max(0.0, float((one.clusters >= 0).mean()) - _named_share(one)),
            "unseen": float((one.clusters < 0).mean()),
            "nearest": None if pair.nearest.document in credited else pair.nearest,
        }
        cards.append(card)
    return cards


def drawn_share(traced: Sequence[TracedSample]) -> float | None:
    """Return the mean share of tokens that the sampler drew from their credited source."""
    shares = [one.drawn_share for one in traced if one.drawn_share is not None]
    return sum(shares) / len(shares) if shares else None


def _is_picture(layout: TokenLayout, level: int) -> bool:
    """Return whether the level has positions in the picture; ordered tokens have none."""
    is_strip = layout.heights[level] == 1 and layout.widths[level] > 1
    return layout.is_picture and not is_strip


def _named_share(one: TracedSample) -> float:
    return sum(source.share for source in one.sources)


def _grey(image_HWC: Images) -> Images:
    """Return an (H, W) uint8 pale grey picture as background of coloured overlays."""
    grey = np.asarray(Image.fromarray(image_HWC).convert("L"), dtype=np.float64)
    return np.asarray(np.rint(56 + grey * 0.72), dtype=np.uint8)


def data_url(image: Images) -> Markup:
    """Return an (H, W) or (H, W, 3) uint8 picture as a data URL; small ones are enlarged."""
    scale = grids.scale_for(image.shape[0], target=_SIDE)
    encoded = base64.b64encode(grids.png_bytes(grids.enlarge(image[None], scale)[0]))
    return Markup(f"data:image/png;base64,{encoded.decode()}")


def small_url(image: Images) -> Markup:
    """Return the data URL of a picture that is shown small, reduced if it is large."""
    factor = max(1, image.shape[0] // _SIDE)
    return data_url(np.asarray(Image.fromarray(image).reduce(factor)))
