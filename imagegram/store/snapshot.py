"""Snapshot: the files that a corpus is read from, as they were found when a run began.

A run lists its input once, so that every stage and process sees the same files. At its end the
input is listed again, and what came or went meanwhile is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from imagegram.errors import CorpusError

_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Files that were found where a corpus is read.

    Attributes:
        where: folder or pattern, as it was given.
        found: what was found, in words: ``6 images in 2 folders; 41 other files (30 .heic ...)``.
        counts: the same in numbers, for records.
        files: all files that are read, as they are shown.
    """

    where: str
    found: str
    counts: Mapping[str, Any] = field(default_factory=dict)
    files: frozenset[str] = frozenset()

    @property
    def line(self) -> str:
        """Place and findings, as the console shows them."""
        return f"{self.where}: {self.found}"

    def changes(self, now: Snapshot) -> str | None:
        """Describe how a later snapshot differs; None when the same files are there.

        >>> before = Snapshot(where="PHOTOS", found="1 image", files=frozenset(["a.jpg"]))
        >>> print(before.changes(Snapshot(where="PHOTOS", found="", files=frozenset(["b.jpg"]))))
        PHOTOS changed while it was read: 1 file came (b.jpg) and is not in this run; 1 file went \
(a.jpg). Wait until nothing is written there, then run the same command again
        """
        came, went = sorted(now.files - self.files), sorted(self.files - now.files)
        parts = []
        if came:
            verb = "is" if len(came) == 1 else "are"
            parts.append(
                f"{plural(len(came), 'file')} came ({some(came)}) and {verb} not in this run"
            )
        if went:
            parts.append(f"{plural(len(went), 'file')} went ({some(went)})")
        if not parts:
            return None
        return (
            f"{self.where} changed while it was read: {'; '.join(parts)}. Wait until nothing is "
            "written there, then run the same command again"
        )


class Watchable(Protocol):
    """A corpus, or whatever else is read from files."""

    @property
    def snapshot(self) -> Snapshot:
        """What was found when it was listed."""

    def look(self) -> Snapshot:
        """Return what is found now."""


def difference(corpus: Watchable) -> str | None:
    """Describe how the files of a corpus differ now from those of its snapshot."""
    before = corpus.snapshot
    try:
        return before.changes(corpus.look())
    except (CorpusError, OSError) as error:  # it is gone altogether
        return f"{before.where} changed while it was read: {error}"


class Watched:
    """Corpora that a run reads.

    Attributes:
        records: of each, what was found and what changed, for ``summary.json``.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._corpora: list[Watchable] = []

    def add(self, corpus: Watchable) -> str:
        """Return the line that says what was found of a corpus; raises its CorpusError."""
        found = corpus.snapshot
        record = {"where": found.where, "found": found.found, "changed": None, **found.counts}
        self.records.append(record)
        self._corpora.append(corpus)
        return found.line

    def changes(self) -> list[str]:
        """Look again, and return what changed, a sentence a corpus."""
        for corpus, record in zip(self._corpora, self.records, strict=True):
            record["changed"] = difference(corpus)
        return [record["changed"] for record in self.records if record["changed"]]


def plural(count: int, noun: str) -> str:
    """Write a number and its noun.

    >>> plural(1, "folder"), plural(2000, "other file")
    ('1 folder', '2,000 other files')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def some(names: Sequence[str]) -> str:
    """Write the first of some names, and how many there are when more are left out.

    >>> some(["a", "b"]), some(list("abcde"))
    ('a, b', 'a, b, c ...')
    """
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def by_suffix(counts: Mapping[str, int]) -> str:
    """Write the most frequent of some suffixes.

    >>> by_suffix({".heic": 30, "": 1, ".mov": 6, ".pdf": 2})
    '30 .heic, 6 .mov, 2 .pdf ...'
    """
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return some([f"{count:,} {suffix or 'without a suffix'}" for suffix, count in ordered])
