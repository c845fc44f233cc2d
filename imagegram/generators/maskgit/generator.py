"""MaskGIT: a bidirectional transformer that fills in masked tokens, the surest first.

``python -m imagegram.run tokenizer=ordered_fsq_tiny generator=maskgit``: after Chang et al.,
"MaskGIT: Masked Generative Image Transformer" (arXiv 2202.04200). ``generator=masked_diffusion`` is
the same for texts, in random order, with a loss that bounds the code length. It is trained by the
run on the tokens of its corpus; the network is ``network.py``, the loss ``training.py``, the
sampling ``sampling.py``, documents of different lengths ``ragged.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.prompt import prompt_trace, prompts_of, without_prompt
from imagegram.errors import ConfigError, UnsupportedError, did_you_mean
from imagegram.generators.chunks import chunk_samples, rows_from_chunks, scores_from_chunks
from imagegram.generators.learned import Architecture, LearnedGenerator, Recipe
from imagegram.generators.maskgit.objective import BACKBONES, RATES, MaskedPrediction
from imagegram.generators.maskgit.published import sizes_in
from imagegram.generators.maskgit.sizes import ragged
from imagegram.generators.network_model import NetworkModel
from imagegram.generators.weights import ImportWeights
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import Shapes
from imagegram.protocols import Condition, Index, Sampler
from imagegram.records import EOS_TOKEN_ID, Tokens, Trace
from imagegram.samplers.kinds import require_kind
from imagegram.samplers.masked import MaskedSampler
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Progress
from imagegram.training.fit import TrainGenerator

if TYPE_CHECKING:
    from torch import nn

    from imagegram.generators.maskgit.backbones import Backbone
    from imagegram.generators.maskgit.sampling import MaskedNetwork

_TRACE: Final = {"probability": np.float32, "entropy": np.float32, "step": np.uint16}


@dataclass(frozen=True, kw_only=True)
class MaskGitGenerator(LearnedGenerator):
    """A masked transformer over the tokens of any tokenizer.

    Attributes:
        name, width, depth, num_heads, labels, label_dropout, validation_fraction, optimization,
            trainer, device, checkpoint, start: see :class:`LearnedGenerator`.
        label_smoothing: smoothing of the cross entropy, 0 ... 1.
        unmasked_weight: weight in the loss of tokens that were not masked; masked ones have 1.
        backbone: the network: ``transformer``, the house's own; ``local``, the same whose places
            see their neighbours from the beginning, for texts; ``bert`` or ``uvit``, as published
            for TiTok, of which the latter has an odd ``depth``.
        rates: how the masked share of a document is drawn, ``arccos``, or ``uniform`` with the
            weights that make the loss a bound of the code length, see ``objective.py``.
        random_offsets: whether windows of documents of any length begin elsewhere in every epoch,
            see ``training/tokens.py``; documents of one length have one window.
    """

    VERSION: ClassVar[int] = 1
    #: Networks that this generator may have.
    BACKBONES: ClassVar[tuple[str, ...]] = BACKBONES

    name: str = field(default="maskgit", metadata=NOT_IDENTITY)
    label_smoothing: float = 0.1
    unmasked_weight: float = 0.1
    backbone: str = "transformer"
    rates: str = field(default="arccos", metadata=NOT_IDENTITY_AT_DEFAULT)
    random_offsets: bool = field(default=False, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        """Apply the overrides of the group ``trainer``; refuse impossible settings."""
        super().__post_init__()
        if self.backbone not in self.BACKBONES:
            known = did_you_mean(self.backbone, self.BACKBONES)
            raise ConfigError(f"generator.backbone={self.backbone!r}: {known}")
        if self.backbone == "uvit" and self.depth % 2 == 0:
            raise ConfigError(
                f"generator.depth={self.depth}: a uvit has as many blocks before its middle one as "
                f"behind it; type generator.depth={self.depth + 1}"
            )
        for knob in ("label_smoothing", "unmasked_weight"):
            if not 0.0 <= (value := getattr(self, knob)) <= 1.0:
                raise ConfigError(
                    f"generator.{knob}={value} must lie in 0 ... 1; type generator.{knob}=0.1"
                )
        if self.rates not in RATES:
            raise ConfigError(f"generator.rates={self.rates!r}: {did_you_mean(self.rates, RATES)}")
        if self.rates == "uniform" and (self.label_smoothing or self.unmasked_weight):
            raise ConfigError(
                "generator.rates=uniform makes the loss a bound of the code length, of which "
                f"generator.label_smoothing={self.label_smoothing} and "
                f"generator.unmasked_weight={self.unmasked_weight} leave nothing; type "
                "generator.label_smoothing=0 generator.unmasked_weight=0"
            )

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and labels that it does not learn.

        Raises:
            ConfigError: saying what fits.
        """
        own = require_kind(sampler, MaskedSampler, group="sampler", generator=self.name)
        self.check_label(without_prompt(condition), own.guidance)

    def sizes_in(self, shapes: Shapes, *, setting: str) -> Architecture:
        """Return the sizes of some weights, which do not tell the heads of published ones."""
        found = sizes_in(shapes, backbone=self.backbone, setting=setting)
        if self.backbone in ("transformer", "local"):
            return found
        return replace(found, num_heads=self.num_heads)

    def scores(self, sampler: Sampler) -> bool:
        """Return whether the order is random: one that the tokens decide gives no likelihood."""
        return isinstance(sampler, MaskedSampler) and sampler.in_random_order

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> TrainGenerator[MaskGitModel] | ImportWeights[MaskGitModel]:
        """Return the stage that trains the network on a token set, or takes over its weights."""
        sizes = self.architecture(tokens)
        if tokens.document_length is None:
            sizes = ragged(sizes)
        recipe = MaskGitRecipe(generator=self, architecture=sizes)
        data = replace(self.data(tokens, holdout), random_offsets=self.random_offsets)
        return self.weights_of(recipe, data)


@dataclass(frozen=True, kw_only=True)
class MaskGitRecipe(Recipe):
    """What :class:`TrainGenerator` trains of a MaskGIT."""

    generator: MaskGitGenerator

    def objective(self) -> MaskedPrediction:
        """Return the objective of the network."""
        return MaskedPrediction(
            architecture=self.architecture,
            label_smoothing=self.generator.label_smoothing,
            unmasked_weight=self.generator.unmasked_weight,
            backbone=self.generator.backbone,
            label_dropout=self.label_dropout,
            rates=self.generator.rates,
        )

    def make_network(self) -> nn.Module:
        """Build the network, with any weights."""
        from imagegram.generators.maskgit.backbones import make

        return make(self.generator.backbone, **self.architecture.arguments())

    def trained(self, artifact: Artifact) -> MaskGitModel:
        """Return the model with the weights of a finished training."""
        return MaskGitModel(backbone=self.generator.backbone, **self.model_fields(artifact))


@dataclass(frozen=True, kw_only=True)
class MaskGitModel(NetworkModel):
    """A trained masked network that samples, and scores in random order.

    Attributes:
        backbone: name of the network.
    """

    backbone: str

    def make_network(self) -> Backbone:
        """Build the network of the backbone."""
        from imagegram.generators.maskgit.backbones import make

        return make(self.backbone, **self.sizes.arguments())

    def asked(
        self, condition: Condition | None, samples: Sequence[NDArray[np.uint64]]
    ) -> tuple[MaskedNetwork, list[NDArray[np.int64]]]:
        """Return the network, and the classes that some samples are asked for."""
        return self.network, [self.classes_of(condition, each) for each in samples]

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
        """Sample (B, T) tokens with their trace; see :meth:`imagegram.protocols.Model.generate`.

        ``workers`` is not used: torch has its cores from the environment.

        Returns:
            (B, T) uint16 tokens, and by name: ``probability`` float32, with which a token was
            drawn, or that of the length at an end; ``entropy`` float32, bits of that distribution;
            ``step`` uint16, the pass that fixed it, from 0; in random order also ``log_prob``
            float32, see :meth:`score`.
        """
        from imagegram.generators.maskgit.sampling import sample_chunks

        own = require_kind(sampler, MaskedSampler, group="sampler", generator="maskgit")

        prompts, asked = prompts_of(condition), without_prompt(condition)
        mask, num_tokens = self.architecture.vocab_size, layout.num_tokens
        prompts.check(most=num_tokens, vocab_size=mask)

        def make(chunks: NDArray[np.uint64]) -> Iterator[dict[str, NDArray[Any]]]:
            ids = chunk_samples(chunks)
            network, classes = self.asked(asked, ids)
            made = sample_chunks(
                network,
                ids,
                classes,
                sampler=own,
                seed=seed,
                prompts=[prompts.of_samples(each, num_tokens=num_tokens) for each in ids],
                dtype=self.dtype,
            )
            for found in made:
                tokens = found["tokens"]
                yield {**found, "tokens": np.where(tokens == mask, EOS_TOKEN_ID, tokens)}

        trace = rows_from_chunks(
            samples,
            num_tokens=num_tokens,
            dtypes={"tokens": np.uint16, **_trace_of(own)},
            make=make,
            progress=progress,
        )
        trace |= prompt_trace(condition, samples, num_tokens=num_tokens)
        return trace.pop("tokens"), trace

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
        """Return the trace of given tokens, filled in in the random order of (seed, sample).

        Returns:
            As :meth:`generate`. ``log_prob`` is the natural logarithm of the probability that the
            network gives a token beside those of earlier passes, under the row's label and
            unguided, temperature 1 and nothing cut away. Its sum is, in the mean over orders, a
            lower bound of the log-likelihood, the tightest with one token a pass. Of documents
            that differ in length, that of the length is at the end, or in the last token of a row
            without an end.

        Raises:
            UnsupportedError: for an order that the tokens decide.
        """
        from imagegram.generators.maskgit.sampling import score_rows

        own = require_kind(sampler, MaskedSampler, group="sampler", generator="maskgit")
        if not own.in_random_order:
            raise UnsupportedError(
                f"sampler.confidence={own.confidence} lets the tokens decide their order, so given "
                "tokens have no likelihood under it; type sampler.confidence=random"
            )
        numbers = np.arange(len(tokens_BT), dtype=np.uint64) if samples is None else samples
        network, (classes_B,) = self.asked(without_prompt(condition), [numbers])
        ids_BT = np.asarray(tokens_BT).astype(np.int64)
        ids_BT[ids_BT == EOS_TOKEN_ID] = self.architecture.vocab_size
        return scores_from_chunks(
            ids_BT,
            numbers,
            classes_B=classes_B,
            dtypes=_trace_of(own),
            score=lambda ids_CT, samples_C, classes_C: score_rows(
                network, ids_CT, classes_C, sampler=own, seed=seed, samples_B=samples_C
            ),
            device=network.device,
            dtype=self.dtype,
            progress=progress,
        )


def _trace_of(sampler: MaskedSampler) -> dict[str, Any]:
    """Return the dtypes of the arrays that a sampler records, by name."""
    return {**_TRACE, "log_prob": np.float32} if sampler.in_random_order else dict(_TRACE)
