"""Whatever happened to a tar, every sample is a record or a counted failure."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.corpora import gzipped
from imagegram.corpora.tar import TarShard
from imagegram.corpora.tar_headers import _read_headers, _read_plain_headers
from imagegram.errors import CorpusError
from imagegram.records import Record
from imagegram.store.hashing import file_stamp
from tests.pictures import Member, encode, noise, sample, write_samples, write_tar


def records(path: Path) -> list[Record]:
    shard = TarShard(name="x", path=path)
    listed = list(shard)
    assert len(shard) == len(listed)
    assert len({record.key for record in listed if record.failure is None}) == sum(
        record.failure is None for record in listed
    )
    return listed


def outcome(path: Path) -> list[tuple[str, str | None]]:
    return [(record.key, record.failure) for record in records(path)]


def test_samples_come_in_file_order_with_their_metadata(tmp_path: Path) -> None:
    seeds = [5, 3, 9]
    path = write_samples(tmp_path / "0.tar", seeds)
    listed = records(path)
    assert [record.key for record in listed] == ["0000", "0001", "0002"]
    assert [record.info for record in listed] == [{"seed": seed} for seed in seeds]
    assert {record.caption for record in listed} == {"a caption"}
    shard = TarShard(name="0", path=path)
    for record, seed in zip(listed, seeds, strict=True):
        assert record.data == encode(noise(seed))
        assert shard.read(record.locator) == record.data
        with tarfile.open(path) as tar:
            member = tar.extractfile(record.locator.member)
            assert member is not None
            assert member.read() == record.data


def test_suffixes_folders_and_hidden_files(tmp_path: Path) -> None:
    data = encode(noise(0))
    members = [
        ("a.b/0.JPG", data),
        ("a.b/0.cls", b"7"),
        ("a.b/._0.jpg", b"a resource fork"),
        ("a.b/1.jpeg", data),
        ("c/1.webp", data),
        ("2.seg.png", data),
        ("2.png", data),
    ]
    assert outcome(write_tar(tmp_path / "0.tar", members)) == [
        ("a.b/0", None),
        ("a.b/1", None),
        ("c/1", None),
        ("2", None),
        ("a.b/._0.jpg", "hidden"),
    ]


def test_hidden_folders_are_told_from_a_dot_before_the_path(tmp_path: Path) -> None:
    data = encode(noise(0))
    names = [
        "./a/0.png",
        ".thumbnails/0.png",
        "__MACOSX/a/._0.png",
        "./.cache/x/0.png",
        "a/..0.png",
    ]
    path = write_tar(tmp_path / "0.tar", [(name, data) for name in names])
    assert outcome(path) == [("./a/0", None), *((name, "hidden") for name in names[1:])]
    assert _read_plain_headers(path) == _read_headers(path)


def test_long_names_and_pax_headers(tmp_path: Path) -> None:
    key = "folder/" * 30 + "é" * 60
    path = write_tar(tmp_path / "0.tar", sample(key, 1))
    (record,) = records(path)
    assert record.key == key
    assert record.data == encode(noise(1))


def test_every_cut_is_reported(tmp_path: Path) -> None:
    whole = write_samples(tmp_path / "0.tar", range(4)).read_bytes()
    with tarfile.open(tmp_path / "0.tar") as tar:
        images = [m for m in tar.getmembers() if m.name.endswith(".png")]
        end_of_members = max(m.offset_data + m.size for m in tar.getmembers())
    for cut in range(0, end_of_members, 200):
        path = tmp_path / "cut.tar"
        path.write_bytes(whole[:cut])
        *good, last = records(path)
        assert last.failure == "truncated_tar"
        whole_images = sum(m.offset_data + m.size <= cut for m in images)
        assert sum(record.failure is None for record in good) == whole_images
        assert all(record.data for record in good if record.failure is None)


def test_garbage_between_members_is_reported(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "0.tar", range(3))
    with tarfile.open(path) as tar:
        header = tar.getmember("0001.png").offset
    data = bytearray(path.read_bytes())
    data[header : header + 512] = b"\x55" * 512
    path.write_bytes(data)
    assert outcome(path) == [("0000", None), (f"byte {header}", "corrupt_tar")]
    path.write_bytes(b"\x55" * 2048)
    assert outcome(path) == [("byte 0", "corrupt_tar")]
    path.write_bytes(b"")
    assert outcome(path) == [("byte 0", "truncated_tar")]


def test_archives_that_were_joined_are_read_to_the_last(tmp_path: Path) -> None:
    parts = []
    for number, first in enumerate((0, 10, 20)):
        keys = range(first, first + 4)
        members = [member for key in keys for member in sample(f"{key:04d}", key)]
        parts.append(write_tar(tmp_path / f"{number}.tar", members).read_bytes())
    path = tmp_path / "joined.tar"
    path.write_bytes(b"".join(parts))
    expected = [(f"{key:04d}", None) for key in (*range(4), *range(10, 14), *range(20, 24))]
    assert outcome(path) == expected
    shard = TarShard(name="joined", path=path)
    assert all(shard.read(record.locator) == record.data for record in shard)
    assert _read_plain_headers(path) == _read_headers(path)
    path.write_bytes(parts[0] + parts[1][:5000])  # the second one is cut
    *whole, (_, failure) = outcome(path)
    assert (whole[:4], failure) == (expected[:4], "truncated_tar")
    path.write_bytes(parts[0] + b"\x55" * 700)
    assert outcome(path)[4:] == [(f"byte {len(parts[0])}", "corrupt_tar")]


def test_an_end_that_was_only_reserved_is_a_cut(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "0.tar", range(4))
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        second = tar.getmember("0002.png").offset
    with path.open("r+b") as stream:  # as a download that reserves its space beforehand
        stream.truncate(second)
        stream.truncate(8 << 20)
    assert outcome(path) == [("0000", None), ("0001", None), (f"byte {second}", "truncated_tar")]
    path.write_bytes(whole + bytes(500_000))  # tars may be padded
    assert [failure for _, failure in outcome(path)] == [None] * 4


# ------------------------------------------------------------------------------------------ gzip


def several_parts(data: bytes) -> bytes:
    """As pigz and block compressors write: many compressed parts, and zeros behind them."""
    return b"".join(
        gzip.compress(data[at : at + 3000]) for at in range(0, len(data), 3000)
    ) + bytes(9)


@pytest.mark.parametrize("compress", [gzip.compress, several_parts])
def test_a_compressed_tar_has_the_same_records(
    tmp_path: Path, compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzipped, "_SPACING", 2000)
    monkeypatch.setattr(gzipped, "_BLOCK", 700)
    plain = write_samples(tmp_path / "0.tar", range(20))
    path = tmp_path / "named.tar"
    path.write_bytes(compress(plain.read_bytes()))
    assert records(path) == records(plain)
    shard = TarShard(name="x", path=path)
    for record in random.Random(0).sample(list(shard), 20):
        assert shard.read(record.locator) == record.data
    assert len(gzipped.gzip_index(path, file_stamp(path)).points) > 5


def test_compressed_tars_are_read_by_threads_at_once(tmp_path: Path) -> None:
    path = tmp_path / "0.tar.gz"
    path.write_bytes(gzip.compress(write_samples(tmp_path / "0.tar", range(20)).read_bytes()))
    shard = TarShard(name="x", path=path)
    expected = list(shard)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda record: shard.read(record.locator), expected * 5))
    assert read == [record.data for record in expected] * 5


def test_every_cut_of_a_compressed_tar_is_reported(tmp_path: Path) -> None:
    whole = gzip.compress(write_samples(tmp_path / "0.tar", range(4)).read_bytes())
    path = tmp_path / "cut.tar.gz"
    for cut in [*range(20, len(whole), 150), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        *good, last = records(path)
        assert last.failure == "truncated_tar"
        assert all(record.data == encode(noise(i)) for i, record in enumerate(good) if record.data)
    damaged = bytearray(whole)
    damaged[-5] ^= 1  # the checksum
    path.write_bytes(whole + damaged)
    assert [failure for _, failure in outcome(path)] == [None] * 4 + ["corrupt_tar"]


@given(
    data=st.binary(max_size=5000),
    places=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 900))),
)
@settings(max_examples=60)
def test_a_compressed_file_is_read_at_any_place(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, places: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("gzip") / "data.gz"
    path.write_bytes(gzip.compress(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzipped, "_SPACING", 300)
        patch.setattr(gzipped, "_BLOCK", 64)
        index = gzipped.gzip_index(path, file_stamp(path))
        assert (index.size, index.failure) == (len(data), None)
        with gzipped.GzipStream(path, index) as stream:
            for place, size in places:
                stream.seek(place)
                assert stream.read(size) == data[place : place + size]
            stream.seek(0)
            assert stream.read() == data


# ----------------------------------------------------------------------------------------- names


def test_names_that_are_no_utf8_are_shown_escaped(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    name = os.fsdecode(b"caf\xe9.png")
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for each in (name, "na\u00efve.png"):
            info = tarfile.TarInfo(each)
            info.size = len(encode(noise(1)))
            tar.addfile(info, io.BytesIO(encode(noise(1))))
    listed = records(path)
    assert [record.key for record in listed] == [r"caf\xe9", "na\u00efve"]
    assert TarShard(name="0", path=path).read(listed[0].locator) == encode(noise(1))


def test_interleaved_keys_are_counted_once_each(tmp_path: Path) -> None:
    a, b, c = (sample(key, seed) for seed, key in enumerate("abc"))
    path = write_tar(tmp_path / "0.tar", [a[0], b[0], a[1], b[1], *c])
    assert outcome(path) == [("a", "interleaved_keys"), ("b", "interleaved_keys"), ("c", None)]


def test_the_first_of_duplicate_keys_is_kept(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", [*sample("a", 0), *sample("b", 1), *sample("a", 2)])
    listed = records(path)
    assert [(r.key, r.failure) for r in listed] == [
        ("a", None),
        ("b", None),
        ("a", "duplicate_key"),
    ]
    assert listed[0].data == encode(noise(0))
    same_twice = write_tar(tmp_path / "1.tar", [*sample("a", 0), *sample("a", 2)])
    assert outcome(same_twice) == [("a", None), ("a", "duplicate_key")]


def test_a_sample_without_an_image_and_a_link(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", [("a.txt", b"words"), *sample("b", 0)])
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("c.png")
        link.type, link.linkname = tarfile.SYMTYPE, "b.png"
        tar.addfile(link)
    listed = records(path)
    assert [(r.key, r.failure, bool(r.data)) for r in listed] == [
        ("a", "no_image", False),
        ("b", None, True),
        ("c", None, False),  # refused as an empty file when it is decoded
    ]


def test_damaged_captions_and_infos_do_not_lose_the_image(tmp_path: Path) -> None:
    members: list[Member] = [
        ("a.png", encode(noise(0))),
        ("a.txt", b" \xff\xfe caf\xc3\xa9\n"),
        ("a.json", b'{"broken":'),
        ("b.png", encode(noise(1))),
        ("b.json", b"[" * 100_000),
        ("c.png", encode(noise(2))),
        ("c.json", b'{"score": 1e999, "kept": 0.5, "half": ["\\ud83d", "\\ud83d\\ude00"]}'),
    ]
    first, second, third = records(write_tar(tmp_path / "0.tar", members))
    assert first.caption == "\ufffd\ufffd café"
    assert first.info == {"text": '{"broken":'}
    assert second.info is not None
    assert second.info["text"].startswith("[[")
    # Infinity is no JSON, half a character no text.
    assert third.info == {"score": None, "kept": 0.5, "half": ["\ufffd", "\U0001f600"]}


@given(order=st.permutations([(key, part) for key in "abc" for part in range(3)]))
@settings(max_examples=40, deadline=None)
def test_any_order_of_members_accounts_for_every_sample(
    order: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    samples = {key: sample(key, seed) for seed, key in enumerate("abc")}
    path = tmp_path_factory.mktemp("tar") / "0.tar"
    write_tar(path, [samples[key][part] for key, part in order])
    runs = [key for i, (key, _) in enumerate(order) if i == 0 or order[i - 1][0] != key]
    expected = {key: None if n == 1 else "interleaved_keys" for key, n in Counter(runs).items()}
    assert dict(outcome(path)) == expected
    assert len(records(path)) == 3


def test_identity_is_the_content_and_is_remembered(tmp_path: Path) -> None:
    memory = tmp_path / "hashes"
    path = write_samples(tmp_path / "0.tar", range(2))
    shard = TarShard(name="0", path=path, hash_cache=str(memory))
    first = shard.identity()
    copy = tmp_path / "copy" / "1.tar"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    assert TarShard(name="1", path=copy).identity() == first
    (entry,) = memory.iterdir()
    entry.write_text(entry.read_text().replace(first, "0" * 64))
    assert shard.identity() == "0" * 64  # believed: size and time are the same
    entry.write_text("{")
    assert shard.identity() == first  # a damaged entry is not believed
    write_samples(path, range(3))
    os.utime(path, ns=(1, 1))
    assert shard.identity() != first


def test_an_unwritable_memory_only_costs_time(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "0.tar", [0])
    (tmp_path / "hashes").write_text("a file where the folder should be")
    shard = TarShard(name="0", path=path, hash_cache=str(tmp_path / "hashes"))
    assert shard.identity() == TarShard(name="0", path=path).identity()


def test_a_tar_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "0.tar", range(3))
    reading = iter(TarShard(name="0", path=path))
    next(reading)
    os.utime(path, ns=(1, 1))
    with pytest.raises(CorpusError, match="changed while it was read"):
        list(reading)


def test_reading_from_a_removed_or_shortened_tar(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "0.tar", range(2))
    shard = TarShard(name="0", path=path)
    locator = list(shard)[1].locator
    path.write_bytes(path.read_bytes()[: locator.offset + 3])
    with pytest.raises(CorpusError, match="changed"):
        shard.read(locator)
    path.unlink()
    with pytest.raises(CorpusError, match="is gone"):
        shard.read(locator)
    with pytest.raises(CorpusError, match="could not be read"):
        shard.identity()


def test_a_sound_tar_reads_as_webdataset_reads_it(tmp_path: Path) -> None:
    import webdataset

    from imagegram.corpora.demo import DemoCorpus

    corpus = DemoCorpus(
        name="demo",
        write_to=tmp_path,
        hash_cache=tmp_path / "hashes",
        num_shards=1,
        images_per_shard=9,
    )
    (shard,) = corpus.shards
    theirs = list(webdataset.WebDataset(str(shard.path), shardshuffle=False))
    ours = list(shard)
    assert [record.key for record in ours] == [sample["__key__"] for sample in theirs]
    assert [record.data for record in ours] == [sample["png"] for sample in theirs]
    assert [record.caption for record in ours] == [sample["txt"].decode() for sample in theirs]
    assert [shard.read(record.locator) for record in ours] == [sample["png"] for sample in theirs]


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """Tars in every format, of ordinary and of odd members, some of them damaged."""
    stream = io.BytesIO()
    kind = draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for _ in range(draw(st.integers(0, 5))):
            name = draw(st.sampled_from(["a.jpg", "b/c.txt", ".hidden", "d", "e" * 90 + "/f" * 20]))
            member = tarfile.TarInfo(name)
            member.mtime = draw(st.sampled_from([0, 1700000000, 1700000000.25]))
            member.type = draw(st.sampled_from([b"0", b"0", b"0", b"\0", b"5", b"2", b"1"]))
            member.uname = draw(st.sampled_from(["", "root", "\u00e9"]))
            member.size = draw(st.integers(0, 1500)) if member.type in b"0\0" else 0
            tar.addfile(member, io.BytesIO(bytes(range(1, 251)) * 6))
    data = bytearray(stream.getvalue())
    if draw(st.booleans()):
        place = draw(st.integers(0, min(len(data), 6000) - 1))
        data[place] ^= draw(st.integers(1, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(tars())
@settings(max_examples=300)
def test_the_fast_reader_knows_what_it_does_not_know(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "drawn.tar"
    path.write_bytes(data)
    plain = _read_plain_headers(path)
    assert plain is None or plain == _read_headers(path)


def test_the_fast_reader_reads_what_webdataset_writes(tmp_path: Path) -> None:
    from webdataset import TarWriter

    with TarWriter(str(tmp_path / "0.tar")) as writer:  # with times in pax headers
        for seed in range(3):
            writer.write({"__key__": f"{seed:05d}", "jpg": b"x" * 700, "json": {"seed": seed}})
    for path in (tmp_path / "0.tar", write_samples(tmp_path / "1.tar", [1, 2])):
        assert _read_plain_headers(path) == _read_headers(path)
