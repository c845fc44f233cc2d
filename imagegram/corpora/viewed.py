"""ViewedShard: the images of a shard, mirrored or cropped: ``corpus.views=flip``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from imagegram.images.views import ORIGINAL
from imagegram.protocols import ImageShard
from imagegram.records import Locator, Record


@dataclass(frozen=True, kw_only=True)
class ViewedShard:
    """One view of every image of a shard; record for record those of the shard.

    Attributes:
        shard: the images as they are.
        view: name of the view, see ``images/views.py``.
    """

    VERSION: ClassVar[int] = 1

    shard: ImageShard
    view: str

    @property
    def name(self) -> str:
        """Short name, unique in the corpus."""
        return f"{self.shard.name}.{self.view}"

    @property
    def path(self) -> Path:
        """Path of the tar or the folder."""
        return self.shard.path

    @property
    def metadata_bytes(self) -> int:
        """Bytes of a metadata line, about; 0: unknown."""
        return int(getattr(self.shard, "metadata_bytes", 0))

    def identity(self) -> str:
        """Return the identity of the shard, with view and version."""
        return f"{self.shard.identity()}.{self.view}.{self.VERSION}"

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.shard)

    def __iter__(self) -> Iterator[Record]:
        """Yield the records of the shard, whose items are then seen in the view."""
        for record in self.shard:
            yield replace(record, view=self.view)

    def read(self, locator: Locator) -> bytes:
        """Return the encoded bytes of one image, which no view changes."""
        return self.shard.read(locator)


def viewed(shard: ImageShard, view: str) -> Any:
    """Return a view of a shard; itself for the images as they are."""
    return shard if view == ORIGINAL else ViewedShard(shard=shard, view=view)
