"""SpatialModel: sorted blocks that generate; ``reference.py`` says what they generate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.generators.ngram.trace import check_rows
from imagegram.generators.ready import ReadyModel
from imagegram.generators.spatial.index import SpatialIndex
from imagegram.generators.spatial.passes import is_grid
from imagegram.generators.spatial.steps import Job
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Sampler
from imagegram.records import Tokens, Trace
from imagegram.samplers.kinds import require_kind
from imagegram.samplers.spatial import SpatialSampler
from imagegram.seeding import check_counts
from imagegram.store.stage import Progress


@dataclass(frozen=True, kw_only=True, eq=False)
class SpatialModel(ReadyModel):
    """Sorted blocks that generate.

    Attributes:
        index: the sorted blocks; the model has their identity.
        tokenizer: of the tokens.
        engine: see :class:`SpatialGenerator`.
    """

    index: SpatialIndex
    tokenizer: Any
    engine: str = "native"

    def identity(self) -> str:
        """Return kind/digest of the sorted blocks."""
        return self.index.identity()

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
            ConfigError: without samples, or when the sampler does not fit.
        """
        job = self._job(samples, sampler, layout, seed, workers)
        return self._rows(job, "generate", progress)

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

        A block that no candidate holds has probability 0 and no source. Arguments are those of
        :meth:`imagegram.protocols.Scores.score`.

        Raises:
            ConfigError: without rows, or when the sampler does not fit.
            TokenError: for rows of another length, or with a separator.
        """
        check_rows(tokens_BT, layout.num_tokens)
        if samples is None:
            samples = np.arange(len(tokens_BT), dtype=np.uint64)
        job = self._job(samples, sampler, layout, seed, workers, forced=np.asarray(tokens_BT))
        return self._rows(job, "replay", progress)[1]

    def _job(
        self,
        samples: NDArray[np.uint64],
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        workers: int,
        forced: Tokens | None = None,
    ) -> Job:
        check_counts(len(samples), seed)
        own = own_sampler(sampler, layout, num_passes=len(self.index.passes))
        ids = np.asarray(samples, dtype=np.uint64)
        return Job(
            sampler=own, layout=layout, samples=ids, seed=seed, forced=forced, workers=workers
        )

    def _rows(self, job: Job, verb: str, progress: Progress | None) -> tuple[Tokens, Trace]:
        from imagegram.generators.spatial.reference import reference_rows
        from imagegram.generators.spatial.rows import write_rows

        rows = write_rows if self.engine == "native" else reference_rows
        if progress is None:
            return rows(self.index, self.tokenizer, job, lambda steps: None)
        task = progress.start(verb, len(job.samples) * job.layout.num_tokens, "tokens")
        written = rows(self.index, self.tokenizer, job, lambda steps: progress.advance(task, steps))
        progress.finish(task)
        return written


def own_sampler(
    sampler: Sampler, layout: TokenLayout, *, num_passes: int, generator: str = "spatial"
) -> SpatialSampler:
    """Return the sampler, if it is one for spatial contexts and fits the layout.

    Raises:
        ConfigError: for one of another family, naming those that fit; for knobs that do not.
    """
    own = require_kind(sampler, SpatialSampler, group="sampler", generator=generator)
    own.check_levels(num_passes)
    if own.nearest is not None and not is_grid(layout):
        raise ConfigError(
            f"sampler.nearest={own.nearest} compares the codes around a place of a grid, and these "
            "tokens are the levels of a pyramid; type sampler.nearest=null, or tokenizer=conv_vq"
        )
    return own
