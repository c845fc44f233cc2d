"""The wheel holds all that a run needs, and runs from any folder; the repository is not there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, clean_environment, read_summary

BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
SOURCES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "conf", "imagegram")
#: Files of the package that are no Python.
DATA = ("imagegram/py.typed", "imagegram/report/templates", "imagegram/sweeps/templates")


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder.parent).as_posix() for path in found}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository, built without a network, as pip would unpack it."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, source / name)  # type: ignore[operator]
    command = [sys.executable, "-c", BUILD, str(root)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = root.glob("*.whl")
    target = root / "site"
    zipfile.ZipFile(wheel).extractall(target)
    return target


def test_a_wheel_holds_the_configuration_the_templates_and_every_module(unpacked: Path) -> None:
    held = files_below(unpacked / "imagegram")
    assert {f"imagegram/{name}" for name in files_below(REPOSITORY / "conf")} <= held
    expected = files_below(REPOSITORY / "imagegram")
    assert expected <= held
    for name in DATA:
        assert any(file.startswith(name) for file in expected), name
    assert {path.name for path in unpacked.iterdir()} == {"imagegram", "imagegram-0.1.0.dist-info"}


@pytest.fixture
def elsewhere(unpacked: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A run of the unpacked wheel, from a folder of its own."""
    # Texts: kernels of images would compile for half a minute, as their folder is a new one.
    words = ["debug=tiny_text", "stages=[tokenize]", "runtime=ci"]
    return subprocess.run(
        [sys.executable, "-m", "imagegram.run", *words],
        cwd=tmp_path,
        env={**clean_environment(), "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wheel_runs_from_any_folder(
    elsewhere: subprocess.CompletedProcess[str], unpacked: Path, tmp_path: Path
) -> None:
    assert elsewhere.returncode == 0, elsewhere.stderr
    folder = Path(elsewhere.stdout.splitlines()[-1])
    assert folder.is_relative_to(tmp_path / "outputs" / "runs")
    assert read_summary(folder)["status"] == "completed"
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    assert (unpacked / "imagegram" / "conf" / "config.yaml").is_file()
