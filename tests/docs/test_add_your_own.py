"""The components of docs/add_your_own.md work as they stand: files are written, commands run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, clean_environment, read_summary
from tests.shell import shell

PAGE = (REPOSITORY / "docs" / "add_your_own.md").read_text()
FILES = dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
COMMANDS = re.findall(r"^```bash\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder, with all files of the page."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "notes").mkdir()
    texts = [text for page in DOCS for text in page.read_text().split("\n\n") if text.strip()]
    lines = [json.dumps({"key": str(number), "text": text}) for number, text in enumerate(texts)]
    (folder / "notes" / "0.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs(command: str, folder: Path) -> None:
    how, *words = shlex.split(command)
    assert how == "python"
    words += ["encoder=pixels", f"paths.outputs={folder / 'outputs'}"]
    if "corpus=notes" in words:  # small enough as it is
        words += ["logger=none", "runtime=ci", "num_samples=4", "planted=[]"]
    else:
        words.append("debug=tiny")
    if not any(word.startswith("metric=") for word in words):
        words.append("metric=[copying,order]")
    environment = clean_environment()
    environment["PYTHONPATH"] = f"{folder}:{REPOSITORY}"
    result = shell().run(words, cwd=folder, environment=environment)
    assert result.returncode == 0, result.stderr[-4000:]
    scores = read_summary(Path(result.stdout.splitlines()[-1]))["scores"]
    assert scores["exact_copy_rate"]["ceiling"] == 1.0
    if "repeats" in command:
        assert scores["repeat_rate"]["value"] is not None
        assert scores["repeat_rate"]["floor"] is not None
    if "independent" in command:
        assert "metric order" in result.stderr
        assert "forced_copy_rate" not in scores


def test_every_component_is_one_class_and_one_yaml() -> None:
    assert len(FILES) == 2 * len(COMMANDS) == 8
