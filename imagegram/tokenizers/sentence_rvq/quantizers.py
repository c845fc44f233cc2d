"""Vectors as K codes of V values each, and the codebooks of these: four forms, one result.

Whatever the form, the codes c_1 ... c_K of a vector stand for C_1[c_1] + ... + C_K[c_K]:

* ``beam``: a residual quantizer whose search keeps the 8 best tuples at every stage (Babenko and
  Lempitsky, "Additive quantization for extreme vector compression", CVPR 2014);
* ``greedy``: the same with the nearest code at every stage, one after the other;
* ``opq``: a product quantizer behind a learned rotation (Ge et al., "Optimized product
  quantization", CVPR 2013): every stage has its own d / K of the rotated dimensions;
* ``renormalised``: what is left is brought to length 1 after every stage, codes are chosen by their
  inner product with it, and the sum is brought to length 1 too: all lengths are lost.

k-means is that of faiss, on one thread: codebooks do not depend on how many there are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean
from imagegram.executors.tiles import one_thread_each
from imagegram.records import Features

Codebooks = NDArray[np.float32]
Codes = NDArray[np.int64]

FORMS: Final = ("beam", "greedy", "opq", "renormalised")
#: Tuples that a search keeps at every stage.
BEAM: Final = 8
_ITERATIONS: Final = 25
#: Of the beam's k-means, which goes through ever more dimensions, with so many iterations in each.
_BEAM_ITERATIONS: Final = 10
#: Vectors that are quantised at a time: always as many, so that a code depends on its vector alone.
_ROWS: Final = 64
#: Below it a vector has no direction.
_TINY: Final = 1e-12


def require_form(form: str) -> None:
    """Refuse an unknown form.

    Raises:
        ConfigError: with the names of the forms.
    """
    if form not in FORMS:
        raise ConfigError(f"tokenizer.form={form} is unknown; {did_you_mean(form, FORMS)}")


def fit_codebooks(
    vectors: Features, *, form: str, num_codebooks: int, codebook_size: int, seed: int
) -> Codebooks:
    """Learn codebooks of vectors.

    Args:
        vectors: (N, d) float32, N >= V.
        form: one of :data:`FORMS`.
        num_codebooks: K; of ``opq`` a divisor of d.
        codebook_size: V.
        seed: of the k-means.

    Returns:
        (K, V, d) float32.

    Raises:
        ConfigError: when ``opq`` cannot share the dimensions among the stages.
    """
    dim = vectors.shape[1]
    if form == "opq" and dim % num_codebooks:
        fits = [num for num in range(1, 17) if dim % num == 0]
        raise ConfigError(
            f"tokenizer.form=opq gives every stage as many of the {dim} dimensions of a vector, so "
            f"tokenizer.num_codebooks={num_codebooks} does not do; use one of {fits}"
        )
    fit = {"beam": _fit_beam, "opq": _fit_opq}.get(form, _fit_greedy)
    with _one_thread():
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        return fit(vectors, num_codebooks, codebook_size, seed, form)


def quantize(vectors: Features, codebooks: Codebooks, *, form: str) -> Codes:
    """Return the (N, K) codes of (N, d) vectors; those of a vector do not depend on the others."""
    search = _SEARCHES[form]
    codes = np.empty((len(vectors), len(codebooks)), dtype=np.int64)
    tables = tuple(_norms(codebook) for codebook in codebooks)
    rows = np.zeros((_ROWS, codebooks.shape[2]), dtype=np.float32)
    with one_thread_each():
        for first in range(0, len(vectors), _ROWS):
            some = vectors[first : first + _ROWS]
            rows[: len(some)] = some
            rows[len(some) :] = 0
            codes[first : first + len(some)] = search(rows, codebooks, tables)[: len(some)]
    return codes


def sums(codes: Codes, codebooks: Codebooks, *, form: str) -> Features:
    """Return the (N, d) float32 vectors that (N, k) codes of the first k <= K stages stand for.

    Args:
        codes: 0 ... V - 1; -1: there is none, which adds nothing.
        codebooks: (K, V, d).
        form: of ``renormalised`` the sums are brought to length 1.
    """
    total = np.zeros((len(codes), codebooks.shape[2]), dtype=np.float32)
    for stage, column in enumerate(codes.T):
        total += np.where(column[:, None] < 0, np.float32(0), codebooks[stage][column])
    return _unit(total) if form == "renormalised" else total


def _faiss() -> Any:
    """Return faiss, which logs at INFO which instruction sets it tried."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    return faiss


# ------------------------------------------------------------------------------------- learning


def _fit_greedy(vectors: Features, num: int, size: int, seed: int, form: str) -> Codebooks:
    """Learn one stage after the other, each on what the stages before it leave."""
    left, books = vectors, []
    for stage in range(num):
        book = _kmeans(left, size, seed + stage)
        nearest = _over_rows(left, book, form)
        books.append(book)
        left = left - book[nearest]
        if form == "renormalised":
            left = _unit(left)
    return np.stack(books)


def _over_rows(vectors: Features, book: Codebooks, form: str) -> Codes:
    return quantize(vectors, book[None], form=form)[:, 0]


def _fit_beam(vectors: Features, num: int, size: int, seed: int, form: str) -> Codebooks:
    """Learn a residual quantizer of faiss."""
    faiss = _faiss()

    bits = size.bit_length() - 1
    quantizer = faiss.ResidualQuantizer(vectors.shape[1], num, bits)
    quantizer.max_beam_size = BEAM
    quantizer.cp.seed = seed
    quantizer.cp.niter = _BEAM_ITERATIONS
    quantizer.cp.min_points_per_centroid = 1  # says nothing of small corpora
    quantizer.train(vectors)
    books = faiss.vector_to_array(quantizer.codebooks).reshape(num, size, vectors.shape[1])
    return np.ascontiguousarray(books, dtype=np.float32)


def _fit_opq(vectors: Features, num: int, size: int, seed: int, form: str) -> Codebooks:
    """Learn a rotation and a product quantizer; return its codes in the vectors' own space."""
    faiss = _faiss()

    dim = vectors.shape[1]
    width, bits = dim // num, size.bit_length() - 1
    rotation = faiss.OPQMatrix(dim, num)
    rotation.max_train_points = max(len(vectors), 1)
    inner = faiss.ProductQuantizer(dim, num, bits)
    _quiet(inner, seed)
    rotation.pq = inner
    rotation.train(vectors)
    turned = rotation.apply(vectors)
    quantizer = faiss.ProductQuantizer(dim, num, bits)
    _quiet(quantizer, seed)
    quantizer.train(turned)
    parts = faiss.vector_to_array(quantizer.centroids).reshape(num, size, width)
    turn = faiss.vector_to_array(rotation.A).reshape(dim, dim)
    books = [parts[stage] @ turn[stage * width : (stage + 1) * width] for stage in range(num)]
    return np.stack(books).astype(np.float32)


def _quiet(quantizer: Any, seed: int) -> None:
    quantizer.cp.seed = seed
    quantizer.cp.min_points_per_centroid = 1


def _kmeans(vectors: Features, size: int, seed: int) -> Codebooks:
    faiss = _faiss()

    means = faiss.Kmeans(
        vectors.shape[1],
        size,
        niter=_ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
    )
    means.train(vectors)
    return np.asarray(means.centroids, dtype=np.float32).reshape(size, vectors.shape[1])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit faiss and linear algebra to one thread."""
    faiss = _faiss()

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with one_thread_each():
            yield
    finally:
        faiss.omp_set_num_threads(before)


# ------------------------------------------------------------------------------------ searching


def _search_greedy(rows: Features, books: Codebooks, norms: tuple[Any, ...]) -> Codes:
    left, codes = rows, []
    for book, norm in zip(books, norms, strict=True):
        best = (norm - 2 * (left @ book.T)).argmin(axis=1)
        codes.append(best)
        left = left - book[best]
    return np.stack(codes, axis=1)


def _search_opq(rows: Features, books: Codebooks, norms: tuple[Any, ...]) -> Codes:
    """Choose every stage alone: codes of different stages are at right angles."""
    pairs = zip(books, norms, strict=True)
    return np.stack([(norm - 2 * (rows @ book.T)).argmin(axis=1) for book, norm in pairs], axis=1)


def _search_renormalised(rows: Features, books: Codebooks, norms: tuple[Any, ...]) -> Codes:
    left, codes = rows, []
    for book in books:
        best = (left @ book.T).argmax(axis=1)
        codes.append(best)
        left = _unit(left - book[best])
    return np.stack(codes, axis=1)


def _search_beam(rows: Features, books: Codebooks, norms: tuple[Any, ...]) -> Codes:
    """Keep the :data:`BEAM` best tuples of the stages so far; those are least far from the row."""
    count, dim = rows.shape
    left = rows[:, None, :]  # (N, B, d) what the tuples leave
    far = np.einsum("nbd,nbd->nb", left, left)
    codes = np.zeros((count, 1, 0), dtype=np.int64)
    for book, norm in zip(books, norms, strict=True):
        width = left.shape[1]
        dots = (left.reshape(-1, dim) @ book.T).reshape(count, width, -1)
        further = (far[:, :, None] + norm - 2 * dots).reshape(count, -1)
        kept = min(BEAM, further.shape[1])
        each = np.arange(count)[:, None]
        order = np.argpartition(further, kept - 1, axis=1)[:, :kept]
        order = order[each, np.argsort(further[each, order], axis=1, kind="stable")]
        origin, code = order // len(book), order % len(book)
        codes = np.concatenate([codes[each, origin], code[:, :, None]], axis=2)
        left = left[each, origin] - book[code]
        far = np.take_along_axis(further, order, axis=1)
    return codes[:, 0]


_SEARCHES: Final[dict[str, Callable[[Features, Codebooks, tuple[Any, ...]], Codes]]] = {
    "beam": _search_beam,
    "greedy": _search_greedy,
    "opq": _search_opq,
    "renormalised": _search_renormalised,
}


def _norms(book: Codebooks) -> NDArray[np.float32]:
    norms: NDArray[np.float32] = np.einsum("vd,vd->v", book, book)
    return norms


def _unit(vectors: Features) -> Features:
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    unit: Features = vectors / np.maximum(norms, np.float32(_TINY))
    return unit
