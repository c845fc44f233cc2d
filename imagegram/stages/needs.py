"""What a metric looks at, and what an image set may not have.

A metric that needs what is not there is left out, and that is said: a text has no pictures, a model
may keep no such trace, or be unable to score real images.
"""

from __future__ import annotations

from typing import Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.protocols import ImageSet, Metric

_TRACE: Final = "trace."
#: Attribute of an image set that holds its items, by need.
_ITEMS: Final = {"images": "images", "text": "texts"}
#: Needs besides arrays of a trace.
NEEDS: Final = (*_ITEMS, "ids", "matches", "training_features")


def reads_trace(metric: Metric) -> bool:
    """Whether a metric looks at what a model did, and not only at what it wrote."""
    return any(need.startswith(_TRACE) for need in metric.NEEDS)


def lacking(metric: Metric, images: ImageSet) -> str:
    """Say which needs of a metric an image set cannot meet; empty: it meets all.

    Raises:
        ConfigError: for a need that does not exist.
    """
    missing = sorted(need for need in metric.NEEDS if not _is_there(need, images))
    if not missing:
        return ""
    reasons = {
        "images": "these items are no pictures",
        "text": "these items are no text",
    }
    told = dict.fromkeys(reasons.get(need, "they have no such trace") for need in missing)
    return f"metric {metric.name} needs {', '.join(missing)}, but {' and '.join(told)}"


def _is_there(need: str, images: ImageSet) -> bool:
    if need.startswith(_TRACE):
        return need.removeprefix(_TRACE) in images.trace
    if need not in NEEDS:
        raise ConfigError(f"no metric can need {need!r}; {did_you_mean(need, NEEDS)}")
    if need in _ITEMS:
        return getattr(images, _ITEMS[need], None) is not None
    return True
