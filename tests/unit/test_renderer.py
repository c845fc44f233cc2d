"""The renderer: what it reads, what it learns, and that a row reads the same however it is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagegram.errors import ConfigError
from imagegram.samplers.truncation import Truncation
from imagegram.seeding import uniform_rows
from imagegram.tokenizers.bpe import BpeTokenizer
from imagegram.tokenizers.renderer.component import Renderer
from imagegram.tokenizers.renderer.drawing import CHUNK, Asked, Drawing, beginnings, draw
from imagegram.tokenizers.renderer.items import Reader, RendererItems, hide, pack
from imagegram.tokenizers.renderer.network import RendererNetwork, fresh_renderer, seen_mask
from imagegram.tokenizers.renderer.objective import Rendering
from imagegram.tokenizers.renderer.quality import sentence_bits, what_is_said
from imagegram.tokenizers.renderer.rendering import Writer, row_key, sentence_ids
from imagegram.tokenizers.renderer.rerank import best
from imagegram.tokenizers.renderer.sizes import CONDITIONINGS
from imagegram.tokenizers.renderer.training import token_losses
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import TrainSegment, train_in_segments
from tests.pictures import context
from tests.rendered_codes import STORIES, ToyCodes, ToySentences, toy_bpe, toy_sizes

CODES = ToyCodes()


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> BpeTokenizer:
    return toy_bpe(tmp_path_factory.mktemp("bpe"))


def items_of(bpe: BpeTokenizer, **changes: Any) -> RendererItems:
    sentences = ToySentences.of(STORIES, bpe, CODES)
    return RendererItems(sentences=sentences, sizes=toy_sizes(bpe, CODES, **changes), bpe=bpe)


def network_of(items: RendererItems, seed: int = 0) -> RendererNetwork:
    """A network whose outputs are far from uniform."""
    network = fresh_renderer(items.sizes, CODES.codebooks, seed=seed).eval()
    with torch.no_grad():
        network.to_logits.weight.mul_(20)
        network.to_logits.weight[-1].mul_(5)  # sentences that end early too
    return network


# -------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_codes_stand_first_however_long_the_text_before(
    bpe: BpeTokenizer, conditioning: str
) -> None:
    sizes = toy_sizes(bpe, CODES, conditioning=conditioning)
    reader = Reader(sizes, bpe)
    words, stages = reader.prefix([1, 4, 0])
    for length in (0, 2, 100):
        text = np.arange(length) % bpe.vocab_size
        segment = reader.segment([1, 4, 0], text, np.array([7, 8]))
        assert segment.ids[: len(words)].tolist() == words
        assert segment.stages.tolist() == stages + [-1] * (len(segment.ids) - len(words))
        kept = min(length, sizes.context_tokens)
        assert segment.ids[len(words) : -3].tolist() == text[length - kept :].tolist()
        assert segment.ids[-3:].tolist() == [sizes.boundary, 7, 8]
        assert segment.places[-3:].tolist() == [sizes.beginning + n for n in range(3)]
        assert segment.targets.tolist() == [-1] * (len(words) + kept) + [7, 8, sizes.boundary]
        assert (np.diff(segment.places) > 0).all()
        assert segment.places[-1] < sizes.num_places
    assert (conditioning == "none") == (not words)


def test_a_sentence_that_is_too_long_has_no_end(bpe: BpeTokenizer) -> None:
    sizes = toy_sizes(bpe, CODES, sentence_tokens=3)
    reader = Reader(sizes, bpe)
    nothing = np.empty(0, dtype=np.int64)
    fits = reader.segment([0, 0, 0], nothing, np.array([5, 6]))
    assert fits.targets[-3:].tolist() == [5, 6, sizes.boundary]
    cut = reader.segment([0, 0, 0], nothing, np.array([5, 6, 7, 8]))
    assert cut.targets[-3:].tolist() == [5, 6, 7]
    assert cut.places.max() < sizes.num_places


def test_codes_that_are_not_known_are_not_read(bpe: BpeTokenizer) -> None:
    reader = Reader(toy_sizes(bpe, CODES), bpe)
    assert reader.prefix([-1, -1, -1]) == ([], [])
    first = reader.sizes.first_code
    assert reader.prefix([-1, 2, -1]) == ([first + 5 + 2], [1])


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_what_looks_like_a_code_in_a_text_stays_text(bpe: BpeTokenizer, conditioning: str) -> None:
    reader = Reader(toy_sizes(bpe, CODES, conditioning=conditioning), bpe)
    text = "Say <c0_0001> <c1_0002> c0=17."
    (ids,) = sentence_ids(bpe, [text])
    segment = reader.segment([1, 1, 1], ids[:3].astype(np.int64), ids.astype(np.int64))
    own = segment.ids[segment.stages < 0]
    assert own.max() == reader.sizes.boundary
    assert bpe.decode(ids[None]) == [f" {text}"]
    if conditioning == "text":
        words = np.array(reader.prefix([1, 4, 0])[0])
        assert bpe.decode(words[None]) == [" c0=1 c1=4 c2=0"]


# ------------------------------------------------------------------------------------------ rows


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_rows_hold_every_sentence_once_as_it_is_read(bpe: BpeTokenizer, conditioning: str) -> None:
    items = items_of(bpe, conditioning=conditioning)
    assert sorted(n for row in items.rows for n in row) == list(range(9))
    assert items.lengths.tolist() == [len(items.segment(n).ids) for n in range(9)]
    gathered = items.gather(np.arange(len(items)))
    for row, arrays in zip(items.rows, gathered, strict=True):
        for number, sentence in enumerate(row):
            here, segment = arrays[2] == number, items.segment(sentence)
            for array, wanted in zip(arrays[[0, 1, 3, 4]], segment, strict=True):
                assert array[here].tolist() == wanted.tolist()
    assert (gathered[:, 3][gathered[:, 2] < 0] == -1).all()


def test_the_text_before_is_of_the_same_document(bpe: BpeTokenizer) -> None:
    items = items_of(bpe)
    ids = sentence_ids(bpe, [sentence for story in STORIES for sentence in story])
    for sentence, before in ((0, []), (1, [0]), (2, [1]), (3, []), (4, []), (7, []), (8, [7])):
        segment, beginning = items.segment(sentence), items.sizes.beginning
        found = segment.ids[(segment.places >= 3) & (segment.places < beginning)]
        text = np.concatenate([[], *(ids[n] for n in before)])[-4:]
        assert found.tolist() == text.tolist()


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(9, 20))
def test_packing_loses_nothing_and_overfills_nothing(lengths: list[int], capacity: int) -> None:
    rows = pack(np.array(lengths, dtype=np.int64), capacity=capacity)
    assert sorted(n for row in rows for n in row) == list(range(len(lengths)))
    assert all(sum(lengths[n] for n in row) <= capacity for row in rows)


def test_shuffled_codes_are_those_of_another_sentence(bpe: BpeTokenizer) -> None:
    items = items_of(bpe)
    other = replace(items, shuffled=True)
    assert other.codes.tolist() == np.roll(items.codes, 4, axis=0).tolist()
    assert other.segment(0).targets.tolist()[-3:] == items.segment(0).targets.tolist()[-3:]


# --------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_a_sentence_costs_the_same_alone_and_among_others(
    bpe: BpeTokenizer, conditioning: str
) -> None:
    items = items_of(bpe, conditioning=conditioning)
    network = network_of(items)
    arrays = torch.from_numpy(items.gather(np.arange(len(items))).astype(np.int64))
    with torch.no_grad():
        together = token_losses(network, *arrays.unbind(dim=1)[:4])
        alone = []
        for row in items.rows:
            for sentence in row:
                ids, places, targets, _ = (
                    torch.from_numpy(array)[None] for array in items.segment(sentence)
                )
                alone.append(token_losses(network, ids, places, torch.zeros_like(ids), targets))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_nothing_but_sentences_is_in_the_loss(bpe: BpeTokenizer) -> None:
    items = items_of(bpe)
    objective = Rendering(sizes=items.sizes, codes=CODES, code_dropout=0.0)
    ids, _, segments, targets, weights = objective.batch(
        items.gather(np.arange(len(items))), np.random.default_rng(0)
    )
    tokens = len(items.sentences.ids) + len(items.codes)  # an end each
    cut = np.maximum(np.diff(items.sentences.ends) + 1 - items.sizes.sentence_tokens, 0).sum()
    assert (targets >= 0).sum() == tokens - cut
    assert ((weights > 0) == (targets >= 0)).all()
    assert weights.mean() == pytest.approx(1.0)
    assert (targets[segments < 0] == -1).all()
    assert (targets[ids >= items.sizes.first_code] == -1).all()


def test_dropped_codes_are_seen_by_nobody(bpe: BpeTokenizer) -> None:
    items = items_of(bpe)
    network = network_of(items)
    found = items.gather(np.arange(len(items))).astype(np.int64)
    hide(found[:, 2], found[:, 4], np.zeros((len(found), items.capacity), dtype=np.int64))
    changed = found.copy()
    codes = found[:, 4] >= 0
    changed[:, 0][codes] = items.sizes.first_code
    with torch.no_grad():
        one, other = (
            token_losses(network, *torch.from_numpy(array).unbind(dim=1)[:4])
            for array in (found, changed)
        )
    assert torch.equal(one, other)


def test_dropout_takes_the_last_stages_of_its_share(bpe: BpeTokenizer) -> None:
    objective = Rendering(sizes=toy_sizes(bpe, CODES), codes=CODES, code_dropout=0.4)
    kept = objective._kept(np.full((4000, 2), 1), np.random.default_rng(0))
    shares = np.bincount(kept.ravel(), minlength=4) / kept.size
    assert shares == pytest.approx([0.2, 0.1, 0.1, 0.6], abs=0.02)
    segments, stages = np.array([[0, 0, 0, 1, 1, 1, -1]]), np.array([[0, 1, -1, 0, 1, -1, -1]])
    hide(segments, stages, np.array([[1, 0]]))
    assert segments.tolist() == [[0, -1, 0, -1, -1, 1, -1]]


@pytest.mark.parametrize("conditioning", ["soft", "text"])
def test_a_training_cut_anywhere_gives_the_same_weights(
    bpe: BpeTokenizer, conditioning: str, tmp_path: Path
) -> None:
    items = items_of(bpe, conditioning=conditioning)
    how = Optimization(steps=6, batch_size=1, learning_rate=1e-2, ema_decay=0.5)

    def train(steps: int) -> tuple[bytes, dict[str, Any]]:
        whole = TrainSegment(
            objective=Rendering(sizes=items.sizes, codes=CODES, code_dropout=0.3),
            optimization=how,
            items=items,
            validation=items,
            last_step=6,
            trainer=TrainerOptions(accelerator="cpu", segment_steps=steps),
        )
        last = train_in_segments(context(tmp_path / str(steps)), whole, description="toy")
        return last.state.read_bytes(), last.history[-1]

    (one, scores), (other, _) = train(6), train(4)
    assert one == other
    assert {"val/bits_per_token", "val/shuffled_bits_per_token"} < scores.keys()


# ---------------------------------------------------------------------------------------- writing


def asked_for(items: RendererItems, count: int, seed: int = 0) -> list[Asked]:
    rng = np.random.default_rng(seed)
    return [
        Asked(
            codes=rng.integers(-1, CODES.codebook_size, CODES.num_codebooks).tolist(),
            context=rng.integers(0, items.sizes.vocab_size, rng.integers(0, 9)),
            uniforms=rng.random(items.sizes.sentence_tokens),
        )
        for _ in range(count)
    ]


def slowly(network: RendererNetwork, reader: Reader, asked: Asked, how: Drawing) -> list[int]:
    """The definition: the whole sentence is read again for every token, alone and uncached."""
    ids: list[int] = []
    sizes = network.sizes

    def logits(codes: Any) -> torch.Tensor:
        segment = reader.segment(codes, asked.context, np.array(ids, dtype=np.int64))
        read, places = (torch.from_numpy(array)[None] for array in segment[:2])
        within = torch.zeros_like(read)
        features = network(network.read(read, places, within), seen_mask(within))
        found: torch.Tensor = network.to_logits(features[0, -1])
        return found

    for step in range(sizes.sentence_tokens):
        found = logits(asked.codes)
        if how.guidance != 1.0:
            without = logits([-1] * CODES.num_codebooks)
            found = without + how.guidance * (found - without)
        found[how.vocab_size : sizes.boundary] = -torch.inf
        if not step:
            found[sizes.boundary] = -torch.inf
        p = (found.double() / how.cut.temperature).softmax(-1)
        sums = p.cumsum(-1)
        token = int(torch.searchsorted(sums, float(asked.uniforms[step]) * sums[-1], right=True))
        if token == sizes.boundary:
            break
        ids.append(token)
    return ids


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize(("guidance", "broadcast"), [(1.0, True), (2.0, True), (1.0, False)])
def test_sentences_are_those_of_the_slow_definition(
    bpe: BpeTokenizer, conditioning: str, guidance: float, broadcast: bool
) -> None:
    items = items_of(bpe, conditioning=conditioning, broadcast=broadcast)
    network, reader = network_of(items), items.reader
    how = Drawing(cut=Truncation(temperature=0.8), guidance=guidance, vocab_size=290)
    asked = asked_for(items, 6)
    with torch.no_grad():
        wanted = [slowly(network, reader, each, how) for each in asked]
    assert [drawn.ids.tolist() for drawn in draw(network, reader, asked, how)] == wanted
    if conditioning == "soft":
        assert len({len(ids) for ids in wanted}) > 1  # some end early


def test_a_sentence_does_not_depend_on_those_beside_it(bpe: BpeTokenizer) -> None:
    items = items_of(bpe)
    network, reader = network_of(items), items.reader
    how = Drawing(cut=Truncation(temperature=1.0, top_p=0.9), guidance=1.0, vocab_size=290)
    asked = asked_for(items, CHUNK + 5)
    together = draw(network, reader, asked, how)
    assert draw(network, reader, asked[::-1], how)[::-1][3].ids.tolist() == together[3].ids.tolist()
    for place in (0, CHUNK - 1, CHUNK + 4):
        (alone,) = draw(network, reader, [asked[place]], how)
        assert alone.ids.tolist() == together[place].ids.tolist()
        assert alone.log_prob == together[place].log_prob


def test_its_log_probability_is_that_of_the_loss(bpe: BpeTokenizer) -> None:
    items = items_of(bpe)
    network, reader = network_of(items), items.reader
    how = Drawing(cut=Truncation(temperature=0.5), guidance=3.0, vocab_size=bpe.vocab_size)
    for each in asked_for(items, 8):
        (drawn,) = draw(network, reader, [each], how)
        segment = reader.segment(each.codes, each.context, drawn.ids)
        ids, places, targets, _ = (torch.from_numpy(array)[None] for array in segment)
        with torch.no_grad():
            losses = token_losses(network, ids, places, torch.zeros_like(ids), targets)
        assert drawn.log_prob == pytest.approx(-float(losses.sum()), abs=1e-3)


def test_the_first_token_is_read_at_its_place(bpe: BpeTokenizer) -> None:
    items = items_of(bpe)
    reader = items.reader
    asked = [Asked([1, -1, 2], np.array([3, 4]), np.zeros(12))]
    ids, there = beginnings(reader, asked)
    first = items.sizes.first_code
    assert ids[0].tolist() == [first + 1, 0, first + 12, 0, 0, 3, 4, items.sizes.boundary]
    assert there[0].tolist() == [True, False, True, False, False, True, True, True]


# ---------------------------------------------------------------------------------- whole rows


def writer_of(items: RendererItems, **changes: Any) -> Writer:
    values: dict[str, Any] = {
        "network": network_of(items),
        "reader": items.reader,
        "bpe": items.bpe,
        "codes": CODES,
        "how": Drawing(
            cut=Truncation(temperature=1.0),
            guidance=1.0,
            vocab_size=items.bpe.vocab_size if items.bpe else 0,
        ),
        "num_candidates": 1,
        "rerank": "codes",
        "seed": 0,
    }
    return Writer(**(values | changes))


ROWS = [
    np.array([[0, 1, 2], [3, 4, 0]]),
    np.empty((0, 3), dtype=np.int64),
    np.array([[0, 1, 2], [3, 4, 0], [1, 1, -1]]),
    np.array([[4, -1, -1]]),
]


@pytest.mark.parametrize(("num_candidates", "rerank"), [(1, "none"), (3, "codes"), (3, "cosine")])
def test_a_row_reads_the_same_alone_and_among_others(
    bpe: BpeTokenizer, num_candidates: int, rerank: str
) -> None:
    writer = writer_of(items_of(bpe), num_candidates=num_candidates, rerank=rerank)
    together = writer.write(ROWS)
    assert [len(texts) for texts in together] == [2, 0, 3, 1]
    for row, texts in zip(ROWS, together, strict=True):
        assert writer.write([row]) == [texts]
    assert together[0] == together[2][:2]  # rows that begin alike
    assert writer.write(ROWS[::-1])[::-1] == together


def test_another_seed_writes_other_sentences(bpe: BpeTokenizer) -> None:
    items = items_of(bpe)
    assert writer_of(items).write(ROWS) == writer_of(items).write(ROWS)
    assert writer_of(items, seed=1).write(ROWS) != writer_of(items).write(ROWS)


def test_each_candidate_is_drawn_by_its_own_numbers(bpe: BpeTokenizer) -> None:
    writer = writer_of(items_of(bpe), num_candidates=3, rerank="none")
    codes, nothing = np.array([[0, 1, 2]]), np.empty(0, dtype=np.int64)
    key = np.array([row_key(codes)], dtype=np.uint64)
    (candidates,) = writer.candidates(codes, [nothing], key)
    for number, drawn in enumerate(candidates):
        uniforms, _ = uniform_rows(seed=0, samples_B=key, num_tokens=12, step=number)
        asked = Asked([0, 1, 2], nothing, uniforms[0])
        (alone,) = draw(writer.network, writer.reader, [asked], writer.how)
        assert alone.ids.tolist() == drawn.ids.tolist()
    ((kept, _),) = writer.sentences(codes, [nothing], key)
    assert kept.log_prob == max(drawn.log_prob for drawn in candidates)


@pytest.mark.parametrize("rerank", ["codes", "cosine"])
def test_the_candidate_that_says_most_of_the_codes_is_kept(bpe: BpeTokenizer, rerank: str) -> None:
    items = items_of(bpe)
    writer = writer_of(items, num_candidates=4, rerank=rerank)
    wanted = CODES.quantize(CODES.embed(["The cat sat.", "Fish swim."]))
    texts = [["No.", "The cat sat.", "Ah!", "A dog ran."], ["Fish swim.", "No.", "No.", "No."]]
    scores = writer.scores(texts, wanted)
    assert scores.shape == (2, 4)
    assert scores[1, 1] == scores[1, 2] == scores[1, 3]
    if rerank == "codes":
        assert scores.argmax(axis=1).tolist() == [1, 0]
        assert scores.max(axis=1) == pytest.approx([1.0, 1.0])
    else:
        vectors, targets = CODES.embed(texts[0]), CODES.vectors(wanted)
        wanted_cosines = vectors @ targets[0] / np.linalg.norm(targets[0])
        assert scores[0] == pytest.approx(wanted_cosines, abs=1e-6)


def test_ties_are_decided_by_likelihood() -> None:
    scores, log_probs = np.array([[0.5, 0.5, 0.1]] * 2), np.array([[-3, -2, 0], [-2, -2, 0.0]])
    assert best(scores, log_probs).tolist() == [1, 0]


def test_what_is_said_is_measured_beside_chance(bpe: BpeTokenizer) -> None:
    writer = writer_of(items_of(bpe), num_candidates=3)
    codes = np.array([[0, 1, 2], [0, 2, 2], [4, 0, 0], [0, 1, 2]])
    said = what_is_said(writer, codes, [()] * 4, seed=0)
    assert said["chance"] == pytest.approx([2 / 3, 2 / 3, 0, 2 / 3])
    assert (said["cosine_best"] >= said["cosine"]).all()
    assert set(said["agreement"]) | set(said["agreement_best"]) <= {0.0, 1.0}
    bits = sentence_bits(writer, codes, ["The cat sat."] * 4, [(), ("No.",), (), ()])
    assert bits["bits"][0] == pytest.approx(bits["bits"][3], rel=1e-4)
    assert bits["shuffled_bits"][2] == pytest.approx(bits["bits"][0], rel=1e-4)
    assert (bits["tokens"] == bits["tokens"][0]).all()


# ------------------------------------------------------------------------------------- checkpoints

HOW = Optimization(steps=1, batch_size=1, learning_rate=1e-3)


def written(folder: Path, items: RendererItems, codes: ToyCodes = CODES) -> Renderer:
    from imagegram.training.state import TrainingState

    assert items.bpe is not None
    weights = {k: v.clone() for k, v in network_of(items).state_dict().items()}
    folder.mkdir(exist_ok=True)
    Renderer(optimization=HOW, bpe=items.bpe).write_trained(
        folder,
        TrainingState(step=1, averages={"renderer": weights}),
        codes=codes,
        sizes=items.sizes,
    )
    return Renderer(optimization=HOW, checkpoint=str(folder))


def test_a_folder_is_the_whole_renderer(bpe: BpeTokenizer, tmp_path: Path) -> None:
    items = items_of(bpe)
    renderer = written(tmp_path / "it", items)
    assert (renderer.context_tokens, renderer.width, renderer.bpe.vocab_size) == (
        items.sizes.context_tokens,
        items.sizes.width,
        bpe.vocab_size,
    )
    found = renderer.write(ROWS, CODES)
    how = Drawing(cut=renderer.cut, guidance=1.0, vocab_size=bpe.vocab_size)
    assert found == writer_of(items, how=how).write(ROWS)
    found[0].append("of the caller")
    assert renderer.write(ROWS, CODES) == writer_of(items, how=how).write(ROWS)  # remembered
    assert renderer.write(ROWS[2:], CODES) == writer_of(items, how=how).write(ROWS[2:])
    moved = (tmp_path / "it").rename(tmp_path / "moved")
    again = Renderer(optimization=replace(HOW, steps=2), checkpoint=str(moved))
    assert again.identity() == renderer_identity(again)
    assert replace(again, temperature=0.1).identity() != again.identity()


def renderer_identity(renderer: Renderer) -> Any:
    """The identity knows the weights and how they write, not how they were trained."""
    assert "recipe" not in renderer.identity()
    return replace(renderer, optimization=HOW).identity()


def test_codes_of_other_codebooks_are_refused(bpe: BpeTokenizer, tmp_path: Path) -> None:
    renderer = written(tmp_path / "it", items_of(bpe))
    with pytest.raises(ConfigError, match=r"\(3, 5, 6\), and these are \(3, 4, 6\)"):
        renderer.write(ROWS, ToyCodes(codebook_size=4))
    with pytest.raises(ConfigError, match="other codebooks of this size"):
        renderer.write(ROWS, ToyCodes(seed=1))


def test_files_that_are_no_renderer_are_refused(bpe: BpeTokenizer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no file.*decoder\.checkpoint=null to train"):
        Renderer(optimization=HOW, checkpoint=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigError, match="holds no weights of a renderer"):
        Renderer(optimization=HOW, checkpoint=str(tmp_path))
    with pytest.raises(ConfigError, match="has no weights yet"):
        Renderer(optimization=HOW).write(ROWS, CODES)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conditioning": "sofd"}, "did you mean 'soft'"),
        ({"rerank": "cosin"}, "did you mean 'cosine'"),
        ({"context_tokens": -1}, "context_tokens=-1 must be at least 0"),
        ({"sentence_tokens": 0}, "sentence_tokens=0 must be at least 1"),
        ({"num_heads": 5}, "must divide"),
        ({"code_dropout": 1.0}, "below 1"),
        ({"num_candidates": 0}, "num_candidates=0 must be at least 1"),
        ({"guidance": -1.0}, "guidance=-1"),
        ({"temperature": -1.0}, r"tokenizer\.decoder\.temperature"),
        ({"top_p": 0.0}, r"tokenizer\.decoder\.top_p"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Renderer(optimization=HOW, **fields)
