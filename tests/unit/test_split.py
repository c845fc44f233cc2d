"""Who is held out, in real shards: from all of them, clusters together, scanned once."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from imagegram.corpora.folder import FolderCorpus
from imagegram.corpora.jsonl import JsonlShard
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import CorpusError
from imagegram.executors.process import ProcessExecutor
from imagegram.images.decode import decode_image, thumbnail
from imagegram.images.modality import IMAGES
from imagegram.protocols import Modality
from imagegram.stages.scan import ScanShard
from imagegram.stages.split import Split, SplitHandle
from imagegram.store.artifacts import fingerprint
from imagegram.texts.modality import TEXTS
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


def held_keys(split: SplitHandle) -> dict[str, set[str]]:
    """Held-out keys by the name of their shard."""
    keys = json.loads((split.artifact.path / "holdout.json").read_text())
    names = {shard.identity(): shard.name for shard in split.corpus.shards}
    return {names[content]: set(held) for content, held in keys.items()}


def draw_and_rank(data: bytes) -> tuple[float, bytes]:
    digest = hashlib.sha256(data).digest()
    return int.from_bytes(digest[:8], "big") / 2**64, digest[8:16]


def scans(root: Path) -> set[str]:
    return {artifact.digest for artifact in context(root).store if artifact.kind == "scan_shard"}


def test_clusters_of_all_shards_are_held_out_together(tmp_path: Path) -> None:
    tars = write_corpus(tmp_path / "tars", num_shards=3)
    write_tar(tars / "00003.tar", [(f"far{i}.jpg", near_copy(1000 + i)) for i in range(5)])
    corpus = WebDatasetCorpus(tars=str(tars), holdout_fraction=0.5)
    split = context(tmp_path).make(Split(corpus=corpus))
    facts = split.artifact.facts
    assert (facts["num_scanned"], facts["note"]) == (465, "")
    expected: dict[str, set[str]] = {f"{shard:05d}": set() for shard in range(4)}
    for shard, number in itertools.product(range(3), range(150)):
        seed = 1000 * shard + number
        places = [(f"{shard:05d}", f"{number:04d}", encode(noise(seed)))]
        if shard == 0 and number < 10:
            places.append(("00000", f"near{number}", near_copy(seed)))
        if shard == 1 and number < 5:
            places.append(("00003", f"far{number}", near_copy(seed)))
        lowest = min((data for *_, data in places), key=lambda data: draw_and_rank(data)[1])
        if draw_and_rank(lowest)[0] < 0.5:
            for name, key, _ in places:
                expected[name].add(key)
    assert held_keys(split) == {name: keys for name, keys in expected.items() if keys}
    assert split.num_holdout == sum(map(len, expected.values()))
    assert [part.shard.name for part in split.holdout] == ["00000", "00001", "00002", "00003"]
    for part in split.train:
        opened = part.open()
        held = {record.key for record in part.shard if opened.skip_key(record.key) == "held_out"}
        assert held == expected[part.shard.name]
        assert part.expected_documents == len(part.shard) - len(held)


def test_class_folders_are_held_out_in_proportion(tmp_path: Path) -> None:
    """Five classes of 200 in the order of their names: as many of each, about, and of no other."""
    for number in range(1000):
        folder = tmp_path / "photos" / f"class{number // 200}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04d}.png").write_bytes(encode(noise(number)))
    corpus = FolderCorpus(path=str(tmp_path / "photos"), images_per_shard=150, holdout_fraction=0.2)
    split = context(tmp_path).make(Split(corpus=corpus))
    held = [key.partition("/")[0] for keys in held_keys(split).values() for key in keys]
    counts = [held.count(f"class{number}") for number in range(5)]
    assert sum(counts) == len(held) == split.num_holdout
    assert chisquare(counts).pvalue > 0.01, counts
    assert binomtest(len(held), 1000, 0.2).pvalue > 0.01


def test_order_and_names_of_shards_change_nothing(tmp_path: Path) -> None:
    tars = write_corpus(tmp_path / "tars", num_shards=3)
    paths = [str(tars / f"{shard:05d}.tar") for shard in range(3)]
    one = Split(corpus=WebDatasetCorpus(tars=paths))
    other = Split(corpus=WebDatasetCorpus(name="b", tars=paths[::-1], hash_cache=str(tmp_path)))
    assert fingerprint(one) == fingerprint(other)
    made = [context(tmp_path / str(n)).make(split) for n, split in enumerate((one, other))]
    files = [split.artifact.manifest.files for split in made]
    assert files[0]["holdout.json"] == files[1]["holdout.json"]
    assert made[0].artifact.facts == made[1].artifact.facts
    for policy in ({"holdout_fraction": 0.2}, {"max_holdout": 7}, {"near_duplicate_rms": 5.0}):
        changed = Split(corpus=WebDatasetCorpus(tars=paths, **policy))
        assert fingerprint(one)[0] != fingerprint(changed)[0]


def test_processes_choose_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = WebDatasetCorpus(tars=str(write_corpus(tmp_path / "tars", num_shards=3)))
    alone = context(tmp_path / "alone").make(Split(corpus=corpus))
    monkeypatch.setattr("imagegram.stages.scan._FEW_IMAGES", 1)
    spread = replace(context(tmp_path / "spread"), executor=ProcessExecutor(workers=2))
    split = spread.make(Split(corpus=corpus))
    assert split.artifact.manifest.files == alone.artifact.manifest.files
    assert split.artifact.facts == alone.artifact.facts


def test_a_corpus_that_grows_scans_its_new_shards_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = str(write_corpus(tmp_path / "tars", num_shards=3))
    small = context(tmp_path).make(Split(corpus=WebDatasetCorpus(tars=tars, num_shards=2)))
    before = scans(tmp_path)
    large = context(tmp_path).make(Split(corpus=WebDatasetCorpus(tars=tars)))
    assert len(before) == 2
    assert len(scans(tmp_path) - before) == 1
    # Below `max_holdout` no item changes its side, but for new near-duplicates.
    assert {name: held_keys(large)[name] for name in ("00000", "00001")} == held_keys(small)
    monkeypatch.setattr(ScanShard, "run", None)  # another policy reads no image
    context(tmp_path).make(Split(corpus=WebDatasetCorpus(tars=tars, holdout_fraction=0.3)))


def test_a_killed_split_keeps_its_finished_scans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = str(write_corpus(tmp_path / "tars", num_shards=3))
    split = Split(corpus=WebDatasetCorpus(tars=tars))
    whole = context(tmp_path / "whole").make(split)
    run, scanned = ScanShard.run, []

    def dies_at_the_third(self: ScanShard, *args: Any) -> Any:
        scanned.append(self.shard.name)
        if len(scanned) == 3:
            raise KeyboardInterrupt
        return run(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ScanShard, "run", dies_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            context(tmp_path).make(split)
        assert context(tmp_path).store.find(split) is None
        again = context(tmp_path).make(split)
    assert scanned == ["00000", "00001", "00002", "00002"]
    assert again.artifact.manifest.files == whole.artifact.manifest.files


def test_a_shard_that_changes_while_it_is_scanned_is_refused(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "tars", num_shards=1)
    (shard,) = WebDatasetCorpus(tars=str(root)).shards
    content = iter(["before", "after"])
    changing = replace(shard)
    object.__setattr__(changing, "identity", lambda: next(content))
    with pytest.raises(CorpusError, match="changed"):
        ScanShard(shard=changing, modality=IMAGES).run(tmp_path, context(tmp_path))


def test_texts_are_held_out_by_the_same_policy(tmp_path: Path) -> None:
    """Near-copies of a document, in upper case in another shard, go where it goes."""
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 50_000, 40)) for _ in range(300)]
    for name, some in (("0", texts), ("1", [text.upper() for text in texts[:60]])):
        lines = [json.dumps({"key": f"{name}:{i}", "text": text}) for i, text in enumerate(some)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    corpus = Documents(path=tmp_path)
    split = context(tmp_path).make(Split(corpus=corpus))
    held = held_keys(split)
    originals = {int(key.partition(":")[2]) for key in held["0"]}
    assert {int(key.partition(":")[2]) for key in held["1"]} == originals & set(range(60))
    assert 40 < len(originals) < 85  # of 60 expected
    assert len(originals & set(range(60))) > 5


@dataclass(frozen=True, kw_only=True)
class Documents:
    """JSON lines of a folder."""

    modality: ClassVar[Modality] = TEXTS
    holdout_shards: ClassVar[tuple[JsonlShard, ...]] = ()
    path: Path
    name: str = "documents"
    holdout_fraction: float = 0.2
    max_holdout: int = 4000
    near_duplicate_limit: float = 0.8
    max_failed_fraction: float = 0.0
    views: str = "none"

    @property
    def shards(self) -> tuple[JsonlShard, ...]:
        paths = sorted(self.path.glob("*.jsonl"))
        return tuple(JsonlShard(name=path.stem, path=path) for path in paths)


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


@pytest.mark.parametrize("seeds", [[7], [7, 8] * 20, range(99)])
def test_few_pictures_hold_nothing_out(tmp_path: Path, seeds: list[int]) -> None:
    write_samples(tmp_path / "tars" / "0.tar", seeds)
    corpus = WebDatasetCorpus(tars=str(tmp_path / "tars"), holdout_fraction=1.0)
    split = context(tmp_path).make(Split(corpus=corpus))
    assert split.num_holdout == 0
    assert "fewer than 100 different images" in split.note
    assert split.holdout == ()
    assert split.train[0].open().skip_key("0000") is None


def test_nothing_is_scanned_where_nothing_is_to_be_held_out(tmp_path: Path) -> None:
    tars = str(write_corpus(tmp_path / "tars"))
    for policy in ({"holdout_fraction": 0.0}, {"max_holdout": 0}):
        split = context(tmp_path).make(Split(corpus=WebDatasetCorpus(tars=tars, **policy)))
        assert (split.num_holdout, split.note, split.holdout) == (0, "", ())
        assert split.train[0].open().skip_key("0000") is None
    assert not scans(tmp_path)


def test_a_cluster_too_large_to_be_held_out_is_said(tmp_path: Path) -> None:
    members = [m for number in range(120) for m in sample(f"{number:04d}", number)]
    members += [(f"frame{number}.jpg", near_copy(5000)) for number in range(40)]
    write_tar(tmp_path / "tars" / "0.tar", members)
    for fraction in (0.1, 0.5, 0.9):
        corpus = WebDatasetCorpus(tars=str(tmp_path / "tars"), holdout_fraction=fraction)
        split = context(tmp_path / str(fraction)).make(Split(corpus=corpus))
        (held,) = held_keys(split).values()
        assert not any(key.startswith("frame") for key in held)
        if split.note:  # where one of its frames is drawn
            assert "at least 40 of 160 images lie in clusters of more than" in split.note
            assert "(one holds frame0)" in split.note
    assert split.note


def test_unreadable_images_are_no_candidates(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(105):
        (root / f"{number}.png").write_bytes(encode(noise(number)))
    (root / "broken.png").write_bytes(b"")
    corpus = FolderCorpus(path=str(root), holdout_fraction=1.0)
    split = context(tmp_path).make(Split(corpus=corpus))
    assert split.num_holdout == 105
    assert held_keys(split) == {"00000": {f"{number}.png" for number in range(105)}}


def test_parts_travel_light(tmp_path: Path) -> None:
    corpus = WebDatasetCorpus(tars=str(write_corpus(tmp_path / "tars")), holdout_fraction=0.5)
    part = context(tmp_path).make(Split(corpus=corpus)).train[1]
    part.open()
    packed = pickle.dumps(part)
    assert len(packed) < 5_000
    assert pickle.loads(packed) == part
    assert part.identity()[0] == hashlib.sha256(part.shard.path.read_bytes()).hexdigest()
    assert part.identity()[1:] == [part.split.artifact.identity(), "train"]
