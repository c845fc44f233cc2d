"""MaskGenKl: latents that paint, a flow for each, guidance, order, pictures and their tokens."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagegram.conditions.captions import CaptionCondition, GivenCaptions, OwnCaptions
from imagegram.conditions.label import LabelCondition
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.generators.latent_flow.denoiser import initialize_modulated
from imagegram.generators.latent_flow.stages import ImportTrained
from imagegram.generators.maskgen_kl.draws import draw
from imagegram.generators.maskgen_kl.generator import KlRecipe, MaskedRecipe, MaskGenKlGenerator
from imagegram.generators.maskgen_kl.model import MaskGenKlModel
from imagegram.generators.maskgen_kl.network import MaskedLatents
from imagegram.generators.maskgen_kl.sampling import fill_in, follow, guided_velocity
from imagegram.generators.maskgen_kl.settings import ImageAutoencoder
from imagegram.metrics.caption_errors import CaptionErrorsMetric
from imagegram.models.cores import one_core
from imagegram.models.pictures import to_float
from imagegram.models.transformer import build
from imagegram.protocols import Paints
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.masked import MaskedSampler
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.stages.captions import embed_asked
from imagegram.stages.decoding import encoded_pictures
from imagegram.store.fingerprint import identity
from imagegram.store.weights import AUTOENCODER, MODEL
from imagegram.tokenizers.pyramid import PyramidTokenizer
from imagegram.training.draws import ERRORS
from imagegram.training.draws import generator as generator_of
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import TrainSegment, train_in_segments
from tests.captioned import COLOURS, NAMES, Plain, captioned, text_encoder
from tests.image_sets import MemoryImages, MemoryReference
from tests.pictures import context
from tests.toy_training import bytes_of, optimization

SAMPLER = MaskedFlowSampler(name="masked_flow", steps=2, flow_steps=8)
LAYOUT: Any = None


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEmbedder:
    return text_encoder(tmp_path_factory.mktemp("encoder"), max_tokens=5)


@pytest.fixture(scope="module")
def generator(embedder: SentenceEmbedder) -> MaskGenKlGenerator:
    autoencoder = ImageAutoencoder(
        image_size=8,
        patch_size=4,
        num_latents=2,
        latent_size=3,
        width=16,
        depth=1,
        num_heads=2,
        optimization=optimization(steps=100, learning_rate=1e-2, gradient_clip_val=1.0),
    )
    return MaskGenKlGenerator(
        autoencoder=autoencoder,
        width=16,
        depth=1,
        num_heads=2,
        head_width=32,
        head_depth=2,
        embedder=embedder,
        optimization=optimization(steps=160, learning_rate=1e-2, gradient_clip_val=1.0),
    )


def train(root: Path, recipe: Any, **options: Any) -> Any:
    items = captioned(Plain(), [*NAMES] * 4, recipe.generator.embedder, root)
    steps = recipe.optimization.steps
    whole = TrainSegment(
        objective=recipe.objective(),
        optimization=recipe.optimization,
        items=items,
        validation=items,
        last_step=steps,
        trainer=TrainerOptions(**{"accelerator": "cpu", "segment_steps": steps} | options),
    )
    made_in = context(root)
    return made_in, train_in_segments(made_in, whole, description="toy")


@pytest.fixture(scope="module")
def made(
    generator: MaskGenKlGenerator, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MaskGenKlModel, dict[str, Any], dict[str, Any]]:
    """A model of pictures of one named colour, and the last points of both trainings."""
    from imagegram.store.manifest import Artifact
    from imagegram.training.state import TrainingState

    root, out = tmp_path_factory.mktemp("kl"), tmp_path_factory.mktemp("model")
    with one_core():
        first = KlRecipe(generator=generator)
        _, painter = train(root, first)
        first.write_trained(out, TrainingState.read(painter.state), None)  # type: ignore[arg-type]
        (out / "model.safetensors").rename(out / "first.safetensors")
        then = MaskedRecipe(
            generator=generator, tokenizer=PyramidTokenizer(name="pyramid", sizes=(1, 2))
        ).begun(out / "first.safetensors")
        _, flow = train(root, then)
        then.write_trained(out, TrainingState.read(flow.state), None)  # type: ignore[arg-type]
    artifact = Artifact(path=out, manifest=flow.artifact.manifest)
    return then.trained(artifact), painter.history[-1], flow.history[-1]


def test_both_trainings_learn(made: Any) -> None:
    _, painter, flow = made
    assert painter["val/psnr_caption"] > 15
    assert painter["val/bits_per_latent"] > 0
    assert flow["val/error"] < flow["val/error_other_caption"] - 0.1
    assert flow["val/error"] < flow["val/error_no_caption"]


def test_pictures_are_of_the_caption_that_is_asked_for(made: Any) -> None:
    model = made[0]
    assert isinstance(model, Paints)
    samples, given = np.arange(40, dtype=np.uint64), GivenCaptions(texts=NAMES, key="caption")
    every = model.paint(samples, sampler=SAMPLER, seed=3, condition=given)
    assert every.shape == (40, 8, 8, 3)
    means = every.reshape(40, -1, 3).mean(axis=1)
    colours = np.array(list(COLOURS.values()))
    nearest = np.linalg.norm(means[:, None] - colours, axis=-1).argmin(axis=1)
    assert (nearest == np.arange(40) % len(NAMES)).mean() > 0.6
    some = model.paint(samples[[33, 2]], sampler=SAMPLER, seed=3, condition=given)
    np.testing.assert_array_equal(some, every[[33, 2]])
    plain = model.paint(samples[:3], sampler=SAMPLER, seed=3)
    assert (plain != every[:3]).any()
    tokens, trace = model.generate(
        samples[:3], sampler=SAMPLER, layout=LAYOUT, seed=3, condition=given
    )
    assert trace == {}
    np.testing.assert_array_equal(tokens, encoded_pictures(model.tokenizer, every[:3]))


MEASURED = dataclasses.replace(SAMPLER, error_draws=6)


def pictures(count: int) -> Any:
    return Plain().gather(np.arange(count))


def test_errors_are_those_of_a_slow_loop(made: Any) -> None:
    """One latent at a time, from the definition of the flow, for a picture that is resized."""
    model, (autoencoder, flow) = made[0], made[0].networks
    image = pictures(3)[2].repeat(2, axis=0).repeat(2, axis=1)
    asked = OwnCaptions(texts=("blue",), others=("red",), key="caption")
    sample = np.array([9], np.uint64)
    found = model.errors([image], sample, sampler=MEASURED, seed=3, condition=asked)
    assert {name: array.shape for name, array in found.items()} == dict.fromkeys(
        ("error_none", "error", "error_other"), (1, 6)
    )
    drawn = draw(6, model.sizes, generator_of(seed=3, purpose=ERRORS, number=9))
    assert 0 < drawn.masked.mean() < 1
    with torch.inference_mode():
        gaussians = autoencoder.encode(to_float(torch.from_numpy(pictures(3)[2:])))
        for name, text in (("error", "blue"), ("error_other", "red"), ("error_none", None)):
            given = embed_asked([text], model.embedder)
            states, there = torch.from_numpy(given.states), torch.from_numpy(given.there)
            for number in range(6):
                latents = (
                    gaussians.mean[0] + gaussians.log_variance[0].exp().sqrt() * drawn.noise[number]
                )
                goal = ((latents - flow.shift) / flow.scale).float()
                masked = torch.from_numpy(drawn.masked[number])
                known = flow(goal[None], masked[None], states, there)[0]
                errors = []
                for place in np.flatnonzero(drawn.masked[number]):
                    for begin, time in zip(
                        drawn.start[number, place], drawn.times[number, place], strict=True
                    ):
                        begin = torch.from_numpy(begin)
                        now = begin + float(time) * (goal[place] - begin)
                        said = flow.velocity(now[None], torch.tensor([time]), known[None, place])
                        errors.append(float((said[0] - (goal[place] - begin)).square().mean()))
                assert found[name][0, number] == pytest.approx(np.mean(errors), rel=1e-4)


def test_errors_do_not_depend_on_the_other_pictures(made: Any) -> None:
    model, samples = made[0], np.arange(7, dtype=np.uint64)
    asked = OwnCaptions.beside((*NAMES[:6], None), GivenCaptions(texts=NAMES, key="caption"))
    how: dict[str, Any] = {"sampler": MEASURED, "seed": 2}
    every = model.errors(iter(pictures(7)), samples, condition=asked, **how)
    for row in (0, 5, 6):
        one = dataclasses.replace(
            asked, texts=asked.texts[row : row + 1], others=asked.others[row : row + 1]
        )
        found = model.errors(
            pictures(7)[row : row + 1], samples[row : row + 1], condition=one, **how
        )
        for name, errors in found.items():
            np.testing.assert_array_equal(errors[0], every[name][row])
    np.testing.assert_array_equal(every["error"][6], every["error_none"][6])  # it has no caption
    plain = model.errors(pictures(7), samples, **how)
    assert list(plain) == ["error_none"]
    np.testing.assert_array_equal(plain["error_none"], every["error_none"])
    assert (
        every["error"] != model.errors(pictures(7), samples + 1, condition=asked, **how)["error"]
    ).any()


def test_the_right_caption_has_the_smaller_error_of_real_and_of_painted_pictures(made: Any) -> None:
    model, samples = made[0], np.arange(24, dtype=np.uint64)
    given = GivenCaptions(texts=NAMES, key="caption")
    painted = model.paint(samples, sampler=MEASURED, seed=3, condition=given)
    own = model.condition_of([{"caption": name} for name in NAMES * 4], given)
    for images, asked in ((pictures(24), own), (painted, given)):
        trace = model.errors(images, samples, sampler=MEASURED, seed=3, condition=asked)
        found = caption_errors(trace)
        assert found["caption_saved_error"].low > 0.1
        assert found["caption_saved_error_over_none"].low > 0
        mean = trace["error_other"].mean() - trace["error"].mean()
        assert found["caption_saved_error"].value == pytest.approx(mean, rel=1e-4)


def test_errors_that_are_not_known_say_why() -> None:
    one, errors = "there is only one caption", np.ones((12, 2), np.float32)
    for trace, unknown in (
        ({"error_none": errors, "error": errors}, {"caption_other_error": one}),
        ({"error_none": errors}, {"caption_error": "type condition=caption"}),
    ):
        found = caption_errors(trace)
        assert found["caption_none_error"].value == 1.0
        for name, why in unknown.items():
            assert found[name].value is None
            assert why in found[name].note


def caption_errors(trace: Any) -> dict[str, Any]:
    tokens = np.zeros((len(trace["error_none"]), 1), np.uint16)
    images = MemoryImages(tokens, trace, None)  # type: ignore[arg-type]
    reference: Any = MemoryReference(None)  # type: ignore[arg-type]
    measured = CaptionErrorsMetric().measure(generated=images, reference=reference)
    assert measured.recipe == {"draws": str(trace["error_none"].shape[1])}
    return dict(measured.scalars)


def network(**changes: Any) -> Any:
    sizes = {"num_latents": 5, "latent_size": 2, "width": 16, "depth": 1, "num_heads": 2}
    text = {"text_dim": 4, "text_length": 3, "head_width": 16, "head_depth": 1}
    made = build(MaskedLatents, seed=1, initializer=initialize_modulated, **sizes, **text)
    with torch.no_grad():
        made.head.to_velocity.weight.mul_(20)  # type: ignore[union-attr, operator]
    return made.eval()


def captions(rows: int) -> tuple[Tensor, Tensor]:
    states = torch.randn(rows, 3, 4, generator=torch.Generator().manual_seed(0))
    return states, torch.ones(rows, 3, dtype=torch.bool)


def test_masked_latents_are_not_read_and_order_is_a_permutation() -> None:
    made, text = network(), captions(2)
    masked = torch.tensor([[True, False, True, False, False]] * 2)
    latents = torch.randn(2, 5, 2)
    with torch.no_grad():
        found = made(latents, masked, *text)
        changed = torch.where(masked[..., None], 7.0, latents)
        torch.testing.assert_close(made(changed, masked, *text), found, rtol=0, atol=0)
        assert (made(latents + 1, masked, *text) - found).abs().max() > 1e-3
    for steps in (1, 2, 3, 5, 9):
        how = MaskedFlowSampler(name="m", steps=steps)
        left = [how.num_masked(step, 5) for step in range(how.num_steps(5))]
        assert left[-1] == 0
        assert all(0 <= after < before for before, after in zip([5, *left], left, strict=False))


def test_latents_are_filled_in_as_by_hand() -> None:
    """One image, latent after latent, with two whole passes a step and the house's guidance."""
    made, text = network(), captions(1)
    how = MaskedFlowSampler(
        name="m", steps=5, flow_steps=3, guidance=Guidance(scale=2.5, schedule="linear")
    )
    samples = np.array([7], np.uint64)
    with torch.inference_mode():
        found = fill_in(made, samples, text, sampler=how, seed=4)
        many = fill_in(
            made,
            np.array([3, 7], np.uint64),
            (text[0].expand(2, -1, -1), text[1].expand(2, -1)),
            sampler=how,
            seed=4,
        )
    torch.testing.assert_close(many[1:], found, rtol=1e-4, atol=1e-5)
    from imagegram.generators.latent_flow.sampling import normal_rows
    from imagegram.seeding import uniforms

    noise = torch.from_numpy(normal_rows(seed=4, samples_B=samples, shape=(5, 2)))
    order = sorted(
        range(5), key=lambda place: uniforms(seed=4, sample=7, position=place, step=1)[0]
    )
    latents, masked = torch.zeros(1, 5, 2), torch.ones(1, 5, dtype=torch.bool)
    with torch.inference_mode():
        for step, place in enumerate(order):
            known = made(latents, masked, *text)[:, place]
            free = made(latents, masked)[:, place]
            now = noise[:, place]
            for part in range(3):
                time = torch.tensor([part / 3])
                own, none = (made.velocity(now, time, each) for each in (known, free))
                now = now + (none + how.guidance.at(step, 5) * (own - none)) / 3
            latents[:, place], masked[:, place] = now, False
    torch.testing.assert_close(found, latents, rtol=1e-4, atol=1e-4)


def test_the_flow_of_a_gaussian_has_its_moments() -> None:
    """With the exact velocity, Euler steps arrive at mean 3 and deviation 0.5."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(20_000, 1, generator=generator, dtype=torch.float64)

    def velocity(now: Tensor, times: Tensor) -> Tensor:
        t = times[:, None].double()
        spread = (1 - t) ** 2 + 0.25 * t**2
        return 3.0 + (0.25 * t - (1 - t)) / spread * (now - 3.0 * t)

    found = follow(velocity, start, num_steps=200)
    assert float(found.mean()) == pytest.approx(3.0, abs=0.02)
    assert float(found.std()) == pytest.approx(0.5, abs=0.02)


def test_a_scale_of_one_is_the_network_itself() -> None:
    made, text = network(), captions(4)
    known, now = made(torch.zeros(4, 5, 2), torch.ones(4, 5).bool(), *text)[:, 0], torch.ones(4, 2)
    own = guided_velocity(made, [known], 5.0, now, torch.zeros(4))
    twice = guided_velocity(made, [known, known + 1], 1.0, now, torch.zeros(4))
    torch.testing.assert_close(own, twice)


def test_a_killed_training_goes_on_as_if_undisturbed(
    generator: MaskGenKlGenerator, tmp_path: Path
) -> None:
    short = dataclasses.replace(
        generator,
        autoencoder=dataclasses.replace(generator.autoencoder, optimization=optimization(steps=6)),
    )
    recipe = KlRecipe(generator=short)
    _, whole = train(tmp_path / "whole", recipe)
    _, parts = train(tmp_path / "parts", recipe, segment_steps=2)
    assert bytes_of(whole.artifact.path) == bytes_of(parts.artifact.path)


def test_weights_that_a_training_wrote_are_taken_over(
    made: Any, generator: Any, tmp_path: Path
) -> None:
    model = made[0]
    taken = dataclasses.replace(generator, checkpoint=str(model.artifact.path))
    taken.check_machine()
    stage = ImportTrained(component=recipe_of(taken), source=taken.source)
    found: Any = context(tmp_path).make(stage)
    for ours, own in zip(found.networks, model.networks, strict=True):
        for name, tensor in own.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name
    again = dataclasses.replace(generator, checkpoint=str(found.artifact.path))
    again.check_machine()  # what was taken over can be taken over


def recipe_of(generator: MaskGenKlGenerator) -> MaskedRecipe:
    return MaskedRecipe(generator=generator, tokenizer=None)


def test_another_autoencoder_is_another_training(made: Any, generator: Any, tmp_path: Path) -> None:
    """The second file counts too, wherever both are."""
    found = []
    for name, change in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        folder = tmp_path / name
        shutil.copytree(made[0].artifact.path, folder)
        tensors = load_file(folder / AUTOENCODER)
        some = {key: tensor + change for key, tensor in tensors.items()}
        save_file(some, folder / AUTOENCODER)
        begins = dataclasses.replace(generator, start=str(folder))
        found.append(identity(recipe_of(begins).objective()))
    assert found[0] == found[1] != found[2]
    assert identity(recipe_of(generator).objective()) not in found


@pytest.mark.parametrize("setting", ["checkpoint", "start"])
def test_weights_that_do_not_fit_are_refused(
    setting: str, made: Any, generator: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    shutil.copytree(made[0].artifact.path, folder)
    small = dataclasses.replace(generator.autoencoder, num_latents=3, depth=2)
    long = dataclasses.replace(generator.embedder, max_tokens=7)
    for fields, words in (
        ({"width": 32}, r"of other sizes; type generator\.width=16$"),
        ({"head_depth": 1, "depth": 2}, r"type generator\.depth=1 generator\.head_depth=2$"),
        ({"autoencoder": small}, r"type generator\.autoencoder\.num_latents=2$"),
        ({"embedder": long}, r"type generator\.embedder\.max_tokens=5$"),
    ):
        with pytest.raises(ConfigError, match=rf"^generator\.{setting}=.*{words}"):
            dataclasses.replace(generator, **{setting: str(folder)}, **fields).check_machine()
    given = dataclasses.replace(generator, **{setting: str(folder)})
    both = {"checkpoint": str(folder), "start": str(folder)}
    with pytest.raises(ConfigError, match="leave one of them out"):
        dataclasses.replace(generator, **both)
    published = dataclasses.replace(generator.autoencoder, checkpoint="a/b")
    with pytest.raises(ConfigError, match=rf"generator\.{setting} brings an autoencoder"):
        dataclasses.replace(given, autoencoder=published)
    with pytest.raises(ConfigError, match=r"no page of the hub is read.* two files"):
        dataclasses.replace(generator, **{setting: "owner/page"})
    own, beside = (folder / name for name in (MODEL, AUTOENCODER))
    whole = {path: path.read_bytes() for path in (own, beside)}
    for path, content, words in (
        (own, whole[own][:700], "cut or damaged"),
        (beside, whole[beside][:700], "cut or damaged"),
        (own, whole[beside], "weights of maskgen_kl of this package were asked for"),
        (beside, whole[own], "is missing"),
        (beside, None, "autoencoder.safetensors, is not beside the file"),
    ):
        for each, before in whole.items():
            each.write_bytes(before)
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(ConfigError, match=rf"^generator\.{setting}.*{words}"):
            given.check_machine()


def test_what_cannot_work_is_refused(generator: MaskGenKlGenerator) -> None:
    guided = dataclasses.replace(SAMPLER, guidance=Guidance(scale=2.0))
    generator.check(guided, LAYOUT, CaptionCondition(name="caption"))
    generator.check(SAMPLER, LAYOUT, None)
    for how, asked, words in (
        (MaskedSampler(name="masked"), None, "sampler=masked_flow"),
        (SAMPLER, LabelCondition(name="label"), "condition=label: it reads captions"),
        (guided, None, "guides towards a caption, but none"),
    ):
        with pytest.raises(ConfigError, match=words):
            generator.check(how, LAYOUT, asked)
    wrong: Any
    for wrong, words in (
        ({"num_heads": 3}, "generator.num_heads=1"),
        ({"head_depth": 0}, "head_depth"),
        ({"caption_dropout": 1.0}, "caption_dropout=0.1"),
        ({"captions": ""}, "captions=caption"),
        (
            {"autoencoder": dataclasses.replace(generator.autoencoder, latent_size=0)},
            "autoencoder.latent_size",
        ),
        (
            {"autoencoder": dataclasses.replace(generator.autoencoder, patch_size=3)},
            "patch_size=1",
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            dataclasses.replace(generator, **wrong)
    for wrong in ({"steps": 0}, {"flow_steps": 0}, {"noise_scale": -1.0}, {"error_draws": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            MaskedFlowSampler(name="m", **wrong)
