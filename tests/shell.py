"""Commands as a user types them, by forks of a process that has imported what they import."""

from __future__ import annotations

import functools
import itertools
import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.scratch import new_folder

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass
class Started:
    """A command under way, which leads a process group of its own; as of ``subprocess.Popen``."""

    shell: Shell
    number: int
    pid: int
    outputs: Path

    def poll(self) -> int | None:
        """Return its status; None: it has not ended."""
        self.shell.listen(seconds=0)
        return self.shell.statuses.get(self.number)

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end; return what it wrote."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self.shell.listen(seconds=0.1)
        stdout, stderr = ((self.outputs / name).read_text() for name in ("stdout", "stderr"))
        return stdout, stderr


class Shell:
    """The client of ``tests/shell_server.py``."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.shell_server"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._numbers = itertools.count()
        self._pids: dict[int, int] = {}
        self.statuses: dict[int, int] = {}

    def start(self, words: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> Started:
        """Start ``python WORDS``, where words begin with ``-m MODULE`` or ``-c PROGRAM``."""
        number, outputs = next(self._numbers), new_folder()
        command: dict[str, Any] = {"number": number, "words": list(words), "cwd": str(cwd)}
        command |= {name: str(outputs / name) for name in ("stdout", "stderr")}
        command["environment"] = dict(environment)
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(command).encode() + b"\n")
        self._server.stdin.flush()
        while number not in self._pids:
            assert self._server.poll() is None, "the server has ended"
            self.listen(seconds=1)
        return Started(self, number, self._pids[number], outputs)

    def listen(self, *, seconds: float) -> None:
        """Read what the server tells, if it tells anything soon."""
        assert self._server.stdout is not None
        while select.select([self._server.stdout], [], [], seconds)[0]:
            told = json.loads(self._server.stdout.readline() or "{}")
            if not told:
                return
            if "pid" in told:
                self._pids[told["number"]] = told["pid"]
            else:
                self.statuses[told["number"]] = told["status"]
            seconds = 0

    def run(
        self, words: Sequence[str], *, cwd: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python WORDS`` to its end."""
        started = self.start(words, cwd=cwd, environment=environment)
        stdout, stderr = started.communicate()
        assert started.returncode is not None
        return subprocess.CompletedProcess([*words], started.returncode, stdout, stderr)


@functools.cache
def shell() -> Shell:
    """The one shell of this process; it ends with it."""
    return Shell()
