"""Names of the weights in published files of masked generators, and in our networks.

The files are plain state dicts: ``ImageBert`` has the names of Hugging Face's BERT below
``model.``, ``UViT`` those of U-ViT. Nothing here reads a file.

>>> list(renamed("uvit", {"mid_block.attn.qkv.weight": torch.zeros(6, 2)}))
['middle.qkv.weight']
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]

#: Names of a layer, without its number.
_BERT_LAYER: Final = {
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}
_BERT: Final = {
    "model.embeddings.word_embeddings.weight": "ids",
    "model.embeddings.LayerNorm.weight": "norm.weight",
    "model.embeddings.LayerNorm.bias": "norm.bias",
    "model.lm_head.weight": "to_logits.weight",
    "model.lm_head.bias": "to_logits.bias",
}
_UVIT_BLOCKS: Final = {"in_blocks": "first", "mid_block": "middle", "out_blocks": "last"}
_UVIT_BLOCK: Final = {
    "norm1": "attention_norm",
    "norm2": "mlp_norm",
    "attn.qkv": "qkv",
    "attn.proj": "attention_out",
    "mlp.fc1": "mlp",
    "mlp.fc2": "mlp_out",
    "skip_linear": "mix",
}
_UVIT: Final = {
    "embeddings.weight": "ids",
    "lm_head.weight": "to_logits.weight",
    "lm_head.bias": "to_logits.bias",
}
#: A name that only one family has, by backbone.
_SIGNS: Final = {"bert": "model.lm_head.weight", "uvit": "mid_block.norm1.weight"}
#: A buffer of older files, which holds no weights.
_POSITION_IDS: Final = "model.embeddings.position_ids"


def backbone_of(names: Mapping[str, object]) -> str | None:
    """Return the backbone whose published names these are; None: another family's."""
    return next((backbone for backbone, sign in _SIGNS.items() if sign in names), None)


def renamed(backbone: str, weights: Weights) -> dict[str, Tensor]:
    """Return published weights under the names of our network; unknown names stay as they are.

    Args:
        backbone: ``bert`` or ``uvit``.
        weights: of the published file.
    """
    return _bert(weights) if backbone == "bert" else _uvit(weights)


def _bert(weights: Weights) -> dict[str, Tensor]:
    """Join queries, keys and values; add the one kind of token that there is to its positions."""
    left = {name: value for name, value in weights.items() if name != _POSITION_IDS}
    ours: dict[str, Tensor] = {}
    place = "model.embeddings.position_embeddings.weight"
    kind = "model.embeddings.token_type_embeddings.weight"
    if place in left and kind in left:
        ours["positions"] = left.pop(place) + left.pop(kind)[0]
    for name in weights:
        found = re.fullmatch(r"model\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
        if found is None:
            continue
        layer, inner, which = found.groups()
        if new := _BERT_LAYER.get(inner):
            ours[f"encoder.layers.{layer}.{new}.{which}"] = left.pop(name)
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if inner == "attention.self.query" and all(part in left for part in parts):
            joined = torch.cat([left.pop(part) for part in parts])
            ours[f"encoder.layers.{layer}.self_attn.in_proj_{which}"] = joined
    return ours | {_BERT.get(name, name): value for name, value in left.items()}


def _uvit(weights: Weights) -> dict[str, Tensor]:
    """Rename; positions lose their leading axis."""
    ours = {}
    for name, value in weights.items():
        found = re.fullmatch(
            r"(in_blocks|mid_block|out_blocks)((?:\.\d+)?)\.(.+)\.(weight|bias)", name
        )
        if found is not None and found[3] in _UVIT_BLOCK:
            blocks, number, inner, which = found.groups()
            ours[f"{_UVIT_BLOCKS[blocks]}{number}.{_UVIT_BLOCK[inner]}.{which}"] = value
        elif name == "pos_embed":
            ours["positions"] = value[0]
        else:
            ours[_UVIT.get(name, name)] = value
    return ours
