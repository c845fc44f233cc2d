"""Who is held out: by content, clusters together, the same for every size of a corpus."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from imagegram.corpora.folder import FolderCorpus
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.images.decode import decode_image, thumbnail
from imagegram.stages.split import Split, SplitHandle
from imagegram.store.artifacts import fingerprint
from tests.pictures import Member, context, encode, noise, sample, write_samples, write_tar


def write_corpus(root: Path, *, num_shards: int = 2) -> Path:
    """150 pictures a shard; the first shard also holds near-copies of its first ten."""
    for shard in range(num_shards):
        members: list[Member] = []
        for number in range(150):
            members += sample(f"{number:04d}", 1000 * shard + number)
        if shard == 0:
            members += [(f"near{i}.jpg", near_copy(i)) for i in range(10)]
        write_tar(root / f"{shard:05d}.tar", members)
    return root


def near_copy(seed: int) -> bytes:
    return encode(np.clip(noise(seed).astype(int) + 3, 0, 255).astype(np.uint8))


def held_keys(split: SplitHandle) -> set[str]:
    (keys,) = json.loads((split.artifact.path / "holdout.json").read_text()).values()
    return set(keys)


def test_clusters_are_held_out_together_by_their_smallest_hash(tmp_path: Path) -> None:
    corpus = WebDatasetCorpus(tars=str(write_corpus(tmp_path / "tars")), holdout_fraction=0.5)
    split = context(tmp_path).make(Split(corpus=corpus))
    assert split.artifact.facts["num_scanned"] == 160
    assert split.artifact.facts["num_clusters"] == 150
    expected = set()
    for number in range(150):
        copies = [(f"{number:04d}", encode(noise(number)))]
        if number < 10:
            copies.append((f"near{number}", near_copy(number)))
        smallest = min(hashlib.sha256(data).hexdigest() for _, data in copies)
        if int(smallest[:8], 16) / 2**32 < 0.5:
            expected |= {key for key, _ in copies}
    assert held_keys(split) == expected
    assert 50 < len(expected) < 110
    thumbnails = np.load(split.artifact.path / "thumbnails.npy")
    assert thumbnails.shape == (len(expected), 16, 16, 3)


def test_all_sizes_of_a_corpus_share_one_split(tmp_path: Path) -> None:
    tars = str(write_corpus(tmp_path / "tars", num_shards=3))
    one = Split(corpus=WebDatasetCorpus(name="a", tars=tars, num_shards=1))
    three = Split(
        corpus=WebDatasetCorpus(
            name="b", tars=tars, num_shards=3, hash_cache=str(tmp_path / "hashes")
        )
    )
    assert fingerprint(one) == fingerprint(three)
    other = Split(corpus=WebDatasetCorpus(tars=tars, holdout_fraction=0.2))
    assert fingerprint(one)[0] != fingerprint(other)[0]


def test_near_duplicates_of_held_out_images_leave_training_in_every_shard(tmp_path: Path) -> None:
    tars = write_corpus(tmp_path / "tars")
    corpus = WebDatasetCorpus(tars=str(tars), holdout_fraction=0.5)
    held = sorted(held_keys(context(tmp_path).make(Split(corpus=corpus))))
    original = next(key for key in held if not key.startswith("near"))
    write_tar(tars / "00001.tar", [("copy.png", near_copy(int(original))), *sample("new", 9999)])
    split = context(tmp_path).make(Split(corpus=corpus))  # the first shard is the same
    second = split.train[1].open()
    assert [second.skip_key(key) for key in ("copy", "new", original)] == [None, None, None]
    small = {record.key: thumbnail(decode_image(record.data)) for record in split.train[1].shard}
    assert second.skip_sketch(small["copy"]) == "near_duplicate_of_holdout"
    assert second.skip_sketch(small["new"]) is None
    first, (holdout,) = split.train[0].open(), split.holdout
    assert first.skip_key(original) == "held_out"
    assert holdout.open().skip_key(original) is None
    assert holdout.open().skip_key("not there") == "not_held_out"
    assert holdout.open().skip_sketch(small["copy"]) is None


def test_parts_of_a_shard_partition_it(tmp_path: Path) -> None:
    corpus = WebDatasetCorpus(tars=str(write_corpus(tmp_path / "tars")))
    split = context(tmp_path).make(Split(corpus=corpus))
    train, holdout = split.train[0].open(), split.holdout[0].open()
    for record in corpus.shards[0]:
        in_train, in_holdout = train.skip_key(record.key), holdout.skip_key(record.key)
        assert (in_train is None) != (in_holdout is None)
        if in_train is None:  # so far from every held-out picture that nothing is lost
            assert train.skip_sketch(thumbnail(decode_image(record.data))) is None


def test_whole_shards_are_held_out_whole(tmp_path: Path) -> None:
    write_samples(tmp_path / "train" / "0.tar", range(5))
    write_samples(tmp_path / "holdout" / "0.tar", range(100, 103))
    corpus = WebDatasetCorpus(
        tars=str(tmp_path / "train"), holdout_tars=str(tmp_path / "holdout"), holdout_fraction=0.9
    )
    split = context(tmp_path).make(Split(corpus=corpus))
    assert split.num_holdout == 3
    assert split.artifact.facts["whole_shards"] is True
    # Equal keys in another shard are other images.
    assert split.train[0].open().skip_key("0000") is None
    assert split.holdout[0].open().skip_key("0000") is None
    assert len(split.holdout) == 1


@pytest.mark.parametrize("seeds", [[7], [7, 8] * 250, range(99)])
def test_few_pictures_hold_nothing_out(tmp_path: Path, seeds: list[int]) -> None:
    write_samples(tmp_path / "tars" / "0.tar", seeds)
    corpus = WebDatasetCorpus(tars=str(tmp_path / "tars"), holdout_fraction=1.0)
    split = context(tmp_path).make(Split(corpus=corpus))
    assert split.num_holdout == 0
    assert split.artifact.facts["num_clusters"] == len(set(seeds))
    assert split.holdout == ()
    assert split.train[0].open().skip_key("0000") is None


def test_unreadable_images_are_no_candidates(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(105):
        (root / f"{number}.png").write_bytes(encode(noise(number)))
    (root / "broken.png").write_bytes(b"")
    corpus = FolderCorpus(path=str(root), holdout_fraction=1.0)
    split = context(tmp_path).make(Split(corpus=corpus))
    assert split.num_holdout == 105
    assert "broken" not in held_keys(split)


def test_parts_travel_light(tmp_path: Path) -> None:
    corpus = WebDatasetCorpus(tars=str(write_corpus(tmp_path / "tars")), holdout_fraction=0.5)
    part = context(tmp_path).make(Split(corpus=corpus)).train[1]
    part.open()
    packed = pickle.dumps(part)
    assert len(packed) < 5_000
    assert pickle.loads(packed) == part
    assert part.identity()[0] == hashlib.sha256(part.shard.path.read_bytes()).hexdigest()
    assert part.identity()[1:] == [part.split.artifact.identity(), "train"]
