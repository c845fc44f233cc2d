"""WikipediaCorpus: articles of one language, exported to JSON lines once, then read as such.

    pip install 'imagegram[wikipedia]'
    python -m imagegram.tools.download corpus=wikipedia corpus.language=simple
    python -m imagegram.run modality=text corpus=wikipedia corpus.language=simple

The export (``wikipedia_export.py``) takes the first articles that are long enough, in the order of
the dataset; runs read its files and never the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

from imagegram.corpora.document_files import JsonlCorpus, Shards
from imagegram.errors import ConfigError, CorpusError
from imagegram.store.fingerprint import NOT_IDENTITY, digest

#: Record of a finished export, in its folder.
EXPORTED: Final = "export.json"


@dataclass(frozen=True, kw_only=True)
class WikipediaCorpus(JsonlCorpus):
    """Articles of Wikipedia that ``tools.download`` exported.

    Attributes:
        dataset: of the hub, or a folder of the same form (a clone of it).
        language: code of the language: ``en``, ``simple``, ``de`` ...
        dump: day of the dump, as the dataset calls it.
        min_characters: shorter articles are left out, and counted.
        max_documents: the first so many of the others; None: all.
        documents_per_file: of one file, the unit of caching and of parallel work.
        downloads: folder of the exports.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="wikipedia", metadata=NOT_IDENTITY)
    dataset: str = "wikimedia/wikipedia"
    language: str = "en"
    dump: str = "20231101"
    min_characters: int = 500
    max_documents: int | None = 20_000
    documents_per_file: int = 1000
    downloads: str = field(default="data/wikipedia", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Check the counts, and point to the folder of the export."""
        for name in ("max_documents", "documents_per_file", "min_characters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    f"corpus.{name}={value} must be at least 1; type for example corpus.{name}=1000"
                )
        if self.files is None:
            object.__setattr__(self, "files", str(self.folder))
        if self.hint is None:
            object.__setattr__(self, "hint", f"get them first: {self.command}")
        super().__post_init__()

    @property
    def config(self) -> str:
        """Name of language and day in the dataset."""
        return f"{self.dump}.{self.language}"

    @property
    def choice(self) -> dict[str, str | int | None]:
        """Everything that decides which articles are exported, and how they lie in files."""
        names = ("dataset", "language", "dump", "min_characters", "max_documents")
        return {name: getattr(self, name) for name in (*names, "documents_per_file")}

    @property
    def folder(self) -> Path:
        """Folder of this choice of articles: another choice is another export."""
        return Path(self.downloads) / f"{self.config}-{digest(self.choice)}"

    @property
    def command(self) -> str:
        """Command that exports the articles."""
        given = {name: value for name, value in self.choice.items() if value != _DEFAULTS[name]}
        words = [f"corpus.{name}={'null' if v is None else v}" for name, v in given.items()]
        return " ".join(["python -m imagegram.tools.download corpus=wikipedia", *words])

    @cached_property
    def _train(self) -> Shards:
        if self.files == str(self.folder) and not (self.folder / EXPORTED).is_file():
            found = "is not whole" if self.folder.is_dir() else "is not there"
            raise CorpusError(
                f"corpus {self.name}: the export {self.folder.absolute()} {found}; {self.hint}"
            )
        return self._open(str(self.files), "files", self.num_shards)


_DEFAULTS: Final = {
    name: WikipediaCorpus.__dataclass_fields__[name].default
    for name in (
        *("dataset", "language", "dump", "min_characters", "max_documents"),
        "documents_per_file",
    )
}
