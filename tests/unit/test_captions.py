"""Captions: which ones are drawn, what a text encoder makes of them, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram.conditions.captions import (
    CaptionCondition,
    DrawnCaptions,
    GivenCaptions,
    OwnCaptions,
)
from imagegram.conditions.drawn import with_documents
from imagegram.conditions.prompt import PromptCondition
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.models.cores import one_core
from imagegram.seeding import document_order
from imagegram.stages.captions import EmbedCaptions, embed_asked, refuse_long
from imagegram.stages.generate import select_documents, write_captions
from imagegram.store.fingerprint import identity
from imagegram.training.captions import CaptionedItems, dropped, parted
from tests.pictures import context
from tests.sentence_encoders import write_encoder
from tests.token_shards import FakeTokens, FakeTokenShard

LABELS = ("a cat", None, "a dog", " a cat ", "  ", "an owl", "a dog")
ASKED = CaptionCondition(name="caption", key="label")


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEmbedder:
    folder = write_encoder(tmp_path_factory.mktemp("encoder"), width=8)
    return SentenceEmbedder(folder=str(folder), max_tokens=6, dtype="float32")


def documents(folder: Path, labels: tuple[str | None, ...]) -> Any:
    rows = tuple((number % 256, 1, 2) for number in range(len(labels)))
    shard = FakeTokenShard(rows=rows, labels=labels)
    return context(folder).make(FakeTokens(parts=(shard,)))


def numbers(count: int, first: int = 0) -> Any:
    return np.arange(first, first + count, dtype=np.uint64)


# ------------------------------------------------------------------------------ which ones


def test_samples_take_captions_of_documents_in_the_order_that_measures_them(tmp_path: Path) -> None:
    tokens = documents(tmp_path, LABELS)
    drawn = ASKED.drawn(tokens=tokens, holdout=tokens, seed=3)
    order = [each for each in select_documents(7, 3).tolist() if each not in (1, 4)]
    assert drawn.documents_of(numbers(5)).tolist() == order
    assert drawn.texts_of(numbers(5)) == [(LABELS[each] or "").strip() for each in order]
    far = numbers(5, first=5 * 2**61)  # again and again
    assert drawn.documents_of(far).tolist() == order
    assert drawn.documents_of(numbers(2, first=3)).tolist() == order[3:]
    np.testing.assert_array_equal(document_order(7, 3), select_documents(7, 3))


def test_held_out_captions_are_those_of_held_out_documents(tmp_path: Path) -> None:
    tokens, holdout = documents(tmp_path, LABELS), documents(tmp_path, ("a bee", "a cat"))
    held_out = CaptionCondition(name="caption", key="label", captions="held_out")
    drawn = held_out.drawn(tokens=tokens, holdout=holdout, seed=0)
    assert set(drawn.texts_of(numbers(4))) == {"a bee", "a cat"}
    assert write_captions(tmp_path, drawn, numbers(4)) == {
        "num_captions": 2,
        "captions_in_training": 2,
        "captions_of": "held_out",
    }
    lines = (tmp_path / "captions.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert np.load(tmp_path / "caption_documents.npy").tolist() == [
        *drawn.documents_of(numbers(4)).tolist()
    ]
    training = ASKED.drawn(tokens=tokens, holdout=holdout, seed=0)
    assert identity(drawn) != identity(training)
    assert identity(training) == identity(ASKED.drawn(tokens=tokens, holdout=tokens, seed=0))
    assert write_captions(tmp_path, None, numbers(4)) == {}


def test_a_corpus_without_captions_is_refused_with_its_keys(tmp_path: Path) -> None:
    tokens = documents(tmp_path, (None, None))
    empty = documents(tmp_path, ())
    with pytest.raises(ConfigError, match=r"no captions are in the corpus: none of 2 images has"):
        CaptionCondition(name="caption", key="name").drawn(
            tokens=tokens, holdout=empty, seed=0
        ).texts_of(numbers(1))
    with pytest.raises(ConfigError, match=r"the keys there: place\. Type condition\.key=KEY"):
        _ = ASKED.drawn(tokens=tokens, holdout=empty, seed=0).order
    held_out = CaptionCondition(name="caption", captions="held_out")
    with pytest.raises(ConfigError, match=r"holds none out; type condition\.captions=training"):
        _ = held_out.drawn(tokens=tokens, holdout=empty, seed=0).order


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CaptionCondition(name="c", captions="train"), "did you mean .training."),
        (lambda: CaptionCondition(name="c", key=""), "type condition.key=caption"),
        (lambda: GivenCaptions(texts=("a cat", " "), key="caption"), "text 2 .* is empty"),
    ],
)
def test_what_asks_for_nothing_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_given_texts_are_captions_where_a_generator_reads_some(tmp_path: Path) -> None:
    tokens = documents(tmp_path, LABELS)
    sets: Any = {"tokens": tokens, "holdout": tokens, "seed": 0}
    prompt = PromptCondition(name="prompt", texts=("a red bus", "a cat"))
    found = with_documents(prompt, captions="caption", **sets)
    assert isinstance(found, GivenCaptions)
    assert found.texts_of(numbers(3)) == ["a red bus", "a cat", "a red bus"]
    assert with_documents(prompt, captions=None, **sets) is prompt
    assert with_documents(None, captions="caption", **sets) is None
    assert isinstance(with_documents(ASKED, captions=None, **sets), DrawnCaptions)


def test_another_caption_is_never_the_own_one(tmp_path: Path) -> None:
    drawn = ASKED.drawn(tokens=documents(tmp_path, LABELS), holdout=None, seed=0)  # type: ignore[arg-type]
    own = OwnCaptions.of([{"info": {"label": text}} for text in LABELS], drawn)
    assert own.texts[:2] == ("a cat", None)
    assert all(text != other for text, other in zip(own.texts, own.others, strict=True))
    assert own.others[0] == own.others[3]  # decided by the own caption alone
    alone = OwnCaptions.of([{"info": {"label": "a"}}], GivenCaptions(texts=("a",), key="label"))
    assert alone.others == ()


# ---------------------------------------------------------------------------------- embedded


def test_captions_are_embedded_once_and_found_by_their_text(
    embedder: SentenceEmbedder, tmp_path: Path
) -> None:
    texts = ("a dog", "a cat", "a cat", "the quick brown fox jumps over the lazy dog")
    made_in = context(tmp_path)
    table = made_in.make(EmbedCaptions(texts=texts, embedder=embedder))
    assert (table.artifact.facts["num_captions"], table.num_cut) == (3, 1)
    assert made_in.make(EmbedCaptions(texts=texts[::-1], embedder=embedder)) == table
    there = pickle.loads(pickle.dumps(table))
    found = there.find(["a dog", "a bird", None, texts[-1]])
    assert found.tolist()[1:3] == [-1, -1]
    rows = there.gather(found)
    assert rows.states.shape == (4, 6, 8)
    assert rows.there.sum(axis=1).tolist()[1:] == [0, 0, 6]
    asked = embed_asked(["a dog", None, "a bird", texts[-1]], embedder)
    np.testing.assert_array_equal(asked.there[[0, 1, 3]], rows.there[[0, 1, 3]])
    np.testing.assert_array_equal(asked.states[[0, 3]], rows.states[[0, 3]])
    assert (rows.states[~rows.there] == 0).all()
    assert np.abs(rows.states[rows.there].astype(float)).max() > 0.1


def test_states_are_what_the_vector_is_the_mean_of(embedder: SentenceEmbedder) -> None:
    (states_LD,), _ = embedder.states(["a small dog"])
    mean = states_LD.astype(np.float64).mean(axis=0)
    vector = embedder.encode(["a small dog"])[0]
    np.testing.assert_allclose(mean / np.linalg.norm(mean), vector, atol=2e-3)
    assert embedder.dim == states_LD.shape[1]


def test_a_typed_caption_that_would_be_cut_is_refused(embedder: SentenceEmbedder) -> None:
    refuse_long(["a dog"], embedder, setting="generator.embedder.max_tokens")
    with pytest.raises(ConfigError, match=r"caption .* longer than the 6 tokens .*max_tokens=12"):
        refuse_long(["a dog", "word " * 30], embedder, setting="generator.embedder.max_tokens")


def test_items_carry_the_states_of_their_captions(
    embedder: SentenceEmbedder, tmp_path: Path
) -> None:
    class Rows:
        def __len__(self) -> int:
            return 3

        def gather(self, rows: Any) -> Any:
            return np.array([[1, 2], [3, 4], [5, 6]], np.uint16)[rows]

        def identity(self) -> Any:
            return "rows"

    table = context(tmp_path).make(EmbedCaptions(texts=("a dog", "a cat"), embedder=embedder))
    captioned = table.find(["a cat", None, "a dog"])
    items = CaptionedItems(items=Rows(), table=table, numbers=captioned)
    ids, text = parted(items.gather(np.array([2, 1])))
    assert ids.tolist() == [[5, 6], [3, 4]]
    np.testing.assert_array_equal(text.there, table.gather(captioned[[2, 1]]).there)
    np.testing.assert_array_equal(text.states, table.gather(captioned[[2, 1]]).states)
    many = table.gather(np.zeros(4000, np.int64))
    kept = dropped(many, 0.25, np.random.default_rng(0)).there.any(axis=1)
    assert 0.72 < kept.mean() < 0.78
