"""The image sets that tell what a score means: floor, ceiling, thresholds, planted copies.

Half of the held-out images are the floor, never seen by the generator; thresholds are set on the
other half, so that the floor shows what they flag among fresh images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from imagegram.protocols import DocumentSource
from imagegram.stages.generate import Decode, Replay, SampleSet
from imagegram.stages.planted import Planted

#: Held-out images that thresholds are set on: 1 % of them are 20.
MAX_CALIBRATION: Final = 2000


def reference_sets(
    run: Callable[[str, Any], SampleSet],
    *,
    tokens: DocumentSource,
    holdout: DocumentSource,
    num_images: int,
    planted: Sequence[str],
    shared: dict[str, Any],
) -> dict[str, Any]:
    """Make them all; returns ``floor``, ``ceiling``, ``calibration`` and ``planted``.

    Args:
        run: makes a stage, by its name in the run.
        tokens: training documents.
        holdout: held-out documents; without any, only the ceiling is made.
        num_images: size of the measured set; the others are as large while there are images.
        planted: recipes, see ``stages/planted.py``.
        shared: ``model``, ``sampler``, ``tokenizer``, ``seed`` and ``output_size`` of all replays.
    """
    ceiling = run("ceiling", Replay(documents=tokens, num_images=num_images, **shared))
    sets: dict[str, Any] = {"ceiling": ceiling, "floor": None, "calibration": None, "planted": {}}
    half = (holdout.num_documents + 1) // 2
    if not half:
        return sets
    count = min(num_images, half)
    sets["floor"] = run("floor", Replay(documents=holdout, num_images=count, **shared))
    if half < holdout.num_documents:
        decoding = {key: shared[key] for key in ("tokenizer", "seed", "output_size")}
        thresholds = Decode(
            documents=holdout, num_skipped=half, num_images=MAX_CALIBRATION, **decoding
        )
        sets["calibration"] = run("calibration", thresholds)
    for recipe in planted:
        documents = Planted(
            recipe=recipe,
            train=tokens,
            holdout=holdout,
            layout=shared["tokenizer"].spec.layout,
            num_documents=count,
            seed=shared["seed"],
        )
        sets["planted"][recipe] = run(
            recipe, Replay(documents=documents, num_images=count, **shared)
        )
    return sets
