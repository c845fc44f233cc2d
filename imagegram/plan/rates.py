"""Seconds a unit of work: from the manifests of finished artifacts, else built in.

A stage is expected to take as long as the artifacts in this store that are most like it: the same
tokenizer, sampler, metric or encoder before another one of the same class. Their manifests do not
say how many workers there were, so a measured rate is taken as it is; built-in rates are those of
one core, and are divided by the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import MANIFEST, Manifest

Facts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How long a unit takes.

    Attributes:
        seconds: of one unit (an image or a token), by as many workers as worked.
        source: where the number comes from, for the table.
        per_core: of one core alone, to be divided by the workers.
    """

    seconds: float
    source: str
    per_core: bool


@dataclass(frozen=True)
class _Kind:
    """What the artifacts of a kind count, and which field of their payload makes them alike."""

    units: Callable[[Facts], int]
    like: str | None
    builtin: float


def _tokens_of_images(facts: Facts) -> int:
    return int(facts["num_images"]) * int(facts["num_tokens"])


def _tokens_of_documents(facts: Facts) -> int:
    return int(facts["num_documents"]) * int(facts["num_tokens"])


#: Where the built-in numbers were measured.
BUILTIN: Final = "one core of an AMD EPYC, tiny_imagenet_20, pyramid3"
_KINDS: Final = {
    "split": _Kind(lambda facts: int(facts["num_scanned"]), None, 2.5e-4),
    "token_shard": _Kind(_tokens_of_documents, "tokenizer", 1.8e-7),
    "index_shard": _Kind(lambda facts: int(facts["num_tokens"]), None, 1.3e-7),
    "order": _Kind(lambda facts: int(facts["num_tokens"]), None, 2.0e-7),
    "samples": _Kind(_tokens_of_images, "sampler", 1.2e-6),
    "replay": _Kind(_tokens_of_images, "sampler", 1.2e-6),
    "scores": _Kind(lambda facts: int(facts["num_images"]), "metric", 2.0e-2),
    "pairs": _Kind(lambda facts: int(facts["num_documents"]), None, 5.0e-5),
    "features": _Kind(lambda facts: int(facts["num_images"]), "encoder", 2.0e-3),
    "reference_features": _Kind(lambda facts: int(facts["num_images"]), "encoder", 2.0e-3),
}


@dataclass(frozen=True)
class _Sample:
    units: int
    seconds: float
    like: Any


class Rates:
    """Rates of every kind of artifact, as one store has seen them."""

    def __init__(self, store: ArtifactStore | None) -> None:
        self._store = store
        self._samples: dict[str, list[_Sample]] = {}

    def of(self, kind: str, like: Any = None) -> Rate:
        """The rate of a kind of artifact, per image or token.

        Args:
            kind: ``token_shard``, ``samples`` ...
            like: identity of the tokenizer, sampler or encoder that is going to work.
        """
        samples = self._of(kind)
        exact = [sample for sample in samples if sample.like == like]
        similar = [sample for sample in samples if _class(sample.like) == _class(like)]
        for group, words in ((exact, ""), (similar, " of its class")):
            units = sum(sample.units for sample in group)
            if units:
                seconds = sum(sample.seconds for sample in group) / units
                return Rate(
                    seconds=seconds, source=f"{len(group)} made here{words}", per_core=False
                )
        return Rate(seconds=_KINDS[kind].builtin, source="built in", per_core=True)

    def num_features(self, encoder: Any) -> int | None:
        """Numbers of a feature of an encoder, if it was used in this store."""
        if self._store is None:
            return None
        for kind in ("reference_features", "features"):
            for path in sorted((self._store.root / kind).glob(f"[0-9a-f]*/{MANIFEST}")):
                manifest = Manifest.read(path.parent)
                if manifest.payload["encoder"] == encoder:
                    return int(manifest.facts["num_features"])
        return None

    def _of(self, kind: str) -> list[_Sample]:
        if kind not in self._samples:
            self._samples[kind] = list(self._read(kind))
        return self._samples[kind]

    def _read(self, kind: str) -> list[_Sample]:
        if self._store is None:
            return []
        counted, samples = _KINDS[kind], []
        for path in sorted((self._store.root / kind).glob(f"[0-9a-f]*/{MANIFEST}")):
            manifest = Manifest.read(path.parent)
            like = manifest.payload.get(counted.like) if counted.like else None
            facts = manifest.facts
            if kind == "scores":  # of how many images, only the images know
                images = self._store.root / str(manifest.payload["generated"])
                if not (images / MANIFEST).exists():
                    continue
                facts = Manifest.read(images).facts
            if units := counted.units(facts):
                samples.append(_Sample(units, manifest.duration_s, like))
        return samples


def _class(identity: Any) -> Any:
    return identity.get("class") if isinstance(identity, Mapping) else identity
