from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from imagegram.encoders.efficientnet_lite import EfficientNetLite0
from imagegram.encoders.module import ModuleEncoder
from imagegram.encoders.pixels import PixelEncoder
from imagegram.encoders.preprocessing import bicubic
from imagegram.errors import ConfigError
from imagegram.store.fingerprint import identity

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def mean_colour() -> torch.nn.Module:
    """A factory for ``encoder.target``: maps whose mean over places is the mean colour."""
    return torch.nn.Identity()


def test_pixels_are_means_of_blocks() -> None:
    features = PixelEncoder(resolution=8).encode(IMAGES)
    blocks = IMAGES.reshape(5, 8, 4, 8, 4, 3).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(features, blocks.reshape(5, -1), rtol=1e-6)


def test_pixels_of_a_size_that_does_not_divide_keep_the_mean() -> None:
    features = PixelEncoder(resolution=5).encode(IMAGES).reshape(5, 25, 3)
    np.testing.assert_allclose(features.mean(axis=1), IMAGES.mean(axis=(1, 2)) / 255, rtol=1e-5)


def test_bicubic_keeps_a_flat_image_and_its_own_size() -> None:
    flat = np.full((1, 20, 20, 3), 77, np.uint8)
    assert torch.allclose(bicubic(flat, 64), torch.tensor(77.0), atol=1e-3)
    own = bicubic(IMAGES, 32)
    assert own.shape == (5, 3, 32, 32)
    assert float(own[2, 1, 3, 4]) == IMAGES[2, 3, 4, 1]


def test_efficientnet_features_do_not_depend_on_the_batch() -> None:
    whole = EfficientNetLite0(batch_size=5).encode(IMAGES)
    assert whole.shape == (5, 1280)
    assert whole.dtype == np.float32
    pieces = EfficientNetLite0(batch_size=2).encode(IMAGES)
    # Convolutions of other batch sizes may add in another order: float32 rounding of values ~ 1.
    np.testing.assert_allclose(whole, pieces, atol=1e-4)


def test_efficientnet_knows_what_it_was_trained_on() -> None:
    # ImageNet class 985 is "daisy", 698 "palace" and 442 "bell cote"; only right weights, channel
    # order and scaling name scikit-learn's two photographs.
    from sklearn.datasets import load_sample_images

    from imagegram.encoders.efficientnet_lite import _network

    network = _network("cpu")
    china, flower = load_sample_images().images
    with torch.inference_mode():
        logits = [network((bicubic(image[None], 224) - 127) / 128) for image in (china, flower)]
    assert int(logits[0].argmax()) in {698, 442}
    assert int(logits[1].argmax()) == 985


def test_speed_is_not_identity_and_resizing_is() -> None:
    same = EfficientNetLite0(batch_size=1, device="cuda")
    assert identity(same) == identity(EfficientNetLite0())
    assert identity(EfficientNetLite0(resolution=96)) != identity(EfficientNetLite0())


@pytest.mark.parametrize("encoder", [PixelEncoder(), EfficientNetLite0()])
def test_only_rgb_bytes_are_encoded(encoder: PixelEncoder | EfficientNetLite0) -> None:
    with pytest.raises(ConfigError, match=r"dtype uint8, received \(5, 32, 32, 3\) float64"):
        encoder.encode(IMAGES / 255)


def test_a_resolution_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 32 pixels"):
        EfficientNetLite0(resolution=16)


def module_encoder(target: str) -> ModuleEncoder:
    return ModuleEncoder(name="mine", target=target, resolution=32, mean=[0, 0, 0], std=[1, 1, 1])


def test_a_module_of_the_users_by_name() -> None:
    features = module_encoder("tests.unit.test_encoders:mean_colour").encode(IMAGES)
    np.testing.assert_allclose(features, IMAGES.mean(axis=(1, 2)) / 255, rtol=1e-5)


def test_a_module_of_the_users_as_torchscript_is_known_by_its_content(tmp_path: Path) -> None:
    first, moved, other = (tmp_path / name for name in ("a.ts", "b.ts", "c.ts"))
    torch.jit.script(torch.nn.Flatten()).save(str(first))
    moved.write_bytes(first.read_bytes())
    torch.jit.script(torch.nn.ReLU()).save(str(other))
    encoder = module_encoder(str(first))
    features = encoder.encode(IMAGES)
    expected = IMAGES.transpose(0, 3, 1, 2).reshape(5, -1) / 255
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    assert identity(encoder) == identity(module_encoder(str(moved)))
    assert identity(encoder) != identity(module_encoder(str(other)))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no/such/file.ts", "neither a TorchScript file nor package.module:factory"),
        ("imagegram_no_such:net", "cannot be imported"),
        ("tests.unit.test_encoders:nothing", "cannot be imported"),
        ("torch.nn:Linear", "cannot be called without arguments"),
        ("builtins:dict", "gave a dict"),
        (__file__, "does not load as TorchScript"),
    ],
)
def test_a_module_that_is_not_there_says_what_to_give(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module_encoder(target).encode(IMAGES)


@pytest.mark.parametrize("device", ["nonsense", "meta:7:7"])
def test_a_device_that_is_not_there_says_what_to_give(device: str) -> None:
    encoders = (
        ModuleEncoder(name="mine", target="torch.nn:Flatten", resolution=32, device=device),
        EfficientNetLite0(device=device),
    )
    for encoder in encoders:
        with pytest.raises(ConfigError, match=r"encoder\.device=cpu"):
            encoder.encode(IMAGES)


def test_a_module_that_returns_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.ts"
    torch.jit.script(torch.nn.Flatten(start_dim=0)).save(str(path))
    with pytest.raises(ConfigError, match=r"returned shape .* for 5 images"):
        module_encoder(str(path)).encode(IMAGES)


def test_channel_statistics_have_three_numbers() -> None:
    with pytest.raises(ConfigError, match="three numbers each"):
        ModuleEncoder(name="mine", target="a:b", mean=[0.5], std=[1, 1, 1])
