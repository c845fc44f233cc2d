"""Lists, patterns, globs and folders of tars; what is missing is said with its remedy."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from imagegram.corpora.patterns import expand
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ConfigError, CorpusError
from imagegram.store.fingerprint import identity
from imagegram.store.snapshot import difference
from tests.pictures import write_samples


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    for number in range(4):
        write_samples(tmp_path / "tars" / f"{number:05d}.tar", [number])
    return tmp_path / "tars"


def names(corpus: WebDatasetCorpus) -> list[str]:
    return [shard.name for shard in corpus.shards]


@pytest.mark.parametrize("form", ["", "/*.tar", "/0000[0-3].tar", "/{00000..00003}.tar"])
def test_all_forms_name_the_same_tars(tars: Path, form: str) -> None:
    assert names(WebDatasetCorpus(tars=f"{tars}{form}")) == ["00000", "00001", "00002", "00003"]


def test_a_list_keeps_its_order(tars: Path) -> None:
    corpus = WebDatasetCorpus(tars=[f"{tars}/00002.tar", f"{tars}/00000.tar"])  # type: ignore[arg-type]
    assert names(corpus) == ["00002", "00000"]


def test_sizes_are_nested(tars: Path) -> None:
    pattern = f"{tars}/{{00000..00099}}.tar"
    small = WebDatasetCorpus(tars=pattern, num_shards=2)
    large = WebDatasetCorpus(tars=pattern, num_shards=4)
    assert large.shards[:2] == small.shards


def test_relative_globs(tars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tars.parent)
    assert expand("tars/*.tar") == [Path(f"tars/{n:05d}.tar") for n in range(4)]


def test_equal_stems_get_longer_names(tmp_path: Path) -> None:
    for folder in "ab":
        write_samples(tmp_path / folder / "0.tar", [0])
    corpus = WebDatasetCorpus(tars=(f"{tmp_path}/a", f"{tmp_path}/b"))
    assert names(corpus) == ["a/0", "b/0"]


def test_a_tar_listed_twice_is_refused(tars: Path) -> None:
    with pytest.raises(CorpusError, match=r"lists .*00001\.tar twice"):
        _ = WebDatasetCorpus(tars=(f"{tars}/00001.tar", f"{tars}/00001.tar")).shards


def test_missing_tars_name_folder_and_command(tmp_path: Path) -> None:
    corpus = WebDatasetCorpus(
        name="cc12m_10",
        tars=f"{tmp_path}/cc12m/{{00000..01099}}.tar",
        num_shards=10,
        hub_repo="laion/conceptual-captions-12m-webdataset",
    )
    with pytest.raises(CorpusError) as error:
        _ = corpus.shards
    message = str(error.value)
    assert "10 of 10 tars are missing" in message
    assert f"{tmp_path}/cc12m" in message
    assert "python -m imagegram.tools.download corpus=cc12m_10" in message


def test_missing_tars_without_a_hub_give_the_hint(tars: Path) -> None:
    with pytest.raises(CorpusError, match=r"1 of 5 tars are missing.*00004.tar; ask Ada"):
        _ = WebDatasetCorpus(tars=f"{tars}/{{00000..00004}}.tar", hint="ask Ada").shards
    with pytest.raises(CorpusError, match=r"4 tars found in .*, 9 wanted"):
        _ = WebDatasetCorpus(tars=str(tars), num_shards=9).shards
    with pytest.raises(CorpusError, match="0 tars found"):
        _ = WebDatasetCorpus(tars=f"{tars}/*.zip").shards
    with pytest.raises(CorpusError, match=r"type corpus.tars=FOLDER"):
        _ = WebDatasetCorpus().shards
    with pytest.raises(CorpusError, match="missing"):
        _ = WebDatasetCorpus(tars=str(tars), holdout_tars=f"{tars}/no.tar").holdout_shards


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (POINTER, "is a Git LFS pointer, not the file itself; type git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>404", "is a web page.* download it again"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied', "is a web page"),
        (b"PK\x03\x04" + bytes(600), r"is a zip archive; type unzip .*00001\.tar -d FOLDER"),
        (bz2.compress(b"data"), "is compressed by bzip2; type bunzip2 -k"),
        (lzma.compress(b"data"), "is compressed by xz; type xz -dk"),
        (b"hello" * 200, "is no tar: it begins with b'hellohello"),
        (b"", "is no tar: it is empty; get it again"),
    ],
)
def test_what_is_no_tar_is_named_with_its_mend(tars: Path, data: bytes, message: str) -> None:
    (tars / "00001.tar").write_bytes(data)
    with pytest.raises(CorpusError, match=rf"00001\.tar {message}"):
        _ = WebDatasetCorpus(tars=str(tars)).shards
    with pytest.raises(CorpusError, match=message):
        _ = WebDatasetCorpus(tars=f"{tars}/00000.tar", holdout_tars=f"{tars}/00001.tar").snapshot


def test_compressed_tars_are_found_and_once(tars: Path) -> None:
    for name in ("00004.tar.gz", "00005.tgz"):
        (tars / name).write_bytes(gzip.compress((tars / "00000.tar").read_bytes()))
    corpus = WebDatasetCorpus(tars=str(tars))
    assert names(corpus) == [f"{number:05d}" for number in range(6)]
    assert [len(shard) for shard in corpus.shards] == [1] * 6
    (tars / "00000.tar.gz").write_bytes(gzip.compress((tars / "00000.tar").read_bytes()))
    with pytest.raises(CorpusError, match=r"lists .*00000\.tar and .*00000\.tar\.gz, the same"):
        _ = WebDatasetCorpus(tars=str(tars)).shards


def test_hidden_and_other_files_of_a_folder_are_counted(tars: Path) -> None:
    (tars / "._00000.tar").write_bytes(b"a resource fork")
    (tars / "README.md").touch()
    (tars / "part.zip").touch()
    write_samples(tars / "more" / "0.tar", [7])
    corpus = WebDatasetCorpus(tars=str(tars))
    assert names(corpus) == ["00000", "00001", "00002", "00003"]
    assert corpus.snapshot.line == (
        f"{tars}: 4 tars of 40.0 kB; 2 other files (1 .md, 1 .zip), 1 hidden file (._00000.tar), 1 "
        "folder not searched (more)"
    )
    assert [path.name for path in expand(f"{tars}/*.tar")] == [f"{n:05d}.tar" for n in range(4)]


def test_tars_are_listed_once(tars: Path) -> None:
    corpus = WebDatasetCorpus(tars=str(tars))
    before = corpus.shards
    write_samples(tars / "00004.tar", [9])
    assert corpus.shards == before
    assert "1 file came" in str(difference(corpus))
    (tars / "00004.tar").unlink()
    assert difference(corpus) is None


def test_the_place_is_no_identity(tars: Path) -> None:
    here = WebDatasetCorpus(name="a", tars=str(tars), hash_cache="x")
    assert identity(here) == identity(WebDatasetCorpus(name="b", tars="elsewhere"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("holdout_fraction", -0.1),
        ("holdout_fraction", 1.1),
        ("max_failed_fraction", 2.0),
        ("near_duplicate_rms", 256.0),
        ("near_duplicate_rms", float("nan")),
        ("num_shards", 0),
    ],
)
def test_numbers_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"corpus.{field} must"):
        WebDatasetCorpus(**{field: value})  # type: ignore[arg-type]
