"""FitCodes: the stage that learns the codebooks of sentences.

codebooks.safetensors   ``codebooks`` (K, V, d) float32
codes.npy               (N, K) uint16 codes of the sentences of the corpus
shards.json             names the artifact that has these sentences
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar

import numpy as np

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.protocols import Corpus
from imagegram.records import Features
from imagegram.stages.embed import TORCH_BYTES
from imagegram.store.cost import Cost
from imagegram.store.fingerprint import identity
from imagegram.store.parts import open_parts, write_parts
from imagegram.store.stage import Context, Stage, Surroundings
from imagegram.tokenizers.sentence_rvq.quantizers import BEAM, Codebooks, fit_codebooks, quantize
from imagegram.tokenizers.sentence_rvq.sentences import CollectSentences, Sentences

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

T_co = TypeVar("T_co", covariant=True)

CODEBOOKS: Final = "codebooks.safetensors"
CODES: Final = "codes.npy"
#: The one tensor of the file.
TENSOR: Final = "codebooks"
#: Of forecasts: bytes of a sentence of English, and of a vector of all-MiniLM-L6-v2; seconds of a
#: code of a sentence that codebooks are learned from.
_SENTENCE_BYTES: Final = 92
_VECTOR_BYTES: Final = 384 * 4
_FIT_SECONDS: Final = 1.2e-4


class CodesRecipe(Protocol[T_co]):
    """A tokenizer of sentences without codebooks."""

    VERSION: ClassVar[int]

    @property
    def name(self) -> str:
        """Name of the tokenizer in tables and progress bars."""

    @property
    def form(self) -> str:
        """How vectors become codes."""

    @property
    def num_codebooks(self) -> int:
        """K."""

    @property
    def codebook_size(self) -> int:
        """V."""

    @property
    def fit_sentences(self) -> int:
        """Most sentences that codebooks are learned from."""

    @property
    def fit_seed(self) -> int:
        """Seed of the k-means."""

    @property
    def splitter(self) -> str:
        """What finds the ends of sentences."""

    @property
    def embedder(self) -> SentenceEmbedder:
        """What makes vectors of them."""

    def recipe(self) -> dict[str, Any]:
        """Return everything that decides the codebooks but the texts."""

    def fitted(self, *, codebooks: Path, sentences: Path) -> T_co:
        """Return the tokenizer with its codebooks, and the sentences that they are of."""


@dataclass(frozen=True, kw_only=True)
class FitCodes(Stage[T_co]):
    """The stage that embeds the sentences of a corpus and learns codebooks of training ones.

    Attributes:
        recipe: the tokenizer.
        corpus: corpus of the texts; codebooks are learned from training documents alone.
    """

    kind: ClassVar[str] = "tokenizer"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (CollectSentences,)

    recipe: CodesRecipe[T_co]
    corpus: Corpus

    @property
    def _collected(self) -> CollectSentences:
        recipe = self.recipe
        how: dict[str, Any] = {"splitter": recipe.splitter, "embedder": recipe.embedder}
        return CollectSentences(corpus=self.corpus, **how)

    def identity(self) -> dict[str, Any]:
        """Return the identity: recipe and sentences."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "tokenizer": {"version": self.recipe.VERSION, **self.recipe.recipe()},
            "sentences": identity(self._collected),
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Learn the codebooks, then quantise all sentences.

        Raises:
            ConfigError: when there are fewer training sentences than codes of a stage.
        """
        from safetensors.numpy import save_file

        collected, recipe = context.make(self._collected), self.recipe
        sentences = collected.sentences
        self._require_enough(sentences)
        task = context.progress.start(f"learn {recipe.name}", 2, "steps")
        books = fit_codebooks(
            training_vectors(sentences, most=recipe.fit_sentences),
            form=recipe.form,
            num_codebooks=recipe.num_codebooks,
            codebook_size=recipe.codebook_size,
            seed=recipe.fit_seed,
        )
        context.progress.advance(task)
        save_file({TENSOR: np.ascontiguousarray(books)}, out / CODEBOOKS)
        codes = quantize(sentences.vectors, books, form=recipe.form)
        np.save(out / CODES, codes.astype(np.uint16))
        context.progress.finish(task)
        write_parts(out, kind=CollectSentences.kind, parts=[collected.artifact])
        counts = {name: collected.artifact.facts[name] for name in ("num_sentences", "num_cut")}
        return {"tokenizer": recipe.name, **counts, "num_training": sentences.num_training}

    def _require_enough(self, sentences: Sentences) -> None:
        size, count = self.recipe.codebook_size, sentences.num_training
        if count >= size:
            return
        fits = 1 << max(count.bit_length() - 1, 1)
        raise ConfigError(
            f"tokenizer.codebook_size={size}, but corpus {self.corpus.name} has only {count:,} "
            f"different training sentences, and a code needs one at least; type "
            f"tokenizer.codebook_size={fits}, or give a larger corpus"
        )

    def forecast(self, at: Surroundings) -> Cost | None:
        """Foresee the embedding from the bytes of the shards, then the codebooks; None: no files.

        Vectors are kept twice: in the parts that a killed run goes on behind, and collected.
        """
        if found := at.find(self):
            return Cost.found(found)
        shards = (*self.corpus.shards, *self.corpus.holdout_shards)
        sizes = [shard.path.stat().st_size for shard in shards if shard.path.is_file()]
        if not sizes:
            return None
        num = round(sum(sizes) / _SENTENCE_BYTES)
        learned = min(num, self.recipe.fit_sentences)
        cost = Cost(
            artifact=at.expect(self, None),
            disk_bytes=num * self.recipe.num_codebooks * 2,
            memory_bytes=TORCH_BYTES + learned * _VECTOR_BYTES * (1 + BEAM),
            seconds=learned * self.recipe.num_codebooks * _FIT_SECONDS,
            source="built in",
        )
        if at.find(self._collected) is not None:
            return cost
        return replace(
            cost,
            disk_bytes=cost.disk_bytes + num * (2 * _VECTOR_BYTES + _SENTENCE_BYTES),
            seconds=cost.seconds + num * SentenceEmbedder.SECONDS / at.workers,
        )

    def load(self, artifact: Artifact) -> T_co:
        """Return the tokenizer with its codebooks."""
        (sentences,) = open_parts(artifact)
        return self.recipe.fitted(codebooks=artifact.path / CODEBOOKS, sentences=sentences.path)


def training_vectors(sentences: Sentences, *, most: int) -> Features:
    """Return vectors of training sentences, in the order of their hashes: a fair draw.

    Args:
        sentences: of the corpus.
        most: number of vectors.

    Returns:
        (N, d) float32.
    """
    keys = np.asarray(sentences.keys[: sentences.num_training])
    order = np.lexsort(keys.T[::-1])[:most]
    return np.ascontiguousarray(sentences.vectors[np.sort(order)], dtype=np.float32)


def read_codebooks(path: Path) -> Codebooks:
    """Return the codebooks of a file.

    Raises:
        ConfigError: when it holds none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        books = load_file(path)[TENSOR]
    except (OSError, KeyError, SafetensorError) as error:
        raise ConfigError(
            f"tokenizer.checkpoint={path} holds no codebooks ({error!r}); give a {CODEBOOKS} of a "
            "trained tokenizer, or tokenizer.checkpoint=null to train"
        ) from error
    if books.ndim != 3 or books.dtype != np.float32:
        raise ConfigError(
            f"tokenizer.checkpoint={path} holds codebooks of shape {books.shape} {books.dtype}; "
            "they must be (K, V, d) float32"
        )
    return books
