"""Pinned samples: they may change only together with ``VERSION`` of the generate stage.

The definition and the kernels share the code that turns counts into a token, so their agreement
cannot notice a change there; these few samples do. After a wanted change: ``make golden``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from imagegram.layout import TokenLayout
from imagegram.stages.generate import Generate
from tests.generation import asked, first_samples, fit, labelled

GOLDEN = Path(__file__).with_name("samples.json")
LAYOUT = TokenLayout.pyramid((1, 2))
KNOBS = {
    "free": {"temperature": 0.9, "top_k": 3, "max_context": 2},
    "channel": {"matching": "channel", "min_count": 4, "top_p": 0.8},
    "level": {"matching": "level", "max_context": 3, "min_p": 0.2},
    "position": {"matching": "position", "min_count": 3, "temperature": 1.3},
    "anchor": {"matching": "position", "anchor": 4, "max_context": 2},
    "label": {"label": "*", "label_tokens": 5, "max_context": 3},
    "digits": {"context_digits": 7, "max_context": 5, "min_count": 2},
}


def documents() -> list[list[int]]:
    """40 documents of 2-bit tokens, by whole-number arithmetic only."""
    i, t = np.mgrid[:40, : LAYOUT.num_tokens].astype(np.uint64)
    return (((i * 7919 + t * 104729 + i * t * 31) * 2654435761 % 2**32) >> 30).tolist()


@pytest.mark.parametrize("knobs", KNOBS)
def test_samples_are_those_of_this_version(knobs: str, tmp_path: Path) -> None:
    corpus = documents()
    model = labelled(fit(tmp_path, [corpus[:25], corpus[25:]]), [i % 3 for i in range(40)])
    tokens_BT, trace = model.generate(
        **asked(**KNOBS[knobs]), layout=LAYOUT, samples=first_samples(4), seed=2024
    )
    now = {
        "version": Generate.VERSION,
        "tokens": ["".join(map(str, row)) for row in tokens_BT.tolist()],
        "suffix_len": trace["suffix_len"].tolist(),
        "source_document": trace["source_document"].tolist(),
    }
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("IMAGEGRAM_WRITE_GOLDEN"):
        text = json.dumps(golden | {knobs: now}, sort_keys=True)
        GOLDEN.write_text(text + "\n")
        return
    assert now == golden[knobs]
