"""TrainAfter: the stage that trains a tokenizer whose training begins with the weights of another.

    tokenizer=titok_two_stage     conv_vq_8x8, then titok on its codes, then its decoder on pixels

Each of these trainings is a stage of its own, found or made before the next: a killed run goes on
in the one that it was in. Until its first training is done, a tokenizer is known by its recipe, and
that holds the recipes of those before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

from imagegram.protocols import Corpus
from imagegram.store.stage import Context, Ready, Stage
from imagegram.tokenizers.imports import ImportTokenizer
from imagegram.training.fit import Trainable, TrainTokenizer

T_co = TypeVar("T_co", covariant=True)

#: Makes the stage of an earlier training; the name is put before those of its curves.
Make = Callable[[str, "Stage[Any] | Ready[Any]"], Any]


class BeginsLater(Trainable[T_co], Protocol[T_co]):
    """A tokenizer whose training needs the weights of another."""

    def begun(self, corpus: Corpus, make: Make) -> BeginsLater[T_co]:
        """Return the tokenizer with what its training begins with.

        Args:
            corpus: what all of them are trained on.
            make: makes a stage of an earlier training, or finds it.
        """


@dataclass(frozen=True, kw_only=True)
class TrainAfter(TrainTokenizer[T_co]):
    """The stage that makes what a training begins with, then trains."""

    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (TrainTokenizer, ImportTokenizer)

    component: BeginsLater[T_co]

    def begun(self, context: Context) -> BeginsLater[T_co]:
        """Return the component with the weights that its training begins with."""

        def make(name: str, stage: Stage[Any] | Ready[Any]) -> Any:
            if isinstance(stage, TrainTokenizer):
                stage = replace(stage, curves=f"{name}/")
            return context.make(stage)

        return self.component.begun(self.data.corpus, make)
