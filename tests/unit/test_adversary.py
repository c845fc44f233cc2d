"""The discriminator and its losses, beside their formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imagegram.models.adversary import PatchDiscriminator, hinge
from imagegram.models.transformer import build


def judge(depth: int = 2) -> PatchDiscriminator:
    made = build(PatchDiscriminator, seed=0, channels=4, depth=depth)
    assert isinstance(made, PatchDiscriminator)
    return made


def test_hinge_is_its_formula() -> None:
    real, fake = torch.randn(3, 7), torch.randn(3, 7)
    expected = 0.0
    for row in range(3):
        for place in range(7):
            expected += max(0.0, 1 - real[row, place].item())
            expected += max(0.0, 1 + fake[row, place].item())
    assert hinge(real, fake).item() == pytest.approx(expected / 21 / 2, rel=1e-6)


def test_lecam_is_its_formula_and_its_averages_follow() -> None:
    made = judge()
    real, fake = torch.randn(3, 7) + 1, torch.randn(3, 7) - 1
    averages = [0.0, 0.0]
    for step in range(4):
        means = real.mean() + step, fake.mean() - step
        averages = [0.999 * old + 0.001 * new.item() for old, new in zip(averages, means)]  # noqa: B905
        made.follow(*means)
    assert made.real_mean.item() == pytest.approx(averages[0], rel=1e-5)
    assert made.fake_mean.item() == pytest.approx(averages[1], rel=1e-5)
    above = np.maximum(real.numpy() - averages[1], 0) ** 2
    below = np.maximum(averages[0] - fake.numpy(), 0) ** 2
    assert made.lecam(real, fake).item() == pytest.approx(above.mean() + below.mean(), rel=1e-5)


def test_it_judges_pictures_without_gradients_of_its_own() -> None:
    made, images = judge(), torch.randn(2, 16, 16, 3, requires_grad=True)
    torch.testing.assert_close(made.judge(images), made(images))
    made.judge(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in made.parameters())
    made(images.detach()).sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_a_logit_sees_a_part_and_no_row_another_one() -> None:
    made, images = judge(depth=1), torch.randn(2, 16, 16, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(made(images)[0, 0], images)
    assert gradient[1].abs().sum() == 0
    assert gradient[0, :6, :6].abs().sum() > 0
    assert gradient[0, 8:].abs().sum() == 0
    assert made(images).shape == (2, 64)
