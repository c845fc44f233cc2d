"""Kernels compiled in the background: the listed ones, once, and nobody is left behind."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba import types

from imagegram import early_kernels, kernel_cache
from imagegram.compiled import Kernel
from imagegram.early_kernels import (
    FORMS,
    compiled_early,
    missing_forms,
    read_type,
    write_type,
)
from imagegram.experiment import build
from imagegram.plan.planner import foresee
from imagegram.run import flow
from imagegram.store.artifacts import ArtifactStore
from tests.conftest import REPOSITORY, clean_environment, compose

#: The quickest of the listed kernels: half a second.
ROOM = "imagegram.images.near_kernels"
#: Holds the lock of a kernel until it is killed.
HOLDER = """
import sys, time
from imagegram.images.near_kernels import block_sums
with block_sums._cache.held(0) as is_free:
    print(is_free, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of machine code, for kernels as a new process has them."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(kernel_cache, "opened_folder", kernel_cache.cache_folder)
    monkeypatch.setattr(kernel_cache, "_said", set())
    for kernel in kernels():
        monkeypatch.setattr(kernel, "_cache", None)
        kernel.enable_caching()
    return tmp_path / "kernels"


def kernels() -> list[Kernel]:
    module = importlib.import_module(ROOM)
    return [member for member in vars(module).values() if isinstance(member, Kernel)]


def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Processes, as they are started from now on."""
    found: list[subprocess.Popen[bytes]] = []

    class Seen(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            found.append(self)

    monkeypatch.setattr(early_kernels.subprocess, "Popen", Seen)
    return found


def test_types_are_written_and_read() -> None:
    forms = json.loads(FORMS.read_text())
    for name, listed in forms.items():
        module, _, function = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), function), Kernel)
        for form in listed:
            assert [write_type(read_type(written)) for written in form] == form
    assert read_type("readonly uint16[2]") == types.Array(types.uint16, 2, "C", readonly=True)
    assert read_type("none") == types.none
    with pytest.raises(AssertionError):
        write_type(types.Array(types.uint16, 2, "F"))


def test_they_are_kept_and_the_next_run_starts_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    processes = started(monkeypatch)
    assert len(missing_forms([ROOM])) == 2
    with compiled_early([ROOM], workers=8):
        assert len(processes) == 2  # a kernel each
        assert [process.wait(60) for process in processes] == [0, 0]
    assert missing_forms([ROOM]) == []
    said = capsys.readouterr().err
    assert said.startswith("imagegram: kernels are compiled in the background, by 2 processes, ")
    assert said.count("\n") == 1
    with compiled_early([ROOM], workers=8):
        assert len(processes) == 2
    assert capsys.readouterr().err == ""


def test_a_list_that_is_old_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {f"{ROOM}.gone": [["int64"]], "imagegram.gone.kernel": [["int64"]]}
    monkeypatch.setattr(early_kernels, "FORMS", tmp_path / "forms.json")
    early_kernels.FORMS.write_text(json.dumps(old))
    assert missing_forms([ROOM, "imagegram.gone"]) == []


def test_a_process_that_is_still_at_work_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = started(monkeypatch)
    with pytest.raises(KeyboardInterrupt), compiled_early(["imagegram"], workers=2):
        raise KeyboardInterrupt
    assert [process.returncode for process in processes] == [-9, -9]


def test_nobody_is_started_with_one_core_or_for_nothing_or_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = started(monkeypatch)
    with compiled_early([ROOM], workers=1), compiled_early([], workers=8):
        pass
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    with compiled_early([ROOM], workers=8):
        pass
    assert not processes


def test_who_needs_a_kernel_waits_for_who_compiles_it() -> None:
    """Until that is finished, or killed."""
    block_sums: Any = importlib.import_module(ROOM).block_sums
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
        env=clean_environment() | {"NUMBA_CACHE_DIR": os.environ["NUMBA_CACHE_DIR"]},
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        (form,) = [form for kernel, form in missing_forms([ROOM]) if kernel is block_sums]
        block_sums.compile_early(form)
        assert not block_sums.is_kept(form)  # left to the other
        with block_sums._cache.held(0.05) as is_free:
            assert not is_free
        holder.kill()
        holder.wait()
        with block_sums._cache.held(5) as is_free:
            assert is_free


def test_without_locks_all_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(kernel_cache.FileLock, "acquire", refuse)
    for kernel in kernels():
        with kernel._cache.held(0) as is_free:
            assert is_free


def foreseen(tmp_path: Path, *words: str) -> tuple[str, ...]:
    exp = build(compose("debug=tiny", f"paths.outputs={tmp_path}", *words))
    store = ArtifactStore(root=tmp_path / "artifacts")
    return foresee(exp, flow, store=store, workers=2, memory_bytes=10**9).kernels


WALK = "imagegram.generators.ngram.walk"


def test_a_plan_names_what_a_run_will_call(tmp_path: Path) -> None:
    named = set(foreseen(tmp_path))
    assert named == {
        "imagegram.images", "imagegram.images.resampling", "imagegram.tokenizers.pyramid_kernels",
        "imagegram.indexes.build", WALK, "imagegram.indexes.kernels", "imagegram.metrics",
    }  # fmt: skip
    for name in named:
        assert any(f"{kernel}.".startswith(f"{name}.") for kernel in json.loads(FORMS.read_text()))
    assert foreseen(tmp_path, "stages=[tokenize]") == foreseen(tmp_path)[:3]
    for words in (
        ["sampler.matching=level"], ["sampler.anchor=2"], ["generator.engine=naive"],
        ["generator=maskgit"],
    ):  # fmt: skip
        assert WALK not in foreseen(tmp_path, *words)
    assert "imagegram.metrics" not in foreseen(tmp_path, "metric=[kernel]")
