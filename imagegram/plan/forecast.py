"""Forecast: the cost of every stage of a run, and the totals."""

from __future__ import annotations

from dataclasses import dataclass

from imagegram.store.cost import Amounts


@dataclass(frozen=True, kw_only=True)
class StageForecast(Amounts):
    """The expected cost of one stage.

    Attributes:
        name: name of the stage in the run.
        digest: digest of its artifact, known before it is made; empty where there is none.
        kernels: packages of the compiled kernels that it will call; none when it is cached.
    """

    name: str
    digest: str
    kernels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The expected cost of a run, stage by stage.

    Attributes:
        stages: forecasts in the order of the stages.
        num_estimated: number of shards whose records were estimated from their sizes.
        num_unknown: number of shards that were never hashed and so count as not cached.
        is_whole: whether the forecast covers all requested stages.
    """

    stages: tuple[StageForecast, ...]
    num_estimated: int
    num_unknown: int
    is_whole: bool = True

    @property
    def unforeseen(self) -> tuple[str, ...]:
        """Names of stages without a forecast; the totals do not include them."""
        return tuple(stage.name for stage in self.stages if not stage.known)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Packages of the compiled kernels that stages will call, in that order."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.kernels))

    @property
    def refusals(self) -> tuple[str, ...]:
        """Reasons why the machine cannot run a stage, apart from disk space."""
        return tuple(stage.refusal for stage in self.stages if stage.refusal)

    @property
    def disk_bytes(self) -> int:
        """Bytes still to be written."""
        return sum(stage.disk_bytes for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        """Largest peak memory of a stage, in bytes."""
        return max((stage.memory_bytes for stage in self.stages), default=0)

    @property
    def seconds(self) -> float:
        """Seconds still to be spent."""
        return sum(stage.seconds for stage in self.stages)
