"""MaskGenKlModel: a trained MaskGen over continuous latents: it paints, and tokens are read off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.captions import Captions
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.executors.progress import SilentProgress
from imagegram.generators.chunks import CHUNK, chunk_samples
from imagegram.generators.maskgen_kl.settings import LatentSizes, MaskedSizes
from imagegram.generators.trained import LatentModel
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Sampler, Tokenizer
from imagegram.records import Images, Tokens, Trace
from imagegram.samplers.kinds import require_kind
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.stages.captions import embed_asked
from imagegram.stages.decoding import encoded_pictures
from imagegram.store.stage import Progress

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class MaskGenKlModel(LatentModel):
    """A trained MaskGen over continuous latents.

    Attributes:
        artifact, device, dtype: see :class:`TrainedModel`.
        latents, sizes: sizes of autoencoder and network.
        tokenizer: that of the experiment, which reads tokens off the pictures.
        captions: key of the captions in the metadata of documents.
        embedder: text encoder that reads them.
    """

    latents: LatentSizes
    sizes: MaskedSizes
    tokenizer: Tokenizer | None
    captions: str
    embedder: SentenceEmbedder

    def make_network(self) -> nn.Module:
        """Build the network of latents, with any weights."""
        from imagegram.generators.maskgen_kl.network import MaskedLatents

        return MaskedLatents(**self.sizes.arguments())

    def make_autoencoder(self) -> nn.Module:
        """Build the autoencoder, with any weights."""
        from imagegram.generators.maskgen_kl.autoencoder import ImageKl

        return ImageKl(**self.latents.arguments())

    def paint(
        self,
        samples: NDArray[np.uint64],
        *,
        sampler: Sampler,
        seed: int,
        condition: Condition | None = None,
        progress: Progress | None = None,
    ) -> Images:
        """Return (B, S, S, 3) uint8 pictures; row b depends only on (seed, samples[b]).

        Args:
            samples: (B,) sample ids.
            sampler: steps, guidance.
            seed: 0 ... 2**64 - 1.
            condition: captions of the samples; None: none is asked for.
            progress: progress of the finished pictures.
        """
        from imagegram.generators.maskgen_kl.sampling import paint_chunks

        own = require_kind(sampler, MaskedFlowSampler, group="sampler", generator="maskgen_kl")
        chunks = samples // np.uint64(CHUNK)
        wanted = np.unique(chunks)
        ids = chunk_samples(wanted)
        asked = [_texts(condition, each) for each in ids]
        texts = [embed_asked(each, self.embedder) for each in asked]
        shown = texts
        if self.embedder.padded:  # a published decoder has nothing but the empty caption for none
            shown = [embed_asked([text or "" for text in each], self.embedder) for each in asked]
        side = self.latents.image_size
        images = np.empty((len(samples), side, side, 3), dtype=np.uint8)
        progress = progress or SilentProgress()
        bar = progress.start("paint", len(wanted) * CHUNK, "images")
        pairs = list(zip(texts, shown, strict=True))
        made = paint_chunks(self.networks, ids, pairs, sampler=own, seed=seed, dtype=self.dtype)
        for chunk, painted in zip(wanted, made, strict=True):
            rows = np.flatnonzero(chunks == chunk)
            images[rows] = painted[(samples[rows] % np.uint64(CHUNK)).astype(np.int64)]
            progress.advance(bar, CHUNK)
        progress.finish(bar)
        return images

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
        """Paint, and return the (B, T) tokens of the pictures; there is no trace."""
        assert self.tokenizer is not None, "the tokens of a training know their tokenizer"
        images = self.paint(
            samples, sampler=sampler, seed=seed, condition=condition, progress=progress
        )
        return encoded_pictures(self.tokenizer, images), {}


def _texts(condition: Condition | None, samples: NDArray[np.uint64]) -> list[str | None]:
    if condition is None:
        return [None] * len(samples)
    assert isinstance(condition, Captions)
    return condition.texts_of(samples)
