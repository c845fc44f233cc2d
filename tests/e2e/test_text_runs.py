"""Whole runs on texts: documents of different lengths, generated until they end, then audited."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate

from imagegram.errors import ConfigError
from imagegram.experiment import build
from imagegram.records import EOS_TOKEN_ID, row_sizes
from imagegram.report.passages import read_copies
from imagegram.run import run_experiment
from imagegram.texts.samples import read_texts
from tests.conftest import compose
from tests.documents import documents

WORDS = (
    *("modality=text", "tokenizer.vocab_size=300", "tokenizer.window=24"),
    *("num_samples=12", "planted=[shuffled,copies_20,collages]", "logger=none", "runtime=ci"),
)


def configured(root: Path, *words: str) -> Any:
    """A configuration whose corpus was written beforehand: the same texts everywhere."""
    cfg = compose(*WORDS, f"paths.outputs={root}/outputs", *words)
    folder = instantiate(cfg.corpus, _convert_="all").folder
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"key": f"story{n}", "text": text} for n, text in enumerate(documents(300, seed=7))]
    lines += [{"key": "copy", "text": lines[0]["text"].upper()}, {"key": "blank", "text": " "}]
    (folder / "00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return cfg


def test_texts_are_generated_until_they_end_and_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    finished = run_experiment(configured(tmp_path), run)
    scores = finished.scores
    tokens = np.load(run / "samples" / "tokens.npy")
    assert tokens.shape == (12, 24)
    sizes = row_sizes(tokens)
    assert (sizes < 24).any()
    assert all((row[size:] == EOS_TOKEN_ID).all() for row, size in zip(tokens, sizes, strict=True))
    texts = read_texts(run / "samples" / "texts.jsonl")
    assert len(texts) == 12
    assert all(text == "" or text[0].isupper() for text in texts)  # they begin as documents do
    assert scores["exact_copy_rate"]["ceiling"] == 1.0
    assert scores["largest_source_share"]["floor"] < 1.0
    values = json.loads((run / "scores.json").read_text())
    assert values["values"]["exact_copy_rate"]["copies_20"] > 0
    assert not values["skipped"]  # the metrics of texts
    page = (run / "report.html").read_text()
    assert 'class="run s0 o' in page
    assert re.search("<code>(story|copy)", page)
    not_said = r"<style>.*?</style>|<pre>.*?</pre>|imagegram|bits_per_image|artifacts/images/"
    assert "image" not in re.sub(not_said, "", page, flags=re.S)
    copies = read_copies(run)
    assert [copy["text"] for copy in copies] == [texts[copy["sample"]] for copy in copies]
    assert all(run["end"] <= len(copy["text"]) for copy in copies for run in copy["runs"])
    assert finished.answer is not None
    titles = [number.title for number in finished.answer.numbers]
    assert titles == ["exact copies", "largest source", "phrases", "longest copied run, tokens"]
    # A text of nothing but blanks is skipped and said; what is held out is not lost.
    assert json.loads((run / "summary.json").read_text())["skipped"]["blank"] == 1
    assert "held_out" not in finished.skipped
    capsys.readouterr()
    finished.say()
    *_, skipped, report = capsys.readouterr().err.splitlines()
    assert skipped.startswith("skipped: ")
    assert "1 blank" in skipped
    assert report == f"report: {run / 'report.html'}"


def test_whole_contexts_copy(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    cfg = configured(tmp_path, "sampler.max_context=24", "planted=[]", "metric=[copying]")
    finished = run_experiment(cfg, run)
    scores = finished.scores
    assert scores["exact_copy_rate"]["value"] > 0.5
    assert finished.answer is not None
    copies = round(12 * scores["exact_copy_rate"]["value"])
    fact = (
        rf"{copies} of 12 samples are exact copies, e\.g\. sample \d+ = training text (story|copy)"
    )
    assert re.match(fact, finished.answer.fact)
    page = (run / "report.html").read_text()
    assert re.search(rf"<h1>{fact}", page)
    assert '<blockquote dir="auto">' in page
    assert scores["num_phrases"]["value"] < 3


def test_prompts_are_continued(tmp_path: Path) -> None:
    """Samples begin with them; floors are those of a run without."""
    words = ("planted=[]", "metric=[copying]", "num_samples=5")
    prompts = ("condition=prompt", "condition.texts=[The wolf,Why]")
    runs, floors = [], []
    for more in ((), prompts):
        runs.append(tmp_path / f"run{len(runs)}")
        runs[-1].mkdir()
        finished = run_experiment(configured(tmp_path, *words, *more), runs[-1])
        floors.append({name: finished.records[name].digest for name in ("floor", "ceiling")})
    assert floors[0] == floors[1]
    texts = read_texts(runs[1] / "samples" / "texts.jsonl")
    begun = ["The wolf", "Why", "The wolf", "Why", "The wolf"]
    assert [text[: len(start)] for text, start in zip(texts, begun, strict=True)] == begun
    assert any(len(text) > len(start) for text, start in zip(texts, begun, strict=True))
    given = np.load(runs[1] / "samples" / "trace" / "is_prompt.npy")
    assert given.dtype == np.bool_
    assert given.any(axis=1).all()
    assert not given.all(axis=1).any()
    assert not (runs[0] / "samples" / "trace" / "is_prompt.npy").exists()
    report = (runs[1] / "report.html").read_text()
    assert "the given tokens are part of the samples" in report
    for given in ("The wolf", "Why"):
        assert f'<span class="soft">{given}</span>' in report
    assert "What is grey was given." not in (runs[0] / "report.html").read_text()


@pytest.mark.parametrize("part", ["training", "held_out"])
def test_documents_are_continued(part: str, tmp_path: Path) -> None:
    """Samples begin as documents do; what these go on with is known, and training texts recur."""
    (run := tmp_path / "run").mkdir()
    words = ("planted=[]", "metric=[copying,continuation]", "num_samples=8")
    asked = (f"condition=excerpt_{part}", "condition.length=6", "condition.num_excerpts=4")
    finished = run_experiment(configured(tmp_path, *words, *asked), run)
    given = np.load(run / "samples" / "tokens.npy")
    documents = np.load(run / "samples" / "continued.npy")
    assert given.shape == documents.shape
    assert (given[:, :6] == documents[:, :6]).all()
    assert len(np.unique(np.load(run / "samples" / "continued_rows.npy"))) == 4
    assert finished.scores["brier_1"]["value"] is not None
    assert finished.scores["recited_tokens"]["floor"] is None
    report = (run / "report.html").read_text()
    assert f"of {part.replace('_', '-')} documents" in report
    assert report.count('<span class="soft">') >= 8  # what was given, of each
    assert "What is grey was given." in report


def test_prompts_that_leave_nothing_to_write_are_refused_before_generating(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    long = "condition.texts=['" + "The wolf saw a lamb. " * 9 + "']"
    with pytest.raises(ConfigError, match=r"tokens, and at most 23 fit into a sample"):
        run_experiment(configured(tmp_path, "condition=prompt", long), run)
    assert "generate" not in json.loads((run / "summary.json").read_text())["stages"]


def test_a_tokenizer_of_images_is_refused_for_texts() -> None:
    with pytest.raises(ConfigError, match="corpus=demo_text holds texts"):
        build(compose("corpus=demo_text", "tokenizer=pyramid3"))
    with pytest.raises(ConfigError, match="tokenizer=bpe reads texts"):
        build(compose("corpus=demo", "tokenizer=bpe"))


#: What texts may hold; every one of them is a document.
NASTY = [
    *(
        "<script>alert(1)</script>",
        '&amp; <b>bold</b> "quoted"',
        "literal <c0_0001> <c1_0512> codes",
    ),
    *(
        "\u202egnp.exe",
        "\u05e9\u05dc\u05d5\u05dd",
        "\U0001f469\u200d\U0001f52c e\u0301",
        "\ufeffmarked",
    ),
    *(
        "\ufeffmarked",
        "line\r\nends\rof all",
        "a" * 3000,
        "no end of a sentence",
        "x",
        "\u0007bell\u0085\u2028",
    ),
]
#: What is no document, by the reason that it is counted under.
REFUSED = {
    '{"text": ""}': "empty_file",
    '{"text": " \\n"}': "blank",
    '{"text": "a\\u0000b"}': "binary",
    '{"text": "half \\ud83d"}': "lone_surrogate",
    '{"body": "x"}': "no_text",
    '{"text": 7}': "no_text",
    '["text"]': "no_text",
    '{"text": "cut': "malformed_json",
}


def test_whatever_texts_hold_a_run_goes_through_and_the_page_shows_it(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}) for text in [*documents(40, seed=3), *NASTY]]
    lines += [*REFUSED, json.dumps({"text": "latin"}).replace("latin", "caf\u00e9")]
    data = "\n".join(lines).encode("utf-8").replace("caf\u00e9".encode(), b"caf\xe9")
    (tmp_path / "texts.jsonl").write_bytes(data + b"\n")
    (run := tmp_path / "run").mkdir()
    words = ["corpus=jsonl", f"corpus.files={tmp_path}/texts.jsonl", "corpus.holdout_fraction=0"]
    words += ["corpus.max_failed_fraction=0.5", "sampler.max_context=24", "num_samples=60"]
    words += ["metric=[copying,verbatim,kernel]", "planted=[]"]
    finished = run_experiment(compose(*WORDS, f"paths.outputs={tmp_path}/outputs", *words), run)
    expected = {reason: list(REFUSED.values()).count(reason) for reason in REFUSED.values()}
    assert finished.skipped == expected | {"not_utf8": 1}
    assert finished.counted["corpus.num_images"] == 40 + len(NASTY)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "metric kernel needs images, but these items are not pictures" in page
    body = re.sub(r"<style>.*?</style>|<pre>.*?</pre>", "", page, flags=re.DOTALL)
    assert not re.search(r"<script|<b>bold|<c0_|[\u202e\u0007\u0085\u2028]", body)
    texts = read_texts(run / "samples" / "texts.jsonl")
    assert any("<script>" in text for text in texts)
    assert "&lt;script&gt;" in body
