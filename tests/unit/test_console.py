"""What the commands say of themselves: --help, --version, and the list of tools."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagegram import console, schema
from imagegram.errors import ConfigError
from imagegram.tools import __main__ as tools
from tests.conftest import REPOSITORY

Command = Callable[..., subprocess.CompletedProcess[str]]
VERBS = sorted(tools.verbs())


def test_help_speaks_of_the_product(command: Command) -> None:
    result = command("imagegram.run", ["--help"])
    assert result.returncode == 0, result.stderr
    text = result.stdout
    named = re.findall(r"\w+\.md", text)
    assert len(named) > 3
    for name in named:
        assert (REPOSITORY / name).exists() or (REPOSITORY / "docs" / name).exists(), name
    assert text.startswith("imagegram: when does a token generator create, and when does it copy?")
    own, hydra = text.split("Hydra's flags")
    for part in (
        "python -m imagegram.tools.audit",
        "imagegram.tools ",
        "docs/",
        "-m ",
        "--cfg job",
    ):
        assert part in own
    assert "--multirun" in hydra
    for group in console.GROUPS:
        assert f"\n  {group} " in own
        for path in (schema.CONF / group).glob("*.yaml"):
            assert path.stem in own
    assert "_target_" not in text
    assert "Schema" not in text
    assert max(map(len, own.splitlines())) <= 100


def test_every_group_is_described() -> None:
    folders = {path.name for path in schema.CONF.iterdir() if path.is_dir()}
    assert set(console.GROUPS) == folders - {"hydra", "local"}
    assert " demo* " in console.describe_groups(schema.CONF)


def test_the_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    line = console.version_line()
    assert line.startswith(f"imagegram 0.1.0 (Python {sys.version.split()[0]}, torch ")
    assert "missing" not in line
    assert str(Path(console.__file__).parent) in line


def test_the_tools_are_listed_with_a_line_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["imagegram.tools"])
    assert tools.main() == 0
    lines = capsys.readouterr().out.splitlines()
    for verb in VERBS:
        (line,) = (line for line in lines if line.split()[:1] == [verb])
        assert len(line.split()) > 4
        assert len(line) <= 120
    modules = {path.stem for path in Path(tools.__file__).parent.glob("*.py")}
    assert set(VERBS) == modules - {"__init__", "__main__", "arguments", "networks"}


@pytest.mark.parametrize(
    ("word", "hint"),
    [("ls", "type python -m imagegram.tools.ls"), ("audti", "did you mean 'audit'?")],
)
def test_a_tool_as_a_word_is_pointed_to_its_module(
    word: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["imagegram.tools", word])
    assert tools.main() == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_tool_says_what_it_does_and_shows_a_command(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"imagegram.tools.{verb}")
    with pytest.raises(SystemExit) as stopped:
        module.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m imagegram.tools.{verb}" in text
    assert text.count(f"python -m imagegram.tools.{verb}") >= 2  # usage, and an example
    with pytest.raises(SystemExit):
        module.main(["--version"])
    assert capsys.readouterr().out.startswith("imagegram 0.1.0 (")


@pytest.mark.parametrize("words", [["convert", "import", "x", ""], ["query", " "]])
def test_an_empty_folder_is_not_the_current_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"imagegram.tools.{words[0]}")
    with pytest.raises(SystemExit):
        module.main(words[1:])
    assert "is empty; name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["kind=", "paths.outputs=", "paths.outputs=''"])
def test_an_empty_value_of_a_tool_is_refused(word: str) -> None:
    ls = importlib.import_module("imagegram.tools.ls")
    with pytest.raises(ConfigError, match="is empty; type"):
        ls.main([word])
