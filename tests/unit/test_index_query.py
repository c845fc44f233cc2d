"""``python -m imagegram.tools.query``, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from index_folders import write_index

from imagegram.errors import IndexFormatError, TokenError
from imagegram.executors.commands import exit_cleanly
from imagegram.tools.query import main


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(write_index(tmp_path / "index", [[1, 2, 3], [1, 2, 4]], metadata=True))


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_answer_as_json(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--count", "--next", "--longest-suffix", "--spans", "--document", "1", "--verify"]
    answer = ask(capsys, folder, "--ids", "9, 1 2", *flags)
    assert answer["index"]["num_documents"] == 2
    assert answer["count"] == 0
    assert answer["next"] == {
        "suffix_len": 2,
        "num_contexts": 2,
        "tokens": [3, 4],
        "counts": [1, 1],
    }
    assert answer["longest_suffix"] == 2
    assert [(span["start"], span["end"], span["count"]) for span in answer["spans"]] == [(1, 3, 2)]
    assert answer["document"] == {"document": 1, "metadata": {"key": "ü1"}, "tokens": [1, 2, 4]}


@pytest.mark.parametrize("engine", ["native", "naive", "fastgram"])
def test_the_engine_changes_nothing(
    folder: str, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(capsys, folder, "--ids", "1,2", "--spans", "--next", "--engine", engine)
    assert answer["next"]["tokens"] == [3, 4]
    assert answer["spans"][0]["count"] == 2


def test_several_folders_and_the_empty_query(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(capsys, folder, folder, "--ids", "")["count"] == 18


def test_tables_for_people(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--count", "--next", "--longest-suffix", "--spans", "--document", "0"]
    assert main([folder, "--ids", "[65535, 1, 2]", *flags]) == 0
    shown = capsys.readouterr().out
    assert "2 documents, 9 tokens in 1 shards (engine native)" in shown
    assert "after the last 3 tokens: 2 contexts" in shown
    assert "50.00%" in shown
    assert '"key"' in shown


@pytest.mark.parametrize("words", [["--next"], ["--ids", "1,x"], ["--ids", "70000"]])
def test_bad_ids_say_what_to_type(folder: str, words: list[str]) -> None:
    with pytest.raises(TokenError):
        main([folder, *words])


def test_a_user_sees_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(IndexFormatError):
        main([str(tmp_path / "nowhere")])
    assert exit_cleanly(lambda: main([str(tmp_path / "nowhere")])) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "not a folder" in shown.err.replace("\n", " ")


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["--help"])
    assert exit_status.value.code == 0
    assert "--ids 65535 --next" in capsys.readouterr().out
