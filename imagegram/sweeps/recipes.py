"""Recipes: numbers that were measured differently are never averaged, compared or joined.

A recipe lists what two comparable numbers must share: N, N_ref, D, encoder, resize, codec. Scores
of tokens have no recipe. If the artifact with a recipe was removed, the part of the configuration
that decides it is used instead; such a recipe never equals a known one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imagegram.sweeps.axes import show
from imagegram.sweeps.jobs import Job

_STAND_IN: Final = ("num_samples", "output_size", "encoder.name", "encoder.resolution")


@dataclass(frozen=True, kw_only=True)
class RecipeGroup:
    """Jobs whose numbers are comparable.

    Attributes:
        jobs: the jobs in their order.
        text: what distinguishes this group, as in ``N = 64``; empty for a single group.
    """

    jobs: tuple[Job, ...]
    text: str


def recipe_of(job: Job, score: str, jobs: Sequence[Job]) -> dict[str, str]:
    """Return the recipe of a job's score.

    Args:
        job: one of ``jobs``.
        score: its name.
        jobs: all jobs to compare with: if one of them records that the score has no recipe, it
            has none in any job.
    """
    if job.recipes is not None:
        return dict(job.recipes.get(score, {}))
    known = [other.recipes[score] for other in jobs if other.recipes and score in other.recipes]
    if known and not any(known):
        return {}
    shown = {key: show(job.config[key]) for key in _STAND_IN if key in job.config}
    return {"recipe": "not on record", **shown}


def split_by_recipe(jobs: Sequence[Job], scores: Sequence[str]) -> tuple[RecipeGroup, ...]:
    """Group jobs by the recipes of some scores, the largest group first.

    Only jobs that have a number for every one of the scores are in a group.
    """
    groups: dict[str, list[Job]] = {}
    recipes: dict[str, dict[str, str]] = {}
    for job in jobs:
        if any(value_of(job, score) is None for score in scores):
            continue
        parts = {score: recipe_of(job, score, jobs) for score in scores}
        identity = json.dumps(parts, sort_keys=True)
        groups.setdefault(identity, []).append(job)
        recipes[identity] = _merged(parts)
    texts = _differences(recipes)
    ordered = sorted(groups, key=lambda identity: -len(groups[identity]))
    return tuple(RecipeGroup(jobs=tuple(groups[i]), text=texts[i]) for i in ordered)


def value_of(job: Job, score: str) -> float | None:
    """Return the value of a job's score, or None."""
    return job.scores[score].value if score in job.scores else None


def _merged(parts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Merge recipes for display; a field in which two scores differ names its score."""
    merged: dict[str, str] = {}
    for score, recipe in parts.items():
        for field, text in recipe.items():
            merged[field if merged.get(field, text) == text else f"{field} of {score}"] = text
    return merged


def _differences(recipes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the differences between recipes, by the recipes' identity."""
    fields = dict.fromkeys(field for recipe in recipes.values() for field in recipe)
    varied = [f for f in fields if len({recipe.get(f) for recipe in recipes.values()}) > 1]
    return {
        identity: ", ".join(f"{field} = {recipe.get(field, 'none')}" for field in varied)
        for identity, recipe in recipes.items()
    }
