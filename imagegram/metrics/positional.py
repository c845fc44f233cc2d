"""Same-position copying, compiled and exact: rows against all training documents.

Two results for (B, T) rows and N documents of T tokens each: how far back some document agrees at
the same positions (:func:`aligned_suffix_lengths`), and how many tokens equal those of the document
that agrees best (:func:`aligned_agreement`).

The first is computed by sorting, not by comparing pairs. The positional Burrows-Wheeler transform
(Durbin, "Efficient haplotype matching and storage using the positional Burrows-Wheeler transform",
Bioinformatics 2014) keeps all sequences in the order of their reversed prefixes and knows from
which position on neighbours agree. A document that agrees longest with a row stands next to it
(rows in between aside), so one stable counting sort a position is enough: about 20 ns x (N + B) x T
on one core of an AMD EPYC. The second needs all pairs, at 0.03 ns a comparison for tokens below 256
and 0.04 ns for larger ones.

Every document is read once, in blocks. Each block is sorted together with all rows, and the longest
match over blocks is the longest of all: memory does not grow with N, and threads share the blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.errors import TokenError
from imagegram.executors.tiles import Advance, over_tiles, row_tiles
from imagegram.protocols import Documents
from imagegram.records import Tokens

Result = TypeVar("Result")

#: Tokens of a block of documents; 128 MB.
_BLOCK_TOKENS: Final = 1 << 26
#: Positions that are sorted between two updates of the shared result.
_POSITIONS: Final = 64
#: Documents whose equal tokens are counted together, and positions until a byte counter is full.
_STRIP: Final = 512
_BYTE_POSITIONS: Final = 255


def aligned_suffix_lengths(
    rows_BT: Tokens,
    documents: Documents,
    *,
    workers: int = 1,
    advance: Advance = lambda documents: None,
) -> NDArray[np.int32]:
    """Return the longest match that *ends* at every position, at equal positions of a document.

    Takes 4 bytes a token of the rows, and a worker 128 MB (or one document) and 0.15 KB x (B +
    documents of a block).

    Args:
        rows_BT: (B, T) tokens, of any ids.
        documents: N >= 1 of T tokens each.
        workers: threads; they never change a length.
        advance: called with the number of further documents that are done.

    Returns:
        (B, T) int32: the most last tokens of ``row[: t + 1]`` that some document holds at the same
        positions; 0 where no document has the token there.

    Raises:
        TokenError: when rows and documents are not equally long.
    """
    rows_BT = np.ascontiguousarray(rows_BT)
    lengths_BT = np.zeros(rows_BT.shape, dtype=np.int32)
    lock = threading.Lock()

    def raise_lengths(first: int, block_NT: Tokens) -> None:
        for positions, lengths in _block_lengths(rows_BT, block_NT):
            with lock:  # the maximum does not depend on the order of blocks
                longest = lengths_BT[:, positions]
                np.maximum(longest, lengths, out=longest)

    for _ in _over_blocks(raise_lengths, rows_BT, documents, workers=workers, advance=advance):
        pass
    return lengths_BT


def aligned_agreement(
    rows_BT: Tokens,
    documents: Documents,
    *,
    workers: int = 1,
    advance: Advance = lambda documents: None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Count the tokens that each row shares, at equal positions, with its best document.

    A worker takes 128 MB (or one document) and 2 KB a row.

    Args:
        rows_BT: (B, T) tokens, of any ids.
        documents: N >= 1 of T tokens each.
        workers: threads; they never change a count.
        advance: called with the number of further documents that are done.

    Returns:
        (B,) int32 equal tokens, 0 ... T, and (B,) int64 that document; of several the smallest id.

    Raises:
        TokenError: when rows and documents are not equally long.
    """
    rows_BT = np.ascontiguousarray(rows_BT)
    counts_B = np.full(len(rows_BT), -1, dtype=np.int32)
    documents_B = np.zeros(len(rows_BT), dtype=np.int64)

    def best_of(first: int, block_NT: Tokens) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        most = np.full(len(rows_BT), -1, dtype=np.int32)
        found = np.zeros(len(rows_BT), dtype=np.int64)
        rows = _narrow(rows_BT, block_NT)
        strip = np.empty((_BYTE_POSITIONS, _STRIP), dtype=rows.dtype)
        _count_equal(rows, strip, block_NT, most, found)
        return most, found + first

    for most, found in _over_blocks(best_of, rows_BT, documents, workers=workers, advance=advance):
        more = most > counts_B  # blocks come in the order of their ids
        counts_B[more], documents_B[more] = most[more], found[more]
    return counts_B, documents_B


def _over_blocks(
    function: Callable[[int, Tokens], Result],
    rows_BT: Tokens,
    documents: Documents,
    *,
    workers: int,
    advance: Advance,
) -> Iterator[Result]:
    """Apply ``function(first document, (n, T) tokens)`` to all blocks, in the order of ids."""
    num_tokens = rows_BT.shape[1]
    fair = -(-documents.num_documents // workers)
    size = max(min(fair, _BLOCK_TOKENS // max(num_tokens, 1)), 1)
    blocks = row_tiles(documents.num_documents, size)

    def read(block: slice) -> Result:
        tokens_NT = documents.gather(np.arange(block.start, block.stop))
        if tokens_NT.shape[1] != num_tokens:
            raise TokenError(
                f"rows of {num_tokens} tokens cannot be laid over documents of "
                f"{tokens_NT.shape[1]}; give both from one tokenizer"
            )
        return function(block.start, tokens_NT)

    for block, result in zip(blocks, over_tiles(read, blocks, workers=workers), strict=True):
        advance(block.stop - block.start)
        yield result


# ------------------------------------------------------------------------------ longest matches


def _block_lengths(rows_BT: Tokens, block_NT: Tokens) -> Iterator[tuple[slice, NDArray[np.int32]]]:
    """Yield positions, and the (B, positions) longest matches with one block that end there."""
    num_rows, num_tokens = rows_BT.shape
    num_documents = len(block_NT)
    size = num_documents + num_rows
    orders = np.zeros((2, size), dtype=np.int32)
    orders[0] = np.arange(size)
    starts = np.zeros((2, size), dtype=np.int32)
    stack = np.empty((2, size), dtype=np.int32)
    for positions in row_tiles(num_tokens, _POSITIONS):
        columns = np.empty((positions.stop - positions.start, size), dtype=np.uint16)
        columns[:, :num_documents] = block_NT[:, positions].T
        columns[:, num_documents:] = rows_BT[:, positions].T
        groups = np.empty((2, int(columns.max(initial=0)) + 1), dtype=np.int32)
        lengths = np.zeros((num_rows, len(columns)), dtype=np.int32)
        _sort_columns(columns, positions.start, orders, starts, groups, stack, lengths)
        yield positions, lengths


@njit(cache=True, nogil=True)
def _sort_columns(
    columns: NDArray[np.uint16],
    first: int,
    orders: NDArray[np.int32],
    starts: NDArray[np.int32],
    groups: NDArray[np.int32],
    stack: NDArray[np.int32],
    lengths: NDArray[np.int32],
) -> None:
    """Sort by some more positions, and write the lengths of the rows' best matches.

    Args:
        columns: (P, n) tokens of documents, then of rows, at positions ``first ... first + P - 1``.
        first: position.
        orders: (2, n) the order by reversed prefixes before position t is ``orders[t % 2]``.
        starts: (2, n) in ``starts[t % 2]``, from which position on each shares all tokens with the
            one that stands before it; t where it shares none.
        groups: (2, V) scratch.
        stack: (2, n) scratch.
        lengths: (B, P) written.
    """
    for p in range(columns.shape[0]):
        t = first + p
        now, then = t & 1, (t + 1) & 1
        _sort_column(
            columns[p], t, orders[now], starts[now], orders[then], starts[then], groups, stack
        )
        _match_rows(t + 1, orders[then], starts[then], lengths[:, p])


@njit(cache=True, nogil=True)
def _sort_column(
    column: NDArray[np.uint16],
    t: int,
    order: NDArray[np.int32],
    starts: NDArray[np.int32],
    next_order: NDArray[np.int32],
    next_starts: NDArray[np.int32],
    groups: NDArray[np.int32],
    stack: NDArray[np.int32],
) -> None:
    """Sort stably by the tokens at position t: equal tokens keep their previous order.

    Two sequences that become neighbours agree from the largest start between their ranks on. All
    starts that can still be the largest of a range that ends here stand on a stack, falling, with
    their ranks: the first behind a rank is the largest behind it.
    """
    ends, last = groups[0], groups[1]  # next free rank, and rank so far, of every token
    ends[:] = 0
    last[:] = -1
    for sequence in range(column.size):
        ends[column[sequence]] += 1
    before = 0
    for token in range(ends.size):
        count = ends[token]
        ends[token] = before
        before += count
    ranks, largest = stack[0], stack[1]
    height = 0
    for rank in range(order.size):
        sequence, start = order[rank], starts[rank]
        while height > 0 and largest[height - 1] <= start:
            height -= 1
        ranks[height], largest[height] = rank, start
        height += 1
        token = column[sequence]
        shared_from = t + 1
        if last[token] >= 0:
            low, high = 0, height - 1
            while low < high:
                middle = (low + high) >> 1
                if ranks[middle] > last[token]:
                    high = middle
                else:
                    low = middle + 1
            shared_from = largest[low]
        last[token] = rank
        place = ends[token]
        ends[token] = place + 1
        next_order[place], next_starts[place] = sequence, shared_from


@njit(cache=True, nogil=True)
def _match_rows(
    end: int, order: NDArray[np.int32], starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> None:
    """Write (B,) tokens before ``end`` that each row shares with the better neighbour document.

    From one document on, the largest start so far is what the sequences behind share with it.
    """
    num_documents = order.size - lengths.size
    shared_from = end
    for rank in range(order.size):
        shared_from = max(shared_from, starts[rank])
        if order[rank] < num_documents:
            shared_from = 0
        else:
            lengths[order[rank] - num_documents] = end - shared_from
    shared_from = end
    for rank in range(order.size - 1, -1, -1):
        if order[rank] < num_documents:
            shared_from = 0
        else:
            row = order[rank] - num_documents
            lengths[row] = max(lengths[row], end - shared_from)
        shared_from = max(shared_from, starts[rank])


# ------------------------------------------------------------------------------- equal tokens


def _narrow(rows_BT: Tokens, block_NT: Tokens) -> NDArray[np.unsignedinteger[Any]]:
    """Return rows as bytes if all tokens fit, so that twice as many are compared at a time."""
    fits = max(int(rows_BT.max(initial=0)), int(block_NT.max(initial=0))) < 256
    return rows_BT.astype(np.uint8) if fits else rows_BT


@njit(cache=True, nogil=True)
def _count_equal(
    rows: NDArray[np.unsignedinteger[Any]],
    strip: NDArray[np.unsignedinteger[Any]],
    block: NDArray[np.uint16],
    most: NDArray[np.int32],
    found: NDArray[np.int64],
) -> None:
    """Compare all rows with all documents of a block, many documents in one instruction.

    Args:
        rows: (B, T).
        strip: (P, S) scratch of the type of the rows: positions of some documents, in cache.
        block: (n, T) documents.
        most: (B,) raised to the most equal tokens.
        found: (B,) the first document of the block that has them.
    """
    num_rows, num_tokens = rows.shape
    totals = np.empty((num_rows, strip.shape[1]), dtype=np.int32)
    equal = np.empty(strip.shape[1], dtype=strip.dtype)
    for first in range(0, block.shape[0], strip.shape[1]):
        size = min(strip.shape[1], block.shape[0] - first)
        totals[:] = 0
        for start in range(0, num_tokens, strip.shape[0]):
            stop = min(start + strip.shape[0], num_tokens)
            for n in range(size):
                for t in range(start, stop):
                    strip[t - start, n] = block[first + n, t]
            for b in range(num_rows):
                equal[:] = 0
                for t in range(start, stop):
                    token, column = rows[b, t], strip[t - start]
                    for n in range(size):
                        equal[n] += column[n] == token
                for n in range(size):
                    totals[b, n] += equal[n]
        for b in range(num_rows):
            for n in range(size):
                if totals[b, n] > most[b]:
                    most[b], found[b] = totals[b, n], first + n
