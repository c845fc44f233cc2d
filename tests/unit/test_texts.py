"""The text modality: reading, near-duplicates, samples as JSON lines, highlighted sources."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.texts.decode import UnreadableText, decode_text
from imagegram.texts.highlight import MARGIN, Passage, Run, coded, highlighted, visible
from imagegram.texts.near_duplicates import SketchSearch, cluster_labels
from imagegram.texts.samples import read_texts, write_texts
from imagegram.texts.sketches import NUM_VALUES, num_equal, similarity, sketch_texts

# ------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"\xef\xbb\xbf", "blank"),
        (" \n\t\u2003\r\n".encode(), "blank"),
        (b"a\0b", "binary"),
        ("text".encode("utf-16"), "not_utf8"),
        ("caf\xe9".encode("latin-1"), "not_utf8"),
        (b"cut \xf0\x9f\x98", "not_utf8"),
        ("\ud83d alone".encode("utf-8", "surrogatepass"), "lone_surrogate"),
        (b"a" * 11, "too_large"),
    ],
)
def test_what_is_no_text_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableText) as refused:
        decode_text(data, max_bytes=10)
    assert refused.value.reason == reason


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")))
def test_text_is_read_as_it_was_written(text: str) -> None:
    if text.strip() and not text.startswith("\ufeff"):
        assert decode_text(text.encode()) == text
        assert decode_text(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()) == text


# ------------------------------------------------------------------------------- near-duplicates

WORDS = st.sampled_from([f"w{n}" for n in range(30)])


def phrases(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def test_equal_values_estimate_the_similarity_of_phrases() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{n}" for n in rng.integers(0, 5000, 3000)]
    for changed in (10, 60, 200, 600):
        other = list(words)
        for place in rng.choice(len(words), changed, replace=False):
            other[place] = "changed"
        mine, others = phrases(words), phrases(other)
        truth = len(mine & others) / len(mine | others)
        one, two = sketch_texts([" ".join(words), " ".join(other)])
        spread = (truth * (1 - truth) / NUM_VALUES) ** 0.5
        assert abs(float(similarity(one, two[None])[0]) - truth) < 4 * spread + 1e-9


def test_short_texts_and_texts_without_words_have_sketches_of_their_own() -> None:
    texts = ["one two", "one", "!!!", "???", "", "one two three four five"]
    assert len(np.unique(sketch_texts(texts), axis=0)) == len(texts)
    assert (sketch_texts(["!!!"]) == sketch_texts([" !!! "])).all()


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.sampled_from([0.05, 0.3, 0.5, 0.76, 0.8, 0.99, 1.0]),
)
def test_bands_find_every_pair_that_is_similar_enough(seed: int, count: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**32, (3, NUM_VALUES), dtype=np.uint32)
    sketches = base[rng.integers(0, 3, count)]
    for sketch in sketches:  # some values of each are others, from none to nearly all
        places = rng.permutation(NUM_VALUES)[: rng.integers(0, NUM_VALUES)]
        sketch[places] = rng.integers(0, 2**32, len(places), dtype=np.uint32)
    search = SketchSearch.over(sketches, similarity=least)
    equal = (sketches[:, None] == sketches[None]).sum(axis=2) >= num_equal(least)
    for sketch, near in zip(sketches, equal, strict=True):
        np.testing.assert_array_equal(search.neighbours(sketch), np.flatnonzero(near))
    labels = np.arange(count)
    for _ in range(count):  # the lowest label spreads along the pairs
        labels = np.array([labels[near].min() for near in equal])
    np.testing.assert_array_equal(cluster_labels(sketches, similarity=least), labels)


def test_no_sketches_have_no_clusters() -> None:
    assert len(cluster_labels(sketch_texts([]), similarity=0.8)) == 0
    nothing = SketchSearch.over(sketch_texts([]), similarity=0.8)
    assert len(nothing.neighbours(sketch_texts(["a"])[0])) == 0


# ----------------------------------------------------------------------------------------- samples


@given(st.lists(st.text()))
def test_samples_come_back_whatever_they_hold(texts: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        write_texts(path, texts)
        assert read_texts(path) == texts
        assert len(path.read_bytes().splitlines()) == len(texts)


# --------------------------------------------------------------------------------------- highlights

NASTY = (
    '<script>alert("1")</script> & \' \u202egnp.exe\u202c \u2066x\u2069 \x1b[31m \x07 \ufeff \ud800'
)


class Seen(HTMLParser):
    """What a browser would make of a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(markup: str) -> Seen:
    seen = Seen()
    seen.feed(str(markup))
    seen.close()
    return seen


def test_nothing_in_a_text_acts_as_markup_or_turns_the_page() -> None:
    runs = [Run(start=0, end=30, length=7, rank=0, title=f'"{NASTY}')]
    seen = parsed(highlighted(NASTY, runs, longest=10) + Passage.of(NASTY, 0, 5).marked(rank=None))
    assert {tag for tag, _ in seen.tags} == {"span"}
    assert all(set(attributes) <= {"class", "title"} for _, attributes in seen.tags)
    titles = [attributes.get("title") or "" for _, attributes in seen.tags]
    for text in (seen.text, *titles):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]", text)
        text.encode()  # a page can be written
    assert "<script>" in seen.text
    assert "U+202E" in seen.text


@given(st.text(), st.data())
def test_highlighting_keeps_every_character_once(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    runs = [
        Run(start=start, end=end, length=3, rank=rank % 3 or None, title="")
        for rank, (start, end) in enumerate(zip(cuts[::2], cuts[1::2], strict=False))
    ]
    plain = parsed(visible(text)).text
    assert parsed(highlighted(text, runs, longest=8)).text == plain
    assert re.sub(r"\[(U\+[0-9A-F]+)\]", r"\1", coded(text)) == plain


def test_emoji_scripts_and_line_ends_are_shown_as_they_are() -> None:
    text = "e\u0301 \u05e9\u05dc\u05d5\u05dd 👩\u200d🔬\n\tmi\u200cr"
    assert visible(text) == text


def test_runs_that_overlap_are_refused() -> None:
    runs = [
        Run(start=0, end=3, length=1, rank=0, title=""),
        Run(start=2, end=4, length=1, rank=1, title=""),
    ]
    with pytest.raises(ValueError, match="does not lie behind character 3"):
        highlighted("abcdef", runs, longest=2)


def test_a_passage_shows_so_much_on_each_side() -> None:
    text = "b" * 1000 + "X" + "a" * 10
    shown = parsed(Passage.of(text, 1000, 1001).marked(rank=2)).text
    assert shown == "… " + "b" * MARGIN + "X" + "a" * 10


def test_a_passage_of_a_part_says_that_the_document_goes_on() -> None:
    part = Passage.of("bXa", 1, 2, more_before=True, more_after=True)
    assert parsed(part.marked(rank=0)).text == "… bXa …"
    assert parsed(Passage.of("bXa", 1, 2).marked(rank=0)).text == "bXa"
