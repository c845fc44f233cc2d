"""BuildSpatialIndex: the stage that sorts all blocks of a token set by their surroundings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import CapacityError, ConfigError, did_you_mean
from imagegram.generators.spatial.index import (
    CLUSTERS,
    CODES,
    FILES,
    SpatialIndex,
    file_of,
    pictures,
)
from imagegram.generators.spatial.model import SpatialModel
from imagegram.generators.spatial.occurrences import (
    LARGEST,
    GridSource,
    PyramidSource,
    Source,
    numbers_of,
)
from imagegram.generators.spatial.passes import Pass, grid_passes, pyramid_passes, ranks_of
from imagegram.generators.spatial.places import (
    GRID_PLACES,
    GRID_SIZE,
    GUESS,
    PLACES,
    SIZE,
    Template,
    template_of,
    weights_of,
)
from imagegram.layout import TokenLayout
from imagegram.stages.cluster import Cluster
from imagegram.stages.tokens import TokenSet
from imagegram.stages.validation import clusters_of
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
#: Bytes on disk of a step besides its tokens: source, rank, and its part of the decisions.
_PER_STEP: Final = 12
Level = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class BuildSpatialIndex:
    """The stage that sorts all blocks of a token set by their surroundings.

    Attributes:
        tokens: training documents.
        templates: of the passes, by the side of their lattice.
        near_duplicate_limit: documents that are more alike are one document to all limits; None:
            each is one.
        grid_order: of the places of a grid; None: the tokens are a pyramid's.
        tokenizer: that wrote them, see :class:`Enlarging`; of a grid, with ``codebooks``.
        engine: of the model.
    """

    kind: ClassVar[str] = "spatial_index"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (Cluster,)
    RATE: ClassVar[PerUnit] = PerUnit("num_tokens", seconds=1.0e-6)
    tokens: TokenSet
    templates: tuple[Template, ...]
    near_duplicate_limit: float | None = None
    grid_order: str | None = None
    tokenizer: Any = field(metadata=NOT_IDENTITY)
    engine: str = field(default="native", metadata=NOT_IDENTITY)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the index, pass by pass.

        Raises:
            CapacityError: when there is not enough memory.
            ConfigError: without documents.
        """
        count = self.tokens.num_documents
        if not count:
            raise ConfigError("a spatial index needs at least one training document; give more")
        need = memory_of(self.passes, count, self.templates)
        if need > context.memory_bytes:
            raise CapacityError(
                f"sorting {count:,} documents needs about {need / 1e9:.2f} GB of memory, and "
                f"{context.memory_bytes / 1e9:.2f} GB may be spent; allow more: "
                f"runtime.memory_gb={need / 1e9 + 0.01:.2f}, or give fewer places to choose from"
            )
        np.save(out / CLUSTERS, clusters_of(self.tokens, context))
        task = context.progress.start("sort surroundings", len(self.passes), "passes")
        orders = []
        for n, source in enumerate(self._sources(out)):
            orders.append(self._write_pass(out, n, source))
            context.progress.advance(task)
        context.progress.finish(task)
        return {
            "num_documents": count,
            "num_tokens": count * self.layout.num_tokens,
            "sides": [part.side for part in self.passes],
            "grid_order": self.grid_order,
            "order": orders,
        }

    @property
    def layout(self) -> TokenLayout:
        """Layout of the documents."""
        layout: TokenLayout = self.tokenizer.spec.layout
        return layout

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """What the steps draw, and in what order."""
        if self.grid_order is not None:
            return grid_passes(self.layout, self.grid_order)
        heights, widths = self.layout.heights, self.layout.widths
        sides = (
            template_of(self.templates, height).side(height, width)
            for height, width in zip(heights, widths, strict=True)
        )
        return pyramid_passes(self.layout, tuple(sides))

    def load(self, artifact: Artifact) -> SpatialModel:
        """Return the model."""
        index = SpatialIndex(artifact=artifact, layout=self.tokenizer.spec.layout)
        return SpatialModel(index=index, tokenizer=self.tokenizer, engine=self.engine)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee one thread over all tokens."""
        if found := at.find(self):
            return Cost.found(found, handle=self.load(found))
        count = self.tokens.num_documents
        expected, rate = at.expect(self, {"num_documents": count}), at.rate(self)
        return Cost(
            artifact=expected,
            handle=self.load(expected),
            disk_bytes=count * sum(p.num_steps * (2 * p.size + _PER_STEP) for p in self.passes),
            memory_bytes=memory_of(self.passes, count, self.templates),
            seconds=rate.seconds * count * self.layout.num_tokens,
            source=rate.source,
        )

    def _sources(self, out: Path) -> Iterator[Source]:
        """Yield what is sorted of every pass; write the numbers of codes."""
        if self.grid_order is not None:
            grids = self._level(0)[..., 0]
            counts = np.bincount(grids.ravel(), minlength=self.tokenizer.spec.vocab_size)
            vectors = np.asarray(self.tokenizer.codebooks[0], dtype=np.float32)
            codes = numbers_of(vectors, counts)
            np.save(out / CODES, codes)
            # A cell's variance of a number may not be 0; the codes are brought to one scale for it.
            vectors = vectors * np.float32(LARGEST / max(float(np.abs(vectors).max()), 1e-12))
            ranks = ranks_of(self.passes)
            yield from (GridSource(part, grids, codes, vectors, ranks) for part in self.passes)
            return
        coarser = None
        for n, part in enumerate(self.passes):
            level = self._level(n)
            yield PyramidSource(part, level, coarser)
            coarser = pictures(self.tokenizer, n, level, coarser)

    def _level(self, n: int) -> Level:
        """Return (N, H, W, C) tokens of a level."""
        layout, count = self.layout, self.tokens.num_documents
        shape = (layout.heights[n], layout.widths[n], layout.num_channels)
        level = np.empty((count, *shape), dtype=np.uint16)
        for first in range(0, count, _BATCH):
            ids = np.arange(first, min(first + _BATCH, count))
            level[ids] = self.tokens.gather(ids)[:, layout.level_slices[n]].reshape(-1, *shape)
        return level

    def _write_pass(self, out: Path, n: int, source: Source) -> list[str]:
        """Write one pass; return the names of the places in the order of the decisions."""
        from imagegram.generators.spatial.tree import choose_places, depth_of, grow

        template = template_of(self.templates, source.part.lattice)
        names = template.places
        weights = _weights(template, source)
        values, blocks = source.measured(weights), source.blocks()
        depth = depth_of(len(blocks), template.max_bits)
        given = [names.index(place) for place in template.decisions][:depth]
        some, is_held_back = _sampled(self.tokens.num_documents, len(blocks))
        chosen = choose_places(
            values[some],
            source.numbers(blocks[some]),
            is_held_back,
            given=given,
            choice=[names.index(place) for place in template.choose],
            depth=depth if template.choose else len(given),
        )
        tree = grow(values, chosen)
        ranks = np.empty_like(tree.order)
        ranks[tree.order] = np.arange(len(ranks))
        narrow = np.uint32 if len(ranks) < 2**32 else np.int64
        arrays: tuple[NDArray[Any], ...] = (
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


def memory_of(passes: Sequence[Pass], num_documents: int, templates: tuple[Template, ...]) -> int:
    """Return the bytes that building takes at its largest pass."""
    most = 0
    for part in passes:
        template, blocks = template_of(templates, part.lattice), num_documents * part.num_steps
        # Guesses are fitted to surroundings as whole numbers, as floats, and as centred ones.
        fitted = min(blocks, _SAMPLE) * 24 * (GRID_SIZE if part.size == 1 else SIZE)
        most = max(most, blocks * (8 * len(template.places) + 40 + 8 * part.size) + fitted)
    return most


def _sampled(num_documents: int, num_blocks: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the numbers of a sample of blocks, and which of them only judge."""
    generator = np.random.Generator(np.random.Philox(key=0))
    some = np.arange(num_blocks)
    if num_blocks > _SAMPLE:
        some = np.sort(generator.choice(num_blocks, _SAMPLE, replace=False))
    return some, some // (num_blocks // num_documents) % _HELD_BACK == _HELD_BACK - 1


def _weights(template: Template, source: Source) -> NDArray[np.int64]:
    """Return the (P, ·) whole weights of the places of a template, guesses fitted.

    Raises:
        ConfigError: for a place of a grid in the template of a pyramid, and the other way round.
    """
    allowed = GRID_PLACES if source.is_grid else PLACES
    for place in template.places:
        if place not in allowed:
            raise ConfigError(
                f"generator.{'grid_' * source.is_grid}templates: the place {place!r} is none of "
                f"{'grids' if source.is_grid else 'pyramids'}; {did_you_mean(place, allowed)}"
            )
    guesses = _guesses(template.num_guesses, source)
    rows = [
        guesses[int(place.removeprefix(GUESS))]
        if place.startswith(GUESS)
        else weights_of(place, grid=source.is_grid)
        for place in template.places
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, guesses.shape[1])


def _guesses(count: int, source: Source) -> NDArray[np.int64]:
    """Fit guesses: axes of the least-squares guess of a block, the most telling first."""
    guesses = np.zeros((count, GRID_SIZE if source.is_grid else SIZE), dtype=np.int64)
    if not count:
        return guesses
    some = source.some(max(_SAMPLE // source.part.num_steps, 1))
    known = some.surroundings().astype(np.float64)
    wanted = some.numbers(some.blocks()).astype(np.float64)
    scale = known.std(axis=0) + 1e-3
    known, wanted = (known - known.mean(axis=0)) / scale, wanted - wanted.mean(axis=0)
    products = known.T @ known / len(known) + _RIDGE * np.eye(known.shape[1])
    fit = np.linalg.solve(products, known.T @ wanted / len(known))
    _, axes = np.linalg.eigh(fit.T @ products @ fit)
    found = (fit @ axes[:, ::-1]).T[:count] / scale
    largest = np.maximum(np.abs(found).max(axis=1, keepdims=True), 1e-12)
    guesses[: len(found)] = np.rint(found / largest * _LARGEST).astype(np.int64)
    return guesses
