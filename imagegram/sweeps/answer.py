"""The answer of a sweep: where copies were found, what copied least, and what is best.

The sentences compare configurations by their means over seeds. Scores whose recipes differ between
jobs are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping

from imagegram.numerals import list_text
from imagegram.records import ScoreInfo
from imagegram.report.readings import beside
from imagegram.sweeps.aggregate import Configuration, Estimate, estimate
from imagegram.sweeps.axes import show
from imagegram.sweeps.sweep import Sweep

_Found = list[tuple[Configuration, Estimate]]


def answer_of(sweep: Sweep) -> list[str]:
    """Return the sentences that the page begins with; none for a single configuration."""
    if len(sweep.configurations) < 2:
        return []
    estimates = {
        score: [
            (found, value)
            for found in sweep.configurations
            if (value := estimate(found.jobs, score)) is not None
        ]
        for score in sweep.infos
        if score not in sweep.mixed
    }
    sentences = [
        _copies(sweep, info, estimates[info.name])
        for info in sweep.infos.values()
        if info.counts and estimates.get(info.name)
    ]
    pairs = (("Copies least", sweep.x, sweep.y), ("Best quality", sweep.y, sweep.x))
    for label, first, second in pairs:
        if first is not None and first.better and estimates.get(first.name):
            sentences.append(f"{label}: {_best(sweep, first, second, estimates)}.")
    return sentences


def _copies(sweep: Sweep, info: ScoreInfo, found: _Found) -> str:
    """Say in how many configurations something was counted, and where there was most."""
    some = [pair for pair in found if pair[1].value > 0]
    _, several = info.counts
    if not some:
        return f"No {several} in any of {len(found):,} configurations."
    configuration, most = max(some, key=lambda pair: pair[1].value)
    return (
        f"{several.capitalize()} in {len(some):,} of {len(found):,} configurations, most with "
        f"{_label(sweep, configuration)}: {info.show(most.value)} of the samples."
    )


def _best(
    sweep: Sweep, first: ScoreInfo, second: ScoreInfo | None, estimates: Mapping[str, _Found]
) -> str:
    """Say which configuration is best on one score, and what the other score reads there."""
    choose = min if first.better == "lower" else max
    configuration, value = choose(estimates[first.name], key=lambda pair: pair[1].value)
    told = [f"{_title(first)} {_show(first, value)}"]
    if value.floor is not None:
        told[0] += f" (held-out {first.show(value.floor)})"
    others = estimates.get(second.name, []) if second is not None else []
    told += [
        f"{_title(second)} {_show(second, other)}"
        for where, other in others
        if second is not None and where is configuration
    ]
    return f"{_label(sweep, configuration)}, with {list_text(told)}"


def _title(info: ScoreInfo) -> str:
    return info.title or info.name


def _show(info: ScoreInfo, value: Estimate) -> str:
    return beside(info.show(value.value), info.show_interval(value.low, value.high))


def _label(sweep: Sweep, configuration: Configuration) -> str:
    """Return where a configuration lies: ``max_context 32, matching free``."""
    return ", ".join(f"{axis.label} {show(configuration.at[axis.key])}" for axis in sweep.axes)
