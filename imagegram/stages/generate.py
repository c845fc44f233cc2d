"""Generate: sample images from a model. Replay: score real images with the same trace.

Both write the same files, so that every metric measures generated, held-out and training images
in one way: ``tokens.npy``, ``trace/*.npy``, and ``images.npy`` or ``texts.jsonl`` (see
``docs/formats.md``). Decode writes real images without a trace. Rows are made and written in
batches, so memory does not grow with their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.captions import Captions, DrawnCaptions
from imagegram.conditions.excerpts import DrawnExcerpts
from imagegram.conditions.prompt import encoded
from imagegram.protocols import (
    Condition,
    Denoises,
    DescribedDocuments,
    DocumentSource,
    Model,
    Paints,
    PicturedDocuments,
    Sampler,
    Scores,
    ScoresByLabel,
    Tokenizer,
)
from imagegram.records import PROMPT, Images, Tokens, Trace
from imagegram.seeding import check_counts, document_order
from imagegram.stages.decoding import (
    RowCaptions,
    audited_pictures,
    captions_of_documents,
    captions_of_samples,
    decoded,
)
from imagegram.stages.image_costs import BATCH_TOKENS, images_cost, index_facts, sampling_units
from imagegram.stages.sample_set import (
    CAPTION_DOCUMENTS,
    CAPTIONS_FILE,
    CONTINUED,
    CONTINUED_DOCUMENTS,
    CONTINUED_ROWS,
    TRACE,
    SampleSet,
)
from imagegram.stages.sentences import DRAWN
from imagegram.store.arrays import ArrayFiles
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Surroundings
from imagegram.texts.samples import write_texts

_DECODE_BATCH: Final = 64


@dataclass(frozen=True, kw_only=True)
class Generate:
    """The stage that samples ``num_samples`` images; image i depends only on (seed, i).

    Attributes:
        model: fitted generator.
        sampler: options of sampling.
        tokenizer: decoder of the tokens.
        num_samples: number of samples, at least 1.
        seed: 0 ... 2**64 - 1.
        output_size: side of the decoded images in pixels; None: the tokenizer's finest level.
        condition: requested property of each sample; None: unconditional.
    """

    kind: ClassVar[str] = "samples"
    group: ClassVar[str] = "generate"
    VERSION: ClassVar[int] = 3
    RATE: ClassVar[PerUnit] = PerUnit("num_images", "num_tokens", like="sampler", seconds=1.4e-6)
    model: Model
    sampler: Sampler
    tokenizer: Tokenizer
    num_samples: int
    seed: int
    output_size: int | None = None
    condition: Condition | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        check_counts(self.num_samples, self.seed)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Packages of the compiled kernels that it calls."""
        named = getattr(self.model, "kernels", None)
        layout = self.tokenizer.spec.layout
        return () if named is None else tuple(named(self.sampler, layout, self.condition))

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Sample, decode and write images."""
        layout = self.tokenizer.spec.layout
        condition = encoded(self.condition, self.tokenizer)
        model = self.model.prepared(self.sampler, context, layout, condition)
        samples = np.arange(self.num_samples, dtype=np.uint64)

        def make(start: int, stop: int) -> tuple[Tokens, Trace]:
            return model.generate(
                samples[start:stop],
                sampler=self.sampler,
                layout=layout,
                seed=self.seed,
                condition=condition,
                progress=context.progress,
                workers=context.workers,
            )

        asked = write_captions(out, condition, samples)
        if isinstance(self.condition, DrawnExcerpts):
            asked |= write_continued(out, self.condition, samples)
        with SampleWriter(
            out, self.num_samples, self.tokenizer, self.output_size, context
        ) as writer:
            for start, stop in _batches(self.num_samples, self.tokenizer):
                captions = captions_of_samples(condition, samples[start:stop])
                if isinstance(model, Paints):
                    rows = samples[start:stop]
                    writer.add_pictures(*self._paint(model, rows, condition, context))
                else:
                    writer.add(*make(start, stop), captions=captions)
        return writer.facts() | asked | index_facts(model)

    def _paint(
        self,
        model: Paints,
        samples: NDArray[np.uint64],
        condition: Condition | None,
        context: Context,
    ) -> tuple[Images, Trace]:
        """Return pictures, and the errors of denoising them, where the sampler asks for these."""
        how: dict[str, Any] = {
            "sampler": self.sampler,
            "seed": self.seed,
            "condition": condition,
            "progress": context.progress,
        }
        painted = model.paint(samples, **how)
        if not (isinstance(model, Denoises) and model.denoises(self.sampler)):
            return painted, {}
        return painted, model.errors(painted, samples, **how)

    def load(self, artifact: Artifact) -> SampleSet:
        """Return the samples."""
        return SampleSet(artifact=artifact, tokenizer=self.tokenizer)

    def units(self, facts: Mapping[str, Any]) -> float:
        """Count the units of its ``RATE``, by the facts of an artifact."""
        return sampling_units(facts)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee threads that share the images."""
        return images_cost(self, at, self.num_samples)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The stage that scores real documents, which gives them the trace of samples.

    Held-out documents are the floor of each metric, training documents its ceiling.

    Attributes:
        model: fitted generator that implements ``Scores``, or ``Denoises`` pictures of documents.
        sampler, tokenizer, seed, output_size, condition: those of :class:`Generate`.
        documents: documents to draw from without replacement: a token set, or planted ones.
        num_images: largest number of images; a smaller set is taken whole.
    """

    kind: ClassVar[str] = "replay"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 3
    RATE: ClassVar[PerUnit] = PerUnit("num_images", "num_tokens", like="sampler", seconds=7.0e-6)
    model: Model
    sampler: Sampler
    tokenizer: Tokenizer
    documents: DocumentSource
    num_images: int
    seed: int
    output_size: int | None = None
    condition: Condition | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        check_counts(self.num_images, self.seed)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Draw, score, decode and write documents."""
        layout = self.tokenizer.spec.layout
        model = self.model.prepared(self.sampler, context, layout, self.condition)
        assert isinstance(model, Scores | Denoises)
        chosen = select_documents(self.documents.num_documents, self.seed)[: self.num_images]
        np.save(out / DRAWN, chosen)

        def trace(tokens_BT: Tokens, start: int) -> Trace:
            rows = chosen[start : start + len(tokens_BT)]
            samples = np.arange(start, start + len(rows), dtype=np.uint64)
            how: dict[str, Any] = {
                "sampler": self.sampler,
                "seed": self.seed,
                "condition": self._condition(model, rows),
                "progress": context.progress,
            }
            if isinstance(model, Denoises):
                assert isinstance(self.documents, PicturedDocuments)
                return model.errors(map(self.documents.picture, rows.tolist()), samples, **how)
            how |= {"layout": layout, "workers": context.workers}
            return model.score(tokens_BT, samples=samples, **how)

        with SampleWriter(out, len(chosen), self.tokenizer, self.output_size, context) as writer:
            for start, stop in _batches(len(chosen), self.tokenizer):
                rows = chosen[start:stop]
                tokens_BT = self.documents.gather(rows)
                captions = captions_of_documents(self.tokenizer, self.documents, rows)
                writer.add(tokens_BT, trace(tokens_BT, start), captions=captions)
        return writer.facts() | index_facts(model)

    def _condition(self, model: Model, documents: NDArray[np.int64]) -> Condition | None:
        """Return the condition of some documents: their own labels, where a model knows labels."""
        if not isinstance(model, ScoresByLabel):
            return self.condition
        metadata: Iterable[dict[str, Any]] = [{}] * len(documents)
        if isinstance(self.documents, DescribedDocuments):
            metadata = self.documents.metadata_of(documents)
        return model.condition_of(metadata, self.condition)

    def load(self, artifact: Artifact) -> SampleSet:
        """Return the scored documents."""
        return SampleSet(artifact=artifact, documents=self.documents, tokenizer=self.tokenizer)

    def units(self, facts: Mapping[str, Any]) -> float:
        """Count the units of its ``RATE``, by the facts of an artifact."""
        return sampling_units(facts)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee threads that share the images."""
        return images_cost(self, at, min(self.num_images, self.documents.num_documents))


@dataclass(frozen=True, kw_only=True)
class Decode:
    """The stage that decodes real documents; without a trace, so independent of the sampler.

    Attributes:
        documents: documents to draw from.
        tokenizer, seed, output_size: those of :class:`Generate`.
        num_skipped: number of first documents, in the order of evaluation, to leave out.
        num_images: largest number of images.
    """

    kind: ClassVar[str] = "images"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1
    RATE: ClassVar[PerUnit] = PerUnit("num_images", "num_tokens", seconds=5.0e-8)
    documents: DocumentSource
    tokenizer: Tokenizer
    num_skipped: int
    num_images: int
    seed: int
    output_size: int | None = None

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Draw, decode and write documents."""
        order = select_documents(self.documents.num_documents, self.seed)
        chosen = order[self.num_skipped : self.num_skipped + self.num_images]
        np.save(out / DRAWN, chosen)
        with SampleWriter(out, len(chosen), self.tokenizer, self.output_size, context) as writer:
            for start, stop in _batches(len(chosen), self.tokenizer):
                rows = chosen[start:stop]
                captions = captions_of_documents(self.tokenizer, self.documents, rows)
                writer.add(self.documents.gather(rows), {}, captions=captions)
        return writer.facts()

    def load(self, artifact: Artifact) -> SampleSet:
        """Return the images."""
        return SampleSet(artifact=artifact, documents=self.documents, tokenizer=self.tokenizer)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee threads that share the images, without a trace."""
        left = self.documents.num_documents - self.num_skipped
        return images_cost(self, at, min(self.num_images, left))


def write_captions(
    out: Path, condition: Condition | None, samples: NDArray[np.uint64]
) -> dict[str, Any]:
    """Write what caption every sample is asked for, if any is; return their counts.

    Returns:
        ``num_captions``: different captions; of captions of the corpus also ``captions_of``, whose
        they are, and ``captions_in_training``: samples whose caption a training image has, word for
        word.
    """
    if not isinstance(condition, Captions):
        return {}
    texts = [text for text in condition.texts_of(samples) if text is not None]
    write_texts(out / CAPTIONS_FILE, texts)
    counts: dict[str, Any] = {"num_captions": len(set(texts))}
    if isinstance(condition, DrawnCaptions):
        counts["captions_of"] = condition.condition.captions
        np.save(out / f"{CAPTION_DOCUMENTS}.npy", condition.documents_of(samples))
        counts["captions_in_training"] = sum(text in condition.known for text in texts)
    return counts


def write_continued(
    out: Path, condition: DrawnExcerpts, samples: NDArray[np.uint64]
) -> dict[str, Any]:
    """Write the rows whose beginnings samples continue; return their counts.

    Returns:
        ``num_excerpts``: different rows; ``excerpt_tokens``: tokens that were given of each;
        ``excerpts_of``: whose documents they are.
    """
    rows_B = condition.rows_of(samples)
    np.save(out / f"{CONTINUED}.npy", condition.rows.gather(rows_B))
    np.save(out / f"{CONTINUED_ROWS}.npy", rows_B)
    np.save(out / f"{CONTINUED_DOCUMENTS}.npy", condition.documents_of(rows_B))
    return {
        "num_excerpts": len(np.unique(rows_B)),
        "excerpt_tokens": condition.condition.length,
        "excerpts_of": condition.condition.documents,
    }


def select_documents(num_documents: int, seed: int) -> NDArray[np.int64]:
    """Return all document ids in the order of evaluation, a seeded permutation.

    The ceiling takes the first ones, the reference of feature distances the next ones, so the two
    are disjoint if there are enough documents.
    """
    return document_order(num_documents, seed)


def _batches(count: int, tokenizer: Tokenizer) -> Iterator[tuple[int, int]]:
    """Yield first and end of each batch of rows."""
    size = max(BATCH_TOKENS // tokenizer.spec.length, 1)
    for start in range(0, count, size):
        yield start, min(start + size, count)


class SampleWriter(ArrayFiles):
    """Writer of the files of ``count`` samples, batch by batch."""

    def __init__(
        self,
        folder: Path,
        count: int,
        tokenizer: Tokenizer,
        output_size: int | None,
        context: Context,
    ) -> None:
        super().__init__(folder, count)
        self.tokenizer, self.output_size, self.context = tokenizer, output_size, context
        self.items = tokenizer.modality.writer(folder, count)
        self.counted: Counter[str] = Counter()

    def __enter__(self) -> SampleWriter:
        """Open the files."""
        self.items.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Close the files."""
        self.items.__exit__(*error)
        super().__exit__(*error)

    def add(self, tokens_BT: Tokens, trace: Trace, *, captions: RowCaptions = None) -> None:
        """Append rows: tokens, arrays of their trace, items decoded under captions."""
        self.append("tokens", tokens_BT)
        self._append_trace(trace)
        nouns = self.tokenizer.modality.nouns
        task = self.context.progress.start("decode", len(tokens_BT), nouns)
        starts = range(0, len(tokens_BT), _DECODE_BATCH)
        with ThreadPoolExecutor(self.context.workers) as pool:
            for items in pool.map(
                lambda start: decoded(
                    self.tokenizer,
                    tokens_BT[start : start + _DECODE_BATCH],
                    captions=None if captions is None else captions[start : start + _DECODE_BATCH],
                    output_size=self.output_size,
                ),
                starts,
            ):
                self.items.add(items)
                self.context.progress.advance(task, len(items))
        self.context.progress.finish(task)

    def add_pictures(self, images: Images, trace: Trace) -> None:
        """Append pictures that a model painted, their trace, and what tokens they are given."""
        tokens_BT, shown = audited_pictures(self.tokenizer, images, output_size=self.output_size)
        self.append("tokens", tokens_BT)
        self._append_trace(trace)
        self.items.add(list(shown))

    def _append_trace(self, trace: Trace) -> None:
        if trace:
            (self.folder / TRACE).mkdir(exist_ok=True)
        for name, values_BT in trace.items():
            self.append(f"{TRACE}/{name}", values_BT)
        if "num_distinct" in trace:
            forced_BT = trace["num_distinct"] == 1
            if PROMPT in trace:  # there nothing was to be chosen anyway
                forced_BT = forced_BT & ~trace[PROMPT]
            self.counted["forced_steps"] += int(forced_BT.sum())
        if PROMPT in trace:
            self.counted["prompt_tokens"] += int(trace[PROMPT].sum())
        if "suffix_len" in trace:
            self.counted["suffix_tokens"] += int(trace["suffix_len"].sum(dtype=np.int64))

    def facts(self) -> dict[str, Any]:
        """Return the counts."""
        num_tokens = self.tokenizer.spec.length
        facts = {"num_images": self.count, "num_tokens": num_tokens, **self.items.facts()}
        if "forced_steps" in self.counted:
            facts["forced_steps"] = self.counted["forced_steps"]
        if "prompt_tokens" in self.counted:
            facts["prompt_tokens"] = self.counted["prompt_tokens"]
        if "suffix_tokens" in self.counted:
            num_written = self.count * num_tokens
            facts["mean_suffix_len"] = self.counted["suffix_tokens"] / num_written
        return facts
