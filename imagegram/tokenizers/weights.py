"""Weights of tokenizers: safetensors files, known by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from imagegram.errors import ConfigError
from imagegram.store.hashing import file_stamp, remembered_sha256


def weights_sha256(path: str | Path, *, memory: str | None = None) -> str:
    """sha256 of a weights file, in hex; large files are read once while they do not change.

    Args:
        path: a safetensors file.
        memory: folder that remembers hashes (``tokenizer.hash_cache``); None remembers nothing.

    Raises:
        ConfigError: when there is no such file.
        CorpusError: when it cannot be read, or changes meanwhile.
    """
    file = Path(path)
    if not file.is_file() or file.suffix != ".safetensors":
        raise ConfigError(
            f"tokenizer.checkpoint={path}: this is no safetensors file; give one that exists: "
            "tokenizer.checkpoint=FOLDER/model.safetensors"
        )

    def compute() -> str:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    return remembered_sha256(
        what=file,
        key=str(file.absolute()),
        stamp=lambda: file_stamp(file),
        compute=compute,
        memory=memory,
    )
