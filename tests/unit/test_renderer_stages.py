"""The renderer in the flow: trained after its codebooks, found again, measured, decoding."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram.corpora.document_files import JsonlCorpus
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import MissingDependencyError
from imagegram.experiment import check_machine
from imagegram.run import run_experiment
from imagegram.store.artifacts import fingerprint
from imagegram.texts.samples import read_texts
from imagegram.tokenizers.bpe import BpeTokenizer
from imagegram.tokenizers.renderer.component import Renderer
from imagegram.tokenizers.renderer.fit import TrainRenderer
from imagegram.tokenizers.sentence_rvq.decoders import NearestDecoder
from imagegram.tokenizers.sentence_rvq.tokenizer import SentenceRvqTokenizer
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from tests.conftest import compose
from tests.documents import STORIES, documents
from tests.pictures import context
from tests.sentence_encoders import write_encoder

RENDERER = Renderer(
    width=16,
    depth=1,
    num_heads=2,
    sentence_tokens=8,
    bpe=BpeTokenizer(vocab_size=280),
    optimization=Optimization(steps=6, batch_size=2, learning_rate=1e-2),
    trainer=TrainerOptions(accelerator="cpu", segment_steps=2),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rendered")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> SentenceRvqTokenizer:
    embedder = SentenceEmbedder(folder=str(write_encoder(folder / "encoder")), max_tokens=24)
    return SentenceRvqTokenizer(
        num_codebooks=2,
        codebook_size=8,
        window=3,
        form="greedy",
        embedder=embedder,
        decoder=RENDERER,
    )


@pytest.fixture(scope="module")
def corpus(folder: Path) -> JsonlCorpus:
    path = folder / "texts.jsonl"
    texts = [*STORIES, "One sentence alone.", "Say <c0_0001> c0=1.", *documents(120, seed=5)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return JsonlCorpus(files=str(path))


@pytest.fixture(scope="module")
def tokenizer(folder: Path, recipe: Any, corpus: Any) -> SentenceRvqTokenizer:
    made: SentenceRvqTokenizer = context(folder / "outputs").make(recipe.fit(corpus))
    return made


def test_the_stage_gives_the_whole_tokenizer(
    folder: Path, recipe: Any, corpus: Any, tokenizer: SentenceRvqTokenizer
) -> None:
    assert isinstance(tokenizer.decoder, Renderer)
    ids = tokenizer.encode([tokenizer.prepare(STORIES[3])]).documents[0]  # three sentences
    rows = np.stack([ids[:4], ids[2:6]])
    texts = tokenizer.decode(rows)
    assert all(texts)
    assert tokenizer.decode(rows[1:]) == texts[1:]
    again = context(folder / "outputs").make(recipe.fit(corpus))
    assert again.decode(rows) == texts
    assert again.identity() == tokenizer.identity()
    offsets = tokenizer.offsets(rows[0])
    assert offsets[-1] == len(texts[0])
    # However it is decoded, its token files are the same.
    nearest = replace(tokenizer, decoder=NearestDecoder())
    assert nearest.encoder.identity() == tokenizer.encoder.identity()
    assert nearest.identity() != tokenizer.identity()


def test_how_it_writes_is_no_part_of_its_training(recipe: Any, corpus: Any) -> None:
    stage = recipe.fit(corpus)
    assert isinstance(stage, TrainRenderer)
    other = replace(recipe, decoder=replace(RENDERER, temperature=0.1, num_candidates=3))
    assert fingerprint(other.fit(corpus)) == fingerprint(stage)
    assert other.identity() != recipe.identity()
    for changes in ({"conditioning": "special"}, {"context_tokens": 3}, {"code_dropout": 0.2}):
        changed = replace(recipe, decoder=replace(RENDERER, **changes))
        assert fingerprint(changed.fit(corpus)) != fingerprint(stage)


def test_a_killed_training_goes_on_to_the_same_weights(
    folder: Path, recipe: Any, corpus: Any, tokenizer: SentenceRvqTokenizer, tmp_path: Path
) -> None:
    states = sorted((folder / "outputs" / "artifacts" / "training_state").glob("[0-9a-f]*"))
    assert len(states) == 3
    whole = replace(RENDERER, trainer=TrainerOptions(accelerator="cpu", segment_steps=6))
    made = context(tmp_path).make(replace(recipe, decoder=whole).fit(corpus))
    for name in ("model.safetensors", "tokenizer.json"):
        one, other = (Path(each.decoder.checkpoint) / name for each in (made, tokenizer))
        assert one.read_bytes() == other.read_bytes()


def test_given_codebooks_are_used_and_a_given_renderer_is_not_trained(
    folder: Path, corpus: Any, tokenizer: SentenceRvqTokenizer
) -> None:
    untrained = replace(tokenizer, decoder=RENDERER)
    made = context(folder / "outputs").make(untrained.fit(corpus))
    assert made.checkpoint == tokenizer.checkpoint
    assert made.identity() == tokenizer.identity()
    assert tokenizer.fit(corpus).value is tokenizer  # type: ignore[union-attr]


def test_packed_sentences_are_those_of_training_documents(
    folder: Path, tokenizer: SentenceRvqTokenizer
) -> None:
    bpe = tokenizer.decoder.bpe  # type: ignore[union-attr]
    found = 0
    for part in (folder / "outputs" / "artifacts" / "packed_sentences").glob("[0-9a-f]*"):
        ids, ends, first, codes = (
            np.load(part / f"{name}.npy") for name in ("ids", "ends", "first", "codes")
        )
        texts = [bpe.decode(ids[a:b][None])[0] for a, b in itertools.pairwise(ends)]
        np.testing.assert_array_equal(codes, tokenizer.quantize(tokenizer.embed(texts)))
        assert all(text[0] == " " and not text[-1].isspace() for text in texts)
        assert (first <= np.arange(len(first))).all()
        assert (first[first] == first).all()
        found += len(texts)
        if " One sentence alone." in texts:
            place = texts.index(" One sentence alone.")
            assert first[place] == place
    assert found > 300


@pytest.mark.usefixtures("tokenizer")  # its encoder and its texts lie in the folder
def test_a_run_writes_and_measures_rendered_texts(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    cfg = compose(
        *("modality=text", "debug=tiny_text", "tokenizer=sentence_rvq_tiny", "corpus=jsonl"),
        *("decoder@tokenizer.decoder=renderer", f"corpus.files={folder}/texts.jsonl"),
        *(f"tokenizer.embedder.folder={folder}/encoder", f"paths.outputs={folder}/outputs"),
        *("tokenizer.decoder.width=16", "tokenizer.decoder.depth=1", "num_samples=6", "planted=[]"),
        *("tokenizer.decoder.num_heads=2", "tokenizer.decoder.bpe.vocab_size=280"),
        *("tokenizer.decoder.optimization.steps=4", "tokenizer.decoder.sentence_tokens=8"),
        *("tokenizer.decoder.optimization.warmup_steps=2", "tokenizer.decoder.num_candidates=2"),
        *("metric=[copying,renderer]", "metric.renderer.num_sentences=12", "trainer=cpu"),
    )
    values = run_experiment(cfg, run)
    texts = read_texts(run / "samples" / "texts.jsonl")
    assert len(texts) == 6
    assert any(texts)
    scores = values.scores
    bits = [f"renderer_{which}bits_per_token" for which in ("", "shuffled_", "no_codes_")]
    for name in bits:
        assert scores[name]["value"] is None  # samples were not meant to be any sentence
        assert scores[name]["floor"] > 1.0
        assert scores[name]["ceiling"] > 1.0
    gain = scores["renderer_codes_gain_bits"]["floor"]
    assert gain == pytest.approx(scores[bits[1]]["floor"] - scores[bits[0]]["floor"])
    for name in ("renderer_cosine", "renderer_agreement", "renderer_chance"):
        assert all(-1.0 <= scores[name][which] <= 1.0 for which in ("value", "floor", "ceiling"))
    assert scores["renderer_cosine_best_of_4"]["floor"] >= scores["renderer_cosine"]["floor"]


def test_without_the_encoder_the_line_that_installs_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from imagegram.encoders import sentences
    from imagegram.experiment import build

    cfg = compose("modality=text", "tokenizer=sentence_rvq", "decoder@tokenizer.decoder=renderer")
    exp = build(cfg)
    monkeypatch.setattr(sentences, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'imagegram\[sentences\]'"):
        check_machine(exp)
