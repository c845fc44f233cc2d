"""InterpolatedGenerator: a weighted mean of the probabilities of two generators.

``python -m imagegram.run modality=text generator=interpolated``: a Kneser-Ney n-gram, which knows
the names and the phrases of its corpus, and a transformer, which knows more of what came before.

    p(x) = w p_first(x) + (1 - w) p_second(x)

The weight is learned on validation documents (``stages/validation.py``), which neither component
has seen then. Afterwards what only counts is given all training documents.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.prompt import without_prompt
from imagegram.errors import ConfigError
from imagegram.generators.mixture.weights import learn_weights, mixed_log_probs
from imagegram.generators.scored import ScoredModel
from imagegram.indexes.build.stage import BuildIndex, Indexing
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Generator, Index, Sampler, Scores
from imagegram.records import Tokens, Trace, row_sizes
from imagegram.samplers.kinds import check_label, require_kind
from imagegram.samplers.sequential import SequentialSampler
from imagegram.stages.tokens import TokenSet
from imagegram.stages.validation import TakePart, check_fraction, parts_of
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.manifest import Artifact
from imagegram.store.parts import open_parts, write_parts
from imagegram.store.stage import Context, Progress, Ready, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from imagegram.generators.stepping import NextLogits

#: File of the learned weights.
WEIGHTS: Final = "weights.json"
#: Most validation windows that weights are learned on.
_MOST_ROWS: Final = 4096


@dataclass(frozen=True, kw_only=True)
class InterpolatedGenerator:
    """A mixture of two generators that tell the probability of every next token.

    Attributes:
        name: name of the configuration file.
        first, second: the generators, files of the group ``generator``.
        validation_fraction: share of the training documents that the weight is learned on; a
            component that trains is not trained on them either.
        weight: weight of ``first``, 0 ... 1; None: learned.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="interpolated", metadata=NOT_IDENTITY)
    first: Any
    second: Any
    validation_fraction: float = 0.02
    weight: float | None = None

    def __post_init__(self) -> None:
        """Refuse impossible settings; let components that train leave the same documents out."""
        setting = "generator.validation_fraction"
        check_fraction(self.validation_fraction, setting=setting)
        if not self.validation_fraction and self.weight is None:
            raise ConfigError(
                f"{setting}=0 leaves no documents to learn the weight on; type {setting}=0.02, or "
                "generator.weight=0.5"
            )
        if self.weight is not None and not 0.0 <= self.weight <= 1.0:
            raise ConfigError(
                f"generator.weight={self.weight} must be a share, 0 ... 1, of generator.first; "
                "type generator.weight=null to learn it"
            )
        for name in ("first", "second"):
            component = getattr(self, name)
            if hasattr(component, "validation_fraction"):
                fraction = self.validation_fraction
                component = dataclasses.replace(component, validation_fraction=fraction)
                object.__setattr__(self, name, component)

    @property
    def components(self) -> tuple[Generator, Generator]:
        """Both generators."""
        return self.first, self.second

    def check_machine(self) -> None:
        """Refuse what a component would miss."""
        for component in self.components:
            if hasattr(component, "check_machine"):
                component.check_machine()

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse a sampler or components that do not write one token after the other.

        Raises:
            ConfigError: saying what fits.
        """
        own = require_kind(sampler, SequentialSampler, group="sampler", generator=self.name)
        check_label(
            without_prompt(condition), own.guidance, labels=None, has_null=True, generator=self.name
        )
        for name, component in zip(("first", "second"), self.components, strict=True):
            try:
                component.check(sampler, layout, condition)
            except ConfigError as error:
                raise ConfigError(
                    f"generator.{name} cannot be part of a mixture, whose components write one "
                    f"token after the other, without labels: {error}"
                ) from error

    def scores(self, sampler: Sampler) -> bool:
        """Return True: every token has a probability after those before it."""
        return True

    def fit(self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None) -> FitMixture:
        """Return the stage that fits both components and learns the weight."""
        return FitMixture(generator=self, tokens=tokens, index=index)


@dataclass(frozen=True, kw_only=True)
class FitMixture(Stage["MixtureModel"]):
    """The stage that fits both components, and learns the weight on validation documents.

    What only counts is fitted twice: without the validation documents, to learn the weight, and
    then with them.

    Attributes:
        generator: the mixture.
        tokens: training documents.
        index: suffix array over them.
    """

    kind: ClassVar[str] = "generator"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (TakePart, BuildIndex)

    generator: InterpolatedGenerator
    tokens: TokenSet
    index: Index

    def identity(self) -> dict[str, Any]:
        """Return the identity: the fits of both components, and how the weight is learned."""
        fits = [component.fit(self.tokens, index=self.index) for component in self._components]
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "fits": [identity(fit.value if isinstance(fit, Ready) else fit) for fit in fits],
            "tokens": self.tokens.identity(),
            "validation_fraction": self.generator.validation_fraction,
            "weight": self.generator.weight,
            "near_duplicate_limit": self.tokens.near_duplicate_limit,
        }

    @property
    def _components(self) -> tuple[Generator, Generator]:
        return self.generator.components

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Fit, learn, and write ``weights.json``; trained components are named beside it."""
        fits = [component.fit(self.tokens, index=self.index) for component in self._components]
        models = [context.make(fit) for fit in fits]
        trained = [
            model.artifact  # type: ignore[attr-defined]
            for fit, model in zip(fits, models, strict=True)
            if not isinstance(fit, Ready)
        ]
        write_parts(out, kind=self.kind, parts=trained)
        record: dict[str, Any] = {}
        if self.generator.weight is None:
            log_probs_KN = self._log_probs(context, models)
            weights = learn_weights(log_probs_KN)
            alone = -log_probs_KN.mean(axis=1) / math.log(2)
            both = -mixed_log_probs(log_probs_KN, weights).mean() / math.log(2)
            record |= {
                "num_tokens": log_probs_KN.shape[1],
                "val/bits_per_token": float(both),
                "val/bits_per_token_first": float(alone[0]),
                "val/bits_per_token_second": float(alone[1]),
            }
        else:
            weights = np.array([self.generator.weight, 1.0 - self.generator.weight])
        (out / WEIGHTS).write_text(json.dumps(weights.tolist()) + "\n")
        return {"name": self.generator.name, "weight_first": float(weights[0]), **record}

    def _log_probs(self, context: Context, models: list[Any]) -> NDArray[np.float64]:
        """Return (2, N) log-probabilities of the tokens of validation windows."""
        fit, validation = map(
            context.make, parts_of(self.tokens, self.generator.validation_fraction)
        )
        counted = context.make(Indexing(name="validation").build(fit))
        rows = validation.windows()
        count = min(rows.num_documents, _MOST_ROWS)
        tokens_BT = rows.gather(np.arange(count) * rows.num_documents // max(count, 1))
        written_BT = np.arange(tokens_BT.shape[1]) < (row_sizes(tokens_BT) + 1)[:, None]
        # Of documents of any length, rows are windows, which have no places.
        tokenizer = None if self.tokens.document_length is None else self.tokens.tokenizer
        layout = tokenizer.spec.layout if tokenizer else TokenLayout.sequence(tokens_BT.shape[1])
        sampler = SequentialSampler(name="raster", temperature=1.0)
        found = []
        for component, model in zip(self._components, models, strict=True):
            scorer = model
            if not hasattr(component, "validation_fraction"):
                scorer = context.make(component.fit(fit, index=counted))
            assert isinstance(scorer, Scores)
            trace = scorer.score(
                tokens_BT, sampler=sampler, layout=layout, seed=0, workers=context.workers
            )
            found.append(trace["log_prob"][written_BT].astype(np.float64))
        return np.stack(found)

    def load(self, artifact: Artifact) -> MixtureModel:
        """Return the model; components that were trained are opened beside it."""
        trained = iter(open_parts(artifact))
        models = []
        for component in self._components:
            fit = component.fit(self.tokens, index=self.index)
            models.append(fit.value if isinstance(fit, Ready) else fit.load(next(trained)))
        vocab_size = int(self.tokens.artifact.facts["vocab_size"])
        return MixtureModel(artifact=artifact, models=tuple(models), vocab_size=vocab_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureModel(ScoredModel):
    """Two models and their weights.

    Attributes:
        artifact: the learned weights.
        models: fitted components, which implement ``Scores`` and ``generators.stepping.Steps``.
        vocab_size: number of ids of the tokenizer.
    """

    artifact: Artifact
    models: tuple[Any, ...]
    vocab_size: int

    @property
    def name(self) -> str:
        """Name of the generator."""
        return "interpolated"

    @property
    def ends(self) -> bool:
        """Whether samples may end early."""
        return bool(self.models[0].ends)

    def identity(self) -> str:
        """Return kind/digest of the mixture."""
        return self.artifact.identity()

    @property
    def weights(self) -> NDArray[np.float64]:
        """(2,) weights of the components."""
        return np.array(json.loads((self.artifact.path / WEIGHTS).read_text()))

    def prepared(
        self,
        sampler: Sampler,
        context: Context,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> MixtureModel:
        """Return the mixture of prepared components."""
        models = (model.prepared(sampler, context, layout, condition) for model in self.models)
        return dataclasses.replace(self, models=tuple(models))

    def score(
        self,
        tokens_BT: Tokens,
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        condition: Condition | None = None,
        samples: NDArray[np.uint64] | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> Trace:
        """Return ``log_prob`` of given tokens, (B, T) float32; 0 behind the end of a sample."""
        log_probs_KBT = np.stack(
            [
                model.score(
                    tokens_BT,
                    sampler=sampler,
                    layout=layout,
                    seed=seed,
                    condition=condition,
                    samples=samples,
                    progress=progress,
                    workers=workers,
                )["log_prob"].astype(np.float64)
                for model in self.models
            ]
        )
        log_prob_BT = mixed_log_probs(log_probs_KBT, self.weights).astype(np.float32)
        written_BT = np.arange(tokens_BT.shape[1]) < (row_sizes(tokens_BT) + 1)[:, None]
        return {"log_prob": np.where(written_BT, log_prob_BT, np.float32(0.0))}

    def steps(
        self,
        samples: NDArray[np.uint64],
        *,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> NextLogits:
        """Return what tells (B, V) log-probabilities; see :class:`Steps`."""
        import torch

        steppers = [
            model.steps(samples, layout=layout, condition=condition) for model in self.models
        ]
        logs_K11 = torch.from_numpy(self.weights).log()[:, None, None]

        def step(last_B: Tensor | None, number: int) -> Tensor:
            log_p_KBV = torch.stack([stepper(last_B, number) for stepper in steppers])
            return (logs_K11 + log_p_KBV).logsumexp(dim=0)

        return step
