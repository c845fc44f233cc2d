"""Two machines of a Ray cluster, which are two sets of processes on this one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ConfigError, StageError
from imagegram.executors.progress import SilentProgress
from imagegram.executors.ray import RayExecutor
from imagegram.stages.tokenize import Tokenize
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.conftest import REPOSITORY
from tests.jobs import die_once, double, square_slowly
from tests.pictures import context, write_samples

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")
EXECUTOR = RayExecutor(address="auto", retries=3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two machines with a processor each; this process is on the first."""
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        arguments = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=arguments)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        cluster.second = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        cluster.wait_for_nodes()
        yield cluster
        ray.shutdown()
        cluster.shutdown()
        signal.signal(signal.SIGTERM, before)


class Counted(SilentProgress):
    """Counts the steps that jobs report."""

    def __init__(self) -> None:
        self.steps = 0

    def advance(self, task: int, steps: int = 1) -> None:
        self.steps += steps


def test_results_come_in_order_bars_move_and_errors_stay(cluster: Any, tmp_path: Path) -> None:
    progress = Counted()
    assert list(EXECUTOR.map(square_slowly, [30, 1, 20], progress)) == [900, 1, 400]
    assert progress.steps > 0
    with pytest.raises(StageError, match=r"^-1 is negative$"):
        list(EXECUTOR.map(double, [-1, 3], progress))
    assert list(EXECUTOR.map(die_once, [tmp_path / "mark"], progress)) == [1]
    with pytest.raises(StageError, match="died, and did so again in 0 more attempts"):
        list(replace(EXECUTOR, retries=0).map(die_once, [tmp_path / "other"], progress))
    assert EXECUTOR.threads(8, None) == 1
    with pytest.raises(ConfigError, match="no machine of the cluster has so many"):
        replace(EXECUTOR, cpus_per_job=64).threads(1, None)


def test_a_machine_that_dies_in_the_middle_changes_nothing(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagegram.stages.scan._FEW_IMAGES", 1)
    for number in range(8):
        write_samples(tmp_path / "tars" / f"{number}.tar", range(10 * number, 10 * number + 5))
    corpus = WebDatasetCorpus(tars=str(tmp_path / "tars"))
    stage = Tokenize(shards=corpus.shards, tokenizer=PyramidTokenizer(name="toy", sizes=(1, 2)))
    alone = context(tmp_path / "alone").make(stage)

    class Killing(RayExecutor):
        """Kills a machine when the first shard is there."""

        def map(self, *arguments: Any, **options: Any) -> Iterator[Any]:
            for number, result in enumerate(super().map(*arguments, **options)):
                if not number:
                    cluster.remove_node(cluster.second, allow_graceful=False)
                yield result

    spread = replace(context(tmp_path / "spread"), executor=Killing(address="auto"))
    many = spread.make(stage)
    assert many.identity() == alone.identity()
    for one, other in zip(alone.shards, many.shards, strict=True):
        assert one.artifact.manifest.files == other.artifact.manifest.files
