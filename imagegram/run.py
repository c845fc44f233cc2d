"""An experiment: tokenize -> index -> fit -> generate -> evaluate. Read this first.

    python -m imagegram.run                                    the demo
    python -m imagegram.run tokenizer=pyramid5 corpus=cc12m_100
    python -m imagegram.run -m corpus=cc12m_1,cc12m_10 tokenizer=pyramid2,pyramid3
    imagegram.run("tokenizer=pyramid5", "corpus=cc12m_100")    in a notebook

Every stage is an artifact that is found by what it is, or made. Read on in ``experiment.py``
(components from the configuration), ``run_folder.py`` (what ``run(...)`` does) and ``stages/``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from imagegram import schema, words
from imagegram.claims import opened
from imagegram.conditions.drawn import with_documents
from imagegram.conditions.prompt import without_prompt
from imagegram.console import version_line
from imagegram.early_kernels import compiled_early
from imagegram.errors import OF_THE_SYSTEM, ImagegramError, explain_os_error
from imagegram.executors.commands import exit_cleanly, unbroken_pipes
from imagegram.executors.interrupts import interruptible, interruptions
from imagegram.executors.lifetime import end_with_launcher
from imagegram.experiment import Experiment, Runner, build, check_documents, check_machine
from imagegram.finished_run import FinishedRun
from imagegram.notebook import run_words
from imagegram.plan.check import refuse_what_cannot_fit
from imagegram.protocols import Denoises, Index, Model, ReadsCaptions
from imagegram.run_folder import Run
from imagegram.stages.evaluate import Evaluate
from imagegram.stages.generate import Generate
from imagegram.stages.reference_sets import RealImages, reference_sets
from imagegram.stages.select import tokenize
from imagegram.stages.split import Split
from imagegram.stages.surface import EvaluateSurface, Surface
from imagegram.stages.tokens import TokenSet
from imagegram.sweeps.objective import ObjectiveError, check_objective, objective_value
from imagegram.training.launch import rank
from imagegram.training.ranks import connected


class _Notebook(ModuleType):
    """This module, which notebooks call: ``imagegram.run("seed=1")``."""

    def __call__(self, *typed: str) -> FinishedRun:
        """Run the experiment of some words as the shell would; see ``docs/notebook.md``."""
        return run_words(typed, run_experiment)


sys.modules[__name__].__class__ = _Notebook


def run_experiment(cfg: DictConfig, folder: Path) -> Run:
    """Run the experiment of a composed configuration in ``folder``; returns the finished run.

    Raises:
        ImagegramError: for what no experiment can be or do, saying what to type instead.
    """
    with opened(cfg, folder):
        exp = build(cfg)
        check_machine(exp)
        check_objective(cfg.objective, exp.metrics, exp.stages)
        forecast = refuse_what_cannot_fit(cfg, exp, flow)
        kernels = forecast.kernels if forecast else ()
        with Run(cfg, exp, folder) as run, compiled_early(kernels, workers=run.context.workers):
            flow(exp, run)
    return run


def flow(exp: Experiment, run: Runner) -> None:
    """The stages of an experiment; ``run`` makes them, or foresees them (``plan/planner.py``)."""
    for corpus in exp.corpora:
        run.watch(corpus)
    exp = fit_tokenizer(exp, run)
    tokens, holdout, index = index_corpus(exp, run)
    exp = draw_condition(exp, run, tokens, holdout)
    check_documents(exp, tokens)
    model = run("fit", exp.generator.fit(tokens, index=index, holdout=holdout))

    samples = run(
        "generate",
        Generate(
            model=model,
            sampler=exp.sampler,
            tokenizer=exp.tokenizer,
            num_samples=exp.num_samples,
            seed=exp.seed,
            output_size=exp.output_size,
            condition=exp.condition,
        ),
    )
    run.collect(samples, "samples")

    references = reference_sets(
        run,
        real_images(exp, model),
        tokens=tokens.windows(),
        holdout=holdout.windows(),
        num_images=exp.num_samples,
        planted=exp.planted,
    )
    evaluate = Evaluate(
        metrics=exp.metrics,
        generated=samples,
        **references,
        tokens=tokens,
        tokenizer=exp.tokenizer,
        index=index,
        seed=exp.seed,
        near_duplicate_rms=exp.corpus.near_duplicate_limit,
    )
    evaluation = run("evaluate", with_auditor(exp, run, evaluate))
    run.score(evaluation)
    run.report(evaluation, generated=samples, tokens=tokens, index=index)


def fit_tokenizer(exp: Experiment, run: Runner) -> Experiment:
    """The experiment with a tokenizer that has its weights: trained, fetched, or none needed."""
    fit = exp.tokenizer.fit(exp.train_corpus or exp.corpus)
    exp = replace(exp, tokenizer=run("fit_tokenizer", fit))
    run.adopt(exp)
    return exp


def draw_condition(exp: Experiment, run: Runner, tokens: TokenSet, holdout: TokenSet) -> Experiment:
    """The experiment whose condition knows the documents that its captions or excerpts are of."""
    reads = exp.generator.captions if isinstance(exp.generator, ReadsCaptions) else None
    asked = with_documents(
        exp.condition, captions=reads, tokens=tokens, holdout=holdout, seed=exp.seed
    )
    if asked is exp.condition:
        return exp
    exp = replace(exp, condition=asked)
    run.adopt(exp)
    return exp


def index_corpus(exp: Experiment, run: Runner) -> tuple[TokenSet, TokenSet, Index]:
    """Tokenize and index: training documents, held-out documents, the index of the former."""
    split, tokenizer = run("split", Split(corpus=exp.corpus)), exp.tokenizer
    tokens, holdout = tokenize(run, split, tokenizer)
    run.config({"corpus.num_images": tokens.num_documents})
    run.config({"tokenizer.num_levels": tokenizer.spec.layout.num_levels})
    run.config({"index.num_tokens": tokens.num_tokens})
    run.skip(tokens.skipped)
    return tokens, holdout, run("index", exp.index.build(tokens))


def with_auditor(exp: Experiment, run: Runner, evaluate: Evaluate) -> Evaluate | EvaluateSurface:
    """The evaluation, and beside it that of an auditor, where the experiment has one."""
    if exp.auditor is None:
        return evaluate
    auditor = run("auditor_tokenizer", exp.auditor.fit(exp.train_corpus or exp.corpus))
    split = run("auditor_split", Split(corpus=exp.corpus))
    tokens, _ = tokenize(lambda name, stage: run(f"auditor_{name}", stage), split, auditor)
    index = run("auditor_index", exp.index.build(tokens))
    return EvaluateSurface(
        inner=evaluate, surface=Surface(tokenizer=auditor, tokens=tokens, index=index)
    )


def real_images(exp: Experiment, model: Model | None) -> RealImages:
    """How the experiment shows real documents: as its generator would have written them."""
    return RealImages(
        scorer=model if exp.generator.scores(exp.sampler) or _denoises(model, exp) else None,
        sampler=exp.sampler,
        tokenizer=exp.tokenizer,
        seed=exp.seed,
        output_size=exp.output_size,
        condition=without_prompt(exp.condition),  # real documents begin as they do
    )


def _denoises(model: Model | None, exp: Experiment) -> bool:
    """Whether a model is asked for the errors that it makes where it denoises pictures."""
    return isinstance(model, Denoises) and model.denoises(exp.sampler)


def task(cfg: DictConfig) -> Any:
    """One job: a run, or one of a multirun; returns its scores, or what its search minimises."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    end_with_launcher()
    try:
        with interruptible():  # a launcher may call this in a process without main()
            run, objective = run_experiment(cfg, folder), cfg.objective
            run.say()
            result: Any = run.scores
            if objective.minimize:
                result = objective_value(run.scores, run.infos, objective)
                if result is None:
                    print("imagegram: the objective is not defined in this run", file=sys.stderr)
    except (ImagegramError, OSError) as error:
        if interruptions.error is not None:  # workers were interrupted too, and died first
            raise interruptions.error from error
        if isinstance(error, OSError) and error.errno not in OF_THE_SYSTEM:
            raise  # a defect of ours, which wants its traceback
        reason = str(error)
        if isinstance(error, OSError):
            reason = explain_os_error(error, outputs=Path(cfg.paths.outputs))
        print(f"\nimagegram: {reason}", file=sys.stderr)
        if HydraConfig.get().mode == RunMode.MULTIRUN and not isinstance(error, ObjectiveError):
            raise  # Hydra finishes the other jobs, then exits non-zero
        sys.exit(1)
    print(folder, flush=True)
    return result


def main() -> None:
    """The command line; also the console script ``imagegram``."""
    if "--version" in sys.argv[1:]:
        print(version_line())
        sys.exit(0)
    with unbroken_pipes():
        status = exit_cleanly(_main)
    sys.exit(status)


def _main() -> int:
    if rank():  # of torchrun: only rank 0 runs the experiment
        from imagegram.training.loop import take_part

        take_part()
        return 0
    schema.register()
    sys.argv[1:] = words.as_typed(sys.argv[1:])
    entered = False

    def enter(cfg: DictConfig) -> Any:
        nonlocal entered
        entered = True
        return task(cfg)

    decorate = hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name="config")
    try:
        with connected():
            decorate(enter)()
    except SystemExit as stop:
        if stop.code and not entered:  # Hydra refused to compose: add what was probably meant
            for hint in words.explain(sys.argv[1:]):
                print(f"imagegram: {hint}", file=sys.stderr)
        raise
    return 0


if __name__ == "__main__":
    main()
