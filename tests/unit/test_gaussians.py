"""Gaussians beside torch's own distributions."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from imagegram.models.gaussians import Gaussians


def moments(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_divergence_is_that_of_torch() -> None:
    found = Gaussians.of(moments(3, 5, 8))
    theirs = Normal(found.mean, torch.exp(found.log_variance / 2))
    standard = Normal(torch.zeros_like(found.mean), torch.ones_like(found.mean))
    expected = kl_divergence(Independent(theirs, 1), Independent(standard, 1))
    assert found.divergence().shape == (3, 5)
    torch.testing.assert_close(found.divergence(), expected)
    assert Gaussians.of(torch.zeros(1, 8)).divergence().item() == 0.0


def test_samples_are_those_of_torch_on_the_same_noise() -> None:
    found = Gaussians.of(moments(3, 8))
    theirs = Normal(found.mean, torch.exp(found.log_variance / 2))
    torch.manual_seed(7)
    expected = theirs.rsample()
    torch.manual_seed(7)
    torch.testing.assert_close(found.sample(torch.randn(3, 4)), expected)
    assert found.sample(torch.zeros(3, 4)).equal(found.mean)


def test_many_samples_have_its_moments() -> None:
    found = Gaussians.of(moments(4))
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(1))
    samples, deviation = found.sample(noise), torch.exp(found.log_variance / 2)
    # Five standard errors of a mean, and of a variance, which is the root of two over N of it.
    within = 5 / 200_000**0.5
    assert ((samples.mean(0) - found.mean).abs() < within * deviation).all()
    ratio = samples.var(0) / deviation.square()
    assert ((ratio - 1).abs() < within * 2**0.5).all()


def test_gradients_reach_mean_and_variance_and_nothing_overflows() -> None:
    given = moments(2, 6).requires_grad_()
    found = Gaussians.of(given)
    (found.sample(torch.ones(2, 3)).sum() + found.divergence().sum()).backward()
    assert given.grad is not None
    torch.testing.assert_close(given.grad[:, :3], 1 + found.mean)
    variance = found.log_variance.exp()
    torch.testing.assert_close(given.grad[:, 3:], variance.sqrt() / 2 + (variance - 1) / 2)
    extreme = Gaussians.of(torch.tensor([0.0, 1e6]))
    assert extreme.sample(torch.ones(1)).isfinite().all()
    assert extreme.divergence().isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_is_computed_in_float32(dtype: torch.dtype) -> None:
    assert Gaussians.of(moments(2, 4).to(dtype)).divergence().dtype == torch.float32
