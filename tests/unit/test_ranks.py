"""Ranks of torchrun: what is refused, and what to type instead; e2e/test_nodes.py runs them."""

from __future__ import annotations

import pytest

from imagegram.errors import ConfigError, StageError
from imagegram.training.launch import check_launch, rank
from imagegram.training.options import TrainerOptions
from imagegram.training.ranks import connected, ended_ranks_told
from tests.toy_training import optimization


def torchrun(monkeypatch: pytest.MonkeyPatch, *, rank: int, world: int, on_node: int) -> None:
    values = {"TORCHELASTIC_RUN_ID": "none", "RANK": rank, "WORLD_SIZE": world}
    for name, value in (values | {"LOCAL_WORLD_SIZE": on_node}).items():
        monkeypatch.setenv(name, str(value))


def test_nodes_without_torchrun_are_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr("sys.argv", ["run", "generator=maskgit", "trainer.num_nodes=2"])
    with pytest.raises(ConfigError, match="=2 needs torchrun") as refusal:
        check_launch(devices=4, num_nodes=2)
    command = str(refusal.value).partition(": ")[2]
    assert command.startswith("torchrun --nnodes=2 --node-rank=R --nproc-per-node=4 --master-addr=")
    assert command.endswith("-m imagegram.run generator=maskgit trainer.num_nodes=2")
    check_launch(devices=4, num_nodes=1)
    with connected():  # nothing to connect
        assert rank() == 0


def test_processes_that_torchrun_did_not_start_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun(monkeypatch, rank=5, world=8, on_node=4)
    assert rank() == 5
    check_launch(devices=4, num_nodes=2)
    for devices, num_nodes in ((1, 1), (8, 1), (2, 4)):
        with pytest.raises(ConfigError, match=r"type trainer\.devices=4 trainer\.num_nodes=2"):
            check_launch(devices=devices, num_nodes=num_nodes)


def test_only_a_lost_connection_is_an_ended_rank() -> None:
    with (
        pytest.raises(StageError, match="start the same command on every node"),
        ended_ranks_told(),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="out of memory"), ended_ranks_told():
        raise RuntimeError("out of memory")


def test_all_nodes_share_a_batch() -> None:
    how = optimization(batch_size=16)
    assert TrainerOptions(devices=2, num_nodes=4).applied_to(how, prefix="") == how
    with pytest.raises(ConfigError, match=r"num_nodes=3 times .* must divide batch_size=16"):
        TrainerOptions(num_nodes=3).applied_to(how, prefix="")
