"""Machine code of other sources is never used: the cache folder follows every kernel source."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import imagegram

SHOW = "from imagegram.compiled import cache_folder; print(cache_folder())"


def cache_folder_of(copy: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", SHOW], cwd=copy, capture_output=True, text=True, check=True
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
