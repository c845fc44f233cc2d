"""What a plan says: the cost of every stage, and of all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StageForecast:
    """What one stage will cost.

    Attributes:
        name: of the stage in the run.
        digest: of its artifact, which is known before it is made; empty for the report.
        cached, parts: how many of its artifacts are there already, of how many.
        images, tokens: of its result; tokens with separators where there are any.
        disk_bytes: still to be written.
        memory_bytes: at its peak, all workers together; 0 when nothing is to do.
        seconds: still to be spent.
        source: where the rate behind the seconds comes from.
        refusal: why this machine cannot do it, and what to type; empty when it can.
    """

    name: str
    digest: str
    cached: int
    parts: int
    images: int
    tokens: int = 0
    disk_bytes: int = 0
    memory_bytes: int = 0
    seconds: float = 0.0
    source: str = ""
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will cost, stage by stage.

    Attributes:
        stages: in their order.
        num_estimated: shards whose records were estimated from their sizes.
        num_unknown: shards that were never hashed, so that they count as not cached.
    """

    stages: tuple[StageForecast, ...]
    num_estimated: int
    num_unknown: int

    @property
    def refusals(self) -> tuple[str, ...]:
        """What the machine cannot do, whatever the disk holds."""
        return tuple(stage.refusal for stage in self.stages if stage.refusal)

    @property
    def disk_bytes(self) -> int:
        """Still to be written."""
        return sum(stage.disk_bytes for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        """At the peak of the greediest stage."""
        return max((stage.memory_bytes for stage in self.stages), default=0)

    @property
    def seconds(self) -> float:
        """Still to be spent."""
        return sum(stage.seconds for stage in self.stages)
