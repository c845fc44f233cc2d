"""The published MaskGen-KL: names, sizes, outputs and samples of its authors; files taken over.

``recorded/maskgen.json`` holds those of a small ``MaskGen_KL`` of bytedance/1d-tokenizer
(942a96f); ``recorded/record_maskgen.py`` wrote it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file
from torch import Tensor

from imagegram.conditions.captions import GivenCaptions
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.generators.maskgen_kl import sampling
from imagegram.generators.maskgen_kl.mmdit import LatentMmdit
from imagegram.generators.maskgen_kl.published import PublishedKlGenerator, PublishedKlRecipe
from imagegram.generators.maskgen_kl.settings import ImageAutoencoder
from imagegram.models.cores import one_core
from imagegram.models.diffusion import Steps
from imagegram.run import run_experiment
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.store.fingerprint import identity
from imagegram.store.weights import AUTOENCODER, MODEL
from tests.conftest import compose
from tests.e2e.test_caption_runs import SMALL
from tests.pictures import context
from tests.sentence_encoders import write_encoder
from tests.token_shards import FakeTokens, FakeTokenShard
from tests.unit import test_published_kl as autoencoders
from tests.unit.test_maskgen_vq import RECORDED, filled, said, written

KL = RECORDED.get("kl", {})


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def published() -> dict[str, Tensor]:
    return {name: filled(name, shape) for name, shape in KL["shapes"].items()}


def network() -> Any:
    made = LatentMmdit(**KL["sizes"], aesthetic_score=RECORDED["score"], latent_scale=KL["scale"])
    made.load_state_dict(published(), strict=True)
    return made.eval()


def states() -> Tensor:
    return torch.stack([said(text, dim=5) for text in RECORDED["captions"]])


def test_published_weights_give_the_published_outputs() -> None:
    own, latents = network(), filled("latents", [3, 4, 3])
    masked = torch.tensor(KL["masked"]).bool()
    with torch.no_grad():
        known = own(latents, masked, states())
        said_of = own.noise(latents[:, 0], torch.tensor([0.0, 500.0, 999.0]), known[:, 0])
        hidden = own(torch.where(masked[..., None], 9.0, latents), masked, states())
    torch.testing.assert_close(known, torch.tensor(KL["known"]), rtol=0, atol=1e-5)
    torch.testing.assert_close(said_of, torch.tensor(KL["said"]), rtol=0, atol=1e-5)
    assert torch.equal(hidden, known)


@pytest.mark.parametrize("step", range(5))
def test_steps_of_the_diffusion_are_the_published_ones(step: int) -> None:
    steps = Steps.spaced(KL["steps"])
    noise, variance = filled(f"said {step}", [2, 6]).chunk(2, dim=-1)
    now, normal = filled(f"now {step}", [2, 3]), filled("drawn", [2, 3])
    found = steps.before(step, now, noise, variance, normal)
    torch.testing.assert_close(found, torch.tensor(KL["before"][step]), rtol=1e-5, atol=1e-5)


def test_a_diffusion_whose_noise_is_known_ends_where_it_began() -> None:
    """From noise alone, with the noise of one goal: the least noisy step leads to it."""
    steps, goal = Steps.spaced(100), torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    rng = np.random.default_rng(0)
    now = torch.from_numpy(rng.normal(size=(1, 2)))
    for step in reversed(range(len(steps))):
        signal = float(steps.signal[step])
        noise = (now - signal**0.5 * goal) / (1 - signal) ** 0.5
        normal = torch.from_numpy(rng.normal(size=(1, 2)))
        now = steps.before(step, now, noise, -torch.ones(1, 2), normal)
    torch.testing.assert_close(now, goal, rtol=0, atol=1e-9)


def test_samples_are_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' ``sample_tokens``, four passes, guidance 3, from the same noise.

    They fill in the end of their order first, one latent in each pass.
    """
    order, num_steps, shape = KL["order"][::-1], KL["steps"], (3, 4, 3)
    start, normal = torch.zeros(shape), torch.zeros((num_steps, *shape))
    for number, place in enumerate(order):
        start[:, place] = 2 * filled(f"start {number}", [3, 3])
        for step in range(num_steps):
            drawn = num_steps * number + num_steps - 1 - step
            normal[step, :, place] = 2 * filled(f"noise {drawn}", [3, 3])

    def rows(*, step: int = 0, **_: Any) -> Any:
        return (start if step == 0 else normal[step - 2]).numpy()

    ranks = np.argsort(order) / 4
    monkeypatch.setattr(sampling, "normal_rows", rows)
    monkeypatch.setattr(sampling, "uniform_rows", lambda **_: (np.tile(ranks, (3, 1)), None))
    how = MaskedFlowSampler(
        name="kl",
        steps=4,
        flow_steps=num_steps,
        guidance=Guidance(scale=3.0, schedule="linear_ahead"),
    )
    there, own = torch.ones(3, 5, dtype=torch.bool), network()
    none = (said("", dim=5).expand(3, -1, -1), there)
    numbers = np.arange(3, dtype=np.uint64)
    with torch.inference_mode():
        latents = sampling.fill_in(own, numbers, (states(), there), none=none, sampler=how, seed=0)
    expected = torch.tensor(KL["samples"])
    torch.testing.assert_close(own.restored(latents), expected, rtol=1e-4, atol=1e-2)


# ------------------------------------------------------------------------- files are taken over

#: Over the latents of tests/unit/test_published_kl.py, of an encoder of 7 numbers.
SIZES = {"width": 8, "depth": 2, "num_heads": 2, "head_width": 6, "head_depth": 2}
HOW = MaskedFlowSampler(
    name="kl", steps=2, flow_steps=3, guidance=Guidance(scale=3.0, schedule="linear_ahead")
)


def file_of(path: Path, **changes: Any) -> Path:
    sizes = {**SIZES, "num_latents": 3, "latent_size": 5, "text_dim": 7, **changes}
    with torch.device("meta"):
        made = LatentMmdit(**{"aesthetic_score": 6.5, "latent_scale": 1.0, **sizes})
    state = made.state_dict()
    return written(path, {name: filled(name, list(each.shape)) for name, each in state.items()})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    first = autoencoders.written(tmp_path / "vae.bin", autoencoders.published())
    return file_of(tmp_path / "kl.bin"), first


def generator(root: Path, own: Path | None, first: Path | None, **changes: Any) -> Any:
    folder = write_encoder(root / "encoder", width=7, num_heads=1)
    reads = {"max_tokens": 5, "padded": True, "penultimate": True, "dtype": "float32"}
    reads |= changes.pop("embedder", {})
    given = {"checkpoint": None if first is None else str(first)}
    return PublishedKlGenerator(
        autoencoder=ImageAutoencoder(**autoencoders.SIZES, **given),  # type: ignore[arg-type]
        embedder=SentenceEmbedder(folder=str(folder), **reads),
        **{**SIZES, "checkpoint": None if own is None else str(own), **changes},
    )


def stage_of(root: Path, own: PublishedKlGenerator) -> Any:
    shard = FakeTokenShard(rows=((1, 2, 3),), labels=("red",), length=3)
    tokens: Any = context(root).make(FakeTokens(parts=(shard,)))
    return own.fit(dataclasses.replace(tokens, tokenizer=None), index=None)  # type: ignore[arg-type]


def test_published_files_paint(tmp_path: Path, files: tuple[Path, Path]) -> None:
    own = generator(tmp_path, *files)
    own.check_machine()
    model: Any = context(tmp_path).make(stage_of(tmp_path, own))
    kept = load_file(model.artifact.path / MODEL)
    expected = torch.load(files[0], weights_only=True)
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[name], each) for name, each in expected.items())
    assert (model.artifact.path / AUTOENCODER).is_file()
    samples = np.arange(4, dtype=np.uint64)
    given = GivenCaptions(texts=("red", "the wolf"), key="label")
    made = model.paint(samples, sampler=HOW, seed=1, condition=given)
    again = model.paint(samples[[2, 1]], sampler=HOW, seed=1, condition=given)
    np.testing.assert_array_equal(again, made[[2, 1]])
    assert len({picture.tobytes() for picture in made}) == 4
    told = model.told(["red", None])
    last = dataclasses.replace(own.embedder, penultimate=False).states(["red", ""])[0]
    np.testing.assert_array_equal(told.shown.states, np.stack(last))
    np.testing.assert_array_equal(told.asked.states[1], told.none.states[0])
    assert told.asked.states.shape == (2, 6, 7)
    assert not model.denoises(dataclasses.replace(HOW, error_draws=2))


def test_pictures_follow_from_both_files_the_text_encoder_and_the_score(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    own, first = files
    weights = autoencoders.published()
    weights["latent_tokens"] = weights["latent_tokens"] + 1
    others = autoencoders.written(tmp_path / "other.bin", weights)
    found = [
        json.dumps(identity(stage_of(tmp_path, generator(tmp_path, own, beside, **changes))))
        for beside, changes in (
            (first, {}),
            (first, {"device": "cuda"}),
            (others, {}),
            (first, {"aesthetic_score": 5.0}),
            (first, {"latent_scale": 1.0}),
            (first, {"embedder": {"dtype": "bfloat16"}}),
        )
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 5


def test_other_files_are_refused_in_a_sentence(tmp_path: Path, files: tuple[Path, Path]) -> None:
    own, first = files
    whole = torch.load(own, weights_only=True)
    part = {name: each for name, each in whole.items() if name != "mask_token"}
    cases: list[tuple[Path | None, Path | None, dict[str, Any], str]] = [
        (None, first, {}, r"type generator\.checkpoint=FILE, or generator=maskgen_kl_bl32"),
        (own, None, {}, r"type generator\.autoencoder\.checkpoint=FILE"),
        (file_of(tmp_path / "a.bin", width=16), first, {}, r"type generator\.width=16$"),
        (file_of(tmp_path / "b.bin", depth=1), first, {}, r"type generator\.depth=1$"),
        (file_of(tmp_path / "c.bin", text_dim=9), first, {}, "vectors of 9 numbers, .* gives 7"),
        (file_of(tmp_path / "d.bin", head_width=4), first, {}, r"type generator\.head_width=4$"),
        (written(tmp_path / "e.bin", part), first, {}, "mask_token is missing"),
        (first, first, {}, "MaskGen-KL were asked for, .* weights of TA-TiTok"),
        (own, own, {}, "TA-TiTok were asked for, .* weights of MaskGen-KL"),
        (own, first, {"aesthetic_score": None}, r"type generator\.aesthetic_score=6\.5$"),
    ]
    for one, other, changes, said_of_it in cases:
        with pytest.raises(ConfigError, match=said_of_it) as error:
            generator(tmp_path, one, other, **changes).check_machine()
        assert "\n" not in str(error.value)
    own.write_bytes(own.read_bytes()[:400])
    with pytest.raises(ConfigError, match="cut or damaged"):
        generator(tmp_path, own, first).check_machine()


def test_settings_that_contradict_are_refused(tmp_path: Path) -> None:
    for changes, said_of_it in (
        ({"embedder": {"penultimate": False}}, r"embedder\.penultimate=true"),
        ({"latent_scale": 0.0}, r"type generator\.latent_scale=0\.7525"),
        ({"aesthetic_score": float("nan")}, r"type generator\.aesthetic_score=6\.5"),
        ({"width": 9}, r"type generator\.num_heads=1"),
    ):
        with pytest.raises(ConfigError, match=said_of_it):
            generator(tmp_path, None, None, **changes)
    measured = dataclasses.replace(HOW, error_draws=2, guidance=Guidance())
    with pytest.raises(ConfigError, match=r"type sampler\.error_draws=0"):
        generator(tmp_path, None, None).check(measured, None)


@pytest.mark.parametrize("preset", ["maskgen_kl_l", "maskgen_kl_xl"])
def test_presets_have_the_published_number_of_weights(preset: str) -> None:
    own: Any = instantiate(compose(f"generator={preset}").generator, _convert_="all")
    sizes = dataclasses.replace(own.sizes, text_dim=768)
    with torch.device("meta"):
        count = sum(each.numel() for each in LatentMmdit(**sizes.arguments()).parameters())
    assert count == RECORDED["published"][preset]
    assert round(count / 1e6, 1) == {"maskgen_kl_l": 641.4, "maskgen_kl_xl": 1237.3}[preset]
    assert PublishedKlRecipe(generator=own, tokenizer=None).autoencoder.architecture.padded_text


def test_a_run_paints_with_them_and_is_audited(tmp_path: Path, files: tuple[Path, Path]) -> None:
    own, first = files
    encoder = write_encoder(tmp_path / "clip", width=7, num_heads=1)
    more = [f"generator.autoencoder.{name}={value}" for name, value in autoencoders.SIZES.items()]
    more += [f"generator.autoencoder.encoder_{name}=null" for name in ("width", "depth", "heads")]
    more += [f"generator.{name}={value}" for name, value in SIZES.items()]
    more += [f"generator.checkpoint={own}", f"generator.autoencoder.checkpoint={first}"]
    more += [f"generator.embedder.folder={encoder}", "generator.embedder.max_tokens=5"]
    more += ["generator.device=cpu", "sampler.steps=2", "sampler.flow_steps=3"]
    more += ["output_size=12", "metric=[copying]", f"paths.outputs={tmp_path}/out"]
    plain = [word for word in SMALL if not word.startswith("generator.")]
    run = tmp_path / "run"
    run.mkdir()
    finished = run_experiment(compose(*plain, "generator=maskgen_kl_l", *more), run)
    images = np.load(run / "samples" / "images.npy")
    assert len({image.tobytes() for image in images}) == len(images) == 4
    assert finished.scores["largest_source_share"]["value"] is not None
