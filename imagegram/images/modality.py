"""The modality of images: what the stages need of them; ``texts/modality.py`` is the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.images import grids
from imagegram.images.decode import THUMBNAIL_SIZE, quiet, read_picture, thumbnail
from imagegram.images.near_duplicates import ThumbnailSearch, cluster_labels
from imagegram.images.views import view_of
from imagegram.records import Images
from imagegram.store.arrays import ArrayFiles

#: Generated images, (B, S, S, 3) uint8, in the folder of an image set.
IMAGES_FILE: Final = "images.npy"
_GRID_IMAGES: Final = 64


@dataclass(frozen=True)
class ImageModality:
    """RGB images, (H, W, 3) uint8; sketches are 16x16 thumbnails, compared by RMS difference."""

    noun: ClassVar[str] = "image"
    nouns: ClassVar[str] = "images"
    SKETCHES: ClassVar[str] = "thumbnails.npy"
    #: Packages of compiled kernels, see ``early_kernels.py``.
    kernels: ClassVar[tuple[str, ...]] = ("imagegram.images",)

    def reading(self) -> AbstractContextManager[None]:
        """Silence Pillow's warnings while files are read."""
        return quiet()

    def read(self, data: bytes) -> Images:
        """Decode a file to upright pixels; raises Unreadable, see ``images/decode.py``."""
        return read_picture(data)

    def view(self, item: Images, name: str) -> Images:
        """Return a view of an image; see ``images/views.py``."""
        return view_of(item, name)

    def facts(self, item: Images) -> dict[str, Any]:
        """Return width and height in pixels."""
        return {"width": item.shape[1], "height": item.shape[0]}

    def sketch(self, item: Images) -> Images:
        """Return the (16, 16, 3) uint8 thumbnail of an image."""
        return thumbnail(item)

    def stack(self, sketches: Sequence[Images]) -> Images:
        """Stack thumbnails to (N, 16, 16, 3) uint8."""
        return np.array(sketches, dtype=np.uint8).reshape(-1, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)

    def search(self, sketches: Images, *, limit: float) -> Callable[[Images], NDArray[np.int64]]:
        """Prepare an exact search for thumbnails within an RMS difference of one."""
        search = ThumbnailSearch.over(sketches)
        return lambda sketch: search.neighbours(sketch, rms=limit)

    def cluster(self, sketches: Images, *, limit: float) -> NDArray[np.intp]:
        """Return (N,) cluster labels of thumbnails within an RMS difference of each other."""
        return cluster_labels(sketches, rms=limit)

    def writer(self, folder: Path, count: int) -> ImageWriter:
        """Return the writer of ``images.npy`` and ``grid.png``."""
        return ImageWriter(folder, count)


IMAGES: Final = ImageModality()


class ImageWriter(ArrayFiles):
    """Writer of square images of one size, and of a grid of the first of them."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(folder, count)
        self._shown: list[Images] = []

    def __enter__(self) -> ImageWriter:
        """Open the files."""
        return self

    def add(self, items: Sequence[Images] | Images) -> None:
        """Append (N, S, S, 3) uint8 images."""
        images = np.asarray(items)
        self.append(Path(IMAGES_FILE).stem, images)
        missing = _GRID_IMAGES - sum(map(len, self._shown))
        if missing > 0:
            self._shown.append(images[:missing])

    def facts(self) -> dict[str, Any]:
        """Write the grid; return the side of the images in pixels."""
        shown = np.concatenate(self._shown)
        grids.save_png(self.folder / "grid.png", grids.grid(shown))
        return {"image_size": int(shown.shape[1])}
