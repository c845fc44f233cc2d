"""Corpora of documents: JSON lines, docstrings of installed packages."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from imagegram.corpora.demo_text import DemoTextCorpus
from imagegram.corpora.docstrings import paragraphs
from imagegram.corpora.jsonl import JsonlShard
from imagegram.errors import ConfigError, CorpusError, MissingDependencyError
from imagegram.stages.skips import read_item
from imagegram.texts.modality import TEXTS

LINES = [
    b'{"key": "a", "text": "first", "year": 1999, "score": NaN}',
    b'{"text": "two\\nlines", "id": 7}',
    b'{"text": "cut',
    b'["no object"]',
    b'{"body": "another field"}',
    b'{"text": 5}',
    b'{"key": "a", "text": "again"}',
    '{"text": "h\u00e9 \\u2028 \\ud83d"}'.encode(),
    b"",
]


def test_every_line_is_a_record_or_has_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_bytes(b"\n".join(LINES) + b"\n")
    shard = JsonlShard(name="0", path=path)
    records = list(shard)
    assert len(shard) == len(records) == len(LINES)
    assert [record.failure for record in records] == [
        *(None, None, "malformed_json", "no_text", "no_text", "no_text", "duplicate_key"),
        *(None, "malformed_json"),
    ]
    assert [record.key for record in records[:3]] == ["a", "7", "line 3"]
    assert records[0].info == {"year": 1999, "score": None}
    assert records[1].data == b"two\nlines"
    for record in records:
        if record.failure is None:
            assert shard.read(record.locator) == record.data
    with pytest.raises(CorpusError, match="changed"):
        shard.read(records[2].locator)


def test_a_file_that_ends_inside_a_line_is_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_bytes(b"\n".join(LINES[:2]) + b"\n" + LINES[0][:20])
    shard = JsonlShard(name="0", path=path)
    assert [record.failure for record in shard] == [None, None, "truncated_lines"]
    path.write_bytes(b"\n".join(LINES[:2]))  # whole, without a last line feed
    assert [record.failure for record in shard] == [None, None]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "type git lfs pull"),
        (b"<html><body>Not found", "is a web page"),
        (b"PK\x03\x04", "is a zip archive; type unzip .*documents.jsonl"),
        (b"PAR1\x15\x04", "is a Parquet file; give it a name that ends in .parquet"),
        (b'\n[{"text": "one"},\n{"text": "two"}]', r"is one JSON array.* type jq -c '\.\[\]'"),
        ('\ufeff{"text": "one"}'.encode("utf-16-le"), "is UTF-16; type iconv -f UTF-16 -t UTF-8"),
    ],
)
def test_other_files_under_the_name_of_json_lines(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_bytes(data)
    shard = JsonlShard(name="0", path=path)
    for use in (len, list):
        with pytest.raises(CorpusError, match=message):
            use(shard)


#: A line, and the text that is read of it, or the reason why none is.
ODD = {
    "no-text": (b'{"text": ""}', "empty_file"),
    "blank": (b'{"text": " \\n"}', "blank"),
    "mark": (b'\xef\xbb\xbf{"text": "\\ufeffonce"}', "once"),
    "nul": (b'{"text": "a\\u0000b"}', "binary"),
    "raw-nul": (b'{"text": "a\0b"}', "malformed_json"),
    "latin-1": ('{"text": "na\u00efve"}'.encode("latin-1"), "not_utf8"),
    "half-a-character": (b'{"text": "a\\ud83d"}', "lone_surrogate"),
    "half-in-bytes": (b'{"text": "a\xed\xa0\xbd"}', "lone_surrogate"),
    "carriage-returns": (b'{"text": "a\\r\\nb"}\r', "a\nb"),
    "emoji": (b'{"text": "\\ud83d\\udc69\\u200d\\ud83d\\udd2c"}', "\U0001f469\u200d\U0001f52c"),
    "combining": ('{"text": "e\u0301"}'.encode(), "e\u0301"),
    "right-to-left": ('{"text": "\u05d0\u202eb"}'.encode(), "\u05d0\u202eb"),
    "line-separator": ('{"text": "a\u2028b\u0085c"}'.encode(), "a\u2028b\u0085c"),
    "markup": (b'{"text": "<!doctype html><b>x</b>&amp;"}', "<!doctype html><b>x</b>&amp;"),
    "code-of-a-model": (b'{"text": "a <c0_0001> b"}', "a <c0_0001> b"),
    "deep": (b"[" * 100_000, "malformed_json"),
    "long": (b'{"text": "' + b"x" * 10_000_000 + b'"}', "x" * 10_000_000),
    "null": (b'{"text": null}', "no_text"),
    "python": (b"{'text': 'a'}", "malformed_json"),
    "two-objects": (b'{"text": "a"} {"text": "b"}', "malformed_json"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_line_is_its_text_or_has_its_reason(name: str, compressed: bool, tmp_path: Path) -> None:
    line, expected = ODD[name]
    data = b'{"text": "before"}\n' + line + b'\n{"text": "behind"}\n'
    path = tmp_path / "documents.jsonl"
    path.write_bytes(gzip.compress(data, mtime=0) if compressed else data)
    shard = JsonlShard(name="0", path=path)
    records = list(shard)
    assert len(shard) == 3
    found = [read_item(record, TEXTS) for record in records]
    assert [one if isinstance(one, str) else one[0] for one in found] == [
        *("before", expected, "behind")
    ]
    for record in records:
        if record.failure is None:
            assert shard.read(record.locator) == record.data


def test_gzip_that_ends_early_or_is_damaged_is_said_once(tmp_path: Path) -> None:
    lines = [json.dumps({"text": digest(n) * 50}).encode() + b"\n" for n in range(400)]
    whole = gzip.compress(b"".join(lines), mtime=0)
    path = tmp_path / "documents.jsonl.gz"
    shard = JsonlShard(name="0", path=path)
    path.write_bytes(whole + gzip.compress(lines[0], mtime=0))  # joined of two
    assert [record.failure for record in shard] == [None] * 401
    damaged = bytearray(whole)
    damaged[-6] ^= 1  # its checksum
    for data, reason in ((whole[: len(whole) // 2], "truncated_lines"), (damaged, "corrupt_gzip")):
        path.write_bytes(data)
        records = list(shard)
        assert len(shard) == len(records)
        assert {record.failure for record in records[:-1]} <= {None}
        assert records[-1].failure == reason
        for record, line in zip(records[:-1], lines, strict=False):
            assert record.data == json.loads(line)["text"].encode()
    assert len(records) > 1


def digest(number: int) -> str:
    return hashlib.sha256(bytes([number % 256, number // 256])).hexdigest()


def test_a_line_that_is_too_large_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagegram.corpora.jsonl.MAX_BYTES", 30)
    path = tmp_path / "documents.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "' + b"x" * 100 + b'"}\n{"text": "b"}\n')
    records = list(JsonlShard(name="0", path=path))
    assert [record.failure for record in records] == [None, "too_large", None]
    assert records[2].locator.offset == path.read_bytes().rindex(b"{")


def test_fields_are_chosen_and_belong_to_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_text('{"id": 1, "url": "u/1", "body": "words", "text": "short", "genre": "prose"}\n')
    plain = JsonlShard(name="0", path=path)
    (record,) = plain
    assert (record.key, record.data) == ("1", b"short")
    chosen = replace(plain, text="body", key="url", label="genre")
    (record,) = chosen
    assert (record.key, record.data) == ("u/1", b"words")
    assert record.info == {"id": 1, "text": "short", "genre": "prose", "label": "prose"}
    assert chosen.read(record.locator) == b"words"
    assert len({plain.identity(), chosen.identity(), replace(plain, key="url").identity()}) == 3


def test_keys_can_be_written_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_bytes(b'{"key": "half \\ud83d\\n", "text": "words"}\n')
    (record,) = JsonlShard(name="0", path=path)
    assert record.key == r"half \ud83d\n"


def test_identity_is_content(tmp_path: Path) -> None:
    shards = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(LINES[0])
        shards.append(JsonlShard(name=name, path=path))
    assert shards[0].identity() == shards[1].identity()
    shards[1].path.write_bytes(LINES[1])
    assert shards[0].identity() != shards[1].identity()


SOURCE = '''
"""A module about circles, which are the sets of all points at one distance from a centre.

Notes
-----
- lists are no prose, although they may be as long as a sentence is, and end like one.

=====  =======================================================================
table  neither are tables, with words or without, as everybody knows by now.
=====  =======================================================================
"""
if True:
    class Circle:
        """Area and circumference, computed as in :func:`~shapes.area` and `Ring <ring>` [1]_ by
        a formula that is older than the language it is written in::

            area = pi * radius ** 2
        """
        async def area(self):
            r"""Short."""
            def inner():
                """A function within a function may have something to say as well, so it may."""
'''


def test_sentences_are_kept_and_everything_else_is_not() -> None:
    assert list(paragraphs(SOURCE)) == [
        "A module about circles, which are the sets of all points at one distance from a centre.",
        "Area and circumference, computed as in shapes.area and Ring by a formula that is older "
        "than the language it is written in:",
        "A function within a function may have something to say as well, so it may.",
    ]


def test_documents_of_a_package_are_written_once_and_nothing_is_imported(tmp_path: Path) -> None:
    corpus = DemoTextCorpus(write_to=str(tmp_path), packages=("skimage",), documents_per_shard=40)
    shards = corpus.shards
    records = [record for shard in shards for record in shard]
    assert [len(shard) for shard in shards[:-1]] == [40] * (len(shards) - 1)
    assert len({record.key for record in records}) == len(records) > 40
    written = [block for record in records for block in record.data.decode().split("\n\n")]
    assert len(set(written)) == len(written)
    before = [shard.path.stat().st_mtime_ns for shard in shards]
    assert [shard.path.stat().st_mtime_ns for shard in corpus.shards] == before
    first = DemoTextCorpus(
        write_to=str(tmp_path), packages=("skimage",), documents_per_shard=40, num_shards=1
    )
    assert [shard.identity() for shard in first.shards] == [shards[0].identity()]
    assert not list(tmp_path.glob(".*"))


def test_paragraphs_of_two_packages_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    sentences = [
        f"Sentence number {n} of a text that is long enough to be kept, and ends." for n in range(9)
    ]
    for name, some in (("numpy", sentences[:7]), ("scipy", sentences[2:])):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('"""' + "\n\n".join(some) + '"""')
        (tmp_path / name / "broken.py").write_text("def (:")
    corpus = DemoTextCorpus(write_to=str(tmp_path / "out"), packages=("numpy", "scipy"))
    (shard,) = corpus.shards
    texts = {record.key: record.data.decode() for record in shard}
    assert texts == {"numpy.__init__": "\n\n".join(sentences[:7])}  # too little is left of scipy
    assert json.loads(shard.path.read_text())["key"] == "numpy.__init__"


def test_what_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="did you mean 'sympy'"):
        DemoTextCorpus(packages=("sympi",))
    with pytest.raises(ConfigError, match="is empty"):
        DemoTextCorpus(packages=())
    with pytest.raises(ConfigError, match="documents_per_shard"):
        DemoTextCorpus(documents_per_shard=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install scikit-image"):
        _ = DemoTextCorpus(write_to=str(tmp_path), packages=("skimage",)).shards
