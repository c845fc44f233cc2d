"""A process that has imported what runs import, and forks for every command that it is sent.

    python -m tests.shell_server    # tests/shell.py starts it and speaks to it

Torch and what stands on it take five seconds of a core to import, a tiny run takes one. A fork
begins where ``python -m MODULE`` is after its imports: its own process with its own arguments,
folder, environment and end, as a user types it. It is no place for tests of what is imported when.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import sys
import time
from collections.abc import Mapping
from typing import Any

#: What a run imports sooner or later; not W&B, which makes a folder when it is imported, and the
#: first of the forks to end removes it.
IMPORTED = (
    "imagegram.run",
    "imagegram.training.loop",
    "numba",
    "scipy.stats",
    "sklearn.metrics",
    "faiss",
    "jinja2",
)


def serve() -> None:
    """Read a command a line until there are no more; tell of each when it begins and ends."""
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    running: dict[int, int] = {}
    lines, is_open = b"", True
    while is_open or running:
        if is_open and select.select([0], [], [], 0.01 if running else None)[0]:
            data = os.read(0, 1 << 16)
            is_open = bool(data)
            *whole, lines = (lines + data).split(b"\n")
            for line in whole:
                command = json.loads(line)
                pid = os.fork()
                if not pid:
                    become(command)
                    return  # to the end of this process, as any other
                running[pid] = command["number"]
                tell(number=command["number"], pid=pid)
        elif not is_open:
            time.sleep(0.01)
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            tell(number=running.pop(pid), status=os.waitstatus_to_exitcode(status))


def tell(**what: int) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def become(command: Mapping[str, Any]) -> None:
    """Do in this process what ``python WORDS`` does."""
    os.setsid()
    for number, path in enumerate((os.devnull, command["stdout"], command["stderr"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.path[0] = command["cwd"]
    sys.path[1:1] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    how, what, *words = command["words"]
    sys.argv = [how, *words]
    if how == "-m":
        parent, _, leaf = what.rpartition(".")
        if sys.modules.pop(what, None) is not None:  # it was not imported yet
            vars(sys.modules[parent]).pop(leaf, None)
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    serve()
