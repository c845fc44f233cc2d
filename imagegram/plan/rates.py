"""Rates: seconds per unit of work, from the manifests of finished artifacts, else built in.

A stage is expected to be as fast as the newest artifacts in this store that are most similar: those
of the same tokenizer, sampler, metric or encoder, else of the same class. Manifests do not record
the number of workers, so a measured rate is used as it is; built-in rates are those of one core and
are divided by the workers. The unit of a stage is defined by its ``RATE``.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagegram.store.artifacts import ArtifactStore
from imagegram.store.cost import PerUnit, Rate
from imagegram.store.manifest import MANIFEST, Manifest

#: Where the built-in numbers were measured: see "What the plan said" in ``docs/scale.md``.
BUILTIN: Final = "one core of an AMD EPYC, 10,000 images, pyramid4, docs/scale.md"
#: Number of newest artifacts of a kind that are read.
_NEWEST: Final = 64


@dataclass(frozen=True)
class _Sample:
    facts: Mapping[str, Any]
    units: float
    seconds: float
    like: Any


class Rates:
    """Rates of stages, measured on the artifacts of one store."""

    def __init__(self, store: ArtifactStore | None) -> None:
        self._store = store
        self._samples: dict[type[Any], list[_Sample]] = {}

    def of(
        self,
        stage: type[Any],
        like: Any = None,
        *,
        builtin: float | None = None,
        units: Callable[[Mapping[str, Any]], float] | None = None,
    ) -> Rate:
        """Return the rate of a stage.

        Args:
            stage: with a ``RATE``.
            like: identity of the tokenizer, sampler or metric of the stage.
            builtin: seconds when no artifact was measured; None: those of ``RATE``.
            units: number of units of an artifact by its facts; None: as ``RATE`` counts them.
        """

        def per_unit(sample: _Sample) -> float:
            return sample.seconds / (sample.units if units is None else units(sample.facts))

        samples = self._of(stage)
        exact = [sample for sample in samples if sample.like == like]
        similar = [sample for sample in samples if _class(sample.like) == _class(like)]
        for group, words in ((exact, ""), (similar, " of its class")):
            if group:
                # The median: some durations include compiling.
                seconds = statistics.median(map(per_unit, group))
                return Rate(
                    seconds=seconds, source=f"{len(group)} made here{words}", per_core=False
                )
        seconds = stage.RATE.seconds if builtin is None else builtin
        return Rate(seconds=seconds, source="built in", per_core=True)

    def measured(self) -> dict[str, dict[str, float]]:
        """Return the measured seconds per unit, by kind and class.

        The rate of parts made in worker processes (``token_shard``) is that of one core; the rate
        of a stage whose threads share the work must be multiplied by their number.
        """
        table: dict[str, dict[str, float]] = {}
        for stage in PerUnit.stages:
            for like in {_class(sample.like): sample.like for sample in self._of(stage)}.values():
                seconds = self.of(stage, like).seconds
                table.setdefault(stage.kind, {})[_class(like) or "all"] = seconds
        return table

    def newest(self, kind: str) -> list[Manifest]:
        """Return the manifests of the newest artifacts of a kind, newest first."""
        if self._store is None:
            return []
        paths = (self._store.root / kind).glob(f"[0-9a-f]*/{MANIFEST}")
        newest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[:_NEWEST]
        return [Manifest.read(path.parent) for path in newest]

    def _of(self, stage: type[Any]) -> list[_Sample]:
        if stage not in self._samples:
            self._samples[stage] = self._read(stage)
        return self._samples[stage]

    def _read(self, stage: type[Any]) -> list[_Sample]:
        """Read the newest artifacts of the current VERSION; other versions may differ in speed."""
        counted, samples = stage.RATE, []
        for manifest in self.newest(stage.kind):
            payload, facts = manifest.payload, manifest.facts
            if payload.get("version") != stage.VERSION or not set(counted.units) <= set(facts):
                continue
            units = math.prod(int(facts[name]) for name in counted.units)
            like = payload.get(counted.like) if counted.like else None
            own_s = manifest.duration_s if manifest.own_s is None else manifest.own_s
            if units:
                samples.append(_Sample(facts, units, own_s, like))
        return samples


def _class(identity: Any) -> Any:
    return identity.get("class") if isinstance(identity, Mapping) else identity
