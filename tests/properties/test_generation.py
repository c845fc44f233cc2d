"""Every engine gives the reference's tokens and trace, whatever the corpus and the knobs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.generators.ngram.search.engine import SearchEngine
from imagegram.generators.ngram.walk.engine import WalkEngine
from imagegram.layout import TokenLayout
from imagegram.records import EOS_TOKEN_ID
from imagegram.samplers.ngram import MATCHING, NgramSampler
from tests.generation import assert_same, fit, with_engine, with_orders
from tests.index_folders import BruteForce, stream_of

LAYOUT = TokenLayout.pyramid((1, 2))
T = LAYOUT.num_tokens
ALPHABETS = ([7], [0, 1], [1, 128, 255], [0, 1, 256, 65534])
ENGINE_RUNS = settings(max_examples=60, deadline=None)


@dataclass(frozen=True)
class Case:
    shards: list[list[list[int]]]
    sampler: NgramSampler
    seed: int
    samples: np.ndarray
    row: list[int]

    @property
    def corpus(self) -> BruteForce:
        return BruteForce([stream_of(documents) for documents in self.shards])


@st.composite
def cases(draw: st.DrawFn, matchings: tuple[str, ...] = MATCHING, even: bool = True) -> Case:
    token = st.sampled_from(draw(st.sampled_from(ALPHABETS)))
    sizes = {"min_size": T, "max_size": T} if even else {"min_size": 1, "max_size": 2 * T}
    documents = st.lists(st.lists(token, **sizes), min_size=1, max_size=5)
    shards = draw(st.lists(documents, min_size=1, max_size=3))
    if draw(st.booleans()):  # duplicates, and a shard that equals another
        shards.append(shards[0] * draw(st.integers(1, 4)))
    contexts = st.integers(1, T + 3)
    sampler = NgramSampler(
        name="drawn",
        temperature=draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        top_k=draw(st.sampled_from([None, 1, 2, 5])),
        top_p=draw(st.sampled_from([1.0, 0.7])),
        min_p=draw(st.sampled_from([0.0, 0.3])),
        max_context=draw(st.one_of(contexts, st.tuples(contexts, contexts))),
        min_count=draw(st.integers(1, 7)),
        count_documents=draw(st.booleans()) if matchings == MATCHING else False,
        matching=draw(st.sampled_from(matchings)),
    )
    samples = np.array(draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3)), "u8")
    row = draw(st.lists(st.one_of(token, st.just(9)), min_size=T, max_size=T))
    return Case(shards, sampler, draw(st.integers(0, 2**64 - 1)), samples, row)


def run(model, case: Case, **overrides):
    wanted = {"sampler": case.sampler, "layout": LAYOUT, "samples": case.samples} | overrides
    return model.generate(**wanted, seed=case.seed)


@given(cases(), st.sampled_from([1, 5, 256]), st.sampled_from([1, 3, 1000]))
@ENGINE_RUNS
def test_native_is_the_reference(case: Case, frequent: int, memo_entries: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        naive = fit(Path(root), case.shards, engine="naive")
        # A memo that remembers everything, or forgets at once, changes nothing.
        memory = {"frequent": frequent, "memo_entries": memo_entries}
        native = with_engine(replace(naive, engine="native"), SearchEngine, **memory)
        assert_same(run(naive, case), run(native, case))
        rows_BT = np.array([case.row, case.shards[0][0]], dtype=np.uint16)
        forced = {"sampler": case.sampler, "layout": LAYOUT, "seed": case.seed}
        assert_same(
            (rows_BT, naive.score(rows_BT, **forced)),
            (rows_BT, native.score(rows_BT, **forced, workers=2)),
        )


@given(cases(), st.booleans(), st.sampled_from([1, 5, 64]), st.sampled_from([1, 3, 1000]))
@ENGINE_RUNS
def test_walking_is_the_reference(case: Case, one: bool, frequent: int, entries: int) -> None:
    """With side files: one shard is walked, several are searched."""
    shards = case.shards[:1] if one else case.shards
    with tempfile.TemporaryDirectory() as root:
        naive = fit(Path(root), shards, engine="naive")
        aligned = case.sampler.matching == "position"
        native = with_orders(replace(naive, engine="native"), Path(root), aligned=aligned)
        engine = WalkEngine if len(shards) == 1 else SearchEngine
        native = with_engine(native, engine, frequent=frequent, memo_entries=entries)
        assert_same(run(naive, case), run(native, case, workers=2))
        rows_BT = np.array([case.row, shards[0][0], shards[-1][-1]], dtype=np.uint16)
        forced = {"sampler": case.sampler, "layout": LAYOUT, "seed": case.seed}
        assert_same(
            (rows_BT, naive.score(rows_BT, **forced)), (rows_BT, native.score(rows_BT, **forced))
        )


@pytest.mark.parametrize("matching", ["channel", "level", "free"])
@pytest.mark.parametrize("frequent", [64, 100_000])
def test_walking_through_long_runs(tmp_path: Path, matching: str, frequent: int) -> None:
    """Runs of thousands of places, whose candidates are counted between marks."""
    random = np.random.default_rng(5)
    corpus = (random.integers(0, 10, (400, T)) // 9 * 300).tolist()  # 0 mostly, 300 sometimes
    corpus += random.integers(0, 7, (100, T)).tolist()
    naive = fit(tmp_path, [corpus], engine="naive")
    native = with_orders(replace(naive, engine="native"), tmp_path, aligned=False)
    native = with_engine(native, WalkEngine, frequent=frequent, memo_entries=40)
    for max_context, min_count in ((1, 1), (2, 200), ((6, 4), 30), (T, 3), (T, 1)):
        sampler = NgramSampler(
            name="long",
            matching=matching,
            max_context=max_context,
            min_count=min_count,
            count_documents=matching == "free" or min_count == 30,
        )
        # More rows than take a step together: two blocks, whose memo is one.
        wanted = {"sampler": sampler, "layout": LAYOUT, "samples": np.arange(40, dtype=np.uint64)}
        assert_same(naive.generate(**wanted, seed=1), native.generate(**wanted, seed=1))


@given(cases(matchings=("free",), even=False), st.booleans(), st.booleans(), st.booleans())
@ENGINE_RUNS
def test_walking_over_documents_of_any_length(
    case: Case, final: bool, ascending: bool, by_document: bool
) -> None:
    case = replace(case, sampler=replace(case.sampler, count_documents=by_document))
    documents = case.shards[0] if ascending else [[t * 257 for t in d] for d in case.shards[0]]
    documents = [[t if t < EOS_TOKEN_ID else 256 for t in d] for d in documents]
    with tempfile.TemporaryDirectory() as root:
        naive = fit(Path(root), [documents], engine="naive", final_separator=final)
        native = with_orders(replace(naive, engine="native"), Path(root), aligned=False)
        assert_same(run(naive, case), run(native, case))


@given(cases(matchings=("free",), even=False), st.booleans())
@ENGINE_RUNS
def test_engines_agree_on_documents_of_any_length(case: Case, final_separator: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        naive = fit(Path(root), case.shards, engine="naive", final_separator=final_separator)
        expected = run(naive, case)
        assert_same(expected, run(replace(naive, engine="native"), case))
        assert_same(expected, run(replace(naive, engine="fastgram"), case))


@given(cases())
@ENGINE_RUNS
def test_replaying_generated_tokens_gives_their_own_trace(case: Case) -> None:
    with tempfile.TemporaryDirectory() as root:
        model = fit(Path(root), case.shards)
        tokens_BT, trace = run(model, case)
        replayed = model.score(
            tokens_BT, sampler=case.sampler, layout=LAYOUT, seed=case.seed, samples=case.samples
        )
        assert_same((tokens_BT, trace), (tokens_BT, replayed))


@given(cases())
@ENGINE_RUNS
def test_a_sample_depends_on_nothing_but_seed_and_id(case: Case) -> None:
    with tempfile.TemporaryDirectory() as root:
        model = fit(Path(root), case.shards)
        together, _ = run(model, case)
        threads, _ = model.generate(
            sampler=case.sampler, layout=LAYOUT, samples=case.samples, seed=case.seed, workers=2
        )
        alone = [run(model, case, samples=case.samples[i : i + 1])[0] for i in range(len(together))]
        np.testing.assert_array_equal(together, np.concatenate(alone))
        np.testing.assert_array_equal(together, threads)


@given(cases(matchings=("free",)))
@ENGINE_RUNS
def test_the_trace_tells_what_brute_force_counts(case: Case) -> None:
    """Support, distinct tokens and sources of every token, from plain lists."""
    with tempfile.TemporaryDirectory() as root:
        tokens_BT, trace = run(fit(Path(root), case.shards), case)
    assert EOS_TOKEN_ID not in tokens_BT
    documents = [document for shard in case.shards for document in shard]
    needed = min(case.sampler.min_count, len(documents))
    limits = case.sampler.max_context_per_position(LAYOUT)
    for b, t in [(b, t) for b in range(len(tokens_BT)) for t in (0, 1, T // 2, T - 1)]:
        history = [EOS_TOKEN_ID, *tokens_BT[b, :t].tolist()]
        for length in range(min(int(limits[t]), t + 1), -1, -1):
            counts = case.corpus.continuations(history[len(history) - length :])
            counts.pop(EOS_TOKEN_ID, None)
            if counts.total() >= needed or length == 0:
                break
        assert trace["suffix_len"][b, t] == length
        assert trace["num_contexts"][b, t] == counts.total()
        assert trace["num_distinct"][b, t] == len(counts)
        document, at = documents[trace["source_document"][b, t]], trace["source_position"][b, t]
        suffix = history[len(history) - length :]
        assert [EOS_TOKEN_ID, *document][at + 1 - length : at + 2] == [*suffix, tokens_BT[b, t]]


@given(cases(matchings=("channel", "level", "position")))
@ENGINE_RUNS
def test_sources_obey_the_matching(case: Case) -> None:
    with tempfile.TemporaryDirectory() as root:
        _, trace = run(fit(Path(root), case.shards), case)
    classes = {
        "channel": LAYOUT.channel,
        "level": LAYOUT.level,
        "position": np.arange(T),
    }[case.sampler.matching]
    np.testing.assert_array_equal(
        classes[trace["source_position"]], np.broadcast_to(classes, trace["source_position"].shape)
    )
