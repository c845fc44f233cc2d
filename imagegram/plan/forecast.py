"""What a plan says: the cost of every stage, and of all."""

from __future__ import annotations

from dataclasses import dataclass

from imagegram.store.cost import Amounts


@dataclass(frozen=True, kw_only=True)
class StageForecast(Amounts):
    """What one stage will cost.

    Attributes:
        name: of the stage in the run.
        digest: of its artifact, which is known before it is made; empty where there is none.
    """

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will cost, stage by stage.

    Attributes:
        stages: in their order.
        num_estimated: shards whose records were estimated from their sizes.
        num_unknown: shards that were never hashed, so that they count as not cached.
        is_whole: whether the flow could be walked to its end.
    """

    stages: tuple[StageForecast, ...]
    num_estimated: int
    num_unknown: int
    is_whole: bool = True

    @property
    def unforeseen(self) -> tuple[str, ...]:
        """Stages that do not say what they cost: the sums go without them."""
        return tuple(stage.name for stage in self.stages if not stage.known)

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
