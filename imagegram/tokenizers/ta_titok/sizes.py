"""Sizes of TA-TiTok's network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from imagegram.tokenizers.titok.sizes import TiTokSizes

if TYPE_CHECKING:
    from imagegram.tokenizers.ta_titok.model import TaTiTok


@dataclass(frozen=True, kw_only=True)
class TaTiTokSizes(TiTokSizes):
    """Sizes of the network; they are written beside its weights.

    Attributes:
        text_dim: numbers of a state of the text encoder.
        text_length: most tokens of a caption.
    """

    METADATA: ClassVar[str] = "ta_titok"
    VERSION: ClassVar[int] = 1

    text_dim: int
    text_length: int

    def network(self) -> type[TaTiTok]:
        """Return the class of the network."""
        from imagegram.tokenizers.ta_titok.model import TaTiTok

        return TaTiTok
