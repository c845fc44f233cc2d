"""The content of codebooks, by which a renderer knows those that it was trained on."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def codebooks_sha256(codebooks_KVD: NDArray[np.float32]) -> str:
    """Return the sha256 of shape and content of (K, V, D) codebooks."""
    array = np.ascontiguousarray(codebooks_KVD, dtype="<f4")
    return hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()
