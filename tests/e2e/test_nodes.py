"""Two nodes, as torchrun starts them, on this machine: killed, continued, and equal to one process.

A launch is of two ranks that import torch each; only the last one of those that are killed has
torchrun's own processes. ``IMAGEGRAM_NODES=all`` compares all components, not the first one alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from imagegram.training.state import TrainingState
from tests.conftest import REPOSITORY, clean_environment, read_summary

NUM_STEPS = 40
TRAINER = ("trainer=cpu", f"trainer.max_steps={NUM_STEPS}")
WORDS = (
    *("tokenizer=ordered_fsq_tiny", "stages=[tokenize]"),
    *(*TRAINER, "trainer.segment_steps=5"),
)
COMPONENTS = {
    "titok": "tokenizer=titok_tiny stages=[tokenize]",
    "conv_vq": "tokenizer=conv_vq_tiny stages=[tokenize]",
    "ar": "tokenizer=titok_tiny generator=ar stages=[tokenize,index,fit]",
    "rar": "tokenizer=titok_tiny generator=rar stages=[tokenize,index,fit]",
    "maskgit": "tokenizer=conv_vq_tiny generator=maskgit stages=[tokenize,index,fit]",
}


def launch(
    node: int, port: int, outputs: Path, typed: Sequence[str], *, agent: bool
) -> subprocess.Popen[str]:
    """Start a node with torchrun, or only its rank, in the environment that torchrun gives it."""
    words = ["-m", "imagegram.run", "debug=tiny", *typed, "trainer.num_nodes=2"]
    words += [f"paths.outputs={outputs}"]
    environment = clean_environment()
    if agent:
        torchrun = ["-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}"]
        torchrun += ["--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
        words = [*torchrun, *words]
    else:
        environment |= {"TORCHELASTIC_RUN_ID": "none", "RANK": str(node), "WORLD_SIZE": "2"}
        environment |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": str(node)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launch_both(
    outputs: Path, *, agent: bool, typed: Sequence[str] = WORDS
) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [launch(node, port, outputs, typed, agent=agent) for node in (0, 1)]


def states(outputs: Path) -> list[Path]:
    return list(outputs.glob("artifacts/training_state/[0-9a-f]*/state.safetensors"))


def last_state(outputs: Path) -> TrainingState:
    return max(map(TrainingState.read, states(outputs)), key=lambda state: state.step)


def processes(outputs: Path) -> list[str]:
    """Command lines of the processes that were started for a folder of outputs."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(process.read_bytes().decode())
    return [line for line in lines if str(outputs) in line]


def kill(outputs: Path, victim: int) -> str:
    """Start both nodes, kill one after another state; return what the other says."""
    before, nodes = len(states(outputs)), launch_both(outputs, agent=False)
    while len(states(outputs)) == before:
        assert all(node.poll() is None for node in nodes)
        time.sleep(0.01)
    nodes[victim].kill()
    _, said = nodes[1 - victim].communicate(timeout=60)
    nodes[victim].communicate()
    assert nodes[1 - victim].returncode
    return said


def test_killed_nodes_continue_to_the_weights_of_one_process(
    tmp_path: Path, run_here: Callable[..., Path]
) -> None:
    outputs, alone = tmp_path / "nodes", tmp_path / "alone"
    for victim in (1, 0):
        said = kill(outputs, victim)
        assert "another process of this training has ended" in said
        assert not processes(outputs)
        assert last_state(outputs).step < NUM_STEPS
    for node in launch_both(outputs, agent=True):
        _, said = node.communicate(timeout=120)
        assert node.returncode == 0, said
    assert not processes(outputs)
    # Rank 0 alone has run folders: it was told of the first kill, and was the second victim.
    runs = sorted(outputs.glob("runs/*"))
    assert [read_summary(run)["status"] for run in runs] == ["failed", "running", "completed"]

    run_here(*WORDS, f"trainer.segment_steps={NUM_STEPS}", outputs=alone)
    ours, theirs = last_state(outputs), last_state(alone)
    assert ours.step == theirs.step == NUM_STEPS
    for name, weights in theirs.networks["autoencoder"].items():
        found = ours.networks["autoencoder"][name]
        torch.testing.assert_close(found, weights, rtol=0, atol=1e-5)


def kept(outputs: Path, kind: str) -> Path:
    (path,) = outputs.glob(f"artifacts/{kind}/[0-9a-f]*/model.safetensors")
    return path


@pytest.mark.parametrize(
    "name", list(COMPONENTS) if os.environ.get("IMAGEGRAM_NODES") == "all" else ["titok"]
)
def test_two_nodes_keep_the_weights_of_one_process(
    name: str, tmp_path: Path, run_here: Callable[..., Path]
) -> None:
    words = [*COMPONENTS[name].split(), *TRAINER]
    outputs, alone = tmp_path / "nodes", tmp_path / "alone"
    run_here(*words, outputs=alone)
    kind = "tokenizer"
    if "fit" in COMPONENTS[name]:  # what rounding changes of a tokenizer may be a token
        words.append(f"tokenizer.checkpoint={kept(alone, kind)}")
        kind = "generator"
    for node in launch_both(outputs, agent=True, typed=words):
        _, said = node.communicate(timeout=120)
        assert node.returncode == 0, said
    ours, theirs = (load_file(kept(folder, kind)) for folder in (outputs, alone))
    for key, weights in theirs.items():
        torch.testing.assert_close(ours[key], weights, rtol=0, atol=1e-5)
