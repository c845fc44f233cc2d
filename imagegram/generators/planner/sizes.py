"""Sizes of a planner's network, and those of weights; no torch.

>>> sizes = PlannerSizes(
...     vocab_size=7, num_tokens=6, width=8, depth=1, num_heads=2, stages=2, codebooks=2, ends=True
... )
>>> sizes.codebook_size, sizes.num_steps
(3, 3)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from imagegram.errors import ConfigError
from imagegram.generators.learned import Architecture
from imagegram.models.checkpoints import Shapes, num_blocks, require_family

#: How the codes of a step depend on each other.
HEADS: Final = ("depth", "independent")
#: What is seen of the steps before.
CONTEXTS: Final = ("codes", "vectors", "both", "none")
#: Family of its weights, in ``models/checkpoints.py``.
FAMILY: Final = "planner of this package"


def reads_vectors(context: str) -> bool:
    """Whether a context shows the vectors of codes."""
    return context in ("vectors", "both")


def reads_codes(context: str) -> bool:
    """Whether a context shows the codes themselves."""
    return context in ("codes", "both")


#: Arrays of a trace, by name.
SCORES: Final = {"log_prob": np.float32, "entropy": np.float32, "is_likeliest": np.uint8}


@dataclass(frozen=True, kw_only=True)
class PlannerSizes(Architecture):
    """Sizes of a planner's network.

    Attributes:
        stages: ids of a step, K.
        codebooks: K, each stage has a range of V ids of its own; 1: all stages share one.
        ends: whether documents end early; the last id is then their end.
        heads: one of :data:`HEADS`.
        head_depth: MLPs between the context of a step and its logits.
        context: one of :data:`CONTEXTS`.
        vector_width: numbers of a code's vector; 0: vectors are not shown.
        dropout: share of features that is dropped in training.
    """

    stages: int
    codebooks: int
    ends: bool
    heads: str = "depth"
    head_depth: int = 2
    context: str = "codes"
    vector_width: int = 0
    dropout: float = 0.0

    @property
    def codebook_size(self) -> int:
        """Number of ids of a stage, V."""
        return (self.vocab_size - self.ends) // self.codebooks

    @property
    def num_steps(self) -> int:
        """Number of steps of a sample, S."""
        return self.num_tokens // self.stages


def sizes_in(shapes: Shapes, *, setting: str) -> PlannerSizes:
    """Return the sizes of the network that some weights are of.

    Raises:
        ConfigError: for weights of another family, or without a part that tells the sizes.
    """
    require_family(shapes, FAMILY, setting=setting)
    try:
        return _sizes_in(shapes)
    except KeyError as error:
        raise ConfigError(
            f"{setting}: the weights of {FAMILY} lack {error}; give the whole file"
        ) from error


def _sizes_in(shapes: Shapes) -> PlannerSizes:
    stages, width = shapes["stage"]
    codebook_size = shapes["to_codes.0.weight"][0]
    num_steps = shapes["positions"][0]
    ends, codes, vectors = "to_end.weight" in shapes, "codes" in shapes, "vectors" in shapes
    codebooks = shapes["id_ranges"][0]
    return PlannerSizes(
        vocab_size=codebooks * codebook_size + ends,
        num_tokens=num_steps * stages,
        width=width,
        depth=num_blocks(shapes, "transformer.blocks."),
        num_heads=width // shapes["transformer.blocks.0.attention.query_norm.weight"][0],
        num_classes=shapes["classes"][0] - 1 if "classes" in shapes else 0,
        stages=stages,
        codebooks=codebooks,
        ends=ends,
        heads="depth" if "partials" in shapes else "independent",
        head_depth=num_blocks(shapes, "head.blocks."),
        context={(True, True): "both", (True, False): "codes", (False, True): "vectors"}.get(
            (codes, vectors), "none"
        ),
        vector_width=shapes["vectors"][-1] if vectors else 0,
    )
