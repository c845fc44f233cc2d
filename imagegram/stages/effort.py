"""Effort: what a metric's own work grows with, for plans.

>>> Effort(image=2e-3, pair=1e-6).seconds(images=100, documents=1000, tokens=64)
0.3
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Seconds of one core; matches and features are stages of their own and do not count.

    Attributes:
        image: of a measured image.
        token: of a token of a measured image.
        training_token: of a token of a training document, which is read.
        pair: of a measured image and a training document that are compared.
        pair_token: of a token of both.
    """

    image: float = 0.0
    token: float = 0.0
    training_token: float = 0.0
    pair: float = 0.0
    pair_token: float = 0.0

    def seconds(self, *, images: int, documents: int, tokens: int) -> float:
        """Return the seconds for some images beside some training documents.

        Args:
            images: number of measured images.
            documents: number of training documents.
            tokens: tokens of each.
        """
        of_images = images * (self.image + tokens * self.token)
        of_pairs = images * documents * (self.pair + tokens * self.pair_token)
        return of_images + documents * tokens * self.training_token + of_pairs
