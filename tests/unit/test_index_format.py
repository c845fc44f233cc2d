"""Index shards on disk: what opens, what is refused, and that the table is right."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from index_folders import EOS, write_index

from imagegram.errors import ImagegramError, IndexFormatError, TokenError, UnsupportedError
from imagegram.indexes.build.sort import build_table
from imagegram.indexes.format import (
    IndexShard,
    open_shards,
    pointer_width,
    read_pointers,
    rebuild,
)
from imagegram.indexes.stream import ListedStream
from imagegram.indexes.verify import verify

DOCUMENTS = [[1, 2, 3], [1, 2, 4], [300, 2, 3], [1, 2, 3]]


def table_of(stream: list[int]) -> list[int]:
    """The suffix array by definition: sort all byte strings."""
    data = np.array(stream, "<u2").tobytes()
    return sorted(range(len(stream)), key=lambda i: data[2 * i :])


@pytest.mark.parametrize(
    "stream",
    [
        [],
        [EOS],
        [EOS, 5],
        [EOS, 5, EOS, 5, EOS],
        [EOS, *[7] * 40, EOS, *[7] * 40, EOS],
        [EOS, 256, 1, 255, 65534, 0, EOS, 1, 256, EOS],
    ],
    ids=["empty", "separator", "open end", "one-token documents", "repeats", "both bytes"],
)
def test_the_table_is_the_sorted_order_of_all_suffixes(tmp_path: Path, stream: list[int]) -> None:
    np.array(stream, "<u2").tofile(tmp_path / "tokenized.0")
    separators = [i for i, token in enumerate(stream) if token == EOS and i < len(stream) - 1]
    np.array([2 * i for i in separators], "<u8").tofile(tmp_path / "offset.0")
    build_table(tmp_path / "tokenized.0", tmp_path / "table.0")
    shard = IndexShard.open(tmp_path)
    assert read_pointers(shard, 0, shard.num_tokens).tolist() == table_of(stream)
    verify(shard, deep=True)


def test_the_pointer_width_comes_from_the_largest_pointer(tmp_path: Path) -> None:
    # 0xFFFF sorts last, and the only one is at position 0: its pointer would fit one byte.
    ids = np.random.default_rng(0).integers(0, 256, 40_000, dtype=np.uint16)
    folder = write_index(tmp_path, [ids.tolist()], final_separator=False)
    shard = IndexShard.open(folder)
    assert read_pointers(shard, shard.num_tokens - 1, shard.num_tokens).tolist() == [0]
    assert shard.pointer_width == pointer_width(40_001) == 3
    verify(shard, deep=True)


@pytest.mark.parametrize("final_separator", [True, False])
def test_documents_are_read_back(tmp_path: Path, final_separator: bool) -> None:
    documents = [[1, 2], [], [3], [EOS - 1, 4, 5]]
    shard = IndexShard.open(write_index(tmp_path, documents, final_separator=final_separator))
    assert [shard.document(i).tolist() for i in range(4)] == documents
    assert shard.document_length is None
    with pytest.raises(TokenError, match="no document 4"):
        shard.document(4)


@pytest.mark.parametrize("final_separator", [True, False])
def test_equally_long_documents_are_recognised(tmp_path: Path, final_separator: bool) -> None:
    shard = IndexShard.open(write_index(tmp_path, DOCUMENTS, final_separator=final_separator))
    assert shard.document_length == 3
    assert shard.num_documents == 4


def test_every_position_belongs_to_a_document(tmp_path: Path) -> None:
    shard = IndexShard.open(write_index(tmp_path, [[7, 8], [9]]))
    expected = [(0, -1), (0, 0), (0, 1), (1, -1), (1, 0), (1, 1)]
    assert [shard.locate(i) for i in range(6)] == expected


def test_metadata_is_found_by_document(tmp_path: Path) -> None:
    shard = IndexShard.open(write_index(tmp_path / "with", DOCUMENTS, metadata=True))
    assert [shard.metadata(i)["key"] for i in (3, 0)] == ["ü3", "ü0"]
    bare = IndexShard.open(write_index(tmp_path / "without", DOCUMENTS))
    assert bare.metadata(0) == {}
    with pytest.raises(TokenError):
        bare.metadata(4)


def test_several_shards_in_one_folder_open_by_number(tmp_path: Path) -> None:
    for number in (10, 0, 2):
        write_index(tmp_path, [[number]], number=number)
    assert [shard.document(0).tolist() for shard in open_shards(tmp_path)] == [[0], [2], [10]]


def test_a_shard_travels_without_its_memory_maps(tmp_path: Path) -> None:
    ids = list(range(5000))
    shard = IndexShard.open(write_index(tmp_path, [ids]))
    packed = pickle.dumps(shard)
    assert len(packed) < 1000
    assert pickle.loads(packed).document(0).tolist() == ids


def cut(path: Path, bytes_less: int) -> None:
    path.write_bytes(path.read_bytes()[:-bytes_less])


def damage_table_by_a_byte(folder: Path) -> None:
    cut(folder / "table.0", 1)


def damage_table_to_another_width(folder: Path) -> None:
    documents = [[1] * 200]
    write_index(folder, documents, final_separator=False)
    table = folder / "table.0"
    table.write_bytes(table.read_bytes()[:201])  # one byte a token: divides, but is too narrow


def damage_tokens(folder: Path) -> None:
    cut(folder / "tokenized.0", 2)


def damage_token_parity(folder: Path) -> None:
    cut(folder / "tokenized.0", 1)


def damage_offsets(folder: Path) -> None:
    cut(folder / "offset.0", 3)


def remove_offsets(folder: Path) -> None:
    (folder / "offset.0").unlink()


def remove_table(folder: Path) -> None:
    (folder / "table.0").unlink()


def offsets_in_tokens(folder: Path) -> None:
    (np.arange(5) * 4).astype("<u8").tofile(folder / "offset.0")


def separator_after(folder: Path) -> None:
    np.array([1, 2, 3, EOS, 1, 2, 4, EOS], "<u2").tofile(folder / "tokenized.0")
    np.array([0, 8], "<u8").tofile(folder / "offset.0")
    build_table(folder / "tokenized.0", folder / "table.0")


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (damage_table_by_a_byte, "table.0 has 16 bytes.*17 pointers of 1 bytes = 17 bytes"),
        (damage_table_to_another_width, "table.0 has 201 bytes.*201 pointers of 2 bytes"),
        (damage_tokens, "table.0"),
        (damage_token_parity, "tokenized.0 has 33 bytes"),
        (damage_offsets, "offset.0 has 29 bytes"),
        (remove_offsets, "offset.0 is missing"),
        (remove_table, "table.0 is missing"),
        (offsets_in_tokens, "not the byte positions of all documents"),
        (separator_after, "tools.convert import"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, damage, names: str) -> None:
    folder = write_index(tmp_path, DOCUMENTS)
    damage(folder)
    with pytest.raises(IndexFormatError, match=names):
        IndexShard.open(folder)


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="no tokenized"):
        open_shards(tmp_path)


def swap_ranks(folder: Path, a: int, b: int) -> None:
    table = np.fromfile(folder / "table.0", np.uint8)
    table[[a, b]] = table[[b, a]]
    table.tofile(folder / "table.0")


@pytest.mark.parametrize("deep", [True, False])
def test_verify_finds_a_table_out_of_order(tmp_path: Path, deep: bool) -> None:
    folder = write_index(tmp_path, DOCUMENTS)
    swap_ranks(folder, 6, 7)
    shard = IndexShard.open(folder)
    with pytest.raises(IndexFormatError, match="out of order"):
        verify(shard, deep=deep)


def test_verify_finds_a_pointer_twice(tmp_path: Path) -> None:
    folder = write_index(tmp_path, DOCUMENTS)
    table = np.fromfile(folder / "table.0", np.uint8)
    table[5] = table[6]
    table.tofile(folder / "table.0")
    with pytest.raises(IndexFormatError, match="same pointer"):
        verify(IndexShard.open(folder), deep=True)


def test_verify_finds_a_pointer_outside(tmp_path: Path) -> None:
    folder = write_index(tmp_path, DOCUMENTS)
    table = np.fromfile(folder / "table.0", np.uint8)
    table[3] = 254
    table.tofile(folder / "table.0")
    with pytest.raises(IndexFormatError, match="outside of the 17 tokens"):
        verify(IndexShard.open(folder))


def test_verify_finds_an_offset_off_a_separator(tmp_path: Path) -> None:
    folder = write_index(tmp_path, DOCUMENTS)
    np.array([0, 10, 16, 24], "<u8").tofile(folder / "offset.0")
    with pytest.raises(IndexFormatError, match="entry 1 points at byte 10"):
        verify(IndexShard.open(folder))


@pytest.mark.parametrize(
    ("offsets", "names"),
    [
        ([0, 8, 8, 24], "entry 2 points at byte 8, but separator 2 lies at byte 16"),
        ([0, 9, 16, 24], "entry 1 points at byte 9"),
        ([0, 8, 24], "entry 2 points at byte 24"),
    ],
    ids=["twice", "odd", "left out"],
)
def test_verify_compares_every_offset(tmp_path: Path, offsets: list[int], names: str) -> None:
    folder = write_index(tmp_path, DOCUMENTS)
    np.array(offsets, "<u8").tofile(folder / "offset.0")
    with pytest.raises(IndexFormatError, match=names):
        verify(IndexShard.open(folder))


def test_verify_finds_a_pointer_into_a_token(tmp_path: Path) -> None:
    folder = write_index(tmp_path, DOCUMENTS)
    table = np.fromfile(folder / "table.0", np.uint8)
    table[4] += 1
    table.tofile(folder / "table.0")
    with pytest.raises(IndexFormatError, match="rank 4 holds an odd byte position"):
        verify(IndexShard.open(folder), deep=True)


def test_verify_samples_a_long_table(tmp_path: Path) -> None:
    ids = np.random.default_rng(1).integers(0, 4, (30, 50))
    shard = IndexShard.open(write_index(tmp_path, ids.tolist()))
    verify(shard, samples=100)


def test_an_index_of_other_tools_is_no_upstream(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="not an artifact"):
        IndexShard.open(write_index(tmp_path, DOCUMENTS)).identity()


def test_half_a_token_is_not_sorted(tmp_path: Path) -> None:
    (tmp_path / "tokenized.0").write_bytes(b"\xff\xff\x01")
    with pytest.raises(IndexFormatError, match="has 3 bytes"):
        build_table(tmp_path / "tokenized.0", tmp_path / "table.0")


def test_a_stream_in_memory_begins_with_a_separator() -> None:
    with pytest.raises(ImagegramError, match="begins with 1"):
        ListedStream.of([1, 2, EOS])
    assert ListedStream.of([]).num_documents == 0
    assert ListedStream.of([EOS]).locate(0) == (-1, -1)


@pytest.mark.parametrize("dtype", ["<u4", "u1"])
def test_an_index_of_other_ids_is_named_and_nothing_is_to_be_removed(
    dtype: str, tmp_path: Path
) -> None:
    """infini-gram writes ids of 1, 2 and 4 bytes; whole files of another width are not damaged."""
    ids = np.array([-1, 3, 1, 2, -1, 3, 1, 3], np.int64).astype(dtype)
    size = ids.itemsize
    suffixes = sorted(range(len(ids)), key=lambda start: ids[start:].tobytes())
    (tmp_path / "tokenized.0").write_bytes(ids.tobytes())
    (tmp_path / "table.0").write_bytes(bytes(start * size for start in suffixes))
    np.array([0, 4 * size], "<u8").tofile(tmp_path / "offset.0")
    with pytest.raises(UnsupportedError, match=rf"index of {size}-byte ids \(8 of them") as raised:
        IndexShard.open(tmp_path)
    assert "remove" not in str(raised.value)


def test_only_an_artifact_is_to_be_removed(tmp_path: Path) -> None:
    foreign = tmp_path / "index"
    foreign.mkdir()
    assert "remove" not in rebuild(foreign)
    artifact = tmp_path / "outputs" / "artifacts" / "index_shard" / "0123456789ab"
    artifact.mkdir(parents=True)
    (artifact / "manifest.json").touch()
    assert f"gc digest=0123456789ab paths.outputs={tmp_path}/outputs" in rebuild(artifact)
