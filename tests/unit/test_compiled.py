"""Machine code of other sources is never used: the cache folder follows every kernel source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import imagegram
from imagegram import compiled
from imagegram.errors import ConfigError

SHOW = "from imagegram.compiled import cache_folder; print(cache_folder())"


def cache_folder_of(copy: Path) -> str:
    environment = {**os.environ, "XDG_CACHE_HOME": str(copy)}
    command = [sys.executable, "-c", SHOW]
    result = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_a_changed_kernel_source_starts_a_new_cache(tmp_path: Path) -> None:
    package = Path(imagegram.__file__).parent
    shutil.copytree(package, tmp_path / "imagegram", ignore=shutil.ignore_patterns("__pycache__"))
    before = cache_folder_of(tmp_path)
    assert cache_folder_of(tmp_path) == before
    kernel = tmp_path / "imagegram" / "generators" / "ngram" / "walk" / "kernel.py"
    with kernel.open("a") as stream:
        stream.write("\n# changed\n")
    assert cache_folder_of(tmp_path) != before


def test_an_unwritable_home_is_replaced_by_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = compiled.cache_folder()
    assert folder.parent == tmp_path / f"imagegram-{os.getuid()}"
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert compiled.cache_folder() == folder  # the next process finds what this one compiled


def test_machine_code_is_never_taken_from_where_others_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / f"imagegram-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert shared not in compiled.cache_folder().parents
    shared.rmdir()
    (tmp_path / "elsewhere").mkdir()
    shared.symlink_to(tmp_path / "elsewhere")
    assert shared not in compiled.cache_folder().parents


def test_compilation_that_is_switched_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled.check_machine()
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    with pytest.raises(ConfigError, match="unset NUMBA_DISABLE_JIT"):
        compiled.check_machine()
