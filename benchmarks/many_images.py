"""Write a corpus of any size in CC12M's layout: seeded crops of the pictures of some tars.

    python -m benchmarks.many_images 100000 FOLDER DATA/photos256 DATA/tiny_imagenet/train
    python -m imagegram.run corpus=cc12m_10 tokenizer=pyramid4 paths.data=FOLDER

FOLDER/cc12m/00000.tar ... get 10,000 images each (``--per-tar``), a JPEG with caption and facts, as
``tools.download corpus=cc12m_10`` leaves them. Image i depends on the sources, the seed and i
alone: a smaller corpus is the beginning of a larger one, and a command that was stopped goes on
with the first tar that is missing. So that few sources make many pictures, which are no
near-duplicates of each other, a crop takes 30 to 100 % of each side, every second one mirrored.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from imagegram.corpora.patterns import expand
from imagegram.corpora.tar import TarShard
from imagegram.records import Record

#: Images of a tar of CC12M.
PER_TAR: Final = 10_000
#: Smallest share of a side that a crop keeps.
_LEAST: Final = 0.3
_QUALITY: Final = 85


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Pictures that crops are cut from.

    Attributes:
        records: the pictures, still encoded, in the order of their tars.
        seed: of the crops.
        side: of the crops, in pixels.
        per_tar: images of a tar.
    """

    records: tuple[Record, ...]
    seed: int
    side: int
    per_tar: int = PER_TAR

    @classmethod
    def read(cls, patterns: Sequence[str], **options: int) -> Sources:
        """Read all pictures of the tars that some patterns name."""
        shards = [TarShard(name=path.name, path=path) for path in expand(patterns)]
        readable = [record for shard in shards for record in shard if record.failure is None]
        return cls(records=tuple(readable), **options)

    def key_of(self, number: int) -> str:
        """Return the key of an image: five digits of its tar, four of its place there.

        >>> Sources(records=(), seed=0, side=64).key_of(20_003)
        '000020003'
        """
        tar, place = divmod(number, self.per_tar)
        return f"{tar:05d}{place:04d}"

    def crop(self, number: int) -> dict[str, bytes]:
        """Return the files of one image by suffix: the picture, its caption, its facts."""
        random = np.random.default_rng((self.seed, number))
        record = self.records[random.integers(len(self.records))]
        with Image.open(io.BytesIO(record.data)) as opened:
            picture = opened.convert("RGB")
        shares = random.uniform(_LEAST, 1.0, 2)
        corner = random.uniform(0.0, 1.0 - shares)
        box = np.concatenate([corner, corner + shares]) * [*picture.size, *picture.size]
        shape = (self.side, self.side)
        crop = picture.resize(shape, Image.Resampling.BICUBIC, box=tuple(box))
        if random.integers(2):
            crop = ImageOps.mirror(crop)
        encoded = io.BytesIO()
        crop.save(encoded, "JPEG", quality=_QUALITY)
        caption, (width, height) = record.caption or "", shape
        facts = {
            "caption": caption,
            "url": None,
            "key": self.key_of(number),
            "status": "success",
            "width": width,
            "height": height,
        }
        files = {"jpg": encoded.getvalue(), "txt": caption.encode()}
        return files | {"json": json.dumps(facts).encode()}


def write_corpus(folder: Path, num_images: int, sources: Sources) -> Iterator[Path]:
    """Write the tars of a corpus that are not there, one after the other; yield each when whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for tar, first in enumerate(range(0, num_images, sources.per_tar)):
        numbers = range(first, min(first + sources.per_tar, num_images))
        path = folder / f"{tar:05d}.tar"
        if not path.exists() or len(TarShard(name=path.name, path=path)) != len(numbers):
            _write_tar(path, numbers, sources)
        yield path


def _write_tar(path: Path, numbers: range, sources: Sources) -> None:
    """Write one tar under a name of its own, which is the right one only when it is whole."""
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in numbers:
            for suffix, data in sources.crop(number).items():
                member = tarfile.TarInfo(f"{sources.key_of(number)}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    partial.replace(path)


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    summary, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("images", type=int, help="how many")
    parser.add_argument("folder", type=Path, help="FOLDER/cc12m is written")
    parser.add_argument("tars", nargs="+", help="of pictures: files, folders, globs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=128, help="of an image, in pixels")
    parser.add_argument("--per-tar", type=int, default=PER_TAR, help="images of a tar, 1 ... 10000")
    given = parser.parse_args(words)
    if given.images < 1 or given.side < 1 or not 1 <= given.per_tar <= PER_TAR:
        parser.error("images and --side must be at least 1, --per-tar at most 10000")
    sources = Sources.read(given.tars, seed=given.seed, side=given.side, per_tar=given.per_tar)
    for path in write_corpus(given.folder / "cc12m", given.images, sources):
        print(path, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
