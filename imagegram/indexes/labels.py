"""Labels of documents: which class each one has, for samples that ask for one.

>>> labels = Labels(names=("cat", "dog"), by_document=np.array([1, 0, 1, -1], dtype=np.int32))
>>> labels.of_samples("*", np.array([0, 1, 2], dtype=np.uint64), key="label").tolist()
[0, 1, 0]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean

#: No label: any document may decide.
ANY: Final = -1
#: ``sampler.label``: every label in turn.
ALL_LABELS: Final = "*"
#: Labels that a message lists.
_LISTED: Final = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Labels of documents.

    Attributes:
        names: (K,) in sorted order.
        by_document: (N,) int32 place of each document's label in ``names``; -1: it has none.
        keys: what else the JSON beside the images holds, for messages.
    """

    names: tuple[str, ...]
    by_document: NDArray[np.int32]
    keys: tuple[str, ...] = ()

    @classmethod
    def join(cls, parts: Sequence[Labels]) -> Labels:
        """Labels of several shards, one after the other."""
        names = sorted({name for part in parts for name in part.names})
        number = {name: i for i, name in enumerate(names)}
        ids = []
        for part in parts:
            numbers = np.array([*(number[name] for name in part.names), ANY], dtype=np.int32)
            ids.append(numbers[part.by_document])  # -1 is the last of them
        by_document = np.concatenate([np.empty(0, np.int32), *ids])
        keys = sorted({key for part in parts for key in part.keys})
        return cls(names=tuple(names), by_document=by_document, keys=tuple(keys))

    def of_samples(self, label: str, samples: NDArray[np.uint64], *, key: str) -> NDArray[np.int32]:
        """(B,) the label of every sample.

        Args:
            label: a name, or ``*``: sample i has the i-th name, again and again.
            samples: (B,) sample ids.
            key: where labels are, for messages.

        Raises:
            ConfigError: when there is no such label, or none at all.
        """
        if not self.names:
            there = ", ".join(self.keys[:_LISTED]) or "none"
            raise ConfigError(
                f"sampler.label={label} needs labels, but no document has sampler.label_key={key} "
                f"in the JSON beside its image; the keys there: {there}. Type "
                "sampler.label_key=KEY, or sampler.label=null"
            )
        if label == ALL_LABELS:
            return (samples % np.uint64(len(self.names))).astype(np.int32)
        if label not in self.names:
            some = self.names[:_LISTED]
            hint = did_you_mean(label, some if len(self.names) > _LISTED else self.names)
            if len(self.names) > _LISTED:
                hint += f" ... ({len(self.names)} in all)"
            raise ConfigError(
                f"sampler.label={label}: no document has it as its {key}; {hint}, or '*'"
            )
        return np.full(len(samples), self.names.index(label), dtype=np.int32)
