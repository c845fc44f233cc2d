"""Export of Wikipedia: articles are streamed from the hub and written as gzipped JSON lines.

Nothing is held but one article and what the stream buffers. A file carries its final name when it
is whole; then ``.state.json`` says where the stream stood, so that the next command goes on there.
Killed at any moment and run again, an export has the same bytes.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from imagegram.corpora.wikipedia import EXPORTED, WikipediaCorpus
from imagegram.errors import CorpusError, MissingDependencyError, did_you_mean

STATE: Final = ".state.json"
_LOCK: Final = ".lock"
_AVAILABLE: Final = re.compile(r"Available: \[(.*)\]")


class Stream(Protocol):
    """An iterable of articles that can say where it stands, and go on there."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield articles: ``id``, ``title``, ``url``, ``text``."""

    def state_dict(self) -> dict[str, Any]:
        """Return the place behind the last article, as JSON."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go on at a place."""


@dataclass
class _Progress:
    """What an export has done, as it is written between two files."""

    num_files: int
    counts: Counter[str]
    stream: dict[str, Any] | None
    reader: str


def export(
    corpus: WikipediaCorpus,
    *,
    opens: Callable[[WikipediaCorpus], Stream] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write the files of a corpus that are missing; return the counts of all of them.

    Args:
        corpus: choice of the articles, and their folder.
        opens: opens the stream; None: by the package ``datasets``.
        say: called with a sentence a file.

    Returns:
        ``documents``, ``too_short``, ``no_text`` and ``files``.

    Raises:
        CorpusError: when the hub cannot be reached, or has no such language, or another process
            writes the same export; what was written is kept.
        MissingDependencyError: without the package ``datasets``.
    """
    folder = corpus.folder
    if (folder / EXPORTED).is_file():
        return _counts(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), _readable_failures(corpus):
        stream = (opens or open_stream)(corpus)
        done = _resumed(folder, stream, reader=_reader())
        for partial in folder.glob(".*.partial"):
            partial.unlink()
        _write_files(corpus, iter(stream), stream, done, say)
    return _counts(folder)


def _write_files(
    corpus: WikipediaCorpus,
    articles: Iterator[Mapping[str, Any]],
    stream: Stream,
    done: _Progress,
    say: Callable[[str], None],
) -> None:
    """Write file after file, then the record of the whole export."""
    is_more = True
    while is_more and _wanted(corpus, done.counts):
        name = f"{done.num_files:05d}.jsonl.gz"
        partial = corpus.folder / f".{name}.partial"
        counts, is_more = _write_file(partial, articles, _wanted(corpus, done.counts), corpus)
        done.counts += counts
        if not counts["documents"]:
            partial.unlink()
            break
        partial.replace(corpus.folder / name)
        done.num_files += 1
        state = {"num_files": done.num_files, "counts": dict(done.counts), "reader": done.reader}
        _write_json(corpus.folder / STATE, state | {"stream": stream.state_dict()})
        say(f"{corpus.folder / name}: {done.counts['documents']:,} documents so far")
    if not done.num_files:
        raise CorpusError(
            f"corpus {corpus.name}: none of {sum(done.counts.values()):,} articles of "
            f"{corpus.config} has {corpus.min_characters:,} characters; type "
            "corpus.min_characters=NUMBER"
        )
    record = {"choice": corpus.choice, "files": done.num_files, "counts": dict(done.counts)}
    _write_json(corpus.folder / EXPORTED, record)
    (corpus.folder / STATE).unlink(missing_ok=True)


def _wanted(corpus: WikipediaCorpus, counts: Counter[str]) -> int:
    """Return how many documents the next file holds at most; 0: there are enough."""
    if corpus.max_documents is None:
        return corpus.documents_per_file
    return min(corpus.documents_per_file, corpus.max_documents - counts["documents"])


def _write_file(
    path: Path, articles: Iterator[Mapping[str, Any]], wanted: int, corpus: WikipediaCorpus
) -> tuple[Counter[str], bool]:
    """Write the next documents; return the counts, and whether there may be more."""
    counts: Counter[str] = Counter()
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as out:
        while counts["documents"] < wanted:
            article = next(articles, None)
            if article is None:
                return counts, False
            text = article.get("text")
            if not isinstance(text, str):
                counts["no_text"] += 1
            elif len(text) < corpus.min_characters:
                counts["too_short"] += 1
            else:
                named = {key: article[key] for key in ("id", "title", "url") if key in article}
                # Escapes: a lone surrogate has no bytes, some characters end a line for some.
                out.write(json.dumps(named | {"text": text}).encode() + b"\n")
                counts["documents"] += 1
    return counts, True


def _resumed(folder: Path, stream: Stream, *, reader: str) -> _Progress:
    """Return what an earlier command did, with the stream standing behind it."""
    path = folder / STATE
    if not path.is_file():
        return _Progress(num_files=0, counts=Counter(), stream=None, reader=reader)
    state = json.loads(path.read_text())
    if state["reader"] != reader:  # places of another version may mean something else
        return _Progress(num_files=0, counts=Counter(), stream=None, reader=reader)
    stream.load_state_dict(state["stream"])
    return _Progress(
        num_files=state["num_files"],
        counts=Counter(state["counts"]),
        stream=state["stream"],
        reader=reader,
    )


def open_stream(corpus: WikipediaCorpus) -> Stream:
    """Open the articles of a dataset, at the hub or in a folder of the same form.

    Raises:
        MissingDependencyError: without the package ``datasets``.
    """
    datasets = _datasets()
    where = str(Path(corpus.dataset).expanduser()) if _is_folder(corpus) else corpus.dataset
    stream: Stream = datasets.load_dataset(where, corpus.config, split="train", streaming=True)
    return stream


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "corpus=wikipedia is exported by the package datasets; type "
            "pip install 'imagegram[wikipedia]'"
        ) from error
    return datasets


def _reader() -> str:
    """Name the version whose places in a stream the state holds."""
    return f"datasets {_datasets().__version__}"


def _is_folder(corpus: WikipediaCorpus) -> bool:
    return Path(corpus.dataset).expanduser().is_dir()


@contextmanager
def _readable_failures(corpus: WikipediaCorpus) -> Iterator[None]:
    """Turn failures of the hub and of its client into sentences."""
    try:
        yield
    except ValueError as error:
        found = _AVAILABLE.search(str(error))
        if found is None:
            raise
        names = re.findall(r"'([^']*)'", found[1])
        raise CorpusError(
            f"corpus.dump={corpus.dump} corpus.language={corpus.language}: the dataset "
            f"{corpus.dataset} has no {corpus.config}; {did_you_mean(corpus.config, names)}"
        ) from error
    except OSError as error:
        raise CorpusError(
            f"{corpus.dataset}, {corpus.config}: {error}\nWhat has arrived is kept in "
            f"{corpus.folder.absolute()}. Check the network, HF_ENDPOINT and corpus.dataset, then "
            "run the same command again"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the same export; the lock ends with this process."""
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CorpusError(
                f"another process is writing {folder}; wait for it, then run the command again"
            ) from None
        yield


def _counts(folder: Path) -> dict[str, int]:
    record = json.loads((folder / EXPORTED).read_text())
    return {"documents": 0, **record["counts"], "files": record["files"]}


def _write_json(path: Path, value: Any) -> None:
    """Replace a file in one step."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)
