"""LabelCondition: samples of one label, or of all labels in turn.

    python -m imagegram.run condition=label condition.label=cat
    python -m imagegram.run condition=label condition.key=synset

>>> condition = LabelCondition(name="label")
>>> condition.of_samples(("cat", "dog"), np.array([0, 1, 2], dtype=np.uint64)).tolist()
[0, 1, 0]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean
from imagegram.store.fingerprint import NOT_IDENTITY

#: ``condition.label``: every label in turn.
ALL_LABELS: Final = "*"
#: Labels and keys that a message lists.
_LISTED: Final = 40


@dataclass(frozen=True, kw_only=True)
class LabelCondition:
    """Ask every sample for a label of the training images.

    Attributes:
        name: of the configuration file.
        label: the label; ``*`` gives sample i the i-th label in sorted order, again and again.
        key: where labels are: this key of the JSON beside an image; ``caption`` is the text beside
            it when the JSON has no such key.
    """

    #: 2: an n-gram replays documents under their own labels, not under those of samples.
    VERSION: ClassVar[int] = 2
    name: str = field(metadata=NOT_IDENTITY)
    label: str = ALL_LABELS
    key: str = "label"

    def __post_init__(self) -> None:
        if not self.label:
            raise ConfigError(
                "condition.label is empty; type condition.label=NAME, or condition.label='*' for "
                "all labels in turn"
            )
        if not self.key:
            raise ConfigError(
                "condition.key is empty; type condition.key=KEY, a key of the JSON beside an image"
            )

    def of_samples(
        self, names: Sequence[str], samples: NDArray[np.uint64], *, keys: Sequence[str] = ()
    ) -> NDArray[np.int32]:
        """(B,) which of ``names`` every sample is asked for.

        Args:
            names: all labels of the training images, in sorted order.
            samples: (B,) sample ids.
            keys: what the JSON beside the images holds, for a message.

        Raises:
            ConfigError: when there is no such label, or none at all.
        """
        if not names:
            there = ", ".join(keys[:_LISTED]) or "none"
            raise ConfigError(
                f"condition.label={self.label} needs labels, but no training image has "
                f"condition.key={self.key} in the JSON beside it; the keys there: {there}. Type "
                "condition.key=KEY, or condition=none"
            )
        if self.label == ALL_LABELS:
            return (samples % np.uint64(len(names))).astype(np.int32)
        if self.label not in names:
            some = names[:_LISTED]
            hint = did_you_mean(self.label, some if len(names) > _LISTED else names)
            if len(names) > _LISTED:
                hint += f" ... ({len(names)} in all)"
            raise ConfigError(
                f"condition.label={self.label}: no training image has it as its {self.key}; "
                f"{hint}, or '*'"
            )
        return np.full(len(samples), names.index(self.label), dtype=np.int32)
