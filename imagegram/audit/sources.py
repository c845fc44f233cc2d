"""Documents to audit: a folder of images, tars, files of texts, or an array of tokens.

``AuditedFiles`` are shards that the ordinary stage tokenizes, without a split: no image is removed
as a near-duplicate of another. ``TokenFile`` is a document source over an array of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.corpora.document_files import SUFFIXES, JsonlCorpus
from imagegram.corpora.folder import FolderCorpus, TextFolderCorpus
from imagegram.corpora.names import IMAGE_SUFFIXES
from imagegram.corpora.patterns import TAR_SUFFIXES, expand
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ConfigError, CorpusError
from imagegram.executors.tiles import row_tiles
from imagegram.protocols import ImageShard, Tokenizer
from imagegram.records import EOS_TOKEN_ID, Tokens, row_sizes
from imagegram.stages.embed import content_sha256

_ROWS: Final = 4096


@dataclass(frozen=True, kw_only=True)
class AuditedFiles:
    """Audited files.

    Attributes:
        corpus: shards of files, listed once.
        num_others: files beside them whose names are not those of images, or of texts.
    """

    corpus: FolderCorpus | WebDatasetCorpus | TextFolderCorpus | JsonlCorpus
    num_others: int = 0

    @property
    def shards(self) -> tuple[ImageShard, ...]:
        """Shards of files."""
        return self.corpus.shards


def open_images(where: str, *, hash_cache: str | None = None) -> AuditedFiles:
    """Open the images below a folder, or inside tars, as shards to audit.

    Args:
        where: a folder of images, a folder of tars, a tar, a glob, or a pattern such as
            ``{00000..00009}.tar``. A folder that holds images anywhere below it is one of images.
        hash_cache: folder that remembers content hashes.

    Raises:
        CorpusError: when there are no images.
    """
    path = Path(where).expanduser()
    ends = ", ".join(IMAGE_SUFFIXES)
    if path.is_dir():
        folder = FolderCorpus(path=str(path), hash_cache=hash_cache)
        counts = folder.snapshot.counts
        if counts["images"]:
            return AuditedFiles(corpus=folder, num_others=sum(counts["others"].values()))
    tars = expand(str(path))
    if not tars or not all(tar.is_file() and tar.name.endswith(TAR_SUFFIXES) for tar in tars):
        what = "no file below it ends in" if path.is_dir() else "is neither a folder of files in"
        raise CorpusError(
            f"images={where}: {path.absolute()}: {what} {ends}, nor tars of such files; type "
            "images=FOLDER, images=FILE.tar or 'images=FOLDER/{00000..00009}.tar'"
        )
    return AuditedFiles(corpus=WebDatasetCorpus(tars=str(path), hash_cache=hash_cache))


def open_texts(where: str, *, field: str = "text", hash_cache: str | None = None) -> AuditedFiles:
    """Open texts as shards to audit.

    Args:
        where: JSON lines (plain or compressed by gzip) or a Parquet file, a glob, a pattern such as
            ``{00000..00009}.jsonl``, or a folder of such files; or a folder of ``.txt`` and
            ``.md``, which is read so if it holds one anywhere below it.
        field: field, or column, of the texts.
        hash_cache: folder that remembers content hashes.

    Raises:
        CorpusError: when there are no texts.
    """
    path = Path(where).expanduser()
    if path.is_dir():
        folder = TextFolderCorpus(path=str(path), hash_cache=hash_cache)
        counts = folder.snapshot.counts
        if counts["texts"]:
            return AuditedFiles(corpus=folder, num_others=sum(counts["others"].values()))
    if path.suffix in TextFolderCorpus.SUFFIXES:
        raise CorpusError(
            f"texts={where} is one text; to audit it, put it into a folder, which is read to its "
            "depths: texts=FOLDER"
        )
    files = JsonlCorpus(
        name="texts",
        files=str(path),
        text=field,
        hint=f"type texts=FILE, a folder, a glob or a pattern of {', '.join(SUFFIXES)} files, or a "
        f"folder of {', '.join(TextFolderCorpus.SUFFIXES)} files",
        hash_cache=hash_cache,
    )
    try:
        files.shards  # noqa: B018 - refused now, in words of an audit
    except CorpusError as error:
        raise CorpusError(in_words_of_an_audit(str(error))) from error
    return AuditedFiles(corpus=files)


def in_words_of_an_audit(reason: str) -> str:
    """Return a reason of a corpus with the words that an audit takes instead.

    >>> in_words_of_an_audit("name the field that holds the texts: corpus.text=NAME")
    'name the field that holds the texts: field=NAME'
    """
    return reason.replace("corpus.text=", "field=").replace("corpus.files", "texts")


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A DocumentSource over an array of tokens in a ``.npy`` file; see :func:`open_tokens`.

    Attributes:
        path: the file.
    """

    VERSION: ClassVar[int] = 1
    path: Path = field(compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the memory map, so that it can be sent to another process."""
        return {"path": self.path}

    @cached_property
    def tokens(self) -> NDArray[np.integer[Any]]:
        """(N, T) token ids, memory-mapped."""
        return np.load(self.path, mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def _sha256(self) -> str:
        return content_sha256(self.tokens)

    def identity(self) -> dict[str, Any]:
        """Return the sha256 of the content."""
        return {"class": type(self).__name__, "version": self.VERSION, "sha256": self._sha256}

    @property
    def num_documents(self) -> int:
        """Number of documents, N."""
        return len(self.tokens)

    def gather(self, document_ids: Any) -> Tokens:
        """Return the (B, T) uint16 rows of some documents."""
        return np.asarray(self.tokens[np.asarray(document_ids)], dtype=np.uint16)


def open_tokens(where: str, tokenizer: Tokenizer) -> TokenFile:
    """Open a ``.npy`` file of token ids; refuse one that the tokenizer cannot have written.

    Args:
        where: an array (N, T), N at least 1, of any integer type; where documents differ in length,
            rows may end early, padded with separators.
        tokenizer: defines T and the largest id.

    Raises:
        ConfigError: naming what the file holds and what it should hold.
    """
    path = Path(where).expanduser()
    spec, noun = tokenizer.spec, tokenizer.modality.noun
    expected = (
        f"tokenizer {tokenizer.name} writes (N, {spec.length}) ids 0 ... {spec.vocab_size - 1}"
    )
    advice = "name the tokenizer that wrote the file: tokenizer=NAME"
    try:
        tokens = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        reason = "there is no such file" if not path.exists() else f"not a .npy file ({error})"
        raise ConfigError(
            f"tokens={where}: {reason}; give an array of ids, as samples/tokens.npy of a run folder"
        ) from error
    if not isinstance(tokens, np.ndarray) or tokens.dtype.kind not in "iu":
        held = tokens.dtype if isinstance(tokens, np.ndarray) else "several arrays"
        raise ConfigError(f"tokens={where}: it holds {held}, but {expected}; save whole numbers")
    if tokens.ndim != 2 or tokens.shape[1] != spec.length or not len(tokens):
        raise ConfigError(
            f"tokens={where}: its shape is {tokens.shape}, but {expected}, N at least 1; {advice}"
        )
    for rows in row_tiles(len(tokens), _ROWS):
        block = np.asarray(tokens[rows])
        outside = (block < 0) | (block >= spec.vocab_size)
        if spec.ragged:  # padding behind the end of a row
            behind = np.arange(block.shape[1]) >= row_sizes(block)[:, None]
            outside &= ~(behind & (block == EOS_TOKEN_ID))
        if outside.any():
            row, position = np.argwhere(outside)[0].tolist()
            raise ConfigError(
                f"tokens={where}: id {block[row, position]} of {noun} {rows.start + row} at "
                f"position {position}, but {expected}; {advice}"
            )
    return TokenFile(path=path)
