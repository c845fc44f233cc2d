r"""The objective of a search: one number of a run, under limits on others.

    python -m imagegram.run -m hydra/sweeper=optuna objective.minimize=kid \
        +objective.limit.largest_source_share=0.05 'sampler.top_p=interval(0.7,1)'

finds the smallest kernel distance of all settings that take at most 5 % of a sample from one
training image. Names are those of ``summary.json`` or the short ones of ``headline.py``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hydra.core.hydra_config import HydraConfig

from imagegram.errors import ConfigError, did_you_mean
from imagegram.loggers.headline import Infos, Scores, headline
from imagegram.metrics.features import score_suffix
from imagegram.metrics.shipped import shipped_scores
from imagegram.protocols import Metric
from imagegram.records import ScoreInfo

#: Larger than every score of a run within its limits.
BEYOND_LIMITS: Final = 1e9


class ObjectiveError(ConfigError):
    """An objective that no run of the search can have: the search must end, not only its job."""


def objective_value(scores: Scores, infos: Infos, objective: Mapping[str, Any]) -> float | None:
    """Return the number to minimise; smaller is better. None: it is not defined.

    Within all limits it is the score itself. Beyond one it is ``BEYOND_LIMITS`` plus the sum of the
    excesses, each relative to its limit (absolute for a limit of 0): every setting within the
    limits beats every setting beyond them, and of two beyond, the one nearer to the limits wins
    (Deb 2000, "An efficient constraint handling method for genetic algorithms"). A search by
    ranks, as TPE and CMA-ES are, needs no weight between the two. A number that is not defined,
    such as a distance of too few images, is no value: Optuna records the trial as failed.

    Args:
        scores: scores of the run, as in ``summary.json``.
        infos: descriptions by score name; some define a short name.
        objective: ``minimize``, a name; ``limit``, name -> largest value that is allowed.

    Raises:
        ObjectiveError: for a name that the run did not measure.

    >>> scores = {"kd": {"value": 0.2}, "share": {"value": 0.10}}
    >>> objective_value(scores, {}, {"minimize": "kd", "limit": {"share": 0.10}})
    0.2
    >>> objective_value(scores, {}, {"minimize": "kd", "limit": {"share": 0.08}}) - 1e9
    0.25
    """
    limits = objective.get("limit") or {}
    values: dict[str, float | None] = {info.short: None for info in infos.values() if info.short}
    values |= {name: measured.value for name, measured in headline(scores, infos).items()}
    # A score's own name wins over an equal short name, which is the same number or not measured.
    values |= {name: score.get("value") for name, score in scores.items()}
    numbers: dict[str, float] = {}
    for name in (objective["minimize"], *limits):
        if name not in values:
            raise ObjectiveError(
                f"objective: this run measured no {name!r}; {did_you_mean(name, values)}; "
                "metric=[...] adds metrics"
            )
        number = values[name]
        if number is None or not math.isfinite(number):
            return None
        numbers[name] = number
    excess: float = sum(
        max(numbers[name] - limit, 0.0) / (abs(limit) or 1.0) for name, limit in limits.items()
    )
    if excess > 0:
        return BEYOND_LIMITS + min(excess, BEYOND_LIMITS / 2)
    return numbers[objective["minimize"]]


def check_objective(
    objective: Mapping[str, Any], metrics: Sequence[Metric], stages: Sequence[str]
) -> None:
    """Refuse, before anything is computed, an objective that no run can have.

    Args:
        objective: objective of the run; ``minimize`` is None when there is no objective.
        metrics: metrics of the run.
        stages: groups of stages that it runs.

    Raises:
        ObjectiveError: for a name that these metrics do not measure, naming those that they do;
            for a search by Optuna that would not minimise the objective.
    """
    if HydraConfig.initialized():
        check_search(HydraConfig.get(), objective)
    if objective["minimize"] is None:
        return
    if "evaluate" not in stages:
        raise ObjectiveError(
            f"objective.minimize={objective['minimize']} needs the stage evaluate, but stages are "
            f"[{','.join(stages)}]; leave out stages="
        )
    known = tuple(info for metric in metrics for info in _infos_of(metric))
    shorts = [info.short for info in known]
    for name in (objective["minimize"], *(objective.get("limit") or {})):
        if shorts.count(name) == 1 or any(info.named(name) for info in known):
            continue  # a short name that two scores share is nobody's
        names = {word for info in known for word in (info.name, info.short) if word}
        raise ObjectiveError(
            f"objective: no metric of this run measures {name!r}; {did_you_mean(name, names)}; "
            "metric=[...] adds metrics"
        )


def _infos_of(metric: Metric) -> Iterator[ScoreInfo]:
    """Yield the descriptions of a metric's scores, with the name of its encoder filled in."""
    encoder = getattr(metric, "encoder", None)
    for info in metric.SCORES:
        if encoder is None:
            yield info
        else:
            name = info.name.replace("{encoder}", score_suffix(encoder))
            yield dataclasses.replace(info, name=name, words="")


def check_search(hydra: Any, objective: Mapping[str, Any]) -> None:
    """Refuse a search by Optuna that would not minimise the objective.

    Hydra's sweeper takes a list of directions for a search of several objectives, and a run that
    returns no number only fails when it ends.

    Args:
        hydra: the node ``hydra`` of the configuration.
        objective: objective of the run; ``minimize`` is None when there is no objective.

    Raises:
        ObjectiveError: saying what to type.
    """
    if hydra.runtime.choices.get("hydra/sweeper") != "optuna":
        return
    if objective["minimize"] is None:
        shorts = ", ".join(info.short for info in shipped_scores() if info.short)
        raise ObjectiveError(
            "hydra/sweeper=optuna needs a number to minimise; give one, for example "
            f"objective.minimize=kid (any score, or one of {shorts})"
        )
    direction = hydra.sweeper.direction
    if str(getattr(direction, "name", direction)) != "minimize":
        raise ObjectiveError(
            f"hydra.sweeper.direction is {direction}, but the objective is one number to minimise; "
            "type hydra.sweeper.direction=minimize"
        )
