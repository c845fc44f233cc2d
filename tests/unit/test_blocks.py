"""Blocks of rows on threads: all are written and counted, and an error stops them."""

from __future__ import annotations

from collections.abc import Iterator
from threading import get_ident
from time import sleep

import numpy as np
import pytest

from imagegram.generators.ngram.blocks import write_blocks
from imagegram.generators.ngram.engine import Job
from imagegram.layout import TokenLayout
from imagegram.samplers.ngram import NgramSampler


def job(num_rows: int, advanced: list[int], workers: int = 3) -> Job:
    """A job of rows of five tokens, which notes what it is advanced by on this thread."""
    here = get_ident()

    def advance(tokens: int) -> None:
        assert get_ident() == here
        advanced.append(tokens)

    return Job(
        sampler=NgramSampler(name="drawn"),
        layout=TokenLayout.sequence(5),
        samples=np.arange(num_rows, dtype=np.uint64),
        seed=0,
        advance=advance,
        workers=workers,
    )


@pytest.mark.parametrize("num_rows", [1, 2, 7, 64])
@pytest.mark.parametrize("most", [1, 4, 100])
def test_each_row_is_written_once_and_counted(num_rows: int, most: int) -> None:
    written, advanced = np.zeros(num_rows, dtype=np.int64), list[int]()

    def write(scratch: list[int], start: int, size: int) -> Iterator[int]:
        assert not scratch  # no other block has it now
        scratch.append(start)
        for _ in range(5):
            written[start : start + size] += 1
            yield size
        scratch.pop()

    write_blocks(job(num_rows, advanced), most=most, make_scratch=lambda size: [], write=write)
    np.testing.assert_array_equal(written, 5)
    assert sum(advanced) == 5 * num_rows


def test_an_error_stops_the_other_blocks() -> None:
    begun = list[int]()

    def write(scratch: None, start: int, size: int) -> Iterator[int]:
        begun.append(start)
        if start == 0:
            raise ZeroDivisionError
        while True:  # until the error of the other block is seen
            sleep(0.001)
            yield 0

    with pytest.raises(ZeroDivisionError):
        write_blocks(job(9, [], workers=2), most=1, make_scratch=lambda size: None, write=write)
    assert len(begun) < 9
