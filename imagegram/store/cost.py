"""Costs: estimates by each stage of what it needs, before it is made; ``plan/`` adds them up.

>>> halves = [Cost(parts=1, disk_bytes=5, seconds=3.0), Cost(parts=1, disk_bytes=7, seconds=4.0)]
>>> whole = Cost.together(halves, at_once=1)
>>> whole.parts, whole.disk_bytes, whole.seconds
(2, 12, 7.0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from imagegram.store.manifest import Artifact

#: Bytes of the interpreter with its packages, and of each worker process beside it, without mapped
#: files. Lightning's loggers (``csv``, ``tensorboard``) import torch, which adds 300 MB.
PROCESS_BYTES: Final = 150_000_000
WORKER_BYTES: Final = 150_000_000
#: Header of a ``.npy`` file; a 16 x 16 thumbnail.
NPY_HEADER: Final = 128
THUMBNAIL_BYTES: Final = 16 * 16 * 3
#: Seconds to start worker processes, which import the package again.
_POOL_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The seconds that a unit of work takes.

    Attributes:
        seconds: per unit (an image or a token), with as many workers as were at work.
        source: where the number comes from, for the table.
        per_core: whether the seconds are those of one core, to be divided by the workers.
    """

    seconds: float
    source: str
    per_core: bool

    def shared(self, units: float, workers: int) -> float:
        """Return the seconds of a stage whose threads share the work."""
        return self.seconds * units / (workers if self.per_core else 1)


class PerUnit:
    """The unit that the seconds of a stage are proportional to: its class attribute ``RATE``.

    Attributes:
        units: facts of its artifacts whose product is the number of units.
        like: field in which artifacts must agree to have similar rates; None: all are similar.
        seconds: built-in seconds per unit on one core.
        stages: every stage class that has a rate and was imported.
    """

    stages: Final[list[type[Any]]] = []

    def __init__(self, *units: str, seconds: float, like: str | None = None) -> None:
        self.units, self.seconds, self.like = units, seconds, like

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.stages.append(owner)


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """The numbers of a stage in a plan.

    Attributes:
        cached, parts: number of its artifacts that exist, and of all its artifacts.
        images, tokens: counts of its result; tokens include separators.
        disk_bytes: bytes still to be written.
        memory_bytes: peak memory of all workers together, of a part what it takes beside its
            process; 0 when nothing is left to do.
        seconds: seconds still to be spent.
        source: where the rate behind the seconds comes from.
        refusal: why this machine cannot make it, and what to type; empty when it can.
        known: whether the stage foresees its cost; otherwise all numbers are 0.
    """

    cached: int = 0
    parts: int = 1
    images: int = 0
    tokens: int = 0
    disk_bytes: int = 0
    memory_bytes: int = 0
    seconds: float = 0.0
    source: str = ""
    refusal: str = ""
    known: bool = True


@dataclass(frozen=True, kw_only=True)
class Cost(Amounts):
    """The cost of a stage, and what later stages of a plan need to know of its result.

    Attributes:
        artifact: found, or expected (``Surroundings.expect``); None: its digest is not known yet.
        handle: stand-in for the result; None: the result of ``load`` for a found artifact, only
            the identity for an expected one.
        sides: by name, artifacts that it makes on the way and that later stages use.
        threaded: whether a part uses all workers, so that parts are made one by one.
    """

    artifact: Artifact | None = None
    handle: Any = None
    sides: Mapping[str, Cost] = field(default_factory=dict)
    threaded: bool = False

    @classmethod
    def found(cls, artifact: Artifact, *, parts: int | None = None, **counts: Any) -> Self:
        """Return the cost of a finished artifact: its counts, with nothing left to do."""
        parts = artifact.facts.get("num_shards", 1) if parts is None else parts
        return cls(artifact=artifact, cached=parts, parts=parts, **counts)

    @classmethod
    def together(cls, costs: Sequence[Cost], *, at_once: int) -> Self:
        """Return the cost of parts that are made side by side.

        Args:
            costs: costs of all parts, including those found in the store.
            at_once: number of parts that are made at a time.
        """
        missing = [cost for cost in costs if not cost.cached]
        used = 1 if any(cost.threaded for cost in missing) else min(at_once, len(missing))
        memory = sorted((cost.memory_bytes for cost in missing), reverse=True)[:used]
        workers = used * WORKER_BYTES if used > 1 else 0  # a single one is this process
        return cls(
            cached=len(costs) - len(missing),
            parts=len(costs),
            images=sum(cost.images for cost in costs),
            tokens=sum(cost.tokens for cost in costs),
            disk_bytes=sum(cost.disk_bytes for cost in missing),
            memory_bytes=PROCESS_BYTES + workers + sum(memory),
            seconds=_side_by_side(missing, used),
            source=next((cost.source for cost in costs if cost.source), ""),
            refusal=next((cost.refusal for cost in costs if cost.refusal), ""),
            known=all(cost.known for cost in costs),
        )


def _side_by_side(missing: Sequence[Cost], used: int) -> float:
    """Return the seconds of parts on some workers: of the longest, or of all shared by them."""
    seconds = [cost.seconds for cost in missing]
    if used <= 1:
        return sum(seconds)
    return _POOL_SECONDS + max(max(seconds), sum(seconds) / used)
