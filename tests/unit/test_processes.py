"""Workers: results in order, and nobody is left behind when the parent is interrupted or killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagegram.errors import StageError
from imagegram.executors.interrupts import interruptions
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.progress import SilentProgress
from tests.conftest import REPOSITORY, clean_environment

EXECUTOR = ProcessExecutor(workers=2)


class Counted(SilentProgress):
    """Counts the steps that workers report."""

    def __init__(self) -> None:
        self.steps = 0

    def advance(self, task: int, steps: int = 1) -> None:
        self.steps += steps


def square(number: int, progress: Any) -> int:
    task = progress.start("square", number, "steps")
    for _ in range(number):
        progress.advance(task)
    progress.finish(task)
    return number**2


def test_results_come_in_order_and_bars_move() -> None:
    progress = Counted()
    assert list(EXECUTOR.map(square, [30, 1, 20], progress)) == [900, 1, 400]
    assert progress.steps == 51


def fail_at_once(number: int, progress: Any) -> int:
    if number == 0:
        raise StageError("no")
    Path(os.environ["TOLD"], str(number)).touch()
    time.sleep(0.01)  # all others together take longer than it takes to tell of the error
    return number


def test_an_error_lets_running_jobs_finish_and_ends_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLD", str(tmp_path))
    with pytest.raises(StageError, match="no"):
        list(EXECUTOR.map(fail_at_once, range(200), SilentProgress()))
    assert len(list(tmp_path.iterdir())) < 199


def die(number: int, progress: Any) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_is_an_error_that_says_what_to_type(number: int) -> None:
    with pytest.raises(StageError, match=r"runtime\.workers=1"):
        list(EXECUTOR.map(die, [number, number], SilentProgress()))


#: Two workers that write their process ids, half-make something and wait, in a command.
PROGRAM = """
import os, sys, time
from pathlib import Path
from imagegram.executors.commands import exit_cleanly
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.progress import SilentProgress

def wait(folder, progress):
    made = Path(folder, f"half-made-{os.getpid()}")
    made.touch()
    Path(folder, f"{os.getpid()}.pid").touch()
    try:
        time.sleep(60)
    finally:
        made.unlink()

if __name__ == "__main__":
    executor, items = ProcessExecutor(workers=2), sys.argv[1:] * 2
    sys.exit(exit_cleanly(lambda: list(executor.map(wait, items, SilentProgress()))))
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A command whose two workers are at work."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)],
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, seconds=60)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


#: Is interrupted on another thread, when a worker was started but not yet told what to do.
INTERRUPTED = """
import multiprocessing.util, signal, threading, time
other = threading.Event()
listener = threading.Thread(target=other.wait, daemon=True)
listener.start()
start = multiprocessing.util.spawnv_passfds

def start_and_interrupt(*words):
    number = start(*words)
    if "spawn_main" in str(words):  # a worker, not Python's own helper
        signal.pthread_kill(listener.ident, signal.SIGINT)
        time.sleep(0.1)
    return number

if __name__ == "__main__":
    multiprocessing.util.spawnv_passfds = start_and_interrupt
"""


def test_an_interrupt_waits_until_a_worker_knows_what_to_do(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(INTERRUPTED + PROGRAM)
    result = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 130
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("imagegram: interrupted by SIGINT; ")


#: A script that makes two shards, in worker processes, wherever it is imported.
UNGUARDED = """
import sys
from pathlib import Path
from imagegram.executors.context import RunContext
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.progress import SilentProgress
from imagegram.experiment import build
from imagegram.stages import scan
from imagegram.stages.tokenize import Tokenize
from imagegram.store.artifacts import ArtifactStore
from tests.conftest import compose

scan._FEW_IMAGES = 0
exp = build(compose("debug=tiny", "paths.outputs=" + sys.argv[1]))
store = ArtifactStore(root=Path(sys.argv[1]) / "artifacts")
executor = ProcessExecutor(workers=2)
context = RunContext(store=store, executor=executor, progress=SilentProgress())
context.make(Tokenize(shards=exp.corpus.shards, tokenizer=exp.tokenizer))
"""


def test_a_script_that_workers_cannot_import_is_told_so(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(UNGUARDED)
    result = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("imagegram.errors.StageError: worker processes import the script")
    assert last.endswith('below a line: if __name__ == "__main__":')
    assert not (tmp_path / "artifacts" / "tokens").exists() or not list(
        (tmp_path / "artifacts" / "tokens").glob("[!.]*")
    )


def wait_until(what: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def are_gone(folder: Path) -> bool:
    return not any(Path("/proc", path.stem).exists() for path in folder.glob("*.pid"))


@pytest.mark.parametrize(
    ("number", "group"), [("SIGTERM", False), ("SIGINT", True), ("SIGTERM", True), ("SIGHUP", True)]
)
def test_a_signal_ends_all_in_one_sentence(
    number: str, group: bool, waiting: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Ctrl-C and clusters send a signal to the whole group, ``kill`` to the parent alone."""
    send = os.killpg if group else os.kill
    send(waiting.pid, getattr(signal, number))
    _, stderr = waiting.communicate(timeout=20)
    assert waiting.returncode == 128 + getattr(signal, number)
    (line,) = stderr.strip().splitlines()
    assert line.startswith(f"imagegram: interrupted by {number}; ")
    assert are_gone(tmp_path)
    assert not list(tmp_path.glob("half-made-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_worker_outlives_a_killed_parent(waiting: subprocess.Popen[str], tmp_path: Path) -> None:
    waiting.kill()
    waiting.wait()
    wait_until(lambda: are_gone(tmp_path), seconds=5)


#: The same without the kernel's help: a thread looks after the parent.
WATCHED = """
import subprocess, sys, os
child = '''
import os, sys, time
from imagegram.executors.lifetime import end_with_parent
end_with_parent(int(sys.argv[1]), by_kernel=False)
open(f"{sys.argv[2]}/{os.getpid()}.pid", "w").close()
time.sleep(60)
'''
subprocess.run([sys.executable, "-c", child, str(os.getpid()), sys.argv[1]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_that_watches_its_parent_ends_with_it(tmp_path: Path) -> None:
    environment = clean_environment() | {"PYTHONPATH": str(REPOSITORY)}
    parent = subprocess.Popen([sys.executable, "-c", WATCHED, str(tmp_path)], env=environment)
    wait_until(lambda: list(tmp_path.glob("*.pid")), seconds=30)
    parent.kill()
    parent.wait()
    wait_until(lambda: are_gone(tmp_path), seconds=5)


#: A command that does not listen: its main thread does not come back, or closes for ever.
DEAF = """
import sys, threading, time
from imagegram.executors import interrupts
from imagegram.executors.commands import exit_cleanly

interrupts._UNWIND_S = 0.3
interrupts.interruptions.record = lambda: print("recorded", flush=True)

def main():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        if sys.argv[1] == "closes":
            interrupts.interruptions.closing.set()
        time.sleep(60)
    return 0

sys.exit(exit_cleanly(main))
"""


@pytest.mark.parametrize("manner", ["hangs", "closes"])
def test_a_command_that_does_not_end_is_ended_and_recorded(manner: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF, manner],
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    if manner == "closes":  # has twenty seconds, unless the user is in a hurry
        time.sleep(1.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 143
    assert stdout == "recorded\n"
    assert "interrupted by SIGTERM" in stderr


def test_the_signals_of_a_process_are_not_sent_to_another() -> None:
    """Launchers such as joblib's pickle the job function with all that it names."""
    assert pickle.loads(pickle.dumps(interruptions)) is interruptions
