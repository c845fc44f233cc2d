"""Text-aware TiTok: ids of an image alone, painted by a decoder that reads its caption too.

    python -m imagegram.run tokenizer=ta_titok_tiny
    python -m imagegram.run tokenizer=ta_titok generator=maskgen condition=caption paths.data=DATA
    python -m imagegram.run tokenizer=ta_titok_bl128 tokenizer.checkpoint=FOLDER/model.safetensors

What a row is decoded to depends on its ids and on its caption: of a sample the one that it was
asked for, of a document its own. Without one, the decoder reads a learned vector that says so;
published decoders know none, and read the empty caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np

from imagegram.conditions.labels import CAPTION
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError, TokenError
from imagegram.models.published import TEXT_PROJECTION, titok_weights
from imagegram.protocols import Corpus
from imagegram.records import Images, Tokens
from imagegram.stages.captions import embed_asked
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.stage import Ready
from imagegram.tokenizers.imports import ImportTokenizer
from imagegram.tokenizers.sizes import NetworkSizes
from imagegram.tokenizers.ta_titok.objective import CaptionedReconstruction
from imagegram.tokenizers.ta_titok.sizes import TaTiTokSizes
from imagegram.tokenizers.titok.tokenizer import TiTokTokenizer
from imagegram.training.captioned_pixels import CaptionedPixels
from imagegram.training.captions import CaptionedItems
from imagegram.training.fit import TrainTokenizer
from imagegram.training.objective import Items

if TYPE_CHECKING:
    from torch import Tensor

    from imagegram.models.checkpoints import Shapes
    from imagegram.training.state import TrainingState

_EMBEDDER: Final = SentenceEmbedder(max_tokens=32)


@dataclass(frozen=True, kw_only=True)
class TaTiTokTokenizer(TiTokTokenizer):
    """A TiTok whose decoder reads captions.

    Attributes:
        captions: key of the JSON beside an image that has its caption; ``caption``: also the text
            beside it.
        embedder: text encoder that reads them.
        caption_dropout: share of the training images whose caption is hidden, so that the decoder
            learns to do without.
        name, image_size, patch_size, num_latents, encoder_width, encoder_depth, encoder_heads,
            decoder_width, decoder_depth, decoder_heads, legacy, standardized, proxy, quantizer,
            flips, optimization, trainer, checkpoint, device, batch_size, dtype, compile,
            hash_cache: as in :class:`TiTokTokenizer`.
    """

    VERSION: ClassVar[int] = 1
    TAKES_PUBLISHED: ClassVar[bool] = True
    SIZES: ClassVar[type[NetworkSizes]] = TaTiTokSizes

    name: str = field(default="ta_titok", metadata=NOT_IDENTITY)
    captions: str = CAPTION
    embedder: SentenceEmbedder = _EMBEDDER
    caption_dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse impossible settings; see :class:`TiTokTokenizer`."""
        if not self.captions:
            raise ConfigError(
                "tokenizer.captions is empty; type tokenizer.captions=caption, or tokenizer=titok, "
                "which reads none"
            )
        if not 0.0 <= self.caption_dropout < 1.0:
            raise ConfigError(
                f"tokenizer.caption_dropout={self.caption_dropout} must be at least 0 and below 1; "
                "type tokenizer.caption_dropout=0.1"
            )
        super().__post_init__()

    @property
    def text_dim(self) -> int:
        """Numbers of a state of the text encoder."""
        return self.embedder.dim

    @property
    def text_length(self) -> int:
        """Most tokens of a caption."""
        return self.embedder.max_tokens

    @property
    def padded_text(self) -> bool:
        """Whether every caption has so many states, which are read as they are."""
        return self.embedder.padded

    def fields_of(self, sizes: NetworkSizes) -> dict[str, Any]:
        """Return the fields of this tokenizer that sizes of a checkpoint decide.

        Raises:
            ConfigError: for a checkpoint that another text encoder was read with.
        """
        values = super().fields_of(sizes)
        text_dim, text_length = values.pop("text_dim"), values.pop("text_length")
        padded = values.pop("padded_text")
        if text_dim != self.embedder.dim:
            raise ConfigError(
                f"tokenizer.checkpoint={self.checkpoint} read captions as vectors of {text_dim} "
                f"numbers, but tokenizer.embedder={self.embedder.name} gives {self.embedder.dim}; "
                "give the text encoder of its training: tokenizer.embedder.folder=FOLDER"
            )
        return values | {"embedder": replace(self.embedder, max_tokens=text_length, padded=padded)}

    def taken_over(self, tensors: dict[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
        """Return published weights under our names; see ``models/published.py``.

        Raises:
            ConfigError: for weights of another network, or that another text encoder was read with.
        """
        found = tensors.get(TEXT_PROJECTION)
        if found is not None and found.shape[-1] != self.text_dim:
            raise ConfigError(
                f"tokenizer.checkpoint={self.checkpoint} reads captions as vectors of "
                f"{found.shape[-1]} numbers, but tokenizer.embedder={self.embedder.name} gives "
                f"{self.text_dim}; give the text encoder of its training, of the published ones "
                "CLIP ViT-L/14-336: tokenizer.embedder.folder=FOLDER"
            )
        return titok_weights(tensors, expected, family="TA-TiTok")

    def objective(self) -> CaptionedReconstruction:
        """Return the objective of the network's training."""
        return CaptionedReconstruction(
            architecture=self.architecture,
            quantizer=self.quantizer,
            flips=self.flips,
            caption_dropout=self.caption_dropout,
        )

    def identity(self) -> dict[str, Any]:
        """Return the identity: weights or recipe, and how captions are read."""
        text = {"captions": self.captions, "embedder": identity(self.embedder)}
        return super().identity() | text

    def fit(self, corpus: Corpus) -> TrainTokenizer[Self] | ImportTokenizer[Self] | Ready[Self]:
        """Return the stage that trains the network on images and captions of a corpus."""
        if self.checkpoint is not None:
            return super().fit(corpus)
        recipe: Any = self
        data = CaptionedPixels(
            corpus=corpus,
            image_size=self.image_size,
            key=self.captions,
            embedder=self.embedder,
        )
        return TrainTokenizer(component=recipe, data=data)

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the averaged weights, and a sheet of reconstructions from codes alone."""
        assert isinstance(validation, CaptionedItems)
        super().write_trained(out, state, validation.items)

    def decode(
        self,
        tokens_BT: Tokens,
        *,
        output_size: int | None = None,
        captions: Sequence[str | None] | None = None,
    ) -> Images:
        """Decode rows of ids under captions; see :meth:`LearnedTokenizer.decode`.

        Args:
            tokens_BT: (B, T) ids.
            output_size: side of the images in pixels.
            captions: B captions; None: that of no row is known.

        Returns:
            (B, S, S, 3) uint8; a row depends on its own ids and its own caption alone.

        Raises:
            TokenError: for other ids, or another number of captions.
        """
        tokens = np.asarray(tokens_BT)
        given: list[str | None] = [None] * len(tokens) if captions is None else list(captions)
        if self.padded_text:
            given = [text or "" for text in given]
        if len(given) != len(tokens):
            raise TokenError(
                f"decode was given {len(given)} captions for {len(tokens)} rows of ids; give one "
                "for each, None where there is none"
            )
        text = embed_asked(given, self.embedder)
        return self.painted(tokens, text.states, text.there, output_size=output_size)
