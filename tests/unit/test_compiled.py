"""Machine code of other sources is never used, and of the same source it is not made twice."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba.core.errors import NumbaError

import imagegram
from imagegram import kernel_cache
from imagegram.compiled import Kernel, njit
from imagegram.kernel_cache import source_hash

#: A kernel that calls one in another file, which reads a constant of a third.
FILES = {
    "third": "LIMIT = 3  # of what\n",
    "second": """
from imagegram.compiled import njit
from third import LIMIT

@njit(inline="always")
def cut(x):
    return min(x, LIMIT)
""",
    "first": '''
from imagegram.compiled import njit
from second import cut

@njit(cache=True, nogil=True)
def double(x):
    """Twice as much."""
    return 2 * cut(x)
''',
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, int]]:
    """As a new process would: read the files, with a replacement, and call the kernel of the first.

    Returns its result and how often it was compiled.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(kernel_cache, "_said", set())
    monkeypatch.setattr(kernel_cache, "opened_folder", kernel_cache.cache_folder)
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)

    def replaced(name: str = "first", old: str = "", new: str = "") -> tuple[int, int]:
        changed = tmp_path / f"{name}.py"
        assert old in changed.read_text()
        changed.write_text(changed.read_text().replace(old, new))
        for module in FILES:
            path = tmp_path / f"{module}.py"
            monkeypatch.setitem(sys.modules, module, fresh := ModuleType(module))
            exec(compile(path.read_text(), path, "exec"), vars(fresh))
        kernel = sys.modules["first"].double
        return kernel(7), sum(kernel.stats.cache_misses.values())

    for module in FILES:
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    return replaced


Run = Callable[..., tuple[int, int]]


def test_only_what_is_compiled_counts(run: Run) -> None:
    assert run() == (6, 1)
    assert run() == (6, 0)
    assert run("first", "Twice as much.", "Two times\n    as much.") == (6, 0)
    assert run("third", "  # of what", "\n# of something") == (6, 0)
    assert run("third", "LIMIT = 3", "LIMIT = 4") == (8, 1)
    assert run("second", "min(x, LIMIT)", "max(x, LIMIT)") == (14, 1)
    assert run("second", "max(x, LIMIT)", "min(x, LIMIT)") == (8, 0)  # the branch came back


def test_compilation_is_announced_once(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    run("third", "LIMIT = 3", "LIMIT = 4")
    said = capsys.readouterr().err
    assert said.startswith("imagegram: kernels are compiled, once for this machine and version")
    assert said.count("imagegram: ") == 1
    kernel_cache._said.clear()
    assert run() == (8, 0)
    assert capsys.readouterr().err == ""


def test_a_damaged_file_is_made_again(run: Run, tmp_path: Path) -> None:
    run()
    for path in (tmp_path / "cache").rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:40])
    assert run() == (6, 1)
    assert run() == (6, 0)


def test_on_a_full_disk_all_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    assert run() == run() == (6, 1)
    said = capsys.readouterr().err
    assert "cannot be kept" in said
    assert "No space left on device" in said
    assert said.endswith("XDG_CACHE_HOME=FOLDER\n")
    assert said.count("cannot be kept") == said.count("kernels are compiled, once") == 1


def test_without_a_home_there_is_a_private_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert kernel_cache.cache_folder().is_relative_to(tmp_path)


def test_versions_that_are_old_are_removed(run: Run, tmp_path: Path) -> None:
    def kept() -> set[Path]:
        return set((tmp_path / "cache").rglob("*.nb?"))

    run()
    old = kept()
    assert len(old) == 2
    run("third", "LIMIT = 3", "LIMIT = 4")
    assert len(kept()) == 4
    for path in old:
        os.utime(path, (0, 0))
    run("third", "LIMIT = 4", "LIMIT = 5")
    assert len(kept()) == 4
    assert not kept() & old


def outer(x: int) -> int:
    return np.int64(x) + inner(x)


def inner(x: int) -> int:
    return x + 1


def test_the_hash_follows_globals_closures_and_defaults() -> None:
    def made(closed: Any, default: Any = 0) -> Callable[[], Any]:
        def function(x: Any = default) -> Any:
            return (x, closed)

        return function

    hashes = [source_hash(made(*values)) for values in [(1, 0), (2, 0), (1, 1), (1.0, 0), ("1", 0)]]
    assert len(set(hashes)) == 5
    assert source_hash(made(1, 0)) == hashes[0]
    before = source_hash(outer)
    try:
        outer.__globals__["inner"] = lambda x: x + 2
        assert source_hash(outer) != before
    finally:
        outer.__globals__["inner"] = inner


class Ordered(NamedTuple):
    first: int
    second: int


def test_fields_that_change_places_are_another_argument() -> None:
    kernel = njit(cache=True)(lambda pair: pair.first)
    kernel(Ordered(1, 2))
    (signature,) = kernel.signatures
    cache = kernel._cache._files
    codegen = kernel.targetctx.codegen()
    key = cache._index_key(signature, codegen)
    Ordered._fields, kept = ("second", "first"), Ordered._fields
    try:
        other = kernel_cache.types.NamedTuple(signature[0].types, Ordered)
        assert cache._index_key((other,), codegen) != key
    finally:
        Ordered._fields = kept


def test_a_constant_makes_no_other_part() -> None:
    @njit()
    def part(x: int) -> int:
        return x + 1

    @njit(nogil=True)
    def whole(x: int) -> int:
        return part(x) + part(0) + part(5)

    assert whole(1) == 2 + 1 + 6
    assert len(part.part.overloads) == 1
    assert not part.overloads  # nobody called it from Python
    assert part(np.int64(3)) == 4


def test_a_kernel_may_call_itself() -> None:
    @njit()
    def factorial(n: int) -> int:
        return 1 if n <= 1 else n * factorial(n - 1)

    @njit()
    def double(n: int) -> int:
        return 2 * factorial(n)

    assert factorial(5) == 120
    assert double(5) == 240


def test_every_kernel_has_a_hash_of_its_own() -> None:
    package = Path(imagegram.__file__).parent
    functions = set()
    for path in package.rglob("*.py"):
        if "import njit" in path.read_text():
            name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            members = vars(importlib.import_module(name)).values()
            functions |= {member.py_func for member in members if isinstance(member, Kernel)}
    assert len(functions) > 100
    assert len({source_hash(function) for function in functions}) == len(functions)


def test_a_copy_of_the_package_finds_the_same(tmp_path: Path) -> None:
    package = Path(imagegram.__file__).parent
    shutil.copytree(package, tmp_path / "imagegram", ignore=shutil.ignore_patterns("__pycache__"))
    show = (
        "from imagegram.kernel_cache import source_hash\n"
        "from imagegram.generators.ngram.walk.kernel import write_rows\n"
        "print(source_hash(write_rows))"
    )

    def shown() -> str:
        command = [sys.executable, "-c", show]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    before = shown()
    memory = tmp_path / "imagegram" / "indexes" / "kernels" / "memory.py"
    memory.write_text("# a comment\n" + memory.read_text())
    assert shown() == before
    # Of another size: Python takes a file of the same size and second for the one that it knows.
    memory.write_text(memory.read_text().replace("align=1", "align=16"))
    assert shown() != before


def test_an_unwritable_home_is_replaced_by_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    folder = kernel_cache.cache_folder()
    assert folder.parent == tmp_path / f"imagegram-{os.getuid()}"
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert kernel_cache.cache_folder() == folder  # the next process finds what this one compiled


def test_machine_code_is_never_taken_from_where_others_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / f"imagegram-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert shared not in kernel_cache.cache_folder().parents
    shared.rmdir()
    (tmp_path / "elsewhere").mkdir()
    shared.symlink_to(tmp_path / "elsewhere")
    assert shared not in kernel_cache.cache_folder().parents


def test_what_counts_no_references_can_make_no_array() -> None:
    """It would never be freed: compiling says so."""

    @njit(counts=False)
    def make(size):  # type: ignore[no-untyped-def]
        return np.zeros(size)

    @njit(counts=False)
    def fill(array, value):  # type: ignore[no-untyped-def]
        for i in range(array.size):
            array[i] = value

    with pytest.raises(NumbaError):
        make(3)
    array = np.zeros(3)
    fill(array, 2.0)
    assert array.tolist() == [2.0] * 3
