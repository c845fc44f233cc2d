"""The listed forms of kernels are those that the demo calls: no other, and none is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from imagegram.early_kernels import FORMS
from tests.conftest import REPOSITORY, clean_environment

#: Runs the demo in one process, and writes the forms of all kernels that Python called.
RECORD = """
import importlib, json, sys
from imagegram.compiled import Kernel
from imagegram.early_kernels import write_type
from imagegram.run import main

called = {}

def compile(self, sig):
    name = f"{self.py_func.__module__}.{self.py_func.__qualname__}"
    module, _, function = name.rpartition(".")
    if getattr(importlib.import_module(module), function) is self:  # else nobody finds it by name
        forms = called.setdefault(name, [])
        form = [write_type(kind) for kind in sig]
        if form not in forms:
            forms.append(form)
    return usual(self, sig)

usual, Kernel.compile = Kernel.compile, compile
path = sys.argv.pop(1)
try:
    main()
finally:
    json.dump(called, open(path, "w"))
"""


def test_the_listed_forms_are_those_of_the_demo(tmp_path: Path) -> None:
    words = [
        "logger=[]", "runtime=ci", "corpus.name=few", "corpus.num_shards=2", "num_samples=8",
        "corpus.images_per_shard=120", "corpus.num_holdout=48", f"paths.outputs={tmp_path}",
    ]  # fmt: skip
    subprocess.run(
        [sys.executable, "-c", RECORD, str(tmp_path / "called.json"), *words],
        check=True, cwd=REPOSITORY, env=clean_environment(),
    )  # fmt: skip
    called = json.loads((tmp_path / "called.json").read_text())
    if os.environ.get("IMAGEGRAM_WRITE_GOLDEN"):
        text = json.dumps({name: called[name] for name in sorted(called)}, indent=1)
        FORMS.write_text(text + "\n")
    assert json.loads(FORMS.read_text()) == called
