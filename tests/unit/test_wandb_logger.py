"""What W&B is told, and when it goes online; every run of these tests is offline."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wandb
from hydra.types import RunMode
from omegaconf import OmegaConf
from wandb.sdk import wandb_setup
from wandb.sdk.lib.service import service_process

from imagegram.callbacks.worst_copies import WorstCopies, strip
from imagegram.errors import ConfigError
from imagegram.loggers.mirror import Mirror
from imagegram.loggers.names import run_names, running_names
from imagegram.loggers.wandb import (
    WandbLogger,
    choose_mode,
    chosen_arguments,
    open_wandb,
    unreachable,
)
from imagegram.report.neighbours import Neighbour
from imagegram.report.pairs import Pair
from tests.wandb_files import read_live_run, records
from tests.wandb_server import vanishing


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("API_KEY", "MODE", "BASE_URL", "NAME", "PROJECT", "RUN_GROUP", "TAGS"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize(
    ("netrc", "variables", "online"),
    [
        (None, {}, False),
        (None, {"WANDB_API_KEY": "k"}, True),
        (None, {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, False),
        (None, {"WANDB_API_KEY": "k", "WANDB_MODE": "dryrun"}, False),
        ("machine api.wandb.ai login user password k", {}, True),
        ("machine api.wandb.ai login user password k", {"WANDB_MODE": "disabled"}, False),
        ("machine example.org login user password k", {}, False),
        (
            "machine example.org login user password k",
            {"WANDB_BASE_URL": "https://example.org"},
            True,
        ),
        ("machine", {}, False),
    ],
)
def test_when_wandb_goes_online(
    netrc: str | None,
    variables: dict[str, str],
    online: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if netrc is not None:
        (tmp_path / "netrc").write_text(netrc + "\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (choose_mode(None) == "online") == online


def test_numbers_and_configuration_have_names_that_panels_find(tmp_path: Path) -> None:
    logger = open_offline(tmp_path, project="p", id="fixed")
    logger.log_hyperparams({"corpus": {"name": "demo"}, "seed": 1})
    logger.log_hyperparams({"corpus.num_images": 60})
    logger.log_metrics({"eval/kid": 1.5})
    logger.log_metrics({"eval/kid": 2.5})
    assert "wandb sync" in str(logger.finalize("success"))
    wandb.teardown()  # waits until everything is on disk
    run = read_live_run(tmp_path)
    assert (run["id"], run["name"], run["group"], run["tags"]) == ("fixed", "n", "g", ["a=b"])
    assert run["config"]["corpus"] == {"name": "demo"}
    assert run["config"]["corpus.num_images"] == run["config"]["corpus_num_images"] == 60
    assert run["summary"]["eval/kid"] == 2.5
    assert run["globs"] == ["eval/*"]


def open_offline(folder: Path, **fields: Any) -> WandbLogger:
    names = {"name": "n", "group": "g", "tags": ["a=b"]}
    said: list[str] = []
    logger = open_wandb({"save_dir": str(folder), **fields}, names=names, say=said.append)
    assert logger is not None
    assert not said
    return logger


def chosen(folder: Path, **fields: Any) -> dict[str, Any]:
    names = {"name": "n", "group": "g", "tags": ["a=b"]}
    return chosen_arguments({"save_dir": str(folder), **fields}, names)


def test_a_field_wins_over_the_environment_and_that_over_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {"project": "imagegram", "name": "n", "group": "g", "tags": ["a=b"]}
    assert chosen(tmp_path, name=None) == {**usual, "dir": str(tmp_path)}
    for name, value in (("NAME", "x"), ("PROJECT", "x"), ("RUN_GROUP", "x"), ("TAGS", "x,y")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert chosen(tmp_path) == {"dir": str(tmp_path)}  # all left to W&B, which reads them
    given = {"name": "mine", "group": "ours", "tags": ["t"], "project": "p", "entity": "me"}
    assert chosen(tmp_path, **given) == {**given, "dir": str(tmp_path)}


def test_the_environment_names_an_offline_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("NAME", "x"), ("RUN_GROUP", "y"), ("TAGS", "s,t")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()  # W&B reads its environment once a process
    open_offline(tmp_path, tags=["mine"]).finalize("success")
    wandb.teardown()
    run = read_live_run(tmp_path)
    assert (run["name"], run["group"], run["tags"]) == ("x", "y", ["mine"])


@pytest.mark.parametrize("variables", [{"WANDB_MODE": "disabled"}, {}])
def test_disabled_writes_nothing(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    node = {"save_dir": str(tmp_path / "run"), "mode": None if variables else "disabled"}
    assert open_wandb(node, names={}, say=pytest.fail) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "onlin"}, "did you mean 'online'"),
        ({"entty": "x"}, "logger.wandb.entty: did you mean 'entity'"),
    ],
)
def test_a_mistyped_field_is_refused(fields: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        open_wandb({"save_dir": str(tmp_path), **fields}, names={}, say=pytest.fail)


@contextmanager
def server_that(answers: str | None) -> Iterator[str]:
    """The address of a server: with an answer to everything, or silent (None)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    if answers is not None:
                        connection.recv(65536)
                        connection.sendall(answers.encode())
                        connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)  # else it stays open for the thread that waits there


REFUSES = "HTTP/1.1 401 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"


def test_any_answer_is_a_server_and_silence_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagegram.loggers.wandb._ANSWER_S", 0.5)
    with server_that(REFUSES) as url:
        assert unreachable(url) == ""
    assert "cannot be reached: [Errno 111]" in unreachable(url)
    with server_that(None) as url:
        began = time.monotonic()
        assert "did not answer within" in unreachable(url)
        assert time.monotonic() - began < 3
    assert "cannot be reached" in unreachable("no address")


@pytest.mark.parametrize("answers", [None, REFUSES])
def test_a_server_that_takes_no_run_makes_it_an_offline_one(
    answers: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagegram.loggers.wandb._ANSWER_S", 0.5)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    said: list[str] = []
    with server_that(answers) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        wandb.teardown()
        logger = open_wandb({"save_dir": str(tmp_path)}, names={"name": "n"}, say=said.append)
        assert logger is not None
        logger.log_metrics({"eval/kid": 1.0})
        assert "wandb sync" in str(logger.finalize("success"))
    wandb.teardown()
    (sentence,) = said
    assert url in sentence
    assert "logged offline" in sentence
    assert read_live_run(tmp_path)["history"]["eval/kid"] == 1.0


def test_a_process_of_wandb_that_does_not_start_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.teardown()
    launch = service_process._launch_server
    started: list[str] = []

    def die_once(*args: Any, **options: Any) -> Any:
        started.append("")
        if len(started) == 1:
            raise RuntimeError("wandb-core exited with code 2")
        return launch(*args, **options)

    monkeypatch.setattr(service_process, "_launch_server", die_once)
    said: list[str] = []
    logger = open_wandb({"save_dir": str(tmp_path)}, names={"name": "n"}, say=said.append)
    assert logger is not None
    logger.log_metrics({"eval/kid": 1.0})
    assert "wandb sync" in str(logger.finalize("success"))
    wandb.teardown()
    (sentence,) = said
    assert "did not start" in sentence
    assert "exited with code 2" in sentence
    assert read_live_run(tmp_path)["history"]["eval/kid"] == 1.0


def hydra_node(mode: Any, *, experiment: str | None = None, words: str = "") -> Any:
    choices = {"corpus": "demo", "tokenizer": "pyramid2", "sampler": "greedy"}
    return OmegaConf.create(
        {
            "mode": mode,
            "job": {"override_dirname": words},
            "runtime": {"choices": {**choices, "experiment": experiment}},
        }
    )


@pytest.mark.parametrize("multirun", [RunMode.MULTIRUN, "MULTIRUN"])
def test_names_of_a_job_and_of_a_run(multirun: Any) -> None:
    job, run = Path("outputs/sweeps/monday/0_seed=1"), Path("outputs/runs/monday")
    named = run_names(job, hydra_node(multirun, words="seed=1"))
    assert (named["name"], named["group"]) == ("seed=1", "monday")
    assert named["tags"] == ["corpus=demo", "tokenizer=pyramid2", "sampler=greedy"]
    named = run_names(job, hydra_node(multirun, experiment="frontier", words="w" * 200))
    assert (named["name"], named["group"]) == ("w" * 128, "frontier")
    named = run_names(job, hydra_node(multirun))
    assert named["name"] == job.name
    named = run_names(run, hydra_node("RUN", words="never shown"))
    assert (named["name"], named["group"]) == ("monday", "runs")
    assert running_names(run) == {"name": "monday", "group": "notebook", "tags": []}


def test_a_run_without_pairs_shows_none(tmp_path: Path) -> None:
    mirror = SimpleNamespace(images=lambda *_: pytest.fail("nothing to show"))
    WorstCopies().on_run_end(SimpleNamespace(folder=tmp_path, mirror=mirror))


def test_a_strip_has_three_places_whatever_is_in_them() -> None:
    images = np.stack([np.full((16, 16, 3), shade, np.uint8) for shade in (10, 20, 30)])
    nearest = Neighbour(document=1, image=images[1], rms=10.0, metadata={})
    source = Neighbour(document=2, image=images[2], rms=20.0, metadata={})
    for other, shade in ((source, 30), (None, 255)):
        pair = Pair(sample=0, exact=False, share=None, nearest=nearest, source=other)
        shown = strip(images[0], pair)
        assert shown.shape == (64, 3 * 64 + 2 * 2, 3)
        assert [int(shown[0, x, 0]) for x in (0, 66, 132)] == [10, 20, shade]


def test_a_server_that_vanishes_costs_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vanishing() as server:
        monkeypatch.setenv("WANDB_BASE_URL", url := f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        node = {"save_dir": str(tmp_path), "settings": {"finish_timeout": 1.0}}
        said: list[str] = []
        logger = open_wandb(node, names={"name": "n"}, say=said.append)
        assert logger is not None
        assert not said
        assert not logger.experiment.offline
        assert server.vanished.wait(30)
        logger.log_metrics({"x": 1.0})
        began = time.monotonic()
        (folder,) = tmp_path.glob("wandb/run-*")
        assert logger.finalize("success") == (
            f"W&B: {url} did not take all of it; for the rest: wandb sync {folder}"
        )
        assert time.monotonic() - began < 10
    assert 1.0 in [json.loads(value) for value in logged(folder, "x")]


def logged(folder: Path, key: str) -> list[str]:
    """Values of a key in the file that W&B keeps of a run."""
    (path,) = folder.glob("*.wandb")
    items = [item for record in records(path) for item in record.history.item]
    return [item.value_json for item in items if key in (item.key, *item.nested_key)]


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_of_wandb_that_dies_or_is_stuck_costs_a_sentence(
    sent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagegram.loggers.wandb._LOCAL_FINISH_S", 0.5)
    monkeypatch.setattr("imagegram.loggers.wandb._STUCK_S", 0.5)
    node = OmegaConf.create({"_target_": "wandb.init", "save_dir": str(tmp_path)})
    said: list[str] = []
    mirror = Mirror({"wandb": node}, names={"name": "n"}, say=said.append)
    service: Any = wandb_setup.singleton().ensure_service()._proc
    service._process.send_signal(sent)
    mirror.scalars({"x": 1.0})
    assert mirror.finish("success") == []
    mirror.scalars({"x": 2.0})
    (sentence,) = said
    assert sentence.startswith("logger=wandb failed, and the run goes on without it: ")
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    assert sentence.endswith(f"; for what it has: wandb sync {folder}")
    assert service._process.wait(10) == -signal.SIGKILL  # else Python would wait for it
    open_offline(tmp_path / "next").finalize("success")  # with a process of its own
