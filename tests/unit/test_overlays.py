from __future__ import annotations

import re
from html import unescape
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imagegram.layout import TokenLayout
from imagegram.report import overlays
from imagegram.report.overlays import ProvenancePainter, merged
from imagegram.report.provenance import Source, TracedSample

LAYOUT = TokenLayout.pyramid((2, 4))
NUM_NAMED = 2


def traced_of(
    clusters: np.ndarray, documents: np.ndarray, positions: np.ndarray, spans: np.ndarray
) -> TracedSample:
    """Named are clusters 0 and 1, by keys ``zero`` and ``one``."""
    sources = tuple(
        Source(
            cluster=cluster,
            document=cluster,
            num_tokens=1,
            share=0.1,
            metadata={"key": key},
            image=None,
        )
        for cluster, key in enumerate(("zero", "one"))
    )
    return TracedSample(
        sample=0,
        num_sources=4,
        drawn_share=None,
        sources=sources,
        clusters=clusters.astype(np.int32),
        documents=documents.astype(np.int32),
        positions=positions.astype(np.int32),
        spans=spans.astype(np.int32),
    )


def copied(layout: TokenLayout, document: int = 0, moved: int = 0) -> TracedSample:
    """All tokens are those of one document, each ``moved`` tokens further on in it."""
    length = layout.num_tokens
    whole = np.full(length, document)
    return traced_of(whole, whole, np.arange(length) + moved, np.full(length, length))


@st.composite
def samples(draw: Any, layout: TokenLayout = LAYOUT) -> TracedSample:
    length = layout.num_tokens
    clusters = draw(arrays(np.int64, length, elements=st.integers(-1, 3)))
    documents = np.where(clusters < 0, -1, clusters + 10 * draw(st.integers(0, 1)))
    positions = draw(arrays(np.int64, length, elements=st.integers(0, length - 1)))
    spans = draw(arrays(np.int64, length, elements=st.integers(1, length)))
    seen = clusters >= 0
    return traced_of(clusters, documents, np.where(seen, positions, -1), np.where(seen, spans, 0))


def slow_cells(traced: TracedSample, layout: TokenLayout, level: int) -> dict[tuple[int, int], int]:
    """The token that stands for every cell, by counting."""
    chosen = {}
    for row in range(layout.heights[level]):
        for column in range(layout.widths[level]):
            own = [
                t
                for t in range(layout.num_tokens)
                if (layout.level[t], layout.row[t], layout.column[t]) == (level, row, column)
                and traced.clusters[t] >= 0
            ]
            counts = {int(traced.clusters[t]): 0 for t in own}
            for t in own:
                counts[int(traced.clusters[t])] += 1
            if own:
                best = min(counts, key=lambda cluster: (-counts[cluster], cluster))
                own = [t for t in own if traced.clusters[t] == best]
                chosen[row, column] = min(own, key=lambda t: (-traced.spans[t], t))
    return chosen


def rectangles(svg: str) -> list[tuple[str, float, float, float, float, str]]:
    """Class, x, y, width, height and title of every rectangle."""
    found = re.findall(
        r'<rect class="([^"]*)" x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)">'
        r"<title>([^<]*)</title></rect>",
        svg,
    )
    return [(c, *map(float, numbers), unescape(title)) for c, *numbers, title in found]  # type: ignore[misc]


@given(samples(), st.integers(0, 1))
def test_every_cell_has_the_source_of_most_of_its_tokens(traced: TracedSample, level: int) -> None:
    svg = str(ProvenancePainter(traced=traced, layout=LAYOUT).overlay(level))
    drawn: dict[tuple[int, int], tuple[str, str]] = {}
    for classes, x, y, width, height, title in rectangles(svg):
        for row in range(int(y), int(y + height)):
            for column in range(int(x), int(x + width)):
                assert (row, column) not in drawn
                drawn[row, column] = (classes, title)
    expected = slow_cells(traced, LAYOUT, level)
    assert drawn.keys() == expected.keys()
    for place, token in expected.items():
        classes, title = drawn[place]
        cluster = int(traced.clusters[token])
        assert classes.split()[0] == (f"s{cluster}" if cluster < NUM_NAMED else "sx")
        assert title.startswith(f"training image {traced.documents[token]}")
        share = np.log(traced.spans[token]) / np.log(LAYOUT.num_tokens)
        assert classes.split()[1] == f"o{1 + min(int(5 * share), 4)}"


@given(
    arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(-1, 2))
)
def test_merged_rectangles_cover_equal_keys_once(keys_HW: np.ndarray) -> None:
    covered = np.full(keys_HW.shape, -1)
    for y, x, rows, columns in merged(keys_HW):
        block = (slice(y, y + rows), slice(x, x + columns))
        assert (covered[block] == -1).all()
        assert len(np.unique(keys_HW[block])) == 1
        covered[block] = keys_HW[block]
    np.testing.assert_array_equal(covered, keys_HW)


def test_a_copy_is_one_shape_that_says_so() -> None:
    painter = ProvenancePainter(traced=copied(LAYOUT), layout=LAYOUT)
    ((classes, x, y, width, height, title),) = rectangles(painter.overlay(1))
    assert (classes, x, y, width, height) == ("s0 o5", 0, 0, 4, 4)
    assert title == "training image 0 'zero', 60 tokens from row 0 column 0, same place"
    ((classes, *_, height, title),) = rectangles(painter.ribbon(1))
    assert (classes, height) == ("s0", 10)
    assert title.startswith("training image 0 'zero', 60 tokens")


@pytest.mark.parametrize(
    ("moved", "place"),
    [
        (-3, "row 1 column 0, moved by (+1, +0)"),
        (-12, "row 0 column 1, moved by (+0, +1)"),
        (1, "row 1 column 1, another channel"),
        (-24, "row 0 column 1 of level 0"),
    ],
)
def test_a_title_says_how_far_a_phrase_was_moved(moved: int, place: str) -> None:
    traced = copied(LAYOUT, moved=moved)
    token = int(np.flatnonzero((LAYOUT.level == 1) & (LAYOUT.row == 1) & (LAYOUT.column == 1))[0])
    only = np.arange(LAYOUT.num_tokens) == token
    traced = traced_of(
        np.where(only, 3, -1),
        np.where(only, 17, -1),
        np.where(only, traced.positions, -1),
        np.where(only, 1, 0),
    )
    ((classes, *_, title),) = rectangles(ProvenancePainter(traced=traced, layout=LAYOUT).overlay(1))
    assert classes == "sx o1"
    assert title == f"training image 17, 1 token from {place}"


def test_a_near_duplicate_of_a_named_source_says_whose() -> None:
    length = LAYOUT.num_tokens
    traced = traced_of(
        np.ones(length), np.full(length, 9), np.arange(length), np.full(length, length)
    )
    ((classes, *_, title),) = rectangles(ProvenancePainter(traced=traced, layout=LAYOUT).overlay(0))
    assert classes == "s1 o5"
    assert title.startswith("training image 9, near-duplicate of 'one', ")


@given(samples())
def test_shapes_without_a_title_cover_what_they_did_with_one(traced: TracedSample) -> None:
    painter = ProvenancePainter(traced=traced, layout=LAYOUT)
    whole = rectangles(painter.overlay(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlays, "_MAX_TITLES", 2)
        svg = str(painter.overlay(1))
    areas: dict[str, float] = {}
    for classes, _, _, width, height, _ in [*whole]:
        areas[classes] = areas.get(classes, 0) + width * height
    for classes, _, _, width, height, _ in rectangles(svg):
        areas[classes] -= width * height
    for classes, path in re.findall(r'<path class="([^"]*)" d="([^"]*)">', svg):
        for width, height in re.findall(r"h(\d+)v(\d+)h-", path):
            areas[classes] -= float(width) * float(height)
    assert len(rectangles(svg)) <= 2
    assert not any(areas.values())


def test_a_fine_level_is_drawn_in_blocks_and_a_long_stream_in_bins() -> None:
    layout = TokenLayout.pyramid((160,))
    painter = ProvenancePainter(traced=copied(layout), layout=layout)
    assert painter.size(0) == (54, 54)
    ((_, x, y, width, height, _),) = rectangles(painter.overlay(0))
    assert (x, y, width, height) == (0, 0, 54, 54)
    svg = str(painter.ribbon(0))
    assert 'viewBox="0 0 960 10"' in svg  # 160 x 160 x 3 tokens, 80 a bin
    assert len(rectangles(svg)) == 1


def test_a_stream_has_gaps_where_nothing_was_copied() -> None:
    layout = TokenLayout.sequence(6)
    traced = traced_of(
        np.array([0, 0, -1, 1, 1, 1]),
        np.array([0, 0, -1, 1, 1, 1]),
        np.array([4, 5, -1, 3, 4, 5]),
        np.array([2, 2, 0, 3, 3, 3]),
    )
    bands = rectangles(ProvenancePainter(traced=traced, layout=layout).ribbon(0))
    assert sorted((x, width, classes) for classes, x, _, width, _, _ in bands) == [
        (0, 2, "s0"),
        (3, 3, "s1"),
    ]
    heights = {classes: height for classes, _, _, _, height, _ in bands}
    assert heights["s0"] < heights["s1"] < 10


@pytest.mark.parametrize(
    ("moved", "place"), [(0, "token 1, same place"), (2, "token 3, moved by -2")]
)
def test_a_title_of_ordered_tokens_has_a_rank_and_no_place(moved: int, place: str) -> None:
    layout = TokenLayout.sequence(8)
    painter = ProvenancePainter(traced=copied(layout, moved=moved), layout=layout)
    svg = painter.ribbon(0)
    assert f"from {place}<" in svg
    assert "sources along the tokens in their order" in svg
