"""Split: choose the items of a corpus that are held out, so that scores have an unbiased floor.

Whole shards are held out where the corpus names some; training items that are near-duplicates of
theirs are left out when documents are selected (``select.py``), so that no floor is measured on
pictures that the model has seen. Elsewhere every shard is scanned once (``scan.py``), and clusters
of near-duplicates are chosen from all of them (``holdout.py``): by content alone, so that neither
names nor the order of shards decide, and with all near-duplicates: none is left in training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from imagegram.protocols import Corpus, ImageShard, Modality
from imagegram.records import Sketches
from imagegram.stages.holdout import MIN_CLUSTERS, Choice, Policy, choose
from imagegram.stages.scan import ScannedShard, ScanShard, are_few
from imagegram.store.cost import NPY_HEADER, THUMBNAIL_BYTES, Cost
from imagegram.store.fingerprint import identity
from imagegram.store.parts import write_parts
from imagegram.store.stage import Context, Surroundings

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

Name = TypeVar("Name", bound=Hashable)
Part = Literal["train", "holdout"]
HOLDOUT: Final = "holdout.json"
#: Why a readable image is not in a part of its corpus; all other reasons of skips are failures.
CHOSEN_SKIPS: Final = ("held_out", "not_held_out", "near_duplicate_of_holdout")
#: Of one core, for an item and a held-out item that are compared; of an item in every round.
_PAIR_SECONDS: Final = 1e-8
_ITEM_SECONDS: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class Split:
    """The stage that chooses the held-out items of a corpus."""

    kind: ClassVar[str] = "split"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 2
    #: Of held-out shards that the corpus names: what is held out has not changed since.
    NAMED_VERSION: ClassVar[int] = 1

    corpus: Corpus

    @property
    def kernels(self) -> tuple[str, ...]:
        """Packages of the compiled kernels that it calls."""
        return getattr(self.corpus.modality, "kernels", ())

    def identity(self) -> dict[str, Any]:
        """Return the policy and the content of the shards that are scanned, in no order."""
        same = {
            "class": "Split",
            # Digests know the limit by the name that it has for images.
            "near_duplicate_rms": float(self.corpus.near_duplicate_limit),
        }
        contents = [shard.identity() for shard in self._scanned]
        if self._whole:
            named = {"version": self.NAMED_VERSION, "holdout_fraction": None}
            return {**same, **named, "scanned": contents}
        return {
            **same,
            "version": self.VERSION,
            "scan": ScanShard.VERSION,
            "holdout_fraction": float(self.corpus.holdout_fraction),
            "max_holdout": int(self.corpus.max_holdout),
            "scanned": sorted(contents),
        }

    @property
    def _whole(self) -> bool:
        return bool(self.corpus.holdout_shards)

    @property
    def _scanned(self) -> tuple[ImageShard, ...]:
        if self._whole or not self._policy.probability(1):
            return self.corpus.holdout_shards
        return self.corpus.shards

    @property
    def _policy(self) -> Policy:
        corpus = self.corpus
        return Policy(
            fraction=corpus.holdout_fraction,
            max_items=corpus.max_holdout,
            limit=corpus.near_duplicate_limit,
        )

    @property
    def _parts(self) -> tuple[ScanShard, ...]:
        modality = self.corpus.modality
        return tuple(ScanShard(shard=shard, modality=modality) for shard in self._scanned)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Scan the shards; write ``holdout.json``: the keys of the held-out items by shard.

        Of shards that the corpus names also the sketches of their items, which training items are
        compared with.
        """
        parts = self._parts
        if are_few(part.shard for part in parts):
            shards = [context.make(part) for part in parts]
        else:
            shards = context.make_all(parts, description="scan")
        contents = [part.shard.identity() for part in parts]
        write_parts(out, kind=ScanShard.kind, parts=[shard.artifact for shard in shards])
        modality = self.corpus.modality
        counts = {"num_scanned": sum(map(len, shards)), "num_shards": len(shards)}
        if self._whole:
            keys = [shard.keys() for shard in shards]
            _write_keys(out, dict(zip(contents, keys, strict=True)))
            np.save(out / modality.SKETCHES, np.concatenate([one.sketches() for one in shards]))
            num_holdout = counts["num_scanned"]
            return {"num_holdout": num_holdout, **counts, "whole_shards": True, "note": ""}
        choice = choose(shards, self._policy, context)
        _write_keys(out, _keys_of(choice.held, shards, contents))
        return {
            "num_holdout": len(choice.held),
            **counts,
            "num_clusters_met": choice.num_clusters,
            "num_held_clusters": choice.num_held_clusters,
            "num_in_large_clusters": sum(map(len, choice.large)),
            "whole_shards": False,
            "note": self._note(shards, choice),
        }

    def _note(self, shards: Sequence[ScannedShard], choice: Choice) -> str:
        """Return the sentence that a user has to read about the choice; mostly empty."""
        nouns = self.corpus.modality.nouns
        if not self._policy.probability(1):
            return ""
        if choice.num_clusters < MIN_CLUSTERS:
            return (
                f"nothing is held out of fewer than {MIN_CLUSTERS} different {nouns} "
                "(near-duplicates count as one)"
            )
        if not choice.large:
            return ""
        num_items = sum(map(len, shards))
        (keys,) = _keys_of(choice.large[0][:1], shards, range(len(shards))).values()
        return (
            f"at least {sum(map(len, choice.large)):,} of {num_items:,} {nouns} lie in clusters of "
            f"more than {self._policy.largest(num_items):,} near-duplicates (one holds {keys[0]}), "
            "which are too large to be held out: they stay in training, and the floor has none "
            "of them"
        )

    def load(self, artifact: Artifact) -> SplitHandle:
        """Return the handle of a finished split."""
        return SplitHandle(artifact=artifact, corpus=self.corpus)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee the scans, then the comparisons of items with held-out ones."""
        if found := at.find(self):
            return Cost.found(found, images=int(found.facts["num_scanned"]))
        parts = self._parts
        at_once = 1 if are_few(part.shard for part in parts) else at.workers
        scans = Cost.together([part.forecast(at) for part in parts], at_once=at_once)
        held, seconds = scans.images, 0.0
        if not self._whole:
            share = self._policy.probability(held)
            held = round(held * share) if scans.images >= MIN_CLUSTERS else 0
            seconds = scans.images * (_ITEM_SECONDS + held * _PAIR_SECONDS) / at.workers
        facts = {"num_holdout": held, "num_scanned": scans.images, "whole_shards": self._whole}
        artifact = at.expect(self, facts)
        return replace(
            scans,
            artifact=artifact,
            handle=self.load(artifact),
            disk_bytes=scans.disk_bytes + _split_bytes(held, whole=self._whole),
            seconds=scans.seconds + seconds,
        )


def _keys_of(
    items: NDArray[np.int64], shards: Sequence[ScannedShard], names: Sequence[Name]
) -> dict[Name, list[str]]:
    """Return the keys of items, ascending numbers, by the name of their shard."""
    firsts = np.cumsum([0, *map(len, shards)])
    keys: dict[Name, list[str]] = {}
    for name, shard, first in zip(names, shards, firsts.tolist(), strict=False):
        low, high = np.searchsorted(items, [first, first + len(shard)])
        if low < high:
            every = shard.keys()
            keys[name] = [every[item - first] for item in items[low:high]]
    return keys


def _write_keys(out: Path, held: dict[str, list[str]]) -> None:
    (out / HOLDOUT).write_text(json.dumps(dict(sorted(held.items())), indent=1) + "\n")


def _split_bytes(num_holdout: int, *, whole: bool) -> int:
    """Return the bytes of keys and, of named shards, thumbnails of the held-out items."""
    return num_holdout * (24 + whole * THUMBNAIL_BYTES) + NPY_HEADER


@dataclass(frozen=True, kw_only=True)
class SplitHandle:
    """Handle of a finished split.

    Attributes:
        artifact: the split on disk.
        corpus: corpus that is split.
    """

    artifact: Artifact
    corpus: Corpus

    def identity(self) -> str:
        """Return ``split/digest``."""
        return self.artifact.identity()

    @property
    def num_holdout(self) -> int:
        """Number of held-out items, H."""
        return int(self.artifact.facts["num_holdout"])

    @property
    def note(self) -> str:
        """Sentence that a user has to read about the choice; mostly empty."""
        return str(self.artifact.facts.get("note", ""))

    @property
    def train(self) -> tuple[SplitShard, ...]:
        """Training part of every shard."""
        return tuple(SplitShard(shard=s, split=self, part="train") for s in self.corpus.shards)

    @property
    def holdout(self) -> tuple[SplitShard, ...]:
        """Held-out part of every shard; empty when nothing is held out."""
        shards = self.corpus.holdout_shards
        if not shards and self.num_holdout:
            shards = self.corpus.shards
        return tuple(SplitShard(shard=shard, split=self, part="holdout") for shard in shards)


@dataclass(frozen=True, kw_only=True)
class SplitShard:
    """One part of one shard; small enough to be sent to worker processes.

    Attributes:
        shard: images of both parts.
        split: choice of the held-out items.
        part: ``train`` or ``holdout``.
    """

    shard: ImageShard
    split: SplitHandle
    part: Part

    def identity(self) -> list[Any]:
        """Return the content of the shard, the split and the part."""
        return [self.shard.identity(), identity(self.split), self.part]

    @property
    def expected_documents(self) -> int:
        """Number of images of this part before any is refused; what a plan counts."""
        records, facts = len(self.shard), self.split.artifact.facts
        if facts["whole_shards"]:
            return records
        held = round(records * self.split.num_holdout / max(int(facts["num_scanned"]), 1))
        if self.split.artifact.is_made:
            held = len(_load_keys(self.split.artifact.path).get(self.shard.identity(), ()))
        return min(held, records) if self.part == "holdout" else max(records - held, 0)

    def open(self) -> PartFilter:
        """Return the filter that decides, item by item, whether it belongs to this part."""
        corpus, artifact = self.split.corpus, self.split.artifact
        held_keys = _load_keys(artifact.path).get(self.shard.identity())
        if not artifact.facts["whole_shards"]:  # near-duplicates of held-out items are held out too
            return PartFilter(part=self.part, held_keys=held_keys or frozenset(), near_held=None)
        is_train = self.part == "train"
        return PartFilter(
            part=self.part,
            held_keys=frozenset() if held_keys is None else None,
            near_held=_search_held(artifact.path, corpus.modality, corpus.near_duplicate_limit)
            if is_train
            else None,
        )


@dataclass(frozen=True, kw_only=True)
class PartFilter:
    """Filter of the items of a shard: tells why an item is not in one part of it.

    Attributes:
        part: ``train`` or ``holdout``.
        held_keys: keys of this shard that are held out; None: all, so that the unreadable items
            of a held-out shard are counted by their own reasons.
        near_held: from a sketch to those near-duplicates of it that are held out; None: no item of
            this part has any.
    """

    part: Part
    held_keys: frozenset[str] | None
    near_held: Callable[[Sketches], NDArray[np.int64]] | None

    def skip_key(self, key: str) -> str | None:
        """Return ``held_out`` (in train), ``not_held_out`` (in holdout) or None, by its key."""
        is_held = self.held_keys is None or key in self.held_keys
        if self.part == "train":
            return "held_out" if is_held else None
        return None if is_held else "not_held_out"

    def skip_sketch(self, sketch: Sketches) -> str | None:
        """Return ``near_duplicate_of_holdout`` (in train) or None, by a sketch."""
        if self.near_held is None or not len(self.near_held(sketch)):
            return None
        return "near_duplicate_of_holdout"


@lru_cache(maxsize=4)
def _load_keys(folder: Path) -> dict[str, frozenset[str]]:
    """Read the held-out keys by shard, once in every process, so that the handles stay light."""
    keys = json.loads((folder / HOLDOUT).read_text())
    return {shard: frozenset(names) for shard, names in keys.items()}


@lru_cache(maxsize=4)
def _search_held(
    folder: Path, modality: Modality, limit: float
) -> Callable[[Sketches], NDArray[np.int64]]:
    """Prepare the search among the sketches of held-out shards, once in every process."""
    return modality.search(np.load(folder / modality.SKETCHES), limit=limit)
