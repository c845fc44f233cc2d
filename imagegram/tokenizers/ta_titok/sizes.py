"""Sizes of TA-TiTok's network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT
from imagegram.tokenizers.titok.sizes import TiTokSizes

if TYPE_CHECKING:
    from imagegram.tokenizers.ta_titok.model import TaTiTok


@dataclass(frozen=True, kw_only=True)
class TaTiTokSizes(TiTokSizes):
    """Sizes of the network; they are written beside its weights.

    Attributes:
        text_dim: numbers of a state of the text encoder.
        text_length: most tokens of a caption.
        padded_text: the text encoder gives so many states of every caption, which are read as they
            are, as published weights do.
    """

    METADATA: ClassVar[str] = "ta_titok"
    VERSION: ClassVar[int] = 1

    text_dim: int
    text_length: int
    padded_text: bool = field(default=False, metadata=NOT_IDENTITY_AT_DEFAULT)

    def network(self) -> type[TaTiTok]:
        """Return the class of the network."""
        from imagegram.tokenizers.ta_titok.model import TaTiTok

        return TaTiTok
