"""``png_bits_per_dim``, ``webp_...``, ``jxl_...``: size of lossless files of the same pictures.

These scores are a scale for ``bits_per_dim`` of an n-gram (``metrics/likelihood.py``). A codec
assumes pictures in general and predicts from neighbours in two dimensions; the n-gram has counts of
its corpus and sees the last few tokens, and a pyramid has more tokens than a picture has colour
values. Far fewer bits than those of a codec mean that the pictures are in the corpus. Both are
measured on decoded pictures.

A large part of a small picture's file is header, and the codec's statistics start anew with every
file. So contact sheets are measured too (``png_sheet_bits_per_dim`` ...), of up to 2^20 pixels,
with pictures side by side in the order of a hash of their pixels. Both count whole files.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.tiles import over_tiles, row_tiles
from imagegram.images.grids import grid
from imagegram.intervals import mean_over_images
from imagegram.metrics.features import undefined
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Images, Measured, Measurement, ScoreInfo

#: Pixels of a contact sheet: many enough for a negligible header, few enough for many threads.
_SHEET_PIXELS: Final = 1 << 20
#: Images that a thread encodes at a time.
_IMAGES: Final = 16
_JXL_EFFORT: Final = 7


def encode_png(image_HWC: Images) -> bytes:
    """Encode one (H, W, 3) uint8 image as PNG, with zlib's best compression."""
    return _saved(image_HWC, format="PNG", optimize=True)


def encode_webp(image_HWC: Images) -> bytes:
    """Encode one (H, W, 3) uint8 image as lossless WebP.

    At ``method=6, quality=100`` files of 32 and 128 pixels were larger by 3 % and 1 %, and took 40
    times as long.
    """
    return _saved(image_HWC, format="WEBP", lossless=True, quality=100, method=4)


def encode_jxl(image_HWC: Images) -> bytes:
    """Encode one (H, W, 3) uint8 image as lossless JPEG XL; needs pylibjxl.

    Efforts 8 to 10 made larger files of 32 pixels, in three to twelve times the time.
    """
    import pylibjxl

    pixels = np.ascontiguousarray(image_HWC)
    return bytes(pylibjxl.encode(pixels, lossless=True, effort=_JXL_EFFORT))


CODECS: Final[dict[str, Callable[[Images], bytes]]] = {
    "png": encode_png,
    "webp": encode_webp,
    "jxl": encode_jxl,
}


@dataclass(frozen=True, kw_only=True)
class CodecMetric:
    """Metric of the bits of lossless files per colour value.

    ``<codec>_bits_per_dim``: 8 x bytes of a picture's own file / (3 H W), mean over pictures.
    ``<codec>_sheet_bits_per_dim``: the same of all contact sheets together, without interval: few
    files, and often one. A codec whose library is missing has no value.

    Attributes:
        name: name of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"images"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = tuple(
        ScoreInfo(
            name=f"{codec}{kind}_bits_per_dim",
            title=f"bits of {codec} {files}",
            words=words.format(codec=codec),
            unit="bits",
            group="likelihood",
        )
        for kind, files, words in (
            (
                "",
                "files",
                "Every sample as a lossless file of its own, format {codec}: what a codec needs "
                "that knows pictures but not the corpus.",
            ),
            (
                "_sheet",
                "contact sheets",
                "The same, all samples side by side on contact sheets, format {codec}.",
            ),
        )
        for codec in CODECS
    )

    name: str = "codecs"

    def identity(self) -> dict[str, Any]:
        """Return the fields and the missing codecs, so that installing one measures again."""
        own = {"class": type(self).__name__, "version": self.VERSION, "name": self.name}
        return own | ({"missing": missing} if (missing := missing_codecs()) else {})

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Encode every image of a set and its contact sheets, on threads."""
        images, workers = generated.images, reference.workers
        missing = missing_codecs()
        codecs = {name: encode for name, encode in CODECS.items() if name not in missing}
        num_images, dims = len(images), int(np.prod(images.shape[1:]))

        def encode_images(rows: slice) -> NDArray[np.int64]:
            some = np.asarray(images[rows])
            return np.array([[len(encode(image)) for image in some] for encode in codecs.values()])

        order = content_order(images)

        def encode_sheet(rows: slice) -> list[int]:
            sheet = grid(images[order[rows]], gap=0)
            return [len(encode(sheet)) for encode in codecs.values()]

        task = reference.progress.start("codecs", 2 * num_images, "images")
        single, sheets = [], np.zeros(len(codecs), dtype=np.int64)
        for some in over_tiles(encode_images, row_tiles(num_images, _IMAGES), workers=workers):
            single.append(some)
            reference.progress.advance(task, some.shape[1])
        per_sheet = row_tiles(num_images, max(3 * _SHEET_PIXELS // dims, 1))
        encoded = over_tiles(encode_sheet, per_sheet, workers=workers)
        for rows, sizes in zip(per_sheet, encoded, strict=True):
            sheets += sizes
            reference.progress.advance(task, rows.stop - rows.start)
        reference.progress.finish(task)
        bits_CB = 8 * np.concatenate(single, axis=1) / dims
        scalars = dict.fromkeys(score_names(), undefined("pip install pylibjxl to measure this"))
        for codec, bits_B, sheet in zip(codecs, bits_CB, sheets.tolist(), strict=True):
            scalars[f"{codec}_bits_per_dim"] = mean_over_images(bits_B, seed=reference.seed)
            bits = 8 * sheet / (num_images * dims)
            scalars[f"{codec}_sheet_bits_per_dim"] = Measured(value=bits)
        recipe = {"pixels": "x".join(map(str, images.shape[1:]))} | library_versions(missing)
        return Measurement(scalars=scalars, curves={}, recipe=recipe)


def score_names() -> list[str]:
    """Return the names of the scores, in their order."""
    return [f"{codec}{kind}_bits_per_dim" for kind in ("", "_sheet") for codec in CODECS]


def missing_codecs() -> list[str]:
    """Return the codecs whose library is not installed."""
    return [] if find_spec("pylibjxl") else ["jxl"]


def content_order(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Return (B,) row numbers sorted by a hash of the rows, whatever the order of the set."""
    hashes = [hashlib.sha256(np.ascontiguousarray(row).data).digest() for row in rows]
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__), dtype=np.int64)


def library_versions(missing: list[str]) -> dict[str, str]:
    """Return the library versions, which decide the size of a file besides its pixels."""
    from PIL import __version__, features

    zlib = features.version("zlib_ng") or features.version("zlib")
    versions = {"png": f"Pillow {__version__}, zlib {zlib}"}
    versions["webp"] = f"libwebp {features.version('webp')}, quality 100, method 4"
    if "jxl" not in missing:
        import pylibjxl

        number = ".".join(str(part) for part in pylibjxl.version().values())
        versions["jxl"] = f"libjxl {number}, effort {_JXL_EFFORT}"
    return versions


def _saved(image_HWC: Images, **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image_HWC)).save(stream, **options)
    return stream.getvalue()
