"""The data of a renderer: the sentences of a corpus as BPE ids, with their codes.

Its files are described in ``items.py``. Sentences that do not stand in it: those without any
character but white space.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from imagegram.errors import CorpusError
from imagegram.protocols import Corpus
from imagegram.stages.split import Split, SplitShard
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Context, Ready, Stage
from imagegram.tokenizers.bpe import BpeTokenizer, TrainBpe
from imagegram.tokenizers.renderer.items import ARRAYS, RendererItems, SentenceFiles
from imagegram.tokenizers.renderer.rendering import sentence_ids
from imagegram.tokenizers.renderer.sizes import RendererSizes
from imagegram.tokenizers.sentence_rvq.fit import FitCodes
from imagegram.tokenizers.sentence_rvq.sentences import texts_of
from imagegram.tokenizers.sentence_rvq.tokenizer import SentenceRvqTokenizer
from imagegram.training.objective import Prepared

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact


@dataclass(frozen=True, kw_only=True)
class PackSentences(Stage[SentenceFiles]):
    """The stage that writes the sentences of one part of a corpus as BPE ids, with their codes.

    Attributes:
        texts: the same part of every shard.
        codes: tokenizer with its codebooks.
        bpe: tokenizer with its merges.
    """

    kind: ClassVar[str] = "packed_sentences"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1

    texts: tuple[SplitShard, ...]
    codes: SentenceRvqTokenizer
    bpe: BpeTokenizer

    def identity(self) -> dict[str, Any]:
        """Return the identity: texts, codes and merges, not the windows of samples."""
        kind = {"class": type(self).__name__, "version": self.VERSION}
        fields = {"texts": self.texts, "codes": self.codes.encoder, "bpe": self.bpe.encoder}
        return kind | {name: identity(value) for name, value in fields.items()}

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the four arrays.

        Raises:
            CorpusError: when there is no sentence.
        """
        shards = [(part.shard, part.open()) for part in self.texts]
        count = sum(len(shard) for shard, _ in shards)
        task = context.progress.start("pack sentences", count, "texts")
        num_codebooks = self.codes.num_codebooks
        first_ids = np.arange(num_codebooks) * self.codes.codebook_size
        ids: list[Any] = []
        codes, first = [], []
        for text in (text for shard, part in shards for text in texts_of(shard, part=part)):
            found = self.codes.prepare(text)
            (tokens,) = self.codes.encode([found]).documents
            kept = [number for number, sentence in enumerate(found) if sentence.strip()]
            codes.append((tokens.astype(np.int64).reshape(-1, num_codebooks) - first_ids)[kept])
            first += [len(ids)] * len(kept)
            ids += sentence_ids(self.bpe, [found[number] for number in kept])
            context.progress.advance(task)
        context.progress.finish(task)
        if not ids:
            names = ", ".join(str(shard.path) for shard, _ in shards[:3])
            raise CorpusError(
                f"{names}: no text has a sentence, so there is nothing to learn to write; give a "
                "corpus with texts, for example corpus=demo_text"
            )
        arrays = {
            "ids": np.concatenate(ids),
            "ends": np.cumsum([0, *map(len, ids)]),
            "first": np.array(first),
            "codes": np.concatenate(codes),
        }
        for name, dtype in ARRAYS.items():
            np.save(out / f"{name}.npy", arrays[name].astype(dtype))
        return {"num_sentences": len(ids), "num_tokens": len(arrays["ids"])}

    def load(self, artifact: Artifact) -> SentenceFiles:
        """Return the handle of finished arrays."""
        return SentenceFiles(artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class SentenceData:
    """Training data of a renderer.

    Attributes:
        corpus: texts.
        codes: stage that gives the tokenizer with its codebooks.
        bpe: tokenizer of the texts, trained or not.
        sizes: of the network.
    """

    PARTS: ClassVar[tuple[type, ...]] = (Split, FitCodes, TrainBpe, PackSentences)

    corpus: Corpus
    codes: Stage[Any] | Ready[Any]
    bpe: BpeTokenizer
    sizes: RendererSizes

    def identity(self) -> dict[str, Any]:
        """Return the identity: content of the shards, hold-out policy, codes, and merges."""
        codes = self.codes.value if isinstance(self.codes, Ready) else self.codes
        return {
            "split": identity(Split(corpus=self.corpus)),
            "shards": [shard.identity() for shard in self.corpus.shards],
            "codes": identity(codes),
            "bpe": identity(self.bpe.encoder),
        }

    def fitted(self, context: Context) -> tuple[SentenceRvqTokenizer, BpeTokenizer]:
        """Return both tokenizers with what they learned; makes, or finds, their trainings."""
        return context.make(self.codes), context.make(self.bpe.fit(self.corpus))

    def prepare(self, context: Context) -> Prepared:
        """Pack the sentences of both parts of the corpus."""
        codes, bpe = self.fitted(context)
        split = context.make(Split(corpus=self.corpus))
        items, validation = (
            RendererItems(
                sentences=context.make(PackSentences(texts=texts, codes=codes, bpe=bpe)),
                sizes=self.sizes,
                bpe=bpe,
            )
            for texts in (split.train, split.holdout or split.train)
        )
        validated_on = "holdout" if split.holdout else "train"
        return Prepared(items=items, validation=validation, validated_on=validated_on)
