"""The images of token documents as rows of pixels, with captions, for generators that paint.

pixels.npy      (N, S, S, 3) uint8, in the order of the documents
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.records import Images
from imagegram.stages.tokens import TokenSet
from imagegram.store.arrays import ArrayFiles
from imagegram.store.manifest import Handle
from imagegram.store.stage import Context, Stage, Surroundings
from imagegram.training.captioned_tokens import CaptionedTokens
from imagegram.training.captions import CaptionedItems
from imagegram.training.objective import Prepared
from imagegram.training.pixels import PIXELS

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

#: Images that are written at a time.
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class DocumentPixels(Handle):
    """Images of one size, in the order of documents; small enough to send to processes."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the opened file."""
        return {"artifact": self.artifact}

    @cached_property
    def _pixels(self) -> Images:
        found: Images = np.load(self.artifact.path / PIXELS, mmap_mode="r")
        return found

    def __len__(self) -> int:
        """Return the number of images, N."""
        return int(self.artifact.facts["num_images"])

    def gather(self, rows: NDArray[np.integer[Any]]) -> Images:
        """Return the (B, S, S, 3) uint8 images of the given rows, in a new array."""
        return self._pixels[np.asarray(rows)]


@dataclass(frozen=True, kw_only=True)
class PackDocuments(Stage[DocumentPixels]):
    """The stage that packs the images of documents.

    Attributes:
        tokens: finished documents of images.
        image_size: side in pixels; bilinear, the aspect ratio is squashed.
    """

    kind: ClassVar[str] = "document_pixels"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1

    tokens: TokenSet
    image_size: int

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Read, decode and resize every image; write ``pixels.npy``.

        Raises:
            CorpusError: when a shard changed behind the tokens.
        """
        from imagegram.images.resampling import resize

        count = self.tokens.num_documents
        task = context.progress.start("pack images", count, "images")
        with ArrayFiles(out, count) as files:
            for first in range(0, count, _CHUNK):
                documents = range(first, min(first + _CHUNK, count))
                images = [resize(self.tokens.picture(one), self.image_size) for one in documents]
                files.append(Path(PIXELS).stem, np.stack(images))
                context.progress.advance(task, len(images))
        context.progress.finish(task)
        return {"num_images": count, "image_size": self.image_size}

    def load(self, artifact: Artifact) -> DocumentPixels:
        """Return the handle of the images."""
        return DocumentPixels(artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class CaptionedPictures(CaptionedTokens):
    """Training data from the images of finished token sets, and their captions.

    Attributes:
        image_size: side of the images in pixels.
    """

    PARTS: ClassVar[tuple[type, ...]] = (*CaptionedTokens.PARTS, PackDocuments)

    image_size: int

    def identity(self) -> dict[str, Any]:
        """Return the identity of documents and captions, and the size of the images."""
        return super().identity() | {"image_size": self.image_size}

    def prepare(self, context: Context) -> Prepared:
        """Pack the images of both sets, and embed their captions."""
        found = super().prepare(context)
        items, validation = (
            self._pictures(each, context.make(self._packing(each)))
            for each in (found.items, found.validation)
        )
        return replace(found, items=items, validation=validation)

    def found(self, at: Surroundings) -> Prepared | None:
        """Return what :meth:`prepare` does, if all of it was made; None: something is missing."""
        found = super().found(at)
        if found is None:
            return None
        sets = []
        for each in (found.items, found.validation):
            stage = self._packing(each)
            artifact = at.find(stage)
            if artifact is None:
                return None
            sets.append(self._pictures(each, stage.load(artifact)))
        return replace(found, items=sets[0], validation=sets[1])

    def _packing(self, items: Any) -> PackDocuments:
        return PackDocuments(tokens=items.items.tokens, image_size=self.image_size)

    def _pictures(self, captioned: Any, pixels: DocumentPixels) -> CaptionedItems:
        found: CaptionedItems = replace(captioned, items=pixels)
        return found
