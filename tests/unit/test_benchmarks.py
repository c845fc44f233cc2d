"""The benchmark harness: fair turns, honest ratios, tables that say what was measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import timing
from benchmarks.timing import Comparison, Flags, Row


def test_turns_alternate_after_one_warm_up_each() -> None:
    calls: list[str] = []
    result = timing.compare(lambda: calls.append("a"), lambda: calls.append("b"), repeats=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert result.repeats == 3


def test_the_ratio_is_taken_turn_by_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def work(durations: list[float]) -> None:
        clock[0] += durations.pop(0)

    ours, theirs = [9.0, 1.0, 2.0, 4.0], [9.0, 8.0, 8.0, 8.0]  # the first is the warm-up
    result = timing.compare(lambda: work(ours), lambda: work(theirs), repeats=3)
    assert result == Comparison(ours=(1.0, 2.0, 4.0), theirs=(8.0, 8.0, 8.0))
    assert (result.seconds, result.peer_seconds) == (2.0, 8.0)
    assert result.ratio() == (2.0, 4.0, 8.0)
    # Where ours does ten times the work in a turn, it is ten times faster.
    assert result.ratio(work=1000, peer_work=100) == (20.0, 40.0, 80.0)


def test_rows_survive_the_way_between_processes(tmp_path: Path) -> None:
    rows = [Row(what="a|b", ours="1 s", ratio=(1.0, 2.0, 3.25)), Row(what="c", ours="", table="t")]
    timing.write_rows(tmp_path / "rows.jsonl", rows)
    assert timing.read_rows(tmp_path / "rows.jsonl") == rows


def test_a_command_keeps_what_it_measured_before_it_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(flags: Flags):  # type: ignore[no-untyped-def]
        yield Row(what=" ".join(flags.overrides), ours=f"{flags.repeats} {flags.images}")
        raise ValueError("torn")

    path = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError, match="torn"):
        timing.main(rows, "One.", ["--rows", str(path), "--repeats", "2", "seed=1"])
    assert timing.read_rows(path) == [Row(what="seed=1", ours="2 None")]
    assert capsys.readouterr().out == "seed=1 | 2 None\n"


def test_the_results_name_machine_commit_and_failures() -> None:
    rows = (
        Row(what="a|b", ours="2 s", peer="4 s", ratio=(1.5, 2.0, 2.5)),
        Row(what="1 shard", ours="9 s", table="growth"),
        Row(what="2 shards", ours="18 s", table="growth"),
    )
    outcomes = [
        bench.Outcome(name="one", rows=rows, seconds=3.2),
        bench.Outcome(name="two", rows=(), seconds=0.1, error="MemoryError"),
    ]
    text = bench.markdown(outcomes, "python -m benchmarks seed=1")
    assert "`python -m benchmarks seed=1`" in text
    assert "commit " in text
    assert "numba " in text
    assert "| a\\|b | 2 s | 4 s | 1.5 / 2 / 2.5 |" in text
    assert "### growth\n\n|  | ours |\n|---|---|\n| 1 shard | 9 s |\n| 2 shards | 18 s |" in text
    assert "**Failed:** MemoryError" in text


def test_a_benchmark_that_fails_is_said_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if command[0] == "git":
            return subprocess.CompletedProcess(command, 0, "", "")
        name, path = command[2], Path(command[4])
        if name == "benchmarks.bad":
            return subprocess.CompletedProcess(command, 1, None, "Traceback\nValueError: torn\n")
        timing.write_rows(path, [Row(what=" ".join(command[5:]), ours="1 s")])
        return subprocess.CompletedProcess(command, 0, None, "")

    monkeypatch.setattr(bench, "modules", lambda: ["bad", "good"])
    monkeypatch.setattr(bench.subprocess, "run", run)
    results = tmp_path / "results.md"
    assert bench.main(["--results", str(results), "--repeats", "2", "seed=1"]) == 1
    text = results.read_text()
    assert "**Failed:** ValueError: torn" in text
    assert "--repeats 2 seed=1 | 1 s" in text
    assert bench.main(["--only", "good", "--results", str(results), "seed=1"]) == 0
    assert "torn" not in results.read_text()
    assert "ValueError: torn" in capfd.readouterr().err


def test_peak_memory_sees_what_was_held() -> None:
    before = timing.peak_memory()
    held = bytearray(b"1") * (64 << 20)
    assert timing.peak_memory() >= len(held)
    assert timing.peak_memory() >= before
