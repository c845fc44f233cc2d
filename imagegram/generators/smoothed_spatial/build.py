"""CountPlaces: the stage that fits guesses and counts how far they are off, in every context."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.generators.smoothed_spatial.contexts import CLASSES, ERRORS, Contexts
from imagegram.generators.smoothed_spatial.index import (
    PlaceCounts,
    file_of,
    node_counts,
    smoothed_chances,
)
from imagegram.generators.smoothed_spatial.levels import BATCH, Level, levels_of
from imagegram.generators.smoothed_spatial.model import SmoothedSpatialModel
from imagegram.generators.smoothed_spatial.surroundings import NUMBERS, PLACES, WHOLE
from imagegram.generators.spatial.occurrences import spread
from imagegram.layout import TokenLayout
from imagegram.stages.tokens import TokenSet
from imagegram.stages.validation import parts_of
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Stage, Surroundings

#: Tokens of a class that guesses and decisions are fitted to, about, and one document in how many
#: only judges which decision tells most.
_SAMPLE: Final = 100_000
_HELD_BACK: Final = 4
#: Fewest occurrences of a leaf, about.
_LEAF: Final = 64
#: What is added to squares of weights; an error that counts half as much as none.
_RIDGE: Final = 1.0
_HALF: Final = 4.0
#: Rounds of fitting guesses: a token counts the less, the further guesses around it were off.
_ROUNDS: Final = 3
#: Strengths to choose from, and the one where there is no document to choose by.
_STRENGTHS: Final = tuple(2.0**n for n in range(15))
_DEFAULT: Final = 64.0


@dataclass(frozen=True, kw_only=True)
class CountPlaces(Stage["SmoothedSpatialModel"]):
    """The stage that fits guesses and counts how far they are off, in every context.

    Guesses, decisions and counts come from the training documents without the validation part, on
    which strengths are learned.

    Attributes:
        tokens: training documents.
        max_decisions: most decisions of a context.
        validation_fraction: share of the training documents that strengths are learned on; 0: none.
        tokenizer: that wrote the tokens.
    """

    kind: ClassVar[str] = "generator"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1
    RATE: ClassVar[PerUnit] = PerUnit("num_tokens", seconds=1.0e-6)

    tokens: TokenSet
    max_decisions: int
    validation_fraction: float
    tokenizer: Any = field(metadata=NOT_IDENTITY)

    def identity(self) -> dict[str, Any]:
        """Return the identity: the documents, and how they are parted and counted."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "tokens": self.tokens.identity(),
            "max_decisions": self.max_decisions,
            "validation_fraction": self.validation_fraction,
            "near_duplicate_limit": self.tokens.near_duplicate_limit,
        }

    @property
    def layout(self) -> TokenLayout:
        """Layout of the documents."""
        layout: TokenLayout = self.tokenizer.spec.layout
        return layout

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Fit level by level, and count, reading the documents batch by batch.

        Raises:
            ConfigError: without documents.
        """
        if not self.tokens.num_documents:
            raise ConfigError("place counts need at least one training document; give more")
        fit, validation = self.tokens, None
        if self.validation_fraction:
            fit, validation = map(context.make, parts_of(self.tokens, self.validation_fraction))
        count = fit.num_documents
        contexts = [self._contexts(fit, n) for n in range(self.layout.num_levels)]
        counts = self._counts(fit, contexts, context)
        judged = None if validation is None else self._counts(validation, contexts, context)
        bits = {}
        for n, own in enumerate(contexts):
            strengths = np.full((CLASSES, self.max_decisions + 1), _DEFAULT)
            if judged is not None:
                bits[f"val/bits_level{n}"] = _learn(counts[n], judged[n], own.depths, strengths)
            arrays = {**own._asdict(), "counts": counts[n], "strengths": strengths}
            for name, array in arrays.items():
                np.save(file_of(out, n, name), array)
        return {
            "num_documents": self.tokens.num_documents,
            "num_tokens": self.tokens.num_documents * self.layout.num_tokens,
            "num_counted": count,
            **bits,
        }

    def load(self, artifact: Artifact) -> SmoothedSpatialModel:
        """Return the model."""
        counts = PlaceCounts(artifact=artifact, layout=self.layout)
        return SmoothedSpatialModel(counts=counts, tokenizer=self.tokenizer)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee one thread over all tokens."""
        if found := at.find(self):
            return Cost.found(found, handle=self.load(found))
        count = self.tokens.num_documents
        expected, rate = at.expect(self, {"num_documents": count}), at.rate(self)
        leaves = 0
        for n in range(self.layout.num_levels):
            pixels = self.layout.heights[n] * self.layout.widths[n]
            each = count * pixels // (4 if n else 1)
            leaves += CLASSES << self._depth(each)
        return Cost(
            artifact=expected,
            handle=self.load(expected),
            disk_bytes=4 * ERRORS * leaves,
            memory_bytes=16 * ERRORS * leaves + 32 * NUMBERS * _SAMPLE,
            seconds=rate.seconds * count * self.layout.num_tokens,
            source=rate.source,
        )

    def _depth(self, num_occurrences: int) -> int:
        return min(self.max_decisions, max(0, (num_occurrences // _LEAF).bit_length() - 1))

    def _levels(self, tokens: TokenSet, ids: NDArray[np.int64]) -> Iterator[Iterator[Level]]:
        """Yield the levels of some documents, batch by batch."""
        for first in range(0, len(ids), BATCH):
            yield levels_of(tokens.gather(ids[first : first + BATCH]), self.layout, self.tokenizer)

    def _counts(
        self, tokens: TokenSet, contexts: list[Contexts], context: Context
    ) -> list[NDArray[np.uint32]]:
        """Return the (J, 2^D, ERRORS) counts of every level, in one pass over the documents."""
        from imagegram.generators.smoothed_spatial import kernels

        counts = [
            np.zeros((CLASSES, own.thresholds.shape[1] + 1, ERRORS), np.uint32) for own in contexts
        ]
        task = context.progress.start("count places", tokens.num_documents, "images")
        for levels in self._levels(tokens, np.arange(tokens.num_documents)):
            for n, level in enumerate(levels):
                kernels.count(*level.leaves(contexts[n]), level.has_coarser, counts[n])
            context.progress.advance(task, len(level.tokens))
        context.progress.finish(task)
        return counts

    def _contexts(self, tokens: TokenSet, n: int) -> Contexts:
        """Fit the guesses of a level, and choose decisions, on a sample of documents."""
        from imagegram.generators.smoothed_spatial import kernels
        from imagegram.generators.spatial.tree import choose_places, grow

        pixels = self.layout.heights[n] * self.layout.widths[n]
        per_document = max(pixels // (4 if n else 1), 1)
        ids = spread(tokens.num_documents, -(-_SAMPLE // per_document))
        some = [next(islice(levels, n, None)) for levels in self._levels(tokens, ids)]
        sample = Level(
            np.concatenate([level.tokens for level in some]),
            np.concatenate([level.coarser for level in some]),
            np.concatenate([level.bases for level in some]),
            has_coarser=some[0].has_coarser,
        )
        classes = np.unique(_classes(sample))
        weights = _guesses(sample, classes)
        errors = np.empty_like(sample.tokens)
        kernels.errors_of(*sample.arrays, weights, sample.has_coarser, errors)
        depths = np.zeros(CLASSES, dtype=np.int64)
        found = {}
        for cls in classes.tolist():
            places, missed = _measured(sample, weights, errors, cls)
            depth = self._depth(len(missed) * tokens.num_documents // len(sample.tokens))
            of = np.repeat(np.arange(len(sample.tokens)), len(missed) // len(sample.tokens))
            is_held_back = of % _HELD_BACK == _HELD_BACK - 1
            if not is_held_back.any():  # a handful of documents: every fourth occurrence judges
                is_held_back = np.arange(len(missed)) % _HELD_BACK == _HELD_BACK - 1
            chosen: list[int] = []
            if is_held_back.any() and depth:
                chosen = choose_places(
                    places,
                    missed[:, None],
                    is_held_back,
                    given=(),
                    choice=range(len(PLACES)),
                    depth=depth,
                )
            depths[cls], found[cls] = len(chosen), grow(places, chosen)
        most = int(depths.max())
        asked = np.zeros((CLASSES, most), dtype=np.int64)
        thresholds = np.zeros((CLASSES, (1 << most) - 1), dtype=np.int64)
        for cls, tree in found.items():
            asked[cls, : len(tree.places)] = tree.places
            thresholds[cls, : len(tree.thresholds)] = tree.thresholds
        return Contexts(weights, asked, depths, thresholds)


def _classes(level: Level) -> NDArray[np.int64]:
    """Return the (H * W * 3,) class of every token."""
    _, height, width, _ = level.tokens.shape
    row, column, colour = np.indices((height, width, 3)).reshape(3, -1)
    place = 2 * (row % 2) + column % 2 if level.has_coarser else 0 * row
    return np.asarray(4 * colour + place, dtype=np.int64)


def _guesses(sample: Level, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fit the (J, NUMBERS) whole weights of guesses, by least squares of weighted errors."""
    from imagegram.generators.smoothed_spatial import kernels

    weights = np.zeros((CLASSES, NUMBERS), dtype=np.int64)
    of_token = _classes(sample)
    wanted = sample.tokens.reshape(len(sample.tokens), -1)
    errors = np.zeros_like(sample.tokens)
    importance: dict[int, NDArray[Any]] = {}
    for _ in range(_ROUNDS):
        for cls in classes.tolist():
            tokens = wanted[:, of_token == cls].reshape(-1).astype(np.float64)
            numbers = np.empty((len(tokens), NUMBERS), dtype=np.int64)
            kernels.numbers_of(*sample.arrays, cls, sample.has_coarser, numbers)
            counts = importance.get(cls, np.ones(len(tokens)))
            known = numbers * counts[:, None]
            products = known.T @ numbers + _RIDGE * np.eye(NUMBERS)
            fit = np.linalg.solve(products, known.T @ tokens)
            weights[cls] = np.rint(fit * WHOLE)
        kernels.errors_of(*sample.arrays, weights, sample.has_coarser, errors)
        for cls in classes.tolist():
            places, _ = _measured(sample, weights, errors, cls)
            importance[cls] = 1.0 / (_HALF + places[:, PLACES.index("errors")]) ** 2
            importance[cls] *= len(places) / importance[cls].sum()
    return weights


def _measured(
    sample: Level, weights: NDArray[np.int64], errors: NDArray[np.int16], cls: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (M, P) places of the tokens of a class, and the (M,) errors of their guesses."""
    from imagegram.generators.smoothed_spatial import kernels

    count = len(sample.tokens) * int((_classes(sample) == cls).sum())
    places = np.empty((count, len(PLACES)), dtype=np.int64)
    missed = np.empty(count, dtype=np.int64)
    kernels.places_of(*sample.arrays, weights, errors, cls, sample.has_coarser, places, missed)
    return places, missed


def _learn(
    counts: NDArray[np.uint32],
    judged: NDArray[np.uint32],
    depths: NDArray[np.int64],
    strengths: NDArray[np.float64],
) -> float:
    """Learn strengths, one number of decisions after the other.

    Args:
        counts: (J, 2^D, ERRORS) counts of the training documents.
        judged: those of the validation documents.
        depths: (J,) number of decisions.
        strengths: (J, D + 1) or more, written.

    Returns:
        Bits a token of the validation documents, as if no error left a colour out of its range.
    """
    spent = 0.0
    for cls, depth in enumerate(depths.tolist()):
        own, wanted = counts[cls, : 1 << depth], judged[cls, : 1 << depth]
        bits = 0.0
        for d in range(depth + 1):
            nodes, errors = np.nonzero(node_counts(wanted, d))
            times = node_counts(wanted, d)[nodes, errors]
            of = node_counts(own, d)
            seen, total = of[nodes, errors], of.sum(axis=1)[nodes]
            # All shorter contexts, whose strengths are known, of the nodes that are asked.
            prior = smoothed_chances(own, strengths[cls], until=d)[nodes >> (d > 0), errors]
            trials = [
                (-(times * np.log2((seen + s * prior) / (total + s))).sum(), s) for s in _STRENGTHS
            ]
            bits, strengths[cls, d] = min(trials)
        spent += float(bits)
    return spent / max(int(judged.sum()), 1)
