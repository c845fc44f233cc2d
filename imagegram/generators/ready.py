"""ReadyModel: a model that samples as fast as it can from the beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from imagegram.layout import TokenLayout
    from imagegram.protocols import Condition, Sampler
    from imagegram.store.stage import Context


class ReadyModel:
    """A model that needs no files of its own to sample; see :class:`imagegram.protocols.Model`."""

    def prepared(
        self,
        sampler: Sampler,
        context: Context,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> Self:
        """Return itself: nothing makes it faster."""
        return self
