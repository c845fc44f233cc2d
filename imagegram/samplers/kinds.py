"""Checks that a generator takes a component; messages name the YAML files that fit."""

from __future__ import annotations

from typing import Any, TypeVar

from imagegram import schema
from imagegram.errors import ConfigError

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


def refuse_condition(condition: Any, *, generator: str) -> None:
    """Refuse any condition, for a generator that learned none.

    Raises:
        ConfigError: when there is one.
    """
    if condition is not None:
        raise ConfigError(
            f"generator={generator} learned no condition, so condition={condition.name} asks in "
            "vain; type condition=none"
        )
