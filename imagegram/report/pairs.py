"""Pairs: the samples that copy most; images each with their nearest training image.

The pairs are an artifact, because every run rewrites its report and the search reads the thumbnails
of the whole corpus:

    pairs = context.make(FindPairs(evaluation=evaluation, generated=samples, tokens=tokens,
                                   tokenizer=tokenizer)).pairs

``pairs.json`` lists them, ``pictures.npy`` (M, S, S, 3) uint8 holds their training images. Texts
have no nearest images: ``provenance.py`` finds their sources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.protocols import ImageSet, Tokenizer
from imagegram.records import Images, row_sizes
from imagegram.report.neighbours import Neighbour, compare, nearest_documents
from imagegram.stages.evaluate import Evaluation
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import PROCESS_BYTES, Cost, PerUnit
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Surroundings


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A sample with its nearest training image and its largest source.

    Attributes:
        sample: number of the sample.
        exact: whether all its tokens equal those of one training document.
        share: share of its tokens that come from one document; None if not measured.
        nearest: the training image that looks most like it; None if it is not an image.
        source: the document that most of its tokens come from, if it is not ``nearest``.
    """

    sample: int
    exact: bool
    share: float | None
    nearest: Neighbour | None
    source: Neighbour | None


@dataclass(frozen=True, kw_only=True)
class FindPairs:
    """The stage that finds the pairs of a report.

    Attributes:
        evaluation: scores with the copied share of each sample.
        generated: the samples.
        tokens, tokenizer: the training documents, and their tokenizer.
        max_pairs: number of samples, those that copy most.
    """

    kind: ClassVar[str] = "pairs"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 2
    SIDE_OF: ClassVar[str] = "evaluation"
    RATE: ClassVar[PerUnit] = PerUnit("num_documents", seconds=1.0e-5)
    evaluation: Evaluation
    generated: ImageSet
    tokens: TokenSet
    tokenizer: Tokenizer
    max_pairs: int = 64

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Find the pairs; write the list and the pictures."""
        task = context.progress.start("nearest training images", 1, "searches")
        pairs = find_pairs(
            self.evaluation.curves.get("generated", {}),
            generated=self.generated,
            tokens=self.tokens,
            tokenizer=self.tokenizer,
            max_pairs=self.max_pairs,
            workers=context.workers,
        )
        context.progress.advance(task)
        context.progress.finish(task)
        facts = write_pairs(out, pairs)
        return {"num_documents": self.tokens.num_documents, **facts}

    def load(self, artifact: Artifact) -> PairList:
        """Open the list of pairs."""
        return PairList(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee a search through all thumbnails, and at most two training images a pair."""
        if found := at.find(self):
            return Cost.found(found)
        side = self.generated.artifact.facts.get("image_size", 0)  # type: ignore[attr-defined]
        rate = at.rate(self)
        return Cost(
            artifact=at.expect(self, {}),
            disk_bytes=2 * self.max_pairs * (3 * side**2 + 1_000),
            memory_bytes=PROCESS_BYTES,
            seconds=rate.seconds * self.tokens.num_documents,
            source=rate.source,
        )


@dataclass(frozen=True, kw_only=True)
class PairList:
    """The finished list of pairs."""

    artifact: Artifact

    def identity(self) -> str:
        """Return kind/digest of the artifact."""
        return self.artifact.identity()

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Pairs, the sample that copies most first."""
        return read_pairs(self.artifact.path)


def find_pairs(
    curves: Mapping[str, NDArray[np.float64]],
    *,
    generated: ImageSet,
    tokens: TokenSet,
    tokenizer: Tokenizer,
    max_pairs: int,
    workers: int = 1,
) -> tuple[Pair, ...]:
    """Find the samples that copy most, their nearest training images and largest sources.

    Args:
        curves: of the generated images: ``source_share``, ``source_document`` and ``exact_copy``,
            (B,) each, as far as they were measured.
        generated: B samples.
        tokens: the training documents.
        tokenizer: decodes them.
        max_pairs: largest number of pairs.
        workers: threads of the search.
    """
    count = generated.num_images
    shares, sources = curves.get("source_share"), curves.get("source_document")
    exact = curves.get("exact_copy", np.zeros(count))
    worst = np.arange(count)
    if shares is not None:  # by tokens: most of a text that ended after nine is no large copy
        worst = np.argsort(-shares * row_sizes(np.asarray(generated.tokens)), kind="stable")
    shown = worst[:max_pairs]
    beside: Sequence[tuple[Neighbour | None, Neighbour | None]] = [(None, None)] * len(shown)
    if generated.images is not None:
        suspects = [None if sources is None or sources[i] < 0 else int(sources[i]) for i in shown]
        images = np.asarray(generated.images[np.sort(shown)])
        images = images[np.argsort(np.argsort(shown))]  # memory maps are read in order
        beside = _beside(images, suspects, tokens=tokens, tokenizer=tokenizer, workers=workers)
    return tuple(
        Pair(
            sample=int(sample),
            exact=bool(exact[sample]),
            share=None if shares is None else float(shares[sample]),
            nearest=nearest,
            source=source,
        )
        for sample, (nearest, source) in zip(shown, beside, strict=True)
    )


def _beside(
    images_BHWC: Images,
    suspects: Sequence[int | None],
    *,
    tokens: TokenSet,
    tokenizer: Tokenizer,
    workers: int,
) -> list[tuple[Neighbour, Neighbour | None]]:
    """Find the nearest training image of each image, and its largest source if different."""
    nearest = nearest_documents(
        images_BHWC, suspects=suspects, tokens=tokens, tokenizer=tokenizer, workers=workers
    )
    beside: list[tuple[Neighbour, Neighbour | None]] = []
    for image, suspect, near in zip(images_BHWC, suspects, nearest, strict=True):
        source = None
        if suspect is not None and suspect != near.document:
            source = compare(image, suspect, tokens=tokens, tokenizer=tokenizer)
        beside.append((near, source))
    return beside


def write_pairs(out: Path, pairs: tuple[Pair, ...]) -> dict[str, Any]:
    """Write ``pairs.json`` and ``pictures.npy``; return the facts."""
    pictures: list[NDArray[np.uint8]] = []

    def place(neighbour: Neighbour | None) -> dict[str, Any] | None:
        if neighbour is None:
            return None
        pictures.append(neighbour.image)
        return {
            "document": neighbour.document,
            "rms": neighbour.rms,
            "metadata": neighbour.metadata,
            "picture": len(pictures) - 1,
        }

    listing = [
        {
            "sample": pair.sample,
            "exact": pair.exact,
            "share": pair.share,
            "nearest": place(pair.nearest),
            "source": place(pair.source),
        }
        for pair in pairs
    ]
    (out / "pairs.json").write_text(json.dumps(listing, indent=1, allow_nan=False) + "\n")
    if pictures:
        np.save(out / "pictures.npy", np.stack(pictures))
    return {"num_pairs": len(pairs), "num_pictures": len(pictures)}


def read_pairs(folder: Path) -> tuple[Pair, ...]:
    """Read the files of :func:`write_pairs`."""
    place = folder / "pictures.npy"
    pictures = np.load(place) if place.exists() else ()

    def neighbour(entry: dict[str, Any] | None) -> Neighbour | None:
        return None if entry is None else Neighbour(image=pictures[entry.pop("picture")], **entry)

    return tuple(
        Pair(
            sample=entry["sample"],
            exact=entry["exact"],
            share=entry["share"],
            nearest=neighbour(entry["nearest"]),
            source=neighbour(entry["source"]),
        )
        for entry in json.loads((folder / "pairs.json").read_text())
    )
