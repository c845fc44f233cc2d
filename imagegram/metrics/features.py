"""Helpers of feature metrics: fetch both sides, write the recipe, refuse too few images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from imagegram.executors.tiles import row_tiles
from imagegram.protocols import Encoder, ImageSet, Reference, TextEncoder
from imagegram.records import Features, Measured

#: Rows of features that are looked at together: 10 MB of 1,280 numbers each.
_ROWS: Final = 2048


@dataclass(frozen=True, kw_only=True)
class FeaturePair:
    """Features of the measured images and of the training images they are compared with.

    Attributes:
        generated: (N, D) float32.
        reference: (R, D) float32.
        recipe: what comparable numbers must share.
    """

    generated: Features
    reference: Features
    recipe: dict[str, str]

    def too_few(self, needed: int) -> str | None:
        """Return why the sets are too small for a metric that needs ``needed`` images, or None."""
        for name, features in (("images", self.generated), ("reference images", self.reference)):
            if len(features) < needed:
                return f"{len(features)} {name}, at least {needed} are needed"
        if not (all_finite(self.generated) and all_finite(self.reference)):
            return "the encoder returned features that are not finite"
        return None


def all_finite(features: Features) -> bool:
    """Return whether all numbers are finite; mapped features are read in blocks, not at once."""
    return all(np.isfinite(features[rows]).all() for rows in row_tiles(len(features), _ROWS))


def compared_features(
    encoder: Encoder | TextEncoder, *, generated: ImageSet, reference: Reference
) -> FeaturePair:
    """Return the features of both sides, each computed once per run and cached as an artifact."""
    ours = reference.features(encoder, generated)
    theirs = reference.reference_features(encoder)
    recipe = feature_recipe(encoder, generated=ours, reference=theirs)
    return FeaturePair(generated=ours, reference=theirs, recipe=recipe)


def feature_recipe(
    encoder: Encoder | TextEncoder, *, generated: Features, reference: Features | None = None
) -> dict[str, str]:
    """Return what comparable numbers must share; ``reference`` where there is another side."""
    sizes = {
        "N": str(len(generated)),
        **({} if reference is None else {"N_ref": str(len(reference))}),
        "D": str(generated.shape[1]),
        "encoder": encoder.name,
    }
    if hasattr(encoder, "max_tokens"):  # of texts
        return {**sizes, "read": f"{encoder.max_tokens} tokens of a text"}
    return {
        **sizes,
        "resize": f"{getattr(encoder, 'resolution', 'none')} px",
        "codec": "tokenizer" if reference is None else "tokenizer on both sides",
    }


def score_suffix(encoder: Encoder | TextEncoder) -> str:
    """Return the encoder's name for score names: lower case, letters, digits, underscores."""
    return re.sub(r"[^a-z0-9]+", "_", encoder.name.lower()).strip("_")


def undefined(reason: str) -> Measured:
    """Return a score without a value, with the reason."""
    return Measured(value=None, note=reason)
