"""Records names, outputs and samples of the authors' MaskGen-VQ and -KL, for tests of networks.

    python -m tests.recorded.record_maskgen CHECKOUT_OF_1D_TOKENIZER

It needs diffusers and einops besides (``tests/unit/test_maskgen_vq.py`` and
``test_maskgen_kl_published.py`` read the file). Modules that the checkout imports for its other
classes are stood in for, and so are the graphics device and random numbers; what a text encoder
would say of a caption is filled in.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from tests.unit.test_maskgen_vq import filled, said

OUT = Path(__file__).with_name("maskgen.json")
SIZES = {"vocab_size": 11, "num_tokens": 6, "width": 8, "depth": 2, "num_heads": 2, "text_dim": 5}
SCORE = 6.5
CAPTIONS = ["red", "a blue car", "snow"]
#: Width and depth of the published ones.
PUBLISHED = {"l": (1024, 16), "xl": (1280, 20)}
SIZES_KL = {"num_latents": 4, "latent_size": 3, "width": 8, "depth": 2, "num_heads": 2}
SIZES_KL |= {"head_width": 6, "head_depth": 2, "text_dim": 5}
#: Places in the order in which they stay masked; steps of the diffusion; factor of the latents.
ORDER, DIFFUSION_STEPS, SCALE = [2, 0, 3, 1], 5, 0.7525


def upstream(checkout: Path) -> Any:
    """The module of the checkout."""
    for name in ("modeling", "modeling.modules"):
        package: Any = types.ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    sys.modules["modeling.modules"].BaseModel = nn.Module  # type: ignore[attr-defined]
    absent = ("modules.perceptual_loss", "modules.discriminator", "quantizer")
    for name in (*(f"modeling.{each}" for each in absent), "open_clip", "open_clip.transformer"):
        sys.modules[name] = MagicMock()
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


def config_kl(**sizes: int) -> Any:
    """The configuration of a network over latents."""
    vq_model = {"num_latent_tokens": sizes["num_latents"], "token_size": sizes["latent_size"]}
    vq_model |= {"scale_factor": SCALE, "text_embed_dim": sizes["text_dim"]}
    generator = {
        "decoder_embed_dim": sizes["width"],
        "decoder_depth": sizes["depth"],
        "decoder_num_heads": sizes["num_heads"],
        "micro_condition": True,
        "micro_condition_embed_dim": 256,
        "text_drop_prob": 0.1,
    }
    losses = {"diffloss_d": sizes["head_depth"], "diffloss_w": sizes["head_width"]}
    losses["num_sampling_steps"] = str(DIFFUSION_STEPS)
    dataset = {"preprocessing": {"crop_size": 256}}
    model = {"vq_model": vq_model, "maskgen": generator}
    return OmegaConf.create({"model": model, "losses": losses, "dataset": dataset})


def shuffled(order: Any) -> None:
    """Put the places of latents into the order of the record."""
    order[:] = ORDER


@torch.no_grad()
def recorded_kl(module: Any) -> dict[str, Any]:
    """Names, shapes, what is known of latents, and samples from noise that is filled in."""
    network = module.MaskGen_KL(config_kl(**SIZES_KL)).eval()
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: filled(name, shape) for name, shape in shapes.items()})
    passes: list[int] = []
    steps: list[int] = []

    def start(*shape: int) -> Tensor:
        passes.append(len(passes))
        return 2 * filled(f"start {passes[-1]}", list(shape))

    def noise(like: Tensor) -> Tensor:
        steps.append(len(steps))
        half = filled(f"noise {steps[-1]}", [len(like) // 2, *like.shape[1:]])
        return 2 * torch.cat((half, half))

    with (
        patch.object(torch.Tensor, "cuda", lambda self: self),
        patch.object(torch, "full", without_device(torch.full)),
        patch.object(torch, "randn", start),
        patch.object(torch, "randn_like", noise),
        patch.object(np.random, "shuffle", shuffled),
    ):
        made = network.sample_tokens(
            3, None, None, num_iter=4, cfg=3.0, captions=CAPTIONS, aes_scores=SCORE
        )
    samples = made.squeeze(2).transpose(1, 2)
    masked = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]])
    states, vectors = encoded(None, None, CAPTIONS)
    score = network.get_sinusoidal_encoding(torch.full((3,), SCORE) * 100)
    given = network.text_pooled_emb(torch.cat((vectors.squeeze(1), score), dim=1)[:, None])
    latents = filled("latents", [3, 4, 3])
    known = torch.cat(  # its rows have one number of masked latents
        [
            network.forward_mae_decoder(
                latents[row], masked[row], network.text_emb(states[row]), given[row]
            )
            for row in (slice(0, 1), slice(1, 2), slice(2, 3))
        ]
    )
    times = torch.tensor([0.0, 500.0, 999.0])
    said_of = network.diffloss.net(latents[:, 0], times, known[:, 0])
    found = {"sizes": SIZES_KL, "scale": SCALE, "order": ORDER, "steps": DIFFUSION_STEPS}
    found |= {"masked": masked.tolist(), "known": rounded(known), "said": rounded(said_of)}
    found["before"] = [before(network.diffloss.gen_diffusion, i) for i in range(DIFFUSION_STEPS)]
    return {**found, "shapes": shapes, "samples": rounded(samples)}


def before(diffusion: Any, step: int) -> Any:
    """What was there before a step of a diffusion, whatever a network said of it."""
    now, out = filled(f"now {step}", [2, 3]), filled(f"said {step}", [2, 6])
    with patch.object(torch, "randn_like", lambda like: filled("drawn", list(like.shape))):
        found = diffusion.p_sample(
            lambda *given: out, now, torch.tensor([step, step]), clip_denoised=False
        )
    return rounded(found["sample"])


def without_device(full: Any) -> Any:
    """Return ``torch.full`` that makes its numbers on the processor."""
    return lambda *given, device=None, **more: full(*given, **more)


def count_kl(module: Any, width: int, depth: int) -> int:
    """The number of weights of a published network over latents."""
    sizes = {"num_latents": 32, "latent_size": 16, "num_heads": 16, "text_dim": 768}
    sizes |= {"head_width": width, "head_depth": 8}
    with torch.device("meta"):
        network = module.MaskGen_KL(config_kl(width=width, depth=depth, **sizes))
    return sum(parameter.numel() for parameter in network.parameters())


def main() -> None:
    """Write the file."""
    module = upstream(Path(sys.argv[1]))
    module.open_clip_text_encoding = encoded
    found: dict[str, Any] = {"sizes": SIZES, "score": SCORE, "captions": CAPTIONS}
    kinds = {"vq": count, "kl": count_kl}
    found["published"] = {
        f"maskgen_{kind}_{name}": counted(module, *sizes)
        for kind, counted in kinds.items()
        for name, sizes in PUBLISHED.items()
    }
    found["kl"] = recorded_kl(module)
    found["with_score"] = recorded(module, micro_condition=True)
    found["without_score"] = recorded(module, micro_condition=False)
    OUT.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
