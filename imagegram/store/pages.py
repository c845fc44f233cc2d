"""Pages of the Hugging Face Hub: single files of them, fetched or copied from the client's cache.

A download that was cut or killed is continued by the next run; ``HF_ENDPOINT``, ``HF_TOKEN`` and
``HF_HUB_OFFLINE`` mean what they mean to the hub's client.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagegram.errors import OF_THE_SYSTEM, ConfigError, StageError
from imagegram.store import hub
from imagegram.store.manifest import file_sha256
from imagegram.store.parts import copy_file


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a page is asked for on the command line, for messages.

    Attributes:
        repo, revision: settings with its name and its branch.
        instead: what to type for a file of this machine.
    """

    repo: str
    revision: str
    instead: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """A revision of a page of the hub.

    Attributes:
        repo, revision: name and revision of the page.
        kept: folder for what has arrived of a file.
        asked: for messages.
    """

    repo: str
    revision: str
    kept: Path
    asked: Asked

    def fetch(self, file: str, target: Path) -> dict[str, Any] | None:
        """Put a file at ``target``; return commit, sha256 and size, or None without such a file.

        What the cache of the hub's client holds is taken from there, and all that there is when
        the hub cannot be reached.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError

        try:
            url = hf_hub_url(self.repo, file, revision=self.revision, endpoint=hub.endpoint())
            remote, reason = self._ask(url)
        except EntryNotFoundError:
            return None
        except HFValidationError as error:
            raise ConfigError(f"{self.asked.repo}={self.repo} is no page: {error}") from error
        commit = self.revision if remote is None else remote.commit_hash
        if (cached := self._cached(file, commit)) is not None:
            commit = cached.parent.name
            copy_file(cached, target)
        elif remote is None:
            raise StageError(
                f"{url} cannot be reached ({reason}), and the cache of the hub's client does not "
                "have it. Check the network, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN, or give a "
                f"file: {self.asked.instead}"
            )
        else:
            self._download(url, remote, target)
        facts = {"repo": self.repo, "file": file, "commit": commit}
        return {**facts, "sha256": file_sha256(target), "size_bytes": target.stat().st_size}

    def _ask(self, url: str) -> tuple[Any, str]:
        """Return the hub's metadata of a file; None and the reason when it cannot be reached."""
        from huggingface_hub import get_hf_file_metadata
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        try:
            return get_hf_file_metadata(url, endpoint=hub.endpoint()), ""
        except EntryNotFoundError:
            raise
        except GatedRepoError as error:
            raise ConfigError(
                f"{self.repo} is open only to those who accepted its terms; do so on its page, "
                "then log in with HF_TOKEN and run the same command again"
            ) from error
        except RepositoryNotFoundError as error:
            raise ConfigError(
                f"{self.asked.repo}={self.repo}: the hub has no such page, or it is private "
                f"({url}); check the name, or log in with HF_TOKEN"
            ) from error
        except RevisionNotFoundError as error:
            raise ConfigError(
                f"{self.asked.revision}={self.revision}: {self.repo} has no such branch, tag or "
                f"commit; type {self.asked.revision}=main"
            ) from error
        except hub.failures() as error:
            return None, str(error) or type(error).__name__

    def _cached(self, file: str, revision: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repo, file, revision=revision)
        return Path(found) if isinstance(found, str) else None

    def _download(self, url: str, remote: Any, target: Path) -> None:
        etag = remote.etag or ""
        version = hashlib.sha256(f"{self.repo} {etag}".encode()).hexdigest()[:12]
        partial = self.kept / f"{version}.{target.name}"
        try:
            whole = hub.fetch(url, partial, etag=etag, size=remote.size)
        except hub.failures() as error:
            if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
                raise  # the store knows its disk, and the remedy
            raise StageError(
                f"{url} could not be fetched: {error}\nWhat has arrived is kept; run the same "
                "command again to continue"
            ) from error
        if not whole:
            raise StageError(
                f"{url}: the bytes that arrived are not those that the hub announced (sha256 "
                f"{etag}); they were removed, run the same command again"
            )
        partial.replace(target)
