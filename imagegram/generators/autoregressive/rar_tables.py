"""Lengths of the tables in published RAR weights; no torch."""

from __future__ import annotations

from typing import Final

#: Rows of positions beyond the length of a sample; two of the first are the prefix's.
MORE_POSITIONS: Final = 1024
#: Rows of steps beyond it.
MORE_STEPS: Final = 100
