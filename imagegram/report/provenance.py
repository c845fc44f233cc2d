"""Provenance: for the samples that copy most, the training image that every token is credited to.

The parse of ``metrics/sources.py``, kept as an artifact for the report's overlays and ribbons:

    traced = context.make(TraceProvenance(pairs=pairs, generated=samples, tokens=tokens, ...))
    traced.samples[0].documents     # (T,) of the sample that copies most

``documents.npy``, ``clusters.npy``, ``positions.npy`` and ``spans.npy`` are (M, T) int32;
``sources.json`` lists the largest sources of each sample, ``pictures.npy`` (P, S, S, 3) uint8 holds
pictures of the first few of them; of texts the list holds passages instead.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.metrics.sources import check_candidates, token_sources
from imagegram.protocols import ImageSet, Index, TextTokenizer, Tokenizer
from imagegram.records import Images, row_sizes
from imagegram.report.pairs import PairList
from imagegram.stages.cluster import Cluster
from imagegram.stages.decoding import captions_of_documents, decoded
from imagegram.stages.tokens import TokenSet
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Stage
from imagegram.texts.highlight import Passage

#: Sources of a sample that are named, and how many of these with a picture.
NAMED_SOURCES: Final = 5
_PICTURES: Final = 3
#: Tokens of a text on each side of a passage that are decoded with it: a language model may be what
#: writes them, and a document has any length.
_AROUND: Final = 96
_ARRAYS: Final = ("documents", "clusters", "positions", "spans")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A document of the training corpus that a sample was made of.

    Attributes:
        cluster: cluster of near-duplicates, which count as one source.
        document: document of that cluster that most tokens are credited to.
        num_tokens: tokens of the sample that are credited to the cluster.
        share: the same, of all its tokens.
        metadata: metadata of the document: source key, shard, caption.
        image: (S, S, 3) uint8, decoded from the document's tokens; None beyond the largest.
        passage: of a text, the longest run that was taken from it; None beyond the largest.
    """

    cluster: int
    document: int
    num_tokens: int
    share: float
    metadata: dict[str, Any]
    image: Images | None = None
    passage: Passage | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TracedSample:
    """One sample with the source of every token.

    Attributes:
        sample: number of the sample.
        num_sources: number of clusters that at least one token is credited to.
        drawn_share: of the tokens that are credited and that the sampler took from a document,
            those it took from the same cluster; None where there are none.
        sources: the largest, most tokens first.
        documents: (T,) int32 training document of every token; -1: no document holds it.
        clusters: (T,) int32 near-duplicate cluster of that document; -1: none.
        positions: (T,) int32 position inside that document; -1: none.
        spans: (T,) int32 length of the phrase that the token lies in; 0: none.
    """

    sample: int
    num_sources: int
    drawn_share: float | None
    sources: tuple[Source, ...]
    documents: NDArray[np.int32]
    clusters: NDArray[np.int32]
    positions: NDArray[np.int32]
    spans: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class TraceProvenance(Stage["Provenance"]):
    """The stage that finds the sources of the samples that copy most.

    Attributes:
        pairs: the samples, those that copy most first.
        generated: all samples.
        index: index of the training documents.
        tokens, tokenizer: the training documents, and their tokenizer.
        near_duplicate_rms: largest RMS difference of training images that count as one source.
        max_samples: number of samples that are traced.
        max_candidates: occurrences of a phrase among which its source is chosen.
    """

    kind: ClassVar[str] = "provenance"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 3
    SIDE_OF: ClassVar[str] = "generated"
    PARTS: ClassVar[tuple[type, ...]] = (Cluster,)
    pairs: PairList
    generated: ImageSet
    index: Index
    tokens: TokenSet
    tokenizer: Tokenizer
    near_duplicate_rms: float
    max_samples: int = 24
    max_candidates: int = 64

    def __post_init__(self) -> None:
        check_candidates(self.kind, self.max_candidates)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Parse the samples; write arrays, list and pictures."""
        clusters = context.make(
            Cluster(
                documents=self.tokens,
                near_duplicate_rms=self.near_duplicate_rms,
                modality=self.tokenizer.modality,
            )
        )
        task = context.progress.start("sources of the worst copies", 1, "parses")
        traced = trace_samples(
            [pair.sample for pair in self.pairs.pairs[: self.max_samples]],
            generated=self.generated,
            index=self.index,
            clusters=clusters.labels,
            tokens=self.tokens,
            tokenizer=self.tokenizer,
            max_candidates=self.max_candidates,
            workers=context.workers,
        )
        context.progress.advance(task)
        context.progress.finish(task)
        return write_provenance(out, traced)

    def load(self, artifact: Artifact) -> Provenance:
        """Open the finished provenance."""
        return Provenance(artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The finished provenance."""

    artifact: Artifact

    def identity(self) -> str:
        """Return kind/digest of the artifact."""
        return self.artifact.identity()

    @cached_property
    def samples(self) -> tuple[TracedSample, ...]:
        """Traced samples, the one that copies most first."""
        return read_provenance(self.artifact.path)


def trace_samples(
    samples: Sequence[int],
    *,
    generated: ImageSet,
    index: Index,
    clusters: NDArray[np.int64],
    tokens: TokenSet,
    tokenizer: Tokenizer,
    max_candidates: int = 64,
    workers: int = 1,
) -> tuple[TracedSample, ...]:
    """Parse M samples, and look up their largest sources.

    Args:
        samples: numbers of the samples.
        generated: all samples.
        index: index of the N training documents.
        clusters: (N,) near-duplicate cluster of every training document.
        tokens: the training documents.
        tokenizer: decodes them.
        max_candidates: occurrences of a phrase among which its source is chosen.
        workers: threads.
    """
    rows = np.asarray(samples, dtype=np.int64)
    tokens_MT = np.asarray(generated.tokens[rows])
    found = token_sources(
        index,
        tokens_MT,
        index.match_lengths(tokens_MT, workers=workers),
        clusters=clusters,
        max_candidates=max_candidates,
        workers=workers,
    )
    drawn = generated.trace.get("source_document")
    drawn_MT = np.full(tokens_MT.shape, -1) if drawn is None else np.asarray(drawn[rows])
    show = _Shown(generated=generated, tokens=tokens, tokenizer=tokenizer)
    sizes_M = row_sizes(tokens_MT)
    traced = []
    for row, documents_T in enumerate(found.documents):
        seen = documents_T >= 0
        clusters_T = np.where(seen, clusters[documents_T], -1)
        known = seen & (drawn_MT[row] >= 0)
        same = clusters_T[known] == clusters[drawn_MT[row][known]]
        one = TracedSample(
            sample=int(rows[row]),
            num_sources=len(np.unique(clusters_T[seen])),
            drawn_share=float(same.mean()) if known.any() else None,
            sources=(),
            documents=documents_T.astype(np.int32),
            clusters=clusters_T.astype(np.int32),
            positions=found.positions[row].astype(np.int32),
            spans=found.span_lengths[row].astype(np.int32),
        )
        traced.append(dataclasses.replace(one, sources=_largest(one, int(sizes_M[row]), show)))
    return tuple(traced)


def _largest(one: TracedSample, size: int, show: _Shown) -> tuple[Source, ...]:
    """Return the sources with most of ``size`` tokens; ties go to the smallest cluster."""
    ids, counts = np.unique(one.clusters[one.clusters >= 0], return_counts=True)
    sources = []
    for rank, place in enumerate(np.argsort(-counts, kind="stable")[:NAMED_SOURCES]):
        members, tokens_of = np.unique(
            one.documents[one.clusters == ids[place]], return_counts=True
        )
        document = int(members[np.argmax(tokens_of)])
        shown = show(document, one) if rank < _PICTURES else {}
        sources.append(
            Source(
                cluster=int(ids[place]),
                document=document,
                num_tokens=int(counts[place]),
                share=float(counts[place] / size),
                metadata=show.tokens.metadata(document),
                **shown,
            )
        )
    return tuple(sources)


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """How a source is shown: an image as it is decoded, of a text the longest run taken from it."""

    generated: ImageSet
    tokens: TokenSet
    tokenizer: Tokenizer

    def __call__(self, document: int, one: TracedSample) -> dict[str, Any]:
        images = self.generated.images
        if images is not None:
            row, side = self.tokens.gather([document]), int(images.shape[1])
            captions = captions_of_documents(self.tokenizer, self.tokens, [document])
            shown = decoded(self.tokenizer, row, captions=captions, output_size=side)
            return {"image": shown[0]}
        mine = np.flatnonzero(one.documents == document)
        first = int(mine[np.argmax(one.spans[mine])])
        start, length = int(one.positions[first]), int(one.spans[first])
        assert isinstance(self.tokenizer, TextTokenizer)
        document_L = self.tokens.document(document)
        near, far = max(0, start - _AROUND), start + length + _AROUND
        row_L = document_L[near:far]
        (text,) = self.tokenizer.decode(row_L[None])
        offsets = self.tokenizer.offsets(row_L)
        span = int(offsets[start - near]), int(offsets[start - near + length])
        cut = {"more_before": near > 0, "more_after": far < len(document_L)}
        return {"passage": Passage.of(text, *span, **cut)}


def write_provenance(out: Path, traced: Sequence[TracedSample]) -> dict[str, Any]:
    """Write arrays, list and pictures; return the facts."""
    pictures: list[Images] = []

    def entry(source: Source) -> dict[str, Any]:
        values = {
            field.name: getattr(source, field.name)
            for field in dataclasses.fields(source)
            if field.name not in ("image", "passage")
        }
        if source.passage is not None:
            values["passage"] = dataclasses.asdict(source.passage)
        if source.image is not None:
            pictures.append(source.image)
        return {**values, "picture": None if source.image is None else len(pictures) - 1}

    listing = [
        {
            "sample": one.sample,
            "num_sources": one.num_sources,
            "drawn_share": one.drawn_share,
            "sources": [entry(source) for source in one.sources],
        }
        for one in traced
    ]
    (out / "sources.json").write_text(json.dumps(listing, indent=1, allow_nan=False) + "\n")
    for name in _ARRAYS:
        np.save(out / f"{name}.npy", np.stack([getattr(one, name) for one in traced]))
    if pictures:
        np.save(out / "pictures.npy", np.stack(pictures))
    return {
        "num_samples": len(traced),
        "num_tokens": len(traced[0].documents),
        "num_pictures": len(pictures),
    }


def read_provenance(folder: Path) -> tuple[TracedSample, ...]:
    """Read the files of :func:`write_provenance`; arrays are memory maps."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    place = folder / "pictures.npy"
    pictures = np.load(place) if place.exists() else None  # none of the tokens is credited

    def source(entry: dict[str, Any]) -> Source:
        picture, passage = entry.pop("picture"), entry.pop("passage", None)
        return Source(
            **entry,
            image=None if pictures is None or picture is None else pictures[picture],
            passage=None if passage is None else Passage(**passage),
        )

    return tuple(
        TracedSample(
            sample=entry["sample"],
            num_sources=entry["num_sources"],
            drawn_share=entry["drawn_share"],
            sources=tuple(source(one) for one in entry["sources"]),
            **{name: np.asarray(array[row]) for name, array in arrays.items()},
        )
        for row, entry in enumerate(json.loads((folder / "sources.json").read_text()))
    )
