"""The export of Wikipedia, from a folder of the form that the dataset has at the hub."""

from __future__ import annotations

import fcntl
import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from imagegram.corpora.wikipedia import WikipediaCorpus
from imagegram.corpora.wikipedia_export import STATE, export
from imagegram.errors import ConfigError, CorpusError
from imagegram.texts.decode import decode_text
from imagegram.tools import download as tool
from tests.conftest import REPOSITORY, clean_environment
from tests.parquets import write

README = """---
configs:
- config_name: "20231101.xx"
  data_files:
  - split: train
    path: 20231101.xx/train-*
- config_name: "20231101.yy"
  data_files:
  - split: train
    path: 20231101.yy/train-*
---
"""


def articles() -> list[dict[str, str]]:
    """Articles of 1 ... 24 words, one of them empty, one of letters of several bytes."""
    texts = [f"{'wörd ' * (n * 7 % 24 + 1)}{n}" for n in range(70)]
    texts[5], texts[11] = "", "\u05d0" * 60
    return [
        {"id": str(n), "url": f"https://x/{n}", "title": f"T{n}", "text": text}
        for n, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone of the dataset looks like: three files of one language, one of another."""
    root = tmp_path_factory.mktemp("wikipedia")
    (root / "README.md").write_text(README)
    for number in range(3):
        rows = articles()[number * 30 : number * 30 + 30]
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        write(root / "20231101.xx" / f"train-{number:05d}-of-00003.parquet", columns)
    write(root / "20231101.yy" / "train-00000-of-00001.parquet", {"text": ["x"]})
    return root


def corpus(hub: Path, downloads: Path, **changes: Any) -> WikipediaCorpus:
    fields = {"language": "xx", "min_characters": 50, "documents_per_file": 8} | changes
    return WikipediaCorpus(dataset=str(hub), downloads=str(downloads), **fields)


def chosen(most: int | None = None) -> list[dict[str, str]]:
    """The articles that an export has, by reading them all."""
    return [article for article in articles() if len(article["text"]) >= 50][:most]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl.gz"))}


class Articles:
    """A stream in memory, which breaks behind a number of articles."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.at, self.breaks_at = 0, breaks_at

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for article in articles()[self.at :]:
            if self.at == self.breaks_at:
                raise OSError("the connection was lost")
            self.at += 1
            yield article

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"]


@pytest.mark.parametrize("most", [None, 3, 8, 16, 19, 1000])
def test_the_first_long_enough_articles_are_written_in_their_order(
    most: int | None, hub: Path, tmp_path: Path
) -> None:
    pytest.importorskip("datasets")
    exported = corpus(hub, tmp_path, max_documents=most)
    counts = export(exported)
    expected = chosen(most)
    assert counts["documents"] == len(expected)
    assert counts["files"] == -(-len(expected) // 8) == len(exported.shards)
    lines = [
        json.loads(line)
        for data in written(exported.folder).values()
        for line in gzip.decompress(data).splitlines()
    ]
    assert lines == expected
    if most is None:
        assert counts["too_short"] == len(articles()) - len(expected)
    records = [record for shard in exported.shards for record in shard]
    assert [decode_text(record.data) for record in records] == [a["text"] for a in expected]
    assert [record.key for record in records] == [a["id"] for a in expected]
    assert records[0].info == {"url": expected[0]["url"], "title": expected[0]["title"]}
    before = written(exported.folder)
    assert export(exported, opens=pytest.fail) == counts  # it is there: nothing is opened
    assert written(exported.folder) == before


def test_broken_off_anywhere_and_run_again_it_has_the_same_bytes(hub: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")  # whose version the state names
    whole = corpus(hub, tmp_path / "whole")
    export(whole, opens=lambda _: Articles())
    for place in range(0, len(articles()), 3):
        broken = corpus(hub, tmp_path / str(place))
        with pytest.raises(CorpusError, match="What has arrived is kept"):
            export(broken, opens=lambda _, at=place: Articles(breaks_at=at))
        with pytest.raises(CorpusError, match="is not whole; get them first: python -m"):
            _ = corpus(hub, tmp_path / str(place)).shards
        state = broken.folder / STATE
        begins = json.loads(state.read_text())["stream"]["at"] if state.exists() else 0
        stream = Articles()
        assert export(broken, opens=lambda _, stream=stream: stream) == export(whole)
        assert written(broken.folder) == written(whole.folder)
        assert begins <= place
        assert not list(broken.folder.glob(".*.partial"))
    assert begins > 40  # it went on, and did not begin anew


def test_killed_and_run_again_it_has_the_same_bytes(hub: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    code = """
import itertools, os, signal, sys
from imagegram.corpora import wikipedia_export as module
from imagegram.corpora.wikipedia import WikipediaCorpus
write = module._write_file
def killed(path, articles, wanted, corpus):
    if path.name.startswith(".00002"):
        write(path, itertools.islice(articles, 5), wanted, corpus)
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, articles, wanted, corpus)
module._write_file = killed
dataset, downloads = sys.argv[1:]
module.export(WikipediaCorpus(dataset=dataset, downloads=downloads, language="xx",
                              min_characters=50, documents_per_file=8))
"""
    killed = corpus(hub, tmp_path / "killed")
    process = subprocess.run(
        [sys.executable, "-c", code, str(hub), str(tmp_path / "killed")],
        env=clean_environment(),
        cwd=REPOSITORY,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    assert list(written(killed.folder)) == ["00000.jsonl.gz", "00001.jsonl.gz"]
    whole = corpus(hub, tmp_path / "whole")
    assert export(killed) == export(whole)
    assert written(killed.folder) == written(whole.folder)


def test_the_command_says_what_there_is(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("datasets")
    words = [f"corpus.dataset={hub}", "corpus.language=xx", "corpus.min_characters=50"]
    assert tool.main(["corpus=wikipedia", f"paths.data={tmp_path}", *words]) == 0
    told = capsys.readouterr().out
    assert f"corpus wikipedia: {len(chosen())} documents, " in told
    assert str(tmp_path / "wikipedia" / "20231101.xx-") in told


def test_what_cannot_be_exported_is_refused_in_a_sentence(hub: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(CorpusError, match=r"has no 20231101.xz; did you mean '20231101.xx'"):
        export(corpus(hub, tmp_path, language="xz"))
    with pytest.raises(CorpusError, match=r"none of 70 articles .* has 9,999 characters"):
        export(corpus(hub, tmp_path, min_characters=9999))
    with pytest.raises(ConfigError, match=r"corpus.max_documents=0 must be at least 1"):
        corpus(hub, tmp_path, max_documents=0)
    busy = corpus(hub, tmp_path)
    busy.folder.mkdir()
    with (busy.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CorpusError, match="another process is writing"):
            export(busy)


def test_the_message_of_a_missing_export_is_its_command(tmp_path: Path) -> None:
    missing = WikipediaCorpus(downloads=str(tmp_path), language="simple", max_documents=None)
    command = "python -m imagegram.tools.download corpus=wikipedia corpus.language=simple"
    with pytest.raises(CorpusError, match=f"is not there; get them first: {command} corpus.max_"):
        _ = missing.shards
