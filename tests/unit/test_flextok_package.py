"""FlexTok with its package: a small model of the package's own classes, with random weights."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip(
    "flextok", reason="the package flextok is not installed: pip install -e '.[flextok]'"
)

import torch
from flextok import vae_wrapper
from flextok.utils import demo
from flextok.utils.checkpoint import load_model_from_safetensors
from PIL import Image
from torchvision import transforms

from imagegram.errors import ConfigError
from imagegram.records import Images, Tokens
from imagegram.tokenizers.flextok import model as flextok_model
from imagegram.tokenizers.flextok.tokenizer import FlexTokTokenizer
from tests import flextok_models
from tests.pictures import ids_of, noise

IMAGES = [
    noise(0, size=50),
    noise(3, size=50)[:37, :11],
    noise(3, size=50)[:1, :1],
    np.zeros((9, 200, 3), np.uint8),
    np.full((3, 3, 3), 255, np.uint8),
    noise(5, size=65),
]
#: Deprecated indexing inside the package.
pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")


@pytest.fixture(scope="module", autouse=True)
def small_vae() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices are too small to be shared
    with pytest.MonkeyPatch.context() as patch:
        for key, value in flextok_models.SMALL_VAE.items():
            patch.setitem(vae_wrapper.VAE_BASE_CFG, key, value)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, small_vae: None) -> Path:
    return flextok_models.write(tmp_path_factory.mktemp("flextok") / "model.safetensors")


@pytest.fixture(scope="module")
def package(file: Path) -> Any:
    """The same checkpoint, loaded by the package; attention as on a machine without GPU."""
    network = load_model_from_safetensors(str(file))
    for module in network.modules():
        if hasattr(module, "use_flex_attention"):
            module.use_flex_attention = False
        if hasattr(module, "return_materialized_mask"):
            module.return_materialized_mask = True
    network.vae.sample_posterior = False
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer(file: Path) -> FlexTokTokenizer:
    return FlexTokTokenizer(
        name="small", checkpoint=str(file), image_size=32, timesteps=2, device="cpu"
    )


@pytest.fixture(scope="module")
def ids(tokenizer: FlexTokTokenizer) -> Tokens:
    return tokenizer.encode(prepared(tokenizer)).documents


def prepared(tokenizer: FlexTokTokenizer) -> Images:
    return np.stack([tokenizer.prepare(image) for image in IMAGES])


# ----------------------------------------------------------------------------------- the same as


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_preprocessing_is_torchvision_s(interpolation: str) -> None:
    theirs = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(256),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.5] * 3, std=[0.5] * 3),
        ]
    )
    tokenizer = FlexTokTokenizer(interpolation=interpolation)
    sizes = [(256, 256), (300, 256), (257, 511), (1, 1), (97, 31), (31, 98), (640, 427), (300, 301)]
    for number, (height, width) in enumerate(sizes):
        image = noise(number, size=640)[:height, :width]
        ours = flextok_model.normalized(tokenizer.prepare(image)[None])
        assert torch.equal(ours[0], theirs(Image.fromarray(image))), (height, width)


def test_encoding_is_the_package_s(tokenizer: FlexTokTokenizer, package: Any, ids: Tokens) -> None:
    assert ids.shape == (len(IMAGES), 16)
    assert ids.dtype == np.uint16
    assert len(np.unique(ids, axis=0)) == len(IMAGES)
    for row, image in zip(ids, prepared(tokenizer), strict=True):
        (theirs,) = package.tokenize(flextok_model.normalized(image[None]))
        assert row.tolist() == theirs[0].tolist()


@pytest.mark.parametrize(
    ("length", "guidance"),
    [
        *((length, (7.5, True)) for length in (1, 2, 7, 15, 16)),
        (7, (3.0, False)),
        (16, (1.0, False)),
    ],
)
def test_decoding_is_the_package_s(
    tokenizer: FlexTokTokenizer,
    package: Any,
    ids: Tokens,
    length: int,
    guidance: tuple[float, bool],
) -> None:
    scale, norm = guidance
    ours = dataclasses.replace(tokenizer, guidance_scale=scale, norm_guidance=norm)
    rows = ids[:2, :length]
    for row, picture in zip(rows.astype(np.int64), ours.decode(rows), strict=True):
        theirs = package.detokenize(
            [torch.from_numpy(row[None])],
            vae_image_sizes=4,
            timesteps=2,
            generator=torch.Generator().manual_seed(seed_of(row, 0)),
            verbose=False,
            guidance_scale=scale,
            perform_norm_guidance=norm,
        )
        np.testing.assert_array_equal(picture, np.asarray(demo.batch_to_pil(theirs)))


def seed_of(row: Tokens, decode_seed: int) -> int:
    import hashlib

    content = np.array([decode_seed, *row], dtype="<i8").tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")


def test_a_short_tokenizer_keeps_the_first_ids(tokenizer: FlexTokTokenizer, ids: Tokens) -> None:
    short = dataclasses.replace(tokenizer, num_tokens=5)
    found = short.encode(prepared(short)).documents
    np.testing.assert_array_equal(found, ids[:, :5])
    np.testing.assert_array_equal(short.decode(found), tokenizer.decode(ids[:, :5]))


# ------------------------------------------------------------------------------ rows and batches


def test_rows_do_not_depend_on_the_batch(tokenizer: FlexTokTokenizer, ids: Tokens) -> None:
    images = prepared(tokenizer)
    for row, image in enumerate(images):
        np.testing.assert_array_equal(tokenizer.encode(image[None]).documents[0], ids[row])
    np.testing.assert_array_equal(tokenizer.encode(images[::-1]).documents[::-1], ids)
    pictures = tokenizer.decode(ids)
    for row in range(len(ids)):
        np.testing.assert_array_equal(tokenizer.decode(ids[row : row + 1])[0], pictures[row])
    twice = tokenizer.decode(np.stack([ids[0], ids[1], ids[0]]))
    np.testing.assert_array_equal(twice[0], twice[2])


def test_batches_are_filled_up(
    tokenizer: FlexTokTokenizer, ids: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With FlexAttention the network sees ``batch_size`` rows; here without compiling it."""
    monkeypatch.setattr(flextok_model.Runtime, "rows", 4)
    seen: list[int] = []
    encode = flextok_model.FlexTokModel._by_rows

    def watched(self: Any, function: Any, rows: Any) -> Any:
        def counted(some: Any) -> Any:
            seen.append(len(some))
            return function(some)

        return encode(self, counted, rows)

    monkeypatch.setattr(flextok_model.FlexTokModel, "_by_rows", watched)
    images = prepared(tokenizer)
    together = tokenizer.encode(images).documents
    alone = np.concatenate([tokenizer.encode(image[None]).documents for image in images])
    np.testing.assert_array_equal(together, alone)
    pictures = tokenizer.decode(ids[:5])
    for row in (0, 4):
        np.testing.assert_array_equal(tokenizer.decode(ids[row : row + 1])[0], pictures[row])
    assert set(seen) == {4}


def test_pictures_depend_on_ids_seed_and_prefix(tokenizer: FlexTokTokenizer, ids: Tokens) -> None:
    picture = tokenizer.decode(ids[:1])
    other = ids[:1].copy()
    other[0, 0] = (other[0, 0] + 1) % 200
    reseeded = dataclasses.replace(tokenizer, decode_seed=1)
    for changed in (
        tokenizer.decode(other),
        tokenizer.decode(ids[:1, :8]),
        reseeded.decode(ids[:1]),
    ):
        assert (changed != picture).mean() > 0.1
    assert tokenizer.decode(ids[:1], output_size=24).shape == (1, 24, 24, 3)


def test_a_sampled_posterior_is_seeded_by_the_image(
    tokenizer: FlexTokTokenizer, ids: Tokens
) -> None:
    sampled = dataclasses.replace(tokenizer, posterior="sample")
    images = prepared(sampled)
    torch.manual_seed(0)
    first = sampled.encode(images).documents
    torch.manual_seed(1)
    np.testing.assert_array_equal(sampled.encode(images[::-1]).documents[::-1], first)
    assert (first != ids).any()
    np.testing.assert_array_equal(tokenizer.encode(images).documents, ids)  # the model is shared


def test_threads_load_one_model_and_leave_the_random_state(
    tokenizer: FlexTokTokenizer, ids: Tokens
) -> None:
    flextok_model._loaded.cache_clear()
    state = torch.random.get_rng_state()
    found: list[Images] = []
    threads = [
        threading.Thread(target=lambda: found.append(tokenizer.decode(ids[:1, :2])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert flextok_model._loaded.cache_info().misses == 1
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all((picture == found[0]).all() for picture in found)


def test_bfloat16_runs(tokenizer: FlexTokTokenizer, ids: Tokens) -> None:
    low = dataclasses.replace(tokenizer, dtype="bfloat16")
    found = low.encode(prepared(low)[:2]).documents
    assert (found == ids[:2]).mean() > 0.5
    assert np.abs(low.decode(ids[:1]).astype(int) - tokenizer.decode(ids[:1])).mean() < 8


# -------------------------------------------------------------------------------------- checkpoints


def test_a_configuration_beside_the_weights(file: Path, tmp_path: Path, ids: Tokens) -> None:
    path = flextok_models.write(tmp_path / "model.safetensors", in_header=False)
    path.with_name("config.json").write_text(json.dumps(flextok_models.config()))
    beside = FlexTokTokenizer(checkpoint=str(path), num_tokens=16, image_size=32, device="cpu")
    np.testing.assert_array_equal(ids_of(beside, IMAGES[0]), ids[0])


def test_weights_of_another_model(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    header = {key: str(value) for key, value in flextok_models.config().items()}
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path, header)
    other = FlexTokTokenizer(checkpoint=str(path), num_tokens=16, image_size=32, device="cpu")
    with pytest.raises(ConfigError, match="not those of its configuration"):
        ids_of(other, IMAGES[0])


def test_every_allowed_name_is_there() -> None:
    from hydra.utils import get_object

    from imagegram.tokenizers.flextok.config import _TARGETS

    for name in _TARGETS:
        assert callable(get_object(name))


# ------------------------------------------------------------------------------------ an experiment


def test_an_experiment_from_images_to_pictures(
    tokenizer: FlexTokTokenizer,
    file: Path,
    run_here: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [
        "tokenizer=flextok_d18_d28_dfn",
        f"tokenizer.checkpoint={file}",
        "tokenizer.image_size=32",
        "tokenizer.timesteps=2",
        "tokenizer.device=cpu",
        "sampler=infinigram",
        "metric=[copying]",
        "planted=[]",
        "num_samples=3",
    ]
    outputs = tmp_path / "outputs"
    run_here(*words, outputs=outputs)
    (samples,) = (outputs / "artifacts" / "samples").glob("*")
    tokens, pictures = np.load(samples / "tokens.npy"), np.load(samples / "images.npy")
    assert tokens.shape == (3, 16)
    assert tokens.max() < 200
    np.testing.assert_array_equal(pictures, tokenizer.decode(tokens))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the first tokens are cut from the files of all")

    monkeypatch.setattr(flextok_model.FlexTokModel, "encode", refuse)
    run_here(*words, "tokenizer.num_tokens=4", outputs=outputs)
