"""Records names, shapes and states of open_clip's text half, for the tests of encoders.

    python -m tests.recorded.record_open_clip FOLDER_WITH_OPEN_CLIP

``pip install --no-deps --target FOLDER_WITH_OPEN_CLIP open_clip_torch`` makes that folder. The
package imports torchvision and ftfy, of whose work nothing is needed here: they are stood in for
(``tests/unit/test_clip.py`` reads the file).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

from tests.unit.test_clip import CONFIG, IDS, filled

OUT = Path(__file__).with_name("open_clip.json")


def rounded(values: torch.Tensor) -> Any:
    """Numbers of six digits."""
    return np.round(values.numpy().astype(float), 6).tolist()


def main() -> None:
    """Write the file."""
    sys.path.insert(0, sys.argv[1])
    for name in ("", ".ops", ".ops.misc", ".transforms", ".transforms.functional"):
        sys.modules[f"torchvision{name}"] = MagicMock()
    sys.modules["ftfy"] = MagicMock()
    absent: Any = None  # is imported where it is there, with all that stands on torchvision
    sys.modules["transformers"] = sys.modules["timm"] = absent
    from open_clip.model import CLIP  # type: ignore[import-not-found]

    recorded: dict[str, Any] = {}
    for quick in (False, True):
        network = CLIP(**CONFIG["model_cfg"], quick_gelu=quick).eval()
        shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        network.load_state_dict({name: filled(name, shape) for name, shape in shapes.items()})
        ids = torch.tensor(IDS)
        with torch.no_grad():
            x = network.token_embedding(ids) + network.positional_embedding[: ids.shape[1]]
            size = ids.shape[1]
            x = network.transformer(x, attn_mask=network.attn_mask[:size, :size])
            states = network.ln_final(x)
            before = network.token_embedding(ids) + network.positional_embedding[:size]
            for block in network.transformer.resblocks[:-1]:
                before = block(before, attn_mask=network.attn_mask[:size, :size])
            vectors = network.encode_text(ids)
        key = "quick_gelu" if quick else "gelu"
        recorded[key] = rounded(states)
        recorded[f"penultimate_{key}"] = {"states": rounded(before), "vectors": rounded(vectors)}
        recorded["shapes"] = shapes
    OUT.write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    main()
