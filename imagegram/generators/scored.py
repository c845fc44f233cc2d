"""ScoredModel: a model that draws one token after the other and then scores what was drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagegram.records import Tokens, Trace
from imagegram.samplers.kinds import require_kind
from imagegram.samplers.sequential import SequentialSampler

if TYPE_CHECKING:
    from imagegram.layout import TokenLayout
    from imagegram.protocols import Condition, Sampler
    from imagegram.store.stage import Progress


class ScoredModel:
    """A model with ``score`` and ``steps`` (``generators/stepping.py``), which draws by these.

    It also has a ``name``, that of the generator, ``vocab_size``, the number of ids of the
    tokenizer, and ``ends``, whether samples may end early.
    """

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
        """Sample (B, T) tokens with their trace; see :meth:`imagegram.protocols.Model.generate`."""
        from imagegram.generators.stepping import Drawing

        model: Any = self
        how: dict[str, Any] = {"layout": layout, "seed": seed, "condition": condition}
        drawing = Drawing(
            sampler=require_kind(sampler, SequentialSampler, group="sampler", generator=model.name),
            vocab_size=model.vocab_size,
            ends=model.ends,
            **how,
        )
        tokens_BT, given = drawing.rows(model, samples, progress)
        trace: Trace = model.score(
            tokens_BT, sampler=sampler, samples=samples, progress=progress, workers=workers, **how
        )
        return tokens_BT, {**trace, **given}
