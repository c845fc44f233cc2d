"""Any folder of images becomes shards that are mixtures of its folders; nothing in it is lost."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from imagegram.corpora.folder import FolderCorpus
from imagegram.errors import ConfigError, CorpusError
from imagegram.store.fingerprint import digest
from imagegram.store.snapshot import difference
from tests.pictures import encode, noise


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number, name in enumerate(["b.png", "a/2.JPG", "a/10.jpeg", "c.webp", "a.png"]):
        write(root / name, number)
    (root / "b.txt").write_text("a caption\n")
    (root / "b.json").write_text(json.dumps({"year": 1999}))
    (root / "notes.txt").write_text("no image")
    return root


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(noise(seed), "PNG"))


def keys(root: Path, **fields: Any) -> list[str]:
    shards = FolderCorpus(path=str(root), **fields).shards
    return [record.key for shard in shards for record in shard]


def found(root: Path) -> str:
    return FolderCorpus(path=str(root)).snapshot.found


def test_keys_captions_and_access(photos: Path) -> None:
    (shard,) = FolderCorpus(path=str(photos)).shards
    records = {record.key: record for record in shard}
    assert sorted(records) == ["a.png", "a/10.jpeg", "a/2.JPG", "b.png", "c.webp"]
    assert len(shard) == 5
    assert records["b.png"].caption == "a caption"
    assert records["b.png"].info == {"year": 1999}
    assert records["a.png"].caption is None
    for key, record in records.items():
        assert shard.read(record.locator) == record.data == (photos / key).read_bytes()


def test_files_of_one_stem_keep_distinct_keys_and_share_what_is_beside_them(photos: Path) -> None:
    (photos / "b.jpg").write_bytes(encode(noise(9), "JPEG"))
    records = [r for s in FolderCorpus(path=str(photos), images_per_shard=1).shards for r in s]
    captions = {record.key: record.caption for record in records}
    assert captions["b.jpg"] == captions["b.png"] == "a caption"
    assert len(captions) == 6


def test_every_shard_is_a_mixture_of_class_folders(tmp_path: Path) -> None:
    for name in ("apple", "moss", "sky"):
        for number in range(40):
            path = tmp_path / name / f"{number:04d}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
    shards = FolderCorpus(path=str(tmp_path), images_per_shard=30).shards
    for shard in shards:  # 10 of each are expected, with a standard deviation of 2.2
        counts = Counter(file.partition("/")[0] for file in shard.files)
        assert set(counts) == {"apple", "moss", "sky"}
        assert min(counts.values()) >= 3
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    again = FolderCorpus(path=str(moved), images_per_shard=30).shards
    assert [shard.files for shard in again] == [shard.files for shard in shards]


def test_shards_are_cut_and_nested(photos: Path) -> None:
    shards = FolderCorpus(path=str(photos), images_per_shard=2).shards
    assert [(s.name, len(s)) for s in shards] == [("00000", 2), ("00001", 2), ("00002", 1)]
    assert FolderCorpus(path=str(photos), images_per_shard=2, num_shards=2).shards == shards[:2]


@pytest.mark.parametrize("name", ["b.png", "b.txt", "b.json"])
def test_identity_follows_content_and_not_the_place(photos: Path, name: str) -> None:
    cache = str(photos.parent / "hashes")
    (shard,) = FolderCorpus(path=str(photos), hash_cache=cache).shards
    before = shard.identity()
    assert shard.identity() == before
    moved = photos.parent / "moved"
    photos.rename(moved)
    (again,) = FolderCorpus(path=str(moved), hash_cache=cache).shards
    assert again.identity() == before
    (moved / name).write_bytes(b"changed")
    assert again.identity() != before


# ------------------------------------------------------------------------------ what is not read


def test_links_are_followed_and_every_folder_is_read_once(photos: Path, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "elsewhere" / "cat" / f"{number}.png", 20 + number)
    (photos / "cat").symlink_to("../elsewhere/cat")
    (photos / "same").symlink_to(tmp_path / "elsewhere" / "cat")
    (photos / "loop").symlink_to(photos)
    (tmp_path / "elsewhere" / "cat" / "up").symlink_to("..")
    (photos / "one.png").symlink_to(tmp_path / "elsewhere" / "cat" / "0.png")
    (photos / "self").symlink_to("self")
    names = keys(photos)
    assert {"cat/0.png", "cat/1.png", "cat/2.png", "one.png"} < set(names)
    assert len(names) == 5 + 3 + 1
    assert "3 paths to folders that are read already (cat/up/cat, loop, same)" in found(photos)


def test_a_folder_that_cannot_be_listed_is_counted_and_shouted(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    snapshot = FolderCorpus(path=str(photos)).snapshot
    assert snapshot.found.endswith("1 folder UNREADABLE (a)")
    assert snapshot.counts["unreadable_folders"] == ["a"]
    assert snapshot.counts["images"] == 3
    photos.rename(photos.with_name("a"))
    with pytest.raises(CorpusError, match="cannot be listed: Permission denied"):
        _ = FolderCorpus(path=str(photos.with_name("a"))).shards


@pytest.mark.parametrize(
    "hidden",
    [
        ".thumbnails/1.png",
        ".ipynb_checkpoints/a/1.png",
        "a/.cache/b.png",
        "._b.png",
        "__MACOSX/a/._2.jpg",
        "@eaDir/b.png/SYNOPHOTO_THUMB_M.jpg",
    ],
)
def test_hidden_files_and_folders_are_counted_and_not_read(photos: Path, hidden: str) -> None:
    before = keys(photos)
    write(photos / hidden, 30)
    assert keys(photos) == before
    assert f"1 hidden file ({'a/.cache' if 'cache' in hidden else hidden.split('/')[0]})" in found(
        photos
    )


def test_other_files_are_counted_by_their_suffixes(photos: Path) -> None:
    for number in range(30):
        (photos / f"IMG_{number}.HEIC").write_bytes(b"heic")
    (photos / "LICENSE").write_text("")
    os.mkfifo(photos / "pipe.png")
    assert found(photos) == (
        "5 images in 2 folders; 33 other files (30 .heic, 1 without a suffix, 1 .txt ...)"
    )
    counts = FolderCorpus(path=str(photos)).snapshot.counts
    assert counts["others"] == {"": 1, ".heic": 30, ".txt": 1, "special": 1}


def test_a_link_that_leads_nowhere_is_refused_not_forgotten(photos: Path) -> None:
    (photos / "lost.png").symlink_to(photos / "nowhere.png")
    (shard,) = FolderCorpus(path=str(photos)).shards
    assert len(shard) == 6
    with pytest.raises(CorpusError, match=r"lost\.png could not be read"):
        shard.identity()


def test_what_has_no_images_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus.path=FOLDER"):
        _ = FolderCorpus().shards
    with pytest.raises(CorpusError, match="is not a folder"):
        _ = FolderCorpus(path=str(tmp_path / "nowhere")).shards
    with pytest.raises(CorpusError, match="is not a folder"):
        _ = FolderCorpus(path=str(photos / "b.png")).shards
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "a.heic").touch()
    with pytest.raises(CorpusError, match=r"ends in \.jpg, .* below .*empty: 0 images.*1 \.heic"):
        _ = FolderCorpus(path=str(empty)).shards
    with pytest.raises(ConfigError, match="images_per_shard"):
        FolderCorpus(images_per_shard=0)


def test_names_that_are_no_utf8(photos: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n.png")
    write(photos / name, 9)
    (shard,) = FolderCorpus(path=str(photos), hash_cache=str(photos.parent / "hashes")).shards
    assert shard.identity() == shard.identity()
    record = next(record for record in shard if record.locator.member == name)
    assert record.key == r"caf\xe9\n.png"
    assert shard.read(record.locator) == record.data


def test_a_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"Fotos \xe4")
    write(root / "1.png", 1)
    corpus = FolderCorpus(path=str(root))
    assert corpus.snapshot.line == rf"{tmp_path}/Fotos \xe4: 1 image in 1 folder"
    assert json.dumps(corpus.snapshot.counts)
    assert len(digest({"unknown": str(root)})) == 12  # what a plan knows it by


# -------------------------------------------------------------------------------- one snapshot


def test_a_corpus_is_listed_once_also_in_other_processes(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = FolderCorpus(path=str(photos))
    before = corpus.shards
    write(photos / "new" / "1.png", 40)
    (photos / "a.txt").write_text("a caption that came later")
    (photos / "c.webp").unlink()
    assert corpus.shards == before
    travelled = pickle.loads(pickle.dumps(corpus))
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", None)
        assert travelled.shards == before
    text = difference(corpus)
    assert text is not None
    assert text.startswith(
        f"{photos} changed while it was read: 2 files came (a.txt, new/1.png) and are not in this "
        "run; 1 file went (c.webp)"
    )


def test_nothing_changed_is_nothing_said(photos: Path) -> None:
    corpus = FolderCorpus(path=str(photos))
    assert difference(corpus) is None
    (photos / "a.heic").touch()  # is no file of the corpus
    assert difference(corpus) is None
    photos.rename(photos.with_name("gone"))
    assert "is not a folder" in str(difference(corpus))


def test_changes_while_reading(photos: Path) -> None:
    (shard,) = FolderCorpus(path=str(photos)).shards
    reading = iter(shard)
    record = next(reading)
    last = photos / shard.files[-1]
    os.utime(last, ns=(1, 1))
    with pytest.raises(CorpusError, match="changed while it was read"):
        list(reading)
    reading = iter(shard)
    next(reading)
    (photos / record.locator.member).unlink()
    with pytest.raises(CorpusError, match="changed while it was read"):
        list(reading)
    with pytest.raises(CorpusError, match="is gone"):
        shard.read(record.locator)
    with pytest.raises(CorpusError, match=r"photos: .* could not be read"):
        shard.identity()
