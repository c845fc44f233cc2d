"""The text half of CLIP, of a folder that transformers or open_clip has saved.

    open_clip_config.json         sizes, as a page of open_clip on the Hugging Face Hub has them
    open_clip_model.safetensors   weights of both halves
    tokenizer.json                as transformers writes it

open_clip is not imported, as it imports torchvision: its text half is that of transformers under
other names, with queries, keys and values in one matrix. Text halves that differ in more than
their sizes are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagegram.errors import ConfigError
from imagegram.models.checkpoints import read_tensors, require_shapes, shapes_of

if TYPE_CHECKING:
    from torch import Tensor

#: Files of a folder that open_clip has saved.
FILES: Final = ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json")
#: ``model_type`` of a folder of transformers: both halves, or the text half alone.
MODEL_TYPES: Final = ("clip", "clip_text_model")
_SETTING: Final = "embedder.folder"
#: Our name of each size, and its default, in open_clip.
_SIZES: Final = {
    "context_length": ("max_position_embeddings", 77),
    "vocab_size": ("vocab_size", 49408),
    "width": ("hidden_size", 512),
    "heads": ("num_attention_heads", 8),
    "layers": ("num_hidden_layers", 12),
}
#: Other fields that change nothing of the states: what becomes one vector, and how it is padded.
_UNUSED: Final = (
    *("hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "pad_id", "eos_id", "pool_type"),
    *("proj_bias", "proj_type", "output_tokens", "hf_model_pretrained", "hf_proj_type"),
    "hf_pooler_type",
)
#: ``pool_type`` of CLIP: the state of the end, whose id is the largest.
_POOLED: Final = "argmax"
#: Names in open_clip, and here; a block has others.
_NAMES: Final = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_PARTS: Final = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def is_open_clip(folder: Path) -> bool:
    """Return whether open_clip has saved a folder."""
    return (folder / FILES[0]).is_file()


def open_clip_sizes(folder: Path) -> dict[str, Any]:
    """Return the sizes of the text half of a folder of open_clip, in the words of transformers.

    Raises:
        ConfigError: for a text half that is another network.
    """
    try:
        config = json.loads((folder / FILES[0]).read_text())["model_cfg"]
        text = dict(config["text_cfg"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{_SETTING}={folder}: {FILES[0]} has no model_cfg with a text_cfg ({error}); fetch "
            "the folder again"
        ) from error
    if name := text.get("hf_model_name"):
        raise ConfigError(
            f"{_SETTING}={folder}: its text encoder is {name}, one of transformers; give the "
            "folder of that one"
        )
    mlp_ratio = text.pop("mlp_ratio", 4.0)
    sizes = {name: text.pop(key, usual) for key, (name, usual) in _SIZES.items()}
    more = {key: value for key, value in text.items() if value and key not in _UNUSED}
    if more:
        raise ConfigError(
            f"{_SETTING}={folder}: its text encoder differs from that of CLIP by {more}, which is "
            "not read here; give a folder of a CLIP with causal attention, such as ViT-L-14"
        )
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    hidden = int(sizes["hidden_size"] * mlp_ratio)
    return {**sizes, "intermediate_size": hidden, "hidden_act": activation}


def text_half(folder: Path, *, dtype: Any) -> Any:
    """Return transformers' ``CLIPTextModel`` with the weights of a folder.

    Raises:
        ConfigError: for weights of another network.
    """
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    if is_open_clip(folder):
        config: Any = CLIPTextConfig(**open_clip_sizes(folder))
        found = renamed(read_tensors(folder / FILES[1], setting=_SETTING))
    else:
        config = CLIPTextConfig.from_pretrained(folder, local_files_only=True)
        found = text_part(read_tensors(folder / "model.safetensors", setting=_SETTING))
    with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
        network: Any = CLIPTextModel(config)
    expected = shapes_of(network.state_dict())
    require_shapes(shapes_of(found), expected, setting=f"{_SETTING}={folder}")
    network.load_state_dict(found)
    return network.to(dtype)


def projection(folder: Path) -> Tensor | None:
    """Return the (width, E) matrix that makes the vector of a text of its end; None: it has none.

    Of open_clip only where that is what it makes a vector of, as CLIP does.

    Raises:
        ConfigError: for a file that cannot be read.
    """
    if not is_open_clip(folder):
        found = read_tensors(folder / "model.safetensors", setting=_SETTING)
        matrix = found.get("text_projection.weight")
        return None if matrix is None else matrix.T
    text = json.loads((folder / FILES[0]).read_text())["model_cfg"]["text_cfg"]
    if text.get("pool_type", _POOLED) != _POOLED:
        return None
    found = read_tensors(folder / FILES[1], setting=_SETTING)
    return found.get("text_projection", found.get("text.text_projection"))


def text_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the text half, of a file of transformers of both halves or of one."""
    prefix = "text_model."
    own = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
    found = own or dict(tensors)
    found.pop("embeddings.position_ids", None)  # older versions wrote these numbers 0, 1 ...
    return found


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of open_clip's text half under the names of transformers.

    Those of the other half, and of the projection to one vector, are left out.
    """
    prefix = "text." if "text.token_embedding.weight" in tensors else ""
    own = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
    found = {ours: own[theirs] for theirs, ours in _NAMES.items() if theirs in own}
    for name, tensor in own.items():
        if not name.startswith("transformer.resblocks."):
            continue
        _, _, number, part = name.split(".", 3)
        layer = f"encoder.layers.{number}."
        if part.startswith("attn.in_proj_"):
            kind = part.removeprefix("attn.in_proj_")
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{layer}self_attn.{letter}_proj.{kind}"] = third.clone()
        else:
            module, _, kind = part.rpartition(".")
            found[f"{layer}{_PARTS.get(module, module)}.{kind}"] = tensor
    return found
