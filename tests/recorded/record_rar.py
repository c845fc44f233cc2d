"""Records names and outputs of the RAR of its authors, for ``tests/unit/test_rar.py``.

    python -m tests.recorded.record_rar CHECKOUT_OF_1D_TOKENIZER

Two modules that the checkout imports are stood in for: a base class, and the MLP of timm.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

OUT = Path(__file__).parent
#: Width, depth and width of the MLPs of the published networks.
PUBLISHED = {
    "rar_b": (768, 24, 3072),
    "rar_l": (1024, 24, 4096),
    "rar_xl": (1280, 32, 5120),
    "rar_xxl": (1408, 40, 6144),
}


class Fields(dict[str, Any]):
    """A configuration whose entries are attributes."""

    __getattr__ = dict.__getitem__


class Mlp(nn.Module):
    """What RAR uses of timm's MLP, in evaluation mode."""

    def __init__(self, in_features: int, hidden_features: int, act_layer: Any, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc2(self.act(self.fc1(x)))
        return out


def upstream(checkout: Path) -> Any:
    """The class of the checkout."""
    base: Any = types.ModuleType("modeling.modules")
    base.BaseModel = nn.Module
    layers: Any = types.ModuleType("timm.layers")
    layers.Mlp = Mlp
    sys.modules |= {"modeling.modules": base, "timm.layers": layers}
    sys.modules |= {name: types.ModuleType(name) for name in ("modeling", "timm")}
    module: Any = types.ModuleType("rar")
    exec((checkout / "modeling" / "rar.py").read_text(), vars(module))
    return module.RAR


def config(width: int, depth: int, heads: int, hidden: int, *sizes: int) -> Fields:
    """A configuration; ``sizes`` are tokens, ids and classes."""
    length, vocab_size, num_classes = sizes
    generator = Fields(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=hidden,
        image_seq_len=length,
        condition_num_classes=num_classes,
        dropout=0.1,
        attn_drop=0.1,
    )
    return Fields(model=Fields(generator=generator, vq_model=Fields(codebook_size=vocab_size)))


def shapes(network: nn.Module) -> dict[str, list[int]]:
    """Shapes by name, all blocks as one."""
    found = {}
    for name, tensor in network.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            parts[1] = "*"
        found[".".join(parts)] = list(tensor.shape)
    return found


def record_names(rar: Any) -> None:
    """Write ``rar_names.json``."""
    names = {}
    for name, (width, depth, hidden) in PUBLISHED.items():
        with torch.device("meta"):
            network = rar(config(width, depth, 16, hidden, 256, 1024, 1000))
        count = sum(parameter.numel() for parameter in network.parameters())
        names[name] = {"depth": depth, "num_parameters": count, "shapes": shapes(network)}
    (OUT / "rar_names.json").write_text(json.dumps(names, indent=1) + "\n")


@torch.no_grad()
def record_outputs(rar: Any) -> None:
    """Write ``rar.npz``: logits in raster and permuted order, without a class, and guided steps."""
    network = rar(config(8, 2, 2, 24, 6, 10, 3)).eval()
    rng = np.random.Generator(np.random.Philox(key=7))
    for _, tensor in sorted(network.state_dict().items()):
        tensor.copy_(torch.from_numpy((rng.random(tensor.shape) - 0.5).astype(np.float32)))
    ids = torch.from_numpy(rng.integers(0, 10, (4, 6)))
    classes = torch.tensor([0, 1, 2, 2])
    orders = torch.from_numpy(rng.random((4, 6)).argsort(axis=1))
    given = network.preprocess_condition(classes.clone())
    outputs = {
        "raster": network.forward_fn(ids, given),
        "permuted": network.forward_fn(ids, given, orders=orders),
        "null": network.forward_fn(ids, network.get_none_condition(given)),
    }
    arrays = {name: logits[:, :-1].numpy() for name, logits in outputs.items()}
    seen: list[torch.Tensor] = []

    def draw(p: torch.Tensor, num_samples: int) -> torch.Tensor:
        seen.append(p.clone())  # what would be drawn from, while these ids are drawn
        return ids[:, len(seen) - 1 : len(seen)]

    drawing, torch.multinomial = torch.multinomial, draw  # type: ignore[assignment]
    network.generate(classes.clone(), 4.0, 1.02, 2.5)
    torch.multinomial = drawing
    arrays |= {"ids": ids.numpy(), "classes": classes.numpy(), "orders": orders.numpy()}
    np.savez_compressed(OUT / "rar.npz", **arrays, guided=torch.stack(seen, 1).numpy())


if __name__ == "__main__":
    found = upstream(Path(sys.argv[1]))
    record_names(found)
    record_outputs(found)
