"""What the generators share that paint pictures from latents, under captions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from imagegram.conditions.labels import CAPTION
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError, require_bounds
from imagegram.generators.captioned import ReadsCaptions
from imagegram.generators.latent_flow.recipes import AutoencoderRecipe
from imagegram.generators.maskgen_kl.settings import SMALL, ImageAutoencoder, LatentSizes
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout
from imagegram.models.dtypes import require_dtype
from imagegram.models.published import titok_weights
from imagegram.protocols import Condition, Sampler, Tokenizer
from imagegram.samplers.kinds import check_caption, require_kind
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.store.fingerprint import NOT_IDENTITY

if TYPE_CHECKING:
    from torch import Tensor, nn

_EMBEDDER: Final = SentenceEmbedder(max_tokens=32)
#: What to type for weights that read other captions, by the size that tells it.
CAPTIONS_WORDS: Final = {
    "text_length": "generator.embedder.max_tokens={value}",
    "text_dim": "generator.embedder.folder=FOLDER, an encoder of {value} numbers a token",
    "padded_text": "generator.embedder.folder=FOLDER, the encoder of the training",
}


@dataclass(frozen=True, kw_only=True)
class KlGenerator(ReadsCaptions):
    """The fields of a generator of latents of images; a subclass says where its weights are from.

    Attributes:
        name: name of the configuration file.
        autoencoder: what turns images into latents, see :class:`ImageAutoencoder`.
        width, depth, num_heads: sizes of the transformer.
        head_width, head_depth: sizes of the head that leads from noise to a latent.
        captions: key of the JSON beside an image that has its caption; ``caption``: also the text
            beside it.
        embedder: text encoder that reads them.
        device: device that samples: ``cpu``, ``cuda``.
        dtype: numbers that it samples with, ``float32`` or ``bfloat16``.
    """

    name: str = field(metadata=NOT_IDENTITY)
    autoencoder: ImageAutoencoder = SMALL
    width: int = 128
    depth: int = 4
    num_heads: int = 2
    head_width: int = 128
    head_depth: int = 3
    captions: str = CAPTION
    embedder: SentenceEmbedder = _EMBEDDER
    device: str = field(default="cpu", metadata=NOT_IDENTITY)
    dtype: str = field(default="float32", metadata=NOT_IDENTITY)  # the model answers for it

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        self.autoencoder.check()
        counts = ("width", "depth", "num_heads", "head_width", "head_depth")
        bounds = {name: (1, float("inf")) for name in counts}
        require_bounds(self, bounds, prefix="generator.")
        if self.width % self.num_heads:
            raise ConfigError(
                f"generator.num_heads={self.num_heads} must divide generator.width={self.width}; "
                "type generator.num_heads=1"
            )
        if not self.captions:
            raise ConfigError("generator.captions is empty; type generator.captions=caption")
        require_dtype(self.dtype, setting="generator.dtype")

    @property
    def has_null(self) -> bool:
        """Whether the network knows what no caption is."""
        return True

    @property
    def text_sizes(self) -> dict[str, int]:
        """Sizes of what the autoencoder reads of a caption."""
        return {"text_dim": self.embedder.dim, "text_length": self.embedder.max_tokens}

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and conditions that are no captions.

        Raises:
            ConfigError: saying what fits.
        """
        own = require_kind(sampler, MaskedFlowSampler, group="sampler", generator=self.name)
        check_caption(
            condition,
            own.guidance,
            captions=self.captions,
            has_null=self.has_null,
            generator=self.name,
        )

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer of texts.

        Raises:
            ConfigError: with what to type.
        """
        if tokenizer.modality != IMAGES:
            raise ConfigError(
                f"generator={self.name} paints pictures, but tokenizer={tokenizer.name} reads "
                f"{tokenizer.modality.nouns}; type modality=image"
            )

    def scores(self, sampler: Sampler) -> bool:
        """Return False: the likelihood of tokens under a flow of latents is not known."""
        return False


@dataclass(frozen=True, kw_only=True)
class ImageKlRecipe(AutoencoderRecipe):
    """The autoencoder of images, of a generator that trains it or has its published weights.

    Attributes:
        generator: the configured generator.
    """

    generator: KlGenerator

    @property
    def architecture(self) -> LatentSizes:
        """Sizes of the network."""
        how = self.generator
        return how.autoencoder.sizes(**how.text_sizes, padded_text=how.embedder.padded)

    def make_network(self) -> nn.Module:
        """Build the autoencoder, with any weights."""
        from imagegram.generators.maskgen_kl.autoencoder import ImageKl

        return ImageKl(**self.architecture.arguments())

    def word(self, name: str, value: Any) -> str:
        """Return what to type for an autoencoder of another size."""
        return CAPTIONS_WORDS.get(name, f"generator.autoencoder.{name}={{value}}").format(
            value=value
        )

    def taken_over(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a published file under the names of the network.

        Raises:
            ConfigError: for weights of another network.
        """
        source = self.generator.autoencoder.source
        assert source is not None
        return titok_weights(tensors, self.shapes(), family="TA-TiTok", setting=source.setting)
