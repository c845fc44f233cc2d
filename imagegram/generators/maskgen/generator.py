"""MaskGen: a masked transformer over tokens that reads the caption of an image.

``python -m imagegram.run tokenizer=ta_titok generator=maskgen condition=caption``: what it writes
are tokens of any tokenizer of images. The network is ``network.py``, or that of the published
weights, ``mmdit.py``; loss, sampling and likelihood are those of ``maskgit``, with a caption where
that has a class.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.captions import Captions, OwnCaptions
from imagegram.conditions.labels import CAPTION
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.generators.captioned import ReadsCaptions
from imagegram.generators.learned import Architecture
from imagegram.generators.maskgen.objective import CaptionedPrediction
from imagegram.generators.maskgen.published import (
    refuse_other_reader,
    sizes_in,
    without_head,
)
from imagegram.generators.maskgen.sizes import (
    BACKBONES,
    CaptionedArchitecture,
    MmditSizes,
    make,
)
from imagegram.generators.maskgit.generator import MaskGitGenerator, MaskGitModel, MaskGitRecipe
from imagegram.generators.weights import ImportWeights
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import Shapes
from imagegram.protocols import Condition, Index, Sampler
from imagegram.records import Tokens, Trace
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.kinds import check_caption, require_kind
from imagegram.samplers.masked import MaskedSampler
from imagegram.stages.captions import embed_asked
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Progress
from imagegram.training.captioned_tokens import CaptionedTokens
from imagegram.training.fit import TrainGenerator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from imagegram.generators.maskgit.sampling import MaskedNetwork

_EMBEDDER: Final = SentenceEmbedder(max_tokens=32)


@dataclass(frozen=True, kw_only=True)
class MaskGenGenerator(ReadsCaptions, MaskGitGenerator):
    """A masked transformer over the tokens of images, under captions.

    Attributes:
        captions: key of the JSON beside an image that has its caption; ``caption``: also the text
            beside it.
        embedder: text encoder that reads them.
        caption_dropout: share of the training images whose caption is hidden, so that the network
            learns to write without one too, which guidance needs.
        backbone: the network: ``transformer``, the house's own, or ``mmdit``, as published, which
            reads a text encoder with ``padded`` and ``penultimate`` states.
        aesthetic_score: of ``mmdit``: how much people are said to like the images, some 1 ... 10,
            of all that it learns from and all that it samples; None: it reads none.
        name, width, depth, num_heads, optimization, trainer, device, dtype, checkpoint, start,
            label_smoothing, unmasked_weight, validation_fraction: see :class:`MaskGitGenerator`.
        labels, label_dropout: of no use here.
    """

    VERSION: ClassVar[int] = 1
    BACKBONES: ClassVar[tuple[str, ...]] = BACKBONES

    name: str = field(default="maskgen", metadata=NOT_IDENTITY)
    captions: str = CAPTION
    embedder: SentenceEmbedder = _EMBEDDER
    caption_dropout: float = 0.1
    aesthetic_score: float | None = None

    def __post_init__(self) -> None:
        """Refuse labels, text encoders of another network and impossible settings."""
        super().__post_init__()
        if self.labels is not None:
            raise ConfigError(
                f"generator={self.name} reads captions, no labels; type generator.labels=null, or "
                "generator=maskgit"
            )
        self._check_reading()
        if not self.captions:
            raise ConfigError(
                "generator.captions is empty; type generator.captions=caption, or "
                "generator=maskgit, which reads none"
            )
        if not 0.0 <= self.caption_dropout < 1.0:
            raise ConfigError(
                f"generator.caption_dropout={self.caption_dropout} must be at least 0 and below 1; "
                "type generator.caption_dropout=0.1"
            )

    def _check_reading(self) -> None:
        """Refuse states of captions, and a score, that the network does not read."""
        published = self.backbone == "mmdit"
        if published and not (self.embedder.padded and self.embedder.penultimate):
            raise ConfigError(
                "generator.backbone=mmdit reads all states before the last layer of the text "
                "encoder; type generator.embedder.padded=true generator.embedder.penultimate=true"
            )
        if not published and self.embedder.penultimate:
            raise ConfigError(
                "generator.embedder.penultimate=true is read by the published network alone; type "
                "generator.embedder.penultimate=false, or generator.backbone=mmdit"
            )
        score = self.aesthetic_score
        if score is not None and not (published and math.isfinite(score)):
            raise ConfigError(
                f"generator.aesthetic_score={score} must be a number, some 1 ... 10, and is read "
                "by the published network alone; type generator.aesthetic_score=null, or "
                "generator.backbone=mmdit generator.aesthetic_score=6.5"
            )

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and conditions that are no captions.

        Raises:
            ConfigError: saying what fits.
        """
        own = require_kind(sampler, MaskedSampler, group="sampler", generator=self.name)
        check_caption(
            condition,
            own.guidance,
            captions=self.captions,
            has_null=self.caption_dropout > 0.0,
            generator=self.name,
        )

    def sizes(self, *, vocab_size: int, num_tokens: int) -> Architecture:
        """Return the sizes of the network for so many ids and positions."""
        known = super().sizes(vocab_size=vocab_size, num_tokens=num_tokens).arguments()
        known["text_dim"] = self.embedder.dim
        if self.backbone == "mmdit":
            return MmditSizes(**known, aesthetic_score=self.aesthetic_score)
        return CaptionedArchitecture(**known, text_length=self.embedder.max_tokens)

    def sizes_in(self, shapes: Shapes, *, setting: str) -> Architecture:
        """Return the sizes of some weights, which do not tell the heads of published ones.

        Raises:
            ConfigError: for weights of another family, or that read another text encoder.
        """
        score = self.aesthetic_score
        found = sizes_in(shapes, backbone=self.backbone, aesthetic_score=score, setting=setting)
        refuse_other_reader(found.text_dim, self.embedder, setting=setting)
        if isinstance(found, MmditSizes):
            return dataclasses.replace(found, num_heads=self.num_heads)
        return found

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> TrainGenerator[MaskGitModel] | ImportWeights[MaskGitModel]:
        """Return the stage that trains the network on a token set, or takes over its weights."""
        recipe = MaskGenRecipe(generator=self, architecture=self.architecture(tokens))
        data = CaptionedTokens(
            tokens=tokens,
            holdout=holdout,
            validation_fraction=self.validation_fraction,
            key=self.captions,
            embedder=self.embedder,
        )
        return self.weights_of(recipe, data)


@dataclass(frozen=True, kw_only=True)
class MaskGenRecipe(MaskGitRecipe):
    """What :class:`TrainGenerator` trains of a MaskGen."""

    generator: MaskGenGenerator

    def objective(self) -> CaptionedPrediction:
        """Return the objective of the network."""
        return CaptionedPrediction(
            architecture=self.architecture,
            label_smoothing=self.generator.label_smoothing,
            unmasked_weight=self.generator.unmasked_weight,
            backbone=self.generator.backbone,
            caption_dropout=self.generator.caption_dropout,
        )

    def make_network(self) -> nn.Module:
        """Build the network, with any weights."""
        return make(self.architecture)

    def own(self, tensors: dict[str, Tensor], *, setting: str) -> dict[str, Tensor]:
        """Return the weights of a file as the network has them: its head is tied.

        Raises:
            ConfigError: for a head of its own.
        """
        return without_head(tensors, setting=setting)

    def trained(self, artifact: Artifact) -> MaskGenModel:
        """Return the model with the weights of a finished training."""
        how = self.generator
        fields = {"backbone": how.backbone, **self.model_fields(artifact)}
        return MaskGenModel(captions=how.captions, embedder=how.embedder, **fields)


@dataclass(frozen=True, kw_only=True)
class MaskGenModel(MaskGitModel):
    """A trained masked network that samples under captions, and scores in random order.

    Attributes:
        captions: key of the captions in the metadata of documents.
        embedder: text encoder that reads them.
    """

    captions: str
    embedder: SentenceEmbedder

    def make_network(self) -> nn.Module:  # type: ignore[override]  # another one than maskgit's
        """Build the network, with any weights."""
        return make(self.sizes)

    def condition_of(
        self, metadata: Iterable[Mapping[str, Any]], condition: Condition | None
    ) -> Condition | None:
        """Return the condition of documents: their own captions, where samples are given some."""
        return OwnCaptions.of(metadata, condition) if isinstance(condition, Captions) else None

    def asked(
        self, condition: Condition | None, samples: Sequence[NDArray[np.uint64]]
    ) -> tuple[MaskedNetwork, list[NDArray[np.int64]]]:
        """Return the network with the captions that samples are asked for, and their numbers."""
        import torch

        from imagegram.generators.maskgen.network import Asked

        texts = [self._texts(condition, each) for each in samples]
        known = list(dict.fromkeys(text for part in texts for text in part if text is not None))
        number: dict[str | None, int] = {text: place for place, text in enumerate(known)}
        number[None] = len(known)
        nothing = "" if self.embedder.penultimate else None  # as in ``CaptionedTokens``
        found = embed_asked([*known, nothing], self.embedder)
        states, there = (torch.from_numpy(each) for each in (found.states, found.there))
        network = self.network
        asked = Asked(network, states.to(network.device), there.to(network.device))
        return asked, [np.array([number[text] for text in part], np.int64) for part in texts]

    def _texts(
        self, condition: Condition | None, samples: NDArray[np.uint64]
    ) -> Sequence[str | None]:
        if condition is None:
            return [None] * len(samples)
        assert isinstance(condition, Captions)
        return condition.texts_of(samples)

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
        """Return the trace of given tokens; see :meth:`MaskGitModel.score`.

        Returns:
            As :meth:`MaskGitModel.score`. Of documents under their own captions also
            ``log_prob_other``, under the caption of another document, and ``log_prob_none``, under
            none: in the same order of the tokens, so that they compare.
        """
        known: dict[str, Any] = {
            "layout": layout,
            "seed": seed,
            "samples": samples,
            "progress": progress,
            "workers": workers,
        }
        trace = dict(super().score(tokens_BT, sampler=sampler, condition=condition, **known))
        if not isinstance(condition, OwnCaptions):
            return trace
        own = require_kind(sampler, MaskedSampler, group="sampler", generator="maskgen")
        plain = dataclasses.replace(own, guidance=Guidance())  # log-probabilities are unguided
        none = (None,) * len(tokens_BT)
        for name, texts in (("other", condition.others), ("none", none)):
            if len(texts) == len(tokens_BT):
                asked = OwnCaptions(texts=texts, key=condition.key)
                found = super().score(tokens_BT, sampler=plain, condition=asked, **known)
                trace[f"log_prob_{name}"] = found["log_prob"]
        return trace
