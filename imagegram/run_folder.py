"""Run: one run folder, its records, and the only magic of the flow, ``run(name, stage)``.

``run`` fingerprints a stage, finds its artifact or makes it, tells callbacks and loggers, and
returns the typed handle. What it writes is a contract for scripts: see ``docs/formats.md``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from imagegram.errors import ImagegramError
from imagegram.executors.context import RunContext
from imagegram.executors.interrupts import interruptions
from imagegram.executors.progress import RichProgress, SilentProgress
from imagegram.experiment import EndOfFlowError, Experiment, build_executor, describe
from imagegram.loggers.headline import dashboard
from imagegram.loggers.jsonl import JsonlLogger
from imagegram.loggers.mirror import Mirror
from imagegram.loggers.names import running_names
from imagegram.numerals import reasons_text
from imagegram.protocols import Corpus, ImageSet, Index
from imagegram.records import ScoreInfo
from imagegram.report.answer import Answer, Wording, answer_of
from imagegram.report.page import REPORT, ReportInputs, write_report
from imagegram.report.pairs import FindPairs, PairList
from imagegram.report.provenance import TraceProvenance
from imagegram.schema import STAGES
from imagegram.stages.evaluate import SCORES, Evaluation
from imagegram.stages.reference_sets import too_few_held_out
from imagegram.stages.split import Split
from imagegram.stages.tokens import TokenSet
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import short_facts
from imagegram.store.parts import copy_file
from imagegram.store.run_files import SUMMARY, point_latest, write_summary
from imagegram.store.snapshot import Watched
from imagegram.store.stage import Ready, Stage

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """Record of a stage.

    Attributes:
        hit: found, not made.
        digest, path: of its artifact.
        duration_s: seconds in this run.
        cpu_s, memory_bytes: of the manifest, if made: processor seconds, peak without mapped files.
        disk_bytes: written in this run: its artifact, its parts, and what was made on the way.
    """

    hit: bool
    digest: str
    duration_s: float
    cpu_s: float
    memory_bytes: int
    disk_bytes: int
    path: str


class Run:
    """An open run folder; use as a context manager.

    Attributes:
        folder: path of the run folder.
        exp, cfg: experiment, and the configuration it was built from.
        context: store, executor and progress of the stages.
        records: records by stage name, in order.
        scores, infos: scores by name, and their descriptions; filled by :meth:`score`.
        counted: counts of the corpus and the index, filled by :meth:`config`.
        skipped: number of records that are in no part of the corpus, by reason.
        answer: answer that the report begins with; None before :meth:`report`.
        status, error, notes: as in ``summary.json``.
        mirror: configured loggers, from the entry on.
    """

    def __init__(self, cfg: DictConfig, exp: Experiment, folder: Path) -> None:
        self.cfg = cfg
        self.exp = exp
        self.folder = folder
        self.records: dict[str, StageRecord] = {}
        self.scores: dict[str, Any] = {}
        self.infos: dict[str, ScoreInfo] = {}
        self.counted: dict[str, Any] = {}
        self.skipped: dict[str, int] = {}
        self.answer: Answer | None = None
        self._watched = Watched()
        self.status = "running"
        self.error: str | None = None
        self.notes: list[str] = []
        self.callbacks = list(exp.callbacks)
        self.console = Console(stderr=True, highlight=False)
        self._jsonl = JsonlLogger(folder / "metrics.jsonl")
        self._progress = RichProgress() if cfg.runtime.progress else SilentProgress()
        self._outputs = Path(cfg.paths.outputs).absolute()
        self.context = RunContext(
            store=ArtifactStore(root=self._outputs / "artifacts"),
            executor=build_executor(cfg),
            progress=self._progress,
            memory_gb=cfg.runtime.memory_gb,
            curves=self._log_curves,
            previews=self._show_training,
        )

    def __enter__(self) -> Self:
        """Write ``status: running`` first, so that a killed run never looks finished."""
        self._write_summary()
        interruptions.record = self._record_interruption
        self.mirror = Mirror(self.cfg.logger, names=running_names(self.folder), say=self.note)
        values: Any = OmegaConf.to_container(self.cfg, resolve=True)
        self.mirror.config(values)
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Record how the run ended, in files, loggers and on the console; update ``latest``."""
        interruptions.closing.set()
        self._progress.__exit__(kind, error, trace)
        early = kind is EndOfFlowError
        self._end(None if early else error)
        for change in self._watched.changes():
            self.console.print(f"ATTENTION: {change}", soft_wrap=True, markup=False)
        try:
            self._write_summary()
            self._jsonl.log("run", status=self.status, error=self.error)
        except OSError as full:  # the disk that failed the stage: its message is the one to show
            if error is None:
                raise
            self.console.print(f"{self.folder / SUMMARY} was not updated: {full.strerror}")
        told = len(self.notes)
        self._tell_callbacks("on_run_end")
        for line in self.mirror.finish("success" if self.status == "completed" else "failed"):
            self.console.print(line, soft_wrap=True)
        try:
            point_latest(self._outputs, self.folder)
        except OSError as other:
            self.note(f"{self._outputs / 'latest'} was not updated: {other.strerror or other}")
        if len(self.notes) > told:
            with contextlib.suppress(OSError):  # the full disk of before
                self._write_summary()
        interruptions.forget()
        return early

    def _end(self, error: BaseException | None) -> None:
        """Set status and error: a signal ended the run, whatever a library made of it."""
        ended = interruptions.error or error
        if ended is None:
            self.status, self.error = "completed", None
        elif isinstance(ended, KeyboardInterrupt):
            self.status, self.error = "interrupted", str(ended) or "interrupted"
        else:
            self.status, self.error = "failed", f"{type(ended).__name__}: {ended}"

    def _record_interruption(self) -> None:
        """Record that the process is about to end, from another thread than the run's."""
        self._end(None)
        self._write_summary()

    def note(self, sentence: str) -> None:
        """Say a sentence on the console, and keep it in ``summary.json``."""
        self.notes.append(sentence)
        self.console.print(sentence, style="yellow", markup=False, soft_wrap=True)

    def _tell_callbacks(self, hook: str, *values: Any, optional: bool = False) -> None:
        """Call a hook of every callback that has it; one that fails is left out from then on.

        A callback watches: what it cannot do must not end hours of computing.
        """
        for callback in list(self.callbacks):
            if optional and not hasattr(callback, hook):
                continue
            try:
                getattr(callback, hook)(self, *values)
            except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
                self.callbacks.remove(callback)
                self.note(
                    f"callback {type(callback).__name__} failed in {hook}, and the run goes on "
                    f"without it: {type(error).__name__}: {error}"
                )

    def __call__(self, name: str, stage: Stage[T] | Ready[T]) -> T:
        """Return the handle of ``stage``, after making its artifact if that is missing.

        The value of a ready stage is returned without a record.

        Raises:
            ImagegramError: when the stage was left out of ``stages`` and is not cached.
        """
        if isinstance(stage, Ready):
            return stage.value
        group = stage.group
        self.exp.require(group)
        self._tell_callbacks("on_stage_start", name)
        if group not in self.exp.stages and self.context.store.find(stage) is None:
            raise ImagegramError(
                f"stage {name} is not cached, stages=[{','.join(self.exp.stages)}] leaves it out; "
                f"run it once with stages=[{','.join(STAGES[: STAGES.index(group) + 1])}]"
            )
        started, before = time.perf_counter(), self.context.made.bytes
        artifact, hit = self.context.find_or_make(stage)
        handle = stage.load(artifact)
        made = artifact.manifest
        record = StageRecord(
            hit=hit,
            digest=artifact.digest,
            duration_s=round(time.perf_counter() - started, 3),
            cpu_s=0.0 if hit else made.cpu_s,
            memory_bytes=0 if hit else made.memory_bytes,
            disk_bytes=self.context.made.bytes - before,
            path=str(artifact.path),
        )
        self.records[name] = record
        self._write_summary()  # from now on tools.gc sees that the artifact is in use
        self._jsonl.log("stage", name=name, **dataclasses.asdict(record))
        self.console.print(
            f"{name:<17} {'cached' if hit else 'made  '} {artifact.digest} "
            f"{record.duration_s:8.2f} s  {short_facts(artifact.facts)}",
            soft_wrap=True,
        )
        self._tell_callbacks("on_stage_end", name, handle)
        return handle

    def adopt(self, exp: Experiment) -> None:
        """Continue with an experiment whose tokenizer is fitted."""
        self.exp = exp

    def _log_curves(self, values: Mapping[str, float], step: int) -> None:
        """Write points of curves to metrics.jsonl and every logger, while a stage is made."""
        self._jsonl.log("curve", step=step, **values)
        self.mirror.scalars(values, step=step)

    def _show_training(self, opens: Callable[[], Any], step: int) -> None:
        """Offer a component in training to the callbacks that have ``on_training_state``."""
        self._tell_callbacks("on_training_state", opens, step, optional=True)

    def watch(self, corpus: Corpus) -> None:
        """Show what was found of a corpus; at the end, what changed of it meanwhile.

        Raises:
            CorpusError: when it is missing.
        """
        self.console.print(self._watched.add(corpus), soft_wrap=True, markup=False)

    def config(self, values: Mapping[str, Any]) -> None:
        """Record what was counted, as ``group.name``, in summary.json and every logger."""
        self.counted |= values
        self.mirror.config(values)

    def skip(self, counts: Mapping[str, int]) -> None:
        """Record how many records of the corpus are in none of its parts, by reason."""
        self.skipped = dict(counts)

    def collect(self, handle: Any, name: str) -> None:
        """Copy an artifact's files into the run folder, as ``name/``: there they may be edited."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(
            handle.artifact.path,
            target,
            copy_function=copy_file,
            ignore=lambda *_: {"manifest.json"},
        )

    def score(self, evaluation: Evaluation) -> None:
        """Record the scores: summary.json, metrics.jsonl and every logger hold the same numbers.

        ``scores.csv`` and ``scores.json`` also have the scores of the planted sets.
        """
        for name, score in evaluation.scores.items():
            values = dataclasses.asdict(score)
            self.scores[name] = values
            self._jsonl.log("score", name=name, **values)
        evaluation.write_csv(self.folder / "scores.csv")
        copy_file(evaluation.artifact.path / SCORES, self.folder / SCORES)
        for reason in evaluation.skipped.values():
            self.console.print(f"left out: {reason}", soft_wrap=True)
        self.infos = evaluation.infos
        numbers = dashboard(
            self.scores,
            infos=self.infos,
            recipes=evaluation.recipes,
            intervals=evaluation.record["intervals"],
        )
        self.mirror.scalars(numbers)

    def report(
        self,
        evaluation: Evaluation,
        *,
        generated: ImageSet,
        tokens: TokenSet,
        index: Index,
        wording: Wording | None = None,
    ) -> PairList:
        """Write ``report.html``, link its pairs into the run folder, and return them.

        Args:
            evaluation: scores of all metrics.
            generated: measured image set.
            tokens: training documents.
            index: index of the training documents.
            wording: texts of the page; None: those of an experiment.
        """
        exp = self.exp
        shared: dict[str, Any] = {"generated": generated, "tokens": tokens}
        shared |= {"tokenizer": exp.tokenizer}
        pairs = self.context.make(FindPairs(evaluation=evaluation, **shared))
        self.collect(pairs, "pairs")
        provenance = self.context.make(
            TraceProvenance(
                pairs=pairs,
                index=index,
                near_duplicate_rms=exp.corpus.near_duplicate_limit,
                **shared,
            )
        )
        wording = wording or describe(exp, tokens)
        split = self.context.make(Split(corpus=exp.corpus))
        if said := too_few_held_out(split, evaluation.sizes):
            wording = dataclasses.replace(wording, warnings=(said, *wording.warnings))
        self.answer = answer_of(
            evaluation,
            wording=wording,
            modality=exp.corpus.modality,
            pairs=pairs.pairs,
            traced=provenance.samples,
        )
        inputs = ReportInputs(
            wording=wording,
            answer=self.answer,
            config_yaml=OmegaConf.to_yaml(self.cfg, resolve=True),
            scores=evaluation.scores,
            values=evaluation.values,
            intervals=evaluation.intervals,
            curves=evaluation.curves,
            generated=generated,
            pairs=pairs.pairs,
            traced=provenance.samples,
            tokenizer=exp.tokenizer,
            stages={name: dataclasses.asdict(record) for name, record in self.records.items()},
            artifacts=(pairs.artifact, provenance.artifact),
            infos=evaluation.infos,
            notes=evaluation.notes,
            recipes=evaluation.recipes,
            skipped=evaluation.skipped,
        )
        write_report(self.folder, inputs)
        return pairs

    def say(self, *, is_told: bool = False) -> None:
        """End the console with the answer: a few numbers, what was found, the report's path.

        Args:
            is_told: its sentences were printed before.
        """
        lines = []
        if self.answer is not None:
            lines = ["", *self.answer.table()]
            lines += self.answer.warnings if is_told else self.answer.sentences
        lines += [f"skipped: {reasons_text(self.skipped)}"] if self.skipped else []
        lines += [f"report: {self.folder / REPORT}"] if self.answer is not None else []
        for line in lines:
            self.console.print(line, soft_wrap=True, markup=False)

    def _write_summary(self) -> None:
        write_summary(
            self.folder,
            status=self.status,
            seed=self.exp.seed,
            scores=self.scores,
            config=self.counted,
            **({"skipped": self.skipped} if self.skipped else {}),
            input=self._watched.records,
            stages={name: dataclasses.asdict(record) for name, record in self.records.items()},
            notes=self.notes,
            error=self.error,
        )
