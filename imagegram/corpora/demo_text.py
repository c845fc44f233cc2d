"""DemoTextCorpus: the prose of docstrings of packages that pip installed, a document a module.

    python -m imagegram.run modality=text

Written on first use as JSON lines, without a network: the sources are parsed, never imported. The
text follows the installed versions, which are part of the folder's name; what a run computes
follows the text itself.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from imagegram.corpora.docstrings import paragraphs
from imagegram.corpora.written import WrittenCorpus
from imagegram.errors import ConfigError, MissingDependencyError, did_you_mean
from imagegram.store.fingerprint import NOT_IDENTITY, digest

#: Import name -> name on PyPI.
PACKAGES: Final = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "sympy": "sympy",
    "networkx": "networkx",
    "torch": "torch",
}
#: Folders of a package that hold no documentation of it.
_SKIPPED: Final = ("tests", "testing", "_vendor", "externals", "vendored")
#: Less prose in a module is no document.
_MIN_CHARACTERS: Final = 300


@dataclass(frozen=True, kw_only=True)
class DemoTextCorpus(WrittenCorpus):
    """Documentation of installed packages.

    Attributes:
        name: name in tables and reports.
        write_to: folder that the JSON lines are written below.
        packages: import names, of those in ``PACKAGES``; a paragraph that several have counts once.
        documents_per_shard: documents of one shard.
        num_shards: only the first N shards; None: all.
        holdout_fraction: share of the documents to hold out, near-duplicates together.
        max_holdout: hold out about this many where that share would be more.
        near_duplicate_similarity: share of common phrases, 0 ... 1, from which on two documents
            are near-duplicates.
        max_failed_fraction: share of unreadable documents in a shard above which its tokenization
            fails.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="demo_text", metadata=NOT_IDENTITY)
    packages: tuple[str, ...] = ("numpy", "scipy", "sklearn", "skimage", "sympy", "networkx")

    def __post_init__(self) -> None:
        """Accept a YAML list and check the values."""
        object.__setattr__(self, "packages", tuple(self.packages))
        for package in self.packages:
            if package not in PACKAGES:
                raise ConfigError(
                    f"corpus.packages: {package!r}; {did_you_mean(package, PACKAGES)}"
                )
        if not self.packages:
            raise ConfigError("corpus.packages is empty; type for example corpus.packages=[numpy]")
        super().__post_init__()

    @property
    def folder(self) -> Path:
        """The folder of the documents of these packages, in these versions."""
        versions = {package: _version(package) for package in self.packages}
        name = f"demo_text-{digest([self.VERSION, self.documents_per_shard, versions])}"
        return Path(self.write_to) / name

    def documents(self) -> list[tuple[str, str]]:
        """Return key and text of every module with enough prose, by a hash of the key.

        Modules of all packages are in every shard, in an order that installs agree on.
        """
        return sorted(self._modules(), key=lambda one: hashlib.sha256(one[0].encode()).digest())

    def _modules(self) -> Iterator[tuple[str, str]]:
        """Yield key and text of every module with enough prose."""
        seen: set[str] = set()
        for package in self.packages:
            root = _root(package)
            for path in sorted(root.rglob("*.py")):
                parts = path.relative_to(root).parts
                if any(part in _SKIPPED for part in parts):
                    continue
                try:
                    found = list(dict.fromkeys(paragraphs(path.read_bytes())))
                except (SyntaxError, ValueError):  # of another Python: no module here
                    continue
                fresh = [paragraph for paragraph in found if paragraph not in seen]
                seen.update(fresh)
                text = "\n\n".join(fresh)
                if len(text) >= _MIN_CHARACTERS:
                    yield ".".join((package, *parts)).removesuffix(".py"), text


def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)  # finds the folder without importing the package
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            f"corpus=demo_text reads the documentation of {PACKAGES[package]}, which is not "
            f"installed; type: pip install {PACKAGES[package]}, or name the packages that are: "
            "corpus.packages=[numpy]"
        )
    return Path(spec.origin).parent


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(PACKAGES[package])
    except importlib.metadata.PackageNotFoundError:
        _ = _root(package)  # raises for what is not there at all
        return "unknown"
