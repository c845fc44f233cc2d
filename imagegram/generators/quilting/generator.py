"""QuiltingGenerator: pictures of patches of training images, without training.

After Efros and Freeman, "Image quilting for texture synthesis and transfer" (SIGGRAPH 2001): blocks
in raster order, each a patch that fits what is painted and follows a picture, cut along the least
seam. Here a patch lies where it lay in its image, no image gives two, and what is followed is a
thumbnail of a picture that does not exist (``guides.py``):

    python -m imagegram.run generator=quilting tokenizer=pyramid3
    python -m imagegram.run generator=quilting tokenizer=conv_vq sampler.block=4

It takes the pictures that the tokens of the corpus decode to, and tokens are read off what it
paints, so any tokenizer of images will do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from imagegram.errors import ConfigError, require_bounds
from imagegram.generators.quilting.build import BuildQuilting
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Index, Sampler
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.kinds import check_label, require_kind
from imagegram.samplers.quilting import PINWHEEL, QuiltingSampler
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY

if TYPE_CHECKING:
    from imagegram.protocols import Tokenizer


@dataclass(frozen=True, kw_only=True)
class QuiltingGenerator:
    """Patches of training images, along mixed thumbnails.

    Attributes:
        name: name of the configuration file.
        guide_size: side of the thumbnails, which divides the side of a picture.
        mirror: whether mirror images give patches too.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(default="quilting", metadata=NOT_IDENTITY)
    guide_size: int = 8
    mirror: bool = True

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        require_bounds(self, {"guide_size": (1, 256)}, prefix="generator.")

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families or with other blocks, and conditions.

        Raises:
            ConfigError: saying what fits.
        """
        own = require_kind(sampler, QuiltingSampler, group="sampler", generator=self.name)
        if own.arrangement == PINWHEEL:
            if 2 * own.block >= self.guide_size:
                raise ConfigError(
                    f"bars of sampler.block={own.block} enclose nothing of a thumbnail of "
                    f"generator.guide_size={self.guide_size}; type sampler.block="
                    f"{max((self.guide_size - 1) // 2, 1)}, or sampler.arrangement=grid"
                )
        elif self.guide_size % own.block:
            raise ConfigError(
                f"sampler.block={own.block} does not divide generator.guide_size="
                f"{self.guide_size}; type sampler.block={_divisor(self.guide_size, own.block)}"
            )
        if condition is not None:
            check_label(condition, Guidance(), labels=None, has_null=True, generator=self.name)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer of texts, and pictures that thumbnails do not fit.

        Raises:
            ConfigError: saying what fits.
        """
        side = getattr(tokenizer, "image_size", None)
        if tokenizer.modality is not IMAGES or side is None:
            raise ConfigError(
                f"generator={self.name} paints pictures, and tokenizer={tokenizer.name} writes "
                "none; type tokenizer=pyramid3, or generator=ngram"
            )
        if side % self.guide_size:
            raise ConfigError(
                f"generator.guide_size={self.guide_size} does not divide the {side} pixels of "
                f"tokenizer={tokenizer.name}; type generator.guide_size="
                f"{_divisor(side, self.guide_size)}"
            )

    def scores(self, sampler: Sampler) -> bool:
        """Return False: a picture that was not painted so has no probability."""
        return False

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> BuildQuilting:
        """Return the stage that writes the pictures of the training documents."""
        assert tokens.tokenizer is not None
        self.check_tokenizer(tokens.tokenizer)
        return BuildQuilting(
            tokens=tokens,
            guide_size=self.guide_size,
            near_duplicate_limit=tokens.near_duplicate_limit,
            tokenizer=tokens.tokenizer,
            mirror=self.mirror,
        )


def _divisor(number: int, most: int) -> int:
    """Return the largest divisor up to some number.

    >>> _divisor(32, 12), _divisor(7, 5)
    (8, 1)
    """
    return next(one for one in range(min(most, number), 0, -1) if number % one == 0)
