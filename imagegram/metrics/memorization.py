"""``authpct`` and ``ct``: two published tests of memorization in feature space.

Both compare distances of whole images: they detect copies and noisy copies, but rate collages of
several training images as *more* novel than real held-out images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.intervals import check_blocks, clopper_pearson, delete_block_jackknife
from imagegram.metrics.features import all_finite, feature_recipe, undefined
from imagegram.metrics.nearest import nearest_rows
from imagegram.protocols import Encoder, ImageSet, Reference
from imagegram.records import Features, Measured, Measurement, ScoreInfo

#: Principal components, cells, and number of images that a cell must exceed, as published.
_DIMENSIONS: Final = 64
_CELLS: Final = 3
_MIN_IMAGES: Final = 20
#: Training images that are projected at a time.
_ROWS: Final = 1 << 15


@dataclass(frozen=True, kw_only=True)
class MemorizationMetric:
    """AuthPct and the C_T score, both against all training images.

    ``authpct``: per cent of images that are farther from their nearest training image t than t is
    from its own nearest one (Alaa et al., "How faithful is your synthetic data?", ICML 2022); of
    copies 0. ``ct``: the C_T score (Meehan et al., "A non-parametric test to detect data-copying in
    generative models", AISTATS 2020): far below 0 where images lie nearer to training images than
    held-out images do, far above 0 where they lie farther. Principal components and cells are
    fitted to the reference images, distances are to all training images.

    Attributes:
        name: name of this metric in the configuration.
        encoder: computes the features.
        jackknife_blocks: blocks of images left out in turn, for ``ct``; at least 2.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"images", "training_features"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="authpct",
            title="authentic samples",
            bounds=(0.0, 100.0),
            words="Per cent of samples farther from their nearest training image than that one is "
            "from its own. Lower: more copying; blind to collages.",
            unit="per cent",
            better="higher",
            group="copying",
        ),
        ScoreInfo(
            name="ct",
            title="nearness test",
            words="Are samples nearer to training images than held-out ones are? Far below 0: "
            "copying; far above: farther away.",
            group="copying",
        ),
    )

    name: str = "memorization"
    encoder: Encoder
    jackknife_blocks: int = 20

    def __post_init__(self) -> None:
        check_blocks(self.name, self.jackknife_blocks)

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against all training images."""
        ours = reference.features(self.encoder, generated)
        training = reference.training_features(self.encoder)
        recipe = feature_recipe(self.encoder, generated=ours, reference=training)
        calibration = reference.calibration
        held_out = None if calibration is None else reference.features(self.encoder, calibration)
        recipe["N_held_out"] = str(0 if held_out is None else len(held_out))
        known = [part for part in (ours, training, held_out) if part is not None]
        if not all(all_finite(part) for part in known):
            reason = undefined("the encoder returned features that are not finite")
            return Measurement(scalars={"authpct": reason, "ct": reason}, curves={}, recipe=recipe)
        scalars = {
            "authpct": self._authpct(ours, training, reference),
            "ct": self._ct(ours, held_out, training, reference),
        }
        return Measurement(scalars=scalars, curves={}, recipe=recipe)

    def _authpct(self, generated: Features, training: Features, reference: Reference) -> Measured:
        if len(training) < 2:
            return undefined("a single training image has no nearest other one")
        authentic = authentic_images(
            generated=generated, training=training, workers=reference.workers
        )
        rate = clopper_pearson(successes=int(authentic.sum()), trials=len(authentic))
        shares = {name: getattr(rate, name) for name in ("value", "low", "high")}
        return dataclasses.replace(rate, **{name: 100 * share for name, share in shares.items()})

    def _ct(
        self,
        generated: Features,
        held_out: Features | None,
        training: Features,
        reference: Reference,
    ) -> Measured:
        if held_out is None or not len(held_out):
            return undefined("no held-out images are left to compare with")
        fitted = reference.reference_features(self.encoder)
        if len(np.unique(fitted, axis=0)) < _CELLS:
            return undefined(f"fewer than {_CELLS} different reference images")
        ours, theirs = cell_distances(
            [generated, held_out],
            training=training,
            fitted=fitted,
            seed=reference.seed,
            workers=reference.workers,
        )
        cells = usable_cells(generated=ours, held_out=theirs)
        if not len(cells):
            return undefined(f"no cell holds more than {_MIN_IMAGES} images and a held-out one")
        blocks = np.arange(len(generated)) % self.jackknife_blocks
        (measured,) = delete_block_jackknife(
            lambda without: np.array(
                [ct_score(generated=ours.rows(blocks != without), held_out=theirs, cells=cells)]
            ),
            num_images=len(generated),
            blocks=self.jackknife_blocks,
        )
        return measured


def authentic_images(
    *, generated: NDArray[Any], training: NDArray[Any], workers: int = 1
) -> NDArray[np.bool_]:
    """Return (B,) whether d(t, nearest other training image) < d(image, t), t nearest to image.

    t indexes training images; the authors' code uses it as an index of generated images.

    >>> training = np.array([[0.0], [10.0], [11.0]])
    >>> authentic_images(generated=np.array([[4.0], [8.0], [10.0]]), training=training).tolist()
    [False, True, False]
    """
    nearest = nearest_rows(generated, training, workers=workers)
    rows, places = np.unique(nearest.ids[:, 0], return_inverse=True)
    # The nearest row to a training image is itself or its duplicate, at 0; take the second.
    others = nearest_rows(training[rows], training, k=2, workers=workers)
    return np.asarray(others.distances[places.ravel(), 1] < nearest.distances[:, 0])


@dataclass(frozen=True, kw_only=True, eq=False)
class CellDistances:
    """Images in cells of feature space.

    Attributes:
        cells: (B,) cell of each image.
        distances: (B,) distance to the nearest training image of the cell; infinite without one.
    """

    cells: NDArray[np.integer[Any]]
    distances: NDArray[np.float64]

    def rows(self, kept: NDArray[np.bool_]) -> CellDistances:
        """Return cells and distances of some of the images."""
        return CellDistances(cells=self.cells[kept], distances=self.distances[kept])


def cell_distances(
    sets: Sequence[NDArray[Any]],
    *,
    training: NDArray[Any],
    fitted: NDArray[Any],
    seed: int,
    workers: int = 1,
) -> list[CellDistances]:
    """Compute cells and distances of each set of images, in up to 64 principal components.

    Args:
        sets: (B, D) features each.
        training: (N, D) features that distances are measured to, read in blocks.
        fitted: (R, D) features that components and three k-means cells are fitted to.
        seed: seed of both fits.
        workers: threads of the search.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums of several threads differ in their last bits
        dimensions = min(_DIMENSIONS, *fitted.shape)
        components = PCA(n_components=dimensions, random_state=seed)
        low = components.fit_transform(np.asarray(fitted, dtype=np.float64))
        clusters = KMeans(n_clusters=_CELLS, n_init=10, random_state=seed).fit(low)

        def project(part: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
            rows = components.transform(np.asarray(part, dtype=np.float64))
            return rows, clusters.predict(rows)

        queries, cells = project(np.concatenate(list(sets)))
        distances = np.full(len(queries), np.inf)
        for first in range(0, len(training), _ROWS):
            rows, cells_of_rows = project(training[first : first + _ROWS])
            for cell in range(_CELLS):
                some, ours = rows[cells_of_rows == cell], cells == cell
                if len(some) and ours.any():
                    near = nearest_rows(queries[ours], some, workers=workers).distances[:, 0]
                    distances[ours] = np.minimum(distances[ours], near)
    ends = np.cumsum([len(part) for part in sets])[:-1]
    parts = zip(np.split(cells, ends), np.split(distances, ends), strict=True)
    return [CellDistances(cells=of_part, distances=found) for of_part, found in parts]


def usable_cells(*, generated: CellDistances, held_out: CellDistances) -> list[int]:
    """Return cells with more than 20 generated, some held-out and some training images."""
    return [
        cell
        for cell in range(_CELLS)
        if np.count_nonzero(generated.cells == cell) > _MIN_IMAGES
        and np.isfinite(held_out.distances[held_out.cells == cell]).any()
    ]


def ct_score(*, generated: CellDistances, held_out: CellDistances, cells: Sequence[int]) -> float:
    """Return the mean over cells of the Mann-Whitney z of distances, weighted by held-out images.

    With m generated and n held-out images in a cell, and U the pairs whose generated image is the
    farther one (half of those with equal distances), ``z = (U - (m n / 2 - 1 / 2)) / sqrt(m n
    (m + n + 1) / 12)``. NaN where a cell has no generated image.
    """
    from scipy.stats import rankdata

    scores, weights = [], []
    for cell in cells:
        ours = generated.distances[generated.cells == cell]
        theirs = held_out.distances[held_out.cells == cell]
        m, n = len(ours), len(theirs)
        if not m:
            return float("nan")
        farther = rankdata(np.concatenate([ours, theirs]))[:m].sum() - m * (m + 1) / 2
        scores.append((farther - (m * n / 2 - 0.5)) / np.sqrt(m * n * (m + n + 1) / 12))
        weights.append(n)
    return float(np.average(scores, weights=weights))
