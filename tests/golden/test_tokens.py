"""Token digests of a fixed picture: they may change only together with a tokenizer's VERSION.

After such a change: ``make golden``, then commit the new ``tokens.json`` with the code.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate

from imagegram import schema
from imagegram.store.fingerprint import digest, identity
from imagegram.store.stage import Ready
from tests.conftest import compose

GOLDEN = Path(__file__).with_name("tokens.json")
NAMES = sorted(path.stem for path in schema.CONF.glob("tokenizer/*.yaml"))


def picture() -> np.ndarray:
    """(150, 201, 3): gradients, a disc and a fine weave; whole-number arithmetic only."""
    y, x = np.mgrid[:150, :201]
    disc = ((x - 90) ** 2 + (y - 70) ** 2 < 45**2) * 90
    weave = ((x // 3 + y // 2) % 2) * 25
    channels = [x + disc, y + weave, (x * y) // 120 + disc // 2]
    return np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_this_version(name: str) -> None:
    if name == "hf_tokenizer":
        pytest.skip("it is a file of the user's")
    cfg = compose(f"tokenizer={name}")
    tokenizer = instantiate(cfg.tokenizer, _convert_="all")
    if not isinstance(tokenizer.fit(instantiate(cfg.corpus, _convert_="all")), Ready):
        pytest.skip("its tokens are those of its weights, by which it is known")
    encoded = tokenizer.encode([tokenizer.prepare(picture())])
    (tokens,), num_clipped = encoded.documents, encoded.counts["clipped"]
    now = {
        "version": type(tokenizer).VERSION,
        "identity": digest(identity(tokenizer)),  # what artifacts of token shards are keyed by
        "num_tokens": len(tokens),
        "num_clipped": num_clipped,
        "sha256": hashlib.sha256(tokens.astype("<u2").tobytes()).hexdigest(),
    }
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("IMAGEGRAM_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps({**known, name: now}, indent=1, sort_keys=True) + "\n")
    else:
        assert now == known[name]
