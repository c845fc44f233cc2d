"""Bytes on disk and in memory of what a stage makes: the formulas of docs/formats.md.

>>> round(token_shard_bytes(documents=1000, num_tokens=4_032_000, metadata_bytes=436_000) / 1e6, 2)
9.29
>>> round(order_bytes(num_tokens=4_033_001, aligned=True) / 4_033_001, 2)  # bytes a token
10.06
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imagegram.indexes.format import pointer_width
from imagegram.indexes.order import INVERSE_PADDING, inverse_width, minima_sizes
from imagegram.records import TOKEN_BYTES

#: uint16 tokens, and the seven fields of a trace: 2 + 4 + 2 + 4 + 4 + 4 + 4.
_TRACE_BYTES: Final = 24
_NPY_HEADER: Final = 128
#: Tokens and trace, seven fields, decoded images.
_SAMPLE_FILES: Final = 9
#: Tokens whose trace is held before it is written.
_BATCH_TOKENS: Final = 1 << 24
_THUMBNAIL_BYTES: Final = 16 * 16 * 3
#: A grid of 64 samples, as PNG: noise does not compress.
_GRID_IMAGES: Final = 64
#: Feature numbers are float32.
_FEATURE_BYTES: Final = 4
#: scores.json and curves.npz of all metrics: fixed part, and the part of each generated image.
_SCORES_BYTES: Final = 400_000
_SCORES_BYTES_AN_IMAGE: Final = 1_000
#: report.html: what it shows is bounded; and what loggers and Hydra write beside it.
_RUN_FOLDER_BYTES: Final = 1_000_000
_REPORT_PICTURES: Final = 240


def stream_tokens(documents: int, num_tokens: int) -> int:
    """Tokens of a stream: those of all documents, a separator before each and one at the end."""
    return num_tokens + documents + 1


def token_shard_bytes(*, documents: int, num_tokens: int, metadata_bytes: int) -> int:
    """Stream, offsets, metadata with its offsets, thumbnails."""
    stream = TOKEN_BYTES * stream_tokens(documents, num_tokens)
    return stream + documents * (8 + 8 + _THUMBNAIL_BYTES) + metadata_bytes + _NPY_HEADER


def prefix_shard_bytes(*, documents: int, num_tokens: int) -> int:
    """Stream and offsets; the other files are hard links."""
    return TOKEN_BYTES * stream_tokens(documents, num_tokens) + 8 * documents


def pixels_bytes(*, num_images: int, image_size: int) -> int:
    """Packed images that a training reads."""
    return num_images * 3 * image_size**2 + _NPY_HEADER


def index_shard_bytes(*, num_tokens: int, copied_bytes: int) -> int:
    """The table; the token files are hard links, unless several shards become one (copied)."""
    return num_tokens * pointer_width(num_tokens) + copied_bytes


def joined_bytes(*, documents: int, num_tokens: int, metadata_bytes: int) -> int:
    """Stream, offsets and metadata with its offsets, written anew."""
    return TOKEN_BYTES * num_tokens + documents * (8 + 8) + metadata_bytes


def order_bytes(*, num_tokens: int, aligned: bool) -> int:
    """Inverse, shared lengths, repeats, minima; the aligned order has a table of its own."""
    table = num_tokens * pointer_width(num_tokens) if aligned else 0
    ranks = num_tokens * inverse_width(num_tokens) + INVERSE_PADDING
    return table + ranks + 2 * (2 * num_tokens + sum(minima_sizes(num_tokens)))


def split_bytes(num_holdout: int) -> int:
    """Keys and thumbnails of the held-out images."""
    return num_holdout * (_THUMBNAIL_BYTES + 24) + _NPY_HEADER


def samples_bytes(*, num_images: int, num_tokens: int, image_size: int) -> int:
    """Tokens, trace, decoded images and the grid of a samples or replay artifact."""
    image = 3 * image_size**2
    grid = min(num_images, _GRID_IMAGES) * image
    tokens = num_images * num_tokens * (TOKEN_BYTES + _TRACE_BYTES)
    return tokens + num_images * image + grid + _SAMPLE_FILES * _NPY_HEADER


def decoded_bytes(*, num_images: int, num_tokens: int, image_size: int) -> int:
    """The same without a trace."""
    image = 3 * image_size**2
    grid = min(num_images, _GRID_IMAGES) * image
    return num_images * (num_tokens * TOKEN_BYTES + image) + grid + _SAMPLE_FILES * _NPY_HEADER


def samples_memory(*, num_images: int, num_tokens: int) -> int:
    """Tokens and trace of a batch, which are held until they are written."""
    return min(num_images * num_tokens, _BATCH_TOKENS) * (TOKEN_BYTES + _TRACE_BYTES)


def features_bytes(*, num_images: int, num_features: int) -> int:
    """(N, D) float32, and the document ids of a reference."""
    return num_images * (num_features * _FEATURE_BYTES + 8) + 2 * _NPY_HEADER


def matches_bytes(*, num_images: int, num_tokens: int) -> int:
    """(N, T) of the smallest unsigned type that holds T."""
    return num_images * num_tokens * np.min_scalar_type(num_tokens).itemsize + _NPY_HEADER


def scores_bytes(num_images: int) -> int:
    """Scores and curves of all metrics, once by metric and once together."""
    return _SCORES_BYTES + _SCORES_BYTES_AN_IMAGE * num_images


def pairs_bytes(max_pairs: int, image_size: int) -> int:
    """At most two training images a pair, with their metadata."""
    return 2 * max_pairs * (3 * image_size**2 + 1_000)


def run_folder_bytes(image_size: int) -> int:
    """The report with its pictures as base64 PNG; samples are hard links."""
    side = max(image_size, 64 // image_size * image_size)
    picture = min(3 * image_size**2 + side**2 // 8 + 300, 60_000)
    return _RUN_FOLDER_BYTES + _REPORT_PICTURES * picture * 4 // 3
