"""Sentence codes: quantizers, their stages, and a tokenizer that looks sentences up."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.corpora.document_files import JsonlCorpus
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError, TokenError
from imagegram.plan.planner import StoreSurroundings
from imagegram.plan.rates import Rates
from imagegram.records import EOS_TOKEN_ID
from imagegram.store.fingerprint import identity
from imagegram.texts.sentences import split_sentences
from imagegram.tokenizers.sentence_rvq.quantizers import FORMS, fit_codebooks, quantize, sums
from imagegram.tokenizers.sentence_rvq.tokenizer import SentenceRvqTokenizer
from tests.documents import STORIES, documents
from tests.pictures import context, ids_of
from tests.sentence_encoders import write_encoder
from tests.unit.test_sentences import AWKWARD

K, V, D = 4, 16, 32


def clustered(count: int, *, seed: int = 0) -> np.ndarray:
    """(N, D) unit vectors around some directions, as sentences have."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((20, D))
    vectors = centres[rng.integers(20, size=count)] + 0.7 * rng.standard_normal((count, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module", params=FORMS)
def fitted(request: pytest.FixtureRequest) -> tuple[str, np.ndarray]:
    books = fit_codebooks(
        clustered(800), form=request.param, num_codebooks=K, codebook_size=V, seed=0
    )
    return request.param, books


# -------------------------------------------------------------------------------------- quantizers


def reference(vector: np.ndarray, books: np.ndarray, form: str) -> list[int]:
    """The codes of one vector, by the definition."""
    if form == "beam":
        kept: list[tuple[float, list[int], np.ndarray]] = [(0.0, [], vector)]
        for book in books:
            tried = [
                (float(((left - code) ** 2).sum()), [*codes, number], left - code)
                for _, codes, left in kept
                for number, code in enumerate(book)
            ]
            kept = sorted(tried, key=lambda one: one[0])[:8]
        return kept[0][1]
    codes, left = [], vector
    for book in books:
        if form == "renormalised":
            best = int((book @ left).argmax())
            left = left - book[best]
            left = left / np.linalg.norm(left)
        else:
            best = int(((left - book) ** 2).sum(axis=1).argmin())
            left = left - book[best] if form == "greedy" else left
        codes.append(best)
    return codes


def test_codes_are_those_of_the_definition(fitted: tuple[str, np.ndarray]) -> None:
    form, books = fitted
    vectors = clustered(100, seed=1)
    codes = quantize(vectors, books, form=form)
    expected = [
        reference(one.astype(np.float64), books.astype(np.float64), form) for one in vectors
    ]
    assert (codes == np.array(expected)).all()
    for row in range(0, 100, 9):  # alone as among others
        np.testing.assert_array_equal(
            quantize(vectors[row : row + 1], books, form=form)[0], codes[row]
        )
    assert quantize(vectors[:0], books, form=form).shape == (0, K)


def test_beam_codes_are_those_of_faiss() -> None:
    import faiss

    books = fit_codebooks(clustered(800), form="beam", num_codebooks=K, codebook_size=V, seed=0)
    oracle = faiss.ResidualQuantizer(D, K, 4)
    oracle.max_beam_size = 8
    faiss.copy_array_to_vector(books.ravel(), oracle.codebooks)
    oracle.is_trained = True
    oracle.compute_codebook_tables()
    packed = oracle.compute_codes(clustered(200, seed=1))
    unpacked = np.stack([packed[:, k // 2] >> (4 * (k % 2)) & 15 for k in range(K)], axis=1)
    np.testing.assert_array_equal(
        quantize(clustered(200, seed=1), books, form="beam"), unpacked.astype(np.int64)
    )


def test_errors_fall_with_every_stage(fitted: tuple[str, np.ndarray]) -> None:
    form, books = fitted
    vectors = clustered(300, seed=1)
    far = []
    for count in range(1, K + 1):
        codes = quantize(vectors, books[:count], form=form)
        assert 0 <= codes.min() <= codes.max() < V
        far.append(float(((sums(codes, books, form=form) - vectors) ** 2).sum(axis=1).mean()))
    if form in ("greedy", "opq"):  # a beam may choose what is worse at first; lengths may be lost
        assert far == sorted(far, reverse=True)
    if form != "renormalised":
        assert far[-1] < far[0] < 1


def test_codebooks_do_not_depend_on_the_number_of_threads(fitted: tuple[str, np.ndarray]) -> None:
    import faiss

    form, books = fitted
    before = faiss.omp_get_max_threads()
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        again = fit_codebooks(clustered(800), form=form, num_codebooks=K, codebook_size=V, seed=0)
        np.testing.assert_array_equal(again, books)
        assert faiss.omp_get_max_threads() == threads
    faiss.omp_set_num_threads(before)


def test_stages_of_opq_share_the_dimensions() -> None:
    with pytest.raises(ConfigError, match="num_codebooks=5 does not do"):
        fit_codebooks(clustered(50), form="opq", num_codebooks=5, codebook_size=4, seed=0)


def test_a_missing_code_adds_nothing(fitted: tuple[str, np.ndarray]) -> None:
    form, books = fitted
    whole = sums(np.array([[3, 5]]), books, form=form)
    np.testing.assert_array_equal(sums(np.array([[3, 5, -1, -1]]), books, form=form), whole)


# --------------------------------------------------------------------------------------- tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("codes")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> SentenceRvqTokenizer:
    embedder = SentenceEmbedder(folder=str(write_encoder(folder / "encoder")), max_tokens=24)
    return SentenceRvqTokenizer(
        num_codebooks=K, codebook_size=V, window=3, form="greedy", embedder=embedder
    )


def corpus_of(folder: Path, texts: list[str]) -> JsonlCorpus:
    folder.mkdir(exist_ok=True)
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return JsonlCorpus(files=str(path))


@pytest.fixture(scope="module")
def corpus(folder: Path) -> JsonlCorpus:
    return corpus_of(folder, [*STORIES, *documents(150, seed=5)])


@pytest.fixture(scope="module")
def tokenizer(folder: Path, recipe: SentenceRvqTokenizer, corpus: Any) -> SentenceRvqTokenizer:
    made: SentenceRvqTokenizer = context(folder / "outputs").make(recipe.fit(corpus))
    return made


def test_a_document_is_k_ids_a_sentence(tokenizer: SentenceRvqTokenizer) -> None:
    ids = ids_of(tokenizer, STORIES[3])
    assert ids.dtype == np.uint16
    assert (ids // V).tolist() == list(range(K)) * 3
    assert tokenizer.spec.vocab_size == K * V
    assert tokenizer.spec.ragged
    assert tokenizer.spec.codebooks == tokenizer.spec.layout.num_channels == K
    assert tokenizer.spec.length == 3 * K
    codes, sentence_of = tokenizer.steps(ids)
    np.testing.assert_array_equal(
        codes, tokenizer.quantize(tokenizer.embed(split_sentences(STORIES[3])))
    )
    assert sentence_of.tolist() == [0] * K + [1] * K + [2] * K


def test_training_documents_come_back_where_codes_tell_sentences_apart(
    tokenizer: SentenceRvqTokenizer,
) -> None:
    known = set(tokenizer.sentences.texts[: tokenizer.sentences.num_training])
    for text in STORIES:
        (decoded,) = tokenizer.decode(ids_of(tokenizer, text)[None])
        assert set(split_sentences(decoded)) <= {
            one for some in known for one in (some, f"{some} ")
        }
    assert sum(tokenizer.decode(ids_of(tokenizer, text)[None]) == [text] for text in STORIES) >= 3


def test_known_sentences_are_looked_up_and_get_the_same_codes(
    tokenizer: SentenceRvqTokenizer,
) -> None:
    plain = replace(tokenizer, sentences_folder=None)
    texts = [*STORIES, *documents(20, seed=5), *documents(20, seed=6)]
    prepared = [tokenizer.prepare(text) for text in texts]
    for one, other in zip(
        tokenizer.encode(prepared).documents, plain.encode(prepared).documents, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    sentences = [one for some in prepared for one in some]
    np.testing.assert_array_equal(tokenizer.embed(sentences), plain.embed(sentences))
    assert (tokenizer.sentences.find(["never seen before"]) == -1).all()


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_have_codes(tokenizer: SentenceRvqTokenizer, text: str) -> None:
    ids = ids_of(tokenizer, text)
    assert len(ids) == K * len(split_sentences(text))
    assert tokenizer.encode([tokenizer.prepare(text)]).counts["sentences"] == len(ids) // K
    (decoded,) = tokenizer.decode(ids[None])
    offsets = tokenizer.offsets(ids)
    assert offsets[-1] == len(decoded)


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, K * V - 1), max_size=14), max_size=4))
def test_any_ids_become_text(tokenizer: SentenceRvqTokenizer, rows: list[list[int]]) -> None:
    tokens = np.full((len(rows), 15), EOS_TOKEN_ID, dtype=np.uint16)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    texts = tokenizer.decode(tokens)
    for row, ids, text in zip(tokens, rows, texts, strict=True):
        codes, _ = tokenizer.steps(np.array(ids))
        assert (codes >= 0).sum() == len(ids)
        offsets = tokenizer.offsets(row)
        assert len(offsets) == 16
        assert offsets[0] == 0
        assert (np.diff(offsets) >= 0).all()
        assert (offsets[len(ids) :] == len(text)).all()
        assert tokenizer.decode(np.array([ids], dtype=np.uint16).reshape(1, -1)) == [text]


def test_long_sentences_are_counted(tokenizer: SentenceRvqTokenizer) -> None:
    encoded = tokenizer.encode([tokenizer.prepare("the king " * 50), tokenizer.prepare("A wolf.")])
    assert encoded.counts == {"sentences": 2, "cut_sentences": 1}
    line = tokenizer.encode([tokenizer.prepare("word " * 2_000_000)])  # 10 MB without an end
    assert len(line.documents[0]) == K * line.counts["sentences"] == K * 10
    assert line.counts["cut_sentences"] == 10


def test_identity_is_content(tokenizer: SentenceRvqTokenizer, tmp_path: Path) -> None:
    copy = tmp_path / "codebooks.safetensors"
    copy.write_bytes(Path(str(tokenizer.checkpoint)).read_bytes())
    (tmp_path / "codes.npy").write_bytes(
        Path(str(tokenizer.checkpoint)).with_name("codes.npy").read_bytes()
    )
    other = replace(tokenizer, checkpoint=str(copy))
    assert identity(other) == identity(tokenizer)
    assert identity(replace(other, window=9).encoder) == identity(tokenizer.encoder)
    assert identity(replace(other, window=9)) != identity(tokenizer)
    alone = replace(other, sentences_folder=None)
    assert identity(alone.encoder) == identity(tokenizer.encoder)  # the same token files
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    assert (other.num_codebooks, other.codebook_size) == (K, V)
    with pytest.raises(ConfigError, match="holds no sentences"):
        alone.decode(np.array([[1]], dtype=np.uint16))


def test_what_cannot_be_is_refused(tokenizer: SentenceRvqTokenizer, tmp_path: Path) -> None:
    for fields, words in (
        ({"num_codebooks": 0}, "num_codebooks=8"),
        ({"num_codebooks": 8, "codebook_size": 8192}, "65,536 ids.*codebook_size=4096"),
        ({"codebook_size": 100}, "power of two"),
        ({"codebook_size": 1}, "power of two"),
        ({"window": 0}, "window=16"),
        ({"form": "beams"}, "did you mean 'beam'"),
        ({"fit_sentences": 10}, "fit_sentences=10"),
        ({"checkpoint": str(tmp_path / "nowhere.safetensors")}, "holds no codebooks"),
    ):
        with pytest.raises(ConfigError, match=words):
            SentenceRvqTokenizer(**fields)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no codebooks yet"):
        SentenceRvqTokenizer().encode([["text"]])
    with pytest.raises(TokenError, match=f"id {K * V} of text 0"):
        tokenizer.decode(np.array([[K * V]], dtype=np.uint16))
    with pytest.raises(TokenError, match="half a character"):
        tokenizer.prepare("\ud83d")


def test_fewer_sentences_than_codes_are_refused(
    recipe: SentenceRvqTokenizer, folder: Path, tmp_path: Path
) -> None:
    few = corpus_of(tmp_path, ["One wolf. One lamb.", "A river."])
    with pytest.raises(ConfigError, match="only 3 different training sentences"):
        context(folder / "outputs").make(recipe.fit(few))


def test_a_plan_foresees_what_is_to_be_embedded(
    recipe: SentenceRvqTokenizer,
    tokenizer: SentenceRvqTokenizer,
    corpus: Any,
    folder: Path,
    tmp_path: Path,
) -> None:
    def cost(outputs: Path, recipe: SentenceRvqTokenizer) -> Any:
        store = context(outputs).store
        at = StoreSurroundings(store=store, rates=Rates(store), workers=1, memory_bytes=10**10)
        return recipe.fit(corpus).forecast(at)  # type: ignore[union-attr]

    whole, others, done = (
        cost(tmp_path, recipe),
        cost(folder / "outputs", replace(recipe, form="opq")),
        cost(folder / "outputs", recipe),
    )
    assert done.cached == 1
    assert whole.artifact.digest == done.artifact.digest
    assert whole.seconds > 3 * others.seconds > 0  # whose sentences are embedded
    size = sum(
        path.stat().st_size
        for path in tokenizer.sentences.folder.glob("*")
        if path.suffix != ".json"
    )
    assert whole.disk_bytes > 2 * size * 0.5
