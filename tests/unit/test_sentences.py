"""Sentences that join to their text, and their vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.encoders import sentences as encoders
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError, MissingDependencyError
from imagegram.store.fingerprint import identity
from imagegram.texts import sentences as texts
from imagegram.texts.sentences import SPLITTERS, sentence_spans, split_sentences
from tests.documents import STORIES
from tests.sentence_encoders import write_encoder

AWKWARD = [
    "",
    " ",
    "\n\n a",
    "no end",
    "One. Two.",
    " One.  Two. \n\n\nThree",
    "a\0b. C.",
    "مرحبا. كيف حالك؟",
    "👩\u200d🔬 ran. \u202eabc. Café",
    'He said "no."\r\nAnd left...',
    "<c0_0001> is text. So is <|endoftext|>.",
    "!" * 3000,
]


@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize("text", AWKWARD)
def test_sentences_join_to_the_text_and_end_with_their_white_space(
    text: str, splitter: str
) -> None:
    sentences = split_sentences(text, splitter=splitter)
    assert "".join(sentences) == text
    assert all(sentences)
    assert all(not one[0].isspace() for one in sentences[1:])
    if text.strip():
        assert all(one.strip() for one in sentences)


@given(st.text(st.sampled_from("aB. \n!?\"'\u3000é"), max_size=60))
def test_any_text_is_covered(text: str) -> None:
    spans = sentence_spans(text)
    assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]]
    assert "".join(text[start:stop] for start, stop in spans) == text


def test_sentences_end_where_they_should() -> None:
    text = 'Mr. Fox met Dr. Hen at 3.5 p.m. on Sunday. "Well!" she said. They went home.'
    assert len(split_sentences(text)) == 3
    assert len(split_sentences(STORIES[3])) == 3


def test_a_long_text_is_split_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(STORIES) + "\n" + "word" * 40
    whole = split_sentences(text)
    monkeypatch.setattr(texts, "_WHOLE", 200)
    pieces = split_sentences(text)
    assert "".join(pieces) == "".join(whole) == text
    assert max(map(len, pieces)) <= 200


def test_splitters_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="did you mean 'nupunkt'"):
        split_sentences("a", splitter="nupunk")
    monkeypatch.setattr(texts, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'imagegram\[sentences\]'"):
        split_sentences("a")


# ---------------------------------------------------------------------------------------- vectors


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEmbedder:
    folder = write_encoder(tmp_path_factory.mktemp("encoder"))
    return SentenceEmbedder(folder=str(folder), max_tokens=32)


def test_vectors_are_those_of_transformers(embedder: SentenceEmbedder) -> None:
    """The slow reference: one sentence at a time, without padding, in float32."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    exact = SentenceEmbedder(folder=embedder.folder, dtype="float32", max_tokens=32)
    model = AutoModel.from_pretrained(embedder.folder).eval()
    pieces = Tokenizer.from_file(f"{embedder.folder}/tokenizer.json")
    sentences = [one for story in STORIES for one in split_sentences(story)]
    found, was_cut = exact.embed(sentences)
    assert found.dtype == np.float32
    assert not was_cut.any()
    for sentence, vector in zip(sentences, found, strict=True):
        ids = torch.tensor([pieces.encode(sentence.strip()).ids])
        with torch.inference_mode():
            mean = model(input_ids=ids).last_hidden_state.mean(1)[0]
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)
    coarse, _ = embedder.embed(sentences)
    assert (coarse * found).sum(axis=1).min() > 0.999


def test_a_vector_depends_on_its_sentence_alone(embedder: SentenceEmbedder) -> None:
    sentences = [*AWKWARD, *STORIES, *split_sentences(STORIES[3])]
    vectors, was_cut = embedder.embed(sentences)
    order = np.random.default_rng(0).permutation(len(sentences)).tolist()
    shuffled, _ = embedder.embed([sentences[row] for row in order], workers=2)
    np.testing.assert_array_equal(shuffled, vectors[order])
    for sentence, vector, cut in zip(sentences, vectors, was_cut, strict=True):
        alone, (is_cut,) = embedder.embed([f"\n {sentence} "])
        np.testing.assert_array_equal(alone[0], vector)
        assert is_cut == cut
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert embedder.embed([])[0].shape == (0, 32)


def test_what_is_too_long_is_cut_and_counted(embedder: SentenceEmbedder) -> None:
    long, short = "the king " * 100, "the king"
    vectors, was_cut = embedder.embed([long, short, "the king " * 15, "x" * 10_000_000])
    assert was_cut.tolist() == [True, False, False, True]
    np.testing.assert_array_equal(vectors[0], embedder.embed(["the king " * 50])[0][0])


def test_an_embedder_is_known_by_its_content(embedder: SentenceEmbedder, tmp_path: Path) -> None:
    copy = write_encoder(tmp_path / "copy")
    other = write_encoder(tmp_path / "other", seed=1)
    how = {"max_tokens": 32}
    assert identity(SentenceEmbedder(folder=str(copy), **how)) == identity(embedder)  # type: ignore[arg-type]
    assert identity(SentenceEmbedder(folder=str(other), **how)) != identity(embedder)  # type: ignore[arg-type]


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        SentenceEmbedder(folder=str(tmp_path / "nowhere")).check_machine()
    with pytest.raises(ConfigError, match=r"has no config\.json, model\.safetensors"):
        SentenceEmbedder(folder=str(tmp_path)).check_machine()
    with pytest.raises(ConfigError, match="did you mean 'bfloat16'"):
        SentenceEmbedder(dtype="bfloat")
    with pytest.raises(ConfigError, match="max_tokens=2"):
        SentenceEmbedder(max_tokens=2)
    monkeypatch.setattr(encoders, "MINILM", "gt_no_such_package")
    with pytest.raises(MissingDependencyError, match=r"pip install 'imagegram\[sentences\]'"):
        SentenceEmbedder().check_machine()
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="transformers"):
        SentenceEmbedder().check_machine()


def test_minilm_is_that_of_the_wheel_and_near_in_bfloat16() -> None:
    pytest.importorskip(encoders.MINILM)
    sentences = ["The wolf ran into the wood.", "A wolf was running in the forest.", "Add salt."]
    exact, _ = SentenceEmbedder(dtype="float32").embed(sentences)
    coarse, _ = SentenceEmbedder().embed(sentences)
    assert (exact * coarse).sum(axis=1).min() > 0.999
    near = exact @ exact.T
    assert near[0, 1] > 0.7 > 0.3 > near[0, 2]
