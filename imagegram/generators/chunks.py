"""Samples in chunks of one shape, for generators that learn a network.

Sample i is always row i % CHUNK of a chunk, so that no rounding depends on which samples were asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.progress import SilentProgress
from imagegram.store.stage import Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Samples that a network sees at a time.
CHUNK: Final = 32

#: Arrays of one chunk, (CHUNK, T) each, by name.
Chunk = Mapping[str, NDArray[Any]]


def chunk_samples(chunks: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
    """Return the (CHUNK,) sample ids of chunks.

    >>> [ids[[0, -1]].tolist() for ids in chunk_samples(np.array([0, 2], np.uint64))]
    [[0, 31], [64, 95]]
    """
    first = np.arange(CHUNK, dtype=np.uint64)
    return [first + chunk * np.uint64(CHUNK) for chunk in chunks]


def rows_from_chunks(
    samples: NDArray[np.uint64],
    *,
    num_tokens: int,
    dtypes: Mapping[str, Any],
    make: Callable[[NDArray[np.uint64]], Iterable[Chunk]],
    progress: Progress | None,
) -> dict[str, NDArray[Any]]:
    """Collect the rows of some samples from whole chunks of samples.

    Args:
        samples: (B,) sample ids.
        num_tokens: T.
        dtypes: dtype of each wanted array, by name.
        make: makes the chunks with the given numbers, one after the other; chunk c holds the
            samples c * CHUNK ... (c + 1) * CHUNK - 1.
        progress: receives the number of finished tokens.

    Returns:
        By name, (B, T) arrays.
    """
    chunks = samples // np.uint64(CHUNK)
    wanted = np.unique(chunks)
    rows_BT = {name: np.empty((len(samples), num_tokens), dtype) for name, dtype in dtypes.items()}
    progress = progress or SilentProgress()
    bar = progress.start("generate", len(wanted) * CHUNK * num_tokens, "tokens")
    for chunk, made in zip(wanted, make(wanted), strict=True):
        rows = np.flatnonzero(chunks == chunk)
        places = (samples[rows] % np.uint64(CHUNK)).astype(np.int64)
        for name, array_BT in rows_BT.items():
            array_BT[rows] = made[name][places]
        progress.advance(bar, CHUNK * num_tokens)
    progress.finish(bar)
    return rows_BT


def scores_from_chunks(
    ids_BT: NDArray[np.int64],
    samples: NDArray[np.uint64],
    *,
    classes_B: NDArray[np.int64],
    dtypes: Mapping[str, Any],
    score: Callable[[Tensor, NDArray[np.uint64], Tensor], Chunk],
    device: torch.device,
    dtype: str,
    progress: Progress | None,
) -> dict[str, NDArray[Any]]:
    """Score given rows in chunks of one shape, in which sample i is always row i % CHUNK.

    Args:
        ids_BT: ids of the network.
        samples: (B,) sample ids.
        classes_B: (B,) class of each row, see :meth:`NetworkModel.classes_of`.
        dtypes: dtype of each wanted array, by name.
        score: scores (CHUNK, T) ids, on the device, of (CHUNK,) samples with (CHUNK,) classes, on
            the device; rows that no sample fills are id 0 of sample 0 with class 0.
        device: device of the network.
        dtype: numbers that it computes with, see :data:`imagegram.models.dtypes.DTYPES`.
        progress: receives the number of finished tokens.

    Returns:
        By name, (B, T) arrays.
    """
    import torch

    from imagegram.models.cores import map_on_cores

    def work(rows: NDArray[np.int64]) -> Chunk:
        filled = rows >= 0
        ids_CT, samples_C = np.zeros((CHUNK, ids_BT.shape[1]), np.int64), np.zeros(CHUNK, np.uint64)
        classes_C = np.zeros(CHUNK, np.int64)
        ids_CT[filled], samples_C[filled] = ids_BT[rows[filled]], samples[rows[filled]]
        classes_C[filled] = classes_B[rows[filled]]
        ids, classes = (torch.from_numpy(array).to(device) for array in (ids_CT, classes_C))
        found = score(ids, samples_C, classes)
        return {name: array_CT[filled] for name, array_CT in found.items()}

    rows_BT = {name: np.empty(ids_BT.shape, dtype) for name, dtype in dtypes.items()}
    chunks = list(_rows_by_place(samples))
    progress = progress or SilentProgress()
    bar = progress.start("score", ids_BT.size, "tokens")
    made = map_on_cores(work, chunks, device=device, dtype=dtype)
    for rows, found in zip(chunks, made, strict=True):
        kept = rows[rows >= 0]
        for name, array_BT in rows_BT.items():
            array_BT[kept] = found[name]
        progress.advance(bar, len(kept) * ids_BT.shape[1])
    progress.finish(bar)
    return rows_BT


def _rows_by_place(samples: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Yield (CHUNK,) row numbers: at place p rows whose sample is p modulo CHUNK, or -1.

    >>> [rows[:3].tolist() for rows in _rows_by_place(np.array([1, 0, 33], np.uint64))]
    [[1, 0, -1], [-1, 2, -1]]
    """
    places = (samples % np.uint64(CHUNK)).astype(np.int64)
    order = np.argsort(places, kind="stable")
    counts = np.bincount(places, minlength=CHUNK)
    firsts = np.cumsum(counts) - counts
    for turn in range(int(counts.max(initial=0))):
        rows = np.full(CHUNK, -1, np.int64)
        there = np.flatnonzero(counts > turn)
        rows[there] = order[firsts[there] + turn]
        yield rows
