"""Write the documents of a corpus that makes its own, as JSON lines: all of them, or none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from itertools import count, islice
from pathlib import Path

from imagegram.errors import CorpusError, remedy


def write_documents(
    folder: Path, documents: Iterable[tuple[str, str]], *, per_shard: int, corpus: str
) -> None:
    """Write documents to ``00000.jsonl`` ...; the folder appears when it is complete.

    Args:
        folder: where; what another process wrote meanwhile stays.
        documents: key and text of each.
        per_shard: documents of a file.
        corpus: name of the corpus, for messages.

    Raises:
        CorpusError: when it cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        documents = iter(documents)
        for number in count():
            some = list(islice(documents, per_shard))
            if not some:
                break
            lines = (
                json.dumps({"key": key, "text": text}, ensure_ascii=False) + "\n"
                for key, text in some
            )
            path = partial / f"{number:05d}.jsonl"
            path.write_text("".join(lines), encoding="utf-8", newline="\n")
        if not folder.is_dir():
            partial.rename(folder)
    except OSError as error:
        if folder.is_dir():
            return
        raise CorpusError(
            f"corpus {corpus} could not be written to {folder.absolute()}: "
            f"{error.strerror or error}; {remedy(error, outputs=folder)}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
