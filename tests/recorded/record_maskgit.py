"""Records names, logits and samples of the authors' ImageBert and UViT, for the tests of backbones.

    python -m tests.recorded.record_maskgit CHECKOUT_OF_1D_TOKENIZER

It needs transformers and einops besides (``tests/unit/test_maskgit_backbones.py`` reads the file).
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from tests.unit.test_maskgit_backbones import filled

OUT = Path(__file__).with_name("maskgit.json")
SIZES = {"vocab_size": 11, "num_tokens": 6, "width": 8, "num_heads": 2, "num_classes": 3}
#: Blocks as we count them: UViT's middle one is one more than theirs.
DEPTH = {"bert": 2, "uvit": 3}
GREEDY: dict[str, dict[str, Any]] = {
    "linear": {"guidance_scale": 4.5, "guidance_decay": "linear"},
    "constant": {
        "guidance_scale": 1.5,
        "guidance_decay": "constant",
        "softmax_temperature_annealing": True,
    },
    "power_cosine": {
        "guidance_scale": 6.9,
        "guidance_decay": "power-cosine",
        "guidance_scale_pow": 3.0,
    },
}


def upstream(checkout: Path) -> dict[str, Any]:
    """The classes of the checkout; its packages, which import more, are stood in for."""
    for name in ("modeling", "modeling.modules"):
        package: Any = types.ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    from modeling.maskgit import ImageBert, UViTBert  # type: ignore[import-not-found]

    return {"bert": ImageBert, "uvit": UViTBert}


def config() -> Any:
    """The configuration of a small network."""
    generator = {
        "condition_num_classes": SIZES["num_classes"],
        "image_seq_len": SIZES["num_tokens"],
        "hidden_size": SIZES["width"],
        "num_hidden_layers": 2,
        "num_attention_heads": SIZES["num_heads"],
        "intermediate_size": 4 * SIZES["width"],
        "dropout": 0.1,
        "attn_drop": 0.1,
    }
    vq_model = {"codebook_size": SIZES["vocab_size"]}
    return OmegaConf.create({"model": {"generator": generator, "vq_model": vq_model}})


def recorded(network: Any) -> dict[str, Any]:
    """Names, shapes, logits under classes and under none, and samples without noise."""
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: filled(name, shape) for name, shape in shapes.items()})
    ids = torch.tensor([[0, 11, 3, 11, 10, 5], [11] * 6, [1, 2, 11, 4, 7, 9]])
    classes = torch.tensor([0, 2, 1])
    with torch.no_grad():
        logits, of_no_class = (
            np.round(network(ids, classes.clone(), cond_drop_prob=share).numpy().astype(float), 6)
            for share in (0.0, 1.1)
        )
        greedy = {
            name: network.generate(
                torch.arange(3), randomize_temperature=0.0, num_sample_steps=4, **words
            ).tolist()
            for name, words in GREEDY.items()
        }
    return {
        "shapes": shapes,
        "ids": ids.tolist(),
        "classes": classes.tolist(),
        "logits": logits.tolist(),
        "logits_of_no_class": of_no_class.tolist(),
        "greedy": greedy,
    }


def main() -> None:
    """Write the file."""
    networks = {name: cls(config()).eval() for name, cls in upstream(Path(sys.argv[1])).items()}
    found = {name: recorded(network) for name, network in networks.items()}
    OUT.write_text(json.dumps({"sizes": SIZES, "depth": DEPTH, **found}) + "\n")


if __name__ == "__main__":
    main()
