"""Nearest training images: exact search by thumbnails, then ranking by all pixels.

Every training thumbnail (16x16 RGB) is compared, block by block; the few nearest are decoded and
ranked by the root mean square difference of all pixels, so that a copy is found at exactly 0.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.images.decode import thumbnail
from imagegram.protocols import Tokenizer
from imagegram.records import Images
from imagegram.stages.decoding import captions_of_documents, decoded
from imagegram.stages.tokens import TokenSet

_CANDIDATES: Final = 8
_BLOCK: Final = 65536


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A training image compared with a sample.

    Attributes:
        document: id of the training document.
        image: (S, S, 3) uint8, decoded from the document's tokens.
        rms: root mean square difference of the pixels, 0 ... 255.
        metadata: source key, shard, caption.
    """

    document: int
    image: Images
    rms: float
    metadata: dict[str, Any]


def nearest_documents(
    images_BHWC: Images,
    *,
    tokens: TokenSet,
    tokenizer: Tokenizer,
    suspects: Sequence[int | None],
    workers: int = 1,
) -> list[Neighbour]:
    """Find the nearest training image of each image.

    Args:
        images_BHWC: samples.
        tokens: the training documents.
        tokenizer: decodes them.
        suspects: for each sample one more document to compare (its largest source), or None.
        workers: threads of the search.
    """
    candidates = _by_thumbnail(images_BHWC, tokens, workers)
    nearest = []
    for image, row, suspect in zip(images_BHWC, candidates, suspects, strict=True):
        documents = sorted({*row.tolist(), *([] if suspect is None else [suspect])})
        nearest.append(
            min(
                _compared(image, documents, tokens, tokenizer),
                key=lambda neighbour: (neighbour.rms, neighbour.document),
            )
        )
    return nearest


def compare(image: Images, document: int, *, tokens: TokenSet, tokenizer: Tokenizer) -> Neighbour:
    """Compare one training document with one image of the same size."""
    return _compared(image, [document], tokens, tokenizer)[0]


def _compared(
    image: Images, documents: list[int], tokens: TokenSet, tokenizer: Tokenizer
) -> list[Neighbour]:
    """Compare training documents with one image; decoded together, faster with a network."""
    pictures = decoded(
        tokenizer,
        tokens.gather(documents),
        captions=captions_of_documents(tokenizer, tokens, documents),
        output_size=image.shape[0],
    )
    differences = pictures.astype(np.float64) - image
    return [
        Neighbour(
            document=document,
            image=picture,
            rms=float(np.sqrt((difference**2).mean())),
            metadata=tokens.metadata(document),
        )
        for document, picture, difference in zip(documents, pictures, differences, strict=True)
    ]


def _by_thumbnail(images_BHWC: Images, tokens: TokenSet, workers: int) -> NDArray[np.int64]:
    """Return the (B, K) ids of documents with the nearest thumbnails, K <= 8, nearest first.

    Takes 0.2 GB for a block of thumbnails, however many there are.
    """
    # faiss logs at INFO which instruction sets it tried
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    faiss.omp_set_num_threads(workers)  # it would take all cores
    queries = _rows(np.stack([thumbnail(np.asarray(image)) for image in images_BHWC]))
    ids = np.empty((len(queries), 0), dtype=np.int64)
    distances = np.empty((len(queries), 0), dtype=np.float32)
    for first_document, thumbnails in tokens.sketch_blocks():
        for first in range(0, len(thumbnails), _BLOCK):
            block = _rows(thumbnails[first : first + _BLOCK])
            near, found = faiss.knn(queries, block, min(_CANDIDATES, len(block)))
            ids = np.concatenate([ids, found + first_document + first], axis=1)
            distances = np.concatenate([distances, near], axis=1)
            order = np.argsort(distances, axis=1, kind="stable")[:, :_CANDIDATES]
            ids = np.take_along_axis(ids, order, axis=1)
            distances = np.take_along_axis(distances, order, axis=1)
    return ids


def _rows(thumbnails: Images) -> NDArray[np.float32]:
    return np.ascontiguousarray(thumbnails.reshape(len(thumbnails), -1), dtype=np.float32)
