"""The ordered tokenizer: weights by content, prefixes, exact batches, refusals; its training."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from imagegram import experiment
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ConfigError, CorpusError, TokenError
from imagegram.models.transformer import build
from imagegram.run import fit_tokenizer
from imagegram.stages.split import Split
from imagegram.store.artifacts import fingerprint
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Ready
from imagegram.tokenizers.ordered_fsq.model import OrderedFsq
from imagegram.tokenizers.ordered_fsq.sizes import METADATA, Architecture
from imagegram.tokenizers.ordered_fsq.tokenizer import OrderedFsqTokenizer
from imagegram.tokenizers.weights import weights_sha256
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.pixels import PackPixels, PixelSet
from tests.conftest import compose
from tests.pictures import context, encode, noise, write_samples, write_tar

SIZES: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 8,
    "num_registers": 4,
    "levels": (5, 4, 3),
    "width": 32,
    "encoder_depth": 2,
    "decoder_depth": 2,
    "num_heads": 2,
}
OPTIMIZATION = Optimization(steps=4, batch_size=8, learning_rate=1e-3, warmup_steps=1)
TRAINER = TrainerOptions(accelerator="cpu", segment_steps=2)
RECIPE = OrderedFsqTokenizer(**SIZES, optimization=OPTIMIZATION, trainer=TRAINER)


def write_weights(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    sizes = SIZES | changes
    network = build(OrderedFsq, seed=seed, **sizes)
    sizes["levels"] = list(sizes["levels"])
    save_file(network.state_dict(), path, metadata={METADATA: json.dumps(sizes)})
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> OrderedFsqTokenizer:
    path = write_weights(tmp_path_factory.mktemp("weights") / "model.safetensors")
    return OrderedFsqTokenizer(checkpoint=str(path))


def pictures(count: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_a_checkpoint_brings_its_sizes(tokenizer: OrderedFsqTokenizer) -> None:
    assert tokenizer.batch_size == 64
    assert dataclasses.asdict(tokenizer.architecture) == SIZES
    assert tokenizer.num_tokens == 4
    assert tokenizer.spec.vocab_size == 60
    assert tokenizer.spec.layout.digits == (5, 4, 3)
    assert tokenizer.spec.layout.is_ranked
    assert tokenizer.fit(None) == Ready(tokenizer)  # type: ignore[arg-type]


def test_rows_do_not_depend_on_the_rows_beside_them(tokenizer: OrderedFsqTokenizer) -> None:
    images = pictures(37)
    together = tokenizer.encode(images).documents
    assert together.dtype == np.uint16
    assert len(np.unique(together, axis=0)) > 8
    for size in (1, 5, 16):
        parts = [tokenizer.encode(images[i : i + size]).documents for i in range(0, 37, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    np.testing.assert_array_equal(tokenizer.encode(images[::-1]).documents, together[::-1])
    painted = tokenizer.decode(together)
    for size in (1, 5):
        parts = [tokenizer.decode(together[i : i + size]) for i in range(0, 37, size)]
        np.testing.assert_array_equal(np.concatenate(parts), painted)


def test_chunks_are_what_the_network_says(tokenizer: OrderedFsqTokenizer) -> None:
    network = build(OrderedFsq, seed=0, **SIZES).eval()
    assert isinstance(network, OrderedFsq)
    images = pictures(19)
    with torch.inference_mode():
        ids = network.ids(torch.from_numpy(images).float() / 127.5 - 1)
        pixels = (network.paint(ids[:, :3]) + 1) * 127.5
    np.testing.assert_array_equal(tokenizer.encode(images).documents, ids.numpy())
    expected = pixels.clamp(0, 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(tokenizer.decode(ids[:, :3].numpy()), expected)


def test_any_prefix_is_decoded_and_lengths_are_first_tokens(
    tokenizer: OrderedFsqTokenizer,
) -> None:
    tokens = tokenizer.encode(pictures(3)).documents
    painted = [tokenizer.decode(tokens[:, :length]) for length in range(1, 5)]
    for fewer, more in itertools.pairwise(painted):
        assert (fewer != more).any()
    short = replace(tokenizer, num_tokens=2)
    assert short.encoder == tokenizer
    np.testing.assert_array_equal(short.encode(pictures(3)).documents, tokens[:, :2])
    np.testing.assert_array_equal(short.decode(tokens[:, :2]), painted[1])
    assert tokenizer.decode(tokens, output_size=9).shape == (3, 9, 9, 3)
    assert tokenizer.decode(tokens[:0]).shape == (0, 16, 16, 3)


def test_every_id_of_the_vocabulary_is_decoded(tokenizer: OrderedFsqTokenizer) -> None:
    painted = tokenizer.decode(np.arange(60)[:, None])
    assert len(np.unique(painted.reshape(60, -1), axis=0)) == 60


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.array([[60]]), "id 60 of image 0 at position 0 is not in 0 ... 59; 1 ids"),
        (np.array([[1, 2], [3, -1]]), "id -1 of image 1 at position 1"),
        (np.array([[65535]], dtype=np.uint16), "id 65535"),
        (np.zeros((1, 5), dtype=np.int64), "K in 1 ... 4"),
        (np.zeros((1, 0), dtype=np.int64), "K in 1 ... 4"),
        (np.zeros((1, 2)), "float64"),
        (np.zeros(2, dtype=np.int64), "integer ids"),
    ],
)
def test_ids_are_refused_never_wrapped(
    tokenizer: OrderedFsqTokenizer, tokens: np.ndarray[Any, Any], message: str
) -> None:
    with pytest.raises(TokenError) as error:
        tokenizer.decode(tokens)
    assert message in str(error.value)


def test_images_are_squashed_as_pillow_does(tokenizer: OrderedFsqTokenizer) -> None:
    image = noise(1)[:7]
    expected = Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(tokenizer.prepare(image), np.asarray(expected))
    encoded = tokenizer.encode([tokenizer.prepare(image)])
    (tokens,), counts = encoded.documents, encoded.counts
    assert len(tokens) == 4
    assert counts == {}
    with pytest.raises(TokenError, match="RGB image"):
        tokenizer.prepare(image.astype(np.float32))  # type: ignore[arg-type]


def test_weights_are_known_by_content(tokenizer: OrderedFsqTokenizer, tmp_path: Path) -> None:
    assert tokenizer.checkpoint is not None
    copy = tmp_path / "elsewhere.safetensors"
    shutil.copyfile(tokenizer.checkpoint, copy)
    same = replace(
        tokenizer, checkpoint=str(copy), name="x", flips=False, batch_size=3, dtype="bfloat16"
    )
    assert identity(same) == identity(tokenizer)
    assert identity(tokenizer)["weights"] == weights_sha256(copy)
    other = write_weights(tmp_path / "other.safetensors", seed=1)
    assert identity(OrderedFsqTokenizer(checkpoint=str(other))) != identity(tokenizer)
    assert identity(replace(tokenizer, num_tokens=2)) != identity(tokenizer)


def test_weights_written_anew_are_read_anew(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "model.safetensors")
    first = OrderedFsqTokenizer(checkpoint=str(path)).encode(pictures(4)).documents
    write_weights(path, seed=1)
    again = OrderedFsqTokenizer(checkpoint=str(path)).encode(pictures(4)).documents
    assert (first != again).any()


def test_what_decides_a_recipe() -> None:
    for speed in (
        {"device": "cuda"},
        {"trainer": TrainerOptions(devices=2, segment_steps=9)},
        {"batch_size": 5},
        {"dtype": "bfloat16"},
        {"compile": True},
        {"hash_cache": "x"},
        {"name": "y"},
    ):
        assert identity(replace(RECIPE, **speed)) == identity(RECIPE)  # type: ignore[arg-type]
    for result in (
        {"optimization": replace(OPTIMIZATION, seed=1)},
        {"trainer": replace(TRAINER, max_steps=3)},
        {"keep": "uniform"},
        {"width": 64},
    ):
        assert identity(replace(RECIPE, **result)) != identity(RECIPE)  # type: ignore[arg-type]


def test_it_travels_without_its_network(tokenizer: OrderedFsqTokenizer) -> None:
    before = tokenizer.encode(pictures(2)).documents
    packed = pickle.dumps(tokenizer)
    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert again == tokenizer
    assert hash(again) == hash(tokenizer)
    np.testing.assert_array_equal(again.encode(pictures(2)).documents, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (8, 8, 8, 5, 5, 6)}, "at most 65,535, got 76,800"),
        ({"levels": (5, 1)}, "numbers from 2 on"),
        ({"levels": ()}, "numbers from 2 on"),
        ({"patch_size": 5}, "tokenizer.patch_size=5 must divide tokenizer.image_size=16"),
        ({"num_heads": 3}, "tokenizer.num_heads=3 must divide"),
        ({"width": 0}, "tokenizer.width=0"),
        ({"num_tokens": 5}, "tokenizer.num_tokens=5 must lie in 1 ... 4"),
        ({"num_tokens": 0}, "type tokenizer.num_tokens=null"),
        ({"keep": "pow3"}, "did you mean 'pow2'"),
        ({"dtype": "float16"}, "tokenizer.dtype=float16"),
        ({"trainer": TrainerOptions(segment_steps=0)}, "trainer.segment_steps=0"),
        ({"trainer": TrainerOptions(devices=3)}, "tokenizer.optimization.batch_size=8"),
        ({"optimization": replace(OPTIMIZATION, steps=0)}, "tokenizer.optimization.steps=0"),
        ({"checkpoint": "nowhere.safetensors"}, "nowhere.safetensors: there is no such file"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        replace(RECIPE, **changes)
    assert message in str(error.value)


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"\x80\x04 pickled")
    for name in ("other", "noise"):
        with pytest.raises(ConfigError, match="holds no weights of this tokenizer"):
            OrderedFsqTokenizer(checkpoint=str(tmp_path / f"{name}.safetensors"))


def test_without_weights_it_says_how_to_get_them() -> None:
    with pytest.raises(ConfigError, match=r"no weights yet.*tokenizer\.checkpoint="):
        RECIPE.encode(pictures(1))


def test_an_unknown_device_is_refused(tokenizer: OrderedFsqTokenizer) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(ConfigError, match="device=cuda cannot be used"):
        replace(tokenizer, device="cuda").encode(pictures(1))


# ------------------------------------------------------------------------------ pixels and training


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> WebDatasetCorpus:
    root = tmp_path_factory.mktemp("corpus")
    broken = [("9998.png", b"\x89PNG\r\n\x1a\n"), ("9999.jpg", b"")]
    members = [(f"{n:04d}.png", encode(noise(n))) for n in range(11)]
    write_tar(root / "tars" / "0.tar", [*members, *broken])
    write_samples(root / "tars" / "1.tar", range(11, 20))
    write_samples(root / "holdout" / "0.tar", range(100, 106))
    return WebDatasetCorpus(
        tars=str(root / "tars"), holdout_tars=str(root / "holdout"), max_failed_fraction=0.2
    )


def pack(root: Path, corpus: WebDatasetCorpus) -> PixelSet:
    ctx = context(root)
    split = ctx.make(Split(corpus=corpus))
    return ctx.make(PackPixels(images=split.train, image_size=16))


def test_pixels_are_packed_in_order_and_gathered_by_row(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    pixels = pack(tmp_path, corpus)
    expected = np.stack([RECIPE.prepare(noise(n)) for n in range(20)])
    assert len(pixels) == 20
    np.testing.assert_array_equal(pixels.gather(np.arange(20)), expected)
    rows = np.array([19, 0, 11, 10, 0])
    np.testing.assert_array_equal(pixels.gather(rows), expected[rows])
    facts = [shard.facts for shard in pixels.shards]
    assert facts[0] == {"num_images": 11, "skipped": {"empty_file": 1, "truncated": 1}}
    skips = (pixels.shards[0].path / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in skips] == ["truncated", "empty_file"]
    again = pickle.loads(pickle.dumps(pixels))
    np.testing.assert_array_equal(again.gather(rows), expected[rows])


def test_too_many_unreadable_images_are_refused(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    strict = replace(corpus, max_failed_fraction=0.05)
    with pytest.raises(CorpusError, match=r"2 of 13 records.*corpus\.max_failed_fraction=0\.155"):
        pack(tmp_path, strict)


def test_fit_trains_a_tokenizer(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    points: list[tuple[int, set[str]]] = []
    ctx = replace(context(tmp_path), curves=lambda v, step: points.append((step, set(v))))
    stage = RECIPE.fit(corpus)
    assert stage is not None
    trained = ctx.make(stage)
    assert trained.checkpoint is not None
    folder = Path(trained.checkpoint).parent
    assert {p.name for p in folder.iterdir()} == {
        "model.safetensors",
        "history.jsonl",
        "reconstructions.png",
        "manifest.json",
    }
    assert [step for step, _ in points] == [2, 2, 4, 4]
    assert points[-1][1] == {"val/mse_k1", "val/mse_k2", "val/mse_k4"}
    with safe_open(trained.checkpoint, framework="np") as file:
        assert set(file.metadata()) == {"ordered_fsq"}  # of two the order would be any
    assert {tensor.dtype for tensor in load_file(trained.checkpoint).values()} == {torch.float32}
    width = Image.open(folder / "reconstructions.png").size[0]
    assert width == 6 * 64 + 5 * 2  # the six held-out images
    artifact = ctx.store.find(stage)
    assert artifact is not None
    assert artifact.facts["validated_on"] == "holdout"
    assert artifact.facts["num_items"] == 20
    assert trained.fit(corpus) == Ready(trained)
    assert trained.encode(pictures(3)).documents.shape == (3, 4)
    assert ctx.make(stage) == trained


def test_validation_falls_back_to_training_images(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    ctx = context(tmp_path)
    stage = RECIPE.fit(replace(corpus, holdout_tars=None))
    assert stage is not None
    ctx.make(stage)
    artifact = ctx.store.find(stage)
    assert artifact is not None
    assert artifact.facts["validated_on"] == "train"


def test_what_decides_a_training(corpus: WebDatasetCorpus) -> None:
    def digest(recipe: OrderedFsqTokenizer, on: WebDatasetCorpus = corpus) -> str:
        stage = recipe.fit(on)
        assert stage is not None
        return fingerprint(stage)[0]

    known = digest(RECIPE)
    assert digest(replace(RECIPE, num_tokens=2, trainer=TrainerOptions(), name="z")) == known
    assert digest(replace(RECIPE, optimization=replace(OPTIMIZATION, steps=5))) != known
    assert digest(RECIPE, replace(corpus, num_shards=1)) != known


def test_another_corpus_to_train_on_is_composed(tmp_path: Path) -> None:
    words = ("tokenizer=ordered_fsq", "corpus@train_corpus=demo_dup", f"paths.outputs={tmp_path}")
    exp = experiment.build(compose(*words))
    seen: list[Any] = []

    class Watching:
        def adopt(self, exp: Any) -> None:
            """Nothing to do."""

        def __call__(self, name: str, stage: Any) -> Any:
            seen.append((name, stage.data.corpus))
            return stage.component

    fit_tokenizer(exp, Watching())
    assert seen == [("fit_tokenizer", exp.train_corpus)]
    assert exp.train_corpus is not None
    assert exp.train_corpus.name == "demo_dup"


def test_the_real_size_is_composed() -> None:
    built = instantiate(compose("tokenizer=ordered_fsq_256").tokenizer, _convert_="all")
    assert built.num_tokens == 256
    assert built.spec.vocab_size == 64_000
    with torch.device("meta"):
        network = OrderedFsq(**dataclasses.asdict(built.architecture))
    assert sum(p.numel() for p in network.parameters()) > 160e6
    assert isinstance(built.architecture, Architecture)
