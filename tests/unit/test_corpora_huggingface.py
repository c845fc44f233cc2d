"""Parquet files of images and texts: every row is a record, every file of a split is a shard."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from imagegram.corpora.dataset_files import files_of_split, split_of
from imagegram.corpora.huggingface import HuggingFaceCorpus, HuggingFaceTextCorpus
from imagegram.corpora.parquet import ParquetShard
from imagegram.errors import ConfigError, CorpusError
from imagegram.tools import download as tool
from tests.hub_server import Hub, serving
from tests.parquets import IMAGE, LABELS, images, write, write_images
from tests.pictures import encode, noise


def shard(path: Path, column: str = "image", kind: str = "image") -> ParquetShard:
    return ParquetShard(name="0", path=path, column=column, kind=kind)


def corpus(dataset: Path | str, **fields: Any) -> HuggingFaceCorpus:
    return HuggingFaceCorpus(dataset=str(dataset), **fields)


# ------------------------------------------------------------------------------------------- rows


def test_every_row_is_a_record_with_its_label(tmp_path: Path) -> None:
    path = write_images(tmp_path / "train.parquet", range(150), row_group_size=100)
    opened = shard(path)
    records = list(opened)
    assert len(records) == len(opened) == 150
    assert [record.data for record in records] == [encode(noise(seed)) for seed in range(150)]
    assert [record.key for record in records] == [f"row {row}" for row in range(150)]
    assert records[4].info == {"label": LABELS[1], "path": "4.png"}
    for row in (149, 0, 99, 100, 64, 63):  # batches and row groups end between them
        assert opened.read(records[row].locator) == records[row].data


def test_columns_of_all_kinds(tmp_path: Path) -> None:
    table = {
        "image": images([0, 1, 2]),
        "label": [2, -1, None],
        "score": [0.5, float("nan"), float("inf")],
        "caption": ["a pie", None, ""],
        "wide": pa.array([1 << 60, 2, 3]),
        "true": [True, False, None],
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "box": [[1, 2], [], None],  # no scalar
        "thumbnail": [b"1", b"2", b"3"],  # nor this
    }
    features = {"image": IMAGE, "label": {"names": [*LABELS], "_type": "ClassLabel"}}
    path = write(tmp_path / "0.parquet", table, features)
    info = [record.info for record in shard(path)]
    assert info == [
        {"label": "caprese", "score": 0.5, "caption": "a pie", "wide": 1 << 60, "true": True,
         "kind": "x", "path": "0.png"},
        {"label": None, "score": None, "caption": None, "wide": 2, "true": False, "kind": "y",
         "path": "1.png"},
        {"label": None, "score": None, "caption": "", "wide": 3, "true": None, "kind": "x",
         "path": "2.png"},
    ]  # fmt: skip


def test_rows_without_an_image(tmp_path: Path) -> None:
    rows = [*images([0]), None, {"bytes": None, "path": "x.png"}, {"bytes": b"", "path": None}]
    opened = shard(write(tmp_path / "0.parquet", {"image": [*rows, *images([1])]}))
    records = list(opened)
    assert [record.failure for record in records] == [None, *["no_image"] * 3, None]
    assert opened.read(records[4].locator) == encode(noise(1))


def test_a_plain_binary_column_is_enough(tmp_path: Path) -> None:
    data = [encode(noise(seed)) for seed in range(3)]
    path = write(tmp_path / "a.parquet", {"png": data, "n": [1, 2, 3]})
    (only,) = corpus(tmp_path).shards
    assert (only.path, only.column) == (path, "png")
    assert [record.data for record in only] == data
    assert [record.info for record in only] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "0.parquet", {"text": ["é", None, ""], "year": [1, 2, 3]})
    opened = shard(path, "text", "text")
    records = list(opened)
    assert [record.data for record in records] == ["é".encode(), b"", b""]
    assert [record.failure for record in records] == [None, "no_text", None]
    assert opened.read(records[0].locator) == "é".encode()
    assert records[0].info == {"year": 1}


def test_a_corpus_of_texts_chooses_its_column(tmp_path: Path) -> None:
    table = {"title": ["a", "b"], "text": ["first", "second"], "n": [1, 2]}
    write(tmp_path / "0.parquet", table)

    def texts(**fields: Any) -> list[bytes]:
        (only,) = HuggingFaceTextCorpus(dataset=str(tmp_path), **fields).shards
        return [record.data for record in only]

    assert texts() == [b"first", b"second"]
    assert texts(text="title") == [b"a", b"b"]
    with pytest.raises(CorpusError, match=r"corpus\.text=n is no column of texts.*title, text"):
        texts(text="n")
    write(tmp_path / "0.parquet", {"title": ["a"], "body": ["b"]})
    with pytest.raises(CorpusError, match=r"2 columns of texts; type corpus\.text=NAME, one of"):
        texts()
    with pytest.raises(ConfigError, match=r"corpus\.near_duplicate_similarity must lie in"):
        texts(near_duplicate_similarity=2.0)


def test_the_identity_is_content_and_column(tmp_path: Path) -> None:
    table = {"image": images([0]), "second": images([1])}
    one, other = (write(tmp_path / f"{n}.parquet", table) for n in range(2))
    assert shard(one).identity() == shard(other).identity()
    assert shard(one).identity() != shard(one, "second").identity()
    assert shard(one).identity() != shard(one, "image", "text").identity()
    remembered = ParquetShard(name="0", path=one, column="image", hash_cache=str(tmp_path / "h"))
    assert remembered.known_identity() is None
    assert remembered.identity() == shard(one).identity() == remembered.known_identity()


# ----------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_what_is_no_whole_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = write_images(tmp_path / "0.parquet", range(3))
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(CorpusError, match=r"0\.parquet is no whole Parquet file.*Get it again"):
        _ = corpus(tmp_path).shards
    with pytest.raises(CorpusError, match="no whole Parquet file"):
        list(shard(path))


def test_a_pointer_to_a_file_says_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_text("version https://git-lfs.github.com/spec/v1\nsize 5\n")
    with pytest.raises(CorpusError, match=r"a Git LFS pointer.*git lfs pull"):
        _ = corpus(tmp_path).shards


def test_the_snapshot_holds_the_files_of_the_split(tmp_path: Path) -> None:
    for n, split in enumerate(("train-0-of-1", "validation-0-of-1")):
        write_images(tmp_path / f"{split}.parquet", [n])
    found = corpus(tmp_path)
    assert found.snapshot.files == {str(tmp_path / "train-0-of-1.parquet")}
    assert "1 file of" in found.snapshot.found
    assert found.snapshot.changes(found.look()) is None
    write_images(tmp_path / "train-1-of-1.parquet", [2])
    changed = found.snapshot.changes(found.look())
    assert changed is not None
    assert "1 file came" in changed


def test_pages_that_cannot_be_read_are_counted_row_by_row(tmp_path: Path) -> None:
    path = write_images(
        tmp_path / "0.parquet",
        range(9),
        row_group_size=3,
        use_dictionary=False,
        compression="none",
        write_statistics=False,
        write_page_checksum=True,
    )
    inside = encode(noise(4))[60:90]
    path.write_bytes(path.read_bytes().replace(inside, inside[::-1]))
    records = list(shard(path))
    assert [record.failure for record in records] == [
        *[None] * 3, *["corrupt_parquet"] * 3, *[None] * 3
    ]  # fmt: skip
    assert [record.key for record in records] == [f"row {row}" for row in range(9)]
    with pytest.raises(CorpusError, match="changed"):
        shard(path).read(records[4].locator)


def test_a_file_that_changes_or_goes(tmp_path: Path) -> None:
    path = write_images(tmp_path / "0.parquet", range(3))
    rows = iter(shard(path))
    last = [next(rows), next(rows), next(rows)][-1]
    write_images(path, range(2))
    with pytest.raises(CorpusError, match="changed"):
        next(rows)
    with pytest.raises(CorpusError, match="changed"):
        shard(path).read(last.locator)
    path.unlink()
    with pytest.raises(CorpusError, match="gone"):
        shard(path).read(last.locator)


# ---------------------------------------------------------------------------------------- columns


def test_two_columns_of_images_must_be_told_apart(tmp_path: Path) -> None:
    features = {"before": IMAGE, "after": IMAGE}
    write(tmp_path / "0.parquet", {"before": images([0]), "after": images([1])}, features)
    with pytest.raises(CorpusError, match=r"2 columns of images.*type corpus\.image=NAME"):
        _ = corpus(tmp_path).shards
    (only,) = corpus(tmp_path, image="after").shards
    assert [record.data for record in only] == [encode(noise(1))]
    with pytest.raises(CorpusError, match=r"corpus\.image=later.*before, after"):
        _ = corpus(tmp_path, image="later").shards


def test_no_column_of_images(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", {"text": ["a"], "n": [1]})
    with pytest.raises(CorpusError, match="no column of images; all its columns: text, n"):
        _ = corpus(tmp_path).shards
    with pytest.raises(CorpusError, match=r"corpus\.image=n is no column of images"):
        _ = corpus(tmp_path, image="n").shards


# ----------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("data/train-00000-of-00002-ab12.parquet", ("default", "train")),
        ("data/train.100-00000-of-00002.parquet", ("default", "train.100")),
        ("sv/validation-00000-of-00001.parquet", ("sv", "validation")),
        ("default/train/0000.parquet", ("default", "train")),
        ("a/partial-test/0001.parquet", ("a", "test")),
        ("train/a.parquet", ("default", "train")),
        ("b/val/a.parquet", ("b", "validation")),
        ("my_test_set.parquet", ("default", "test")),
        ("trained.parquet", ("default", None)),
        ("contest.parquet", ("default", None)),
    ],
)
def test_splits_of_names(file: str, expected: tuple[str, str | None]) -> None:
    assert split_of(file) == expected


def test_files_of_a_split() -> None:
    files = ["data/val-1-of-2.parquet", "data/train-1-of-2.parquet", "data/train-0-of-2.parquet"]

    def chosen(names: list[str], split: str, config: str | None = None) -> list[str]:
        return files_of_split(names, dataset="d", split=split, config=config)

    assert chosen(files, "train") == ["data/train-0-of-2.parquet", "data/train-1-of-2.parquet"]
    assert chosen(files, "dev") == ["data/val-1-of-2.parquet"]
    with pytest.raises(CorpusError, match=r"no split corpus\.split=trains.*train"):
        chosen(files, "trains")
    assert chosen(["b.parquet", "a.parquet"], "train") == ["a.parquet", "b.parquet"]
    with pytest.raises(CorpusError, match="no split"):
        chosen(["a.parquet"], "test")
    with pytest.raises(CorpusError, match="holds no Parquet files"):
        chosen([], "train")
    several = ["sv/train/0000.parquet", "en/train/0000.parquet"]
    with pytest.raises(CorpusError, match=r"several configurations; type corpus\.config=.*en, sv"):
        chosen(several, "train")
    assert chosen(several, "train", "sv") == several[:1]
    with pytest.raises(CorpusError, match=r"no configuration corpus\.config=se"):
        chosen(several, "train", "se")


def test_a_split_can_be_held_out_whole(tmp_path: Path) -> None:
    for n, split in enumerate(("train-0-of-2", "train-1-of-2", "validation-0-of-1")):
        write_images(tmp_path / "data" / f"{split}.parquet", [n])
    whole = corpus(tmp_path, holdout_split="val")
    assert [one.name for one in whole.shards] == ["data/train-0-of-2", "data/train-1-of-2"]
    assert [one.name for one in whole.holdout_shards] == ["data/validation-0-of-1"]
    assert corpus(tmp_path).holdout_shards == ()
    assert corpus(tmp_path, num_shards=1).shards == whole.shards[:1]
    with pytest.raises(CorpusError, match=r"type corpus\.num_shards=2 or fewer"):
        _ = corpus(tmp_path, num_shards=3).shards
    with pytest.raises(CorpusError, match=r"no split corpus\.holdout_split=test"):
        _ = corpus(tmp_path, holdout_split="test").holdout_shards
    with pytest.raises(ConfigError, match="nothing would be left"):
        corpus(tmp_path, holdout_split="train")


def test_what_is_missing_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"type corpus\.dataset=NAME"):
        _ = HuggingFaceCorpus().shards
    command = r"tools\.download corpus=huggingface corpus\.dataset=food101 corpus\.split=test"
    with pytest.raises(CorpusError, match=command):
        _ = corpus("food101", split="test", downloads=str(tmp_path)).shards


# ------------------------------------------------------------------------------------ the hub


FILES = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits before it tries again
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    pages = {}
    for n, file in enumerate((*FILES, "data/validation-00000-of-00001.parquet", "0000.parquet")):
        pages[file] = write_images(tmp_path / "at_the_hub" / file, [n]).read_bytes()
    converted = {"default/train/0000.parquet": pages.pop("0000.parquet")}
    with serving(
        {
            "datasets/food101": {"README.md": b"x", **pages},
            "datasets/a/script": {"script.py": b"x"},
            "datasets/a/script@refs/convert/parquet": converted,
            "datasets/a/zips": {"all.zip": b"x"},
        }
    ) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def get(tmp_path: Path, *words: str) -> tuple[HuggingFaceCorpus, int]:
    overrides = ["corpus=huggingface", *words, f"paths.data={tmp_path / 'data'}"]
    chosen = tool.compose_corpus(overrides)
    assert isinstance(chosen, HuggingFaceCorpus)
    endpoint = os.environ["HF_ENDPOINT"]
    return chosen, tool.download(tool.remote_files(chosen, endpoint=endpoint), endpoint=endpoint)


def test_a_split_is_downloaded_once(hub: Hub, tmp_path: Path) -> None:
    chosen, new = get(tmp_path, "corpus.dataset=food101")
    assert new == 2
    assert [one.name + ".parquet" for one in chosen.shards] == [*FILES]
    for one, file in zip(chosen.shards, FILES, strict=True):
        assert one.path.read_bytes() == hub.pages["datasets/food101"][file]
    assert get(tmp_path, "corpus.dataset=food101")[1] == 0
    later, new = get(tmp_path, "corpus.dataset=food101", "corpus.holdout_split=validation")
    assert new == 1
    assert len(later.holdout_shards) == 1


def test_the_first_files_are_enough(hub: Hub, tmp_path: Path) -> None:
    chosen, new = get(tmp_path, "corpus.dataset=food101", "corpus.num_shards=1")
    assert new == len(chosen.shards) == 1
    whole = corpus("food101", downloads=str(tmp_path / "data" / "huggingface"))
    with pytest.raises(CorpusError, match="1 of 2 files are missing"):
        _ = whole.shards


def test_files_that_have_not_arrived_are_missed(hub: Hub, tmp_path: Path) -> None:
    hub.cut_at = 300
    with pytest.raises(CorpusError, match="What has arrived is kept"):
        get(tmp_path, "corpus.dataset=food101")
    hub.cut_at = None
    folder = tmp_path / "data" / "huggingface"
    there = corpus("food101", downloads=str(folder))
    with pytest.raises(CorpusError, match=r"2 of 2 files are missing.*tools\.download"):
        _ = there.shards
    hub.requests.clear()
    assert get(tmp_path, "corpus.dataset=food101")[1] == 2
    assert ("data/train-00000-of-00002.parquet", "bytes=300-") in hub.gets()
    assert len(there.shards) == 2
    with pytest.raises(CorpusError, match=r"1 of 1 files are missing.*corpus\.split=validation"):
        _ = corpus("food101", downloads=str(folder), split="validation").shards


def test_a_dataset_of_another_form_is_taken_as_converted(hub: Hub, tmp_path: Path) -> None:
    chosen, new = get(tmp_path, "corpus.dataset=a/script")
    assert new == 1
    (only,) = chosen.shards
    assert only.name == "default/train/0000"
    assert [record.data for record in only] == [encode(noise(3))]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("a/zips", "has no Parquet files at the hub"),
        ("a/nothing", "neither a folder nor a dataset of the hub"),
        ("a/b/c", "neither a folder nor a dataset of the hub"),
        ("food101 corpus.split=trains", r"no split corpus\.split=trains.*train"),
        ("food101 corpus.revision=v2", "no branch, tag or commit corpus.revision=v2"),
    ],
)
def test_what_the_hub_does_not_have(hub: Hub, tmp_path: Path, dataset: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        get(tmp_path, *f"corpus.dataset={dataset}".split())


def test_a_folder_is_not_downloaded(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder of this machine"):
        get(tmp_path, f"corpus.dataset={tmp_path}")
