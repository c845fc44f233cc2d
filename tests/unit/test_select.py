"""Who is chosen of a tokenization: by the split, with no token read, and shared where it can."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import CorpusError, StageError
from imagegram.executors.serial import SerialExecutor
from imagegram.indexes.build.stage import TOKEN_FILES, BuildIndex
from imagegram.protocols import Corpus
from imagegram.stages.select import SelectShard, tokenize
from imagegram.stages.split import Split, SplitHandle
from imagegram.stages.tokens import TokenSet
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.index_folders import write_index
from tests.pictures import context, encode, ids_of, noise, sample, write_samples, write_tar

#: Of a picture that is held out, with its near-copy in another shard.
NEAR: Final = 1
TOY = PyramidTokenizer(name="toy", sizes=(1, 2))


def near_copy(seed: int) -> bytes:
    return encode(np.clip(noise(seed).astype(int) + 3, 0, 255).astype(np.uint8))


def split_of(root: Path, corpus: Corpus) -> SplitHandle:
    return context(root).make(Split(corpus=corpus))


def tokenized(root: Path, corpus: Corpus) -> tuple[TokenSet, TokenSet]:
    return tokenize(lambda _, stage: context(root).make(stage), split_of(root, corpus), TOY)


def keys(tokens: TokenSet) -> list[str]:
    return [tokens.metadata(i)["key"] for i in range(tokens.num_documents)]


def made(root: Path, kind: str) -> set[str]:
    return {artifact.digest for artifact in context(root).store if artifact.kind == kind}


def skipped(tokens: TokenSet) -> dict[str, int]:
    counts: dict[str, int] = tokens.artifact.facts["skipped"]
    assert tokens.artifact.facts["num_records"] == tokens.num_documents + sum(counts.values())
    return counts


@pytest.fixture
def corpus(tmp_path: Path) -> WebDatasetCorpus:
    """120 pictures and a broken one, then 7 of which one is nearly the one of key NEAR."""
    first = [m for number in range(120) for m in sample(f"{number:04d}", number)]
    write_tar(tmp_path / "tars" / "0.tar", [*first, ("broken.png", b"no picture")])
    second = [m for number in range(200, 206) for m in sample(f"{number:04d}", number)]
    write_tar(tmp_path / "tars" / "1.tar", [*second, ("near.png", near_copy(NEAR))])
    return WebDatasetCorpus(tars=str(tmp_path / "tars"), holdout_fraction=0.3)


def test_every_record_is_in_one_part_or_counted(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    split, (train, holdout) = split_of(tmp_path, corpus), tokenized(tmp_path, corpus)
    held = split.num_holdout
    assert held > 20
    assert skipped(train) == {"held_out": held, "unsupported_format": 1}
    assert skipped(holdout) == {"not_held_out": 127 - held, "unsupported_format": 1}
    pictures = [f"{i:04d}" for i in (*range(120), *range(200, 206))]
    assert sorted(keys(train) + keys(holdout)) == sorted([*pictures, "near"])
    assert {"near", f"{NEAR:04d}"} <= set(keys(holdout))
    listed = [
        json.loads(line)
        for shard in train.shards
        if shard.selection is not None
        for line in (shard.selection.path / "skipped.jsonl").read_text().splitlines()
    ]
    assert {"key": "near", "reason": "held_out"} in listed
    assert {line["key"] for line in listed if line["reason"] == "held_out"} == set(keys(holdout))
    expected = [ids_of(TOY, noise(int(key))) for key in keys(train)]  # "near" is none of them
    np.testing.assert_array_equal(train.gather(range(train.num_documents)), expected)
    blocks = np.concatenate([block for _, block in train.sketch_blocks()])
    assert len(blocks) == train.num_documents
    assert train.original(3) == encode(noise(int(keys(train)[3])))


def test_another_split_tokenizes_nothing(
    tmp_path: Path, corpus: WebDatasetCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = tokenized(tmp_path, corpus)
    shards, selections = made(tmp_path, "token_shard"), made(tmp_path, "selection_shard")

    def refuse(*_: Any) -> Any:
        raise AssertionError("an image was tokenized again")

    monkeypatch.setattr(PyramidTokenizer, "encode", refuse)
    second, _ = tokenized(tmp_path, replace(corpus, holdout_fraction=0.6))
    assert second.num_documents < first.num_documents
    assert made(tmp_path, "token_shard") == shards
    assert made(tmp_path, "tokens") == {shard_list(first), shard_list(second)}
    assert len(made(tmp_path, "selection_shard") - selections) == 4  # both parts of both shards


def shard_list(selected: TokenSet) -> str:
    upstream: str = selected.artifact.manifest.payload["tokens"]
    return upstream.removeprefix("tokens/")


def test_a_shard_of_which_nothing_is_left_out_is_linked_and_shared(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    draws = {
        seed: hashlib.sha256(encode(noise(seed))).digest()[0] / 256 for seed in range(300, 330)
    }
    write_samples(tmp_path / "tars" / "2.tar", [seed for seed in draws if draws[seed] >= 0.6][:5])
    indexes = []
    for fraction in (0.3, 0.6):
        train, _ = tokenized(tmp_path, replace(corpus, holdout_fraction=fraction))
        indexes.append(context(tmp_path).make(BuildIndex(tokens=train, shard_tokens=1)))
        last = train.shards[2]
        assert last.is_whole
        for name in TOKEN_FILES:
            assert (indexes[-1].shards[2].path / name).samefile(last.artifact.path / name)
    one, other = indexes
    assert one.shards[2].path == other.shards[2].path
    assert one.shards[0].path != other.shards[0].path
    assert len(made(tmp_path, "index_shard")) <= 5


def test_an_index_holds_training_documents_alone(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    train, holdout = tokenized(tmp_path, corpus)
    model = context(tmp_path).make(BuildIndex(tokens=train))
    (shard,) = model.shards
    rows = train.gather(range(train.num_documents)).tolist()
    whole = write_index(tmp_path / "whole", rows)
    for name in ("tokenized.0", "offset.0", "table.0"):
        assert (shard.path / name).read_bytes() == (whole / name).read_bytes()
    lines = (shard.path / "metadata.0").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == keys(train)
    assert model.documents_equal(holdout.gather(range(holdout.num_documents))).sum() == 0
    assert model.metadata(len(rows) - 1) == train.metadata(len(rows) - 1)


def test_sizes_of_a_corpus_share_their_index_shards(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    """The split is another one, but leaves out the same documents of the shards that they share."""
    small, _ = tokenized(tmp_path, replace(corpus, num_shards=1))
    large, _ = tokenized(tmp_path, corpus)
    assert small.shards[0].selection != large.shards[0].selection
    assert small.shards[0].identity() == large.shards[0].identity()
    assert large.first_documents[1] == small.num_documents


def test_threads_choose_the_same(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    train, _ = tokenized(tmp_path, corpus)
    spread = replace(context(tmp_path / "spread"), executor=SerialExecutor(workers=3))
    split = spread.make(Split(corpus=corpus))
    other, _ = tokenize(lambda _, stage: spread.make(stage), split, TOY)
    for one, two in zip(train.shards, other.shards, strict=True):
        assert one.selection is not None
        assert two.selection is not None
        assert one.selection.manifest.files == two.selection.manifest.files


def test_whole_shards_are_held_out(tmp_path: Path) -> None:
    write_samples(tmp_path / "train" / "0.tar", [1, 2, 100])
    write_tar(
        tmp_path / "holdout" / "0.tar", [*sample("0000", 100), *sample("x", 101), ("a.png", b"")]
    )
    corpus = WebDatasetCorpus(
        tars=str(tmp_path / "train"),
        holdout_tars=str(tmp_path / "holdout"),
        max_failed_fraction=1.0,
    )
    train, holdout = tokenized(tmp_path, corpus)
    assert (keys(train), keys(holdout)) == (["0000", "0001"], ["0000", "x"])
    assert skipped(train) == {"near_duplicate_of_holdout": 1}
    assert skipped(holdout) == {"empty_file": 1}


def test_few_pictures_hold_nothing_out(tmp_path: Path) -> None:
    write_samples(tmp_path / "tars" / "0.tar", range(5))
    train, holdout = tokenized(tmp_path, WebDatasetCorpus(tars=str(tmp_path / "tars")))
    assert (train.num_documents, holdout.num_documents, holdout.shards) == (5, 0, ())
    assert holdout.gather([]).shape == (0, 15)


def test_a_corpus_of_which_nothing_is_left(tmp_path: Path) -> None:
    write_samples(tmp_path / "tars" / "0.tar", range(120))
    corpus = WebDatasetCorpus(tars=str(tmp_path / "tars"), holdout_fraction=1.0)
    with pytest.raises(CorpusError, match=r"no training image is left of 120 .*held_out: 120"):
        tokenized(tmp_path, corpus)


def test_a_corpus_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    """Holding out less would not help."""
    write_tar(tmp_path / "tars" / "0.tar", [("a.png", b""), ("b.png", b"no picture")])
    corpus = WebDatasetCorpus(tars=str(tmp_path / "tars"), max_failed_fraction=1.0)
    mend = "to mend it: convert them to JPEG, PNG or WebP$"
    with pytest.raises(CorpusError, match=mend) as refusal:
        tokenized(tmp_path, corpus)
    assert "holdout" not in str(refusal.value)


def test_counts_that_do_not_add_up_are_loud(
    tmp_path: Path, corpus: WebDatasetCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SelectShard, "_reasons", lambda *_: iter([None] * 5))
    with pytest.raises(StageError, match="121 records, but 5 documents and 1 skipped"):
        tokenized(tmp_path, corpus)


@given(seeds=st.lists(st.integers(0, 3), min_size=1, max_size=8), fraction=st.floats(0, 1))
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
def test_the_parts_of_a_shard_add_up(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int], fraction: float
) -> None:
    """Repeated pictures, held out together, in front of a hundred that make a holdout possible."""
    root = tmp_path_factory.mktemp("parts")
    write_samples(root / "tars" / "0.tar", [*seeds, *range(1000, 1100)])
    corpus = WebDatasetCorpus(tars=str(root / "tars"), holdout_fraction=fraction * 0.9)
    train, holdout = tokenized(root, corpus)
    counts = Counter(skipped(train))
    assert counts["held_out"] == holdout.num_documents
    assert not counts["near_duplicate_of_holdout"]  # they are held out themselves
    assert not set(keys(train)) & set(keys(holdout))
    sources = [{hash(t.original(i)) for i in range(t.num_documents)} for t in (train, holdout)]
    assert not sources[0] & sources[1]
