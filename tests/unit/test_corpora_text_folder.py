"""A folder of texts: a document a file, what is no text counted under its reason, nothing lost."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from imagegram.corpora.folder import TextFolderCorpus
from imagegram.errors import ConfigError, CorpusError
from imagegram.stages.skips import read_item
from imagegram.texts.modality import TEXTS

#: Bytes of a file, and the text that is read of it, or the reason why none is.
FILES = {
    "empty": (b"", "empty_file"),
    "blank": (b" \r\n\t\n", "blank"),
    "no-break-spaces": ("\u00a0\u3000\n".encode(), "blank"),
    "mark-alone": (b"\xef\xbb\xbf", "blank"),
    "mark": (b"\xef\xbb\xbfOnce upon a time.", "Once upon a time."),
    "nul": (b"once\0upon", "binary"),
    "latin-1": ("na\u00efve".encode("latin-1"), "not_utf8"),
    "cut-character": ("caf\u00e9".encode()[:-1], "not_utf8"),
    "utf-16": ("\ufeffonce".encode("utf-16-le"), "not_utf8"),
    "half-a-character": (b"half \xed\xa0\xbd", "lone_surrogate"),
    "carriage-returns": (b"one\r\ntwo\rthree", "one\ntwo\nthree"),
    "emoji": ("\U0001f469\u200d\U0001f52c".encode(), "\U0001f469\u200d\U0001f52c"),
    "combining": ("e\u0301 is not \u00e9".encode(), "e\u0301 is not \u00e9"),
    "right-to-left": ("\u05d0\u202eab\u202c".encode(), "\u05d0\u202eab\u202c"),
    "markup": (b"a <b>bold</b> word &amp; <script>alert(1)</script>",) * 2,
    "page": (b"<!DOCTYPE html>\n<html><body>502 Bad Gateway", "web_page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git_lfs_pointer"),
    "no-end": (b"x" * 10_000_000,) * 2,
}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_its_text_or_has_its_reason(name: str, tmp_path: Path) -> None:
    data, expected = FILES[name]
    write(tmp_path, {f"{name}.txt": data})
    (shard,) = TextFolderCorpus(path=str(tmp_path)).shards
    (record,) = shard
    assert record.key == f"{name}.txt"
    found = read_item(record, TEXTS)
    text = found if isinstance(found, str) else found[0]
    assert text == (expected if isinstance(expected, str) else expected.decode())
    assert shard.read(record.locator) == data


def test_texts_of_all_folders_in_an_order_that_does_not_follow_their_names(tmp_path: Path) -> None:
    files = {f"{name}/{n}.{end}": f"{name} {n}".encode() for n, end in enumerate(["txt", "MD"])
             for name in ("a", "b/c", "\u0424\u043e\u0442\u043e")}  # fmt: skip
    write(tmp_path, files)
    corpus = TextFolderCorpus(path=str(tmp_path), documents_per_shard=4)
    shards = corpus.shards
    assert [len(shard) for shard in shards] == [4, 2]
    records = [record for shard in shards for record in shard]
    assert {record.key: record.data for record in records} == files
    assert [record.key for record in records] != sorted(files)
    assert TextFolderCorpus(path=str(tmp_path), documents_per_shard=4, num_shards=1).shards == (
        shards[0],
    )
    again = pickle.loads(pickle.dumps(shards[0]))
    assert [record.key for record in again] == [record.key for record in records[:4]]


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    names = ("a.txt", "sub/b.md", "c.pdf", "d", ".git/e.txt", "sub/._b.md", "photo.jpg")
    write(tmp_path / "notes", dict.fromkeys(names, b"words"))
    (tmp_path / "notes" / "loop").symlink_to("..")
    (tmp_path / "notes" / "linked.txt").symlink_to(tmp_path / "elsewhere.txt")
    (tmp_path / "elsewhere.txt").write_text("e")
    os.mkfifo(tmp_path / "notes" / "pipe.txt")
    snapshot = TextFolderCorpus(path=str(tmp_path / "notes")).snapshot
    # The link out of the folder leads to the one above, so to everything once more but itself.
    assert snapshot.counts["texts"] == 4
    assert snapshot.found.startswith("4 texts in 3 folders; 4 other files (")
    assert "2 hidden files (.git, sub/._b.md)" in snapshot.found
    assert "1 path to folders that are read already (loop/notes)" in snapshot.found
    assert snapshot.counts["others"] == {"": 1, ".jpg": 1, ".pdf": 1, "special": 1}


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no folder is named; type corpus\.path=FOLDER"):
        _ = TextFolderCorpus().shards
    with pytest.raises(CorpusError, match="is not a folder"):
        _ = TextFolderCorpus(path=str(tmp_path / "nowhere")).shards
    write(tmp_path, {"lines.jsonl": b"{}"})
    with pytest.raises(CorpusError, match=r"no file ends in \.txt, \.md .*1 \.jsonl.*corpus=jsonl"):
        _ = TextFolderCorpus(path=str(tmp_path)).shards
    with pytest.raises(ConfigError, match="documents_per_shard must be at least 1"):
        TextFolderCorpus(documents_per_shard=0)
