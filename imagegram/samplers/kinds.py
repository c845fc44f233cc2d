"""Checks that a generator takes a component; messages name the YAML files that fit."""

from __future__ import annotations

from typing import Any, TypeVar

from imagegram import schema
from imagegram.conditions.captions import CaptionCondition
from imagegram.conditions.excerpts import DrawnExcerpts, ExcerptCondition
from imagegram.conditions.label import LabelCondition
from imagegram.conditions.prompt import PromptCondition
from imagegram.errors import ConfigError
from imagegram.samplers.guidance import Guidance

T = TypeVar("T")


def require_kind(component: Any, kind: type[T], *, group: str, generator: str) -> T:
    """Return a component that a generator can use.

    Args:
        component: component with a ``name``.
        kind: the class that the generator takes.
        group: group of the configuration: ``sampler``, ``condition``.
        generator: name of the generator, for the message.

    Raises:
        ConfigError: for a component of another kind, naming all that fit.
    """
    if isinstance(component, kind):
        return component
    fitting = ", ".join(f"{group}={name}" for name in schema.choices(group, kind))
    raise ConfigError(
        f"generator={generator} cannot work with {group}={component.name}; type one of: {fitting}"
    )


def check_caption(
    condition: Any, guidance: Guidance, *, captions: str, has_null: bool, generator: str
) -> None:
    """Refuse conditions that are no captions, and guidance where nothing guides.

    Args:
        condition: of the samples; None: nothing is asked of them.
        guidance: of the sampler.
        captions: key of the captions that the generator reads.
        has_null: whether it also learns to write without a caption.
        generator: name of the generator, for messages.

    Raises:
        ConfigError: with what to type instead.
    """
    if isinstance(condition, CaptionCondition):
        if condition.key != captions:
            raise ConfigError(
                f"condition.key={condition.key}, but generator={generator} reads the captions of "
                f"generator.captions={captions}; type condition.key={captions}"
            )
    elif isinstance(condition, PromptCondition):
        if not condition.texts:
            raise ConfigError(
                f"generator={generator} cannot work with condition.tokens: it continues no "
                "prompts, but reads captions; type condition=none, or 'condition.tokens=[]' "
                "'condition.texts=[a red bus]'"
            )
    elif condition is not None:
        raise ConfigError(
            f"generator={generator} cannot work with condition={condition.name}: it reads "
            "captions; type condition=caption, condition=prompt, or condition=none"
        )
    if guidance.is_on and condition is None:
        raise ConfigError(
            f"sampler.guidance.scale={guidance.scale:g} guides towards a caption, but none is "
            "asked for; type condition=caption, or sampler.guidance.scale=1"
        )
    if not has_null and (guidance.is_on or condition is None):
        asks = "sampler.guidance.scale" if guidance.is_on else "condition=none"
        way = "sampler.guidance.scale=1" if guidance.is_on else "condition=caption"
        raise ConfigError(
            f"{asks} needs a generator that also learns to write without a caption, but "
            f"generator.caption_dropout=0; type generator.caption_dropout=0.1, or {way}"
        )


def check_label(
    condition: Any, guidance: Guidance, *, labels: str | None, has_null: bool, generator: str
) -> None:
    """Refuse labels that a generator did not learn, and guidance where nothing guides.

    Args:
        condition: of the samples; None: nothing is asked of them.
        guidance: of the sampler.
        labels: key of the labels that the generator learns; None: it learns none.
        has_null: whether it also learns to write without a label.
        generator: name of the generator, for messages.

    Raises:
        ConfigError: with what to type instead.
    """
    if isinstance(condition, PromptCondition | ExcerptCondition | DrawnExcerpts):
        raise ConfigError(
            f"generator={generator} cannot work with condition={condition.name}: it continues no "
            "prompts; type condition=none, or generator=ngram, generator=ar"
        )
    if isinstance(condition, CaptionCondition):
        raise ConfigError(
            f"generator={generator} reads no captions, so condition={condition.name} asks in vain; "
            "type condition=none, or a generator that reads them: generator=maskgen"
        )
    if labels is None and condition is not None:
        raise ConfigError(
            f"generator={generator} learns no labels, so condition={condition.name} asks in vain; "
            "type condition=none, or train it on labels: generator.labels=KEY, a key of the JSON "
            "beside an item"
        )
    if condition is not None:
        asked = require_kind(condition, LabelCondition, group="condition", generator=generator)
        if asked.key != labels:
            raise ConfigError(
                f"condition.key={asked.key}, but generator={generator} learns the labels of "
                f"generator.labels={labels}; type condition.key={labels}"
            )
    if guidance.is_on and condition is None:
        way = "condition=label" if labels else "condition=label generator.labels=KEY"
        raise ConfigError(
            f"sampler.guidance.scale={guidance.scale:g} guides towards a label, but none is asked "
            f"for; type {way}, or sampler.guidance.scale=1"
        )
    if labels is not None and not has_null and (guidance.is_on or condition is None):
        asks = "sampler.guidance.scale" if guidance.is_on else "condition=none"
        way = "sampler.guidance.scale=1" if guidance.is_on else "condition=label"
        raise ConfigError(
            f"{asks} needs a generator that also learns to write without a label, but "
            f"generator.label_dropout=0; type generator.label_dropout=0.1, or {way}"
        )
