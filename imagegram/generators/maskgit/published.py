"""Sizes of a network of this family, read from the names and shapes of its weights."""

from __future__ import annotations

from typing import Final

from imagegram.errors import ConfigError
from imagegram.generators.learned import Architecture
from imagegram.generators.maskgit.sizes import ragged
from imagegram.models.checkpoints import Shapes, num_blocks, require_family

#: Families of weights, by ``generator.backbone``.
FAMILIES: Final = {
    "transformer": "maskgit of this package",
    "local": "local maskgit of this package",
    "bert": "ImageBert",
    "uvit": "UViT",
}


def sizes_in(shapes: Shapes, *, backbone: str, setting: str) -> Architecture:
    """Return the sizes of the network that some weights are of; one head where they do not tell.

    Raises:
        ConfigError: for weights of another family, or without a part that tells the sizes.
    """
    require_family(shapes, FAMILIES[backbone], setting=setting)
    read = _READERS[backbone]
    try:
        found = read(shapes)
        return ragged(found) if "lengths" in shapes else found
    except KeyError as error:
        raise ConfigError(
            f"{setting}: the weights of {FAMILIES[backbone]} lack {error}; give the whole file"
        ) from error


def transformer_sizes(shapes: Shapes) -> Architecture:
    """Return the sizes of the house's own network, with or without captions.

    Raises:
        KeyError: naming a part that they are read from.
    """
    rows, width = shapes["ids"]
    return Architecture(
        vocab_size=rows - 1,
        num_tokens=shapes["positions"][0],
        width=width,
        depth=num_blocks(shapes, "transformer.blocks."),
        num_heads=width // shapes["transformer.blocks.0.attention.query_norm.weight"][0],
        num_classes=shapes["classes"][0] - 1 if "classes" in shapes else 0,
    )


def _bert(shapes: Shapes) -> Architecture:
    rows, width = shapes["model.embeddings.word_embeddings.weight"]
    vocab_size = shapes["model.lm_head.weight"][0]
    return Architecture(
        vocab_size=vocab_size,
        num_tokens=shapes["model.embeddings.position_embeddings.weight"][0] - 1,
        width=width,
        depth=num_blocks(shapes, "model.encoder.layer."),
        num_heads=1,
        num_classes=rows - vocab_size - 2,
    )


def _uvit(shapes: Shapes) -> Architecture:
    rows, width = shapes["embeddings.weight"]
    vocab_size = shapes["lm_head.weight"][0]
    blocks = num_blocks(shapes, "in_blocks.") + num_blocks(shapes, "out_blocks.")
    return Architecture(
        vocab_size=vocab_size,
        num_tokens=shapes["pos_embed"][1] - 1,
        width=width,
        depth=1 + blocks,
        num_heads=1,
        num_classes=rows - vocab_size - 2,
    )


_READERS: Final = {
    "transformer": transformer_sizes,
    "local": transformer_sizes,
    "bert": _bert,
    "uvit": _uvit,
}
