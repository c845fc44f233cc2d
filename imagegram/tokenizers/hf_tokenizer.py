"""Any tokenizer of the `tokenizers` package: a local ``tokenizer.json``, or a folder with one.

    python -m imagegram.run modality=text tokenizer=hf_tokenizer tokenizer.checkpoint=FOLDER

A text that does not come back character for character is refused and counted: a tokenizer that
lowers case or drops white space would make copies out of what is none. No special token is added,
and what a text writes like one stays text. Settings of the file that cut or pad texts are off.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, Unreadable
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.protocols import Corpus, Modality
from imagegram.records import EOS_TOKEN_ID, Encoded, Tokens
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.hashing import file_stamp
from imagegram.store.stage import Ready
from imagegram.texts.modality import TEXTS
from imagegram.tokenizers.texts import require_characters, require_window, written_rows
from imagegram.tokenizers.weights import weights_sha256

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Loaded

#: File of a tokenizer in its folder.
FILE: Final = "tokenizer.json"


class Changed(Unreadable):
    """A text that a tokenizer does not give back; its reason is ``not_exact``."""


@dataclass(frozen=True, kw_only=True)
class HfTokenizer:
    """A tokenizer out of a file.

    Attributes:
        name: name of the tokenizer in tables and reports.
        checkpoint: a ``tokenizer.json``, or a folder with one, as transformers saves it.
        window: tokens of a sample.
        exact: refuse texts that do not come back; False: keep them as they come back, and count
            them under ``changed``.
        hash_cache: folder that remembers the file's sha256.
    """

    modality: ClassVar[Modality] = TEXTS
    VERSION: ClassVar[int] = 1
    batch_size: ClassVar[int | None] = None

    name: str = field(default="hf_tokenizer", metadata=NOT_IDENTITY)
    checkpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    window: int = 128
    exact: bool = True
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Refuse a file that is no tokenizer, or one with more ids than token files hold."""
        require_window(self.window)
        if self.checkpoint is not None and self._vocab_size > EOS_TOKEN_ID:
            raise ConfigError(
                f"tokenizer.checkpoint={self.checkpoint} has {self._vocab_size:,} ids; token files "
                f"hold ids of 16 bits, so {EOS_TOKEN_ID:,} at most are allowed. Give another one "
                "(GPT-2 has 50,257, LLaMA-2 32,000), or train one on the corpus: tokenizer=bpe"
            )

    def identity(self) -> dict[str, Any]:
        """Return the identity: the file's content, window, and what is refused."""
        sha256 = None
        if self.checkpoint is not None:
            sha256 = weights_sha256(self._path, suffix=".json", memory=self.hash_cache)
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "window": self.window,
            "exact": self.exact,
            "file": sha256,
        }

    @property
    def spec(self) -> TokenSpec:
        """A sequence of any length; a sample is a window of it.

        Raises:
            ConfigError: when no file is named.
        """
        layout = TokenLayout.sequence(self.window, order="raster")
        return TokenSpec(vocab_size=self._vocab_size, layout=layout, ragged=True)

    @property
    def encoder(self) -> HfTokenizer:
        """The same tokenizer with a window of 1: token files hold whole documents."""
        return replace(self, window=1)

    def fit(self, corpus: Corpus) -> Ready[HfTokenizer]:
        """Return the tokenizer itself: nothing is to be learned.

        Raises:
            ConfigError: when no file is named.
        """
        _ = self._path
        return Ready(self)

    def prepare(self, text: str) -> tuple[list[int], bool]:
        """Return the ids of a text, and whether they give it back.

        Raises:
            TokenError: for half a character of UTF-16, which has no bytes.
            Changed: when they do not, and ``exact`` is set.
        """
        require_characters(text)
        loaded = self._loaded
        ids = loaded.encode(text, add_special_tokens=False).ids
        is_exact = _text(loaded, ids) == text
        if self.exact and not is_exact:
            raise Changed("not_exact")
        return ids, is_exact

    def encode(self, prepared: Sequence[tuple[list[int], bool]]) -> Encoded:
        """Return the ids of texts, (L,) uint16 each; count those that would not come back."""
        documents = [np.array(ids, dtype=np.uint16) for ids, _ in prepared]
        counts = {} if self.exact else {"changed": sum(not is_exact for _, is_exact in prepared)}
        return Encoded(documents=documents, counts=counts)

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> list[str]:
        """Decode rows of ids, up to their first separator, to texts.

        Bytes that are no character become U+FFFD; an id that the file skips has no characters.

        Args:
            tokens_BT: (B, K) ids of any integer dtype, padded with separators or not.
            output_size: None: a text has no other size.

        Raises:
            TokenError: for another shape, or an id outside the vocabulary; ids are never wrapped.
            ConfigError: for a size, or when no file is named.
        """
        rows = written_rows(tokens_BT, vocab_size=self._vocab_size, output_size=output_size)
        return [_text(self._loaded, row) for row in rows]

    def offsets(self, tokens_T: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the (T + 1,) numbers of characters before every token, then of the whole text.

        A decoder may look at neighbours, so what stands before a token is how much of the whole
        text its beginning gives alone; those from the separator on have no characters.
        """
        loaded = self._loaded
        (ids,) = written_rows(
            np.asarray(tokens_T)[None], vocab_size=self._vocab_size, output_size=None
        )
        whole = _text(loaded, ids)
        starts = [_num_common(_text(loaded, ids[:count]), whole) for count in range(len(ids))]
        ends = [len(whole)] * (len(tokens_T) + 1 - len(starts))
        return np.maximum.accumulate(np.array([*starts, *ends], dtype=np.int64))

    @property
    def _path(self) -> Path:
        if self.checkpoint is None:
            raise ConfigError(
                f"tokenizer {self.name}: no file is named; type tokenizer.checkpoint=FOLDER/{FILE}"
            )
        named = Path(self.checkpoint)
        path = named / FILE if named.is_dir() else named
        if path.is_file():
            return path
        what = f"{path} is no file"
        if named.is_dir():
            there = ", ".join(sorted(entry.name for entry in named.iterdir())[:5]) or "nothing"
            what = f"that folder has no {FILE}, but {there}"
        raise ConfigError(
            f"tokenizer.checkpoint={self.checkpoint}: {what}; give a {FILE}, or the folder that "
            "holds it. From an older folder transformers makes one: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(NEW)"
        )

    @property
    def _loaded(self) -> Loaded:
        """The tokenizer, loaded once per process."""
        path = self._path
        return _load(path, file_stamp(path))[0]

    @property
    def _vocab_size(self) -> int:
        """One more than the largest id; some files skip ids."""
        path = self._path
        return _load(path, file_stamp(path))[1]


def _text(loaded: Loaded, ids: list[int]) -> str:
    return str(loaded.decode(ids, skip_special_tokens=False))


def _num_common(text: str, whole: str) -> int:
    """Number of first characters that two texts share.

    >>> _num_common("caf\ufffd", "café au lait")
    3
    """
    pairs = enumerate(zip(text, whole, strict=False))
    different = (number for number, (one, other) in pairs if one != other)
    return next(different, min(len(text), len(whole)))


@functools.lru_cache(maxsize=2)
def _load(path: Path, stamp: str) -> tuple[Loaded, int]:
    """Read a file; ``stamp`` makes one that was written anew another one.

    Raises:
        ConfigError: when it holds no tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ConfigError(
            f"tokenizer.checkpoint={path} holds no tokenizer ({error}); give a {FILE} as the "
            "tokenizers package writes it"
        ) from error
    loaded.no_truncation()
    loaded.no_padding()
    loaded.encode_special_tokens = True
    return loaded, max(loaded.get_vocab(with_added_tokens=True).values(), default=-1) + 1
