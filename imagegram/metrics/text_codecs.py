"""``zlib_bits_per_byte``, ``bz2_...``, ``xz_...``: size of compressed files of the same texts.

These scores are a scale for ``bits_per_byte`` of an n-gram (``metrics/likelihood.py``), as
``metrics/codecs.py`` has one for pictures. A compressor knows nothing beforehand and learns from
the texts before; ``xz_training`` has read training texts first, so it pays little for what stands
there.

>>> len(COMPRESSORS["xz"](b"twice " * 1000)) < 100
True
"""

from __future__ import annotations

import bz2
import functools
import hashlib
import lzma
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from imagegram.errors import ConfigError
from imagegram.metrics.features import undefined
from imagegram.metrics.training_texts import training_texts
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo

#: Between two texts of a file.
_BETWEEN: Final = b"\0"
_LEAST_WINDOW, _MOST_WINDOW = 1 << 16, 1 << 26


def compress_xz(data: bytes) -> bytes:
    """Return an .xz file whose compressor looks back over all of it, up to 64 MB.

    Takes some twelve times that window in memory.
    """
    window = min(max(1 << (len(data) - 1).bit_length(), _LEAST_WINDOW), _MOST_WINDOW)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": window}]
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters)


COMPRESSORS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "zlib": lambda data: zlib.compress(data, 9),
    "bz2": lambda data: bz2.compress(data, 9),
    "xz": compress_xz,
}


@dataclass(frozen=True, kw_only=True)
class TextCodecMetric:
    """Metric of the bits of compressed files per byte of text.

    ``<codec>_bits_per_byte``: 8 x bytes of one file of all texts of a set by their bytes, without
    interval: files of single texts would be headers mostly, so more texts need fewer bits each.
    ``xz_training_bits_per_byte``: the same of what a file of training texts grows by when the texts
    are appended. Nothing but the standard library is needed; xz takes half a second a megabyte and
    more, of training texts too, once a process and once a set.

    Attributes:
        name: name of this metric in the configuration.
        max_training_bytes: training texts that are read first, whole documents; 0: none.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"text"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = tuple(
        ScoreInfo(
            name=f"{codec}_bits_per_byte",
            title=f"bits of {codec}",
            words=words,
            unit="bits",
            group="likelihood",
            moves_with_n=True,
        )
        for codec, words in (
            *(
                (
                    codec,
                    f"All samples in one {codec} file: what a compressor needs that does not know "
                    "the corpus.",
                )
                for codec in COMPRESSORS
            ),
            (
                "xz_training",
                "What an xz file of training texts grows by when the samples are appended. Far "
                "below held-out: it stands in the corpus.",
            ),
        )
    )

    name: str = "text_codecs"
    max_training_bytes: int = 1 << 24

    def __post_init__(self) -> None:
        if not 0 <= self.max_training_bytes < _MOST_WINDOW:
            raise ConfigError(
                f"metric.{self.name}.max_training_bytes={self.max_training_bytes} must lie in 0 "
                f"... {_MOST_WINDOW - 1}, which xz can look back; type "
                f"metric.{self.name}.max_training_bytes={1 << 24}"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Compress the texts of a set; takes up to 0.2 GB and twelve times the training texts."""
        texts = [text.encode("utf-8", "surrogatepass") for text in generated.texts]
        num_bytes = sum(map(len, texts))
        names = [info.name for info in self.SCORES]
        if not num_bytes:
            nothing = undefined("nothing was written")
            return Measurement(scalars=dict.fromkeys(names, nothing), curves={})
        data = in_content_order(texts)
        task = reference.progress.start("text codecs", len(names), "files")
        scalars = {}
        for codec, compress in COMPRESSORS.items():
            bits = 8 * len(compress(data)) / num_bytes
            scalars[f"{codec}_bits_per_byte"] = Measured(value=bits)
            reference.progress.advance(task)
        training = in_content_order(
            [
                text.encode("utf-8", "surrogatepass")
                for text in training_texts(reference, max_bytes=self.max_training_bytes)
            ]
        )
        if training:
            grown = len(compress_xz(training + _BETWEEN + data)) - _xz_bytes(training)
            scalars["xz_training_bits_per_byte"] = Measured(value=8 * max(grown, 0) / num_bytes)
        else:
            scalars["xz_training_bits_per_byte"] = undefined(
                f"metric.{self.name}.max_training_bytes is smaller than any document"
            )
        reference.progress.finish(task)
        recipe = {"training_bytes": str(len(training)), **library_versions()}
        return Measurement(scalars=scalars, curves={}, recipe=recipe)


@functools.lru_cache(maxsize=1)
def _xz_bytes(data: bytes) -> int:
    """Return the size of a file of training texts, which all sets share."""
    return len(compress_xz(data))


def in_content_order(texts: Sequence[bytes]) -> bytes:
    """Join texts in the order of a hash of each, whatever the order of the set."""
    return _BETWEEN.join(sorted(texts, key=lambda text: hashlib.sha256(text).digest()))


def library_versions() -> dict[str, Any]:
    """Return the version that decides the size of a file besides its bytes, where it is known."""
    return {"zlib": zlib.ZLIB_RUNTIME_VERSION}
