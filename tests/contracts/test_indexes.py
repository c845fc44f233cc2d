"""The contract of every index engine: hand-counted answers, documents, refusals."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
from index_folders import EOS, BruteForce, stream_of, write_index

from imagegram.errors import ConfigError, IndexFormatError, TokenError
from imagegram.indexes import open_index
from imagegram.indexes.open import ENGINES
from imagegram.records import NextTokenDist, Occurrence


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def answer(dist: NextTokenDist) -> tuple[int, dict[int, int]]:
    assert dist.num_contexts == int(dist.counts.sum())
    assert np.all(np.diff(dist.tokens.astype(int)) > 0)
    assert (dist.tokens.dtype, dist.counts.dtype, dist.approx) == (np.uint16, np.uint64, False)
    return dist.suffix_len, dict(zip(dist.tokens.tolist(), dist.counts.tolist(), strict=True))


def test_one_document(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2, 1]]), engine=engine)
    assert (index.num_documents, index.num_tokens) == (1, 5)
    assert [index.count(ids) for ids in ([], [1], [1, 2], [EOS], [EOS, 1], [3])] == [
        5,
        2,
        1,
        2,
        1,
        0,
    ]
    assert answer(index.next_token([EOS])) == (1, {1: 1})  # the final separator is no context
    assert answer(index.next_token([1])) == (1, {2: 1, EOS: 1})
    assert answer(index.next_token([])) == (0, {1: 2, 2: 1, EOS: 2})


def test_one_token_documents(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[5], [6], [5]]), engine=engine)
    assert answer(index.next_token([EOS])) == (1, {5: 2, 6: 1})
    assert answer(index.next_token([5])) == (1, {EOS: 2})
    assert index.document(2).tolist() == [5]
    assert index.documents_equal(np.array([[5], [6], [7]])).tolist() == [2, 1, 0]


def test_duplicates(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2, 3]] * 4 + [[1, 2, 4]]), engine=engine)
    assert answer(index.next_token([EOS, 1, 2])) == (3, {3: 4, 4: 1})
    assert index.documents_equal(np.array([[1, 2, 3], [1, 2, 5]])).tolist() == [4, 0]
    assert index.match_lengths(np.array([[1, 2, 3]])).tolist() == [[3, 2, 1]]


def test_a_context_that_ends_a_document_and_the_corpus(tmp_path: Path, engine: str) -> None:
    # The case in which fast-gram itself gives every count to the separator.
    documents = [[7, 1], [7, 2], [7], [7, 3], [7]]
    index = open_index(write_index(tmp_path, documents, final_separator=False), engine=engine)
    assert answer(index.next_token([7])) == (1, {1: 1, 2: 1, 3: 1, EOS: 1})
    assert index.count([7]) == 5
    assert answer(index.next_token([EOS, 7])) == (2, {1: 1, 2: 1, 3: 1, EOS: 1})


def test_the_separator_inside_a_prompt(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2], [3, 4]]), engine=engine)
    assert index.count([2, EOS, 3]) == 1
    assert answer(index.next_token([9, 2, EOS])) == (2, {3: 1})
    assert index.occurrences([EOS, 3]) == (Occurrence(document=1, position=-1),)
    assert index.occurrences([4, EOS]) == (Occurrence(document=1, position=1),)
    places = {(place.document, place.position) for place in index.occurrences([EOS])}
    assert places == {(0, -1), (1, -1), (1, 2)}


def test_nothing_runs_across_shards(tmp_path: Path, engine: str) -> None:
    folders = [write_index(tmp_path / "a", [[1, 2]]), write_index(tmp_path / "b", [[3, 4]])]
    index = open_index(folders, engine=engine)
    assert index.count([2, EOS, EOS, 3]) == index.count([2, EOS, 3]) == 0
    assert index.longest_suffix([2, EOS, 3]) == 2
    assert index.occurrences([3]) == (Occurrence(document=1, position=0),)


def test_min_count_is_tested_on_the_sum_over_shards(tmp_path: Path, engine: str) -> None:
    folders = [write_index(tmp_path / name, [[1, 2, 3]]) for name in "abc"]
    index = open_index(folders, engine=engine)
    assert answer(index.next_token([1, 2], min_count=3)) == (2, {3: 3})
    assert answer(index.next_token([1, 2], min_count=4))[0] == 0
    assert index.longest_suffix([1, 2], min_count=3) == 2


def test_max_context_limits_the_suffix(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2, 3], [0, 2, 4]]), engine=engine)
    assert answer(index.next_token([1, 2], max_context=1)) == (1, {3: 1, 4: 1})
    assert answer(index.next_token([1, 2], max_context=0))[0] == 0
    assert answer(index.next_token([1, 2], max_context=100)) == (2, {3: 1})


def test_overlong_and_unseen_prompts(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2, 3]]), engine=engine)
    assert answer(index.next_token([9] * 1000 + [1, 2])) == (2, {3: 1})
    assert answer(index.next_token([9])) == (0, {1: 1, 2: 1, 3: 1, EOS: 2})
    assert index.longest_suffix([1, 2, 3, 9]) == 0
    assert index.count([1, 2, 3] * 1000) == 0


def test_spans_are_maximal_and_placed(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2, 3, 4], [3, 4, 5], [3, 4]]), engine=engine)
    spans = index.spans([1, 2, 3, 4, 5, 9, 4], max_occurrences=2)
    assert [(span.start, span.end, span.count) for span in spans] == [
        (0, 4, 1),
        (2, 5, 1),
        (6, 7, 3),
    ]
    assert spans[1].occurrences == (Occurrence(document=1, position=0),)
    assert len(spans[2].occurrences) == 2
    assert [span.start for span in index.spans([1, 2, 3, 4, 5, 9, 4], min_len=4)] == [0]
    assert index.spans([]) == []


def test_a_greedy_parse_covers_the_row(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2, 3], [3, 4], [1, 2]]), engine=engine)
    phrases = index.parse([1, 2, 3, 4, 9, 3, 4])
    found = [(p.start, p.length, p.count, p.documents.tolist()) for p in phrases]
    assert found == [(0, 3, 1, [0]), (3, 1, 1, [1]), (4, 1, 0, []), (5, 2, 1, [1])]
    assert [p.positions.tolist() for p in phrases] == [[0], [1], [], [0]]
    assert index.parse([1], max_occurrences=1)[0].documents.size == 1


@pytest.mark.parametrize("documents", [[[1, 2], [2]], [[300, 2], [1]]], ids=["bytes", "wide"])
def test_shard_order_only_renumbers_documents(tmp_path: Path, engine: str, documents) -> None:
    parts = [[*documents], [[2, 1]], [[1, 2], [1, 2]]]
    folders = [write_index(tmp_path / str(i), part) for i, part in enumerate(parts)]
    brute = BruteForce([stream_of(part) for part in parts])
    for order in itertools.permutations(range(3)):
        index = open_index([folders[i] for i in order], engine=engine)
        assert index.count([1, 2]) == brute.count([1, 2])
        assert answer(index.next_token([EOS, 1])) == brute.next_token([EOS, 1], None, 1)
        expected = [document for i in order for document in parts[i]]
        assert [index.document(i).tolist() for i in range(5)] == expected


def test_a_shard_without_documents_changes_nothing_else(tmp_path: Path, engine: str) -> None:
    folders = [write_index(tmp_path / "a", [[1, 2]]), write_index(tmp_path / "b", [])]
    index = open_index(folders, engine=engine)
    assert (index.num_documents, index.num_tokens, index.count([EOS])) == (1, 5, 3)
    assert answer(index.next_token([])) == (0, {1: 1, 2: 1, EOS: 3})
    assert answer(index.next_token([EOS])) == (1, {1: 1})


def test_rows_may_be_empty(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2]]), engine=engine)
    assert index.match_lengths(np.zeros((0, 3), np.uint16)).shape == (0, 3)
    assert index.suffix_match_lengths(np.zeros((2, 0), np.uint16)).shape == (2, 0)
    assert index.match_lengths(np.zeros((1, 2), np.uint16)).dtype == np.int32
    assert index.parse([]) == []


def test_metadata_and_missing_documents(tmp_path: Path, engine: str) -> None:
    folders = [write_index(tmp_path / n, [[1], [2]], metadata=True) for n in "ab"]
    index = open_index(folders, engine=engine)
    assert index.metadata(3) == {"key": "ü1"}
    for call in (index.document, index.metadata):
        with pytest.raises(TokenError, match="no document 4"):
            call(4)
        with pytest.raises(TokenError, match="no document -1"):
            call(-1)


@pytest.mark.parametrize(
    "ids", [[-1], [65536], [1.0], ["1"], [True], [None], [[1]], 7, np.array([1.5]), [2**70]]
)
def test_bad_ids_are_refused(tmp_path: Path, engine: str, ids) -> None:
    index = open_index(write_index(tmp_path, [[1, 2]]), engine=engine)
    for question in (index.count, index.next_token, index.longest_suffix, index.spans, index.parse):
        with pytest.raises(TokenError):
            question(ids)


def test_integers_of_any_kind_are_taken(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2]]), engine=engine)
    for ids in ([np.int64(1), np.uint16(2)], np.array([1, 2], np.int32), (1, 2)):
        assert index.count(ids) == 1


def test_bad_knobs_are_refused(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2]]), engine=engine)
    for call in (
        lambda: index.next_token([1], min_count=0),
        lambda: index.next_token([1], max_context=-1),
        lambda: index.longest_suffix([1], min_count=0),
        lambda: index.spans([1], min_len=0),
        lambda: index.spans([1], max_occurrences=-1),
        lambda: index.parse([1], max_occurrences=-1),
    ):
        with pytest.raises(ConfigError, match="at least"):
            call()
    with pytest.raises(TokenError, match="shape"):
        index.match_lengths(np.zeros(3, np.uint16))
    with pytest.raises(TokenError, match="empty sequence"):
        index.occurrences([])


def test_an_index_travels_to_another_process(tmp_path: Path, engine: str) -> None:
    index = open_index(write_index(tmp_path, [[1, 2]] * 500), engine=engine)
    assert index.count([1]) == 500
    packed = pickle.dumps(index)
    assert len(packed) < 2000
    assert pickle.loads(packed).count([1]) == 500


def test_what_can_be_opened(tmp_path: Path, engine: str) -> None:
    for name in ("00000", "00001"):
        write_index(tmp_path / "root" / name, [[1, 2]])
    write_index(tmp_path / "root" / ".partial-00002", [[1, 2]])  # left by a killed job
    index = open_index(str(tmp_path / "root"), engine=engine)
    assert index.count([1, 2]) == 2


def test_shards_of_one_folder_are_numbered_as_numbers(tmp_path: Path, engine: str) -> None:
    """Eleven of equal size: by name, shard 10 would be taken for shard 2."""
    for number in range(11):
        write_index(tmp_path, [[number, 50]], number=number, final_separator=False)
    index = open_index(tmp_path, engine=engine)
    for number in range(11):
        assert index.occurrences([number, 50]) == (Occurrence(document=number, position=0),)
        assert answer(index.next_token([EOS, number])) == (2, {50: 1})
    assert answer(index.next_token([50])) == (0, {EOS: 11, 50: 11} | dict.fromkeys(range(11), 1))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="not a folder"):
        open_index(tmp_path / "nowhere")
    with pytest.raises(IndexFormatError, match="at least one shard"):
        open_index([])
    with pytest.raises(IndexFormatError, match="no tokenized"):
        open_index(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'native'"):
        open_index(write_index(tmp_path / "a", [[1]]), engine="nativ")
