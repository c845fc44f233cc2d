"""README and docs/commands.md are true: their commands run, links and the tree exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, clean_environment
from tests.shell import shell

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(
    r"^```bash\n(.*?)^```",
    README + (REPOSITORY / "docs" / "commands.md").read_text(),
    re.MULTILINE | re.DOTALL,
)
COMMANDS = [
    line
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
PYTHON_COMMANDS = [line for line in COMMANDS if line.startswith("python -m imagegram")]
#: Groups whose choices in these commands are trained by the run.
TRAINED = {"generator", "tokenizer"}
MAKE_COMMANDS = [line for line in COMMANDS if line.startswith("make ")]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands run in the README's order and share their outputs, as a reader's would."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("line", PYTHON_COMMANDS)
def test_a_command_of_the_readme_runs(line: str, outputs: Path) -> None:
    words = shlex.split(line.partition("  #")[0])
    words = [word.replace("outputs/", f"{outputs}/") for word in words]
    assert words.pop(0) == "python"
    if "--cfg" in words or words[-1] == "imagegram.tools":
        pass
    elif {"imagegram.run", "imagegram.tools.audit"} & set(words):
        debug = "tiny_text" if "modality=text" in words else "tiny"
        words += [f"debug={debug}", f"paths.outputs={outputs}"]
        if TRAINED & {word.partition("=")[0] for word in words}:
            words.append("trainer.max_steps=20")  # the same of all: what is trained is shared
    elif not {"imagegram.tools.query", "imagegram.tools.report"} & set(words):
        words += [f"paths.outputs={outputs}"]
    result = shell().run(words, cwd=REPOSITORY, environment=clean_environment())
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]


@pytest.mark.parametrize("line", MAKE_COMMANDS)
def test_a_make_target_of_the_readme_exists(line: str) -> None:
    target = shlex.split(line.partition("#")[0])[1]
    makefile = (REPOSITORY / "Makefile").read_text()
    assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE)


def test_the_readme_is_not_empty_of_commands() -> None:
    assert len(PYTHON_COMMANDS) >= 6
    assert {"make run", "make test"} <= {line.partition("  ")[0] for line in MAKE_COMMANDS}


DOCUMENTS = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")])
DOCUMENTS += sorted(REPOSITORY.glob("experiments/**/*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), link


def test_the_tree_in_the_readme_is_the_tree_on_disk() -> None:
    match = re.search(r"<!-- tree -->\n```text\n(.*?)```", README, re.DOTALL)
    assert match
    for line in match[1].splitlines():
        name = line.split("  ")[0].strip()
        assert (REPOSITORY / name).exists(), name
