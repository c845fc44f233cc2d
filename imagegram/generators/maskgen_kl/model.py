"""MaskGenKlModel: a trained MaskGen over continuous latents: it paints, and tokens are read off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.captions import Captions, OwnCaptions
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.executors.progress import SilentProgress
from imagegram.executors.threads import chunks as parts_of
from imagegram.generators.chunks import CHUNK, chunk_samples
from imagegram.generators.maskgen_kl.settings import LatentSizes, MaskedSizes
from imagegram.generators.trained import LatentModel
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Sampler, Tokenizer
from imagegram.records import Images, Tokens, Trace
from imagegram.samplers.kinds import require_kind
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.stages.captions import TextStates, embed_asked
from imagegram.stages.decoding import encoded_pictures
from imagegram.store.stage import Progress

if TYPE_CHECKING:
    from torch import nn

    from imagegram.generators.maskgen_kl.sampling import Told

#: Pictures whose captions are embedded at a time.
_PART: Final = 256


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
        texts = [self.told(each) for each in asked]
        side = self.latents.image_size
        images = np.empty((len(samples), side, side, 3), dtype=np.uint8)
        progress = progress or SilentProgress()
        bar = progress.start("paint", len(wanted) * CHUNK, "images")
        made = paint_chunks(self.networks, ids, texts, sampler=own, seed=seed, dtype=self.dtype)
        for chunk, painted in zip(wanted, made, strict=True):
            rows = np.flatnonzero(chunks == chunk)
            images[rows] = painted[(samples[rows] % np.uint64(CHUNK)).astype(np.int64)]
            progress.advance(bar, CHUNK)
        progress.finish(bar)
        return images

    def told(self, texts: Sequence[str | None]) -> Told:
        """Return what is told of captions; None: none is asked for."""
        from imagegram.generators.maskgen_kl.sampling import Told

        asked = embed_asked(texts, self.embedder)
        if not self.embedder.padded:
            return Told(asked=asked, shown=asked)
        # A published decoder has nothing but the empty caption for none.
        return Told(asked=asked, shown=embed_asked([text or "" for text in texts], self.embedder))

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

    def condition_of(
        self, metadata: Iterable[Mapping[str, Any]], condition: Condition | None
    ) -> Condition | None:
        """Return the condition of documents: their own captions, where samples are given some."""
        return OwnCaptions.of(metadata, condition) if isinstance(condition, Captions) else None

    def denoises(self, sampler: Sampler) -> bool:
        """Return whether a sampler asks for :meth:`errors`."""
        return isinstance(sampler, MaskedFlowSampler) and sampler.error_draws > 0

    def errors(
        self,
        pictures: Iterable[Images],
        samples: NDArray[np.uint64],
        *,
        sampler: Sampler,
        seed: int,
        condition: Condition | None = None,
        progress: Progress | None = None,
    ) -> Trace:
        """Return the errors of denoising pictures; row b depends on (seed, samples[b]) beside it.

        Args:
            pictures: B of (H, W, 3) uint8, which are resized as in training.
            samples: (B,) ids, which decide masks, noise and times.
            sampler: says how many draws of these, M.
            seed: 0 ... 2**64 - 1.
            condition: captions of the pictures; None: they have none.
            progress: progress of the measured pictures.

        Returns:
            (B, M) float32 of each draw: ``error_none`` under no caption, ``error`` under the own
            one, and ``error_other`` under another one where there are two.
        """
        from imagegram.generators.maskgen_kl.errors import picture_errors

        own = require_kind(sampler, MaskedFlowSampler, group="sampler", generator="maskgen_kl")
        asked = _asked(condition, samples)
        shape = (len(samples), own.error_draws)
        trace = {name: np.empty(shape, np.float32) for name in asked}
        progress = progress or SilentProgress()
        bar, done = progress.start("denoise", len(samples), "images"), 0
        for part in parts_of(pictures, size=_PART):
            rows = slice(done, done + len(part))
            texts = {name: embed_asked(each[rows], self.embedder) for name, each in asked.items()}
            made = picture_errors(
                self.networks,
                list(self._items(part, samples[rows], texts)),
                sizes=self.sizes,
                num_draws=own.error_draws,
                seed=seed,
                dtype=self.dtype,
            )
            for row, found in enumerate(made, start=done):
                for name, errors_M in found.items():
                    trace[name][row] = errors_M
                progress.advance(bar)
            done = rows.stop
        progress.finish(bar)
        return trace

    def _items(
        self,
        pictures: Sequence[Images],
        samples: NDArray[np.uint64],
        texts: Mapping[str, TextStates],
    ) -> Iterator[tuple[Images, int, dict[str, TextStates]]]:
        """Yield pictures of the size of the autoencoder, with sample ids and captions."""
        from imagegram.images.resampling import resize

        for row, picture in enumerate(pictures):
            own = slice(row, row + 1)
            given = {
                name: TextStates(states=text.states[own], there=text.there[own])
                for name, text in texts.items()
            }
            yield resize(picture, self.latents.image_size)[None], int(samples[row]), given


def _asked(
    condition: Condition | None, samples: NDArray[np.uint64]
) -> dict[str, Sequence[str | None]]:
    """Return the captions that B pictures are measured under, by the name of the error."""
    asked: dict[str, Sequence[str | None]] = {"error_none": [None] * len(samples)}
    if condition is None:
        return asked
    assert isinstance(condition, Captions)
    if not isinstance(condition, OwnCaptions):  # of samples
        condition = OwnCaptions.beside(condition.texts_of(samples), condition)
    asked["error"] = condition.texts
    return asked | ({"error_other": condition.others} if condition.others else {})


def _texts(condition: Condition | None, samples: NDArray[np.uint64]) -> list[str | None]:
    if condition is None:
        return [None] * len(samples)
    assert isinstance(condition, Captions)
    return condition.texts_of(samples)
