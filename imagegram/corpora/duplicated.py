"""Corpora with repeated pictures, to measure what copies in the corpus do.

    python -m imagegram.run -m experiment=duplication paths.data=DATA
    python -m imagegram.run corpus=demo_dup metric=[copying,duplication]

Every shard of another corpus is written anew, once, with some of its images repeated byte by byte.
The number of copies of an image depends on its content and the seed alone: larger sizes of a corpus
repeat the same images of the shards that they share. Held-out images stay as the other corpus has
them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import ClassVar, Final

from imagegram.corpora.demo import DemoCorpus, write_once
from imagegram.corpora.tar import TarShard
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ConfigError
from imagegram.store.fingerprint import NOT_IDENTITY, digest

#: As many training images of every multiplicity: shares fall as the multiplicities grow.
MULTIPLICITIES: Final = (1, 3, 9, 27)
SHARES: Final = (0.675, 0.225, 0.075, 0.025)


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """Multiplicities of the images of a corpus, chosen by their content and a seed.

    Attributes:
        multiplicities: numbers of copies that an image can have.
        shares: share of the images with each multiplicity; they sum to 1.
        seed: of the choice.
    """

    VERSION: ClassVar[int] = 1

    multiplicities: tuple[int, ...]
    shares: tuple[float, ...]
    seed: int

    def __post_init__(self) -> None:
        """Accept YAML lists and check the numbers."""
        object.__setattr__(self, "multiplicities", tuple(int(k) for k in self.multiplicities))
        object.__setattr__(self, "shares", tuple(float(share) for share in self.shares))
        if not self.multiplicities or min(self.multiplicities) < 1:
            raise ConfigError(
                "corpus.multiplicities must be numbers from 1 on, got "
                f"{list(self.multiplicities)}; type for example corpus.multiplicities=[1,3,9,27]"
            )
        matching = len(self.shares) == len(self.multiplicities) and min(self.shares) >= 0
        if not matching or not math.isclose(sum(self.shares), 1, abs_tol=1e-6):
            raise ConfigError(
                "corpus.shares must be one share for each of corpus.multiplicities="
                f"{list(self.multiplicities)}, and sum to 1, got {list(self.shares)}; type for "
                "example corpus.multiplicities=[1,10] corpus.shares=[0.9,0.1]"
            )

    def times(self, data: bytes) -> int:
        """Return how many copies of an encoded image the corpus holds."""
        hashed = hashlib.sha256(f"{self.seed}:".encode() + data).digest()
        number = int.from_bytes(hashed[:8], "big") / 2**64
        bounds = list(accumulate(self.shares))[:-1]
        return self.multiplicities[sum(bound <= number for bound in bounds)]

    def repeat(
        self, shards: Sequence[TarShard], *, folder: Path, corpus: str, hash_cache: str | None
    ) -> tuple[TarShard, ...]:
        """Return the shards with repeated images, written first where they are missing.

        Args:
            shards: of another corpus.
            folder: folder to write below; a tar there is known by the content of its shard.
            corpus: name of the new corpus, for messages.
            hash_cache: folder that remembers content hashes.

        Raises:
            CorpusError: when they cannot be written.
        """
        policy = [self.VERSION, list(self.multiplicities), list(self.shares), self.seed]
        repeated = []
        for shard in shards:
            path = folder / f"duplicated-{digest([*policy, shard.identity()])}.tar"
            write_once(path, partial(self._write, shard), corpus=corpus)
            repeated.append(TarShard(name=shard.name, path=path, hash_cache=hash_cache))
        return tuple(repeated)

    def _write(self, shard: TarShard, path: Path) -> None:
        from webdataset import TarWriter

        # Owner and time are fixed: the bytes depend on the images alone.
        with TarWriter(str(path), encoder=False, mtime=0.0, user="", group="") as tar:
            for number, record in enumerate(shard):
                if record.failure is not None:
                    continue  # an image that cannot be read cannot be repeated either
                times = self.times(record.data)
                suffix = Path(record.locator.member).suffix.lower().removeprefix(".")
                for copy in range(times):
                    info = {"source_key": record.key, "copy": copy, "multiplicity": times}
                    members = {
                        "__key__": f"{number:06d}_{copy:03d}",
                        suffix: record.data,
                        "json": json.dumps({**(record.info or {}), **info}).encode(),
                    }
                    if record.caption is not None:
                        members["txt"] = record.caption.encode()
                    tar.write(members)


@dataclass(frozen=True, kw_only=True)
class DuplicatedCorpus(WebDatasetCorpus):
    """Tars of images, some of them repeated; all other fields are :class:`WebDatasetCorpus`'s.

    Attributes:
        write_to: folder that the repeated tars are written below.
        multiplicities: numbers of copies that an image can have.
        shares: share of the images with each multiplicity; they sum to 1.
        seed: of the choice of images.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="duplicated", metadata=NOT_IDENTITY)
    write_to: str = field(default="outputs/corpora", metadata=NOT_IDENTITY)
    multiplicities: tuple[int, ...] = MULTIPLICITIES
    shares: tuple[float, ...] = SHARES
    seed: int = 0

    def __post_init__(self) -> None:
        """Accept YAML lists and check the ranges."""
        super().__post_init__()
        object.__setattr__(self, "multiplicities", self.repetition.multiplicities)
        object.__setattr__(self, "shares", self.repetition.shares)

    @property
    def repetition(self) -> Repetition:
        """The multiplicities of the images."""
        return Repetition(multiplicities=self.multiplicities, shares=self.shares, seed=self.seed)

    @property
    def shards(self) -> tuple[TarShard, ...]:
        """The first ``num_shards`` training tars with repeated images, written when missing.

        Raises:
            CorpusError: when a tar is missing or one cannot be written.
        """
        return self.repetition.repeat(
            super().shards, folder=Path(self.write_to), corpus=self.name, hash_cache=self.hash_cache
        )


@dataclass(frozen=True, kw_only=True)
class DuplicatedDemoCorpus(DemoCorpus):
    """Crops of real photographs, some of them repeated; its ``seed`` also chooses which.

    Attributes:
        multiplicities: numbers of copies that a crop can have.
        shares: share of the crops with each multiplicity; they sum to 1.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="demo_dup", metadata=NOT_IDENTITY)
    multiplicities: tuple[int, ...] = MULTIPLICITIES
    shares: tuple[float, ...] = SHARES

    def __post_init__(self) -> None:
        """Accept YAML lists and check the ranges."""
        super().__post_init__()
        object.__setattr__(self, "multiplicities", self.repetition.multiplicities)
        object.__setattr__(self, "shares", self.repetition.shares)

    @property
    def repetition(self) -> Repetition:
        """The multiplicities of the crops."""
        return Repetition(multiplicities=self.multiplicities, shares=self.shares, seed=self.seed)

    @property
    def shards(self) -> tuple[TarShard, ...]:
        """Training crops with repetitions, written first where they are missing.

        Raises:
            CorpusError: when they cannot be written.
            MissingDependencyError: when a photograph is not there.
        """
        return self.repetition.repeat(
            super().shards, folder=self.folder, corpus=self.name, hash_cache=self.hash_cache
        )
