"""Audits of texts of another language model: copies are found, what is no text is counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate

from imagegram.audit.audited import Source
from imagegram.audit.flow import Audit
from imagegram.errors import ConfigError, CorpusError
from imagegram.records import EOS_TOKEN_ID
from imagegram.tools.audit import run_audit, show, take_source
from tests.conftest import compose
from tests.documents import documents

WINDOW = 12
TRAINING = documents(300, seed=7)
#: Of other words in another order: nothing that the corpus has.
FRESH = [" ".join(reversed(text.upper().split())) for text in documents(20, seed=8)]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with a corpus that was written beforehand."""
    root = tmp_path_factory.mktemp("audit") / "outputs"
    folder = instantiate(compose(*_words(root)).corpus, _convert_="all").folder
    folder.mkdir(parents=True)
    lines = [{"key": f"story{n}", "text": text} for n, text in enumerate(TRAINING)]
    (folder / "00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def _words(outputs: Path) -> list[str]:
    return [
        *("modality=text", "tokenizer.vocab_size=300", f"tokenizer.window={WINDOW}", "logger=none"),
        *("planted=[copies_20]", "metric=[copying,verbatim]", "runtime=ci"),
        f"paths.outputs={outputs}",
    ]


def audit(outputs: Path, folder: Path, *words: str, **source: Any) -> Audit:
    folder.mkdir(parents=True)
    return run_audit(compose(*_words(outputs), *words), Source(**source), folder)[0]


def trained(outputs: Path, folder: Path) -> list[str]:
    """Texts of the corpus that are in training, by a first audit of all of it."""
    path = folder.parent / "all.jsonl"
    path.write_text("".join(json.dumps({"key": t, "text": t}) + "\n" for t in TRAINING))
    audit(outputs, folder, texts=str(path))
    lines = map(json.loads, (folder / "texts.jsonl").read_text().splitlines())
    copied = {line["text"]: line["exact_copy"] for line in lines}
    return [text for text in TRAINING if copied[text] and not text.isupper()]


def test_copies_are_found_and_what_is_no_text_is_counted(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = trained(outputs, tmp_path / "first")[:3]
    lines = [json.dumps({"key": f"fresh{n}", "body": text}) for n, text in enumerate(FRESH)]
    lines += [json.dumps({"key": f"copy{n}", "body": text}) for n, text in enumerate(copies)]
    lines += [json.dumps({"body": ""}), json.dumps({"body": " \n"}), json.dumps({"key": "none"})]
    path = tmp_path / "written.jsonl.gz"
    path.write_bytes(gzip.compress(("\n".join([*lines, '{"body": "cut']) + "\n").encode()))
    found = audit(outputs, tmp_path / "run", texts=str(path), field="body")
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "texts.jsonl").read_text().split("\n")[:-1]
    ]
    # A text is as many rows as it has windows; all of a copy is copied, nothing of the others.
    assert {row["text"].split()[0] for row in rows if row["exact_copy"]} >= {
        "copy0",
        "copy1",
        "copy2",
    }
    assert not any(row["exact_copy"] for row in rows if row["text"] == "fresh0")
    assert any(" from token " in row["text"] for row in rows)
    skipped = found.record["circumstances"]["skipped"]
    assert skipped == {"blank": 1, "empty_file": 1, "malformed_json": 1, "no_text": 1}
    said = dict(found.findings)
    assert "training texts" in said["texts"]
    assert f"23 texts are {len(rows)} windows of {WINDOW} tokens, encoded by bpe" in said["tokens"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "copy0" in page
    words = json.dumps({"findings": found.findings, "answer": found.record["answer"]})
    assert "image" not in words
    assert any(pair["source"].startswith("story") for pair in found.nearest if pair["source"])
    capsys.readouterr()
    show(found)
    told = capsys.readouterr().err
    assert "of its tokens are those of training text story" in told
    assert "image" not in told


def test_a_folder_of_texts_and_tokens_of_them_are_audited_too(
    outputs: Path, tmp_path: Path
) -> None:
    for number, text in enumerate(FRESH):
        path = tmp_path / "texts" / str(number % 3) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "texts" / "notes.pdf").write_bytes(b"%PDF")
    found = audit(outputs, tmp_path / "run", texts=str(tmp_path / "texts"))
    assert found.record["circumstances"]["num_others"] == 1
    tokens = tmp_path / "run" / "samples" / "tokens.npy"
    again = audit(outputs, tmp_path / "again", tokens=str(tokens))
    assert np.load(tokens).max() == EOS_TOKEN_ID
    one, other = (each.record["scores"]["exact_copy_rate"] for each in (again, found))
    assert one["value"] == other["value"]
    # Nobody knows which rows of tokens are windows of one text; windows of 20 texts tell less.
    assert one["high"] < 0.01 < 0.1 < other["high"]
    rows = np.load(tokens)
    rows[0, :2] = EOS_TOKEN_ID, 5
    np.save(tmp_path / "hole.npy", rows.astype(np.int64))
    rows[0, 2] = 65_000
    np.save(tmp_path / "large.npy", rows)
    with pytest.raises(ConfigError, match="id 65000 of text 0 at position 2"):
        audit(outputs, tmp_path / "large", tokens=str(tmp_path / "large.npy"))


def test_what_cannot_be_audited_is_refused_in_words_of_an_audit(
    outputs: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "a"}\n')
    cases = {
        str(path): r"no text can be read \(no_text: 1\); name the field .*: field=NAME",
        str(tmp_path / "gone.jsonl"): "type texts=FILE, a folder",
        str(tmp_path / "one.txt"): "is one text; to audit it, put it into a folder",
    }
    for number, (where, reason) in enumerate(cases.items()):
        with pytest.raises(CorpusError, match=reason):
            audit(outputs, tmp_path / f"run{number}", texts=where)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["corpus=demo_text"], "nothing to audit; type one of images=FOLDER, texts=FILE.jsonl"),
        (["texts=a", "images=b"], "both images= and texts="),
        (["texts="], "nothing to audit"),
        (["texts=a", "jpeg=75"], "jpeg=75 is of images, and there is no images="),
        (["images=a", "field=body"], "field=body is of texts"),
    ],
)
def test_words_that_do_not_go_together(words: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        take_source(words)
