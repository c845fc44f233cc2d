"""Seconds a unit of work: from the manifests of finished artifacts, else built in.

A stage is expected to take as long as the newest artifacts in this store that are most like it: the
same tokenizer, sampler, metric or encoder before another one of the same class. Their manifests do
not say how many workers there were, so a measured rate is taken as it is; built-in rates are those
of one core, and are divided by the workers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagegram.indexes.build.order_stage import BuildOrder
from imagegram.indexes.build.stage import BuildIndexShard
from imagegram.report.pairs import FindPairs
from imagegram.stages.embed import Embed, EmbedReference
from imagegram.stages.generate import Decode, Generate, Replay
from imagegram.stages.measure import Measure
from imagegram.stages.split import Split
from imagegram.stages.tokenize import TokenizeShard
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import MANIFEST, Manifest
from imagegram.store.stage import Stage

Facts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How long a unit takes.

    Attributes:
        seconds: of one unit (an image or a token), by as many workers as worked.
        source: where the number comes from, for the table.
        per_core: of one core alone, to be divided by the workers.
    """

    seconds: float
    source: str
    per_core: bool


@dataclass(frozen=True)
class _Kind:
    """What the artifacts of a stage count, and which field of their payload makes them alike.

    Attributes:
        stage: whose artifacts.
        units: facts whose product is the number of units.
        like: field of the payload.
        builtin: seconds a unit on one core, by the class of what is alike; ``all``: of any other.
    """

    stage: type[Stage[Any]]
    units: tuple[str, ...]
    like: str | None
    builtin: Mapping[str, float]


#: Where the built-in numbers were measured: ``python -m imagegram.tools.plan --rates`` after
#: ``python -m imagegram.run corpus=tiny_imagenet_20 tokenizer=pyramid3 num_samples=500``.
BUILTIN: Final = "one core of an AMD EPYC, tiny_imagenet_20, pyramid3, commit b20256a"
#: Of one measured image, its features included.
_METRICS: Final = {
    "CopyingMetric": 2.2e-2,
    "NoveltyMetric": 5.0e-4,
    "OrderMetric": 4.0e-4,
    "FrechetMetric": 3.0e-2,
    "KernelMetric": 1.0e-3,
    "PrdcMetric": 1.5e-3,
    "all": 1.0e-2,
}
_KINDS: Final = {
    kind.stage.kind: kind
    for kind in (
        _Kind(Split, ("num_scanned",), None, {"all": 1.9e-4}),
        _Kind(TokenizeShard, ("num_tokens",), "tokenizer", {"all": 8.0e-8}),
        _Kind(BuildIndexShard, ("num_tokens",), None, {"all": 6.5e-8}),
        _Kind(BuildOrder, ("num_tokens",), None, {"all": 1.1e-7}),
        _Kind(Generate, ("num_images", "num_tokens"), "sampler", {"all": 1.4e-6}),
        _Kind(Replay, ("num_images", "num_tokens"), "sampler", {"all": 7.0e-6}),
        _Kind(Decode, ("num_images", "num_tokens"), None, {"all": 5.0e-8}),
        _Kind(Measure, ("num_images",), "metric", _METRICS),
        _Kind(FindPairs, ("num_documents",), None, {"all": 1.0e-5}),
        _Kind(Embed, ("num_images",), "encoder", {"all": 2.4e-3}),
        _Kind(EmbedReference, ("num_images",), "encoder", {"all": 3.5e-3}),
    )
}
#: So many of the newest artifacts of a kind are asked.
_NEWEST: Final = 64


@dataclass(frozen=True)
class _Sample:
    units: int
    seconds: float
    like: Any


class Rates:
    """Rates of every kind of artifact, as one store has seen them."""

    def __init__(self, store: ArtifactStore | None) -> None:
        self._store = store
        self._samples: dict[str, list[_Sample]] = {}

    def of(self, kind: str, like: Any = None) -> Rate:
        """The rate of a kind of artifact, per image or token.

        Args:
            kind: ``token_shard``, ``samples`` ...
            like: identity of the tokenizer, sampler or encoder that is going to work.
        """
        samples = self._of(kind)
        exact = [sample for sample in samples if sample.like == like]
        similar = [sample for sample in samples if _class(sample.like) == _class(like)]
        for group, words in ((exact, ""), (similar, " of its class")):
            if group:
                # The median: some waited for a compiler, or made the side files of an index.
                seconds = statistics.median(sample.seconds / sample.units for sample in group)
                return Rate(
                    seconds=seconds, source=f"{len(group)} made here{words}", per_core=False
                )
        builtin = _KINDS[kind].builtin
        seconds = builtin.get(str(_class(like)), builtin["all"])
        return Rate(seconds=seconds, source="built in", per_core=True)

    def measured(self) -> dict[str, dict[str, float]]:
        """Seconds a unit of everything that was made here, by kind and class; for the table above.

        What worker processes made side by side (``token_shard``) is already that of one core;
        what threads shared is to be multiplied by their number.
        """
        table: dict[str, dict[str, float]] = {}
        for kind in _KINDS:
            for like in {_class(sample.like): sample.like for sample in self._of(kind)}.values():
                table.setdefault(kind, {})[_class(like) or "all"] = self.of(kind, like).seconds
        return table

    def num_features(self, encoder: Any) -> int | None:
        """Numbers of a feature of an encoder, if it was used in this store."""
        for kind in (EmbedReference.kind, Embed.kind):
            for manifest in self._newest(kind):
                if manifest.payload.get("encoder") == encoder:
                    return int(manifest.facts["num_features"])
        return None

    def _of(self, kind: str) -> list[_Sample]:
        if kind not in self._samples:
            self._samples[kind] = self._read(kind)
        return self._samples[kind]

    def _read(self, kind: str) -> list[_Sample]:
        """The newest artifacts of this VERSION: another one may be slower or faster."""
        counted, samples = _KINDS[kind], []
        for manifest in self._newest(kind):
            payload = manifest.payload
            facts: Facts = manifest.facts
            if payload.get("version") != counted.stage.VERSION or not set(counted.units) <= set(
                facts
            ):
                continue
            units = math.prod(int(facts[name]) for name in counted.units)
            like = payload.get(counted.like) if counted.like else None
            if units:
                samples.append(_Sample(units, manifest.duration_s, like))
        return samples

    def _newest(self, kind: str) -> list[Manifest]:
        if self._store is None:
            return []
        paths = (self._store.root / kind).glob(f"[0-9a-f]*/{MANIFEST}")
        newest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[:_NEWEST]
        return [Manifest.read(path.parent) for path in newest]


def _class(identity: Any) -> Any:
    return identity.get("class") if isinstance(identity, Mapping) else identity
