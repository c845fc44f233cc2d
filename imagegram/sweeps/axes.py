"""Axes of a sweep: the knobs in which its jobs differ, found by comparing their configurations.

A key that follows from a name (``corpus.num_shards`` from ``corpus.name``) is not an axis of its
own. Neither are seeds, a training's seed that follows the run's, paths, workers and loggers, nor
that only some jobs have a key at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imagegram.sweeps.jobs import Job, Scalar

#: Keys that change no score, or that are averaged over.
_IGNORED: Final = re.compile(
    r"(seed|stages|planted)$|(paths|runtime|executor|logger|callback|launcher|hydra)(\.|$)"
)


class _Unknown:
    """The value of a key that a job lacks."""


_UNKNOWN: Final = _Unknown()
#: Rank of an unknown value.
_ANY: Final = -1


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One knob of a sweep.

    Attributes:
        key: key in the configuration.
        followers: keys that this key decides.
        values: values that occur, ascending numbers first; None where a job lacks the key.
        label: short label: max_context for ``sampler.max_context``, corpus for ``corpus.name``.
    """

    key: str
    followers: tuple[str, ...]
    values: tuple[Scalar, ...]
    label: str

    @property
    def group(self) -> str:
        """Group of the configuration: corpus, tokenizer, sampler ..."""
        return self.key.partition(".")[0]

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(is_number(value) for value in self.values)

    @property
    def has_numbers(self) -> bool:
        """Whether at least two values are numbers, enough for a curve."""
        return sum(is_number(value) for value in self.values) > 1

    @property
    def is_family(self) -> bool:
        """Whether all values are one name with different numbers, as in pyramid2, pyramid3."""
        names = [value for value in self.values if isinstance(value, str)]
        families = {family_of(name) for name in names}
        return len(names) == len(self.values) and len(families) == 1 and not families & {*names}

    @property
    def is_ordered(self) -> bool:
        """Whether the values have an order that a figure should show."""
        return self.has_numbers or self.is_family

    def short(self, value: Scalar) -> str:
        """Return the label of a value beside its mark; in a family, only the number."""
        text = show(value)
        return text.removeprefix(family_of(text)).lstrip("_") if self.is_family else text


def is_number(value: Scalar) -> bool:
    """Return whether a value is a number and not a bool.

    >>> is_number(3), is_number(True), is_number("3")
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def show(value: Scalar) -> str:
    """Return a value as it is typed on the command line.

    >>> show(None), show(True), show(2.0), show(0.12345678)
    ('null', 'true', '2', '0.12345678')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def family_of(name: str) -> str:
    """Return a name without the number at its end.

    >>> family_of("tiny_imagenet_20"), family_of("pyramid3"), family_of("demo")
    ('tiny_imagenet', 'pyramid', 'demo')
    """
    return re.sub(r"(?<=[^\d_])_?\d+$", "", name)


def identity(config: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the part of a configuration that decides its scores, without the seed."""
    return {key: value for key, value in config.items() if not _IGNORED.match(key)}


def find_axes(jobs: Sequence[Job]) -> tuple[Axis, ...]:
    """Find the axes between jobs with a configuration, in the order of the configuration.

    A key that a job lacks is none of its component's, or younger than the job, or the job is a row
    of a table that leaves it out: it may have any value.
    """
    configs = [identity(job.config) for job in jobs if job.config]
    seeds = [job.seed for job in jobs if job.config]
    varied: dict[str, tuple[int, ...]] = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        column: list[Scalar | _Unknown] = [config.get(key, _UNKNOWN) for config in configs]
        if key.endswith(".seed") and _follows(column, seeds):
            continue
        told = [value for value in column if value is not _UNKNOWN]
        ranks = {value: rank for rank, value in enumerate(dict.fromkeys(told))}
        if len(ranks) > 1:
            varied[key] = tuple(ranks.get(value, _ANY) for value in column)
    followers: dict[str, list[str]] = {}
    for key in varied:
        leader = _leader(key, varied)
        followers.setdefault(leader, [])
        if leader != key:
            followers[leader].append(key)
    labels = short_labels([*followers])
    return tuple(
        Axis(
            key=key,
            followers=tuple(others),
            values=tuple(sorted({config.get(key) for config in configs}, key=_order)),
            label=label,
        )
        for label, (key, others) in zip(labels, followers.items(), strict=True)
    )


def short_labels(keys: Sequence[str]) -> list[str]:
    """Return the last word of every key, or as many as tell it from the others.

    The name of a component is called by its group.

    >>> short_labels(["corpus.name", "sampler.steps", "generator.optimization.steps", "seed"])
    ['corpus', 'sampler.steps', 'optimization.steps', 'seed']
    """
    paths = [re.sub(r"\.(name|_target_)$", "", key).split(".") for key in keys]
    labels = []
    for path in paths:
        ends = [path[-length:] for length in range(1, len(path) + 1)]
        unique = (end for end in ends if sum(other[-len(end) :] == end for other in paths) == 1)
        labels.append(".".join(next(unique, path)))
    return labels


def _leader(key: str, varied: Mapping[str, tuple[int, ...]]) -> str:
    """Return the name that decides a key, or the key itself.

    Args:
        key: one of ``varied``.
        varied: keys in which jobs differ -> the partition of jobs by value, -1: unknown.
    """
    ranks, path = varied[key], key.split(".")
    for depth in range(1, len(path)):  # the outermost name first: it decides all keys below it
        name = ".".join([*path[:depth], "name"])
        if name in varied and name != key and _decides(varied[name], ranks):
            return _leader(name, varied)
    if path[-1] == "name":  # names that always change together are one choice
        first = next(k for k in varied if varied[k] == ranks and k.endswith(".name"))
        return key if first == key else _leader(first, varied)
    return key


def _decides(name: Sequence[int], ranks: Sequence[int]) -> bool:
    """Return whether jobs that share the name also share the other value, as far as is known."""
    pairs = {pair for pair in zip(name, ranks, strict=True) if _ANY not in pair}
    return len(pairs) == len({first for first, _ in pairs})


def _follows(column: Sequence[object], seeds: Sequence[Scalar]) -> bool:
    """Return whether the seed of a run decides that of a component, where there is one."""
    pairs = {pair for pair in zip(seeds, column, strict=True) if pair[1] not in (None, _UNKNOWN)}
    return len(pairs) == len({seed for seed, _ in pairs})


def axis_values(job: Job, axes: Sequence[Axis]) -> tuple[Scalar, ...]:
    """Return the value of a job on every axis."""
    return tuple(job.config.get(axis.key) for axis in axes)


def describe(at: Mapping[str, Scalar], axes: Sequence[Axis]) -> str:
    """Describe the values on the axes in words: ``max_context = 3, matching = free``.

    Args:
        at: key of an axis -> value.
        axes: axes to mention.
    """
    return ", ".join(f"{axis.label} = {show(at[axis.key])}" for axis in axes)


def _order(value: Scalar) -> tuple[int, float, list[tuple[int, str]]]:
    """Return a sort key: numbers by size, then text with its numbers by size, null last."""
    if is_number(value):
        return (0, float(value), [])  # type: ignore[arg-type]
    parts = re.split(r"(\d+)", show(value))
    natural = [(int(p), "") if p.isdigit() else (-1, p) for p in parts]
    return (2 if value is None else 1, 0.0, natural)
