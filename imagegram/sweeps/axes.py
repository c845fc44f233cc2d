"""Axes of a sweep: the knobs in which its jobs differ, found by comparing their configurations.

Knobs that change together are one axis, and what a group's name decides (``corpus.num_shards`` of
``corpus.name``) follows the name. Seeds, paths, workers and loggers are no axes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imagegram.sweeps.jobs import Job, Scalar

#: What changes no number, or is averaged over.
_IGNORED: Final = re.compile(
    r"(seed|stages|planted)$|(paths|runtime|logger|callback|launcher|hydra)(\.|$)"
)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One knob.

    Attributes:
        key: in the configuration; of knobs that change together the one that names them.
        followers: keys that change with it.
        values: those that occur, numbers first and ascending; None where a job lacks the key.
    """

    key: str
    followers: tuple[str, ...]
    values: tuple[Scalar, ...]

    @property
    def label(self) -> str:
        """Short: ``sampler.max_context`` is max_context, ``corpus.name`` is corpus."""
        group, _, last = self.key.rpartition(".")
        return group.rpartition(".")[2] if group and last in ("name", "_target_") else last

    @property
    def group(self) -> str:
        """Of the configuration: corpus, tokenizer, sampler ..."""
        return self.key.partition(".")[0]

    @property
    def is_numeric(self) -> bool:
        """All values are numbers."""
        return all(is_number(value) for value in self.values)

    @property
    def has_numbers(self) -> bool:
        """Two values or more are numbers: worth a curve."""
        return sum(is_number(value) for value in self.values) > 1

    @property
    def is_family(self) -> bool:
        """All values are one name with different numbers, as in pyramid2, pyramid3."""
        names = [value for value in self.values if isinstance(value, str)]
        families = {family_of(name) for name in names}
        return len(names) == len(self.values) and len(families) == 1 and not families & {*names}

    @property
    def is_ordered(self) -> bool:
        """Values have an order that a figure should show."""
        return self.has_numbers or self.is_family

    def short(self, value: Scalar) -> str:
        """A value beside its mark: of a family, the number."""
        text = show(value)
        return text.removeprefix(family_of(text)).lstrip("_") if self.is_family else text


def is_number(value: Scalar) -> bool:
    """A number, and no truth value.

    >>> is_number(3), is_number(True), is_number("3")
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def show(value: Scalar) -> str:
    """A value as one types it.

    >>> show(None), show(True), show(2.0), show(0.12345678)
    ('null', 'true', '2', '0.12345678')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def family_of(name: str) -> str:
    """A name without the number at its end.

    >>> family_of("tiny_imagenet_20"), family_of("pyramid3"), family_of("demo")
    ('tiny_imagenet', 'pyramid', 'demo')
    """
    return re.sub(r"(?<=[^\d_])_?\d+$", "", name)


def identity(config: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The part of a configuration that decides its scores, without the seed."""
    return {key: value for key, value in config.items() if not _IGNORED.match(key)}


def find_axes(jobs: Sequence[Job]) -> tuple[Axis, ...]:
    """The axes between jobs, in the order of the configuration; jobs without one do not count."""
    configs = [identity(job.config) for job in jobs if job.config]
    together: dict[tuple[int, ...], list[str]] = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        column = [config.get(key) for config in configs]
        ranks = {value: rank for rank, value in enumerate(dict.fromkeys(column))}
        if len(ranks) > 1:
            together.setdefault(tuple(ranks[value] for value in column), []).append(key)
    _let_names_decide(together)
    axes = []
    for keys in together.values():
        key = min(keys, key=lambda key: _preference(key, configs))
        values = dict.fromkeys(config.get(key) for config in configs)
        axes.append(
            Axis(
                key=key,
                followers=tuple(other for other in keys if other != key),
                values=tuple(sorted(values, key=_order)),
            )
        )
    return tuple(axes)


def _let_names_decide(together: dict[tuple[int, ...], list[str]]) -> None:
    """Move the keys that are a function of their group's name to the name.

    Args:
        together: what tells which jobs share a value -> keys of which this is so; changed.
    """
    found = {key: ranks for ranks, keys in together.items() for key in keys}
    for key, ranks in found.items():
        name = found.get(f"{key.partition('.')[0]}.name", ranks)
        if name != ranks and len({*zip(name, ranks, strict=True)}) == len({*name}):
            together[ranks].remove(key)
            together[name].append(key)
            if not together[ranks]:
                del together[ranks]


def axis_values(job: Job, axes: Sequence[Axis]) -> tuple[Scalar, ...]:
    """Where a job lies on every axis."""
    return tuple(job.config.get(axis.key) for axis in axes)


def describe(at: Mapping[str, Scalar], axes: Sequence[Axis]) -> str:
    """Where something lies on the axes, in words: ``max_context = 3, matching = free``.

    Args:
        at: key of an axis -> value.
        axes: those to tell of.
    """
    return ", ".join(f"{axis.label} = {show(at[axis.key])}" for axis in axes)


def _preference(key: str, configs: Sequence[Mapping[str, Scalar]]) -> tuple[int, int, str]:
    """A name says more than a number, a number more than a list; classes say least."""
    if key.endswith("._target_"):
        return (3, len(key), key)
    values = [config.get(key) for config in configs]
    kind = 0 if key.endswith(".name") else 1 if all(is_number(v) for v in values) else 2
    return (kind, len(key), key)


def _order(value: Scalar) -> tuple[int, float, list[tuple[int, str]]]:
    """Numbers by size, then text with the numbers in it by size, null last."""
    if is_number(value):
        return (0, float(value), [])  # type: ignore[arg-type]
    parts = re.split(r"(\d+)", show(value))
    natural = [(int(p), "") if p.isdigit() else (-1, p) for p in parts]
    return (2 if value is None else 1, 0.0, natural)
