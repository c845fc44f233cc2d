"""TiTok in two stages: codes of a convolutional autoencoder first, then pixels.

    python -m imagegram.run tokenizer=titok_two_stage_tiny stages=[tokenize]
    python -m imagegram.run tokenizer=titok_two_stage corpus=tiny_imagenet_20 paths.data=DATA
    python -m imagegram.run tokenizer=titok_two_stage tokenizer.conv.checkpoint=FILE.safetensors

After Yu et al., "An Image is Worth 32 Tokens" (arXiv 2406.07550), section 3.3. Three trainings,
each a stage of its own in the store (``tokenizers/nested.py``):

* ``conv``: a tokenizer ``conv_vq``, with one code for every patch;
* stage 1: encoder, codebook and decoder of TiTok learn to predict these codes;
* stage 2: encoder and codebook stay, bit for bit; the decoder, and that of ``conv``, which paints
  the predicted codes, learn from pixels.

What comes out is a TiTok as any other: its weights alone are its identity.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from imagegram.models.lpips_weights import find_weights
from imagegram.protocols import Corpus
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.stage import Ready
from imagegram.tokenizers.conv_vq.tokenizer import ConvVqTokenizer
from imagegram.tokenizers.imports import ImportTokenizer
from imagegram.tokenizers.learned import MINUTES
from imagegram.tokenizers.nested import Make, TrainAfter
from imagegram.tokenizers.reconstruction import Reconstruction
from imagegram.tokenizers.sizes import read_sizes
from imagegram.tokenizers.titok.objectives import Codes, Painting, PaintingLoss
from imagegram.tokenizers.titok.sizes import proxy_sizes
from imagegram.tokenizers.titok.tokenizer import TiTokTokenizer
from imagegram.training.fit import TrainTokenizer
from imagegram.training.optimization import Optimization


@dataclass(frozen=True, kw_only=True)
class CodesTiTok(TiTokTokenizer):
    """TiTok after stage 1: it paints by the codes of another autoencoder, as that one painted them.

    Attributes:
        conv: the autoencoder, with one code for every patch.
        patch_size, num_latents, encoder_width, encoder_depth, encoder_heads, decoder_width,
            decoder_depth, decoder_heads, legacy, standardized, proxy, quantizer, name, image_size,
            flips, optimization, trainer, checkpoint, device, batch_size, dtype, compile,
            hash_cache: as in :class:`TiTokTokenizer`; ``proxy`` is that of ``conv``.
    """

    TAKES_PUBLISHED: ClassVar[bool] = False

    conv: ConvVqTokenizer

    def __post_init__(self) -> None:
        """Take the sizes of ``conv``; see :class:`TiTokTokenizer`."""
        if self.checkpoint is None:
            object.__setattr__(self, "proxy", self.conv.sizes)
        super().__post_init__()

    def identity(self) -> dict[str, Any]:
        """Return the identity: of a TiTok, or the recipes of its trainings."""
        return super().identity() if self.checkpoint is None else self.trained_form.identity()

    @property
    def trained_form(self) -> TiTokTokenizer:
        """The same tokenizer without the recipe of its training."""
        names = (item.name for item in dataclasses.fields(TiTokTokenizer))
        return TiTokTokenizer(**{name: getattr(self, name) for name in names})

    def fit(self, corpus: Corpus) -> TrainTokenizer[Self] | ImportTokenizer[Self] | Ready[Self]:
        """Return the stage that trains the network, after those that its training begins with."""
        fit = super().fit(corpus)
        if not isinstance(fit, TrainTokenizer):
            return fit
        recipe: Any = self
        return TrainAfter(component=recipe, data=fit.data)

    def begun(self, corpus: Corpus, make: Make) -> Self:
        """Return the recipe with the weights of ``conv``."""
        return replace(self, conv=make("conv", self.conv.fit(corpus)))

    def objective(self) -> Reconstruction:
        """Return the objective of stage 1."""
        return Codes(
            architecture=self.architecture,
            quantizer=self.quantizer,
            flips=self.flips,
            conv=self.conv,
        )


@dataclass(frozen=True, kw_only=True)
class TwoStageTiTok(CodesTiTok):
    """TiTok after both stages.

    Attributes:
        first: steps, rates and seed of stage 1.
        optimization: those of stage 2.
        loss: weights of the parts of the loss of stage 2.
        start: safetensors file of a TiTok after stage 1; None: the run trains it.
        conv, patch_size, num_latents, encoder_width, encoder_depth, encoder_heads, decoder_width,
            decoder_depth, decoder_heads, legacy, standardized, proxy, quantizer, name, image_size,
            flips, trainer, checkpoint, device, batch_size, dtype, compile, hash_cache: as in
            :class:`CodesTiTok`.
    """

    name: str = field(default="titok_two_stage", metadata=NOT_IDENTITY)
    first: Optimization = MINUTES
    loss: PaintingLoss = field(default_factory=PaintingLoss)
    start: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Take the sizes of ``start``; refuse impossible settings; see :class:`CodesTiTok`."""
        super().__post_init__()
        if self.start is not None and self.checkpoint is None:
            sizes = read_sizes(self.start, self.SIZES, setting="tokenizer.start")
            for name, value in self.fields_of(sizes).items():
                object.__setattr__(self, name, proxy_sizes(value) if name == "proxy" else value)
        self.loss.check(image_size=self.image_size)
        effective = self.trainer.applied_to(self.first, prefix="tokenizer.first.")
        object.__setattr__(self, "first", effective)

    def check_machine(self) -> None:
        """Refuse missing weights of LPIPS; see :class:`LearnedTokenizer`."""
        super().check_machine()
        if self.checkpoint is None and self.loss.lpips:
            find_weights(self.loss.lpips_network)

    @property
    def first_stage(self) -> CodesTiTok:
        """The tokenizer of stage 1, with or without its weights."""
        names = {item.name for item in dataclasses.fields(CodesTiTok)} - {"optimization", "name"}
        return CodesTiTok(
            **{name: getattr(self, name) for name in names} | {"checkpoint": self.start},
            name=f"{self.name}, stage 1",
            optimization=self.first,
        )

    def begun(self, corpus: Corpus, make: Make) -> Self:
        """Return the recipe with the weights of stage 1."""
        return replace(self, start=make("first", self.first_stage.fit(corpus)).checkpoint)

    def objective(self) -> Reconstruction:
        """Return the objective of stage 2."""
        return Painting(
            architecture=self.architecture,
            quantizer=self.quantizer,
            flips=self.flips,
            start=self.first_stage,
            loss=self.loss,
        )
