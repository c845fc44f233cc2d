"""NgramGenerator: an unbounded n-gram model over the index of its tokens.

``python -m imagegram.run generator=ngram generator.engine=naive`` runs the slow definition
instead of the compiled kernels; tokens and trace are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.label import LabelCondition
from imagegram.conditions.labels import Labels
from imagegram.conditions.own import OwnLabels
from imagegram.conditions.prompt import GivenTokens, without_prompt
from imagegram.errors import ConfigError, UnsupportedError, did_you_mean
from imagegram.generators.ngram.engine import Engine, Files, Job, Needs, Request, RowLabels
from imagegram.generators.ngram.engines import bytes_read, choose, make_files, needs_of
from imagegram.generators.ngram.trace import check_rows
from imagegram.indexes.build.label_stage import ReadLabels, read_labels
from imagegram.indexes.format import IndexShard
from imagegram.indexes.open import ENGINES
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Index, Sampler
from imagegram.records import PROMPT, Tokens, Trace
from imagegram.samplers.kinds import require_kind
from imagegram.samplers.ngram import NgramSampler
from imagegram.seeding import check_counts
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.stage import Context, Progress, Ready

#: What rows may be asked for: a label of their own each, or labels by their numbers.
Asked = LabelCondition | OwnLabels


@dataclass(frozen=True, kw_only=True)
class NgramGenerator:
    """Sample the next token from the tokens that follow the longest supported context.

    Attributes:
        name: name of the configuration file.
        engine: ``native`` (compiled), ``torch`` (many images on a device, one index shard, some
            samplers only), ``naive`` (the definition, slow) or ``fastgram`` (the PyPI package, some
            samplers only); changes the speed, never the result.
        device: device of engine ``torch``: ``cpu``, ``cuda``, ``cuda:1`` ...; None: CUDA when there
            is one.
    """

    VERSION: ClassVar[int] = 1
    name: str
    engine: str = field(default="native", metadata=NOT_IDENTITY)
    device: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(
                f"generator.engine={self.engine!r}: {did_you_mean(self.engine, ENGINES)}"
            )

    def check_machine(self) -> None:
        """Refuse a device that is not there."""
        if self.engine == "torch":
            from imagegram.indexes.torch_device import choose_device

            choose_device(self.device)

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse a sampler or condition of another kind, or one that does not fit the tokens.

        Raises:
            ConfigError: saying what fits.
        """
        _own(sampler, self.name).max_context_per_position(layout)
        _label(condition, self.name)

    def scores(self, sampler: Sampler) -> bool:
        """Return True: counts give the probability of any token, whatever the sampler."""
        return True

    def fit(self, tokens: Any, *, index: Index, holdout: Any = None) -> Ready[NgramModel]:
        """Return the model over an index: there is nothing to learn."""
        ragged = tokens.document_length is None
        return Ready(NgramModel(index=index, engine=self.engine, device=self.device, ragged=ragged))


@dataclass(frozen=True, kw_only=True, eq=False)
class NgramModel:
    """An index that generates.

    Attributes:
        index: index of the training tokens; the model has its identity.
        engine: see :class:`NgramGenerator`.
        device: see there.
        ragged: whether documents differ in length: a sample ends where a document does, and what
            follows in its row is padding, separators.
        files: the shards with side files for a sampler, see :meth:`prepared`; None: without.
        labels: labels of the documents; None: they are read when a condition needs them.
        label_key: key of the metadata with the labels.
    """

    index: Index
    engine: str = "native"
    device: str | None = None
    ragged: bool = False
    files: Files | None = None
    labels: Labels | None = None
    label_key: str = ""

    def __getstate__(self) -> dict[str, Any]:
        # Addresses of memory maps mean nothing in another process, which maps them again.
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def over(cls, index: Index) -> NgramModel:
        """Return the model of an index that counts for metrics, whatever generator is measured.

        Kernels read files: an index of documents in memory is scanned.
        """
        in_files = all(isinstance(shard, IndexShard) for shard in index.shards)
        return cls(index=index, engine="native" if in_files else "naive")

    def identity(self) -> str:
        """Return kind/digest of the index."""
        return self.index.identity()

    @property
    def any_length(self) -> bool:
        """Whether rows may be of any length: where documents are."""
        return self.ragged

    @property
    def shards(self) -> tuple[IndexShard, ...]:
        """Shards of the index, in the order of their document ids."""
        return self.index.shards

    def prepared(
        self,
        sampler: Sampler,
        context: Context,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> NgramModel:
        """Return the model with side files and labels for a sampler, made when missing.

        That is side files of the index shards, as the engine needs them, and labels.

        Raises:
            ConfigError: when the sampler does not fit the layout.
            UnsupportedError: when no engine can do what the sampler asks of this index.
        """
        asked = _label(condition)
        needs = needs_of(self.engine, self._request(_own(sampler), layout, asked))
        model = replace(self, files=make_files(needs, self._filled, context))
        if asked is None:
            return model
        stages = [ReadLabels(shard=shard, key=asked.key) for shard in self._filled]
        labels = Labels.join(context.make_all(stages, description="labels"))
        return replace(model, labels=labels, label_key=asked.key)

    def kernels(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> tuple[str, ...]:
        """Name the packages of the compiled kernels that a sampler calls, see ``early_kernels``."""
        request = self._request(_own(sampler), layout, _label(condition))
        return choose(self.engine, request).kernels(request)

    def bytes_read(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> int:
        """Count the bytes of index and side files that a sampler reads at random, made or not."""
        request = self._request(_own(sampler), layout, _label(condition))
        return bytes_read(needs_of(self.engine, request), self._filled)

    def generate(
        self,
        samples: NDArray[np.uint64],
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        condition: Condition | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> tuple[Tokens, Trace]:
        """Sample (B, T) tokens with their trace; see :meth:`imagegram.protocols.Model.generate`.

        Raises:
            ConfigError: without samples, or when sampler or condition do not fit.
            UnsupportedError: when the engine or the index cannot do the sampler's matching.
        """
        own = _own(sampler)
        job = Job(sampler=own, layout=layout, samples=samples, seed=seed, workers=workers)
        if not isinstance(condition, GivenTokens):
            return self._rows(job, _label(condition), progress)
        given_BT, until_B = condition.of_samples(samples, num_tokens=layout.num_tokens)
        job = replace(job, forced=given_BT, forced_until=until_B)
        tokens_BT, trace = self._rows(job, None, progress)
        return tokens_BT, trace | {PROMPT: np.arange(layout.num_tokens) < until_B[:, None]}

    def score(
        self,
        tokens_BT: Tokens,
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        condition: Condition | None = None,
        samples: NDArray[np.uint64] | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> Trace:
        """Return the trace of given tokens, as if the sampler had been forced to write them.

        A token that no candidate holds has probability 0 and no source. With the seed and sample
        ids of a generation, its own tokens get its own trace.

        Arguments are those of :meth:`imagegram.protocols.Scores.score`. Rows hold no separators;
        those of ragged documents are padded with them.

        Raises:
            ConfigError: without rows, or when sampler or condition do not fit.
            TokenError: for rows of another length, or with a separator.
            UnsupportedError: when the engine or the index cannot do the sampler's matching.
        """
        check_rows(tokens_BT, layout.num_tokens, padded=self.ragged)
        if samples is None:
            samples = np.arange(len(tokens_BT), dtype=np.uint64)
        if len(samples) != len(tokens_BT):
            raise ConfigError(
                f"{len(samples)} sample ids were given for {len(tokens_BT)} rows; give one a row, "
                "or none"
            )
        own = _own(sampler)
        job = Job(sampler=own, layout=layout, samples=samples, seed=seed, workers=workers)
        return self._rows(replace(job, forced=tokens_BT), _label(condition), progress)[1]

    def condition_of(
        self, metadata: Iterable[Mapping[str, Any]], condition: Condition | None
    ) -> Condition | None:
        """Return the condition of documents: their own labels, where samples are given labels.

        Of a document without one, or with one that no training document has, any may decide.
        """
        asked = _label(condition)
        return None if asked is None else OwnLabels.of(metadata, key=asked.key)

    def _rows(
        self, job: Job, asked: Asked | None, progress: Progress | None
    ) -> tuple[Tokens, dict[str, NDArray[Any]]]:
        check_counts(len(job.samples), job.seed)
        self._require_tokens()
        ids = job.samples.astype(np.uint64)
        job = replace(job, samples=ids, ragged=self.ragged, device=self.device)
        request = self._request(job.sampler, job.layout, asked, made=self._files.made)
        engine = self._open(choose(self.engine, request))
        if asked is not None:
            job = replace(job, labels=self._row_labels(asked, job))
        is_replay = job.forced is not None and job.forced_until is None
        verb = "replay" if is_replay else "generate"
        with _advancing(progress, verb, len(job.samples) * job.layout.num_tokens) as advance:
            tokens_BT, trace = engine.rows(replace(job, advance=advance))
        return tokens_BT, dict(trace)

    @property
    def _filled(self) -> tuple[IndexShard, ...]:
        """Shards with documents; the others change no document id."""
        return tuple(shard for shard in self.shards if shard.num_documents)

    @cached_property
    def _files(self) -> Files:
        return self.files or Files(shards=self._filled)

    def _request(
        self,
        sampler: NgramSampler,
        layout: TokenLayout,
        asked: Asked | None,
        made: Needs | None = None,
    ) -> Request:
        return Request(
            sampler=sampler,
            layout=layout,
            lengths=tuple(shard.document_length for shard in self._filled),
            ragged=self.ragged,
            labelled=asked is not None,
            made=made,
        )

    def _open(self, engine: type[Engine]) -> Engine:
        """Return an engine over these files, opened once."""
        if engine not in self._opened:
            self._opened[engine] = engine(files=self._files)
        return self._opened[engine]

    @cached_property
    def _opened(self) -> dict[type[Engine], Engine]:
        return {}

    def _row_labels(self, asked: Asked, job: Job) -> RowLabels:
        """Return the labels of all documents and all samples.

        Raises:
            ConfigError: when there is no such label, or none at all.
        """
        labels = self.labels
        if labels is None or self.label_key != asked.key:
            labels = Labels.join([read_labels(shard, asked.key) for shard in self._filled])
        by_row = asked.of_samples(labels.names, job.samples, keys=labels.keys)
        return RowLabels(
            by_document=labels.by_document, by_row=by_row, num_tokens=job.sampler.label_tokens
        )

    def _require_tokens(self) -> None:
        documents = sum(shard.num_documents for shard in self.shards)
        separators = documents + sum(shard.has_final_separator for shard in self.shards)
        if sum(shard.num_tokens for shard in self.shards) == separators:
            raise UnsupportedError(
                f"the index of {documents} documents holds no token, so nothing can be generated; "
                "tokenize images first"
            )


def _own(sampler: Sampler, generator: str = "ngram") -> NgramSampler:
    """Return the sampler, if it is one for n-grams."""
    return require_kind(sampler, NgramSampler, group="sampler", generator=generator)


def _label(condition: Condition | None, generator: str = "ngram") -> Asked | None:
    """Return the condition, if it is one that documents can meet; None for a prompt."""
    condition = without_prompt(condition)
    if condition is None or isinstance(condition, OwnLabels):
        return condition
    return require_kind(condition, LabelCondition, group="condition", generator=generator)


@contextmanager
def _advancing(progress: Progress | None, verb: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a task of ``total`` tokens, and advance it by the tokens that are finished."""
    if progress is None:
        yield lambda steps: None
        return
    task = progress.start(verb, total, "tokens")
    yield lambda steps: progress.advance(task, steps)
    progress.finish(task)
