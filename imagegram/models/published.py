"""Published weights of TiTok and of MaskGIT's VQGAN, under our names.

Every tensor has one name there and one here; some are of another shape, and the first and last
layers of theirs see pixels in 0 ... 1 where ours see -1 ... 1, which their weights take up.

>>> renamed("encoder.transformer.3.attn.in_proj_bias", TITOK)
'encoder.transformer.blocks.3.self_attn.in_proj_bias'
>>> renamed("pixel_decoder.mid.1.norm1.weight", TITOK)
'head.decoder.middle.blocks.1.norm_1.weight'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from imagegram.models.checkpoints import Shapes, require_family, require_shapes, shapes_of

if TYPE_CHECKING:
    from torch import Tensor

SETTING: Final = "tokenizer.checkpoint"
Rules = tuple[tuple[str, str], ...]

#: Names inside both halves of the VQGAN; levels of the decoder are counted from the other end.
_CONVOLUTIONS: Final[Rules] = (
    (r"\.block\.(\d+)\.", r".blocks.\1."),
    (r"\bmid\.(\d+)\.", r"middle.blocks.\1."),
    (r"\b(norm|conv)([12])\.", r"\1_\2."),
    (r"\bnin_shortcut\.", "project."),
    (r"\bnorm_out\.", "norm."),
)
VQGAN: Final[Rules] = (
    (r"^quantize\.embedding\.weight$", "quantizer.vectors"),
    (r"^encoder\.conv_in\.", "encoder.embed."),
    (r"^encoder\.conv_out\.", "encoder.to_codes."),
    (r"^encoder\.down\.", "encoder.levels."),
    (r"^decoder\.conv_in\.", "decoder.embed_codes."),
    (r"^decoder\.conv_out\.", "decoder.to_pixels."),
    *_CONVOLUTIONS,
)
#: What only the decoder of TA-TiTok has: it reads the states of a text.
TEXT_PROJECTION: Final = "decoder.text_guidance_proj.weight"
TITOK: Final[Rules] = (
    (r"^decoder\.text_guidance_proj\.", "decoder.text.project."),
    (r"^decoder\.text_guidance_positional_embedding$", "decoder.text.places"),
    (r"^latent_tokens$", "encoder.latents"),
    (r"^quantize\.embedding\.weight$", "quantizer.vectors"),
    (r"^pixel_quantize\.embedding\.weight$", "head.vectors"),
    (r"^pixel_decoder\.conv_in\.", "head.decoder.embed_codes."),
    (r"^pixel_decoder\.conv_out\.", "head.decoder.to_pixels."),
    (r"^pixel_decoder\.", "head.decoder."),
    (r"^encoder\.patch_embed\.", "encoder.embed_patches."),
    (r"^encoder\.conv_out\.", "encoder.to_codes."),
    (r"^decoder\.decoder_embed\.", "decoder.embed_codes."),
    (r"^decoder\.mask_token$", "decoder.query"),
    (r"^decoder\.conv_out\.", "head.smooth."),
    (r"^decoder\.ffn\.2\.", "head.to_logits."),
    (r"\.positional_embedding$", ".positions"),
    (r"\.latent_token_positional_embedding$", ".latent_positions"),
    (r"\.ln_pre\.", ".transformer.norm_before."),
    (r"\.ln_post\.", ".transformer.norm."),
    (r"\.transformer\.(\d+)\.", r".transformer.blocks.\1."),
    (r"\.attn\.", ".self_attn."),
    (r"\.mlp\.c_fc\.", ".linear1."),
    (r"\.mlp\.c_proj\.", ".linear2."),
    *_CONVOLUTIONS,
    (r"\.ln_([12])\.", r".norm\1."),
)
#: What only training used; published files lack it, one's own may have it.
_UNUSED: Final = ("quantize.embed_prob",)


def renamed(name: str, rules: Rules) -> str:
    """Return our name of a published tensor."""
    for pattern, instead in rules:
        name = re.sub(pattern, instead, name)
    return name


def titok_weights(
    tensors: Mapping[str, Tensor],
    expected: Shapes,
    *,
    family: str = "TiTok",
    setting: str = SETTING,
) -> dict[str, Tensor]:
    """Return published weights of TiTok, or of TA-TiTok, under our names.

    Args:
        tensors: by their published names.
        expected: names and shapes of our network.
        family: which of them.
        setting: how the file is asked for.

    Raises:
        ConfigError: for weights of another family, or of another network.
    """
    require_family(shapes_of(tensors), family, setting=setting)
    levels = _num_levels(expected, "head.decoder.levels.")
    has_codes = "head.vectors" in expected
    first = "hidden" if has_codes else "to_patches"
    rules = (*TITOK, (r"^decoder\.ffn\.0\.", f"head.{first}."))
    ours = {
        _turned(renamed(name, rules), "head.decoder.", levels): tensor.float()
        for name, tensor in tensors.items()
        if name not in _UNUSED
    }
    if (weight := ours.get("encoder.embed_patches.weight")) is not None and weight.ndim == 4:
        # Ours see 2 (2 x - 1) of their pixels x, in patches with the colour last.
        flat = weight.permute(0, 2, 3, 1).flatten(1)
        ours["encoder.embed_patches.weight"] = flat / 4
        if (bias := ours.get("encoder.embed_patches.bias")) is not None:
            ours["encoder.embed_patches.bias"] = bias + flat.sum(dim=1) / 2
    _to_signed(ours, "head.decoder.to_pixels" if has_codes else "head.smooth")
    return _checked(ours, expected, setting=setting)


def vqgan_weights(tensors: Mapping[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
    """Return published weights of MaskGIT's VQGAN under our names; see :func:`titok_weights`."""
    require_family(shapes_of(tensors), "MaskGIT-VQGAN", setting=SETTING)
    levels = _num_levels(expected, "decoder.levels.")
    ours = {
        _turned(renamed(name, VQGAN), "decoder.", levels): tensor.float()
        for name, tensor in tensors.items()
        if name not in _UNUSED
    }
    _to_signed(ours, "decoder.to_pixels")
    return _checked(ours, expected, setting=SETTING)


def _num_levels(expected: Shapes, prefix: str) -> int:
    found = {name[len(prefix) :].partition(".")[0] for name in expected if name.startswith(prefix)}
    return len(found)


def _turned(name: str, prefix: str, levels: int) -> str:
    """Count the levels of a decoder in the order in which they paint, the coarsest first."""
    match = re.match(rf"{re.escape(prefix)}up\.(\d+)\.(upsample_conv)?\.?(.*)", name)
    if match is None:
        return name
    number, grows, rest = levels - 1 - int(match[1]), match[2], match[3]
    return f"{prefix}grow.{number}.{rest}" if grows else f"{prefix}levels.{number}.{rest}"


def _to_signed(ours: dict[str, Tensor], layer: str) -> None:
    """Let a last layer give pixels in -1 ... 1 instead of 0 ... 1."""
    if (weight := ours.get(f"{layer}.weight")) is not None:
        ours[f"{layer}.weight"] = 2 * weight
    if (bias := ours.get(f"{layer}.bias")) is not None:
        ours[f"{layer}.bias"] = 2 * bias - 1


def _checked(ours: dict[str, Tensor], expected: Shapes, *, setting: str) -> dict[str, Tensor]:
    """Return weights in our shapes: what is a matrix here may be a window of one pixel there."""
    fitting = {
        name: tensor.reshape(expected[name])
        if name in expected and _same_but_ones(tuple(tensor.shape), expected[name])
        else tensor
        for name, tensor in ours.items()
    }
    require_shapes(shapes_of(fitting), expected, setting=setting)
    return fitting


def _same_but_ones(some: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return [size for size in some if size != 1] == [size for size in other if size != 1]
