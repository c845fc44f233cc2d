"""From a composed configuration to frozen components: no files, no weights, no work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from imagegram import schema, words
from imagegram.conditions.captions import DrawnCaptions
from imagegram.conditions.excerpts import DrawnExcerpts
from imagegram.conditions.prompt import PromptCondition
from imagegram.errors import ConfigError, ImagegramError, did_you_mean
from imagegram.indexes.build.stage import Indexing
from imagegram.numerals import reasons_text
from imagegram.protocols import (
    Callback,
    Condition,
    Corpus,
    Generator,
    ImageSet,
    Index,
    Metric,
    Sampler,
    Tokenizer,
)
from imagegram.report.answer import Wording
from imagegram.schema import STAGES
from imagegram.seeding import check_counts
from imagegram.stages.evaluate import Evaluation
from imagegram.stages.planted import parse_recipe
from imagegram.stages.tokens import TokenSet
from imagegram.store.stage import Executor, Makes


class EndOfFlowError(Exception):
    """Raised at the first stage after the last requested group; ends a flow without failure."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All that decides the result, and callbacks.

    Attributes:
        corpus, tokenizer, generator, sampler: the four axes.
        condition: requested property of each sample; None: unconditional.
        index: options of the index of the training tokens.
        metrics: metrics in the order of the configuration.
        num_samples: number of generated images, and of images in floors and ceilings.
        planted: recipes of image sets with known copying, measured beside them.
        seed: 0 ... 2**64 - 1.
        output_size: side of decoded images in pixels; None: the tokenizer's finest level.
        stages: groups of stages to run.
        callbacks: hooks around the stages.
        train_corpus: corpus that a learned tokenizer is trained on; None: ``corpus``.
        auditor: tokenizer whose index audits what was written too; None: tokens only.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    index: Indexing
    generator: Generator
    sampler: Sampler
    condition: Condition | None
    metrics: tuple[Metric, ...]
    num_samples: int
    planted: tuple[str, ...]
    seed: int
    output_size: int | None
    stages: tuple[str, ...]
    callbacks: tuple[Callback, ...]
    train_corpus: Corpus | None = None
    auditor: Tokenizer | None = None

    @property
    def corpora(self) -> tuple[Corpus, ...]:
        """The corpora that are read."""
        if self.train_corpus is None or self.train_corpus is self.corpus:
            return (self.corpus,)
        return (self.corpus, self.train_corpus)

    def require(self, group: str) -> None:
        """End the flow before the first group of stages after the last requested one.

        Raises:
            EndOfFlowError: for such a group.
            ConfigError: for a group that the flow does not have.
        """
        if group not in STAGES:
            raise ConfigError(f"a stage says group {group!r}; {did_you_mean(group, STAGES)}")
        if STAGES.index(group) > max(map(STAGES.index, self.stages)):
            raise EndOfFlowError


class Runner(Makes, Protocol):
    """Caller of a flow: the run folder, which makes its stages, or a plan, which foresees them."""

    def adopt(self, exp: Experiment) -> None:
        """Continue with an experiment whose tokenizer is fitted."""

    def watch(self, corpus: Corpus) -> None:
        """Show what was found of a corpus; at the end, what changed of it meanwhile."""

    def config(self, values: Mapping[str, Any]) -> None:
        """Record counts, as ``group.name``."""

    def skip(self, counts: Mapping[str, int]) -> None:
        """Record how many records of the corpus are in none of its parts, by reason."""

    def collect(self, handle: Any, name: str) -> None:
        """Link the files of an artifact into the run folder."""

    def score(self, evaluation: Evaluation) -> None:
        """Record the scores."""

    def report(
        self, evaluation: Evaluation, *, generated: ImageSet, tokens: TokenSet, index: Index
    ) -> Any:
        """Write the report of the run."""


def describe(exp: Experiment, tokens: TokenSet) -> Wording:
    """Return what the report of an experiment says of it: its title, and its components."""
    modality = exp.corpus.modality
    names = (exp.corpus.name, exp.tokenizer.name, exp.generator.name, exp.sampler.name)
    facts = [
        ("corpus", f"{exp.corpus.name}, {tokens.num_documents:,} training {modality.nouns}"),
        ("tokenizer", f"{exp.tokenizer.name}, {exp.tokenizer.spec.length:,} tokens a sample"),
        *([("skipped", reasons_text(tokens.skipped))] if tokens.skipped else []),
        ("generator", exp.generator.name),
        ("sampler", exp.sampler.name),
        *([] if exp.condition is None else [("condition", _asked(exp.condition))]),
        *([] if exp.auditor is None else [("auditor", exp.auditor.name)]),
        ("samples", f"{exp.num_samples:,}"),
        ("seed", str(exp.seed)),
    ]
    return Wording(title=" × ".join(names), facts=facts)  # noqa: RUF001


def _asked(condition: Condition) -> str:
    """Return what a report says of a condition."""
    if isinstance(condition, DrawnCaptions):
        part = condition.condition.captions.replace("_", "-")
        return f"{condition.name}: captions of {part} images"
    if isinstance(condition, DrawnExcerpts):
        of = condition.condition
        return (
            f"{condition.name}: samples continue the first {of.length:,} tokens of "
            f"{of.documents.replace('_', '-')} documents, which are part of their scores"
        )
    if isinstance(condition, PromptCondition):
        return f"{condition.name}: the given tokens are part of the samples and of their scores"
    return condition.name


def build(cfg: DictConfig) -> Experiment:
    """Instantiate all components of ``cfg``, and check values that concern several of them.

    Raises:
        ConfigError: for a value that no experiment can have, with what to type instead.
    """
    check_counts(cfg.num_samples, cfg.seed)
    words.refuse_empty_places(cfg)
    for stage in cfg.stages:
        if stage not in STAGES:
            raise ConfigError(f"stages: unknown stage {stage!r}; {did_you_mean(stage, STAGES)}")
    if not cfg.stages:
        raise ConfigError(f"stages: nothing to do; name some of [{','.join(STAGES)}]")
    if cfg.output_size is not None and cfg.output_size < 1:
        raise ConfigError(
            f"output_size must be at least 1 pixel, received {cfg.output_size}; type output_size="
            "null for the tokenizer's finest level"
        )
    for recipe in cfg.planted:
        parse_recipe(recipe)
    _check_outputs_outside(cfg)
    tokenizer, sampler = _component(cfg.tokenizer), _component(cfg.sampler)
    generator, corpus = _component(cfg.generator), _component(cfg.corpus)
    train_corpus = None
    if cfg.train_corpus is not None:
        # One object is listed once: the tokenizer is trained on the files that are tokenized.
        same = cfg.train_corpus == cfg.corpus
        train_corpus = corpus if same else _component(cfg.train_corpus)
    _check_modality(corpus, tokenizer)
    auditor = _component(cfg.auditor) if cfg.auditor else None
    if auditor is not None and auditor.modality != corpus.modality:
        raise ConfigError(
            f"auditor={auditor.name} reads {auditor.modality.nouns}, but corpus={corpus.name} "
            f"holds {corpus.modality.nouns}; type auditor=none, or modality=text"
        )
    condition = _component(cfg.condition) if cfg.condition else None
    # Refused now, not after hours of indexing.
    generator.check(sampler, tokenizer.spec.layout, condition)
    if hasattr(generator, "check_tokenizer"):
        generator.check_tokenizer(tokenizer)
    return Experiment(
        corpus=corpus,
        train_corpus=train_corpus,
        auditor=auditor,
        tokenizer=tokenizer,
        index=_component(cfg.index),
        generator=generator,
        sampler=sampler,
        condition=condition,
        metrics=tuple(_component(node) for node in cfg.metric.values()),
        num_samples=cfg.num_samples,
        planted=tuple(cfg.planted),
        seed=cfg.seed,
        output_size=cfg.output_size,
        stages=tuple(cfg.stages),
        callbacks=tuple(_component(node) for node in cfg.callback.values()),
    )


def check_machine(exp: Experiment) -> None:
    """Refuse now what a requested stage would miss later: a device, a package, a file.

    A component that needs more than this package says so in a method ``check_machine()``; it may
    be a part of another one, as the encoder is of a metric. A plan does not ask: it may be for
    another machine.

    Raises:
        ConfigError, MissingDependencyError: saying what to type instead.
    """
    _check_compiler()
    components: list[Any] = [exp.corpus, exp.train_corpus, exp.tokenizer]
    last = max(map(STAGES.index, exp.stages))
    components += [exp.index] if last >= STAGES.index("index") else []
    components += [exp.generator] if last >= STAGES.index("fit") else []
    components += [exp.auditor, *exp.metrics] if last >= STAGES.index("evaluate") else []
    for part in components:
        _check_part(part)


def check_documents(exp: Experiment, tokens: TokenSet) -> None:
    """Refuse samples that no training document can teach, before a training begins.

    A generator may have a method ``check_documents(tokens, condition)``. A plan asks too, where
    the documents are there.

    Raises:
        ConfigError: saying what to type instead.
    """
    is_asked = max(map(STAGES.index, exp.stages)) >= STAGES.index("generate")
    if is_asked and tokens.artifact.is_made and isinstance(exp.condition, PromptCondition):
        exp.condition.encoded(exp.tokenizer)  # refuses prompts that do not fit
    if is_asked and isinstance(exp.condition, DrawnExcerpts):
        exp.condition.check(most=exp.tokenizer.spec.length - 1)
        rows: Any = exp.condition.rows
        if getattr(rows, "tokens", rows).artifact.is_made:
            _ = exp.condition.chosen  # refuses documents that are too short
    if is_asked and isinstance(exp.condition, DrawnCaptions):
        documents: Any = exp.condition.documents
        if documents.artifact.is_made:
            _ = exp.condition.order  # refuses a corpus without captions
    if is_asked and tokens.artifact.is_made and hasattr(exp.generator, "check_documents"):
        exp.generator.check_documents(tokens, exp.condition)


def _check_compiler() -> None:
    """Refuse to go on where compilation is switched off: some kernels have no slow form.

    The variable is read here, because a run that finds everything cached does not import numba.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise ConfigError(
            "NUMBA_DISABLE_JIT is set, so kernels cannot be compiled; type: unset NUMBA_DISABLE_JIT"
        )


def _check_part(part: Any) -> None:
    if hasattr(part, "check_machine"):
        part.check_machine()
    if is_dataclass(part) and not isinstance(part, type):
        for field in fields(part):
            _check_part(getattr(part, field.name))


def _check_modality(corpus: Corpus, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer of images for texts, and the other way round."""
    if corpus.modality == tokenizer.modality:
        return
    raise ConfigError(
        f"corpus={corpus.name} holds {corpus.modality.nouns}, but tokenizer={tokenizer.name} reads "
        f"{tokenizer.modality.nouns}; type for example corpus=demo tokenizer=pyramid3, or "
        "modality=text, which brings corpus=demo_text tokenizer=bpe"
    )


def _check_outputs_outside(cfg: DictConfig) -> None:
    """Refuse an outputs folder inside the corpus, which would then contain generated images."""
    images, outputs = cfg.corpus.get("path"), Path(cfg.paths.outputs)
    if images is not None and outputs.resolve().is_relative_to(Path(images).resolve()):
        raise ConfigError(
            f"paths.outputs={outputs} lies inside corpus.path={images}, so the next run would take "
            "generated pictures for training images; give another folder: paths.outputs=FOLDER"
        )


def build_executor(cfg: DictConfig) -> Executor:
    """Build what works on the shards of stages.

    Raises:
        ConfigError: for settings that cannot be, or ``runtime.workers`` below 1.
    """
    num_workers(cfg)
    executor: Executor = _component(cfg.executor)
    return executor


def num_workers(cfg: DictConfig) -> int:
    """Return the number of processes or threads: ``runtime.workers``, or all cores.

    Raises:
        ConfigError: when it is below 1.
    """
    workers = cfg.runtime.workers
    if workers is not None and workers < 1:
        raise ConfigError(
            f"runtime.workers={workers} must be at least 1; type runtime.workers=1, or "
            "runtime.workers=null for all cores"
        )
    return schema.count_workers(workers)


def _component(node: DictConfig) -> Any:
    """Instantiate one node; errors keep the component's message, without Hydra's wrapping."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ImagegramError):
            raise error.__cause__ from None
        raise ConfigError(f"{node.get('_target_')}: {error.__cause__ or error}") from error
    except MissingMandatoryValue as error:
        missing = ", ".join(f"{key}=VALUE" for key in sorted(OmegaConf.missing_keys(node)))
        raise ConfigError(
            f"{node.get('_target_')}: a value has no default; give {missing}"
        ) from error
