"""Opened: the components of a finished run, read from its folder; nothing is made or trained.

    opened = Opened.of(folder, summary)
    opened.tokenizer, opened.model, opened.index

The configuration says what the components are, the records of the stages where their files lie. The
corpus itself is not read, and may be gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf

from imagegram import schema
from imagegram.conditions.captions import CaptionCondition
from imagegram.conditions.prompt import PromptCondition, without_prompt
from imagegram.errors import ConfigError
from imagegram.executors.context import RunContext
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.experiment import Experiment, build
from imagegram.indexes.open import StoredIndex, find_shards
from imagegram.protocols import Condition, Index, Model, Tokenizer
from imagegram.stages.tokens import TokenSet
from imagegram.store.artifacts import ArtifactStore, check_sizes
from imagegram.store.manifest import MANIFEST, Artifact, Manifest
from imagegram.store.stage import Ready, Stage

_CONFIG: Final = Path(".hydra") / "config.yaml"


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """What writes, and what finds the sources of what is written.

    Attributes:
        exp: the experiment, as it was configured.
        tokenizer: with its weights.
        model: fitted generator, prepared for the sampler.
        index: of the training documents.
        condition: what is asked of samples besides a prompt.
        can_continue: whether the generator continues prompts.
    """

    exp: Experiment
    tokenizer: Tokenizer
    model: Model
    index: Index
    condition: Condition | None
    can_continue: bool

    @classmethod
    def of(cls, folder: Path, summary: Mapping[str, Any]) -> Opened:
        """Open the components of a run.

        Args:
            folder: the run folder.
            summary: its ``summary.json``.

        Raises:
            ConfigError: for a folder of no run of ours, and for a run whose files are gone.
        """
        exp = build(_config(folder))
        records = _Records(folder=folder, stages=summary.get("stages", {}))
        fit = exp.tokenizer.fit(exp.train_corpus or exp.corpus)
        tokenizer: Tokenizer = records.made("fit_tokenizer", fit)
        made = records.artifact("index")
        index: Any = StoredIndex(shards=find_shards(made.path), artifact=made)
        tokens = TokenSet(
            artifact=records.artifact("select"),
            images=(),
            window=tokenizer.spec.length,
            tokenizer=tokenizer,
        )
        model: Model = records.made("fit", exp.generator.fit(tokens, index=index))
        layout, condition = tokenizer.spec.layout, without_prompt(exp.condition)
        if isinstance(condition, CaptionCondition):  # its documents are not opened here
            condition = None
        context = RunContext(
            store=ArtifactStore(root=made.path.parents[1]),
            executor=SerialExecutor(workers=1),
            progress=SilentProgress(),
        )
        return cls(
            exp=exp,
            tokenizer=tokenizer,
            model=model.prepared(exp.sampler, context, layout, condition),
            index=index,
            condition=condition,
            can_continue=_continues(exp, tokenizer),
        )


def _continues(exp: Experiment, tokenizer: Tokenizer) -> bool:
    """Return whether the generator takes a prompt."""
    try:
        prompt = PromptCondition(name="prompt", tokens=((0,),))
        exp.generator.check(exp.sampler, tokenizer.spec.layout, prompt)
    except ConfigError:
        return False
    return True


def _config(folder: Path) -> DictConfig:
    """Read the configuration of a run.

    Raises:
        ConfigError: when there is none.
    """
    path = folder / _CONFIG
    if not path.is_file():
        raise ConfigError(
            f"{folder} cannot be opened to write: it has no {_CONFIG}; give the folder of a run, "
            "such as outputs/latest"
        )
    schema.register()
    # A run of an earlier version lacks keys that came later.
    defaults = OmegaConf.to_container(OmegaConf.structured(schema.Config))
    config = OmegaConf.merge(OmegaConf.create(defaults), OmegaConf.load(path))
    assert isinstance(config, DictConfig)
    return config


@dataclass(frozen=True, kw_only=True)
class _Records:
    """The stages of a run, by name."""

    folder: Path
    stages: Mapping[str, Mapping[str, Any]]

    def made(self, name: str, stage: Stage[Any] | Ready[Any]) -> Any:
        """Return what a stage made in that run; a ready one has its value."""
        return stage.value if isinstance(stage, Ready) else stage.load(self.artifact(name))

    def artifact(self, name: str) -> Artifact:
        """Return the artifact of a stage.

        Raises:
            ConfigError: when the run did not come that far, or its files were removed.
        """
        if name not in self.stages:
            raise ConfigError(
                f"{self.folder} has no stage {name!r}, so nothing can be written from it: it ended "
                "early, or measured what others wrote; give the folder of a finished run"
            )
        path = Path(self.stages[name]["path"])
        beside = self.folder.parents[1] / "artifacts" / Path(*path.parts[-2:])
        for place in (path, beside):  # a folder of outputs may have been moved
            if (place / MANIFEST).is_file():
                artifact = Artifact(path=place, manifest=Manifest.read(place))
                check_sizes(artifact)
                return artifact
        raise ConfigError(
            f"{path}, which stage {name!r} of {self.folder} made, is gone; repeat the run: what is "
            "still there is found again"
        )
