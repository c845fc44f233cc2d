"""The tools chat and serve as a user starts them: a real server, a real terminal's input."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import imagegram
from imagegram.errors import ConfigError
from imagegram.run import run_experiment
from imagegram.serve.transcript import Message, transcript
from imagegram.tools import chat, serve
from tests.conftest import REPOSITORY, clean_environment
from tests.e2e.test_text_runs import configured

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    folder = root / "outputs" / "runs" / "one"
    run_experiment(configured(root, "planted=[]", "metric=[copying]"), folder)
    return folder


@contextmanager
def serving(run: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A server on a port that is free, its address, and the lines that it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "imagegram.tools.serve", f"run={run}", "port=0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
        env=clean_environment(),
    )
    try:
        lines: list[str] = []
        assert process.stdout is not None
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", "".join(lines))):
            line = process.stdout.readline()
            assert line, "".join(lines)
            lines.append(line)
        yield process, found[0], lines
    finally:
        process.kill()
        process.wait()


def post(url: str, body: Any, **headers: str) -> dict[str, Any]:
    asked = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **headers},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(asked, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_http_chat_and_python_write_the_same_text(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = transcript([Message("user", "The wolf")])
    expected = imagegram.open_run(run).generate(prompt, seed=6, max_tokens=25).text
    asked = {
        "messages": [{"role": "user", "content": "The wolf"}],
        "seed": 6,
        "max_tokens": 25,
    }
    with serving(run) as (process, address, _):
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda _: post(f"{address}/v1/chat/completions", asked), range(16))
            )
        said = {answer["choices"][0]["message"]["content"] for answer in answers}
        assert said == {expected}
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(f"{address}/generate", {}, Host="evil.example")
        assert refused.value.code == 400
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stdout is not None
        assert process.stdout.read().strip().endswith("ended")
    lines = iter(["/seed 6", "/help", "The wolf", "/wrong", "/seed x", ""])
    monkeypatch.setattr("builtins.input", lambda _: _next(lines))
    assert chat.main([f"run={run}", "max_tokens=25"]) == 0
    shown = capsys.readouterr().out
    assert expected in shown
    assert "tokens from training document" in shown
    assert "/seed N   the seed" in shown
    assert "imagegram: /wrong: allowed: /help, /quit, /seed" in shown
    assert "imagegram: /seed x: must be a whole number" in shown


def _next(lines: Iterator[str]) -> str:
    try:
        return next(lines)
    except StopIteration:
        raise EOFError from None


def test_piped_words_are_answered(run: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "imagegram.tools.chat", f"run={run}", "template=plain", "seed=2"],
        input="The wolf\n/quit\nWhy\n",
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=clean_environment(),
        check=False,
    )
    assert found.returncode == 0, found.stderr
    text = imagegram.open_run(run).generate("The wolf", seed=2).text
    assert found.stdout.startswith(text)
    assert "> " not in found.stdout


def test_other_machines_are_answered_only_when_asked_for(run: Path) -> None:
    with serving(run, "serve.allow_remote=true") as (process, address, _):
        assert process.stdout is not None
        assert "ATTENTION: serve.allow_remote=true" in process.stdout.readline()
        assert post(f"{address}/generate", {"params": {"max_tokens": 3}}, Host="evil.example")


def test_a_busy_port_is_said_in_a_sentence(run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port={port} .* another program has it.*port=0"):
            serve.main([f"run={run}", f"port={port}"])


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (serve.main, ["port=high"], "port=high must be a whole number"),
        (serve.main, ["port=70000"], "port=70000 must be a whole number"),
        (serve.main, ["serve.allow_remote=yes"], "must be true or false"),
        (serve.main, ["prot=1"], "did you mean 'port'?"),
        (serve.main, ["port=0", "run=/nowhere"], "is no run folder"),
        (chat.main, ["template=rolls"], "did you mean 'roles'?"),
        (chat.main, ["run=/nowhere"], "is no run folder"),
    ],
)
def test_words_that_are_none_are_refused(main: Any, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        main(words)


def test_many_requests_need_no_more_memory(run: Path) -> None:
    """Resident memory after the first hundred requests, and after as many again."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system does not tell")
    opened = imagegram.open_run(run)
    sizes = []
    for _ in range(2):
        for seed in range(100):
            opened.generate("Why", seed=seed, max_tokens=40)
        sizes.append(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert sizes[1] - sizes[0] < 32e6
