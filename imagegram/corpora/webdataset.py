"""WebDatasetCorpus: tars of images with captions, in the order that the configuration lists them.

    python -m imagegram.run corpus=webdataset corpus.tars=FOLDER
    python -m imagegram.run corpus=webdataset 'corpus.tars=data/{00000..00009}.tar'

``num_shards`` takes the first N, so that the sizes of one corpus are nested and share their
artifacts: what is cached is a shard, and its identity is its content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

from imagegram.corpora.file_shard import snapshot_of
from imagegram.corpora.patterns import TAR_SUFFIXES, Files, expand, listed
from imagegram.corpora.tar import TarShard
from imagegram.corpora.tar_headers import is_tar
from imagegram.errors import ConfigError, CorpusError
from imagegram.images.modality import IMAGES
from imagegram.images.views import VIEWS
from imagegram.protocols import Modality
from imagegram.store.file_kinds import GZIP, head_of, kind_of
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.snapshot import Snapshot, some

#: RMS difference (0 ... 255) of 16x16 thumbnails up to which two images count as one picture.
#: Looked at in Tiny-ImageNet (20,000 training images among themselves and against 3,000 validation
#: images): one pair below it, at 5.9, a lion in two encodings; the next, at 9.3 and above, are
#: different insects on bare walls, different webs on black. The same image saved as JPEG of quality
#: 50 differs by 4.5 or less in 99 % of cases, of quality 20 by 6.9, resized to 48 or 224 pixels by
#: 1.7, brighter by 5 levels by 5.0. A shift or crop by one of 64 pixels (median 6 to 7) or more,
#: and a mirror image, are mostly not found.
NEAR_DUPLICATE_RMS: Final = 6.0
#: Number of items to hold out of a corpus that names no held-out shards, about: enough for 2,000
#: that thresholds are set on beside a floor of ``num_samples=2000``; for more samples see
#: ``stages/reference_sets.py``.
MAX_HOLDOUT: Final = 4000


@dataclass(frozen=True, kw_only=True)
class WebDatasetCorpus:
    """Tars of images.

    Attributes:
        name: name in tables and reports.
        tars: the training tars: a tar, a folder of tars, a glob, a pattern like
            ``{00000..00099}.tar``, or a list of these; sorted inside a folder or glob.
        num_shards: only the first N of them; None: all.
        holdout_tars: tars that are held out whole, in the same forms; None: images of all training
            tars are held out, by content hash.
        holdout_fraction: share of the images to hold out, near-duplicates together.
        max_holdout: hold out about this many where that share would be more.
        near_duplicate_rms: largest RMS difference, 0 ... 255, of 16x16 thumbnails of one picture.
        max_failed_fraction: share of unreadable images in a shard above which its tokenization
            fails.
        views: ``flip``: train on mirror images too, ``ten_crop``: on ten crops of each instead;
            held-out images stay as they are, and all views of an image are one source.
        hub_repo: dataset repository on the Hugging Face Hub that ``tools.download`` gets tars from.
        hub_folder: folder of the tars inside that repository.
        hint: what to do when tars are missing and ``hub_repo`` is None.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    modality: ClassVar[Modality] = IMAGES
    VERSION: ClassVar[int] = 1

    name: str = field(default="webdataset", metadata=NOT_IDENTITY)
    tars: str | tuple[str, ...] | None = field(default=None, metadata=NOT_IDENTITY)
    num_shards: int | None = None
    holdout_tars: str | tuple[str, ...] | None = field(default=None, metadata=NOT_IDENTITY)
    holdout_fraction: float = 0.1
    max_holdout: int = MAX_HOLDOUT
    near_duplicate_rms: float = NEAR_DUPLICATE_RMS
    max_failed_fraction: float = 0.05
    views: str = field(default="none", metadata=NOT_IDENTITY)
    hub_repo: str | None = field(default=None, metadata=NOT_IDENTITY)
    hub_folder: str = field(default="", metadata=NOT_IDENTITY)
    hint: str | None = field(default=None, metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Accept YAML lists and check the ranges."""
        for name in ("tars", "holdout_tars"):
            if not isinstance(value := getattr(self, name), str | None):
                object.__setattr__(self, name, tuple(str(item) for item in value))
        check_policy(self)

    @property
    def near_duplicate_limit(self) -> float:
        """Largest RMS difference of thumbnails of one picture."""
        return self.near_duplicate_rms

    @property
    def shards(self) -> tuple[TarShard, ...]:
        """The first ``num_shards`` training tars.

        Raises:
            CorpusError: when one is missing or is no tar, with the command that mends it.
        """
        return self._train

    @cached_property
    def _train(self) -> tuple[TarShard, ...]:
        if self.tars is None:
            raise CorpusError(
                f"corpus {self.name}: no tars are named; type corpus.tars=FOLDER, a glob, a list "
                "[a.tar,b.tar] or a pattern 'corpus.tars=FOLDER/{00000..00099}.tar'"
            )
        return self._open(self.tars, self.num_shards)

    @property
    def holdout_shards(self) -> tuple[TarShard, ...]:
        """Tars that are held out whole.

        Raises:
            CorpusError: when one is missing or is no tar, with the command that mends it.
        """
        return self._holdout

    @cached_property
    def _holdout(self) -> tuple[TarShard, ...]:
        return () if self.holdout_tars is None else self._open(self.holdout_tars, None)

    @cached_property
    def snapshot(self) -> Snapshot:
        """What was found when the tars were listed.

        Raises:
            CorpusError: when a tar is missing or is no tar.
        """
        return self._snapshot([shard.path for shard in (*self._train, *self._holdout)])

    def look(self) -> Snapshot:
        """Return what is found now."""
        paths = [*expand(self.tars or ())[: self.num_shards], *expand(self.holdout_tars or ())]
        return self._snapshot([path for path in paths if path.is_file()])

    def _snapshot(self, tars: Sequence[Path]) -> Snapshot:
        patterns = [*listed(self.tars), *listed(self.holdout_tars)]
        return snapshot_of(tars, noun="tar", where=some(patterns), folders=map(Path, patterns))

    def wanted(self) -> tuple[Path, ...]:
        """Return the paths of the training tars, missing ones of a pattern too."""
        return tuple(expand(self.tars or ())[: self.num_shards])

    def _open(
        self, patterns: str | tuple[str, ...], num_shards: int | None
    ) -> tuple[TarShard, ...]:
        files = Files(
            patterns=patterns,
            corpus=self.name,
            setting="corpus.tars",
            noun="tar",
            suffixes=TAR_SUFFIXES,
        )
        found = files.find(num_shards, remedy=self._remedy())
        for path in found.values():
            check_tar(path)
        return tuple(
            TarShard(name=name, path=path, hash_cache=self.hash_cache)
            for name, path in found.items()
        )

    def _remedy(self) -> str:
        if self.hub_repo is not None:
            return f"get them with: python -m imagegram.tools.download corpus={self.name}"
        return self.hint or "check corpus.tars and corpus.num_shards"


def check_policy(corpus: object) -> None:
    """Check the numeric fields that all corpora share.

    Raises:
        ConfigError: naming the field, its value and its range.
    """
    fractions = ("holdout_fraction", "max_failed_fraction", "near_duplicate_similarity")
    ranges = {**dict.fromkeys(fractions, (0.0, 1.0)), "near_duplicate_rms": (0.0, 255.0)}
    for name, (low, high) in ranges.items():
        value = getattr(corpus, name, low)
        if not low <= value <= high:
            raise ConfigError(
                f"corpus.{name} must lie in {low:g} ... {high:g}, got {value}; type "
                f"corpus.{name}=NUMBER"
            )
    views = getattr(corpus, "views", "none")
    if views not in VIEWS:
        raise ConfigError(
            f"corpus.views={views} must be one of {', '.join(VIEWS)}; type corpus.views=flip"
        )
    counts = ("num_shards", "images_per_shard", "documents_per_shard")
    for name, least in {**dict.fromkeys(counts, 1), "max_holdout": 0}.items():
        value = getattr(corpus, name, None)
        if value is not None and value < least:
            raise ConfigError(
                f"corpus.{name} must be at least {least}, got {value}; type corpus.{name}=NUMBER"
            )


def check_tar(path: Path) -> None:
    """Refuse a file that is neither a tar nor a gzip-compressed one.

    Raises:
        CorpusError: naming what it is, and what to do about it.
    """
    try:
        head = head_of(path)
    except OSError as error:
        raise CorpusError(
            f"{path} could not be read ({error.strerror}); mend its permissions"
        ) from error
    kind = kind_of(head)
    if kind is GZIP or (kind is None and is_tar(head)):
        return
    if kind is not None:
        raise CorpusError(f"{path} is {kind.noun}; {kind.mend.format(path=path)}")
    what = f"begins with {head[:16]!r}" if head else "is empty"
    raise CorpusError(f"{path} is no tar: it {what}; get it again, or leave it out of corpus.tars")
