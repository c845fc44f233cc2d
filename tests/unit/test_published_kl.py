"""Published weights of TA-TiTok's KL form: latents, pictures, sizes, and a whole run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file
from torch import Tensor

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.generators.maskgen_kl.autoencoder import ImageKl
from imagegram.generators.maskgen_kl.generator import KlRecipe, MaskedRecipe, MaskGenKlGenerator
from imagegram.generators.maskgen_kl.settings import ImageAutoencoder
from imagegram.models.cores import one_core
from imagegram.models.pictures import to_float
from imagegram.run import run_experiment
from imagegram.store.fingerprint import identity
from tests.conftest import compose
from tests.e2e.test_caption_runs import words
from tests.pictures import context
from tests.sentence_encoders import write_encoder
from tests.toy_training import optimization
from tests.unit.test_published_tokenizers import (
    RECORDED,
    filled,
    painted_by,
    pictures,
    published_text_aware,
    written,
)

SIZES = {"image_size": 16, "patch_size": 4, "num_latents": 3, "latent_size": 5}
SIZES |= {"width": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def published() -> dict[str, Tensor]:
    """Names of the KL form: twice the outputs, of which the first are the means; no codebook."""
    found = published_text_aware()
    del found["quantize.embedding.weight"]
    for name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
        more = filled(f"more.{name}", list(found[name].shape))
        found[name] = torch.cat((found[name], more))
    return found


def generator(root: Path, checkpoint: Path | None, **changes: Any) -> MaskGenKlGenerator:
    folder = write_encoder(root / "encoder", width=7, num_heads=1)
    given = None if checkpoint is None else str(checkpoint)
    return MaskGenKlGenerator(
        autoencoder=ImageAutoencoder(**{**SIZES, **changes}, checkpoint=given),  # type: ignore[arg-type]
        embedder=SentenceEmbedder(folder=str(folder), max_tokens=5, padded=True, dtype="float32"),
        optimization=optimization(),
    )


def test_latents_and_pictures_are_the_published_ones(tmp_path: Path) -> None:
    own = generator(tmp_path, written(tmp_path / "kl.bin", published()))
    own.check_machine()
    stage = MaskedRecipe(generator=own, tokenizer=None).imported
    assert stage is not None
    network = ImageKl(**KlRecipe(generator=own).architecture.arguments()).eval()
    network.load_state_dict(load_file(context(tmp_path).make(stage)))
    states = torch.from_numpy(np.stack(own.embedder.states(["a dog", ""])[0])).float()
    with torch.no_grad():
        gaussians = network.encode(to_float(torch.from_numpy(pictures())))
        painted = network.decode(gaussians.mean, states, torch.ones(2, 5).bool())
        other = network.decode(gaussians.mean)
    vectors = torch.tensor(RECORDED["pixels"]["vectors"])
    torch.testing.assert_close(gaussians.mean, vectors, rtol=0, atol=1e-5)
    assert gaussians.log_variance.std() > 0
    expected = painted_by(published(), vectors, states)
    torch.testing.assert_close((painted + 1) / 2, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(painted, other)


def test_what_follows_is_known_by_the_weights(tmp_path: Path) -> None:
    path = written(tmp_path / "kl.safetensors", published())
    trained, taken = generator(tmp_path, None), generator(tmp_path, path)
    again = generator(tmp_path, written(tmp_path / "copy.safetensors", published()))
    others = {**published(), "latent_tokens": published()["latent_tokens"] + 1}
    changed = generator(tmp_path, written(tmp_path / "other.safetensors", others))
    found = [
        identity(MaskedRecipe(generator=each, tokenizer=None).objective())
        for each in (trained, taken, again, changed)
    ]
    assert found[1] == found[2]
    assert found[0] != found[1] != found[3]
    assert "imported" not in found[0]


@pytest.mark.parametrize(
    ("changes", "drop", "said"),
    [
        ({"num_latents": 4}, "", r"checkpoint: the weights are not .*encoder\.latent"),
        ({"encoder_width": 8, "encoder_depth": 2, "encoder_heads": 2}, "", "the weights are not"),
        ({}, "decoder.text_guidance_proj.weight", "TA-TiTok were asked for, .* weights of TiTok"),
        ({}, "decoder.conv_out.bias", r"head\.smooth\.bias is missing"),
    ],
)
def test_other_weights_are_refused(
    tmp_path: Path, changes: dict[str, int], drop: str, said: str
) -> None:
    kept = {name: tensor for name, tensor in published().items() if name != drop}
    own = generator(tmp_path, written(tmp_path / "kl.bin", kept), **changes)
    with pytest.raises(ConfigError, match=said):
        own.check_machine()


def test_sizes_of_the_half_that_reads_come_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"generator\.autoencoder\.encoder_depth"):
        generator(tmp_path, None, encoder_width=8)


def test_a_run_paints_with_them(tmp_path: Path) -> None:
    path = written(tmp_path / "kl.bin", published())
    encoder = write_encoder(tmp_path / "clip", width=7, num_heads=1)
    more = [f"generator.autoencoder.{name}={value}" for name, value in SIZES.items()]
    more += [f"generator.autoencoder.checkpoint={path}", "metric=[copying]", "output_size=12"]
    more += ["sampler.steps=2", "sampler.flow_steps=2", "generator.embedder.max_tokens=5"]
    more += ["generator.embedder.padded=true", "condition=none"]
    run = tmp_path / "run"
    run.mkdir()
    own = words(tmp_path, "maskgen_kl", *more, f"generator.embedder.folder={encoder}")
    finished = run_experiment(compose(*(word for word in own if word != "condition=caption")), run)
    images = np.load(run / "samples" / "images.npy")
    assert len({image.tobytes() for image in images}) == len(images) == 4
    assert finished.scores["largest_source_share"]["value"] is not None


def test_the_preset_has_the_published_size(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip", "hidden_size": 768}')
    for file in ("model.safetensors", "tokenizer.json"):
        (tmp_path / file).touch()
    named = compose("generator=maskgen_kl_bl32", f"generator.embedder.folder={tmp_path}")
    own: Any = instantiate(named.generator, _convert_="all")
    sizes = KlRecipe(generator=own).architecture
    for latents, reads, millions, tensors in (
        (32, (768, 12, 12), 390.3, 461),
        (64, (768, 12, 12), 390.3, 461),
        (128, (512, 8, 8), 330.3, 413),
    ):
        width, depth, heads = reads
        how = {"encoder_width": width, "encoder_depth": depth, "encoder_heads": heads}
        with torch.device("meta"):
            network = ImageKl(**replace(sizes, num_latents=latents, **how).arguments())
        count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert abs(count - millions) < 0.5
        assert len(network.state_dict()) == tensors
