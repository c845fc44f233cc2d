"""Planner: walks the flow of a run to estimate its cost, without running it.

    forecast = foresee(exp, flow, store=store, workers=2, memory_bytes=8 * 10**9)
    forecast.disk_bytes, forecast.seconds

The flow of ``run.py`` is called with a :class:`Planner` in place of the run. Digests depend on the
configuration and not on results, so the planner knows for every stage whether it is cached; stages
that are not cached estimate their own cost (``Stage.forecast``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from imagegram.errors import UnforeseenError
from imagegram.executors.foresight import foresee_stage
from imagegram.experiment import EndOfFlowError, Experiment, Runner
from imagegram.plan.corpus import PlannedCorpus
from imagegram.plan.forecast import Forecast, StageForecast
from imagegram.plan.rates import Rates
from imagegram.protocols import Corpus
from imagegram.report.cost import report_cost
from imagegram.store.artifacts import ArtifactStore, fingerprint
from imagegram.store.cost import Amounts, Cost, Rate
from imagegram.store.fingerprint import identity
from imagegram.store.manifest import Artifact, Manifest
from imagegram.store.stage import Ready, Stage

Flow = Callable[[Experiment, Runner], None]


def foresee(
    exp: Experiment,
    flow: Flow,
    *,
    store: ArtifactStore,
    workers: int,
    memory_bytes: int,
    rates: Rates | None = None,
    max_counted: int | None = 20_000,
    hashes: bool = False,
) -> Forecast:
    """Walk the flow of an experiment and return its forecast.

    Args:
        exp: the experiment.
        flow: calls its second argument with (name, stage), as it would call a run.
        store: the artifacts that exist.
        workers: workers of the run.
        memory_bytes: memory that the run may use.
        rates: seconds per unit; None: measured in the store.
        max_counted: number of records to count in tar headers; None: all.
        hashes: read shards that were never hashed, to know whether they are cached.

    Raises:
        CorpusError: when shards are missing.
        ArtifactError: when an existing artifact is damaged.
    """
    corpus = PlannedCorpus.of(exp.corpus, max_counted=max_counted, hashes=hashes)
    # A frozen dataclass has no settable name, which the protocol's own name would be.
    exp = dataclasses.replace(exp, corpus=cast(Corpus, corpus))
    at = StoreSurroundings(
        store=store, rates=rates or Rates(store), workers=workers, memory_bytes=memory_bytes
    )
    planner = Planner(exp, at)
    is_whole = True
    try:
        flow(exp, planner)
    except EndOfFlowError:
        pass
    except UnforeseenError:  # the flow needs the result of a stage that cannot be foreseen
        is_whole = False
    return Forecast(
        stages=tuple(planner.stages),
        num_estimated=corpus.num_estimated,
        num_unknown=corpus.num_unknown,
        is_whole=is_whole,
    )


@dataclass(frozen=True, kw_only=True)
class StoreSurroundings:
    """The Surroundings of stages in a plan.

    Attributes:
        store: the artifacts that exist.
        rates: seconds per unit.
        workers: number of processes or threads.
        memory_bytes: memory that stages may use.
    """

    store: ArtifactStore
    rates: Rates
    workers: int
    memory_bytes: int

    def find(self, stage: Stage[Any]) -> Artifact | None:
        """Return the finished artifact of a stage, or None."""
        try:
            return self.store.find(stage)
        except UnforeseenError:  # its digest depends on content that is still to be made
            return None

    def expect(
        self, stage: Stage[Any], facts: Mapping[str, Any] | None, parts: Sequence[Artifact] = ()
    ) -> Artifact:
        """Return the artifact of a missing stage, as it will be named."""
        digest, payload = fingerprint(stage)
        manifest = Manifest(
            kind=stage.kind,
            digest=digest,
            payload=payload,
            files={},
            facts=_Facts(facts or {}),
            created_at="",
            duration_s=0.0,
            made_by={},
        )
        path = self.store.root / stage.kind / digest
        return Artifact(path=path, manifest=manifest, expected_parts=tuple(parts))

    def rate(self, stage: Stage[Any], *, builtin: float | None = None) -> Rate:
        """Return the seconds per unit of a stage with a ``RATE``."""
        cls: Any = type(stage)
        like = cls.RATE.like and identity(getattr(stage, cls.RATE.like))
        return self.rates.of(cls, like, builtin=builtin, units=getattr(stage, "units", None))

    def newest(self, kind: str) -> Sequence[Manifest]:
        """Return the manifests of the newest artifacts of a kind, newest first."""
        return self.rates.newest(kind)


class _Facts(dict[str, Any]):
    """Facts of an artifact that is still to be made; unknown facts raise an error."""

    def __missing__(self, name: str) -> Any:
        raise UnforeseenError(f"{name} is known only when the stage is made")


class Planner:
    """Stand-in for a run in the flow, which collects forecasts.

    Attributes:
        stages: forecasts so far.
    """

    def __init__(self, exp: Experiment, at: StoreSurroundings) -> None:
        self.stages: list[StageForecast] = []
        self._exp = exp
        self._at = at

    def __call__(self, name: str, stage: Stage[Any] | Ready[Any]) -> Any:
        """Foresee one stage; return a stand-in for its handle."""
        if isinstance(stage, Ready):
            return stage.value
        self._exp.require(stage.group)
        cost = foresee_stage(stage, self._at)
        for side, its in cost.sides.items():
            if its.cached < its.parts and side not in {row.name for row in self.stages}:
                self._record(side, its)
        self._record(name, cost, _kernels(stage) if cost.cached < cost.parts else ())
        return cost.handle

    def adopt(self, exp: Experiment) -> None:
        """Continue with the fitted tokenizer."""
        self._exp = exp

    def watch(self, corpus: Corpus) -> None:
        """Do nothing: ``tools.plan`` shows what was found."""

    def config(self, values: Any) -> None:
        """Do nothing: a plan logs no configuration."""

    def skip(self, counts: Any) -> None:
        """Do nothing: what will be skipped is not known."""

    def collect(self, handle: Any, name: str) -> None:
        """Foresee the copy of an artifact's files in the run folder."""
        artifact = getattr(handle, "artifact", None)
        if artifact is None:
            return
        files = artifact.manifest.files.values()  # none where it is still to be made, just now
        size = sum(entry.size_bytes for entry in files) if files else self.stages[-1].disk_bytes
        self._record(f"copy of {name}", Cost(disk_bytes=size))

    def score(self, evaluation: Any) -> None:
        """Do nothing: a plan has no scores."""

    def report(self, evaluation: Any, *, generated: Any, tokens: Any, index: Any) -> None:
        """Foresee the cost of the report and the run folder."""
        sets = {"generated": generated, "tokens": tokens, "tokenizer": self._exp.tokenizer}
        self._record("report", report_cost(self._at, evaluation=evaluation, **sets))

    def _record(self, name: str, cost: Cost, kernels: tuple[str, ...] = ()) -> None:
        amounts = {field.name: getattr(cost, field.name) for field in dataclasses.fields(Amounts)}
        digest = "" if cost.artifact is None else cost.artifact.digest
        self.stages.append(StageForecast(name=name, digest=digest, kernels=kernels, **amounts))


def _kernels(stage: Stage[Any]) -> tuple[str, ...]:
    """Return the packages of the kernels that a stage will call, as far as that is known."""
    try:
        return tuple(getattr(stage, "kernels", ()))
    except UnforeseenError:  # they depend on what another stage makes
        return ()
