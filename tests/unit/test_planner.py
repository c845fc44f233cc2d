"""Planner: who sees whom, the chain rule, the ranges of ids, ends, and that it learns."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from imagegram.conditions.prompt import GivenTokens
from imagegram.corpora.grammar import GrammarCorpus
from imagegram.errors import ConfigError, TokenError
from imagegram.experiment import build as build_experiment
from imagegram.generators.planner.generator import PlannerGenerator
from imagegram.generators.planner.network import Planner
from imagegram.generators.planner.objective import NextStep
from imagegram.generators.planner.scoring import score_rows
from imagegram.generators.planner.sizes import PlannerSizes, sizes_in
from imagegram.models.checkpoints import shapes_of
from imagegram.models.cores import one_core
from imagegram.models.transformer import build
from imagegram.records import EOS_TOKEN_ID, row_sizes
from imagegram.run import index_corpus
from imagegram.samplers.sequential import SequentialSampler
from imagegram.seeding import uniforms
from imagegram.texts.grammar import SENTENCES, STORIES
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from tests.conftest import compose
from tests.contracts.test_generators import Maker
from tests.documents import documents
from tests.pictures import context
from tests.sentence_codes import Chain, FakeCodes, token_set
from tests.sentence_encoders import write_encoder

K, V, S = 2, 3, 3
SIZES = PlannerSizes(
    vocab_size=K * V + 1,
    num_tokens=K * S,
    width=16,
    depth=2,
    num_heads=2,
    stages=K,
    codebooks=K,
    ends=True,
)
SHARED = dataclasses.replace(SIZES, vocab_size=V, codebooks=1, ends=False)
END = K * V
PLAIN = SequentialSampler(name="raster", temperature=1.0)
CONTEXTS = ("codes", "vectors", "both", "none")


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def network(sizes: PlannerSizes = SIZES, **fields: Any) -> Any:
    """A network with logits as large as a trained one's."""
    sizes = dataclasses.replace(sizes, **fields)
    if sizes.context in ("vectors", "both"):
        sizes = dataclasses.replace(sizes, vector_width=4)
    made: Any = build(Planner, seed=5, **sizes.arguments())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for head in made.to_codes:
            head.weight.mul_(20)
            head.bias.normal_(0, 1, generator=generator)
        if sizes.vector_width:
            made.vectors.normal_(0, 1, generator=generator)
    return made.eval()


def some_ids(rows: int = 3, *, sizes: PlannerSizes = SIZES, seed: int = 0) -> torch.Tensor:
    """Whole rows, which end nowhere."""
    shape = (rows, sizes.num_steps, sizes.stages)
    size = sizes.codebook_size
    codes = torch.randint(0, size, shape, generator=torch.Generator().manual_seed(seed))
    firsts = torch.arange(sizes.stages) * size * (sizes.codebooks > 1)
    return (codes + firsts).flatten(1)


def other_code(ids: torch.Tensor, place: int) -> torch.Tensor:
    """The same rows with another code at one place."""
    changed, first = ids.clone(), V * (place % K)
    changed[:, place] = first + (ids[:, place] - first + 1) % V
    return changed


# ------------------------------------------------------------------------------- who sees whom


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("heads", ["depth", "independent"])
def test_a_code_sees_the_steps_before_and_the_codes_before(heads: str, context: str) -> None:
    made, ids = network(heads=heads, context=context), some_ids(1)
    for place in range(K * S):
        with torch.no_grad():
            same = made(ids) == made(other_code(ids, place))
        equal = same.all(dim=-1).flatten().tolist()
        step = place // K
        for at, is_equal in enumerate(equal):
            in_step = heads == "depth" and at // K == step and at > place
            in_context = context != "none" and at // K > step
            assert is_equal == (not (in_step or in_context)), (place, at)


def test_no_gradient_of_an_earlier_prediction_comes_from_a_later_code() -> None:
    """Of the embeddings that a row reads, those of later codes get none."""
    made = network(context="codes")
    rows = torch.tensor([[0, V + 1, 1, V + 2, 2, V]])  # every code stands at one place
    for step, stage in itertools.product(range(S), range(K)):
        made.zero_grad()
        made(rows)[0, step, stage, 0].backward()
        seen = made.codes.grad.abs().sum(dim=-1) > 0
        expected = {(k, int(rows[0, s * K + k]) - k * V) for s in range(step) for k in range(K)}
        assert {tuple(pair) for pair in seen.nonzero().tolist()} == expected
        partial = made.partials.grad.abs().sum(dim=-1) > 0
        own = {(k, int(rows[0, step * K + k]) - k * V) for k in range(stage)}
        assert {tuple(pair) for pair in partial.nonzero().tolist()} == own


def test_vectors_are_all_that_is_seen_of_a_step() -> None:
    """Two codes of one vector are one; of another length or centre, vectors are the same."""
    made, ids = network(context="vectors", heads="independent"), some_ids()
    with torch.no_grad():
        before = made(ids)
        made.vectors.mul_(3).add_(1)
        torch.testing.assert_close(made(ids), before, atol=1e-4, rtol=1e-3)
        made.vectors[:, 1] = made.vectors[:, 0]
        firsts = torch.arange(K * S) % K * V
        twin = torch.where(ids == firsts, ids + 1, ids)
        assert not torch.equal(twin, ids)
        assert torch.equal(made(twin), made(ids))


# ------------------------------------------------------------------------------- probabilities


@pytest.mark.parametrize("heads", ["depth", "independent"])
def test_all_documents_together_have_probability_one(heads: str) -> None:
    """Brute force: every way to write S steps, or fewer and then the end."""
    made = network(heads=heads, context="codes")
    tuples = [(first, V + second) for first in range(V) for second in range(V)]
    pad = (END, END)
    documents = [
        sum(steps, ()) + pad * (S - size)
        for size in range(S + 1)
        for steps in itertools.product(tuples, repeat=size)
    ]
    ids = torch.tensor(documents)
    scored = score_rows(made, ids)["log_prob"].astype(np.float64)
    sizes = (ids != END).sum(dim=1).numpy()
    counted = np.arange(K * S) <= sizes[:, None]
    total = np.exp(np.where(counted, scored, 0).sum(axis=1))
    assert total.sum() == pytest.approx(1, abs=1e-5)
    one_step = total[sizes == 0].sum()  # those of no step have what the end has at first
    with torch.no_grad():
        assert one_step == pytest.approx(float(made(ids)[0, 0, 0].softmax(dim=-1)[-1]), rel=1e-4)


def test_scores_are_those_of_the_softmax() -> None:
    made, ids = network(), some_ids()
    scored = score_rows(made, ids)
    with torch.no_grad():
        log_p = made(ids).double().log_softmax(dim=-1)
    codes = made.codes_of(ids)[..., None]
    own = log_p.gather(-1, codes)[..., 0].flatten(1)
    np.testing.assert_allclose(scored["log_prob"], own, rtol=1e-5)
    p = log_p.exp()
    bits = -(p * log_p).sum(dim=-1).flatten(1) / np.log(2)
    np.testing.assert_allclose(scored["entropy"], bits, rtol=1e-5)
    likeliest = (log_p.argmax(dim=-1) == codes[..., 0]).flatten(1)
    np.testing.assert_array_equal(scored["is_likeliest"], likeliest)


@pytest.mark.parametrize("token", [0, END])
def test_what_is_no_code_of_its_stage_is_impossible(token: int) -> None:
    made, ids = network(), some_ids(1)
    ids[0, 3] = token
    scored = score_rows(made, ids)["log_prob"][0]
    assert np.isneginf(scored).tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("sizes", [SIZES, SHARED], ids=["codes", "shared"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_cached_logits_are_those_of_the_whole_row(sizes: PlannerSizes, context: str) -> None:
    made, ids = network(sizes, context=context), some_ids(sizes=sizes)
    with torch.no_grad():
        whole = made(ids).flatten(1, 2)
        steps = made.begin(torch.zeros(len(ids), dtype=torch.int64))
        for place in range(sizes.num_tokens):
            found = made.step(None if place == 0 else ids[:, place - 1], place, steps)
            assert found.shape == (len(ids), sizes.vocab_size)
            first = made.first_id(place % K)
            codes = found[:, first : first + V]
            torch.testing.assert_close(codes, whole[:, place, :V], atol=1e-5, rtol=1e-5)
            may_end = sizes.ends and place % K == 0
            assert int((found > -1e29).sum()) == len(ids) * (V + may_end)
            if may_end:
                torch.testing.assert_close(found[:, -1], whole[:, place, -1])


# ----------------------------------------------------------------------------------- sampling

OPTIMIZATION = Optimization(
    steps=6, batch_size=8, learning_rate=1e-2, final_learning_rate=1e-4, warmup_steps=2
)
CODES = FakeCodes()
DOCUMENTS = [[0, 4, 1, 5, 2, 6], [3, 7], [1, 4, 0, 5, 3, 6, 2, 7, 0, 4], []] * 6


def generator(**fields: Any) -> PlannerGenerator:
    small = {"width": 16, "depth": 1, "num_heads": 2, "optimization": OPTIMIZATION}
    return PlannerGenerator(**{**small, **fields})


def trained(root: Path, rows: Any = DOCUMENTS, tokenizer: Any = CODES, **fields: Any) -> Any:
    index: Any = None
    stage = generator(**fields).fit(token_set(root, rows, tokenizer), index=index)
    return context(root).make(stage)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with one_core():
        return trained(tmp_path_factory.mktemp("planner"))


def drawn(model: Any, samples: Any, **knobs: Any) -> tuple[Any, Any]:
    return model.generate(
        np.asarray(samples, np.uint64),
        sampler=dataclasses.replace(PLAIN, **knobs),
        layout=CODES.spec.layout,
        seed=3,
    )


def test_every_id_is_one_of_its_stage_and_documents_end_between_steps(model: Any) -> None:
    tokens, _ = drawn(model, range(200))
    sizes = row_sizes(tokens)
    assert not (sizes % CODES.stages).any()
    assert 0 < (sizes < CODES.spec.length).sum() < 200
    places = np.arange(CODES.spec.length)
    inside = places < sizes[:, None]
    assert (tokens // CODES.size == places % CODES.stages)[inside].all()
    assert (tokens[~inside] == EOS_TOKEN_ID).all()


@pytest.mark.parametrize("knobs", [{}, {"top_k": 2}, {"top_p": 0.6}, {"min_p": 0.5}])
def test_batches_of_1_7_and_64_give_the_same_rows(model: Any, knobs: dict[str, Any]) -> None:
    whole, trace = drawn(model, range(64), **knobs)
    for rows in ([5], [60, 3, 3, 0, 41, 9, 33], list(range(63, -1, -1))):
        tokens, found = drawn(model, rows, **knobs)
        np.testing.assert_array_equal(tokens, whole[rows])
        for name, array in found.items():
            np.testing.assert_array_equal(array, trace[name][rows], err_msg=name)
    if knobs != {}:
        assert not np.array_equal(whole, drawn(model, range(64))[0])


def test_temperature_0_takes_the_likeliest_code(model: Any) -> None:
    tokens, trace = drawn(model, range(5), temperature=0.0)
    assert (tokens == tokens[0]).all()
    assert trace["is_likeliest"][0, : row_sizes(tokens)[0] + 1].all()


def test_bfloat16_has_nearly_the_same_probabilities(model: Any) -> None:
    rough = dataclasses.replace(model, dtype="bfloat16")
    tokens, trace = drawn(rough, range(40))
    how: Any = {"sampler": PLAIN, "layout": CODES.spec.layout, "seed": 3}
    np.testing.assert_array_equal(rough.score(tokens, **how)["log_prob"], trace["log_prob"])
    difference = np.abs(model.score(tokens, **how)["log_prob"] - trace["log_prob"])
    assert 0 < difference.max() < 0.1


def test_a_prompt_of_codes_is_continued(model: Any) -> None:
    """Also one that stops within a step; codes of another stage are refused."""
    how: Any = {"sampler": PLAIN, "layout": CODES.spec.layout, "seed": 3}
    prompt = (3, 7, 1)
    tokens, trace = model.generate(
        np.arange(20, dtype=np.uint64), condition=GivenTokens(rows=(prompt, ())), **how
    )
    assert (tokens[::2, :3] == prompt).all()
    np.testing.assert_array_equal(tokens[1::2], drawn(model, range(1, 20, 2))[0])
    scored = model.score(tokens, **how)
    np.testing.assert_array_equal(scored["log_prob"], trace["log_prob"])
    with pytest.raises(ConfigError, match=r"token 1 of a prompt is 3, but code 2 of .* 4 \.\.\. 7"):
        model.generate(np.zeros(1, np.uint64), condition=GivenTokens(rows=((0, 3),)), **how)


def test_rows_are_drawn_by_their_own_uniforms(model: Any) -> None:
    """The reference draws one row, one token at a time, without a cache."""
    made, sample, end = model.network, 2**40, CODES.spec.vocab_size
    tokens, _ = drawn(model, [sample])
    ids = torch.full((1, CODES.spec.length), 0, dtype=torch.int64)
    for place in range(CODES.spec.length):
        with torch.no_grad():
            logits = made(ids)[0, place // CODES.stages, place % CODES.stages].double()
        uniform, _ = uniforms(seed=3, sample=sample, position=place)
        p = np.cumsum(logits.softmax(dim=-1).numpy())
        code = int(np.searchsorted(p / p[-1], uniform, side="right"))
        if code == CODES.size:
            ids[0, place:] = end
            break
        ids[0, place] = made.first_id(place % CODES.stages) + code
    assert ids[0].tolist() == np.where(tokens[0] == EOS_TOKEN_ID, end, tokens[0]).tolist()


# ----------------------------------------------------------------------------------- training


@pytest.mark.parametrize("context", ["codes", "both"])
def test_any_cut_of_a_training_gives_the_same_weights(tmp_path: Path, context: str) -> None:
    """So a training that is killed and continued does: its segments are cuts."""
    files = []
    for steps in (1, 4, 6):
        trainer = TrainerOptions(segment_steps=steps, accelerator="cpu")
        made = trained(tmp_path / str(steps), trainer=trainer, dropout=0.2, context=context)
        files.append((made.artifact.path / "model.safetensors").read_bytes())
    assert files[0] == files[1] == files[2]


def nats_of(model: Any, documents: list[list[int]], tokenizer: FakeCodes) -> float:
    """Cross entropy of documents that fit into a window, ends included."""
    padded = np.full((len(documents), tokenizer.spec.length), EOS_TOKEN_ID, np.uint16)
    for row, ids in zip(padded, documents, strict=True):
        row[: len(ids)] = ids
    scored = model.score(padded, sampler=PLAIN, layout=tokenizer.spec.layout, seed=0)
    return float(-scored["log_prob"].sum(dtype=np.float64))


@pytest.mark.parametrize("stages", [1, 3])
def test_it_learns_a_chain_of_known_entropy(tmp_path: Path, stages: int) -> None:
    """Cross entropy of fresh documents, ends included, within 5 % of the entropy."""
    tokenizer = FakeCodes(stages=stages, size=16 // stages, window=8)
    chain = Chain(tokenizer=tokenizer)
    rows, _ = chain.documents(1500, seed=0)
    fresh, nats = chain.documents(300, seed=1)
    how = dataclasses.replace(OPTIMIZATION, steps=200, batch_size=32, learning_rate=1e-2)
    made = trained(tmp_path, rows, tokenizer, optimization=how, context="both", width=32)
    assert nats_of(made, fresh, tokenizer) / nats == pytest.approx(1, abs=0.05)


def of_stories(numbers: range) -> tuple[list[list[int]], float]:
    """Stories of ``corpus=grammar`` as who does what, and the entropy of these choices in nats.

    The quantizer names both exactly: the first word of a sentence, and the second. Both are chosen
    by rules of the grammar: who follows whom, or whether the story ends, and what anybody does.
    """
    corpus, alternatives = GrammarCorpus(), STORIES.alternatives

    def entropy(symbol: str) -> float:
        p = np.array([one.probability for one in alternatives[symbol]])
        return float(-(p * np.log(p)).sum())

    subjects = [*(symbol.rstrip("_") for symbol in SENTENCES), "The"]
    verbs = [*sorted({one.parts[0] for one in alternatives["does"]}), "end"]
    documents, nats = [], 0.0
    for number in numbers:
        pairs = [line.rstrip(",.").split()[:2] for line in corpus.document(number).split(". ")]
        words = [(subject, verb.rstrip(",.")) for subject, verb in pairs]
        documents.append([])
        for subject, verb in words[:STORY]:
            documents[-1] += [subjects.index(subject), len(verbs) + verbs.index(verb)]
        told = [subject for subject, _ in words if subject != "The"][:STORY]
        nats += entropy("story") + len(told) * entropy("does")
        nats += sum(entropy(f"next_{subject}") for subject in told[: STORY - 1])
    return documents, nats


STORY = 40  # sentences of a window; one story in fifty is longer


def test_it_learns_the_stories_of_a_grammar_of_known_entropy(tmp_path: Path) -> None:
    tokenizer = FakeCodes(stages=2, size=9, window=STORY)
    rows, _ = of_stories(range(1200))
    fresh, nats = of_stories(range(1200, 1500))
    how = dataclasses.replace(OPTIMIZATION, steps=200, batch_size=16, learning_rate=1e-2)
    made = trained(tmp_path, rows, tokenizer, optimization=how, context="codes", width=32)
    found = nats_of(made, fresh, tokenizer)
    assert found / nats == pytest.approx(1, abs=0.05)


def test_the_loss_of_a_step_is_the_mean_of_its_pieces() -> None:
    objective = NextStep(architecture=SIZES)
    module: Any = objective.module()
    module.log = lambda *_: None
    module.networks = torch.nn.ModuleDict({"planner": network()})
    end = EOS_TOKEN_ID
    rows = np.array([[0, 3, 1, 4, 2, 5], [1, 3, end, end, end, end]] * 2, np.uint16)
    batch = tuple(map(torch.from_numpy, objective.batch(rows, np.random.default_rng(0))))
    assert batch[1].sum() == pytest.approx(rows.size)
    assert (batch[1] > 0).sum(dim=1).tolist() == [6, 3, 6, 3]

    def loss(some: slice) -> torch.Tensor:
        found: torch.Tensor = module.training_step(tuple(array[some] for array in batch), 0)
        return found

    halves = loss(slice(0, None, 2)), loss(slice(1, None, 2))
    torch.testing.assert_close(loss(slice(None)), (halves[0] + halves[1]) / 2)
    scored = score_rows(module.networks["planner"], batch[0])["log_prob"]
    counted = batch[1].numpy() > 0
    assert float(loss(slice(None)).detach()) == pytest.approx(-scored[counted].mean(), rel=1e-5)


def test_vectors_are_the_tokenizers_and_are_not_trained(tmp_path: Path) -> None:
    made = trained(tmp_path, context="vectors")
    weights = load_file(made.artifact.path / "model.safetensors")
    np.testing.assert_array_equal(weights["vectors"].numpy(), CODES.codebooks)
    assert made.artifact.facts["val/bits_per_token"] > 0


# ------------------------------------------------------------------------------------ refusals


@given(row=st.lists(st.integers(0, 8), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_batch_takes_whole_steps_of_codes_and_nothing_else(row: list[int]) -> None:
    tokens = np.array([row], np.uint16)
    tokens[tokens >= END] = EOS_TOKEN_ID
    size = int(row_sizes(tokens)[0])
    legal = size % K == 0 and all(
        token // V == place % K for place, token in enumerate(tokens[0, :size].tolist())
    )
    objective, rng = NextStep(architecture=SIZES), np.random.default_rng(0)
    if legal:
        assert objective.batch(tokens, rng)[0].shape == (1, 6)
    else:
        with pytest.raises(TokenError, match=r"token \d of a document is \d+, but code \d of"):
            objective.batch(tokens, rng)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"heads": "deep"}, "generator.heads='deep'.*depth"),
        ({"context": "code"}, "generator.context='code'.*codes"),
        ({"head_depth": -1}, "generator.head_depth=-1 must be at least 0"),
        ({"dropout": 1.0}, r"generator.dropout=1.0 .* type generator.dropout=0.1"),
        ({"num_heads": 3}, "generator.num_heads=3 must divide"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        generator(**fields)


def test_codes_without_vectors_are_refused_where_vectors_are_shown() -> None:
    bare: Any = type("Bare", (), {"name": "pyramid3"})()
    with pytest.raises(ConfigError, match=r"tokenizer=pyramid3 have none; type generator.context="):
        generator(context="both").check_tokenizer(bare)
    generator(context="codes").check_tokenizer(bare)


def test_tokens_of_an_unknown_tokenizer_are_refused(tmp_path: Path) -> None:
    tokens = dataclasses.replace(token_set(tmp_path, DOCUMENTS, CODES), tokenizer=None)
    index: Any = None
    with pytest.raises(ConfigError, match=r"dataclasses.replace\(tokens, tokenizer="):
        generator().fit(tokens, index=index)


# ------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("width", [16, 24])
@pytest.mark.parametrize("heads", ["depth", "independent"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_weights_tell_their_sizes(width: int, heads: str, context: str) -> None:
    sizes = dataclasses.replace(SIZES, width=width, heads=heads, context=context, head_depth=3)
    if context in ("vectors", "both"):
        sizes = dataclasses.replace(sizes, vector_width=5)
    for each in (sizes, dataclasses.replace(sizes, vocab_size=V + 1, codebooks=1, num_classes=4)):
        assert sizes_in(shapes_of(Planner(**each.arguments()).state_dict()), setting="x") == each


def test_a_checkpoint_writes_what_its_training_wrote(tmp_path: Path) -> None:
    first = trained(tmp_path / "first")
    again = trained(tmp_path / "again", checkpoint=str(first.artifact.path / "model.safetensors"))
    for one, other in zip(drawn(first, range(9)), drawn(again, range(9)), strict=True):
        np.testing.assert_equal(other, one)
    with pytest.raises(ConfigError, match=r"generator.width=24.* type generator.width=16"):
        generator(width=24, checkpoint=str(first.artifact.path)).check_machine()


# ------------------------------------------------------------------------------------ a real run


def test_codes_of_sentences_are_planned_and_written(tmp_path: Path) -> None:
    """The tokenizer of sentences, of a random encoder, from the corpus to texts of samples."""
    pytest.importorskip("nupunkt")
    folder = write_encoder(tmp_path / "encoder")
    lines = [json.dumps({"text": text}) for text in documents(60, seed=0, longest=6)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines) + "\n")
    exp = build_experiment(
        compose(
            "debug=tiny_text",
            "corpus=jsonl",
            f"corpus.files={tmp_path / 'texts.jsonl'}",
            "tokenizer=sentence_rvq_tiny",
            f"tokenizer.embedder.folder={folder}",
            "generator=planner",
            "generator.width=16",
            "generator.depth=1",
            "generator.optimization.steps=4",
            "generator.optimization.warmup_steps=0",
            f"paths.outputs={tmp_path}",
        )
    )
    maker = Maker(context(tmp_path))
    tokenizer = maker("fit_tokenizer", exp.tokenizer.fit(exp.corpus))
    tokens, holdout, index = index_corpus(dataclasses.replace(exp, tokenizer=tokenizer), maker)
    made = maker("fit", exp.generator.fit(tokens, index=index, holdout=holdout))
    np.testing.assert_array_equal(made.network.vectors.numpy(), tokenizer.codebooks)
    written, _ = made.generate(
        np.arange(9, dtype=np.uint64), sampler=exp.sampler, layout=tokenizer.spec.layout, seed=0
    )
    texts = tokenizer.decode(written)
    assert len(texts) == 9
    assert sum(map(bool, texts)) > 4
    assert pickle.loads(pickle.dumps(tokens)).tokenizer is None  # other processes do not need it
