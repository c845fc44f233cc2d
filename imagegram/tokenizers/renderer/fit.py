"""TrainRenderer: the stage that trains the renderer of a tokenizer, after its codebooks.

model.safetensors   the network's averaged weights
tokenizer.json      merges of the texts
history.jsonl       curves
shards.json         names the artifact with the codebooks

Weights and merges are a checkpoint of the renderer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from imagegram.protocols import Corpus
from imagegram.store.manifest import Artifact, Manifest
from imagegram.store.parts import open_parts, write_parts
from imagegram.store.stage import Context, Ready, Stage
from imagegram.tokenizers.bpe import BpeTokenizer
from imagegram.tokenizers.renderer.data import SentenceData
from imagegram.tokenizers.renderer.objective import Rendering
from imagegram.tokenizers.renderer.sizes import RendererSizes
from imagegram.tokenizers.sentence_rvq.decoders import SentenceCodes
from imagegram.tokenizers.sentence_rvq.tokenizer import SentenceRvqTokenizer
from imagegram.training.fit import Train
from imagegram.training.objective import Items
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import TrainSegment

if TYPE_CHECKING:
    from imagegram.training.state import TrainingState


class Trained(Protocol):
    """A renderer, a frozen dataclass, before it has weights; see ``component.py``."""

    @property
    def name(self) -> str:
        """Name in tables and progress bars."""

    @property
    def bpe(self) -> BpeTokenizer:
        """Tokenizer of the texts."""

    @property
    def optimization(self) -> Optimization:
        """Steps, rates and seed of the training."""

    @property
    def trainer(self) -> TrainerOptions:
        """Where it is trained."""

    def sizes(self, *, num_codebooks: int, codebook_size: int, dim: int) -> RendererSizes:
        """Return the sizes of the network for some codebooks."""

    def objective(self, codes: SentenceCodes, sizes: RendererSizes) -> Rendering:
        """Return what the network learns."""

    def write_trained(
        self, out: Path, state: TrainingState, *, codes: SentenceCodes, sizes: RendererSizes
    ) -> None:
        """Write averaged weights and merges into a folder."""


@dataclass(frozen=True, kw_only=True)
class RendererRecipe:
    """What :class:`TrainRenderer` trains.

    Attributes:
        renderer: the configured renderer; once its training begins, with merges.
        codes: tokenizer of the codes; once its training begins, with codebooks.
        sizes: of the network.
    """

    renderer: Trained
    codes: SentenceRvqTokenizer
    sizes: RendererSizes

    @property
    def name(self) -> str:
        """Name in tables and progress bars."""
        return self.renderer.name

    @property
    def optimization(self) -> Optimization:
        """Steps, rates and seed of the training."""
        return self.renderer.optimization

    @property
    def trainer(self) -> TrainerOptions:
        """Where the network is trained."""
        return self.renderer.trainer

    def objective(self) -> Rendering:
        """Return what the network learns."""
        return self.renderer.objective(self.codes, self.sizes)

    def begun(self, codes: SentenceRvqTokenizer, bpe: BpeTokenizer) -> Self:
        """Return the recipe with codebooks and merges."""
        sizes = replace(self.sizes, dim=codes.codebooks.shape[2])
        known: Any = self.renderer
        renderer = replace(known, bpe=bpe)
        return replace(self, codes=codes.encoder, renderer=renderer, sizes=sizes)

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write weights and merges."""
        self.renderer.write_trained(out, state, codes=self.codes, sizes=self.sizes)

    def trained(self, artifact: Artifact) -> Any:
        """Return the renderer with its weights."""
        known: Any = self.renderer
        return replace(known, checkpoint=str(artifact.path))


@dataclass(frozen=True, kw_only=True)
class TrainRenderer(Train[Any, SentenceData]):
    """The stage that trains a renderer on the sentences of a corpus; gives the whole tokenizer.

    Attributes:
        tokenizer: the recipe of the tokenizer.
    """

    kind: ClassVar[str] = "tokenizer"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (*SentenceData.PARTS, TrainSegment)
    SETTING: ClassVar[str] = "tokenizer.decoder."

    component: RendererRecipe
    tokenizer: SentenceRvqTokenizer

    @classmethod
    def of(
        cls,
        renderer: Trained,
        tokenizer: SentenceRvqTokenizer,
        corpus: Corpus,
        codes: Stage[Any] | Ready[Any],
    ) -> Self:
        """Return the stage that trains a renderer for the codes of a tokenizer."""
        # How long vectors are is known when there are some.
        sizes = renderer.sizes(
            num_codebooks=tokenizer.num_codebooks, codebook_size=tokenizer.codebook_size, dim=0
        )
        return cls(
            component=RendererRecipe(renderer=renderer, codes=tokenizer.encoder, sizes=sizes),
            data=SentenceData(corpus=corpus, codes=codes, bpe=renderer.bpe, sizes=sizes),
            tokenizer=tokenizer,
        )

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Train; write weights, merges, curves, and the name of the codebooks."""
        codes, _ = self.data.fitted(context)
        if not isinstance(self.data.codes, Ready):
            folder = Path(str(codes.checkpoint)).parent
            fitted = Artifact(path=folder, manifest=Manifest.read(folder))
            write_parts(out, kind=self.data.codes.kind, parts=[fitted])
        return super().run(out, context)

    def begun(self, context: Context) -> RendererRecipe:
        """Return the recipe with the codebooks and the merges that its training begins with."""
        return self.component.begun(*self.data.fitted(context))

    def load(self, artifact: Artifact) -> Any:
        """Return the tokenizer with codebooks, sentences, and its renderer."""
        if isinstance(self.data.codes, Ready):
            codes = self.data.codes.value
        else:
            (fitted,) = open_parts(artifact)
            codes = self.data.codes.load(fitted)
        return replace(codes, decoder=self.component.trained(artifact))
