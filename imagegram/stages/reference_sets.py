"""The image sets that tell what a score means: floor, ceiling, thresholds, planted copies.

Half of the held-out images are the floor, never seen by the generator; thresholds are set on the
other half, so that the floor shows what they flag among fresh images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from imagegram.protocols import Condition, DocumentSource, Model, Sampler, Tokenizer
from imagegram.stages.generate import Decode, Replay
from imagegram.stages.planted import Planted
from imagegram.store.stage import Makes

#: Held-out images that thresholds are set on: 1 % of them are 20.
MAX_CALIBRATION: Final = 2000


@dataclass(frozen=True, kw_only=True)
class RealImages:
    """How real documents become image sets: with the trace of a model, where one scores them.

    Attributes:
        scorer: a model that implements ``Scores``; None: images are decoded without a trace.
        sampler, tokenizer, seed, output_size, condition: those of the generated images.
    """

    scorer: Model | None
    sampler: Sampler
    tokenizer: Tokenizer
    seed: int
    output_size: int | None
    condition: Condition | None

    def of(self, documents: DocumentSource, num_images: int) -> Replay | Decode:
        """Return the stage of the first documents that evaluation draws."""
        if self.scorer is None:
            return self.decoded(documents, num_images)
        return Replay(
            model=self.scorer,
            sampler=self.sampler,
            tokenizer=self.tokenizer,
            documents=documents,
            num_images=num_images,
            seed=self.seed,
            output_size=self.output_size,
            condition=self.condition,
        )

    def decoded(
        self, documents: DocumentSource, num_images: int, *, num_skipped: int = 0
    ) -> Decode:
        """Return the stage of documents without a trace, after the first ones."""
        return Decode(
            documents=documents,
            tokenizer=self.tokenizer,
            num_skipped=num_skipped,
            num_images=num_images,
            seed=self.seed,
            output_size=self.output_size,
        )


def reference_sets(
    run: Makes,
    real: RealImages,
    *,
    tokens: DocumentSource,
    holdout: DocumentSource,
    num_images: int,
    planted: Sequence[str],
) -> dict[str, Any]:
    """Make them all; returns ``floor``, ``ceiling``, ``calibration`` and ``planted``.

    Args:
        run: makes a stage, by its name in the run.
        real: makes image sets of documents.
        tokens: training documents.
        holdout: held-out documents; without any, only the ceiling is made.
        num_images: size of the measured set; the others are as large while there are images.
        planted: recipes, see ``stages/planted.py``.
    """
    ceiling = run("ceiling", real.of(tokens, num_images))
    sets: dict[str, Any] = {"ceiling": ceiling, "floor": None, "calibration": None, "planted": {}}
    half = (holdout.num_documents + 1) // 2
    if not half:
        return sets
    count = min(num_images, half)
    sets["floor"] = run("floor", real.of(holdout, count))
    if half < holdout.num_documents:
        thresholds = real.decoded(holdout, MAX_CALIBRATION, num_skipped=half)
        sets["calibration"] = run("calibration", thresholds)
    for recipe in planted:
        documents = Planted(
            recipe=recipe,
            train=tokens,
            holdout=holdout,
            layout=real.tokenizer.spec.layout,
            num_documents=count,
            seed=real.seed,
        )
        sets["planted"][recipe] = run(recipe, real.of(documents, count))
    return sets
