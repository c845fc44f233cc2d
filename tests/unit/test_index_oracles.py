"""Another engine, opened on the folders that we write, gives our answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from index_folders import EOS, write_index

from imagegram.indexes import Index, open_index
from imagegram.indexes.native import NativeIndex


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three shards of pyramid-like rows: many duplicates, few values around the middle."""
    rng = np.random.default_rng(5)
    root = tmp_path_factory.mktemp("oracle")
    made = []
    for number in range(3):
        rows = np.clip(rng.normal(128, 2, (40, 60)), 0, 255).astype(int)
        rows[20:30, 10:] = rows[:10, 10:]
        made.append(write_index(root / str(number), rows.tolist()))
    return made


@pytest.fixture(scope="module")
def queries(folders: list[Path]) -> list[list[int]]:
    """Runs of the corpus, cut and spoilt, some across separators; none ends a shard."""
    rng = np.random.default_rng(6)
    streams = [np.fromfile(folder / "tokenized.0", "<u2") for folder in folders]
    found = []
    while len(found) < 400:
        stream = streams[rng.integers(3)]
        start = rng.integers(len(stream) - 40)
        query = stream[start : start + rng.integers(1, 40)].tolist()
        if rng.random() < 0.3:
            query[0] = int(rng.integers(120, 137))
        found.append(query)
    return found


def next_tokens(answer: dict) -> dict[int, int]:
    return {int(t): int(entry["cont_cnt"]) for t, entry in answer["result_by_token_id"].items()}


def ours(index: Index, query: list[int]) -> dict[int, int]:
    dist = index.next_token(query)
    return dict(zip(dist.tokens.tolist(), dist.counts.tolist(), strict=True))


def test_fast_gram_opens_what_we_build(folders: list[Path], queries: list[list[int]]) -> None:
    import fastgram

    index = open_index(folders)
    engine = fastgram.GramEngine([str(f) for f in folders], eos_token_id=EOS, threads=1)
    assert engine.engine.get_total_doc_cnt() == index.num_documents
    for query in queries:
        assert engine.count(query)["count"] == index.count(query)
        answer = engine.ntd(query, max_support=index.num_tokens)
        assert answer["suffix_len"] == index.next_token(query).suffix_len
        assert next_tokens(answer) == ours(index, query)


def test_fast_gram_retrieves_our_documents(folders: list[Path]) -> None:
    import fastgram

    index = open_index(folders[0])
    engine = fastgram.GramEngine(str(folders[0]), eos_token_id=EOS, threads=1)
    for document in (0, 17, 39):
        found = engine.engine.get_doc_by_ix(doc_ix=document, max_disp_len=100)
        assert found.token_ids[:60] == index.document(document).tolist()


def test_a_copy_is_matched_to_its_end_in_linear_time(folders: list[Path]) -> None:
    index = open_index(folders)
    assert isinstance(index, NativeIndex)
    rows = np.stack([index.document(d) for d in range(index.num_documents)])
    lengths = index.match_lengths(rows)
    assert (lengths == np.arange(60, 0, -1)).all()
    assert (index.suffix_match_lengths(rows) == np.arange(1, 61)).all()
    assert (index.documents_equal(rows) == 1).all()
    assert [len(index.parse(row)) for row in rows] == [1] * len(rows)
