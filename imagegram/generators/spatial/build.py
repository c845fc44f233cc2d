"""BuildSpatialIndex: the stage that sorts all blocks of a token set by their surroundings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import CapacityError, ConfigError
from imagegram.generators.spatial.index import FILES, SpatialIndex, blocks_of, file_of, pictures
from imagegram.generators.spatial.model import SpatialModel
from imagegram.generators.spatial.places import GUESS, SIZE, Template, template_of, weights_of
from imagegram.layout import TokenLayout
from imagegram.records import Images
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Surroundings

#: Occurrences that guesses are fitted to and places are chosen by, and one in how many documents
#: only judges the choice.
_SAMPLE: Final = 100_000
_HELD_BACK: Final = 4
#: Weights of a guess are whole: the largest of them is this.
_LARGEST: Final = 4096
_RIDGE: Final = 1e-2
_BATCH: Final = 512
Level = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class BuildSpatialIndex:
    """The stage that sorts all blocks of a token set by their surroundings.

    Attributes:
        tokens: training documents.
        templates: of the levels.
        tokenizer: that wrote them, see :class:`Enlarging`.
        engine: of the model.
    """

    kind: ClassVar[str] = "spatial_index"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1
    RATE: ClassVar[PerUnit] = PerUnit("num_tokens", seconds=1.0e-6)
    tokens: TokenSet
    templates: tuple[Template, ...]
    tokenizer: Any = field(metadata=NOT_IDENTITY)
    engine: str = field(default="native", metadata=NOT_IDENTITY)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the index, level by level.

        Raises:
            CapacityError: when there is not enough memory.
            ConfigError: without documents.
        """
        layout: TokenLayout = self.tokenizer.spec.layout
        count = self.tokens.num_documents
        if not count:
            raise ConfigError("a spatial index needs at least one training document; give more")
        need = memory_of(layout, count, self.templates)
        if need > context.memory_bytes:
            raise CapacityError(
                f"sorting {count:,} documents needs about {need / 1e9:.2f} GB of memory, and "
                f"{context.memory_bytes / 1e9:.2f} GB may be spent; allow more: "
                f"runtime.memory_gb={need / 1e9 + 0.01:.2f}, or give fewer places to choose from"
            )
        task = context.progress.start("sort surroundings", layout.num_levels, "levels")
        coarser, orders, sides = None, [], []
        for n in range(layout.num_levels):
            level = self._level(layout, n)
            template = template_of(self.templates, layout.heights[n])
            side = template.side(layout.heights[n], layout.widths[n])
            orders.append(self._write_level(out, n, level, coarser, template, side))
            sides.append(side)
            coarser = pictures(self.tokenizer, n, level, coarser)
            context.progress.advance(task)
        context.progress.finish(task)
        return {
            "num_documents": count,
            "num_tokens": count * layout.num_tokens,
            "sides": sides,
            "order": orders,
        }

    def load(self, artifact: Artifact) -> SpatialModel:
        """Return the model."""
        index = SpatialIndex(artifact=artifact, layout=self.tokenizer.spec.layout)
        return SpatialModel(index=index, tokenizer=self.tokenizer, engine=self.engine)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee one thread over all tokens."""
        if found := at.find(self):
            return Cost.found(found, handle=self.load(found))
        layout: TokenLayout = self.tokenizer.spec.layout
        count = self.tokens.num_documents
        expected, rate = at.expect(self, {"num_documents": count}), at.rate(self)
        return Cost(
            artifact=expected,
            handle=self.load(expected),
            disk_bytes=6 * count * layout.num_tokens,
            memory_bytes=memory_of(layout, count, self.templates),
            seconds=rate.seconds * count * layout.num_tokens,
            source=rate.source,
        )

    def _level(self, layout: TokenLayout, n: int) -> Level:
        """Return (N, H, W, C) tokens of a level."""
        count, part = self.tokens.num_documents, layout.level_slices[n]
        shape = (layout.heights[n], layout.widths[n], layout.num_channels)
        level = np.empty((count, *shape), dtype=np.uint16)
        for first in range(0, count, _BATCH):
            ids = np.arange(first, min(first + _BATCH, count))
            level[ids] = self.tokens.gather(ids)[:, part].reshape(-1, *shape)
        return level

    def _write_level(
        self,
        out: Path,
        n: int,
        level: Level,
        coarser: Images | None,
        template: Template,
        side: int,
    ) -> list[str]:
        """Write one level; return the names of the places in the order of the decisions."""
        from imagegram.generators.spatial.tree import choose_places, depth_of, grow

        names = template.places
        weights = _weights(template, level, coarser, side)
        values = measured(level, coarser, side, weights)
        blocks = blocks_of(level, side)
        depth = depth_of(len(blocks), template.max_bits)
        given = [names.index(place) for place in template.decisions][:depth]
        some, is_held_back = _sampled(len(level), len(blocks))
        chosen = choose_places(
            values[some],
            blocks[some],
            is_held_back,
            given=given,
            choice=[names.index(place) for place in template.choose],
            depth=depth if template.choose else len(given),
        )
        tree = grow(values, chosen)
        ranks = np.empty_like(tree.order)
        ranks[tree.order] = np.arange(len(ranks))
        narrow = np.uint32 if len(ranks) < 2**32 else np.int64
        arrays = (
            weights,
            tree.places,
            tree.thresholds,
            tree.starts,
            blocks[tree.order],
            tree.order.astype(narrow),
            ranks.astype(narrow),
        )
        for name, array in zip(FILES, arrays, strict=True):
            np.save(file_of(out, n, name), array)
        return [names[place] for place in chosen]


def memory_of(layout: TokenLayout, num_documents: int, templates: tuple[Template, ...]) -> int:
    """Return the bytes that building takes at its largest level."""
    most = 0
    for height, width in zip(layout.heights, layout.widths, strict=True):
        template = template_of(templates, height)
        side = template.side(height, width)
        blocks = num_documents * (height // side) * (width // side)
        tokens = num_documents * height * width * layout.num_channels
        most = max(most, blocks * (8 * len(template.places) + 40) + 8 * tokens)
    return most


def measured(
    level: Level, coarser: Images | None, side: int, weights: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the (N * blocks, P) values of places of all blocks."""
    from imagegram.generators.spatial.surroundings import measure_level

    count, height, width, _ = level.shape
    values = np.empty((count * (height // side) * (width // side), len(weights)), dtype=np.int64)
    has_coarser = coarser is not None
    seen = coarser if coarser is not None else np.zeros((count, 1, 1, 3), dtype=np.uint8)
    measure_level(seen, level, side, has_coarser, weights, values)
    return values


def _sampled(num_documents: int, num_blocks: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the numbers of a sample of blocks, and which of them only judge."""
    generator = np.random.Generator(np.random.Philox(key=0))
    some = np.arange(num_blocks)
    if num_blocks > _SAMPLE:
        some = np.sort(generator.choice(num_blocks, _SAMPLE, replace=False))
    return some, some // (num_blocks // num_documents) % _HELD_BACK == _HELD_BACK - 1


def _weights(
    template: Template, level: Level, coarser: Images | None, side: int
) -> NDArray[np.int64]:
    """Return the (P, SIZE) whole weights of the places of a template, guesses fitted."""
    guesses = _guesses(template.num_guesses, level, coarser, side)
    rows = [
        guesses[int(place.removeprefix(GUESS))] if place.startswith(GUESS) else weights_of(place)
        for place in template.places
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, SIZE)


def _guesses(count: int, level: Level, coarser: Images | None, side: int) -> NDArray[np.int64]:
    """Fit guesses: axes of the least-squares guess of a block, the most telling first."""
    guesses = np.zeros((count, SIZE), dtype=np.int64)
    if not count:
        return guesses
    per = (level.shape[1] // side) * (level.shape[2] // side)
    documents = np.unique(np.linspace(0, len(level) - 1, max(_SAMPLE // per, 1)).astype(int))
    seen = None if coarser is None else coarser[documents]
    values = measured(level[documents], seen, side, np.eye(SIZE, dtype=np.int64))
    known, wanted = values.astype(np.float64), blocks_of(level[documents], side).astype(np.float64)
    scale = known.std(axis=0) + 1e-3
    known, wanted = (known - known.mean(axis=0)) / scale, wanted - wanted.mean(axis=0)
    products = known.T @ known / len(known) + _RIDGE * np.eye(SIZE)
    fit = np.linalg.solve(products, known.T @ wanted / len(known))
    _, axes = np.linalg.eigh(fit.T @ products @ fit)
    found = (fit @ axes[:, ::-1]).T[:count] / scale
    largest = np.maximum(np.abs(found).max(axis=1, keepdims=True), 1e-12)
    guesses[: len(found)] = np.rint(found / largest * _LARGEST).astype(np.int64)
    return guesses
