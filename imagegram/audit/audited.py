"""The documents under audit: image files, texts, or rows of tokens, tokenized as the corpus is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.audit.sources import in_words_of_an_audit, open_images, open_texts, open_tokens
from imagegram.corpora.mends import mends
from imagegram.corpora.names import shown
from imagegram.errors import CorpusError
from imagegram.experiment import Experiment
from imagegram.numerals import count_text
from imagegram.protocols import DocumentSource
from imagegram.stages.select import tokenize_shards
from imagegram.stages.tokens import TokenSet, Windows

#: Value of ``Source.jpeg_quality`` that means: use the quality of the audited files.
AUTO: Final = 0


@dataclass(frozen=True, kw_only=True)
class Source:
    """What to audit; exactly one of ``images``, ``texts`` and ``tokens`` is given.

    Attributes:
        images: folder, tars, or a pattern of tars.
        tokens: a ``.npy`` file of ids.
        num_images: measure at most this many images or windows of texts; None: all.
        jpeg_quality: quality of the training images measured as JPEG copies: 1 ... 100;
            ``AUTO``: that of the audited files; None: none are measured.
        texts: JSON lines, Parquet, or folder of texts.
        field: field, or column, of the texts.
    """

    images: str | None = None
    tokens: str | None = None
    num_images: int | None = None
    jpeg_quality: int | None = AUTO
    texts: str | None = None
    field: str = "text"

    @property
    def where(self) -> str:
        """Folder or file to audit, as it can be shown."""
        return shown(str(self.images or self.texts or self.tokens))


@dataclass(frozen=True, kw_only=True)
class Audited:
    """The documents under audit.

    Attributes:
        documents: tokens of all readable files.
        skipped: number of unreadable files, by reason.
        num_others: files whose names are not those of images, or of texts.
    """

    documents: DocumentSource
    skipped: Mapping[str, int]
    num_others: int

    def metadata(self, drawn: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return the metadata of the measured documents: of token rows, their number."""
        if isinstance(self.documents, TokenSet):
            return [self.documents.metadata(int(document)) for document in drawn]
        if isinstance(self.documents, Windows):
            starts = self.documents.locate(drawn)[1].tolist()
            texts = zip(self.documents.metadata_of(drawn), starts, strict=True)
            return [text | {"key": _window_name(text["key"], start)} for text, start in texts]
        return [{"key": f"row {document}"} for document in drawn]


def _window_name(text: str, start: int) -> str:
    return f"{text} from token {start + 1:,}" if start else text


def tokenize_audited(exp: Experiment, run: Any, source: Source) -> Audited:
    """Read and tokenize the audited files, or open the audited tokens.

    Raises:
        CorpusError: when nothing of them can be read.
        ConfigError: for tokens of another tokenizer.
    """
    if source.tokens is not None:
        tokens = open_tokens(str(source.tokens), exp.tokenizer)
        return Audited(documents=tokens, skipped={}, num_others=0)
    cache = getattr(exp.corpus, "hash_cache", None)
    if source.texts is None:
        files = open_images(str(source.images), hash_cache=cache)
    else:
        files = open_texts(source.texts, field=source.field, hash_cache=cache)
    run.watch(files.corpus)
    documents = tokenize_shards(
        run,
        "audited_tokens",
        shards=files.shards,
        tokenizer=exp.tokenizer,
        max_failed_fraction=1.0,  # unreadable files are counted and reported
    )
    skipped = documents.artifact.facts["skipped"]
    if not documents.num_documents:
        raise CorpusError(_nothing_readable(source, skipped, files.shards[0].path))
    return Audited(documents=documents.windows(), skipped=skipped, num_others=files.num_others)


def _nothing_readable(source: Source, skipped: Mapping[str, int], path: Path) -> str:
    """Return why there is nothing to audit, and what to type."""
    counts = ", ".join(f"{reason}: {count}" for reason, count in skipped.items())
    if source.texts is None:
        said = f"images={source.images}: no image can be read ({counts or 'there is none'})"
        return f"{said}; give JPEG, PNG or WebP files: images=FOLDER"
    remedies = "; ".join(mends(skipped, path)) or "give files with texts: texts=FILE.jsonl"
    said = f"texts={source.texts}: no text can be read ({counts or 'there is none'})"
    return f"{said}; {in_words_of_an_audit(remedies)}"


def encoding_said(exp: Experiment, documents: DocumentSource) -> str:
    """Say how texts became rows of tokens; empty where there are no windows of texts."""
    if not isinstance(documents, Windows):
        return ""
    tokens, window = documents.tokens, documents.tokens.length
    num_short = int((tokens.lengths < window).sum())
    texts, rows = tokens.num_documents, documents.num_documents
    said = (
        f"{count_text(texts, 'text is', 'texts are')} {count_text(rows, 'window', 'windows')} of "
        f"{window:,} tokens, encoded by {exp.tokenizer.name} as the corpus is"
    )
    if num_short:
        are = "is shorter than a window and ends" if num_short == 1 else "are shorter and end"
        said += f"; {num_short:,} {are} before it does"
    return said
