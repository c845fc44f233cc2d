"""NgramGenerator: an unbounded n-gram model; fitting it is indexing its tokens.

``python -m imagegram.run generator=ngram generator.engine=naive`` runs the slow definition
instead of the compiled kernels; tokens and trace are the same.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, UnsupportedError, did_you_mean
from imagegram.generators.ngram.conditions import divisor_of, is_conditioned
from imagegram.generators.ngram.reference import (
    Lookup,
    ReferenceLookup,
    StreamCorpus,
    require_aligned,
    trace_rows,
)
from imagegram.generators.ngram.trace import check_rows
from imagegram.indexes.build.sort import SHARD_TOKENS, check_shard_tokens
from imagegram.indexes.labels import Labels
from imagegram.indexes.open import ENGINES
from imagegram.layout import TokenLayout
from imagegram.protocols import FittedGenerator, Sampler
from imagegram.records import Tokens, Trace
from imagegram.seeding import check_counts
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Progress, Stage

if TYPE_CHECKING:
    from imagegram.generators.ngram.lockstep.engine import TorchGenerator
    from imagegram.generators.ngram.native import NativeGenerator
    from imagegram.generators.ngram.search.run import ConditionedGenerator
    from imagegram.indexes import Index
    from imagegram.indexes.format import IndexShard
    from imagegram.indexes.order import Order

#: Engines that read the side files of an index.
ENGINES_WITH_ORDERS: Final = ("native", "torch")


@dataclass(frozen=True, kw_only=True)
class NgramGenerator:
    """Samples the next token from what followed the longest sufficient context in the corpus.

    Attributes:
        name: of the configuration file.
        engine: ``native`` (compiled), ``torch`` (many images on a device, one index shard, some
            samplers only), ``naive`` (the definition, slow) or ``fastgram`` (the PyPI package, some
            samplers only); changes the speed, never the result.
        build_device: where suffixes are sorted: ``cpu``, ``cuda``, ``cuda:1`` ...; the same index.
        shard_tokens: most tokens of an index shard, to which token shards are joined.
        device: of engine ``torch``: ``cpu``, ``cuda``, ``cuda:1`` ...; None: CUDA when there is
            one.
    """

    VERSION: ClassVar[int] = 1
    name: str
    shard_tokens: int = SHARD_TOKENS
    build_device: str = field(default="cpu", metadata=NOT_IDENTITY)
    engine: str = field(default="native", metadata=NOT_IDENTITY)
    device: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(
                f"generator.engine={self.engine!r}: {did_you_mean(self.engine, ENGINES)}"
            )

        check_shard_tokens(self.shard_tokens)
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.build_device):
            raise ConfigError(
                f"generator.build_device={self.build_device!r}: allowed: cpu, cuda, cuda:NUMBER"
            )

    def fit(self, tokens: Any) -> Stage[FittedGenerator]:
        """The stage that indexes a token set (``stages.tokens.TokenSet``)."""
        from imagegram.indexes.build.stage import BuildIndex

        return BuildIndex(
            tokens=tokens,
            shard_tokens=self.shard_tokens,
            engine=self.engine,
            device=self.device,
            build_device=self.build_device,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedNgram:
    """An index that generates.

    Attributes:
        artifact: of the index; its digest is this model's identity.
        shards: of the index, in the order of their document ids.
        engine: see :class:`NgramGenerator`.
        device: see there.
        orders: side files of the shards, which spare the searches; see :meth:`prepared`.
        coarse: shards of coarse ids beside those with documents; their side files are then
            ``orders``.
        divisor: of whole ids, to those of ``coarse``; 1: there are none.
        labels: of the documents, under ``label_key``.
        label_key: where they were read.
    """

    artifact: Artifact
    shards: tuple[IndexShard, ...]
    engine: str = "native"
    device: str | None = None
    orders: tuple[Order, ...] = ()
    coarse: tuple[IndexShard, ...] = ()
    divisor: int = 1
    labels: Labels | None = None
    label_key: str = ""

    def __getstate__(self) -> dict[str, Any]:
        # Addresses of memory maps mean nothing in another process, which maps them again.
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def identity(self) -> str:
        """kind/digest of the index."""
        return self.artifact.identity()

    @cached_property
    def index(self) -> Index:
        """The index as a library: counts, next tokens, spans, documents.

        Metrics ask many single questions, which cost a device more than the memory maps.
        """
        from imagegram.indexes.open import make_engine

        engine = "native" if self.engine == "torch" else self.engine
        return make_engine(self.shards, engine=engine)

    @cached_property
    def _native(self) -> NativeGenerator:
        from imagegram.generators.ngram.native import NativeGenerator

        return NativeGenerator(shards=self._filled, orders=self.orders)

    @property
    def _filled(self) -> tuple[IndexShard, ...]:
        """Shards without documents change no document id and lead nowhere."""
        return tuple(shard for shard in self.shards if shard.num_documents)

    def prepared(
        self, sampler: Sampler, context: Context, layout: TokenLayout | None = None
    ) -> FittedNgram:
        """The same model with what makes this sampler fast, made when missing.

        That is side files, labels and, with the layout of the tokens, shards of coarse ids. A
        sampler or an engine that has no use for any gets the model as it is.
        """
        from imagegram.generators.ngram.native import wanted_order
        from imagegram.indexes.build.coarse_stage import BuildCoarse
        from imagegram.indexes.build.label_stage import ReadLabels

        model = self
        if sampler.label is not None:
            stages = [ReadLabels(shard=shard, key=sampler.label_key) for shard in self._filled]
            labels = Labels.join(context.make_all(stages, description="labels"))
            model = replace(model, labels=labels, label_key=sampler.label_key)
        divisor = 1 if layout is None else divisor_of(sampler, layout)
        if divisor > 1 and self.engine == "native":
            parts = [BuildCoarse(shard=shard, divisor=divisor) for shard in self._filled]
            shards = tuple(context.make_all(parts, description="coarse index"))
            model = replace(model, coarse=shards, divisor=divisor)
            if sampler.matching == "position":
                return model._ordered(shards, aligned=True, context=context)
        wanted = wanted_order(sampler, len(self._filled))
        if wanted is None or self.engine not in ENGINES_WITH_ORDERS:
            return model
        return model._ordered(self._filled, aligned=wanted == "aligned", context=context)

    def _ordered(
        self, shards: Sequence[IndexShard], *, aligned: bool, context: Context
    ) -> FittedNgram:
        """The same model with side files of these shards."""
        from imagegram.indexes.build.order_stage import BuildOrder

        if aligned and any(shard.document_length is None for shard in shards):
            return self  # generate refuses it, with a message
        kind = "aligned" if aligned else "suffix"
        stages = [BuildOrder(shard=shard, aligned=aligned) for shard in shards]
        return replace(self, orders=tuple(context.make_all(stages, description=f"{kind} orders")))

    @cached_property
    def _torch(self) -> TorchGenerator:
        from imagegram.generators.ngram.lockstep.engine import TorchGenerator

        return TorchGenerator(shards=self.shards, orders=self.orders, device=self.device)

    def generate(
        self,
        *,
        sampler: Sampler,
        layout: TokenLayout,
        samples: NDArray[np.uint64],
        seed: int,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> tuple[Tokens, Trace]:
        """Sample images; row b depends only on (seed, samples[b]).

        Args:
            sampler: the knobs.
            layout: of the tokenizer that made the index's tokens.
            samples: (B,) sample ids, B >= 1.
            seed: 0 ... 2**64 - 1.
            progress: told the tokens that are done.
            workers: threads.

        Returns:
            (B, T) uint16 tokens and their trace.

        Raises:
            ConfigError: without samples, or when the sampler does not fit the layout.
            UnsupportedError: when the engine or the index cannot do the sampler's matching.
        """
        return self._rows(None, samples, sampler, layout, seed, progress, workers)

    def replay(
        self,
        tokens_BT: Tokens,
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        samples: NDArray[np.uint64] | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> Trace:
        """The trace of given tokens, as if the sampler had been forced to write them.

        A token that no candidate holds has probability 0 and no source. With the seed and sample
        ids of a generation, its own tokens get its own trace.

        Args:
            tokens_BT: (B, T) uint16 ids without separators.
            sampler: the knobs.
            layout: of the tokenizer.
            seed: 0 ... 2**64 - 1; chooses among equal sources.
            samples: (B,) sample ids; None: 0 ... B - 1.
            progress: told the tokens that are done.
            workers: threads.

        Raises:
            ConfigError: without rows, or when the sampler does not fit the layout.
            TokenError: for rows of another length, or with a separator.
            UnsupportedError: when the engine or the index cannot do the sampler's matching.
        """
        check_rows(tokens_BT, layout.num_tokens)
        if samples is None:
            samples = np.arange(len(tokens_BT), dtype=np.uint64)
        if len(samples) != len(tokens_BT):
            raise ConfigError(
                f"{len(samples)} sample ids were given for {len(tokens_BT)} rows; give one a row, "
                "or none"
            )
        return self._rows(tokens_BT, samples, sampler, layout, seed, progress, workers)[1]

    def _rows(
        self,
        forced_BT: Tokens | None,
        samples: NDArray[np.uint64],
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        progress: Progress | None,
        workers: int,
    ) -> tuple[Tokens, Trace]:
        check_counts(len(samples), seed)
        lengths = [shard.document_length for shard in self.shards if shard.num_documents]
        require_aligned(lengths, sampler, layout)
        self._require_tokens()
        task = 0
        if progress is not None:
            verb = "generate" if forced_BT is None else "replay"
            task = progress.start(verb, len(samples) * layout.num_tokens, "tokens")

        def advance(steps: int) -> None:
            if progress is not None:
                progress.advance(task, steps)

        rows = self._engine(sampler, layout, workers)(
            samples=samples.astype(np.uint64), seed=seed, forced_BT=forced_BT, advance=advance
        )
        if progress is not None:
            progress.finish(task)
        return rows

    def _engine(
        self, sampler: Sampler, layout: TokenLayout, workers: int
    ) -> Callable[..., tuple[Tokens, Trace]]:
        if self.engine == "native" and is_conditioned(sampler):
            return partial(
                self._conditioned(sampler, layout).rows,
                sampler=sampler,
                layout=layout,
                workers=workers,
            )
        if self.engine == "native":
            return partial(self._native.rows, sampler=sampler, layout=layout, workers=workers)
        if self.engine == "torch":
            return partial(self._torch.rows, sampler=sampler, layout=layout, workers=workers)
        return partial(trace_rows, self._lookup(sampler, layout))

    def _conditioned(self, sampler: Sampler, layout: TokenLayout) -> ConditionedGenerator:
        """The generator of a sampler with conditions; what was not prepared is made here."""
        from imagegram.generators.ngram.search.run import ConditionedGenerator
        from imagegram.indexes.build.coarse_stage import write_coarse

        divisor, shards = divisor_of(sampler, layout), self._filled
        key = (divisor, sampler.label_key if sampler.label is not None else None)
        if key not in self._conditioned_made:
            contexts = shards
            if divisor > 1 and divisor == self.divisor:
                contexts = self.coarse
            elif divisor > 1:
                with tempfile.TemporaryDirectory(prefix="imagegram-coarse-") as root:
                    folders = [Path(root) / f"{s}" for s in range(len(shards))]
                    for folder in folders:
                        folder.mkdir()
                    contexts = tuple(
                        write_coarse(shard, divisor, folder)
                        for shard, folder in zip(shards, folders, strict=True)
                    )
                    for shard in contexts:  # a map outlives its file
                        _ = shard.tokens, shard.table, shard.offsets
            mine = [order.shard.path for order in self.orders] == [s.path for s in contexts]
            self._conditioned_made[key] = ConditionedGenerator(
                shards=shards,
                contexts=contexts,
                divisor=divisor,
                orders=self.orders if mine and self.orders[0].aligned else (),
                labels=self._labels(sampler),
            )
        return self._conditioned_made[key]

    @cached_property
    def _conditioned_made(self) -> dict[tuple[int, str | None], ConditionedGenerator]:
        return {}

    def _labels(self, sampler: Sampler) -> Labels | None:
        """Labels of the documents; read anew when others were prepared."""
        from imagegram.indexes.build.label_stage import read_labels

        if sampler.label is None:
            return None
        if self.labels is not None and self.label_key == sampler.label_key:
            return self.labels
        return Labels.join([read_labels(shard, sampler.label_key) for shard in self._filled])

    def _lookup(self, sampler: Sampler, layout: TokenLayout) -> Lookup:
        corpus = StreamCorpus(streams=tuple(shard.tokens for shard in self.shards))
        if self.engine == "naive":
            return ReferenceLookup(
                corpus=corpus, sampler=sampler, layout=layout, labels=self._labels(sampler)
            )
        from imagegram.generators.ngram.fastgram import FastgramLookup

        return FastgramLookup(index=self.index, corpus=corpus, sampler=sampler, layout=layout)

    def _require_tokens(self) -> None:
        documents = sum(shard.num_documents for shard in self.shards)
        separators = documents + sum(shard.has_final_separator for shard in self.shards)
        if sum(shard.num_tokens for shard in self.shards) == separators:
            raise UnsupportedError(
                f"the index of {documents} documents holds no token, so nothing can be generated; "
                "tokenize images first"
            )
