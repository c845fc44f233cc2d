"""Recipes: numbers that were measured differently are never averaged, compared or joined.

A recipe says what two numbers must share: N, N_ref, D, encoder, resize, codec. Scores of tokens
have none. Where the artifact that tells is gone, the part of the configuration that decides it
stands in for it, and never meets a recipe that is known.
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
    """Jobs whose numbers may meet.

    Attributes:
        jobs: in their order.
        text: what tells this group from the others, as in ``N = 64``; empty when it is the only.
    """

    jobs: tuple[Job, ...]
    text: str


def recipe_of(job: Job, score: str, jobs: Sequence[Job]) -> dict[str, str]:
    """The recipe of a job's score.

    Args:
        job: one of ``jobs``.
        score: its name.
        jobs: all that it might be compared with: if one of them knows that the score has no
            recipe, it has none.
    """
    if job.recipes is not None:
        return dict(job.recipes.get(score, {}))
    known = [other.recipes[score] for other in jobs if other.recipes and score in other.recipes]
    if known and not any(known):
        return {}
    shown = {key: show(job.config[key]) for key in _STAND_IN if key in job.config}
    return {"recipe": "not on record", **shown}


def split_by_recipe(jobs: Sequence[Job], scores: Sequence[str]) -> tuple[RecipeGroup, ...]:
    """Jobs by the recipes of some scores, the largest group first; those without a value left out.

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
    """A job's number, None where it has none."""
    return job.scores[score].value if score in job.scores else None


def _merged(parts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """One recipe for people; where two scores differ in a field, it says of which score it is."""
    merged: dict[str, str] = {}
    for score, recipe in parts.items():
        for field, text in recipe.items():
            merged[field if merged.get(field, text) == text else f"{field} of {score}"] = text
    return merged


def _differences(recipes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What differs between recipes, by their identity."""
    fields = dict.fromkeys(field for recipe in recipes.values() for field in recipe)
    varied = [f for f in fields if len({recipe.get(f) for recipe in recipes.values()}) > 1]
    return {
        identity: ", ".join(f"{field} = {recipe.get(field, 'none')}" for field in varied)
        for identity, recipe in recipes.items()
    }
