"""Captions over HTTP, in the terminal and in Python: pictures of them, and what is refused."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import imagegram
from imagegram.errors import ConfigError
from imagegram.finished_run import FinishedRun
from imagegram.run import run_experiment
from imagegram.serve.web import Service, make_app
from imagegram.serve.writer import Options, Writer
from imagegram.tools import chat
from tests.conftest import compose
from tests.e2e.test_caption_runs import PAINTS, words

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from starlette.testclient import TestClient

QUIET = ("metric=[copying]",)
#: A run of tokens under captions, and one of pictures.
RUNS = {"maskgen": (*QUIET, "sampler.steps=3"), "maskgen_kl": (*QUIET, *PAINTS)}
PNG = {"Accept": "image/png"}


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    root = tmp_path_factory.mktemp(request.param)
    folder = root / "out" / "runs" / "one"
    folder.mkdir(parents=True)
    run_experiment(compose(*words(root, request.param, *RUNS[request.param])), folder)
    return imagegram.open_run(folder)


@pytest.fixture
def client(run: FinishedRun) -> Iterator[TestClient]:
    app = make_app(Service(name="one", writer=run.writer))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_a_picture_of_a_caption_is_the_same_by_every_way(
    run: FinishedRun, client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = run.generate(caption="a red rocket", seed=3, num_samples=2)
    asked: dict[str, Any] = {"caption": "a red rocket", "params": {"seed": 3, "n": 2}}
    answer = client.post("/generate", json=asked).json()
    for each, own in zip(answer["answers"], written, strict=True):
        opened = Image.open(io.BytesIO(base64.b64decode(each["png_base64"])))
        np.testing.assert_array_equal(np.asarray(opened), own.image)
        assert each["caption"] == own.caption == "a red rocket"
        assert each["num_tokens"] == len(own.tokens) == 15
    asked["params"]["n"] = 1
    png = client.post("/generate", json=asked, headers=PNG)
    opened = Image.open(io.BytesIO(png.content))
    told = json.loads(opened.text["imagegram"])  # type: ignore[attr-defined]
    assert told["caption"] == "a red rocket"
    assert told["spans"] == answer["answers"][0]["spans"]
    lines = iter(["/seed 3", "a red rocket", "a red rocket", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert chat.main([f"run={run.folder}", f"out={tmp_path}/new"]) == 0
    files = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in files] == ["0000.png", "0001.png"]
    assert {path.read_bytes() for path in files} == {png.content}


def test_a_caption_decides(run: FinishedRun) -> None:
    plain, rocket, cup = (
        run.generate(seed=3, num_samples=8, caption=caption)
        for caption in (None, "a red rocket", "a cup of coffee")
    )
    shown = {np.stack(each.images).tobytes() for each in (plain, rocket, cup)}
    assert len(shown) == 3
    assert "caption" not in plain[0].json()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"caption": "word " * 40}, "is longer than the 32 tokens that encoder is asked to read"),
        ({"caption": " "}, "must be a text that says something"),
        ({"caption": 3}, "must be a text that says something"),
        ({"prompt": "a red rocket"}, "characters are no prompt; give a caption"),
        ({"prompt": [1, 2], "caption": "a rocket"}, "cannot continue a prompt"),
        ({"captions": "a rocket"}, "has a field 'captions'; did you mean 'caption'"),
    ],
)
def test_bad_captions_are_refused_in_a_sentence(
    client: TestClient, body: dict[str, Any], said: str
) -> None:
    answer = client.post("/generate", json=body)
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


def test_what_cannot_do_without_a_caption_says_so(run: FinishedRun) -> None:
    opened = run.writer.opened
    generator: Any = dataclasses.replace(opened.exp.generator, caption_dropout=0.0)  # type: ignore[type-var]
    exp = dataclasses.replace(opened.exp, generator=generator)
    writer = Writer(opened=dataclasses.replace(opened, exp=exp))
    with pytest.raises(ConfigError, match="paints nothing without a caption"):
        writer.write()
    assert writer.write(None, Options(caption="a rocket"))[0].image is not None
    writer.warm_up()


def test_a_run_without_captions_refuses_them(tmp_path: Path) -> None:
    small = ("debug=tiny", "tokenizer.sizes=[1,2]", "planted=[]", "num_samples=4", *QUIET)
    folder = tmp_path / "out" / "runs" / "one"
    folder.mkdir(parents=True)
    run_experiment(compose(*small, f"paths.outputs={tmp_path}/out"), folder)
    run = imagegram.open_run(folder)
    with pytest.raises(ConfigError, match="reads no captions: generator=ngram never learned any"):
        run.generate(caption="a rocket")
    with pytest.raises(ConfigError, match="writes images and reads no captions"):
        chat.main([f"run={folder}"])
