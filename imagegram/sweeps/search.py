"""What Hydra's Optuna sweeper needs to be told so that a search goes on, and goes on to new trials.

Hydra 1.3 makes the study's sampler anew for every command, with the same seed: the first trials of
a continued study would be those that it began with. And by its default the first trial without a
number ends the search.
"""

from __future__ import annotations

from typing import Any

from omegaconf import open_dict, read_write

from imagegram.sweeps.objective import ObjectiveError


def continue_search(hydra: Any) -> None:
    """Let a search by Optuna go on from its study, and past trials that fail.

    The seed of the sampler becomes ``hydra.sweeper.sampler.seed`` plus the number of trials in the
    study, so that every command draws other trials, and the same ones when it is repeated on a copy
    of the study. A trial whose run fails, or whose objective is not defined, is recorded as failed
    and the search goes on, unless ``hydra.sweeper.max_failure_rate`` is on the command line.

    Args:
        hydra: the node ``hydra`` of a multirun's configuration; changed in place.
    """
    if not is_search(hydra):
        return
    sweeper = hydra.sweeper
    with read_write(hydra), open_dict(hydra):
        seed = sweeper.sampler.get("seed")
        if seed is not None:
            sweeper.sampler.seed = seed + num_trials(sweeper.get("storage"), sweeper.study_name)
        given = any("hydra.sweeper.max_failure_rate=" in word for word in hydra.overrides.hydra)
        if not given:
            sweeper.max_failure_rate = 1.0


def varied_keys(hydra: Any) -> set[str]:
    """Return the keys that a multirun varies: ``sampler.top_p``, ``encoder`` ..."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    params = hydra.sweeper.get("params") or {}
    words = [f"{key}={value}" for key, value in params.items()] + list(hydra.overrides.task)
    items = OverridesParser.create().parse_overrides(words)
    return {item.get_key_element() for item in items if item.is_sweep_override()}


def is_search(hydra: Any) -> bool:
    """Return whether Optuna chooses the jobs of a multirun."""
    return bool(hydra.runtime.choices.get("hydra/sweeper") == "optuna")


def num_trials(storage: Any, study_name: str | None, *, completed: bool = False) -> int:
    """Return the number of trials in a study; 0 for one that does not exist yet.

    Args:
        storage: where Optuna keeps it: a URL; None or a node of Hydra: nothing is known.
        study_name: its name.
        completed: count those that have a value, and not those that failed.
    """
    if not isinstance(storage, str) or study_name is None:
        return 0
    import optuna

    try:
        study = optuna.load_study(study_name=study_name, storage=storage)
    except KeyError:
        return 0
    states = (optuna.trial.TrialState.COMPLETE,) if completed else None
    return len(study.get_trials(deepcopy=False, states=states))


def check_values(hydra: Any, num_values: int) -> None:
    """Refuse to name the best of a search in which no trial has a value.

    Args:
        hydra: the node ``hydra`` of the configuration.
        num_values: number of trials of this command that have a value.

    Raises:
        ObjectiveError: when the study has none either.
    """
    sweeper = hydra.sweeper
    if num_values or num_trials(sweeper.get("storage"), sweeper.study_name, completed=True):
        return
    raise ObjectiveError(
        "the objective was defined in no trial of this search: each failed, or measured no value "
        "(reasons above, and in summary.json and scores.json of the jobs)"
    )
