"""Conditions: what a sampler may ask of a document before it decides, beside the context.

``sampler.anchor``, ``sampler.label`` and ``sampler.context_digits``, as the engines need them.
Engines without them call :func:`refuse_conditions`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import UnsupportedError
from imagegram.indexes.labels import ANY, Labels
from imagegram.layout import TokenLayout
from imagegram.protocols import Sampler


def row_labels(
    sampler: Sampler, labels: Labels | None, samples: NDArray[np.uint64]
) -> NDArray[np.int32]:
    """(B,) the label of every sample; -1 for a sampler without.

    Raises:
        ConfigError: when there is no such label, or none at all.
    """
    if sampler.label is None:
        return np.full(len(samples), ANY, dtype=np.int32)
    labels = labels or Labels(names=(), by_document=np.empty(0, dtype=np.int32))
    return labels.of_samples(sampler.label, samples, key=sampler.label_key)


def divisor_of(sampler: Sampler, layout: TokenLayout) -> int:
    """By what ids are divided before contexts are compared; 1: not at all.

    Raises:
        ConfigError: when tokens have fewer digits than ``context_digits``.
    """
    sampler.max_context_per_position(layout)  # checks the digits
    if sampler.context_digits is None:
        return 1
    return math.prod(layout.digits[: len(layout.digits) - sampler.context_digits])


def is_conditioned(sampler: Sampler) -> bool:
    """Whether a sampler asks for more than a context."""
    conditions = (sampler.label, sampler.context_digits)
    return sampler.anchor > 0 or any(condition is not None for condition in conditions)


def refuse_conditions(sampler: Sampler, engine: str) -> None:
    """For engines that know contexts only.

    Raises:
        UnsupportedError: naming the knob and the engine that has it.
    """
    knobs = {"anchor": 0, "label": None, "context_digits": None}
    for knob, default in knobs.items():
        if (value := getattr(sampler, knob)) != default:
            raise UnsupportedError(
                f"generator.engine={engine} cannot do sampler.{knob}={value}; use "
                "generator.engine=native, or leave that knob at its default"
            )
