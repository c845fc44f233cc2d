"""Sizes of the two networks of a MaskGen over continuous latents, and how the first is trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Final

from imagegram.errors import ConfigError, require_bounds
from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT
from imagegram.store.weights import Source
from imagegram.training.optimization import Optimization

#: A training of minutes on two cores.
MINUTES: Final = Optimization(
    steps=3000,
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=100,
    weight_decay=0.05,
    ema_decay=0.99,
    precision="bf16-mixed",
    gradient_clip_val=1.0,
)


@dataclass(frozen=True, kw_only=True)
class LatentSizes:
    """Sizes of the autoencoder.

    Attributes:
        image_size: side of the images in pixels.
        patch_size: side of a patch in pixels; divides ``image_size``.
        num_latents: latents of an image, K.
        latent_size: numbers of a latent, D.
        width, depth, num_heads: of the transformer that paints, and of that which reads.
        text_dim: numbers of a state of the text encoder.
        text_length: most tokens of a caption.
        padded_text: the text encoder gives so many states of every caption, which are read as they
            are, as published weights do.
        encoder_width, encoder_depth, encoder_heads: of the transformer that reads, where it is of
            another size; None: it is not.
    """

    image_size: int
    patch_size: int
    num_latents: int
    latent_size: int
    width: int
    depth: int
    num_heads: int
    text_dim: int
    text_length: int
    padded_text: bool = field(default=False, metadata=NOT_IDENTITY_AT_DEFAULT)
    encoder_width: int | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)
    encoder_depth: int | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)
    encoder_heads: int | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the network."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class MaskedSizes:
    """Sizes of the network over latents.

    Attributes:
        num_latents: latents of an image, K.
        latent_size: numbers of a latent, D.
        width, depth, num_heads: of the transformer.
        head_width, head_depth: of the head that follows the flow of one latent.
        text_dim: numbers of a state of the text encoder.
        text_length: most tokens of a caption.
    """

    num_latents: int
    latent_size: int
    width: int
    depth: int
    num_heads: int
    head_width: int
    head_depth: int
    text_dim: int
    text_length: int

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the network."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class ImageAutoencoder:
    """The autoencoder of images: sizes, loss, training.

    Attributes:
        image_size, patch_size, num_latents, latent_size, width, depth, num_heads, encoder_width,
            encoder_depth, encoder_heads: see :class:`LatentSizes`.
        beta: weight of the divergence of a number of a latent from a standard normal one.
        optimization: its training.
        checkpoint: published weights of TA-TiTok's KL form, of these sizes, instead of a training:
            a file, or one of the hub; None: it is trained.
    """

    image_size: int = 64
    patch_size: int = 8
    num_latents: int = 16
    latent_size: int = 16
    width: int = 128
    depth: int = 3
    num_heads: int = 2
    encoder_width: int | None = None
    encoder_depth: int | None = None
    encoder_heads: int | None = None
    beta: float = 1e-4
    optimization: Optimization = MINUTES
    checkpoint: str | None = None

    def check(self) -> None:
        """Refuse what no autoencoder can have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        counts = ("image_size", "patch_size", "num_latents", "latent_size", "width", "depth")
        bounds = {name: (1, float("inf")) for name in (*counts, "num_heads")}
        require_bounds(self, bounds | {"beta": (0, float("inf"))}, prefix=_PREFIX)
        encoder = ("encoder_width", "encoder_depth", "encoder_heads")
        given = {name: (1, float("inf")) for name in encoder if getattr(self, name) is not None}
        if given and len(given) < len(encoder):
            missing = next(name for name in encoder if name not in given)
            raise ConfigError(
                f"{_PREFIX}{missing} is missing: the half that reads has {', '.join(given)} of its "
                f"own; give all of {', '.join(encoder)}, or none"
            )
        require_bounds(self, given, prefix=_PREFIX)
        pairs = [("image_size", "patch_size"), ("width", "num_heads")]
        pairs += [] if self.encoder_width is None else [("encoder_width", "encoder_heads")]
        for whole, part in pairs:
            if getattr(self, whole) % getattr(self, part):
                raise ConfigError(
                    f"{_PREFIX}{part}={getattr(self, part)} must divide "
                    f"{_PREFIX}{whole}={getattr(self, whole)}; type {_PREFIX}{part}=1"
                )

    @property
    def source(self) -> Source | None:
        """Where published weights are; None: there are none."""
        if self.checkpoint is None:
            return None
        return Source.of(self.checkpoint, setting=f"{_PREFIX}checkpoint")

    def sizes(self, *, text_dim: int, text_length: int, padded_text: bool) -> LatentSizes:
        """Return the sizes of the network for captions of a text encoder."""
        own = (each.name for each in dataclasses.fields(LatentSizes))
        known: dict[str, Any] = {n: getattr(self, n) for n in own if hasattr(self, n)}
        known |= {"text_dim": text_dim, "text_length": text_length, "padded_text": padded_text}
        return LatentSizes(**known)


_PREFIX: Final = "generator.autoencoder."
#: The default: trained in minutes.
SMALL: Final = ImageAutoencoder()
