"""Audited images that are held out are said: no score counts them as copies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from imagegram.audit.held_out import held_out_copies


def test_held_out_images_among_the_audited_are_counted() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (600, 12)).astype(np.uint16)  # more than are hashed at a time
    holdout: Any = SimpleNamespace(num_documents=600, length=12, gather=lambda i: rows[list(i)])

    def said(tokens_BT: np.ndarray[Any, Any]) -> list[str]:
        audited: Any = SimpleNamespace(tokens=tokens_BT, num_images=len(tokens_BT))
        return held_out_copies(holdout, audited)

    fresh = rng.integers(0, 256, (5, 12)).astype(np.uint16)
    assert said(fresh) == []
    assert said(fresh[:, :6]) == []  # of another length
    (one,) = said(np.concatenate([fresh, rows[599:]]))
    assert one.startswith("1 of the 6 audited images is a held-out image, token by token")
    (three,) = said(np.concatenate([fresh, rows[[0, 0, 300]]]))
    assert three.startswith("3 of the 8 audited images are held-out images")
    holdout.num_documents = 0
    assert said(rows) == []
