"""Content hashes of tokenizers' files, weights mostly."""

from __future__ import annotations

import hashlib
from pathlib import Path

from imagegram.errors import ConfigError
from imagegram.store.hashing import file_stamp, remembered_sha256


def weights_sha256(
    path: str | Path, *, suffix: str = ".safetensors", memory: str | None = None
) -> str:
    """Return the sha256 of a weights file in hex; an unchanged file is read once.

    Args:
        path: the file.
        suffix: required end of its name.
        memory: folder that remembers hashes (``tokenizer.hash_cache``); None remembers nothing.

    Raises:
        ConfigError: when there is no such file.
        CorpusError: when it cannot be read, or changes meanwhile.
    """
    file = Path(path)
    if not file.is_file() or file.suffix != suffix:
        raise ConfigError(
            f"tokenizer.checkpoint={path}: this is no {suffix[1:]} file; give one that exists: "
            f"tokenizer.checkpoint=FOLDER/NAME{suffix}"
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
