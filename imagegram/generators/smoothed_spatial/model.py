"""SmoothedSpatialModel: counts of places that tell the probability of every token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.ngram.trace import check_rows
from imagegram.generators.ready import ReadyModel
from imagegram.generators.scored import ScoredModel
from imagegram.generators.smoothed_spatial.index import PlaceCounts
from imagegram.generators.smoothed_spatial.levels import BATCH, Level, empty_level, levels_of
from imagegram.generators.smoothed_spatial.surroundings import ZERO
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Sampler
from imagegram.records import Tokens, Trace
from imagegram.store.stage import Progress

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothedSpatialModel(ScoredModel, ReadyModel):
    """Counts of places that tell the probability of every token.

    Attributes:
        counts: what was counted; the model has their identity.
        tokenizer: of the tokens.
    """

    counts: PlaceCounts
    tokenizer: Any

    @property
    def name(self) -> str:
        """Name of the generator."""
        return "smoothed_spatial"

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return int(self.tokenizer.spec.vocab_size)

    @property
    def ends(self) -> bool:
        """Pictures do not end early."""
        return False

    @property
    def artifact(self) -> Any:
        """The counts on disk."""
        return self.counts.artifact

    def identity(self) -> str:
        """Return kind/digest of the counts."""
        return self.counts.identity()

    @property
    def layout(self) -> TokenLayout:
        """Layout of the documents."""
        return self.counts.layout

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
        """Return the trace of given tokens; no knob of a sampler has a part in it.

        Returns:
            ``log_prob``, (B, T) float32: natural logarithm of the probability of a token after
            those before it.

        Raises:
            TokenError: for rows of another length, or with a separator.
        """
        check_rows(tokens_BT, self.layout.num_tokens)
        p_BT = np.empty(tokens_BT.shape)
        for first in range(0, len(tokens_BT), BATCH):
            rows = slice(first, first + BATCH)
            levels = levels_of(tokens_BT[rows], self.layout, self.tokenizer)
            for n, level in enumerate(levels):
                p_BT[rows, self.layout.level_slices[n]] = self._probabilities(level, n)
        return {"log_prob": np.log(p_BT).astype(np.float32)}

    def _probabilities(self, level: Level, n: int) -> NDArray[np.float64]:
        """Return the (B, T) probabilities of the tokens of a level."""
        from imagegram.generators.smoothed_spatial import kernels

        p, chances = np.empty(level.tokens.shape), self.counts.chances[n]
        found = level.leaves(self.counts.contexts[n])
        kernels.probabilities_of(level.tokens, level.bases, *found, chances, level.has_coarser, p)
        return p.reshape(len(p), -1)

    def steps(
        self,
        samples: NDArray[np.uint64],
        *,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> Callable[[Tensor | None, int], Tensor]:
        """Return what tells (B, V) log-probabilities; see ``generators/stepping.py``."""
        import torch

        canvas = Canvas(self, len(samples))

        def step(last_B: Tensor | None, number: int) -> Tensor:
            if last_B is not None:
                canvas.draw(last_B.numpy())
            return torch.from_numpy(np.log(canvas.next_tokens()))

        return step


class Canvas:
    """Pictures on which one token after the other is drawn.

    Args:
        model: tells the probabilities.
        count: number of pictures.
    """

    def __init__(self, model: SmoothedSpatialModel, count: int) -> None:
        self._model = model
        self._guesses = np.zeros(count, dtype=np.int16)
        self._open(0, None)

    def _open(self, n: int, coarser: NDArray[np.uint8] | None) -> None:
        """Begin a level."""
        model, count = self._model, len(self._guesses)
        self._n, self._token = n, 0
        self._level = empty_level(model.layout, n, coarser, model.tokenizer, count)
        self._errors = np.zeros_like(self._level.tokens)

    @property
    def _place(self) -> tuple[int, int, int]:
        """Row, column and colour of the next token."""
        pixel, colour = divmod(self._token, 3)
        row, column = divmod(pixel, self._level.tokens.shape[2])
        return row, column, colour

    def next_tokens(self) -> NDArray[np.float64]:
        """Return the (B, V) probabilities of the next token."""
        from imagegram.generators.smoothed_spatial import kernels

        counts, level = self._model.counts, self._level
        out = np.empty((len(self._guesses), self._model.vocab_size))
        kernels.next_tokens(
            *level.arrays,
            counts.contexts[self._n],
            self._errors,
            counts.chances[self._n],
            *self._place,
            level.has_coarser,
            self._guesses,
            out,
        )
        return out

    def draw(self, tokens_B: NDArray[np.integer[Any]]) -> None:
        """Draw the tokens whose probabilities were asked for last."""
        at = (slice(None), *self._place)
        own = tokens_B.astype(np.int16) - ZERO
        self._level.tokens[at] = own
        self._errors[at] = own - self._guesses
        self._token += 1
        if (
            self._token == self._level.tokens[0].size
            and self._n + 1 < self._model.layout.num_levels
        ):
            self._open(self._n + 1, self._level.pictures())
