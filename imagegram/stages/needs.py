"""What a metric looks at, and what an image set may not have.

A metric whose needs an image set cannot meet is left out, and the run says why: texts have no
pictures, a generator may not record a trace array, or may be unable to score real images.
"""

from __future__ import annotations

from typing import Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.protocols import ImageSet, Metric

_TRACE: Final = "trace."
#: Attribute of an image set that holds its items, by need.
_ITEMS: Final = {"images": "images", "text": "texts", "continued": "continued"}
#: Needs besides arrays of a trace.
NEEDS: Final = (*_ITEMS, "ids", "matches", "places", "sentences", "training_features")
#: Why an image set has no items of a kind, by need.
_REASONS: Final = {
    "images": "images, but these items are not pictures",
    "text": "text, but these items are not texts",
    "sentences": "codes of sentences, which tokenizer=sentence_rvq writes",
    "places": "places, but documents differ in length",
    "continued": "samples that continue documents: condition=excerpt_held_out, excerpt_training",
}


def reads_trace(metric: Metric) -> bool:
    """Return whether a metric reads how items were made, not only what was written.

    That is an array of the trace, or what samples were given to continue.
    """
    return any(need.startswith(_TRACE) or need == "continued" for need in metric.NEEDS)


def lacking(metric: Metric, images: ImageSet, *, ragged: bool = False) -> str:
    """Say which needs of a metric an image set cannot meet, and why; empty when it meets all.

    Args:
        metric: names its needs; its attribute ``TRACE``, if there is one, says what it reads of a
            trace in plain words.
        images: the image set.
        ragged: whether documents differ in length, so that places in them mean nothing.

    Raises:
        ConfigError: for a need that does not exist.
    """
    missing = sorted(need for need in metric.NEEDS if not _is_there(need, images, ragged))
    if not missing:
        return ""
    reasons = [_REASONS[need] for need in missing if need in _REASONS]
    arrays = [need.removeprefix(_TRACE) for need in missing if need.startswith(_TRACE)]
    if arrays and (words := getattr(metric, "TRACE", "")):
        reasons.append(f"{words}, and there are none here")
    elif arrays:
        noun = "array" if len(arrays) == 1 else "arrays"
        names = ", ".join(arrays)
        reasons.append(
            f"the trace {noun} {names}, which this generator does not record with this sampler"
        )
    return f"metric {metric.name} needs {'; and '.join(reasons)}"


def _is_there(need: str, images: ImageSet, ragged: bool) -> bool:
    if need.startswith(_TRACE):
        return need.removeprefix(_TRACE) in images.trace
    if need not in NEEDS:
        raise ConfigError(f"no metric can need {need!r}; {did_you_mean(need, NEEDS)}")
    if need in _ITEMS:
        return getattr(images, _ITEMS[need], None) is not None
    if need == "sentences":
        return bool(getattr(images, "has_sentences", False))
    return need != "places" or not ragged
