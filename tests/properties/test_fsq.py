"""FSQ against its definition in plain Python: every id, and awkward numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagegram.layout import TokenLayout
from imagegram.models.quantizers import FiniteScalarQuantizer

LEVELS = st.lists(st.integers(2, 9), min_size=1, max_size=5).map(tuple)


def digits_of(number: int, levels: tuple[int, ...]) -> list[int]:
    """The least significant digit first."""
    digits = []
    for count in levels:
        number, digit = divmod(number, count)
        digits.append(digit)
    return digits


def digit_of(z: float, count: int) -> int:
    """The digit whose level is nearest to the bounded number (Mentzer et al., section 3)."""
    reach = (count - 1) * 1.001 / 2
    offset = 0.0 if count % 2 else 0.5
    bounded = math.tanh(z + math.atanh(offset / reach)) * reach - offset
    return min(range(count), key=lambda digit: abs(bounded - (digit - count // 2)))


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (8, 8, 8, 5, 5, 5), (2, 3), (2,), (7,)])
def test_every_id_comes_back(levels: tuple[int, ...]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    ids = torch.arange(math.prod(levels))
    codes = quantizer.codes(ids)
    assert quantizer.ids(codes).equal(ids)
    assert float(codes.min()) >= -1
    assert float(codes.max()) <= 1
    assert len(torch.unique(codes, dim=0)) == len(ids)


@given(levels=LEVELS, data=st.data())
def test_an_id_is_its_digits_as_the_layout_says(
    levels: tuple[int, ...], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, math.prod(levels) - 1))
    code = FiniteScalarQuantizer(levels).codes(torch.tensor([number]))[0].tolist()
    expected = [
        (digit - count // 2) / (count // 2)
        for digit, count in zip(digits_of(number, levels), levels, strict=True)
    ]
    assert code == pytest.approx(expected)
    if math.prod(levels) < 65535:
        layout = TokenLayout.sequence(1, digits=levels)
        for kept in range(1, len(levels) + 1):
            rest = digits_of(number, levels)[len(levels) - kept :]
            again = sum(
                digit * math.prod(levels[len(levels) - kept :][:place])
                for place, digit in enumerate(rest)
            )
            assert layout.coarse(torch.tensor([number]).numpy(), kept).tolist() == [again]


@given(
    levels=LEVELS,
    numbers=st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=5, max_size=5),
)
def test_any_number_becomes_the_nearest_level(
    levels: tuple[int, ...], numbers: list[float]
) -> None:
    z = torch.tensor([numbers[: len(levels)]])
    quantizer = FiniteScalarQuantizer(levels)
    code = quantizer(z)
    digits = [digit_of(float(x), count) for x, count in zip(z[0], levels, strict=True)]
    expected = torch.tensor(
        [[(d - n // 2) / (n // 2) for d, n in zip(digits, levels, strict=True)]]
    )
    # At a rounding boundary float32 may fall on the other side: one level, and nowhere else.
    for got, want, count, x in zip(
        code[0].tolist(), expected[0].tolist(), levels, z[0], strict=True
    ):
        if abs(got - want) > 1e-6:
            near = {digit_of(float(x) + nudge, count) for nudge in (-1e-5, 1e-5)}
            assert len(near) == 2
    ids = quantizer.ids(code)
    assert 0 <= int(ids) < math.prod(levels)
    assert quantizer.codes(ids).equal(code.detach())


@given(levels=LEVELS)
def test_every_level_is_reached(levels: tuple[int, ...]) -> None:
    z = torch.linspace(-12, 12, 4001)[:, None].expand(-1, len(levels))
    codes = FiniteScalarQuantizer(levels)(z)
    for digit, count in enumerate(levels):
        assert len(torch.unique(codes[:, digit])) == count
