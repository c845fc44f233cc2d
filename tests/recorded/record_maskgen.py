"""Records names, logits and samples of the authors' MaskGen-VQ, for the tests of its network.

    python -m tests.recorded.record_maskgen CHECKOUT_OF_1D_TOKENIZER

It needs diffusers and einops besides (``tests/unit/test_maskgen_vq.py`` reads the file). Modules
that the checkout imports for its other classes are stood in for; what a text encoder would say of
a caption is filled in.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from tests.unit.test_maskgen_vq import filled, said

OUT = Path(__file__).with_name("maskgen.json")
SIZES = {"vocab_size": 11, "num_tokens": 6, "width": 8, "depth": 2, "num_heads": 2, "text_dim": 5}
SCORE = 6.5
CAPTIONS = ["red", "a blue car", "snow"]
#: The published L and XL, in millions of weights.
PUBLISHED = {"maskgen_vq_l": (1024, 16), "maskgen_vq_xl": (1280, 20)}


def upstream(checkout: Path) -> Any:
    """The module of the checkout."""
    for name in ("modeling", "modeling.modules"):
        package: Any = types.ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    sys.modules["modeling.modules"].BaseModel = nn.Module  # type: ignore[attr-defined]
    for name in ("modeling.modules.losses", "modeling.quantizer", "open_clip"):
        sys.modules[name] = MagicMock()
    sys.modules["open_clip.transformer"] = MagicMock()
    from modeling import maskgen  # type: ignore[import-not-found]

    return maskgen


def config(*, micro_condition: bool, **sizes: int) -> Any:
    """The configuration of a network."""
    vq_model = {"num_latent_tokens": sizes["num_tokens"], "codebook_size": sizes["vocab_size"]}
    generator = {
        "condition_num_classes": 1000,
        "decoder_embed_dim": sizes["width"],
        "decoder_depth": sizes["depth"],
        "decoder_num_heads": sizes["num_heads"],
        "micro_condition": micro_condition,
        "micro_condition_embed_dim": 256,
        "sample_aesthetic_score": SCORE,
        "text_drop_prob": 0.1,
    }
    model = {"vq_model": {**vq_model, "text_embed_dim": sizes["text_dim"]}, "maskgen": generator}
    return OmegaConf.create({"model": model})


def encoded(_tokenizer: Any, _encoder: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
    """What stands in for the states of a text encoder, and its vectors."""
    states = torch.stack([said(text, dim=SIZES["text_dim"]) for text in texts])
    return states[:, 1:], states[:, :1]


def rounded(values: Tensor) -> Any:
    """Numbers of six digits."""
    return np.round(values.numpy().astype(float), 6).tolist()


@torch.no_grad()
def recorded(module: Any, *, micro_condition: bool) -> dict[str, Any]:
    """Names, shapes and logits under captions; with a score also samples without noise."""
    network = module.MaskGen_VQ(config(micro_condition=micro_condition, **SIZES)).eval()
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: filled(name, shape) for name, shape in shapes.items()})
    network.embeddings.weight.copy_(filled("embeddings.weight", shapes["embeddings.weight"]))
    ids = torch.tensor([[0, 11, 3, 11, 10, 5], [11] * 6, [1, 2, 11, 4, 7, 9]])
    scores = torch.full((len(ids),), SCORE) if micro_condition else None
    logits = network(ids, *encoded(None, None, CAPTIONS), aesthetic_score=scores)[0]
    found = {"shapes": shapes, "ids": ids.tolist(), "logits": rounded(logits)}
    if micro_condition:
        made = network.generate(
            CAPTIONS,
            guidance_scale=12.0,
            randomize_temperature=0.0,
            sample_aesthetic_score=SCORE,
            num_sample_steps=4,
        )
        found["greedy"] = made.tolist()
    return found


def count(module: Any, width: int, depth: int) -> int:
    """The number of weights of a published network."""
    sizes = {"vocab_size": 8192, "num_tokens": 128, "num_heads": 16, "text_dim": 768}
    with torch.device("meta"):
        network = module.MaskGen_VQ(config(micro_condition=True, width=width, depth=depth, **sizes))
    return sum(parameter.numel() for parameter in network.parameters())


def main() -> None:
    """Write the file."""
    module = upstream(Path(sys.argv[1]))
    module.open_clip_text_encoding = encoded
    found: dict[str, Any] = {"sizes": SIZES, "score": SCORE, "captions": CAPTIONS}
    found["published"] = {name: count(module, *sizes) for name, sizes in PUBLISHED.items()}
    found["with_score"] = recorded(module, micro_condition=True)
    found["without_score"] = recorded(module, micro_condition=False)
    OUT.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
