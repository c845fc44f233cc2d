"""DemoCorpus: random crops of the colour photographs that scikit-image and scikit-learn ship.

    python -m imagegram.run corpus=demo

Written on first use as WebDataset tars, without a network. Crops of several scales overlap, so that
an n-gram model finds contexts that go on in more than one way. The right edge of every photograph
is reserved for held-out crops: no training crop touches a pixel of it.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar, Final

from PIL import Image

from imagegram.corpora.file_shard import snapshot_of
from imagegram.corpora.tar import TarShard
from imagegram.corpora.webdataset import NEAR_DUPLICATE_RMS, check_policy
from imagegram.errors import ConfigError, CorpusError, MissingDependencyError, remedy
from imagegram.images.modality import IMAGES
from imagegram.protocols import Modality
from imagegram.seeding import uniforms
from imagegram.store.fingerprint import NOT_IDENTITY, digest
from imagegram.store.snapshot import Snapshot

#: Photograph: package, file inside it. Only files inside the wheels, never fetched ones.
PHOTOS: Final = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}
#: Width of the reserved edge over the side of the largest crop: held-out crops can still move.
_EDGE: Final = 1.25
#: Samples of the counter-based generator below this are training crops, from it on held-out ones.
_HOLDOUT_SAMPLES: Final = 2**32
_PIP_NAMES: Final = {"skimage": "scikit-image", "sklearn": "scikit-learn"}

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class DemoCorpus:
    """Crops of real photographs.

    Attributes:
        name: name in tables and reports.
        write_to: folder that the tars are written below.
        num_shards: training tars; fewer are the first of more.
        images_per_shard: crops of one training tar.
        num_holdout: held-out crops, in one tar.
        image_size: side of a crop's picture in pixels.
        crop_scales: sides of the crops over the shorter side of the photograph.
        seed: of the crops.
        near_duplicate_rms: largest RMS difference, 0 ... 255, of 16x16 thumbnails of one picture.
        max_failed_fraction: share of unreadable images in a shard above which its tokenization
            fails.
        views: ``flip``: train on mirror images too, ``ten_crop``: on ten crops of each instead;
            held-out images stay as they are, and all views of an image are one source.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    modality: ClassVar[Modality] = IMAGES
    VERSION: ClassVar[int] = 1

    name: str = field(default="demo", metadata=NOT_IDENTITY)
    write_to: str = field(default="outputs/corpora", metadata=NOT_IDENTITY)
    num_shards: int = 4
    images_per_shard: int = 500
    num_holdout: int = 256
    image_size: int = 64
    crop_scales: tuple[float, ...] = (0.15, 0.25, 0.4)
    seed: int = 0
    near_duplicate_rms: float = NEAR_DUPLICATE_RMS
    max_failed_fraction: float = 0.05
    views: str = field(default="none", metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Accept a YAML list and check the ranges."""
        object.__setattr__(self, "crop_scales", tuple(float(scale) for scale in self.crop_scales))
        check_policy(self)
        if not self.crop_scales or not all(0.05 <= scale <= 0.5 for scale in self.crop_scales):
            raise ConfigError(
                "corpus.crop_scales must be shares of the shorter side in 0.05 ... 0.5, got "
                f"{list(self.crop_scales)}; type for example corpus.crop_scales=[0.15,0.25,0.4]"
            )
        if self.num_holdout < 1 or self.image_size < 1:
            raise ConfigError(
                "corpus.num_holdout and corpus.image_size must be at least 1, got "
                f"{self.num_holdout} and {self.image_size}; type for example "
                "corpus.num_holdout=256 corpus.image_size=64"
            )

    @property
    def near_duplicate_limit(self) -> float:
        """Largest RMS difference of thumbnails of one picture."""
        return self.near_duplicate_rms

    @property
    def holdout_fraction(self) -> float:
        """0: whole shards are held out."""
        return 0.0

    @property
    def max_holdout(self) -> int:
        """As many as are held out."""
        return self.num_holdout

    @property
    def folder(self) -> Path:
        """The folder of the tars of these crops; other crops lie beside it."""
        crops = [self.VERSION, self.images_per_shard, self.num_holdout, self.image_size]
        return Path(self.write_to) / f"demo-{digest([*crops, list(self.crop_scales), self.seed])}"

    @property
    def shards(self) -> tuple[TarShard, ...]:
        """Training crops, written first where they are missing.

        Raises:
            CorpusError: when they cannot be written.
            MissingDependencyError: when a photograph is not there.
        """
        return tuple(self._shard(shard) for shard in range(self.num_shards))

    @property
    def holdout_shards(self) -> tuple[TarShard, ...]:
        """Held-out crops, written first where they are missing; raises like ``shards``."""
        return (self._shard(None),)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The tars of the crops; raises like ``shards``."""
        return self.look()

    def look(self) -> Snapshot:
        """Return the tars that are there now; raises like ``shards``."""
        shards = [self._shard(shard) for shard in (*range(self.num_shards), None)]
        return snapshot_of((one.path for one in shards), noun="tar", where=str(self.folder))

    def _shard(self, shard: int | None) -> TarShard:
        name = "holdout" if shard is None else f"{shard:05d}"
        path = self.folder / f"{name}.tar"
        write_once(path, lambda partial: self._write(partial, shard), corpus=self.name)
        return TarShard(name=name, path=path, hash_cache=self.hash_cache)

    def _write(self, path: Path, shard: int | None) -> None:
        from webdataset import TarWriter

        count = self.num_holdout if shard is None else self.images_per_shard
        start = _HOLDOUT_SAMPLES if shard is None else shard * self.images_per_shard
        # Owner and time are fixed: the bytes depend on the crops alone.
        with TarWriter(str(path), encoder=False, mtime=0.0, user="", group="") as tar:
            for number in range(count):
                photo, box, scale = self.crop(start + number)
                side = (self.image_size, self.image_size)
                # resize(box=...) would also read pixels around the box, held-out ones for instance.
                picture = _photo(photo).crop(box).resize(side, Image.Resampling.BILINEAR)
                encoded = io.BytesIO()
                picture.save(encoded, "PNG", compress_level=6)
                info = {"photo": photo, "box": list(box), "scale": scale}
                tar.write(
                    {
                        "__key__": f"{number:06d}",
                        "png": encoded.getvalue(),
                        "txt": photo.encode(),
                        "json": json.dumps(info).encode(),
                    }
                )

    def crop(self, sample: int) -> tuple[str, Box, float]:
        """Return photograph, box (left, top, right, bottom) in pixels and scale of one crop.

        Args:
            sample: number of a training crop; 2**32 and above are held-out crops.
        """
        which, how_large = uniforms(seed=self.seed, sample=sample, position=0)
        across, down = uniforms(seed=self.seed, sample=sample, position=1)
        photo = list(PHOTOS)[int(which * len(PHOTOS))]
        scale = self.crop_scales[int(how_large * len(self.crop_scales))]
        width, height = _photo(photo).size
        shorter = min(width, height)
        side = max(int(scale * shorter), 1)
        edge = width - int(_EDGE * max(self.crop_scales) * shorter)
        low, high = (edge, width) if sample >= _HOLDOUT_SAMPLES else (0, edge)
        left = low + int(across * (high - low - side + 1))
        top = int(down * (height - side + 1))
        return photo, (left, top, left + side, top + side), scale


def write_once(path: Path, write: Callable[[Path], None], *, corpus: str) -> None:
    """Make a tar unless it is there; a killed run leaves nothing that looks like one.

    Args:
        path: of the tar.
        write: writes it to the path that it is given, always the same bytes.
        corpus: its name, for messages.

    Raises:
        CorpusError: when it cannot be written.
    """
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes may write the same bytes; the last rename wins.
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise CorpusError(
            f"corpus {corpus} could not be written to {path.parent.absolute()}: "
            f"{error.strerror or error}; {remedy(error, outputs=path.parent)}"
        ) from error


@cache
def _photo(name: str) -> Image.Image:
    package, file = PHOTOS[name]
    spec = importlib.util.find_spec(package)  # finds the folder without importing the package
    path = Path(spec.origin).parent / file if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise MissingDependencyError(
            f"corpus=demo needs the photograph {file} of {_PIP_NAMES[package]}; type: "
            f"pip install {_PIP_NAMES[package]}"
        )
    with Image.open(path) as picture:
        return picture.convert("RGB")
