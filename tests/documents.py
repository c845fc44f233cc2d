"""Small documents that never change, for tests of text."""

from __future__ import annotations

from typing import Final

import numpy as np

STORIES: Final = [
    "Once upon a time there was a king who had a daughter, and the daughter had a golden ball. "
    "She threw it up and caught it, and it was her favourite thing to play with.",
    "A wolf saw a lamb drinking from a river, and wanted to find some excuse for eating it. "
    "Why do you stir up the water and make it muddy? said the wolf to the lamb.",
    "There was once a sweet little maid who lived with her father and mother in a pretty cottage "
    "at the edge of the village. At the further end of the wood was another pretty cottage.",
    "The hare laughed at the tortoise for being so slow. Let us run a race, said the tortoise, "
    "and we shall see who comes first. They both laughed, and off they went.",
]

_SUBJECTS: Final = ("the king", "a wolf", "the tortoise", "her mother", "an old miller", "the fox")
_VERBS: Final = ("saw", "wanted", "laughed at", "ran from", "spoke to", "followed")
_OBJECTS: Final = ("the river", "a golden ball", "the wood", "a pretty cottage", "the lamb", "me")
_ENDS: Final = ("at dawn", "for a year and a day", "and went home", "without a word", "once more")


def documents(count: int, *, seed: int = 0, longest: int = 12) -> list[str]:
    """Documents of 1 ... ``longest`` sentences of a small language, the same for the same seed."""
    rng = np.random.default_rng(seed)

    def sentence() -> str:
        parts = (rng.choice(words) for words in (_SUBJECTS, _VERBS, _OBJECTS, _ENDS))
        return f"{' '.join(parts)}.".capitalize()

    return [" ".join(sentence() for _ in range(rng.integers(1, longest + 1))) for _ in range(count)]
