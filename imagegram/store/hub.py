"""Files of the Hugging Face Hub by its own client: fetched, resumed where they stopped; pushed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from imagegram.errors import ConfigError, StageError
from imagegram.store.manifest import file_sha256

#: Statuses of what the hub refuses to do for somebody, or for nobody.
_FORBIDDEN: Final = (401, 402, 403, 404)
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


def push(folder: Path, repo: str, *, private: bool) -> str:
    """Upload the files of a folder to a page of the hub, in one commit; return its address.

    The page is made if there is none. Who writes says ``HF_TOKEN``, or a login with ``hf auth
    login``; the token is neither an argument nor part of a message.

    Args:
        folder: files to upload.
        repo: ``OWNER/NAME`` of the page.
        private: whether a page that is made is shown to its owner alone.

    Raises:
        ConfigError: for a name that is none, or one that may not be written.
        StageError: when the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(endpoint=endpoint())
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=f"Export of {folder.name}"
        )
    except HFValidationError as error:
        raise ConfigError(f"push={repo} is no page: {error}; type push=OWNER/NAME") from error
    except failures() as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status in _FORBIDDEN:
            raise ConfigError(
                f"push={repo}: the hub does not let you write this page (status {status}); log in "
                "with hf auth login or HF_TOKEN, with a token that may write, and check OWNER"
            ) from error
        reason = f"status {status}" if status else type(error).__name__
        raise StageError(
            f"push={repo}: {api.endpoint} was not reached, or failed ({reason}); the files are in "
            f"{folder}. Check the network and HF_ENDPOINT, and run the same command again"
        ) from error
    return f"{api.endpoint}/{repo}"


def endpoint() -> str | None:
    """Return the address of the hub that ``HF_ENDPOINT`` names; None: the public one."""
    return os.environ.get("HF_ENDPOINT")
