"""Surface: what was written, encoded again by another tokenizer and looked up in its index.

    python -m imagegram.run modality=text auditor=bpe

The tokens of a generator need not be those of a text: codes of sentences stand for a sentence each,
and what a renderer makes of them is not in the codes. An *auditor* is a tokenizer of text with an
index of the same training documents. Samples and the sets that they are compared with are decoded,
encoded by the auditor, and measured by the same metrics; their scores are called ``surface_...``.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import Unreadable
from imagegram.protocols import ImageSet, Index, Metric, Tokenizer
from imagegram.records import EOS_TOKEN_ID, Measurement, ScoreInfo, Tokens
from imagegram.stages.evaluate import (
    Curves,
    Evaluate,
    Evaluation,
    combine,
    kernels_of,
    write_record,
)
from imagegram.stages.generate import SampleWriter
from imagegram.stages.measure import FinishedMeasurement, Measure
from imagegram.stages.sample_set import SampleSet
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import Cost
from imagegram.store.manifest import Artifact
from imagegram.store.parts import write_parts
from imagegram.store.stage import Context, Stage, Surroundings

#: Beginning of the names of scores and curves.
PREFIX: Final = "surface_"
#: What a metric may ask of an image set, to be measured on the surface.
_NEEDS: Final = frozenset({"ids", "text", "matches"})
_ROWS: Final = 64


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The training documents as an auditor reads them.

    Attributes:
        tokenizer: the auditor.
        tokens: training documents in its tokens.
        index: their index.
    """

    tokenizer: Tokenizer
    tokens: TokenSet
    index: Index


@dataclass(frozen=True, kw_only=True)
class SurfaceSet(SampleSet):
    """Texts in an auditor's tokens; rows are of the documents that they were of.

    Attributes:
        written: texts, as their own tokenizer decoded them.
    """

    written: Any = None

    @property
    def documents_identity(self) -> Any:
        """Identity of the documents that the texts are of; None for samples."""
        return getattr(self.written, "documents_identity", None)

    @cached_property
    def row_documents(self) -> NDArray[np.int64] | None:
        """(B,) document that each row is a window of; None: every row stands for itself."""
        found: NDArray[np.int64] | None = self.written.row_documents
        return found


@dataclass(frozen=True, kw_only=True)
class EncodeSurface(Stage[SampleSet]):
    """The stage that encodes the texts of an image set again, a row each.

    Attributes:
        images: texts, as their own tokenizer decoded them.
        tokenizer: the auditor; what is longer than its window is cut, and counted.
    """

    kind: ClassVar[str] = "surface"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1

    images: ImageSet
    tokenizer: Tokenizer

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Encode, and write what the auditor gives back."""
        texts = self.images.texts
        counted: Counter[str] = Counter(num_cut=0, num_refused=0)
        with SampleWriter(out, len(texts), self.tokenizer, None, context) as writer:
            for start in range(0, len(texts), _ROWS):
                writer.add(self._rows(texts[start : start + _ROWS], counted), {})
        return writer.facts() | dict(counted)

    def _rows(self, texts: Iterable[str], counted: Counter[str]) -> Tokens:
        """Return the (B, T) tokens of texts, padded with separators; counts what is not whole."""
        rows = [self._encode(text, counted) for text in texts]
        tokens_BT = np.full((len(rows), self.tokenizer.spec.length), EOS_TOKEN_ID, dtype=np.uint16)
        for row_T, tokens in zip(tokens_BT, rows, strict=True):
            size = min(len(tokens), len(row_T))
            row_T[:size] = tokens[:size]
            counted["num_cut"] += len(tokens) > size
        return tokens_BT

    def _encode(self, text: str, counted: Counter[str]) -> Tokens:
        try:
            prepared = self.tokenizer.prepare(text)
        except Unreadable:  # the auditor would not give it back
            counted["num_refused"] += 1
            return np.empty(0, dtype=np.uint16)
        (tokens,) = self.tokenizer.encode([prepared]).documents
        return tokens

    def load(self, artifact: Artifact) -> SampleSet:
        """Return the texts in the auditor's tokens."""
        return SurfaceSet(artifact=artifact, written=self.images)


@dataclass(frozen=True, kw_only=True)
class EvaluateSurface(Stage[Evaluation]):
    """The stage that evaluates image sets, and what is written in them by an auditor.

    Attributes:
        inner: evaluation in the tokens of the experiment.
        surface: what an auditor reads.
    """

    kind: ClassVar[str] = "evaluation"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (Measure, EncodeSurface)

    inner: Evaluate
    surface: Surface

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that are measured on the surface too: those that look tokens up."""
        return tuple(m for m in self.inner.metrics if "matches" in m.NEEDS and m.NEEDS <= _NEEDS)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Packages of the compiled kernels that it calls."""
        return kernels_of(self.inner.metrics)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Make all measurements, and write them as one record."""
        inner = context.make(self.inner)
        record = {section: dict(entries) for section, entries in inner.record.items()}
        curves: Curves = {which: dict(named) for which, named in inner.curves.items()}
        sets = {
            which: context.make(EncodeSurface(images=images, tokenizer=self.surface.tokenizer))
            for which, images in self.inner.sets.items()
        }
        made: list[FinishedMeasurement] = []
        for metric in self.metrics:
            measured: dict[str, Measurement] = {}
            for which, images in sets.items():
                made.append(context.make(self._part(metric, images)))
                measured[which] = made[-1].measurement
                named = curves.setdefault(which, {})
                named |= {f"{PREFIX}{name}": c for name, c in measured[which].curves.items()}
            for section, entries in combine(measured, metric=metric, lacks={}).items():
                record[section].update(_renamed(section, entries))
        if note := _cut_said({which: images.artifact.facts for which, images in sets.items()}):
            for name in record["scores"]:
                if name.startswith(PREFIX):
                    old = record["notes"].get(name)
                    record["notes"][name] = f"{old}; {note}" if old else note
        write_parts(out, kind=Measure.kind, parts=[part.artifact for part in made])
        write_record(out, record, curves)
        return inner.artifact.facts | {"num_scores": len(record["scores"])}

    def _part(self, metric: Metric, images: ImageSet) -> Measure:
        inner = self.inner
        return Measure(
            metric=metric,
            images=images,
            calibration=None,
            documents=self.surface.tokens,
            tokenizer=self.surface.tokenizer,
            index=self.surface.index,
            seed=inner.seed,
            num_skipped=inner.ceiling.num_images,
            max_images=inner.max_reference_images,
            near_duplicate_rms=inner.near_duplicate_rms,
        )

    def load(self, artifact: Artifact) -> Evaluation:
        """Return the scores."""
        return Evaluation(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee the inner evaluation; what the auditor adds is a small part of it."""
        cost = self.inner.forecast(at)
        artifact = at.expect(self, {})
        return replace(cost, artifact=artifact, handle=self.load(artifact))


def _renamed(section: str, entries: dict[str, Any]) -> dict[str, Any]:
    """Return entries of a record under the names of the surface."""
    if section == "infos":
        entries = {name: dataclasses.asdict(surface_info(info)) for name, info in entries.items()}
    return {f"{PREFIX}{name}": entry for name, entry in entries.items()}


def surface_info(stored: dict[str, Any]) -> ScoreInfo:
    """Describe a score of the surface from that of the tokens.

    >>> surface_info({"name": "num_phrases", "title": "phrases", "words": "Runs.", "headline": 3})
    ScoreInfo(name='surface_num_phrases', title='phrases of the surface', words='Runs. Of what was \
written, in the tokens of the auditor.', unit='', better=None, group='other', moves_with_n=False, \
rank=0, short='', short_of='value', headline=0, counts=(), bounds=(), per_image=(), needs=())
    """
    info = ScoreInfo.of(stored)
    return replace(
        info,
        name=f"{PREFIX}{info.name}",
        title=f"{info.title or info.name} of the surface",
        words=f"{info.words} Of what was written, in the tokens of the auditor.",
        short=f"{PREFIX}{info.short}" if info.short else "",
        headline=0,
        rank=0,
        counts=(),  # facts are counted once
        per_image=tuple(f"{PREFIX}{name}" for name in info.per_image),
    )


def _cut_said(facts: dict[str, Any]) -> str:
    """Say how many texts the auditor did not read whole; empty where it read all."""
    cut = [f"{which}: {f['num_cut']}" for which, f in facts.items() if f["num_cut"]]
    refused = [f"{which}: {f['num_refused']}" for which, f in facts.items() if f["num_refused"]]
    said = []
    if cut:
        said.append(f"texts longer than auditor.window, whose ends are not read ({', '.join(cut)})")
    if refused:
        said.append(f"texts that the auditor would not give back ({', '.join(refused)})")
    return "; ".join(said)
