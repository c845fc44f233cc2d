"""Provenance as inline SVG: cells of a level, or its stream of tokens, coloured by their source.

Ordered tokens have no places in the picture, so they are drawn as a stream alone.

One CSS class gives the colour of a shape, by its source (``s0`` ... ``s4``: the largest sources of
the sample, ``sx``: any other training image); a second class gives its opacity, by the length of
the copied phrase (``o1`` ... ``o5``, logarithmic). A token without a source is not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from imagegram.layout import TokenLayout
from imagegram.report.provenance import TracedSample

#: Steps of opacity.
STEPS: Final = 5
#: Most cells per side; those of finer levels are drawn in blocks.
_MAX_SIDE: Final = 64
#: Longest stream that is drawn token by token; longer ones are drawn in bins.
_MAX_BINS: Final = 960
#: Number of shapes with a tooltip; smaller shapes are merged into one path per colour.
_MAX_TITLES: Final = 150
_RIBBON_HEIGHT: Final = 10.0
#: Share of it that a single token has.
_LOWEST: Final = 0.15

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """A rectangle of tokens with one source.

    Attributes:
        x, y, width, height: place and size in units of the drawing.
        classes: CSS classes of its colour and opacity.
        token: position of a token in it.
        title: text of its tooltip.
    """

    x: int
    y: float
    width: int
    height: float
    classes: str
    token: int
    title: str


@dataclass(frozen=True, kw_only=True)
class ProvenancePainter:
    """Painter of the overlays and ribbons of one sample.

    Attributes:
        traced: the sample with the source of every token.
        layout: layout of its tokens.
    """

    traced: TracedSample
    layout: TokenLayout

    def size(self, level: int) -> tuple[int, int]:
        """Return rows and columns of a level's overlay: its cells, or blocks of cells."""
        height, width = self.layout.heights[level], self.layout.widths[level]
        block = math.ceil(max(height, width) / _MAX_SIDE)
        return math.ceil(height / block), math.ceil(width / block)

    def overlay(self, level: int) -> Markup:
        """Draw the cells of one level, in units of :meth:`size`.

        A cell has the source that most of its tokens are credited to, and of these the longest
        phrase. Neighbours are one shape where document, displacement and opacity are the same.
        """
        layout, part = self.layout, self.layout.level_slices[level]
        height, width = self.size(level)
        rows = layout.row[part].astype(np.int64) * height // layout.heights[level]
        columns = layout.column[part].astype(np.int64) * width // layout.widths[level]
        chosen = self._chosen(part, rows * width + columns, height * width)
        chosen_HW = chosen.reshape(height, width)
        steps = 1 + np.minimum((STEPS * self._lengths).astype(np.int64), STEPS - 1)
        shapes = []
        for y, x, high, wide in merged(self._keys(chosen_HW, steps)):
            tokens = chosen_HW[y : y + high, x : x + wide]
            token = int(tokens[0, 0])
            classes = f"{self._color(token)} o{steps[token]}"
            shape = _Shape(
                x=x,
                y=y,
                width=wide,
                height=high,
                classes=classes,
                token=token,
                title=self._title(tokens),
            )
            shapes.append(shape)
        return self._drawn(shapes)

    def ribbon(self, level: int) -> Markup:
        """Draw the stream of one level as a band: x is the position, colour the source.

        The height is that of the logarithm of the phrase's length, full for a whole image.
        """
        part = self.layout.level_slices[level]
        along = f"level {level}" if self.layout.is_picture else "the tokens in their order"
        per_bin = math.ceil((part.stop - part.start) / _MAX_BINS)
        bins = np.arange(part.stop - part.start) // per_bin
        chosen = self._chosen(part, bins, int(bins[-1]) + 1)[None]
        heights = _RIBBON_HEIGHT * (_LOWEST + (1 - _LOWEST) * self._lengths)
        shapes = []
        for _, x, _, wide in merged(self._keys(chosen, self.traced.spans)):
            token = int(chosen[0, x])
            shape = _Shape(
                x=x,
                y=_RIBBON_HEIGHT - heights[token],
                width=wide,
                height=heights[token],
                classes=self._color(token),
                token=token,
                title=self._title(chosen[:, x : x + wide]),
            )
            shapes.append(shape)
        return Markup(
            f'<svg class="ribbon" viewBox="0 0 {chosen.size} {_RIBBON_HEIGHT:g}" '
            f'preserveAspectRatio="none" role="img" aria-label="sources along {along}">'
            f"{self._drawn(shapes)}</svg>"
        )

    # ---------------------------------------------------------------------------- tokens and cells

    @cached_property
    def _lengths(self) -> NDArray[np.float64]:
        """(T,) relative phrase lengths: 0 for a single token, 1 for the whole image."""
        spans = np.maximum(self.traced.spans, 1)
        return np.asarray(np.log(spans) / max(math.log(len(spans)), 1e-9))

    @cached_property
    def _ranks(self) -> dict[int, int]:
        """Rank of each cluster among the named sources."""
        return {source.cluster: rank for rank, source in enumerate(self.traced.sources)}

    def _chosen(self, part: slice, cell_T: Ints, num_cells: int) -> Ints:
        """Return (num_cells,) the token that represents each cell; -1 where no token has a source.

        Of the source that most tokens of the cell are credited to (ties to the smallest cluster),
        the first token of the longest phrase.
        """
        clusters = self.traced.clusters[part].astype(np.int64)
        spans = self.traced.spans[part]
        chosen = np.full(num_cells, -1, dtype=np.int64)
        seen = np.flatnonzero(clusters >= 0)
        if not seen.size:
            return chosen
        many = int(clusters.max()) + 1
        pairs, counts = np.unique(cell_T[seen] * many + clusters[seen], return_counts=True)
        source = np.full(num_cells, -1, dtype=np.int64)
        order = np.lexsort((-pairs, counts))  # the best token of a cell is written last
        source[pairs[order] // many] = pairs[order] % many
        own = seen[clusters[seen] == source[cell_T[seen]]]
        order = np.lexsort((-own, spans[own]))
        chosen[cell_T[own[order]]] = own[order] + part.start
        return chosen

    def _keys(self, chosen: Ints, told_T: NDArray[np.integer[Any]]) -> Ints:
        """Return (T,) keys that are equal for tokens of one shape; -1 for tokens without source.

        Tokens of one shape have the same document, displacement and tooltip; keys count from 0.
        """
        tokens = chosen[chosen >= 0]
        keys = np.full(chosen.shape, -1, dtype=np.int64)
        if tokens.size:
            length = len(self.traced.spans)
            moved = self.traced.positions[tokens].astype(np.int64) - tokens + length
            places = self.traced.documents[tokens].astype(np.int64) * (2 * length + 1) + moved
            _, place = np.unique(places, return_inverse=True)
            keys[chosen >= 0] = place.ravel() * (int(told_T.max()) + 1) + told_T[tokens]
        return keys

    def _color(self, token: int) -> str:
        rank = self._ranks.get(int(self.traced.clusters[token]))
        return "sx" if rank is None else f"s{rank}"

    # --------------------------------------------------------------------------------------- words

    def _title(self, tokens: Ints) -> str:
        """Return the tooltip of a shape: source, phrase lengths, and place in the source."""
        spans = self.traced.spans[tokens]
        low, high = int(spans.min()), int(spans.max())
        count = f"{high:,}" if low == high else f"{low:,} to {high:,}"  # adjacent phrases
        first = int(tokens.flat[0])
        noun = "token" if high == 1 else "tokens"
        return f"{self._name(first)}, {count} {noun} from {self._place(first)}"

    def _name(self, token: int) -> str:
        rank = self._ranks.get(int(self.traced.clusters[token]))
        name = f"training image {self.traced.documents[token]}"
        if rank is None:
            return name
        source = self.traced.sources[rank]
        key = f"'{source.metadata['key']}'"
        is_other = source.document != self.traced.documents[token]
        return f"{name}, near-duplicate of {key}" if is_other else f"{name} {key}"

    def _place(self, token: int) -> str:
        """Return row and column (or rank) in the source, and the displacement, in words."""
        source, layout = int(self.traced.positions[token]), self.layout
        if not layout.is_picture:
            moved = "same place" if source == token else f"moved by {token - source:+d}"
            return f"token {source + 1}, {moved}"
        row, column = int(layout.row[source]), int(layout.column[source])
        place = f"row {row} column {column}"
        if layout.level[source] != layout.level[token]:
            return f"{place} of level {layout.level[source]}"
        if source == token:
            return f"{place}, same place"
        right, down = int(layout.column[token]) - column, int(layout.row[token]) - row
        if right == down == 0:
            return f"{place}, another channel"
        return f"{place}, moved by ({right:+d}, {down:+d})"

    # ------------------------------------------------------------------------------------- drawing

    def _drawn(self, shapes: Sequence[_Shape]) -> Markup:
        """Draw the largest shapes with their tooltips, the others as one path per colour."""
        ordered = sorted(shapes, key=lambda shape: -shape.width * shape.height)
        parts = [
            f'<rect class="{shape.classes}" x="{shape.x}" y="{shape.y:.3g}" '
            f'width="{shape.width}" height="{shape.height:.3g}">'
            f"<title>{escape(shape.title)}</title></rect>"
            for shape in ordered[:_MAX_TITLES]
        ]
        groups: dict[str, list[_Shape]] = {}
        for shape in ordered[_MAX_TITLES:]:
            groups.setdefault(shape.classes, []).append(shape)
        for classes, group in sorted(groups.items()):
            named = not classes.startswith("sx")
            title = self._name(group[0].token) if named else "other training images"
            path = "".join(
                f"M{shape.x} {shape.y:.3g}h{shape.width}v{shape.height:.3g}h{-shape.width}z"
                for shape in group
            )
            parts.append(
                f'<path class="{classes}" d="{path}"><title>{escape(title)}</title></path>'
            )
        return Markup("".join(parts))


def merged(keys_HW: Ints) -> list[tuple[int, int, int, int]]:
    """Return rectangles (row, column, rows, columns) of equal keys, without key -1.

    Runs of a row first, then runs of the same place and key below each other.

    >>> merged(np.array([[1, 1, 2], [1, 1, -1]]))
    [(0, 0, 2, 2), (0, 2, 1, 1)]
    """
    found: list[tuple[int, int, int, int]] = []
    above: dict[tuple[int, int, int], int] = {}
    for y, row in enumerate(keys_HW):
        starts = np.flatnonzero(np.diff(row, prepend=row[0] - 1))
        ends = np.append(starts[1:], len(row))
        here: dict[tuple[int, int, int], int] = {}
        for x, end, key in zip(starts.tolist(), ends.tolist(), row[starts].tolist(), strict=True):
            if key < 0:
                continue
            run = (x, end - x, key)
            if run in above:
                place = above[run]
                top, _, rows, _ = found[place]
                found[place] = (top, x, rows + 1, end - x)
            else:
                place = len(found)
                found.append((y, x, 1, end - x))
            here[run] = place
        above = here
    return found
