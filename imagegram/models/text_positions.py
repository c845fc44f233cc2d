"""TextPositions: what a text encoder says of a caption, as positions that a transformer reads.

Array names: ``B`` rows, ``L`` positions of a text, ``D`` numbers of a state, ``W`` width.

>>> positions = TextPositions(text_dim=4, text_length=3, width=8)
>>> there = torch.tensor([[True, True, False], [False, False, False]])
>>> x, seen = positions(torch.zeros(2, 3, 4), there)
>>> tuple(x.shape), seen.tolist()
((2, 3, 8), [[True, True, False], [True, False, False]])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TextPositions(nn.Module):
    """A projection of the states of a text; a row without text has one learned position.

    States are normalized first, as encoders differ in how large theirs are.

    Args:
        text_dim: numbers of a state, D.
        text_length: most tokens of a text, L.
        width: features of a position, W.
        padded: states are read as they are, and a row without text has no position: as in published
            networks, to whom the text encoder gives L states of every text, the empty one too.
    """

    def __init__(
        self, *, text_dim: int, text_length: int, width: int, padded: bool = False
    ) -> None:
        super().__init__()
        self.text_dim, self.text_length = text_dim, text_length
        self.project = nn.Linear(text_dim, width)
        self.places = nn.Parameter(torch.empty(text_length, width))
        self.none = None if padded else nn.Parameter(torch.empty(1, width))

    def forward(self, states_BLD: Tensor, there_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, L, W) positions, and (B, L) bool, which of them are to be seen.

        Args:
            states_BLD: (B, L, D) states of any float type; of at most as many tokens as it is for.
            there_BL: (B, L) bool, tokens of a text; a row without any has no text.
        """
        states_BLD = states_BLD.float()
        if self.none is not None:
            states_BLD = F.layer_norm(states_BLD, (self.text_dim,))
        x_BLW = self.project(states_BLD.to(self.project.weight.dtype))
        x_BLW = x_BLW + self.places[: x_BLW.shape[1]]
        if self.none is None:
            return x_BLW, there_BL
        empty_B1 = ~there_BL.any(dim=1, keepdim=True)
        first_BW = torch.where(empty_B1, self.none.to(x_BLW.dtype), x_BLW[:, 0])
        x_BLW = torch.cat((first_BW[:, None], x_BLW[:, 1:]), dim=1)
        return x_BLW, torch.cat((there_BL[:, :1] | empty_B1, there_BL[:, 1:]), dim=1)

    def no_text(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return the (B, L, D) states and (B, L) mask of rows without text."""
        device = self.places.device
        states = torch.zeros(batch, self.text_length, self.text_dim, device=device)
        return states, torch.zeros(batch, self.text_length, dtype=torch.bool, device=device)
