"""Shards with the separator after each image, in and out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from index_folders import EOS, write_index

from imagegram.errors import IndexFormatError, StageError, UnsupportedError
from imagegram.indexes import open_index
from imagegram.indexes.format import IndexShard
from imagegram.indexes.verify import verify
from imagegram.tools.convert import export_shards, import_shards, main

ROWS = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 255]]]


def write_seeds_layout(folder: Path, **config) -> Path:
    """What the other programs write: images, each with its separator behind it."""
    (folder / "token_shards").mkdir(parents=True)
    for number, rows in enumerate(ROWS):
        stream = [token for row in rows for token in (*row, EOS)]
        np.array(stream, "<u2").tofile(folder / "token_shards" / f"{number:05d}.bin")
    known = {"tokens_per_image": 3, "num_images": 3, "shards": 2, "separator_token": EOS}
    (folder / "config.json").write_text(json.dumps({**known, **config}))
    return folder


def test_imported_shards_open_and_answer(tmp_path: Path) -> None:
    source = write_seeds_layout(tmp_path / "seed")
    assert main(["import", str(source), str(tmp_path / "out")]) == 0
    index = open_index(tmp_path / "out")
    assert [index.document(i).tolist() for i in range(3)] == [row for rows in ROWS for row in rows]
    assert index.next_token([EOS]).tokens.tolist() == [1, 4, 7]  # also the first of each shard
    for shard in index.shards:
        assert isinstance(shard, IndexShard)
        verify(shard, deep=True)


def test_export_undoes_import(tmp_path: Path) -> None:
    source = write_seeds_layout(tmp_path / "seed")
    import_shards(source, tmp_path / "index")
    assert main(["export", str(tmp_path / "index"), str(tmp_path / "again")]) == 0
    for file in sorted((source / "token_shards").iterdir()):
        again = tmp_path / "again" / "token_shards" / file.name
        assert again.read_bytes() == file.read_bytes()
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    expected = {"tokens_per_image": 3, "num_images": 3, "shards": 2, "separator_token": EOS}
    assert expected.items() <= config.items()


def test_a_stream_without_a_final_separator_gets_one(tmp_path: Path) -> None:
    folder = write_index(tmp_path / "index", ROWS[0], final_separator=False)
    export_shards(folder, tmp_path / "out")
    stream = np.fromfile(tmp_path / "out" / "token_shards" / "00000.bin", "<u2")
    assert stream.tolist() == [1, 2, 3, EOS, 4, 5, 6, EOS]


def test_shards_beside_each_other_need_only_their_length(tmp_path: Path) -> None:
    np.array([1, 2, EOS], "<u2").tofile(tmp_path / "00007.bin")
    with pytest.raises(IndexFormatError, match="--tokens-per-image"):
        import_shards(tmp_path, tmp_path / "out")
    folders = import_shards(tmp_path, tmp_path / "out", tokens_per_image=2)
    assert [folder.name for folder in folders] == ["00007"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"tokens_per_image": 2}, "no multiple of 6"),
        ({"tokens_per_image": 7}, "no multiple of 16"),
        ({"num_images": 4}, "promises num_images = 4, but the .bin files hold 3"),
        ({"shards": 3}, "promises shards = 3"),
        ({"tokens_per_image": "3"}, "tells no tokens_per_image"),
        ({"tokens_per_image": 0}, "tells no tokens_per_image"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, config: dict, says: str) -> None:
    source = write_seeds_layout(tmp_path / "seed", **config)
    with pytest.raises(IndexFormatError, match=says):
        import_shards(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cut_shard_is_refused(tmp_path: Path) -> None:
    source = write_seeds_layout(tmp_path / "seed")
    shard = source / "token_shards" / "00001.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(IndexFormatError, match=r"00001.bin has 7 bytes.*7 left over"):
        import_shards(source, tmp_path / "out")


@pytest.mark.parametrize(
    "stream", [[1, 2, 3, 4, 5, 6, 7, EOS], [1, EOS, 3, EOS, 5, 6, 7, EOS]], ids=["none", "inside"]
)
def test_a_misplaced_separator_leaves_nothing_behind(tmp_path: Path, stream: list[int]) -> None:
    np.array(stream, "<u2").tofile(tmp_path / "00000.bin")
    with pytest.raises(IndexFormatError, match="image 0 does not end with its only separator"):
        import_shards(tmp_path, tmp_path / "out", tokens_per_image=3)
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = write_seeds_layout(tmp_path / "seed")
    import_shards(source, tmp_path / "out")
    with pytest.raises(IndexFormatError, match="exists already"):
        import_shards(source, tmp_path / "out")
    export_shards(tmp_path / "out", tmp_path / "again")
    with pytest.raises(IndexFormatError, match="holds token shards already"):
        export_shards(tmp_path / "out", tmp_path / "again")


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    source = write_seeds_layout(tmp_path / "seed")
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match="a target folder on a disk with space"):
        main(["import", str(source), str(tmp_path / "file" / "out")])


def test_documents_of_different_lengths_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="different lengths"):
        export_shards(write_index(tmp_path / "index", [[1], [1, 2]]), tmp_path / "out")


def test_an_empty_folder_cannot_be_imported(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="holds no NNNNN"):
        import_shards(tmp_path, tmp_path / "out", tokens_per_image=3)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(IndexFormatError, match="not a JSON object"):
        import_shards(tmp_path, tmp_path / "out")
