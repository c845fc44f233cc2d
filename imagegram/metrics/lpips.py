"""``lpips_<network>``: how different decoded images look from their originals.

PSNR prefers blur; LPIPS (Zhang et al., arXiv 1801.03924) compares features of a network that knows
ImageNet, and prefers what looks alike. Its weights are installed apart, see
``models/lpips_weights.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from imagegram.errors import ConfigError, did_you_mean
from imagegram.executors.tiles import row_tiles
from imagegram.intervals import mean_over_images
from imagegram.metrics.features import undefined
from imagegram.models.lpips_weights import LEAST_SIDE, NETWORKS, find_weights
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo

#: Pairs of images that are compared at a time.
_PAIRS: Final = 32


@dataclass(frozen=True, kw_only=True)
class LpipsMetric:
    """Mean LPIPS between decoded images and their originals, which are resized to their square.

    Attributes:
        name: name of this metric in the configuration.
        network: ``alexnet`` or ``vgg16``.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"images"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="lpips_{network}",
            title="LPIPS of reconstructions",
            words="LPIPS, with features of {network}, between decoded images and their original "
            "files. Lower looks closer.",
            better="lower",
            group="tokenizer",
        ),
    )

    name: str = "lpips"
    network: str = "alexnet"

    def __post_init__(self) -> None:
        """Refuse an unknown network."""
        if self.network not in NETWORKS:
            known = did_you_mean(self.network, NETWORKS)
            raise ConfigError(f"metric.{self.name}.network={self.network} is unknown; {known}")

    def check_machine(self) -> None:
        """Refuse missing weights."""
        find_weights(self.network, setting="metric=[lpips]", instead="leave that metric out")

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Compare one image set with its originals, where there are any."""
        score, side = f"lpips_{self.network}", min(generated.images.shape[1:3])
        recipe = {"N": str(generated.num_images), "pixels": str(side), "LPIPS": "weights 0.1"}
        if generated.originals is None:
            found = undefined("generated and planted images have no original")
        elif side < LEAST_SIDE:
            found = undefined(f"LPIPS needs images of {LEAST_SIDE} pixels, these have {side}")
        else:
            found = self._mean(generated, reference)
        return Measurement(scalars={score: found}, curves={}, recipe=recipe)

    def _mean(self, generated: ImageSet, reference: Reference) -> Measured:
        """Return the mean over images, which are compared a few at a time."""
        import torch

        from imagegram.models.cores import one_core
        from imagegram.models.lpips import load_lpips
        from imagegram.models.pictures import to_float

        network, originals = load_lpips(self.network), generated.originals
        assert originals is not None
        apart_B = np.empty(generated.num_images)
        task = reference.progress.start("LPIPS", len(apart_B), "images")
        with torch.inference_mode(), one_core():
            for rows in row_tiles(len(apart_B), _PAIRS):
                pair = (generated.images[rows], originals[rows])
                some, other = (to_float(torch.from_numpy(np.array(images))) for images in pair)
                apart_B[rows] = network(some, other).numpy()
                reference.progress.advance(task, rows.stop - rows.start)
        reference.progress.finish(task)
        return mean_over_images(apart_B, seed=reference.seed)
