"""Weights: the files of a tokenizer on the Hugging Face Hub, as an artifact.

    model.safetensors   the weights, copied from the hub's own cache when it has them
    config.json         the model's configuration, when its page has one

Only these are fetched, never a pickle. A download that was cut or killed is continued by the next
run; ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they mean to the hub's client.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TypeVar

from imagegram.errors import OF_THE_SYSTEM, ConfigError, StageError
from imagegram.store import hub
from imagegram.store.cost import Cost
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import file_sha256
from imagegram.store.parts import copy_file
from imagegram.store.stage import Context, Surroundings

if TYPE_CHECKING:
    from imagegram.layout import TokenSpec
    from imagegram.store.manifest import Artifact

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"


class FromHub(Protocol):
    """A frozen dataclass with a field ``checkpoint``, the path of its weights."""

    @property
    def spec(self) -> TokenSpec:
        """Ids and layout; raises ConfigError for a checkpoint of another model."""

    def linked_configs(self) -> dict[str, str]:
        """Return the files that a checkpoint needs beside it: name -> hub page of the file."""


T = TypeVar("T", bound=FromHub)


@dataclass(frozen=True, kw_only=True)
class FetchWeights(Generic[T]):
    """The stage that fetches the weights of a tokenizer.

    A branch is fetched once; its later commits are artifacts only under their own revision.
    The commit that it was is among the facts of the artifact.

    Attributes:
        repo: ``owner/name`` on the hub.
        revision: branch, tag or commit.
        tokenizer: tokenizer that gets ``checkpoint``.
    """

    kind: ClassVar[str] = "weights"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1

    repo: str
    revision: str
    tokenizer: T = field(metadata=NOT_IDENTITY)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Fetch the files; facts: where they are from, by commit, sha256 and size.

        Raises:
            ConfigError: when there is no such page, revision or file, or it is another model.
            StageError: when the hub cannot be reached or sends something else than it announced.
        """
        # A folder of the store's own making for this artifact, which tools.gc sweeps unless it is
        # in use; unlike ``out`` it outlives a failure.
        kept = out.with_name(f"{out.name.rpartition('-')[0] or out.name}-download")
        page = _Page(self.repo, self.revision, kept)
        config = page.fetch(CONFIG, out / CONFIG)
        if config is not None:
            page = dataclasses.replace(page, revision=config["commit"])
        weights = page.fetch(WEIGHTS, out / WEIGHTS)
        if weights is None:
            raise ConfigError(
                f"tokenizer.hub_repo={self.repo} has no {WEIGHTS} (revision {self.revision}); "
                "other files, pickles among them, are not read"
            )
        fetched = self._at(out / WEIGHTS)
        links = [
            _Page(repo, "main", kept).fetch(CONFIG, out / name)
            for name, repo in fetched.linked_configs().items()
        ]
        _ = fetched.spec  # what this tokenizer cannot read is not kept
        shutil.rmtree(kept, ignore_errors=True)
        files = [file for file in (config, weights, *links) if file is not None]
        return {"repo": self.repo, "revision": self.revision, "files": files}

    def load(self, artifact: Artifact) -> T:
        """Return the tokenizer with its weights."""
        return self._at(artifact.path / WEIGHTS)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee nothing but the tokenizer: only the hub knows how large its weights are."""
        if found := at.find(self):
            return Cost.found(found)
        return Cost(artifact=at.expect(self, {}), handle=self.tokenizer, source="not foreseen")

    def _at(self, checkpoint: Path) -> T:
        tokenizer: Any = self.tokenizer
        found: T = dataclasses.replace(tokenizer, checkpoint=str(checkpoint))
        return found


@dataclass(frozen=True)
class _Page:
    """A revision of a page of the hub.

    Attributes:
        repo, revision: name and revision of the page.
        kept: folder for what has arrived of a file.
    """

    repo: str
    revision: str
    kept: Path

    def fetch(self, file: str, target: Path) -> dict[str, Any] | None:
        """Put a file at ``target``; return commit, sha256 and size, or None without such a file.

        What the cache of the hub's client holds is taken from there, and all that there is when
        the hub cannot be reached.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError

        try:
            url = hf_hub_url(self.repo, file, revision=self.revision, endpoint=_endpoint())
            remote, reason = self._ask(url)
        except EntryNotFoundError:
            return None
        except HFValidationError as error:
            raise ConfigError(f"tokenizer.hub_repo={self.repo} is no page: {error}") from error
        commit = self.revision if remote is None else remote.commit_hash
        if (cached := self._cached(file, commit)) is not None:
            commit = cached.parent.name
            copy_file(cached, target)
        elif remote is None:
            raise StageError(
                f"{url} cannot be reached ({reason}), and the cache of the hub's client does not "
                "have it. Check the network, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN, or give a "
                "file: tokenizer.checkpoint=FOLDER/model.safetensors"
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
            return get_hf_file_metadata(url, endpoint=_endpoint()), ""
        except EntryNotFoundError:
            raise
        except GatedRepoError as error:
            raise ConfigError(
                f"{self.repo} is open only to those who accepted its terms; do so on its page, "
                "then log in with HF_TOKEN and run the same command again"
            ) from error
        except RepositoryNotFoundError as error:
            raise ConfigError(
                f"tokenizer.hub_repo={self.repo}: the hub has no such page, or it is private "
                f"({url}); check the name, or log in with HF_TOKEN"
            ) from error
        except RevisionNotFoundError as error:
            raise ConfigError(
                f"tokenizer.hub_revision={self.revision}: {self.repo} has no such branch, tag or "
                "commit; type tokenizer.hub_revision=main"
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


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")
