"""Jobs on a Ray cluster, whose machines share the folders of the run.

    python -m imagegram.run executor=ray                          the cluster of this machine
    python -m imagegram.run executor=ray executor.address=local   a cluster of this machine alone

A job is a shard and takes seconds to minutes, so what Ray costs a job (milliseconds) is nothing;
no token is ever asked for over the network. Ray tries a job again when its worker or its machine
died. A shard is written into a folder of its own, which is renamed when it is whole: a second
attempt finds either all of it or nothing.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from imagegram.errors import ConfigError, StageError
from imagegram.executors.lifetime import SIGNALS
from imagegram.executors.remote import (
    Bars,
    CollectedProgress,
    Job,
    Outcome,
    check_least,
)
from imagegram.store.stage import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOCAL: Final = "local"
#: Seconds between two looks at what the jobs have done.
_LOOK_S: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """Runs jobs as tasks of Ray, as many at a time as the cluster has processors for.

    Attributes:
        address: ``auto``, ``HOST:PORT`` of a running cluster, or ``local`` to start one here.
        cpus_per_job: least number of processors, and of threads, of a job.
        gpus_per_job: GPUs of a job, may be a part of one.
        retries: number of times that a job is tried again when its worker or machine died.
        workers: threads that stages use in this process.
    """

    elsewhere: ClassVar[bool] = True

    address: str = "auto"
    cpus_per_job: int = 1
    gpus_per_job: float = 0.0
    retries: int = 3
    workers: int = 1

    def __post_init__(self) -> None:
        check_least("ray", 1, cpus_per_job=self.cpus_per_job)
        check_least("ray", 0, gpus_per_job=self.gpus_per_job, retries=self.retries)

    def threads(self, num_jobs: int, at_once: int | None) -> int:
        """Return the number of processors of each job: an equal share of the smallest machine.

        Args:
            num_jobs: number of jobs.
            at_once: number of jobs that may run on a machine at a time, because memory is limited.
        """
        cpus = self._cpus_of_machines()
        on_one = min(math.ceil(num_jobs / len(cpus)), at_once or num_jobs)
        share = math.ceil(min(cpus) / max(1, on_one))
        return min(max(self.cpus_per_job, share), int(min(cpus)))

    def map(
        self,
        function: Callable[[Item, Progress], Result],
        items: Sequence[Item],
        progress: Progress,
        *,
        at_once: int | None = None,
    ) -> Iterator[Result]:
        """Yield results in the order of ``items``, ``at_once`` at a time on each machine.

        Raises:
            StageError: when a job died more often than it is tried again.
        """
        if not items:
            return
        ray = connect(self.address)
        task = ray.remote(_attempt).options(
            num_cpus=self.threads(len(items), at_once),
            num_gpus=self.gpus_per_job or None,
            max_retries=self.retries,
            scheduling_strategy="SPREAD",
        )
        folder = os.getcwd()  # noqa: PTH109 - a word, for another machine
        with _relayed(ray, Bars(progress)) as (relay, bars):
            futures = [
                task.remote(Job(function=function, item=item, folder=folder), number, relay)
                for number, item in enumerate(items)
            ]
            try:
                for number, future in enumerate(futures):
                    outcome: Outcome[Result] = _result(ray, future, self.retries)
                    bars.end(number)
                    yield outcome.unwrap()
            except BaseException:
                for future in futures:
                    with suppress(Exception):
                        ray.cancel(future, force=True)
                raise

    def _cpus_of_machines(self) -> list[float]:
        """Return the number of processors of every machine of the cluster that has some."""
        ray = connect(self.address)
        counts = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        if not (found := [count for count in counts if count >= self.cpus_per_job]):
            largest = f"{max(counts, default=0.0):g}"
            raise ConfigError(
                f"executor.cpus_per_job={self.cpus_per_job}: no machine of the cluster has so "
                f"many processors, the largest has {largest}; type executor.cpus_per_job={largest}"
            )
        return found


def connect(address: str) -> Any:
    """Connect this process to a cluster, once; return the module ``ray``.

    Raises:
        ConfigError: when Ray is not installed, or there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "executor=ray needs Ray: pip install 'imagegram[ray]'; or type executor=processes"
        ) from error
    if ray.is_initialized():  # by this executor, or by a launcher of Ray that runs this job
        return ray
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    more: dict[str, Any] = {"include_dashboard": False} if address == _LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"executor.address={address}: no cluster of Ray answers there "
            f"({str(error).splitlines()[0]}); start one with: ray start --head, or type "
            "executor.address=local; RAY_AUTH_MODE has to be the same there and here (ray start "
            "of Ray 2.60 asks for a token unless it is RAY_AUTH_MODE=disabled)"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray sets one of its own
                signal.signal(number, handler)
    return ray


def _attempt(job: Job[Item, Result], number: int, relay: Any) -> Outcome[Result]:
    """Run a job in a worker of Ray, and send its progress home."""
    progress = CollectedProgress(
        job=number, attempt=uuid.uuid4().hex, send=relay.put.remote, clock=time.monotonic
    )
    outcome = job.run(progress)
    progress.flush()
    return outcome


def _result(ray: Any, future: Any, retries: int) -> Any:
    errors = ray.exceptions
    died = (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError)
    try:
        return ray.get(future)
    except errors.RayTaskError as error:
        raise error.cause or error from None
    except (*died, errors.OutOfMemoryError) as error:
        raise StageError(
            f"a job on the cluster died, and did so again in {retries} more attempts: "
            f"{str(error).splitlines()[0]}; finished shards are kept; run again with more "
            "processors, and so more memory, for each: executor.cpus_per_job=4"
        ) from error


class _Relay:
    """Keeps the calls of all jobs until the command fetches them; an actor of Ray."""

    def __init__(self) -> None:
        self._calls: list[tuple[Any, ...]] = []

    def put(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls += calls

    def take(self) -> list[tuple[Any, ...]]:
        calls, self._calls = self._calls, []
        return calls


@contextmanager
def _relayed(ray: Any, bars: Bars) -> Iterator[tuple[Any, _LockedBars]]:
    """Repeat what jobs report on the bars of the command, on a thread."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )  # a machine that dies elsewhere must not take the reports with it
    relay = ray.remote(_Relay).options(num_cpus=0, scheduling_strategy=here).remote()
    locked, ended = _LockedBars(bars), threading.Event()

    def look() -> None:
        with suppress(ray.exceptions.RayError):  # bars end early where their keeper died
            while not ended.wait(_LOOK_S):
                locked.replay(ray.get(relay.take.remote()))
            locked.replay(ray.get(relay.take.remote()))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield relay, locked
    finally:
        ended.set()
        thread.join(timeout=5)
        ray.kill(relay)


class _LockedBars:
    """Bars that two threads use."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._lock = threading.Lock()

    def replay(self, calls: list[tuple[Any, ...]]) -> None:
        with self._lock:
            self._bars.replay(calls)

    def end(self, job: int) -> None:
        with self._lock:
            self._bars.end(job)
