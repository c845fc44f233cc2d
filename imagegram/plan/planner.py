"""The flow of a run, walked without running it.

    forecast = foresee(exp, flow, store=store, workers=2, memory_bytes=8 * 10**9)
    forecast.disk_bytes, forecast.seconds

The flow of ``run.py`` is called with a :class:`Planner` in place of the run. Digests follow from
what was asked for and not from results, so the planner knows of every stage whether it is cached,
up to the last one; for those that are not it foresees counts, bytes and seconds (``costs.py``).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, cast

from imagegram.experiment import Experiment
from imagegram.generators.ngram.model import ENGINES_WITH_ORDERS
from imagegram.indexes.build.stage import BuildIndex
from imagegram.plan import costs, evaluation
from imagegram.plan.corpus import PlannedCorpus
from imagegram.plan.costs import Cost, Surroundings
from imagegram.plan.forecast import Forecast, StageForecast
from imagegram.plan.rates import Rates
from imagegram.protocols import Corpus
from imagegram.report.pairs import FindPairs
from imagegram.stages.evaluate import Evaluate
from imagegram.stages.prefix import Prefix
from imagegram.stages.tokenize import Tokenize
from imagegram.stages.tokens import TokenSet, TokenShard
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import Artifact
from imagegram.store.parts import open_parts
from imagegram.store.stage import Stage

#: Kinds of image sets.
_IMAGES: Final = ("samples", "replay", "images")
#: Kinds of tokenizers that got their weights.
_FITTED: Final = ("tokenizer", "weights")
Flow = Callable[[Experiment, Any], None]

#: Tokens are counted with the tokenizer at hand, so that cost and handle come together.
_COSTS: Mapping[str, Callable[[Any, Surroundings], Cost]] = {
    "split": costs.split_cost,
    "index": costs.index_cost,
    "samples": costs.images_cost,
    "replay": costs.images_cost,
    "images": costs.images_cost,
    "evaluation": evaluation.evaluation_cost,
}


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
    """Walk the flow of an experiment and say what it will cost.

    Args:
        exp: what would be run.
        flow: calls its second argument with (name, stage) as it would call a run.
        store: what is there already.
        workers: of the run.
        memory_bytes: that it may spend.
        rates: seconds a unit; None: those that the store tells.
        max_counted: records to count in tar headers; None: all.
        hashes: read shards that were never hashed, to know whether they are cached.

    Raises:
        CorpusError: when shards are missing.
        ArtifactError: when what is there is damaged.
    """
    corpus = PlannedCorpus.of(exp.corpus, max_counted=max_counted, hashes=hashes)
    # A frozen dataclass has no settable name, which the protocol's own name would be.
    exp = dataclasses.replace(exp, corpus=cast(Corpus, corpus))
    at = Surroundings(
        store=store,
        rates=rates or Rates(store),
        workers=workers,
        memory_bytes=memory_bytes,
        image_size=exp.output_size or exp.tokenizer.image_size,
    )
    planner = Planner(exp, at)
    with contextlib.suppress(_EndOfPlanError):
        flow(exp, planner)
    return Forecast(
        stages=tuple(planner.stages),
        num_estimated=corpus.num_estimated,
        num_unknown=corpus.num_unknown,
    )


class _EndOfPlanError(Exception):
    """Raised at the first stage after the last requested one."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Stands for the handle of a model, of images or of scores: only their identity is asked.

    Attributes:
        artifact: found or expected.
        scores: none, as nothing was measured.
        shards: of a model that is not there yet: its index shards.
    """

    artifact: Artifact
    shards: tuple[Artifact, ...] = ()
    scores: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """Of an image set."""
        return int(self.artifact.facts["num_images"])

    def identity(self) -> str:
        """kind/digest of the artifact."""
        return self.artifact.identity()


@dataclass(frozen=True, kw_only=True)
class ExpectedTokens(TokenSet):
    """A token set that is not there yet, though some of its shards may be.

    Attributes:
        expected: its shards.
    """

    expected: tuple[TokenShard, ...]

    @cached_property
    def shards(self) -> tuple[TokenShard, ...]:
        """Found or expected."""
        return self.expected


class Planner:
    """Takes the place of a run in the flow; see the module.

    Attributes:
        stages: what was foreseen so far.
    """

    def __init__(self, exp: Experiment, at: Surroundings) -> None:
        self.stages: list[StageForecast] = []
        self._at = at
        self._exp = exp
        self._engine = getattr(exp.generator, "engine", None)

    def __call__(self, name: str, stage: Stage[Any]) -> Any:
        """Foresee one stage; returns what stands for its handle."""
        if self._exp.ends_before(stage.group):
            raise _EndOfPlanError
        if (artifact := self._at.find(stage)) is not None:
            self._record(name, artifact, _found(stage, artifact))
        elif isinstance(stage, Tokenize | Prefix):
            return self._tokens(name, stage)
        elif stage.kind in _FITTED:
            # Until it has its weights, a tokenizer is known by its recipe: nothing after it is
            # cached, as nothing could be.
            cost = costs.fit_cost(stage, self._at)
            self._record(name, self._at.expect(stage, cost.facts), cost)
            return stage.tokenizer  # type: ignore[attr-defined]
        else:
            self._orders(stage)
            cost = _COSTS[stage.kind](stage, self._at)
            artifact = self._record(name, self._at.expect(stage, cost.facts), cost)
            if isinstance(stage, BuildIndex):
                return Expected(artifact=artifact, shards=costs.index_parts(stage, self._at))
        # Loading an index would open every shard, loading tokens would judge their failures.
        if isinstance(stage, Tokenize):
            return TokenSet(artifact=artifact, images=stage.images)
        if costs.is_made(artifact) and stage.kind in (*_IMAGES, *_FITTED, "tokens"):
            return stage.load(artifact)
        return stage.load(artifact) if stage.kind == "split" else Expected(artifact=artifact)

    def _tokens(self, name: str, stage: Tokenize | Prefix) -> ExpectedTokens:
        """Foresee a token set."""
        if isinstance(stage, Tokenize):
            images, shards = stage.images, costs.token_shards(stage, self._at)
            cost = costs.tokens_cost(stage, shards, self._at)
        else:
            images, shards = stage.tokens.images, costs.prefix_shards(stage, self._at)
            cost = costs.prefix_cost(stage, shards, self._at)
        artifact = self._record(name, self._at.expect(stage, cost.facts), cost)
        return ExpectedTokens(artifact=artifact, images=images, expected=shards)

    def adopt(self, exp: Experiment) -> None:
        """Go on with the tokenizer that was fitted."""
        self._exp = exp

    def config(self, values: Any) -> None:
        """Nothing is logged."""

    def collect(self, handle: Any, name: str) -> None:
        """Nothing is collected: hard links cost nothing."""

    def score(self, scores: Any) -> None:
        """Nothing was measured."""

    def report(self, scores: Any, *, generated: Any, tokens: Any) -> None:
        """Foresee the run folder."""
        pairs = FindPairs(
            evaluation=scores, generated=generated, tokens=tokens, tokenizer=self._exp.tokenizer
        )
        self._record("report", None, evaluation.report_cost(pairs, self._at))

    def _orders(self, stage: Any) -> None:
        """Side files that a missing set of images will ask for, unless they are foreseen already.

        As ``FittedNgram.prepared`` does it.
        """
        if stage.kind not in ("samples", "replay") or self._engine not in ENGINES_WITH_ORDERS:
            return
        from imagegram.generators.ngram.native import wanted_order  # numba, as what it is asked for

        model = stage.model
        shards = open_parts(model.artifact) if costs.is_made(model.artifact) else model.shards
        filled = [shard for shard in shards if shard.facts["num_documents"]]
        wanted = wanted_order(stage.sampler, len(filled))
        if wanted is None or f"{wanted} orders" in {row.name for row in self.stages}:
            return
        cost = costs.orders_cost(filled, wanted == "aligned", self._at)
        if cost.cached < cost.parts:
            self._record(f"{wanted} orders", None, cost)

    def _record(self, name: str, artifact: Artifact | None, cost: Cost) -> Any:
        values = {
            field.name: getattr(cost, field.name)
            for field in dataclasses.fields(cost)
            if field.name != "facts"
        }
        digest = "" if artifact is None else artifact.digest
        self.stages.append(StageForecast(name=name, digest=digest, **values))
        return artifact


def _found(stage: Stage[Any], artifact: Artifact) -> Cost:
    """A cached stage: counts, and nothing to pay."""
    facts = artifact.facts
    parts = facts.get("num_shards", 1)
    if isinstance(stage, Evaluate):
        parts = len(stage.metrics) * len(stage.sets)
    images, tokens = 0, 0
    if stage.kind == "split":
        images = facts["num_scanned"]
    elif stage.kind == "tokens":
        images = facts["num_documents"]
        tokens = facts["num_tokens"] + images + facts["num_shards"]
    elif stage.kind == "index":
        images, tokens = facts["num_documents"], facts["num_tokens"]
    elif stage.kind in _IMAGES:
        images, tokens = facts["num_images"], facts["num_images"] * facts["num_tokens"]
    elif isinstance(stage, Evaluate):
        images = sum(costs.num_images(images) for images in stage.sets.values())
    return Cost(facts=facts, cached=parts, parts=parts, images=images, tokens=tokens)
