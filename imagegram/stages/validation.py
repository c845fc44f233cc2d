"""Validation: a part of the training documents that a generator is not trained on.

The held-out documents of a corpus are the floor of every score, so nothing may be chosen on them:
no checkpoint, no weight of a mixture. What is chosen is chosen on this part, which is neither in
the training nor in the floor. It lies inside the training part of the corpus, so the index, which
audits, knows its documents too.

Whole clusters of near-duplicates are taken in the order of the lowest sha256 of their members,
until the part holds its share of all tokens: names and the order of documents decide nothing, and
nothing that is trained on is like what is validated on. A cluster that would make the part half as
large again as it should be stays in training.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.stages.cluster import Cluster
from imagegram.stages.token_shard import DOCUMENTS, SELECTION_SHARD, TokenShard
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.parts import write_parts
from imagegram.store.stage import Context, Stage, Surroundings

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

Part = Literal["fit", "validation"]
#: A part may be so many times as large as it should be.
_MOST: Final = 1.5


@dataclass(frozen=True, kw_only=True)
class TakeShard(Stage["Artifact"]):
    """The stage that writes which documents of one token file belong to a part.

    Attributes:
        tokens: all documents of the file.
        sha256: of the numbers of the chosen documents.
        chosen: (N,) these numbers, ascending.
        lengths: (N,) tokens of these documents.
    """

    kind: ClassVar[str] = SELECTION_SHARD
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1

    tokens: TokenShard
    sha256: str
    chosen: NDArray[np.uint32] = field(metadata=NOT_IDENTITY, compare=False)
    lengths: NDArray[np.int64] = field(metadata=NOT_IDENTITY, compare=False)

    @classmethod
    def of(cls, shard: TokenShard, documents: NDArray[np.int64]) -> TakeShard:
        """Return the stage for some documents 0 ... N - 1 of a shard, itself a part of a file."""
        chosen = shard.numbers[documents].astype(np.uint32)
        return cls(
            tokens=TokenShard(artifact=shard.artifact),
            sha256=hashlib.sha256(chosen.astype("<u4").tobytes()).hexdigest(),
            chosen=chosen,
            lengths=shard.lengths[documents],
        )

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write ``documents.npy``."""
        np.save(out / DOCUMENTS, self.chosen)
        return {"num_documents": len(self.chosen), "num_tokens": int(self.lengths.sum())}

    def load(self, artifact: Artifact) -> Artifact:
        """Return the artifact itself."""
        return artifact


@dataclass(frozen=True, kw_only=True)
class TakePart(Stage[TokenSet]):
    """The stage that takes one part of the training documents.

    Attributes:
        tokens: the training documents.
        fraction: share of their tokens that is validated on, above 0 and below 1.
        part: ``fit``, which is trained on, or ``validation``.
    """

    kind: ClassVar[str] = "selection"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (Cluster, TakeShard)

    tokens: TokenSet
    fraction: float
    part: Part

    def identity(self) -> dict[str, Any]:
        """Return the identity: documents, share, part, and where near-duplicates begin."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "tokens": self.tokens.identity(),
            "fraction": float(self.fraction),
            "part": self.part,
            "near_duplicate_limit": self.tokens.near_duplicate_limit,
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Choose documents; write ``shards.json``.

        Raises:
            ConfigError: when the documents are too few to be parted.
        """
        is_held = validation_part(
            clusters_of(self.tokens, context),
            content_hashes(self.tokens),
            self.tokens.lengths,
            fraction=self.fraction,
        )
        wanted = is_held if self.part == "validation" else ~is_held
        firsts = self.tokens.first_documents.tolist()
        made = [
            context.make(
                TakeShard.of(shard, np.flatnonzero(wanted[first : first + shard.num_documents]))
            )
            for first, shard in zip(firsts, self.tokens.shards, strict=False)
        ]
        write_parts(out, kind=SELECTION_SHARD, parts=made)
        facts = self.tokens.artifact.facts
        same = ("document_length", "vocab_size", "tokenizer", "skipped", "num_views")
        return {
            "num_documents": sum(int(one.facts["num_documents"]) for one in made),
            "num_tokens": sum(int(one.facts["num_tokens"]) for one in made),
            "num_shards": len(made),
            **{name: facts[name] for name in same if name in facts},
        }

    def load(self, artifact: Artifact) -> TokenSet:
        """Return the handle of the documents."""
        known = ("images", "window", "modality", "near_duplicate_limit")
        return TokenSet(artifact=artifact, **{name: getattr(self.tokens, name) for name in known})


def parts_of(tokens: TokenSet, fraction: float) -> tuple[TakePart, TakePart]:
    """Return the stages of what is trained on, and of what is validated on."""
    fit, validation = (
        TakePart(tokens=tokens, fraction=fraction, part=part) for part in ("fit", "validation")
    )
    return fit, validation


def found_parts(
    tokens: TokenSet, fraction: float, at: Surroundings
) -> tuple[TokenSet, TokenSet] | None:
    """Return both parts where they were made already; None: they were not."""
    stages = parts_of(tokens, fraction)
    found = [at.find(stage) for stage in stages]
    if found[0] is None or found[1] is None:
        return None
    return stages[0].load(found[0]), stages[1].load(found[1])


def check_fraction(fraction: float, *, setting: str) -> None:
    """Refuse a share that leaves nothing to train on.

    Args:
        fraction: the share; 0: no part is taken.
        setting: how it is written on the command line.

    Raises:
        ConfigError: with what to type.
    """
    if not 0.0 <= fraction <= 0.5:
        raise ConfigError(
            f"{setting}={fraction} must be a share of the training documents, 0 ... 0.5; type "
            f"{setting}=0.05"
        )


def clusters_of(tokens: TokenSet, context: Context) -> NDArray[np.int64]:
    """Return the (N,) cluster of near-duplicates of each training document."""
    if tokens.near_duplicate_limit is None:
        return np.arange(tokens.num_documents)
    stage = Cluster(
        documents=tokens,
        near_duplicate_rms=tokens.near_duplicate_limit,
        modality=tokens.modality,
    )
    return context.make(stage).labels


def content_hashes(tokens: TokenSet) -> list[str]:
    """Return the sha256 of every document: of its file, or of its tokens where none is known."""
    every = tokens.metadata_of(np.arange(tokens.num_documents))
    return [
        known.get("sha256") or hashlib.sha256(tokens.document(number).tobytes()).hexdigest()
        for number, known in enumerate(every)
    ]


def validation_part(
    clusters: NDArray[np.integer], hashes: list[str], lengths: NDArray[np.int64], *, fraction: float
) -> NDArray[np.bool_]:
    """Return (N,) which documents are validated on.

    Args:
        clusters: (N,) cluster of each document.
        hashes: sha256 of each document.
        lengths: (N,) tokens of each document.
        fraction: share of the tokens.

    Raises:
        ConfigError: with fewer than two clusters that have tokens.

    >>> hashes, lengths = ["d", "b", "a", "c"], np.array([2, 2, 2, 2])
    >>> validation_part(np.array([0, 1, 0, 3]), hashes, lengths, fraction=0.5)
    array([ True, False,  True, False])
    """
    wanted = fraction * lengths.sum()
    sizes: Counter[int] = Counter()
    lowest: dict[int, str] = {}
    for cluster, name, length in zip(clusters.tolist(), hashes, lengths.tolist(), strict=True):
        sizes[cluster] += length
        lowest[cluster] = min(name, lowest.get(cluster, name))
    order = sorted((cluster for cluster in sizes if sizes[cluster]), key=lambda one: lowest[one])
    if len(order) < 2:
        raise ConfigError(
            f"{len(order)} different training documents (near-duplicates count as one) cannot be "
            "parted into what is trained on and what is validated on; type "
            "generator.validation_fraction=0 generator.optimization.keep=last"
        )
    held: list[int] = []
    taken = 0
    for cluster in order:
        if taken >= wanted:
            break
        if taken + sizes[cluster] <= _MOST * wanted:
            held.append(cluster)
            taken += sizes[cluster]
    if not held:  # documents are large for such a share
        held = [min(order, key=lambda one: (sizes[one], lowest[one]))]
    return np.isin(clusters, held)
