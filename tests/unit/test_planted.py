from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.layout import TokenLayout
from imagegram.stages.generate import select_documents
from imagegram.stages.planted import RECIPES, Planted, parse_recipe, quarters
from imagegram.store.fingerprint import digest, identity
from tests.image_sets import LAYOUT, MemoryTokens, random_tokens

TRAIN = MemoryTokens(shards=[random_tokens(70, seed=0), random_tokens(30, seed=1)])
HOLDOUT = MemoryTokens(shards=[random_tokens(60, seed=2)])


def planted(recipe: str, **changes: object) -> Planted:
    fields: dict[str, object] = {
        "recipe": recipe,
        "train": TRAIN,
        "holdout": HOLDOUT,
        "layout": LAYOUT,
        "num_documents": 40,
        "seed": 3,
    }
    return Planted(**fields | changes)  # type: ignore[arg-type]


def in_order(tokens: MemoryTokens) -> np.ndarray:
    return tokens.all[select_documents(tokens.num_documents, 3)]


@pytest.mark.parametrize(("percent", "copies"), [(1, 1), (5, 2), (20, 8), (100, 40)])
def test_as_many_copies_are_planted_as_were_asked_for(percent: int, copies: int) -> None:
    source = planted(f"copies_{percent}")
    rows = source.gather(np.arange(40))
    assert source.num_copied == copies
    np.testing.assert_array_equal(rows[:copies], in_order(TRAIN)[:copies])
    np.testing.assert_array_equal(rows[copies:], in_order(HOLDOUT)[copies:40])


def test_any_rows_can_be_asked_for_in_any_order() -> None:
    for recipe in RECIPES:
        source = planted(recipe)
        rows = np.array([7, 0, 39, 7])
        np.testing.assert_array_equal(source.gather(rows), source.gather(np.arange(40))[rows])


def test_a_collage_has_a_quarter_of_each_of_four_training_images() -> None:
    row = planted("collages").gather([5])[0]
    sources = in_order(TRAIN)[[5, 6, 7, 8]]
    quarter = quarters(LAYOUT)
    for part in range(4):
        np.testing.assert_array_equal(row[quarter == part], sources[part][quarter == part])
    # The level of one cell belongs to the first quarter, that of 2 x 2 cells has one each.
    assert quarter.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("layout", [TokenLayout.pyramid((1, 2, 5)), TokenLayout.sequence(6)])
def test_quarters_are_four_and_of_their_place(layout: TokenLayout) -> None:
    quarter = quarters(layout)
    assert set(quarter.tolist()) == {0, 1, 2, 3}
    for t in range(layout.num_tokens):
        height, width = layout.heights[layout.level[t]], layout.widths[layout.level[t]]
        if height > 1:
            expected = 2 * (layout.row[t] >= height / 2) + (layout.column[t] >= width / 2)
        else:
            expected = int(4 * layout.column[t] / width)
        assert quarter[t] == expected


def test_shuffling_moves_tokens_inside_their_level_and_channel_only() -> None:
    rows = planted("shuffled").gather(np.arange(40))
    real = in_order(HOLDOUT)[:40]
    assert (rows != real).any(axis=1).all()
    for level in range(LAYOUT.num_levels):
        for channel in range(LAYOUT.num_channels):
            where = (LAYOUT.level == level) & (LAYOUT.channel == channel)
            np.testing.assert_array_equal(
                np.sort(rows[:, where], axis=1), np.sort(real[:, where], axis=1)
            )


def test_what_was_planted_is_its_identity() -> None:
    first = digest(identity(planted("copies_5")))
    assert first == digest(identity(planted("copies_5")))
    for changes in ({"recipe": "copies_6"}, {"num_documents": 41}, {"seed": 4}, {"holdout": TRAIN}):
        recipe = str(changes.pop("recipe", "copies_5"))
        assert digest(identity(planted(recipe, **changes))) != first


@pytest.mark.parametrize("recipe", ["colages", "copies_0", "copies_101", "copies", ""])
def test_an_unknown_recipe_is_refused_with_what_there_is(recipe: str) -> None:
    with pytest.raises(ConfigError, match="copies_N"):
        parse_recipe(recipe)


class CutTokens(MemoryTokens):
    """Rows of which two and two are windows of one document."""

    is_cut = True

    def document_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows // 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_of_one_document_are_known(recipe: str) -> None:
    train, holdout = CutTokens(TRAIN.shards), CutTokens(HOLDOUT.shards)
    source = planted(recipe, train=train, holdout=holdout)
    assert not planted(recipe).is_cut
    assert source.is_cut == (recipe != "collages")
    if not source.is_cut:
        return
    rows = np.array([7, 0, 39, 7, 1])
    copied = rows < source.num_copied
    expected = select_documents(60, 3)[rows] // 2
    expected[copied] = 60 + select_documents(100, 3)[rows[copied]] // 2  # no held-out document
    np.testing.assert_array_equal(source.document_of(rows), expected)
