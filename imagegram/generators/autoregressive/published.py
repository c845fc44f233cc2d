"""Sizes of a network of this family, read from the names and shapes of its weights."""

from __future__ import annotations

from typing import Final

from imagegram.errors import ConfigError
from imagegram.generators.autoregressive.rar_tables import MORE_POSITIONS
from imagegram.generators.autoregressive.sizes import ChunkSizes, RarSizes
from imagegram.generators.learned import Architecture
from imagegram.models.checkpoints import Shapes, num_blocks, require_family

#: Families of weights, by ``generator.backbone``.
FAMILIES: Final = {"gpt": "gpt of this package", "rar": "RAR", "chunk": "chunks of this package"}


def sizes_in(shapes: Shapes, *, backbone: str, setting: str) -> Architecture:
    """Return the sizes of the network that some weights are of.

    Raises:
        ConfigError: for weights of another family, or without a part that tells the sizes.
    """
    require_family(shapes, FAMILIES[backbone], setting=setting)
    try:
        return {"rar": _rar, "gpt": _gpt, "chunk": _chunk}[backbone](shapes)
    except KeyError as error:
        raise ConfigError(
            f"{setting}: the weights of {FAMILIES[backbone]} lack {error}; give the whole file"
        ) from error


def _rar(shapes: Shapes) -> RarSizes:
    width = shapes["cls_token"][-1]
    vocab_size = shapes["lm_head.weight"][0]
    return RarSizes(
        vocab_size=vocab_size,
        num_tokens=shapes["pos_embed"][1] - MORE_POSITIONS,
        width=width,
        depth=num_blocks(shapes, "blocks."),
        num_heads=width // shapes["blocks.0.attn.q_norm.weight"][0],
        num_classes=shapes["embeddings.weight"][0] - vocab_size - 2,
        hidden=shapes["blocks.0.mlp.fc1.weight"][0],
        dropout=0.0,  # no weights tell it, and samples have none
    )


def _gpt(shapes: Shapes) -> Architecture:
    vocab_size, width = shapes["ids"]
    head = shapes["transformer.blocks.0.attention.query_norm.weight"][0]
    return Architecture(
        vocab_size=vocab_size,
        num_tokens=shapes["positions"][0],
        width=width,
        depth=num_blocks(shapes, "transformer.blocks."),
        num_heads=width // head,
        num_classes=shapes["classes"][0] - 1 if "classes" in shapes else 0,
    )


def _chunk(shapes: Shapes) -> ChunkSizes:
    plain = _gpt(shapes)
    return ChunkSizes(
        **plain.arguments(),
        chunk_size=shapes["hand.weight"][0] // plain.width,
        local_depth=num_blocks(shapes, "local.blocks."),
    )
