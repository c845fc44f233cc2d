"""The download tool against a local server that plays the hub: whole, cut, continued, refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagegram.corpora.huggingface import HuggingFaceCorpus
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ConfigError, CorpusError
from imagegram.executors.commands import exit_cleanly
from imagegram.tools import download as tool
from tests.hub_server import Hub, serving

REPO = "laion/conceptual-captions-12m-webdataset"
PAGE = f"datasets/{REPO}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits before it tries again
    # What is lost of a cut is at most one chunk, 10 MB by default.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    tars = {f"data/{n:05d}.tar": bytes([n]) * 1000 + b"end" * n for n in range(2)}
    with serving({PAGE: tars}) as server:
        yield server


def corpus_at(folder: Path, num_shards: int = 2) -> WebDatasetCorpus:
    return WebDatasetCorpus(
        name="cc12m_2",
        tars=f"{folder}/cc12m/{{00000..00099}}.tar",
        num_shards=num_shards,
        hub_repo=REPO,
        hub_folder="data",
    )


def get(corpus: WebDatasetCorpus | HuggingFaceCorpus, url: str) -> int:
    return tool.download(tool.remote_files(corpus, endpoint=url), endpoint=url)


def contents(folder: Path) -> dict[str, bytes]:
    return {f"data/{path.name}": path.read_bytes() for path in sorted(folder.glob("cc12m/*.tar"))}


@pytest.mark.parametrize("redirects", [False, True])
def test_all_tars_arrive_and_are_not_fetched_twice(
    hub: Hub, tmp_path: Path, redirects: bool
) -> None:
    hub.redirects = redirects  # as the hub does for large files
    assert get(corpus_at(tmp_path), hub.url) == 2
    assert contents(tmp_path) == hub.pages[PAGE]
    assert list((tmp_path / "cc12m").glob(".*")) == []
    hub.requests.clear()
    assert get(corpus_at(tmp_path), hub.url) == 0
    assert hub.gets() == []


@pytest.mark.parametrize("redirects", [False, True])
def test_a_cut_download_is_continued_by_the_next_command(
    hub: Hub, tmp_path: Path, redirects: bool
) -> None:
    hub.cut_at, hub.redirects = 700, redirects
    with pytest.raises(CorpusError, match="What has arrived is kept"):
        get(corpus_at(tmp_path), hub.url)
    assert contents(tmp_path) == {}  # nothing carries its final name before it is whole
    (partial,) = (tmp_path / "cc12m").glob(".00000.tar.*.partial")
    assert partial.stat().st_size == 700
    hub.cut_at = None
    hub.requests.clear()
    assert get(corpus_at(tmp_path), hub.url) == 2
    assert contents(tmp_path) == hub.pages[PAGE]
    spans = [span for path, span in hub.gets() if path == "data/00000.tar"]
    assert spans == ["bytes=700-"] * (2 if redirects else 1)


def test_a_partial_of_another_version_is_not_continued(hub: Hub, tmp_path: Path) -> None:
    hub.cut_at = 700
    with pytest.raises(CorpusError):
        get(corpus_at(tmp_path), hub.url)
    hub.cut_at = None
    hub.pages[PAGE]["data/00000.tar"] = b"another version" * 100
    get(corpus_at(tmp_path), hub.url)
    assert contents(tmp_path) == hub.pages[PAGE]


def test_a_tar_of_another_size_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "cc12m").mkdir()
    (tmp_path / "cc12m" / "00001.tar").write_bytes(b"half of it")
    assert get(corpus_at(tmp_path), hub.url) == 2
    assert contents(tmp_path) == hub.pages[PAGE]


def test_bytes_that_are_not_those_announced(hub: Hub, tmp_path: Path) -> None:
    hub.lies = True
    with pytest.raises(CorpusError, match="not those that the hub announced"):
        get(corpus_at(tmp_path), hub.url)
    assert list((tmp_path / "cc12m").iterdir()) == []


def test_a_file_that_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"data/00002\.tar could not be downloaded.*404"):
        get(corpus_at(tmp_path, num_shards=3), hub.url)
    assert contents(tmp_path) == hub.pages[PAGE]  # what came before is there


def test_a_full_disk_is_no_fault_of_the_network(hub: Hub, tmp_path: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))  # the disk that ends early
    try:
        with pytest.raises(CorpusError, match=r"free space, or .* paths\.data=FOLDER") as raised:
            get(corpus_at(tmp_path), hub.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "network" not in str(raised.value)
    assert get(corpus_at(tmp_path), hub.url) == 2
    assert contents(tmp_path) == hub.pages[PAGE]


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(CorpusError, match=r"HF_ENDPOINT \(now http://127\.0\.0\.1:9\)"):
        get(corpus_at(tmp_path), "http://127.0.0.1:9")


def test_the_command_line(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    words = ["corpus=cc12m_10", "corpus.num_shards=2", f"paths.data={tmp_path}"]
    assert tool.main(words) == 0
    assert "2 tars are there, 2 of them new" in capsys.readouterr().out
    assert contents(tmp_path) == hub.pages[PAGE]
    assert tool.main(words) == 0
    assert "0 of them new" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["corpus=demo"], "nothing to download; these have: corpus=cc12m_1, corpus=cc12m_10"),
        (["corpus=cc12m_11"], "cc12m_11"),
        (["corpus=cc12m_10", "corpus.num_shards=0"], "corpus.num_shards must be at least 1"),
    ],
)
def test_a_corpus_that_cannot_be_downloaded(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        tool.compose_corpus(words)
    assert exit_cleanly(lambda: tool.main(words)) == 1
    assert message in capsys.readouterr().err


def test_help_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        tool.main(["--help"])
    assert stop.value.code == 0
    assert "corpus=cc12m_10" in capsys.readouterr().out
