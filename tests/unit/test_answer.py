"""What a reader knows after five seconds: copies found, a verdict with evidence, four numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imagegram.images.modality import IMAGES
from imagegram.report.answer import Answer, Wording, answer_of
from imagegram.report.neighbours import Neighbour
from imagegram.report.pairs import Pair
from imagegram.texts.modality import TEXTS
from tests.evaluations import Evaluated, Sets

NOTHING = np.zeros((1, 1, 3), np.uint8)
ZERO, ALL = (0.0, 0.0, 0.056), (1.0, 0.94, 1.0)


def pair(sample: int, *, key: str | None = "photo", exact: bool = True) -> Pair:
    near = None
    if key is not None:
        near = Neighbour(document=7, image=NOTHING, rms=0.0, metadata={"key": key})
    return Pair(sample=sample, exact=exact, share=1.0, nearest=near, source=None)


def answer(
    scores: dict[str, Sets],
    sizes: dict[str, int] | None = None,
    *,
    wording: Wording | None = None,
    pairs: tuple[Pair, ...] = (),
    modality: Any = IMAGES,
    traced: tuple[Any, ...] = (),
) -> Answer:
    sizes = sizes or {"generated": 64, "floor": 64, "ceiling": 64}
    evaluation: Any = Evaluated(scores, sizes)
    wording = wording or Wording(title="toy")
    return answer_of(evaluation, wording=wording, modality=modality, pairs=pairs, traced=traced)


def sets(own: Any, floor: Any, ceiling: Any = ALL) -> Sets:
    return {"generated": own, "floor": floor, "ceiling": ceiling}


MORE = {"largest_source_share": sets((0.2, 0.18, 0.22), (0.08, 0.07, 0.09))}
SAME = {"largest_source_share": sets((0.08, 0.06, 0.1), (0.08, 0.07, 0.09))}
NO_COPIES = {"exact_copy_rate": sets(ZERO, ZERO)}
COPIES = {"exact_copy_rate": sets((0.05, 0.037, 0.065), (0.0, 0.0, 0.004))}


def test_copies_that_were_found_come_first_with_an_example() -> None:
    sizes = {"generated": 1000, "floor": 1000, "ceiling": 1000}
    wording = Wording(
        title="t", one="image", several="images", names=[f"{n}.png" for n in range(1000)]
    )
    found = answer(COPIES | SAME, sizes, wording=wording, pairs=(pair(12), pair(5, exact=False)))
    first = "50 of 1,000 images are exact copies, e.g. 12.png = training image photo."
    assert found.sentences[0] == found.fact == first
    assert [(one.name, one.source) for one in found.examples] == [("12.png", "photo")]
    assert found.verdict[0].startswith("They copy more than held-out images do, by 1 of 2 scores: ")
    number = found.numbers[0]
    assert (number.value, number.interval) == ("50 of 1,000", "5.0 % [3.7, 6.5]")
    assert (number.floor, number.place) == ("0 of 1,000", "copies more")


def test_one_copy_is_one_and_held_out_copies_are_told() -> None:
    scores = {"exact_copy_rate": sets((1 / 64, 0.0004, 0.084), (2 / 64, 0.0038, 0.108))}
    found = answer(scores | SAME, pairs=(pair(3),))
    assert found.found == "1 of 64 samples is an exact copy"
    assert found.limit.startswith(", e.g. sample 3 = training image photo")
    assert found.limit.endswith("; so are 2 of 64 held-out images")
    assert found.numbers[0].place == "copies found"
    assert found.verdict[0].startswith(
        "Otherwise they copy no more than held-out images do, as far as"
    )


def test_no_copies_say_how_many_there_may_be() -> None:
    found = answer(NO_COPIES | MORE)
    limit = "with 95 % confidence at most 4.6 %"
    assert found.fact == f"0 of 64 samples are exact copies; {limit}."
    assert found.examples == ()
    number = found.numbers[0]
    assert (number.value, number.interval, number.floor) == ("0 of 64", "≤ 4.6 %", "0 of 64")
    assert number.place == "none found"


def test_a_verdict_names_scores_beside_their_floors() -> None:
    (sentence,) = answer(NO_COPIES | MORE).verdict
    assert sentence == (
        "They copy more than held-out images do, by the only score: largest source "
        "20.0 % [18.0, 22.0] beside 8.0 % [7.0, 9.0]."
    )
    (sentence,) = answer(NO_COPIES | SAME).verdict
    assert sentence.startswith(
        "They copy no more than held-out images do, as far as 64 samples tell, by the only score: "
    )


def test_a_small_floor_is_part_of_the_verdict() -> None:
    (sentence,) = answer(SAME, {"generated": 64, "floor": 10, "ceiling": 64}).verdict
    assert ", as far as 64 samples beside 10 held-out ones tell, by " in sentence


def test_an_interval_that_ends_at_its_bound_is_no_evidence() -> None:
    bounded = {"max_source_share_p95": sets((0.04, 0.032, 1.0), (0.05, 0.03, 1.0))}
    (sentence,) = answer(bounded).verdict
    assert sentence.startswith("64 samples beside 64 held-out images are too few to tell")
    assert "[3.2, 100]" in sentence
    first, second = answer(bounded | SAME).verdict
    assert first.startswith(
        "They copy no more than held-out images do, as far as 64 samples tell, by"
    )
    assert second == "Of the other scores 1 has too few images to tell."


def test_other_scores_are_counted_by_what_they_read() -> None:
    scores = {
        **MORE,
        "novelty_auc": sets((0.9, 0.88, 0.92), (0.8, 0.78, 0.82), (0.0, 0.0, 0.01)),
        "aligned_agreement": sets((0.08, 0.06, 0.1), (0.08, 0.07, 0.09)),
        "max_source_share_p95": sets((0.04, 0.032, 1.0), (0.05, 0.03, 1.0)),
    }
    _, second = answer(scores).verdict
    assert second == (
        "Of the other scores 1 reads as held-out, 1 reads less and 1 has too few images to tell."
    )
    less = {"novelty_auc": scores["novelty_auc"]}
    assert answer(less).verdict[0].startswith("They copy less than held-out images do")


def test_without_held_out_images_nothing_is_compared() -> None:
    scores = {
        "exact_copy_rate": {"generated": ZERO, "ceiling": ALL},
        "largest_source_share": {"generated": (0.2, 0.18, 0.22), "ceiling": ALL},
    }
    found = answer(scores, {"generated": 64, "ceiling": 64})
    assert found.verdict[0].startswith("There are no held-out images to compare with")
    assert [number.floor for number in found.numbers] == ["—", "—"]
    assert found.numbers[1].place == ""


def test_a_few_samples_without_intervals_are_too_few() -> None:
    none = (None, None)
    scores = {"largest_source_share": sets((0.2, *none), (0.1, *none), (1.0, *none))}
    (sentence,) = answer(scores, {"generated": 4, "floor": 4, "ceiling": 4}).verdict
    assert sentence.startswith("4 samples beside 4 held-out images are too few to tell")
    assert sentence.endswith("largest source 20.0 % beside 10.0 %.")


def test_a_trace_and_scores_without_direction_are_no_evidence() -> None:
    scores = {
        "forced_copy_rate": sets((0.9, 0.8, 0.95), (0.1, 0.05, 0.2)),
        "num_effective_sources": sets((2.0, 1.9, 2.1), (9.0, 8.0, 10.0), (1.0, None, None)),
    }
    assert answer(scores).verdict == ()


def test_four_numbers_are_chosen_by_what_the_scores_say_of_themselves() -> None:
    names = [
        *("novelty_auc", "kd_pixels", "fd_pixels", "num_phrases"),
        *("largest_source_share", "exact_copy_rate", "bits_per_token"),
    ]
    scores = {name: sets((0.5, 0.4, 0.6), (0.5, 0.4, 0.6)) for name in names}
    titles = [number.title for number in answer(scores).numbers]
    assert titles == ["exact copies", "largest source", "phrases", "kernel distance"]
    texts = {name: scores[name] for name in names if "pixels" not in name}
    titles = [number.title for number in answer(texts).numbers]
    assert titles == ["exact copies", "largest source", "phrases", "bits per token"]


def test_a_score_that_was_not_defined_is_no_headline() -> None:
    undefined = sets((None, None, None), (0.5, 0.4, 0.6))
    assert answer({"kd_pixels": undefined} | MORE).numbers[0].title == "largest source"


def test_copied_texts_are_named_by_their_largest_source() -> None:
    traced = SimpleNamespace(sample=2, sources=(SimpleNamespace(metadata={"key": "b\u202eok"}),))
    scores = {"exact_copy_rate": sets((1 / 64, 0.0004, 0.084), ZERO)}
    found = answer(scores, modality=TEXTS, pairs=(pair(2, key=None),), traced=(traced,))
    assert found.fact.endswith("e.g. sample 2 = training text b[U+202E]ok.")


def test_warnings_come_before_everything_and_doubts_behind() -> None:
    wording = Wording(title="t", warnings=["Few held-out images."], doubts=["It may miss some."])
    sentences = answer(NO_COPIES | MORE, wording=wording).sentences
    assert sentences[0] == "Few held-out images."
    assert sentences[1].startswith("0 of 64")
    assert sentences[-1] == "It may miss some."


def test_the_numbers_stand_in_columns() -> None:
    first, second = answer(NO_COPIES | MORE).table()
    assert first.split("  ")[0] == "exact copies"
    assert first.index("held-out") == second.index("held-out")
    assert "0 of 64, ≤ 4.6 %" in first
    assert "20.0 % [18.0, 22.0]" in second
    assert second.endswith("held-out 8.0 % [7.0, 9.0]  copies more")


@pytest.mark.parametrize("scores", [{}, {"my_own": sets((1.0, 0.9, 1.1), (1.0, 0.9, 1.1))}])
def test_without_scores_of_copying_nothing_is_claimed(scores: dict[str, Sets]) -> None:
    found = answer(scores)
    assert found.found == ""
    assert found.verdict == found.numbers == ()
    assert found.sentences == found.table() == []
