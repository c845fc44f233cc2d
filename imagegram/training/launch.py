"""Launch: the environment that ``torchrun`` gives to the processes of a training."""

from __future__ import annotations

import os
import sys

from imagegram.errors import ConfigError


def launched() -> bool:
    """Return whether ``torchrun`` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Return the rank of this process, 0 without ``torchrun``."""
    return int(os.environ["RANK"]) if launched() else 0


def check_launch(*, devices: int, num_nodes: int) -> None:
    """Refuse devices and nodes for which ``torchrun`` did not start one process each.

    Args:
        devices: ``trainer.devices``, on every node.
        num_nodes: ``trainer.num_nodes``.

    Raises:
        ConfigError: with the command to type.
    """
    if not launched():
        if num_nodes > 1:
            raise ConfigError(
                f"trainer.num_nodes={num_nodes} needs torchrun; type on each node, R = 0 ... "
                f"{num_nodes - 1}: torchrun --nnodes={num_nodes} --node-rank=R "
                f"--nproc-per-node={devices} --master-addr=HOST_OF_NODE_0 --master-port=29500 "
                f"-m imagegram.run {' '.join(sys.argv[1:])}"
            )
        return
    started, on_node = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if (devices, num_nodes) != (on_node, started // on_node):
        raise ConfigError(
            f"torchrun started {on_node} processes on each of {started // on_node} nodes, but "
            f"trainer.devices={devices} trainer.num_nodes={num_nodes}; type trainer.devices="
            f"{on_node} trainer.num_nodes={started // on_node}"
        )
