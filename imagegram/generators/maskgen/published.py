"""Sizes of a network of this family, read from the names and shapes of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagegram.errors import ConfigError
from imagegram.generators.maskgen.sizes import CaptionedArchitecture, MmditSizes
from imagegram.generators.maskgit.published import transformer_sizes
from imagegram.models.checkpoints import Shapes, num_blocks, require_family

if TYPE_CHECKING:
    from torch import Tensor

    from imagegram.encoders.sentences import SentenceEmbedder

#: Families of weights, by ``generator.backbone``.
FAMILIES: Final = {"transformer": "maskgen of this package", "mmdit": "MaskGen-VQ"}
#: Rows of a published table behind its ids: the mask, 1,000 classes and no class.
_MORE_ROWS: Final = 1002
#: What some published files have twice, as the ids' table is also the head's matrix.
_HEAD: Final = "lm_head.weight"
_TABLE: Final = "embeddings.weight"


def sizes_in(
    shapes: Shapes, *, backbone: str, aesthetic_score: float | None, setting: str
) -> CaptionedArchitecture | MmditSizes:
    """Return the sizes of the network that some weights are of; one head where they do not tell.

    Args:
        shapes: names and shapes of the weights.
        backbone: the network that they are for.
        aesthetic_score: what the published network is to be told; None: nothing.
        setting: how the weights are asked for.

    Raises:
        ConfigError: for weights of another family, without a part that tells the sizes, or that
            read a score where there is none, or none where there is.
    """
    family = FAMILIES[backbone]
    require_family(shapes, family, setting=setting)
    try:
        if backbone == "mmdit":
            return _mmdit(shapes, aesthetic_score, setting)
        return CaptionedArchitecture(
            **transformer_sizes(shapes).arguments(),
            text_dim=shapes["text.project.weight"][1],
            text_length=shapes["text.places"][0],
        )
    except KeyError as error:
        raise ConfigError(
            f"{setting}: the weights of {family} lack {error}; give the whole file"
        ) from error


def _mmdit(shapes: Shapes, aesthetic_score: float | None, setting: str) -> MmditSizes:
    rows, width = shapes[_TABLE]
    text_dim = shapes["text_embed_proj.weight"][1]
    reads_score = shapes["cond_pooled_proj.weight"][1] != text_dim
    refuse_other_score(aesthetic_score, reads_score=reads_score, setting=setting)
    return MmditSizes(
        vocab_size=rows - _MORE_ROWS,
        num_tokens=shapes["pos_embed"][1],
        width=width,
        depth=num_blocks(shapes, "blocks."),
        num_heads=1,
        text_dim=text_dim,
        aesthetic_score=aesthetic_score,
    )


def refuse_other_score(aesthetic_score: float | None, *, reads_score: bool, setting: str) -> None:
    """Refuse weights that read an aesthetic score where there is none, or none where there is.

    Raises:
        ConfigError: with what to type.
    """
    if reads_score != (aesthetic_score is not None):
        known, word = ("an", "6.5") if reads_score else ("no", "null")
        given = "null" if aesthetic_score is None else aesthetic_score
        raise ConfigError(
            f"{setting}: the weights read {known} aesthetic score, but "
            f"generator.aesthetic_score={given}; type generator.aesthetic_score={word}"
        )


def refuse_other_reader(text_dim: int, embedder: SentenceEmbedder, *, setting: str) -> None:
    """Refuse weights that read states of another length than a text encoder gives.

    Raises:
        ConfigError: with what to type.
    """
    if text_dim != embedder.dim:
        raise ConfigError(
            f"{setting}: the weights read captions as vectors of {text_dim} numbers, but "
            f"generator.embedder={embedder.name} gives {embedder.dim}; give the text encoder of "
            "their training, of the published ones CLIP ViT-L/14-336: "
            "generator.embedder.folder=FOLDER"
        )


def without_head(tensors: dict[str, Tensor], *, setting: str) -> dict[str, Tensor]:
    """Return published weights without the head, which is the table of ids.

    Raises:
        ConfigError: for a head of its own.
    """
    if _HEAD not in tensors or _TABLE not in tensors:
        return tensors
    if not tensors[_HEAD].equal(tensors[_TABLE]):
        raise ConfigError(
            f"{setting}: {_HEAD} is not {_TABLE}, of which published heads are a part; give a file "
            "of a network whose head is tied, as all published ones are"
        )
    return {name: tensor for name, tensor in tensors.items() if name != _HEAD}
