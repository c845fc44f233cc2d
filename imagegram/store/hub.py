"""Files of the Hugging Face Hub: downloaded with its own client, resumed where they stopped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from imagegram.store.manifest import file_sha256

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def failures() -> tuple[type[BaseException], ...]:
    """Return the exceptions of the hub's client; its HTTP library depends on its version."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def fetch(url: str, partial: Path, *, etag: str, size: int | None) -> bool:
    """Append the missing bytes of a file to ``partial``, and check the whole.

    Args:
        url: address of the file.
        partial: bytes of this version received so far; no other process may write it.
        etag: ETag of the file; for large files it is the sha256 of the content.
        size: in bytes, if known.

    Returns:
        Whether the content is as the hub announced it; if not, ``partial`` was removed.
    """
    # hf_hub_download starts again from zero when its process was killed; http_get continues.
    from huggingface_hub import get_token
    from huggingface_hub.file_download import http_get

    partial.parent.mkdir(parents=True, exist_ok=True)
    if partial.exists() and size is not None and partial.stat().st_size > size:
        partial.unlink()
    token = get_token()
    with partial.open("ab") as stream:
        http_get(
            url,
            stream,
            resume_size=stream.tell(),
            headers={"authorization": f"Bearer {token}"} if token else {},
            expected_size=size,
            displayed_filename=url.rpartition("/")[2],
        )
    if _SHA256.fullmatch(etag) and file_sha256(partial) != etag:
        partial.unlink()
        return False
    return True
