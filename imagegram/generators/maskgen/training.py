"""How MaskGen is trained and validated; Lightning's side of ``objective.py``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imagegram.generators.maskgen.sizes import MmditSizes, make_fresh
from imagegram.generators.maskgit.training import NETWORK, MaskedPredictionModule
from imagegram.stages.captions import TextStates
from imagegram.training.captions import others, parted, trimmed
from imagegram.training.objective import Items


class CaptionedPredictionModule(MaskedPredictionModule):
    """One bidirectional transformer over captions and tokens."""

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the transformer with fresh weights."""
        return {NETWORK: make_fresh(self.objective.architecture, seed=self.optimization.seed)}

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return upper bounds of the bits of a token, see :class:`MaskedPredictionModule`.

        ``val/bits_per_token`` under the images' own captions; under those of others
        ``val/bits_other_caption``, under none ``val/bits_no_caption``: of the same masks.
        """
        network, num_tokens = networks[NETWORK], 0.0
        names = ("bits_per_token", "bits_other_caption", "bits_no_caption")
        bits = dict.fromkeys(names, 0.0)
        for looked in self.looked_at(items):
            _, text = parted(looked.found)
            none = TextStates(states=text.states, there=np.zeros_like(text.there))
            seen_BT = looked.seen(self.objective.architecture.vocab_size)
            for name, given in zip(names, (text, others(text), none), strict=True):
                bits[name] += looked.bits(self.predicted(network, seen_BT, *self._given(given)))
            num_tokens += looked.num_tokens
        return {f"val/{name}": total / num_tokens for name, total in bits.items()}

    def predicted(self, network: nn.Module, seen_BT: Tensor, *beside: Tensor) -> Tensor:
        """Return (B, T, V) logits for partly masked ids, states and masks of captions."""
        states_BLD, there_BL = beside
        if isinstance(self.objective.architecture, MmditSizes):
            is_empty_B11 = ~there_BL.any(dim=1)[:, None, None]
            states_BLD = torch.where(is_empty_B11, self._no_caption, states_BLD)
        logits: Tensor = network(seen_BT, states_BLD, there_BL)
        return logits

    @cached_property
    def _no_caption(self) -> Tensor:
        """The (1, L, D) states of the empty caption, on the device."""
        items: Any = self.course.items
        return torch.from_numpy(items.no_caption().states).to(self.device)

    def rows(self, found: NDArray[Any]) -> NDArray[Any]:
        """Return the (B, T) ids of gathered items."""
        return parted(found)[0]

    def _given(self, text: TextStates) -> tuple[Tensor, Tensor]:
        """Return states and mask of captions on the device."""
        text = trimmed(text)
        states, there = (torch.from_numpy(each) for each in (text.states, text.there))
        return states.to(self.device), there.to(self.device)
