"""Make the image sets that tell what a score means: floor, ceiling, calibration, planted copies.

Some of the held-out images are the floor, never seen by the generator; thresholds are set on
others, so that the floor shows what they flag among fresh images. All sets are drawn by the seed
from all documents (``select_documents``), whatever their order in the corpus.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imagegram.protocols import (
    Condition,
    Denoises,
    DocumentSource,
    Model,
    PicturedDocuments,
    Sampler,
    Tokenizer,
)
from imagegram.stages.generate import Decode, Replay
from imagegram.stages.planted import Planted
from imagegram.stages.split import SplitHandle
from imagegram.store.stage import Makes

#: Number of held-out images that thresholds are set on: 1 % of them are 20.
MAX_CALIBRATION: Final = 2000
#: Largest share of a corpus that is worth losing for a larger floor.
_MOST_HELD_OUT: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class RealImages:
    """The way from real documents to image sets, with a trace where a model can score them.

    Attributes:
        scorer: model that implements ``Scores``, or ``Denoises``, which measures documents whose
            pictures are there; None: images are decoded without a trace.
        sampler, tokenizer, seed, output_size, condition: the same as of the generated images.
    """

    scorer: Model | None
    sampler: Sampler
    tokenizer: Tokenizer
    seed: int
    output_size: int | None
    condition: Condition | None

    def of(self, documents: DocumentSource, num_images: int) -> Replay | Decode:
        """Return the stage of the first ``num_images`` documents in the order of the seed."""
        has_pictures = isinstance(documents, PicturedDocuments)
        if self.scorer is None or (isinstance(self.scorer, Denoises) and not has_pictures):
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
        """Return the stage that decodes documents in that order, after the first ones."""
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
    """Make all sets; return ``floor``, ``ceiling``, ``calibration`` and ``planted``.

    Args:
        run: makes a stage, by its name in the run.
        real: makes image sets of documents.
        tokens: training documents.
        holdout: held-out documents; without any, only the ceiling is made.
        num_images: size of the measured set; floor and ceiling have as many where there are so
            many documents, calibration up to ``MAX_CALIBRATION``.
        planted: recipes, see ``stages/planted.py``.
    """
    ceiling = run("ceiling", real.of(tokens, num_images))
    sets: dict[str, Any] = {"ceiling": ceiling, "floor": None, "calibration": None, "planted": {}}
    count = floor_size(holdout.num_documents, num_images)
    if not count:
        return sets
    sets["floor"] = run("floor", real.of(holdout, count))
    num_skipped = max(count, (holdout.num_documents + 1) // 2)
    if num_skipped < holdout.num_documents:
        thresholds = real.decoded(holdout, MAX_CALIBRATION, num_skipped=num_skipped)
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


def floor_size(num_holdout: int, num_images: int) -> int:
    """Return the size of the floor: that of the measured set, or two thirds of what is held out.

    A floor of another size than the measured set is not compared by scores that move with N; fewer
    thresholds' images only make thresholds coarser.

    >>> floor_size(1992, 1000), floor_size(98, 1000), floor_size(1, 1), floor_size(0, 1)
    (1000, 66, 1, 0)
    """
    return min(num_images, -(-2 * num_holdout // 3))


def too_few_held_out(split: SplitHandle, sizes: Mapping[str, int]) -> str | None:
    """Return the sentence that a reader has to see first, where the floor is small; else None.

    Args:
        split: how the corpus was split.
        sizes: number of images of the sets ``generated`` and ``floor``; without a floor only the
            former.
    """
    num_samples, num_floor = sizes["generated"], sizes.get("floor", 0)
    nouns = split.corpus.modality.nouns
    if not num_floor:
        why = split.note or "nothing is held out"
        return f"no floor: {why}; no score is compared with {nouns} that the model has not seen"
    if num_floor >= num_samples:
        return split.note or None
    words = [*_more_held_out(split, 3 * num_samples // 2), f"num_samples={num_floor}"]
    said = (
        f"floor: {num_floor:,} held-out {nouns} for {num_samples:,} samples; scores that move with "
        f"their number are not compared; {'type' if len(words) > 1 else 'hold out more, or type'} "
        f"{' or '.join(words)}"
    )
    return f"{said}. {split.note}" if split.note else said


def _more_held_out(split: SplitHandle, wanted: int) -> list[str]:
    """Return what to type so that about ``wanted`` items are held out; [] where nothing helps."""
    corpus, facts = split.corpus, split.artifact.facts
    num_items = int(facts["num_scanned"])
    if facts["whole_shards"]:
        return []
    wanted += 3 * math.isqrt(wanted)  # the number that is drawn varies by its square root
    share = math.ceil(100 * wanted / num_items) / 100
    if share > _MOST_HELD_OUT:
        return []
    words = []
    if share > corpus.holdout_fraction:
        words.append(f"corpus.holdout_fraction={share:g}")
    if wanted > corpus.max_holdout:
        words.append(f"corpus.max_holdout={wanted}")
    return [" ".join(words)] if words else []
