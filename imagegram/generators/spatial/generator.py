"""SpatialGenerator: an n-gram over pictures whose context is a list of places.

``reference.py`` is its definition.

    python -m imagegram.run generator=spatial 'tokenizer.sizes=[1,2,4,8,16,32]'
    python -m imagegram.run generator=spatial tokenizer=conv_vq_tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.generators.spatial.build import BuildSpatialIndex
from imagegram.generators.spatial.index import Enlarging, check_residuals
from imagegram.generators.spatial.model import own_sampler
from imagegram.generators.spatial.passes import ORDERS, grid_passes, is_grid
from imagegram.generators.spatial.places import Template
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Index, Sampler
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.kinds import check_label
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY

if TYPE_CHECKING:
    from imagegram.protocols import Tokenizer

ENGINES: Final = ("native", "naive")


@dataclass(frozen=True, kw_only=True)
class SpatialGenerator:
    """Draw blocks of a picture from those training blocks that have the same surroundings.

    Attributes:
        name: name of the configuration file.
        templates: what the contexts of a pyramid's levels are made of, see :class:`Template`; by
            ascending ``from_size``.
        grid_order: in which the places of a grid of codes are drawn: ``raster``, or ``halving``,
            first places that lie far apart, then those halfway between them.
        grid_templates: what the contexts of a grid's passes are made of.
        engine: ``native`` (compiled) or ``naive`` (the definition, slow); the result is the same.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    templates: tuple[Template, ...]
    grid_order: str
    grid_templates: tuple[Template, ...]
    engine: str = field(default="native", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Take lists of a YAML file; refuse what is no template, and an unknown engine."""
        for name in ("templates", "grid_templates"):
            object.__setattr__(self, name, _templates(getattr(self, name)))
            sizes = [template.from_size for template in getattr(self, name)]
            if not sizes or sizes != sorted(set(sizes)):
                raise ConfigError(
                    f"generator.{name} have from_size={sizes}; give at least one template, each "
                    "with a larger from_size than the one before"
                )
        if self.grid_order not in ORDERS:
            raise ConfigError(
                f"generator.grid_order={self.grid_order!r}: {did_you_mean(self.grid_order, ORDERS)}"
            )
        if self.engine not in ENGINES:
            raise ConfigError(
                f"generator.engine={self.engine!r}: {did_you_mean(self.engine, ENGINES)}"
            )

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse samplers of other families, and conditions: it knows no labels and no prompts.

        Raises:
            ConfigError: saying what fits.
        """
        count = len(grid_passes(layout, self.grid_order)) if is_grid(layout) else layout.num_levels
        own_sampler(sampler, layout, num_passes=count, generator=self.name)
        if condition is not None:
            check_label(condition, Guidance(), labels=None, has_null=True, generator=self.name)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer that has neither pictures on its levels nor a grid of codes.

        Raises:
            ConfigError: naming those that have.
        """
        is_codes = is_grid(tokenizer.spec.layout) and hasattr(type(tokenizer), "codebooks")
        if not is_codes and not isinstance(tokenizer, Enlarging):
            raise ConfigError(
                f"generator={self.name} draws the levels of a pyramid, or a grid of codes that "
                f"stand for vectors, and tokenizer={tokenizer.name} has neither; type "
                "tokenizer=pyramid3 or tokenizer=conv_vq"
            )
        check_residuals(tokenizer, generator=self.name)

    def scores(self, sampler: Sampler) -> bool:
        """Return True: the trace of given tokens is that of a draw."""
        return True

    def fit(
        self, tokens: TokenSet, *, index: Index, holdout: TokenSet | None = None
    ) -> BuildSpatialIndex:
        """Return the stage that sorts the blocks of the training documents."""
        assert tokens.tokenizer is not None
        self.check_tokenizer(tokens.tokenizer)
        on_grid = is_grid(tokens.tokenizer.spec.layout)
        return BuildSpatialIndex(
            tokens=tokens,
            near_duplicate_limit=tokens.near_duplicate_limit,
            templates=self.grid_templates if on_grid else self.templates,
            grid_order=self.grid_order if on_grid else None,
            tokenizer=tokens.tokenizer,
            engine=self.engine,
        )


def _templates(given: Any) -> tuple[Template, ...]:
    """Return templates, from mappings of a YAML file too.

    Raises:
        ConfigError: for an entry that is none.
    """
    found = []
    for each in given:
        if isinstance(each, Template):
            found.append(each)
            continue
        unknown = set(each) - {known.name for known in fields(Template)}
        if unknown:
            raise ConfigError(
                f"generator.templates: {sorted(unknown)} are no fields of a template; it has "
                f"{[known.name for known in fields(Template)]}"
            )
        found.append(Template(**each))
    return tuple(found)
