"""Autoregressive: a causal transformer that writes one token after the other.

``python -m imagegram.run tokenizer=ordered_fsq_tiny generator=ar``: GPT over tokens in raster
order. ``generator=rar`` trains on permuted orders first (Yu et al., arXiv 2411.00776). It works on
any tokens, of one length or ragged. The network is ``network.py``, the loss ``training.py``, the
sampling ``sampling.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.generators.autoregressive.objective import NextToken
from imagegram.generators.learned import (
    CHUNK,
    Architecture,
    NetworkModel,
    as_ids,
    rows_from_chunks,
    write_network,
)
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Index, Sampler
from imagegram.records import EOS_TOKEN_ID, Tokens, Trace
from imagegram.samplers.kinds import refuse_condition, require_kind
from imagegram.samplers.sequential import SequentialSampler
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Progress
from imagegram.training.fit import TrainGenerator
from imagegram.training.objective import Items
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.tokens import TokenData

if TYPE_CHECKING:
    from imagegram.generators.autoregressive.network import Autoregressive
    from imagegram.training.state import TrainingState

_SCORES: Final = ("log_prob", "entropy")


@dataclass(frozen=True, kw_only=True)
class AutoregressiveGenerator:
    """A causal transformer over the tokens of any tokenizer.

    Attributes:
        name: name of the configuration file.
        width, depth, num_heads: sizes of the network, see :class:`Architecture`.
        anneal: shares of the training between which the share of documents in permuted order falls
            from 1 to 0; (0, 0): always raster order, (1, 1): always permuted.
        optimization: steps, rates, seed of its training.
        trainer: where it is trained.
        device: device that samples: ``cpu``, ``cuda``.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="ar", metadata=NOT_IDENTITY)
    width: int = 128
    depth: int = 4
    num_heads: int = 2
    anneal: tuple[float, float] = (0.0, 0.0)
    optimization: Optimization
    trainer: TrainerOptions = field(default_factory=TrainerOptions, metadata=NOT_IDENTITY)
    device: str = field(default="cpu", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Apply the group ``trainer``, and refuse what cannot be."""
        object.__setattr__(self, "anneal", tuple(map(float, self.anneal)))
        effective = self.trainer.applied_to(self.optimization, prefix="generator.optimization.")
        object.__setattr__(self, "optimization", effective)
        self._architecture(vocab_size=1, num_tokens=1).check()
        if len(self.anneal) != 2 or not 0.0 <= self.anneal[0] <= self.anneal[1] <= 1.0:
            raise ConfigError(
                f"generator.anneal={list(self.anneal)} must be two shares of the training, the "
                "smaller one first; type generator.anneal=[0.5,0.75], or [0,0] for raster order"
            )

    def check_machine(self) -> None:
        """Refuse a device that is not there."""
        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="generator.device")

    def _architecture(self, *, vocab_size: int, num_tokens: int) -> Architecture:
        sizes = {name: getattr(self, name) for name in ("width", "depth", "num_heads")}
        return Architecture(vocab_size=vocab_size, num_tokens=num_tokens, **sizes)

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and conditions.

        Raises:
            ConfigError: naming those that fit.
        """
        require_kind(sampler, SequentialSampler, group="sampler", generator=self.name)
        refuse_condition(condition, generator=self.name)

    def scores(self, sampler: Sampler) -> bool:
        """Return True: every token has a probability after those before it."""
        return True

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> TrainGenerator[AutoregressiveModel]:
        """Return the stage that trains the network on all documents of a token set."""
        ends = tokens.document_length is None
        vocab_size = int(tokens.artifact.facts["vocab_size"]) + ends
        architecture = self._architecture(vocab_size=vocab_size, num_tokens=tokens.length)
        recipe = AutoregressiveRecipe(generator=self, architecture=architecture, ends=ends)
        return TrainGenerator(component=recipe, data=TokenData(tokens=tokens, holdout=holdout))


@dataclass(frozen=True, kw_only=True)
class AutoregressiveRecipe:
    """A generator and the sizes that its tokens give: what :class:`TrainGenerator` trains.

    Attributes:
        generator: the configured generator.
        architecture: sizes of its network.
        ends: whether documents end early; the last id is then their end.
    """

    generator: AutoregressiveGenerator
    architecture: Architecture
    ends: bool

    @property
    def name(self) -> str:
        """Name in tables and progress bars."""
        return self.generator.name

    @property
    def optimization(self) -> Optimization:
        """Steps, rates, seed."""
        return self.generator.optimization

    @property
    def trainer(self) -> TrainerOptions:
        """Where the network is trained."""
        return self.generator.trainer

    def objective(self) -> NextToken:
        """Return what the network learns."""
        return NextToken(
            architecture=self.architecture, anneal=self.generator.anneal, ends=self.ends
        )

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the averaged weights, with the sizes of the network beside them."""
        from imagegram.generators.autoregressive.training import NETWORK

        write_network(out, state, network=NETWORK, sizes=self.architecture)

    def trained(self, artifact: Artifact) -> AutoregressiveModel:
        """Return the model with the weights of a finished training."""
        return AutoregressiveModel(
            artifact=artifact,
            architecture=self.architecture,
            ends=self.ends,
            device=self.generator.device,
        )


@dataclass(frozen=True, kw_only=True)
class AutoregressiveModel(NetworkModel):
    """A trained causal network that samples and scores.

    Attributes:
        ends: whether samples may end early; the last id is then their end.
    """

    ends: bool

    def make_network(self) -> Autoregressive:
        """Build a causal transformer."""
        from imagegram.generators.autoregressive.network import Autoregressive

        return Autoregressive(**dataclasses.asdict(self.architecture))

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

        ``workers`` is not used: torch has its cores from the environment.
        """
        from imagegram.generators.autoregressive.sampling import draw_chunks

        own = require_kind(sampler, SequentialSampler, group="sampler", generator="ar")
        refuse_condition(condition, generator="ar")
        end = self.architecture.vocab_size - 1 if self.ends else None

        def make(chunks: NDArray[np.uint64]) -> Iterator[dict[str, NDArray[Any]]]:
            drawn = draw_chunks(
                self.network, list(chunks), size=CHUNK, sampler=own, seed=seed, end=end
            )
            for ids_CT in drawn:
                yield {"tokens": np.where(ids_CT == end, EOS_TOKEN_ID, ids_CT)}

        rows = rows_from_chunks(
            samples,
            num_tokens=layout.num_tokens,
            dtypes={"tokens": np.uint16},
            make=make,
            progress=progress,
        )
        tokens_BT = rows["tokens"]
        return tokens_BT, self._trace(tokens_BT, samples, progress)

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
        """Return what the network says of given tokens; no knob of a sampler has a part in it.

        Returns:
            By name, (B, T) float32: ``log_prob``, natural logarithm of the probability of a token
            after those before it; ``entropy`` of that distribution in bits. Both are 0 behind the
            end of a sample.
        """
        refuse_condition(condition, generator="ar")
        numbers = np.arange(len(tokens_BT), dtype=np.uint64) if samples is None else samples
        return self._trace(np.asarray(tokens_BT), numbers, progress)

    def _trace(
        self, tokens_BT: Tokens, samples: NDArray[np.uint64], progress: Progress | None
    ) -> Trace:
        """Score rows in chunks of one shape, in which sample i is always row i % CHUNK."""
        import torch

        from imagegram.generators.autoregressive.sampling import score_rows
        from imagegram.models.cores import map_on_cores

        network = self.network
        device = network.positions.device
        chunks = list(_rows_by_place(samples))

        def work(rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
            filled = rows >= 0
            ids_CT = np.zeros((CHUNK, tokens_BT.shape[1]), np.int64)
            ids_CT[filled] = as_ids(tokens_BT[rows[filled]], self.architecture)
            found = score_rows(network, torch.from_numpy(ids_CT).to(device))
            return {name: array_CT[filled] for name, array_CT in found.items()}

        trace = {name: np.empty(tokens_BT.shape, np.float32) for name in _SCORES}
        bar = progress.start("score", tokens_BT.size, "tokens") if progress else None
        for rows, found in zip(chunks, map_on_cores(work, chunks, device=device), strict=True):
            kept = rows[rows >= 0]
            for name, array_BT in trace.items():
                array_BT[kept] = found[name]
            if progress is not None and bar is not None:
                progress.advance(bar, len(kept) * tokens_BT.shape[1])
        if progress is not None and bar is not None:
            progress.finish(bar)
        if self.ends:
            is_end_BT = tokens_BT == EOS_TOKEN_ID
            behind_BT = is_end_BT.cumsum(axis=1) - is_end_BT > 0
            for array_BT in trace.values():
                array_BT[behind_BT] = 0.0
        return trace


def _rows_by_place(samples: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Yield (CHUNK,) row numbers: at place p rows whose sample is p modulo CHUNK, or -1.

    >>> [rows[:3].tolist() for rows in _rows_by_place(np.array([1, 0, 33], np.uint64))]
    [[1, 0, -1], [-1, 2, -1]]
    """
    places = (samples % np.uint64(CHUNK)).astype(np.int64)
    order = np.argsort(places, kind="stable")
    counts = np.bincount(places, minlength=CHUNK)
    firsts = np.cumsum(counts) - counts
    for turn in range(int(counts.max(initial=0))):
        rows = np.full(CHUNK, -1, np.int64)
        there = np.flatnonzero(counts > turn)
        rows[there] = order[firsts[there] + turn]
        yield rows
