"""Answers over HTTP: what is asked for, what is refused, and where every copied span is from."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import imagegram
from imagegram.errors import ConfigError
from imagegram.finished_run import FinishedRun
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.run import run_experiment
from imagegram.serve.transcript import Message, before_next_turn, transcript
from imagegram.serve.web import Service, make_app
from imagegram.serve.writer import Options, Writer
from imagegram.tokenizers.bpe import BpeTokenizer
from tests.conftest import compose
from tests.e2e.test_text_runs import configured

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from starlette.testclient import TestClient

QUIET = ("planted=[]", "metric=[copying]")
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    root = tmp_path_factory.mktemp("texts")
    run_experiment(configured(root, *QUIET), root / "outputs" / "runs" / "one")
    return imagegram.open_run(root / "outputs" / "runs" / "one")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    root = tmp_path_factory.mktemp("pictures")
    words = ["debug=tiny", f"paths.outputs={root}/outputs", "tokenizer.sizes=[1,2,4]", *QUIET]
    run_experiment(compose(*words), root / "outputs" / "runs" / "one")
    return imagegram.open_run(root / "outputs" / "latest")


@pytest.fixture
def client(texts: FinishedRun) -> Iterator[TestClient]:
    service = Service(name="one", writer=texts.writer, max_tokens=500, max_body=10_000)
    with TestClient(make_app(service), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def of_pictures(pictures: FinishedRun) -> Iterator[TestClient]:
    app = make_app(Service(name="one", writer=pictures.writer))
    with TestClient(app, base_url="http://localhost:8000") as client:
        yield client


def check_spans(text: str, spans: list[dict[str, Any]], run: FinishedRun) -> None:
    """Every span stands in the documents that it names, at the place that it names."""
    opened = run.writer.opened
    for span in spans:
        first, last = span["characters"]
        length = span["tokens"][1] - span["tokens"][0]
        assert span["occurrences"] >= len(span["sources"]) >= 1
        for source in span["sources"]:
            assert source["key"] == opened.index.metadata(source["document"])["key"]
            place = source["position"]
            row = opened.index.document(source["document"])[place : place + length]
            assert opened.tokenizer.decode(row[None]) == [text[first:last]]


def test_a_prompt_is_continued(client: TestClient, texts: FinishedRun) -> None:
    asked = {"prompt": "The wolf", "max_sentences": 2, "params": {"seed": 5, "n": 2}}
    answer = client.post("/generate", json=asked).json()
    written = texts.generate("The wolf", max_sentences=2, seed=5, num_samples=2)
    assert [each["text"] for each in answer["answers"]] == written.texts
    assert answer["text"] == written.text
    assert answer["run"] == "one"
    assert answer["seed"] == 5
    for each in answer["answers"]:
        assert each["finish_reason"] == "stop"
        assert 1 <= each["text"].count(".") <= 2
        assert each["text"].endswith(".")
        check_spans(each["text"], each["spans"], texts)
    assert any(each["spans"] for each in answer["answers"])


def test_a_conversation_is_continued(client: TestClient, texts: FinishedRun) -> None:
    messages = [
        {"role": "system", "content": "A story."},
        {"role": "user", "content": "The wolf"},
        {"role": "assistant", "content": "saw the lamb."},
        {"role": "user", "content": "And then?"},
    ]
    asked = {"messages": messages, "seed": 3, "max_tokens": 30, "n": 2, "temperature": 0.7}
    answer = client.post("/v1/chat/completions", json=asked).json()
    prompt = transcript([Message(**message) for message in messages])
    written = texts.generate(prompt, seed=3, max_tokens=30, num_samples=2, temperature=0.7)
    said = [choice["message"]["content"] for choice in answer["choices"]]
    assert said == [before_next_turn(text) for text in written.texts]
    assert answer["object"] == "chat.completion"
    assert answer["usage"]["completion_tokens"] == sum(len(each.tokens) for each in written)
    for choice in answer["choices"]:
        assert choice["message"]["role"] == "assistant"
        check_spans(choice["message"]["content"], choice["spans"], texts)
    with client.stream("POST", "/v1/chat/completions", json=asked | {"stream": True}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    pieces, ends = {0: "", 1: ""}, {}
    for event in map(json.loads, lines[:-1]):
        (choice,) = event["choices"]
        pieces[choice["index"]] += choice["delta"].get("content", "")
        if choice["finish_reason"]:
            ends[choice["index"]] = choice
    assert list(pieces.values()) == said
    for place, choice in enumerate(answer["choices"]):
        assert ends[place]["spans"] == choice["spans"]
        assert ends[place]["finish_reason"] == choice["finish_reason"]


def test_roles_are_kept() -> None:
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    assert transcript(turns) == "User: a\nAssistant: b\nUser: c\nAssistant:"
    assert before_next_turn(" b\n\nUser: c") == " b"
    assert before_next_turn("no turn: User: x") == "no turn: User: x"


def test_health_and_models(client: TestClient) -> None:
    assert client.get("/health").json() == {
        "status": "ok",
        "run": "one",
        "writes": "texts",
        "generator": "ngram",
        "sampler": "text",
    }
    (model,) = client.get("/v1/models").json()["data"]
    assert model["id"] == "one"


CHAT = {"messages": [{"role": "user", "content": "a"}]}
BAD: list[tuple[str, bytes, int, str]] = [
    ("/generate", b"{", 400, "the body is no JSON"),
    ("/generate", b"", 400, "the body is no JSON"),
    ("/generate", b"\xff\xfe", 400, "the body is no JSON"),
    ("/generate", b"[" * 9000, 400, "the body is no JSON"),
    ("/generate", b"9" * 9000, 400, "the body is no JSON"),
    ("/generate", b"[1]", 400, "a list and no object"),
    ("/generate", b'"a"', 400, "a text and no object"),
    ("/generate", b'{"prompt": 3}', 422, "prompt is a number"),
    ("/generate", b'{"prompt": [true]}', 422, "prompt is a list"),
    ("/generate", b'{"prompt": [70000]}', 422, "the prompt holds ids out of 0 ... 299"),
    ("/generate", b'{"prompt": [-1]}', 422, "the prompt holds ids out of 0 ... 299"),
    ("/generate", b'{"prompt": "\\ud800"}', 422, "half a character of UTF-16"),
    ("/generate", b'{"prompt_": "a"}', 422, "did you mean 'prompt'?"),
    ("/generate", b'{"params": 3}', 422, "params is a number"),
    ("/generate", b'{"max_sentences": -1}', 422, "max_sentences=-1 must be a whole number"),
    ("/generate", b'{"max_sentences": "2"}', 422, "max_sentences='2' must be a whole number"),
    ("/generate", b'{"params": {"max_tokens": 0}}', 422, "max_tokens=0 must be a whole number"),
    ("/generate", b'{"params": {"max_tokens": 1e3}}', 422, "max_tokens=1000.0 must be a whole"),
    ("/generate", b'{"params": {"max_tokens": 501}}', 422, "more than the 500 that one request"),
    ("/generate", b'{"params": {"n": 6, "max_tokens": 100}}', 422, "6 answers of 100 tokens"),
    ("/generate", b'{"params": {"n": 5}}', 422, "5 answers of 128 tokens"),
    ("/generate", b'{"params": {"n": -1}}', 422, "num_samples=-1"),
    ("/generate", b'{"params": {"seed": -1}}', 422, "seed=-1"),
    ("/generate", b'{"params": {"seed": true}}', 422, "seed=True"),
    ("/generate", b'{"params": {"temperature": "hot"}}', 422, "temperature='hot' must be a number"),
    ("/generate", b'{"params": {"temperature": -1}}', 422, "sampler.temperature=-1"),
    ("/generate", b'{"params": {"temperature": NaN}}', 422, "sampler.temperature=nan"),
    ("/generate", b'{"params": {"top_p": null}}', 422, "top_p=None must be a number"),
    ("/generate", b'{"params": {"top_p": 2}}', 422, "sampler.top_p=2"),
    ("/generate", b'{"params": {"max_context": [3]}}', 422, "max_context=[3] must be a number"),
    ("/generate", b'{"params": {"matching": "level"}}', 422, "'matching' is no option"),
    ("/generate", b'{"params": {"rerank": true}}', 422, "'rerank' is no option"),
    ("/generate", b'{"params": {"\\ud800": true}}', 422, "is no option"),
    ("/v1/chat/completions", b"{}", 422, "messages must be a list"),
    ("/v1/chat/completions", b'{"messages": []}', 422, "messages must be a list"),
    ("/v1/chat/completions", b'{"messages": [3]}', 422, "got a number"),
    ("/v1/chat/completions", b'{"messages": [{"role": "user"}]}', 422, "with a text"),
    ("/v1/chat/completions", b'{"messages": [{"content": "a"}]}', 422, "role None is unknown"),
    (
        "/v1/chat/completions",
        b'{"messages": [{"role": "assistant_", "content": "a"}]}',
        422,
        "did you mean 'assistant'?",
    ),
    ("/v1/chat/completions", json.dumps(CHAT | {"stream": 1}).encode(), 422, "stream is a number"),
    ("/v1/chat/completions", json.dumps(CHAT | {"model": 1}).encode(), 422, "model is a number"),
    (
        "/v1/chat/completions",
        json.dumps(CHAT | {"model": "two"}).encode(),
        404,
        "'two' is not here",
    ),
    ("/v1/chat/completions", json.dumps(CHAT | {"stop": "."}).encode(), 422, "field 'stop'"),
    ("/v1/chat/completions", json.dumps(CHAT | {"max_tokens": -5}).encode(), 422, "max_tokens=-5"),
    ("/generate", b'{"prompt": "' + b"a" * 10_000 + b'"}', 413, "larger than 10,000 bytes"),
]


@pytest.mark.parametrize(("path", "body", "status", "said"), BAD)
def test_bad_requests_are_refused_in_a_sentence(
    client: TestClient, path: str, body: bytes, status: int, said: str
) -> None:
    answer = client.post(path, content=body, headers=JSON)
    error = answer.json()["error"]
    assert answer.status_code == error["code"] == status
    assert said in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_body_of_unknown_length_is_cut(client: TestClient) -> None:
    parts = (b"a" * 1000 for _ in range(11))
    assert client.post("/generate", content=parts, headers=JSON).status_code == 413


def test_other_hosts_and_other_kinds_are_refused(client: TestClient) -> None:
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/health", headers={"Host": "localhost:99"}).status_code == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = client.post("/generate", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415
        assert "Content-Type: application/json" in answer.json()["error"]["message"]


def test_other_places_are_refused(client: TestClient) -> None:
    for answer, status in ((client.get("/nothing"), 404), (client.get("/generate"), 405)):
        assert answer.status_code == status
        assert "there are POST /generate" in answer.json()["error"]["message"]


def test_parallel_requests_of_one_seed_get_one_text(client: TestClient, texts: FinishedRun) -> None:
    alone = texts.generate("Why", seed=9, max_tokens=40).text
    asked = {"prompt": "Why", "params": {"seed": 9, "max_tokens": 40}}

    def ask(turn: int) -> str:
        if turn % 2:
            return texts.generate("Why", seed=9, max_tokens=40).text
        return str(client.post("/generate", json=asked).json()["text"])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(24))) == {alone}
    assert texts.generate("Why", seed=10, max_tokens=40).text != alone


def test_images_are_served(of_pictures: TestClient, pictures: FinishedRun) -> None:
    written = pictures.generate(seed=2, num_samples=2)
    answer = of_pictures.post("/generate", json={"params": {"seed": 2, "n": 2}}).json()
    for each, image in zip(answer["answers"], written.images, strict=True):
        opened = Image.open(io.BytesIO(base64.b64decode(each["png_base64"])))
        np.testing.assert_array_equal(np.asarray(opened), image)
        assert each["num_tokens"] == 63
        assert all(span["sources"] and "characters" not in span for span in each["spans"])
    asked = {"params": {"seed": 2}}
    png = of_pictures.post("/generate", json=asked, headers={"Accept": "image/png"})
    assert png.headers["content-type"] == "image/png"
    opened = Image.open(io.BytesIO(png.content))
    np.testing.assert_array_equal(np.asarray(opened), written.images[0])
    assert json.loads(opened.text["imagegram"])["spans"] == answer["answers"][0]["spans"]
    assert float(png.headers["x-imagegram-copied-share"]) == written[0].json()["copied_share"]
    two = of_pictures.post("/generate", json={"params": {"n": 2}}, headers={"Accept": "image/png"})
    assert two.status_code == 422


def test_images_continue_given_tokens(of_pictures: TestClient, pictures: FinishedRun) -> None:
    first = pictures.generate(seed=2)[0].tokens[:30]
    again = pictures.generate(first, seed=7)[0]
    np.testing.assert_array_equal(again.tokens[:30], first)
    assert again.trace["is_prompt"].tolist() == [True] * 30 + [False] * 33
    for body, said in (
        ({"prompt": "a wolf"}, "this run writes images"),
        ({"params": {"max_tokens": 3}}, "an image of this run has 63 tokens"),
        ({"prompt": [1] * 63}, "at most 62 fit"),
    ):
        answer = of_pictures.post("/generate", json=body)
        assert answer.status_code == 422
        assert said in answer.json()["error"]["message"]
    answer = of_pictures.post("/v1/chat/completions", json=CHAT)
    assert "writes images, which do not chat" in answer.json()["error"]["message"]


def test_answers_show_themselves(texts: FinishedRun, pictures: FinishedRun) -> None:
    written = texts.generate("The wolf", seed=1, max_tokens=30)
    assert repr(written).startswith(written.text)
    assert 'class="run s0 o' in written._repr_html_()
    assert "data:image/png;base64," in pictures.generate()._repr_html_()
    with pytest.raises(ConfigError, match=r"take \.texts"):
        _ = written.images
    with pytest.raises(ConfigError, match=r"take \.images"):
        _ = pictures.generate().text


def test_prompts_are_read_whole_and_answers_are_what_follows(texts: FinishedRun) -> None:
    opened = texts.writer.opened
    ids = [int(token) for token in opened.tokenizer.encode(["The wolf"]).documents[0]]
    by_ids, by_text = (texts.generate(each, seed=4, max_tokens=9) for each in (ids, "The wolf"))
    assert by_ids.texts == by_text.texts
    assert by_text.prompt_tokens == len(ids)
    assert not by_text[0].trace["is_prompt"].any()
    assert len(by_text[0].trace["suffix_len"]) == len(by_text[0].tokens) <= 9
    long = texts.generate("The wolf saw a lamb. " * 2000, max_tokens=20)
    assert long.dropped_tokens > 0
    assert long.prompt_tokens + 20 == 8192
    assert texts.generate("", max_tokens=5)[0].tokens.size <= 5


def test_a_folder_that_cannot_write_says_why(tmp_path: Path, texts: FinishedRun) -> None:
    (tmp_path / "summary.json").write_text('{"status": "completed", "stages": {}}')
    with pytest.raises(ConfigError, match=r"it has no \.hydra/config\.yaml"):
        imagegram.open_run(tmp_path).generate("a")
    (tmp_path / ".hydra").mkdir()
    config = (texts.folder / ".hydra" / "config.yaml").read_text()
    (tmp_path / ".hydra" / "config.yaml").write_text(config)
    with pytest.raises(ConfigError, match="has no stage 'fit_tokenizer'"):
        imagegram.open_run(tmp_path).generate("a")
    stages = {"fit_tokenizer": {"path": "/nowhere/artifacts/tokenizer/0123"}}
    (tmp_path / "summary.json").write_text(json.dumps({"status": "completed", "stages": stages}))
    with pytest.raises(ConfigError, match=r"/nowhere/artifacts/tokenizer/0123, .* is gone"):
        imagegram.open_run(tmp_path).generate("a")


def test_a_network_continues_within_its_window(tmp_path: Path) -> None:
    words = ("generator=ar", "trainer.max_steps=2", "generator.width=16", "generator.depth=1")
    run_experiment(configured(tmp_path, *words, *QUIET), tmp_path / "outputs" / "runs" / "ar")
    run = imagegram.open_run(tmp_path / "outputs" / "runs" / "ar")
    prompt = "The wolf saw the lamb and the lamb saw the wolf, at dawn."
    written = run.generate(prompt, seed=3, max_tokens=10)
    assert written.prompt_tokens == 14  # the window has 24
    opened = run.writer.opened
    ids = [int(token) for token in opened.tokenizer.encode([prompt]).documents[0]]
    assert written.dropped_tokens == len(ids) - 14
    assert run.generate(ids[-14:], seed=3, max_tokens=10).texts == written.texts
    assert len(written[0].tokens) <= 10
    assert len(written[0].trace["log_prob"]) == len(written[0].tokens)
    with ThreadPoolExecutor(8) as pool:
        texts = pool.map(lambda _: run.generate(prompt, seed=3, max_tokens=10).text, range(16))
    assert set(texts) == {written.text}
    with pytest.raises(ConfigError, match=r"at most 24 tokens together; give max_tokens=12"):
        run.generate(prompt, max_tokens=24)
    with pytest.raises(ConfigError, match="'max_context' is no option of this run's sampler"):
        run.generate(prompt, max_context=3)


class _Codes(BpeTokenizer):
    """Ids in steps of four."""

    @property
    def spec(self) -> TokenSpec:
        layout = TokenLayout.sequence(16, order="raster", num_channels=4)
        return TokenSpec(vocab_size=100, layout=layout, ragged=True, codebooks=4)


def test_no_step_of_codes_is_cut() -> None:
    """Four codes are a sentence: prompts lose whole ones, answers have whole ones."""
    opened: Any = SimpleNamespace(tokenizer=_Codes(), model=object())
    writer = Writer(opened=opened)
    for wanted, most, kept in ((6, 4, 12), (3, 4, 12), (8, 8, 8), (15, 12, 4)):
        found = writer._room([*range(20)], Options(max_tokens=wanted))
        assert found[1:] == ([*range(20)][20 - kept :], most)
    assert writer._room([1, 2, 3, 4], Options(max_tokens=4))[1] == [1, 2, 3, 4]
