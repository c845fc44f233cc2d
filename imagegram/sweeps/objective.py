r"""The objective of a search: one number of a run, under limits on others.

    python -m imagegram.run -m hydra/sweeper=optuna objective.minimize=kid \
        +objective.limit.largest_source_share=0.05 'sampler.top_p=interval(0.7,1)'

finds the smallest kernel distance of all settings that take at most 5 % of a sample from one
training image. Names are those of ``summary.json`` or the short ones of ``headline.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.loggers.headline import Infos, Scores, headline
from imagegram.metrics.shipped import shipped_scores

#: Larger than every score of a run within its limits.
BEYOND_LIMITS: Final = 1e9


def objective_value(scores: Scores, infos: Infos, objective: Mapping[str, Any]) -> float:
    """Return the number to minimise; smaller is better, always finite.

    Within all limits it is the score itself. Beyond one it is ``BEYOND_LIMITS`` plus the sum of the
    excesses, each relative to its limit (absolute for a limit of 0): every setting within the
    limits beats every setting beyond them, and of two beyond, the one nearer to the limits wins
    (Deb 2000, "An efficient constraint handling method for genetic algorithms"). A search by
    ranks, as TPE and CMA-ES are, needs no weight between the two. A number that is not defined,
    such as a distance of too few images, is worse than all that.

    Args:
        scores: scores of the run, as in ``summary.json``.
        infos: descriptions by score name; some define a short name.
        objective: ``minimize``, a name; ``limit``, name -> largest value that is allowed.

    Raises:
        ConfigError: for a name that the run did not measure.

    >>> scores = {"kd": {"value": 0.2}, "share": {"value": 0.10}}
    >>> objective_value(scores, {}, {"minimize": "kd", "limit": {"share": 0.10}})
    0.2
    >>> objective_value(scores, {}, {"minimize": "kd", "limit": {"share": 0.08}}) - 1e9
    0.25
    """
    limits = objective.get("limit") or {}
    values = {name: score.get("value") for name, score in scores.items()}
    # A score's own name wins over an equal short name, which is the same number or not measured.
    values = {name: measured.value for name, measured in headline(scores, infos).items()} | values
    numbers = {}
    for name in (objective["minimize"], *limits):
        if name not in values:
            raise ConfigError(
                f"objective: this run measured no {name!r}; {did_you_mean(name, values)}; "
                "metric=[...] adds metrics"
            )
        numbers[name] = values[name]
    excess = 0.0
    for name, limit in limits.items():
        number = numbers[name]
        if number is None:
            return 2 * BEYOND_LIMITS
        excess += max(number - limit, 0.0) / (abs(limit) or 1.0)
    value = numbers[objective["minimize"]]
    if value is None:
        return 2 * BEYOND_LIMITS
    return value if excess == 0 else BEYOND_LIMITS + min(excess, BEYOND_LIMITS / 2)


def check_search(hydra: Any, objective: Mapping[str, Any]) -> None:
    """Refuse a search by Optuna that would not minimise the objective.

    Hydra's sweeper takes a list of directions for a search of several objectives, and a run that
    returns no number only fails when it ends.

    Args:
        hydra: the node ``hydra`` of the configuration.
        objective: objective of the run; ``minimize`` is None when there is no objective.

    Raises:
        ConfigError: saying what to type.
    """
    if hydra.runtime.choices.get("hydra/sweeper") != "optuna":
        return
    if objective["minimize"] is None:
        shorts = ", ".join(info.short for info in shipped_scores() if info.short)
        raise ConfigError(
            "hydra/sweeper=optuna needs a number to minimise; give one, for example "
            f"objective.minimize=kid (any score, or one of {shorts})"
        )
    direction = hydra.sweeper.direction
    if str(getattr(direction, "name", direction)) != "minimize":
        raise ConfigError(
            f"hydra.sweeper.direction is {direction}, but the objective is one number to minimise; "
            "type hydra.sweeper.direction=minimize"
        )
