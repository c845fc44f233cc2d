"""Typed Hydra schemas, derived from the component classes: one source of truth.

``sampler.temperature=hot`` and ``sampler.temprature=1`` fail when the configuration is composed,
before anything runs. Every ``conf/<group>/<name>.yaml`` with a ``_target_`` of this package
extends ``/schema/<ClassName>`` through its defaults list.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import re
import types
import typing
from pathlib import Path
from typing import Any, Final

import yaml
from omegaconf import MISSING, OmegaConf

from imagegram.console import describe_groups
from imagegram.errors import ConfigError

_PACKAGE: Final = Path(__file__).resolve().parent
#: The configuration: in the package of a wheel, at the top of the repository of a checkout.
CONF: Final = next(
    (folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir()),
    _PACKAGE / "conf",
)
#: Groups of stages, in the order of the flow.
STAGES: Final = ("tokenize", "index", "fit", "generate", "evaluate")
_TARGET: Final = re.compile(r"^_target_: (imagegram\.[\w.]+)$", re.MULTILINE)
_SCALARS: Final = (int, float, bool, str)


@dataclasses.dataclass
class RuntimeConfig:
    """Speed, not results."""

    workers: int | None = None
    memory_gb: float | None = None
    progress: bool = True


@dataclasses.dataclass
class PathsConfig:
    """Where to read and write."""

    data: str = MISSING
    outputs: str = MISSING


@dataclasses.dataclass
class ObjectiveConfig:
    """What a search minimises, see ``objective.py``."""

    minimize: str | None = None
    limit: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Config:
    """The top level of ``conf/config.yaml``; groups are typed by their own schemas."""

    corpus: Any = MISSING
    train_corpus: Any = None
    trainer: Any = MISSING
    executor: Any = MISSING
    tokenizer: Any = MISSING
    index: Any = MISSING
    generator: Any = MISSING
    sampler: Any = MISSING
    condition: Any = None
    auditor: Any = None
    encoder: Any = MISSING
    metric: dict[str, Any] = dataclasses.field(default_factory=dict)
    logger: dict[str, Any] = dataclasses.field(default_factory=dict)
    callback: dict[str, Any] = dataclasses.field(default_factory=dict)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)
    paths: PathsConfig = dataclasses.field(default_factory=PathsConfig)
    seed: int = 0
    first_shards: int | None = None
    num_samples: int = MISSING
    planted: list[str] = dataclasses.field(default_factory=list)
    output_size: int | None = None
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    stages: list[str] = dataclasses.field(default_factory=list)


def derive_schema(cls: type) -> type:
    """A structured-config class with the fields of a component, plus its ``_target_``.

    Tuples become lists, paths strings, dataclasses in fields schemas of their own; what OmegaConf
    cannot type (one number or a list, what is a group of its own) stays ``Any`` and is checked by
    the component itself.
    """
    return _derived(cls, None)


@functools.cache
def _derived(cls: type, like: Any) -> type:
    """The schema of a dataclass; defaults are those of an instance where one is given."""
    hints = typing.get_type_hints(cls)
    fields: list[Any] = [("_target_", str, f"{cls.__module__}.{cls.__qualname__}")]
    for item in dataclasses.fields(cls):
        hint, default = hints[item.name], MISSING
        if dataclasses.is_dataclass(_present(hint)) and (CONF / item.name).is_dir():
            # A group of its own: the YAML interpolates it.
            fields.append((item.name, Any, dataclasses.field(default=MISSING)))
            continue
        if like is not None:
            default = getattr(like, item.name)
        elif item.default is not dataclasses.MISSING:
            default = item.default
        elif item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if dataclasses.is_dataclass(hint):
            nested = _derived(typing.cast(type, hint), None if default is MISSING else default)
            fields.append((item.name, nested, dataclasses.field(default_factory=nested)))
            continue
        fields.append((item.name, _config_type(hint), _default(_plain(default))))
    return dataclasses.make_dataclass(f"{cls.__name__}Schema", fields)


def _default(value: Any) -> Any:
    if isinstance(value, list | dict):
        return dataclasses.field(default_factory=functools.partial(_copy, value))
    return dataclasses.field(default=value)


def _copy(value: Any) -> Any:
    return value.copy()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _present(hint: Any) -> Any:
    """A type without None, which a field may also hold."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    return kinds[0] if len(kinds) == 1 and type(None) in typing.get_args(hint) else hint


def _config_type(hint: Any) -> Any:
    if hint in _SCALARS:
        return hint
    if hint is Path:
        return str
    if typing.get_origin(hint) is tuple:
        (item, *_) = typing.get_args(hint)
        return list[item] if item in _SCALARS else Any  # type: ignore[valid-type]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        if len(kinds) == 1 and (inner := _config_type(kinds[0])) is not Any:
            return inner | None if len(kinds) < len(typing.get_args(hint)) else inner
    return Any


def component_classes() -> dict[tuple[str, str], type]:
    """Every (group, class name) that a YAML of ``conf/`` names, with its class."""
    return {
        (path.parent.name, cls.__name__): cls
        for path in sorted(CONF.glob("*/*.yaml"))
        if (cls := _class_of(path)) is not None
    }


def choices(group: str, kind: type) -> list[str]:
    """Names in a group of the configuration whose components are of a class."""
    classes = {path.stem: _class_of(path) for path in sorted(CONF.glob(f"{group}/*.yaml"))}
    return [
        name for name, cls in classes.items() if isinstance(cls, type) and issubclass(cls, kind)
    ]


def fields_of(group: str) -> dict[str, dict[str, Any]]:
    """Return what the files of a group of the configuration say, by name; nothing is composed."""
    paths = sorted(CONF.glob(f"{group}/*.yaml"))
    return {path.stem: yaml.safe_load(path.read_text()) for path in paths}


def _class_of(path: Path) -> type | None:
    """The class that a YAML names as its ``_target_``; None: none of this package."""
    match = _TARGET.search(path.read_text())
    if match is None:
        return None
    module, _, name = match[1].rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


@functools.cache
def register() -> None:
    """Tell Hydra all schemas and resolvers; may be called more than once.

    Raises:
        ConfigError: when the package was installed without its ``conf/``.
    """
    from hydra.core.config_store import ConfigStore

    if not CONF.is_dir():
        raise ConfigError(
            f"no configuration folder {CONF}: the installed package is not whole; install it "
            "again from a wheel or, in the repository, type: pip install -c constraints.txt -e ."
        )
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config)
    for (_, name), cls in component_classes().items():
        if dataclasses.is_dataclass(cls):
            store.store(group="schema", name=name, node=derive_schema(cls))
    OmegaConf.register_new_resolver("slug", slug, replace=True)
    OmegaConf.register_new_resolver("workers", count_workers, replace=True)
    OmegaConf.register_new_resolver("groups", lambda: describe_groups(CONF), replace=True)


def count_workers(workers: int | None) -> int:
    """Return a number of workers; None: all cores."""
    return os.cpu_count() or 1 if workers is None else workers


def slug(text: str) -> str:
    """A folder name from Hydra's override string: no separators, at most 120 characters.

    >>> slug("corpus.path=/a/b,tokenizer=pyramid3")
    'corpus.path=_a_b,tokenizer=pyramid3'
    """
    return re.sub(r"[^\w.,=+-]+", "_", text)[:120]
