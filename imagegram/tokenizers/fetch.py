"""Weights: the files of a tokenizer on the Hugging Face Hub, as an artifact.

    model.safetensors   the weights, copied from the hub's own cache when it has them
    config.json         the model's configuration, when its page has one

Only these are fetched, never a pickle. A download that was cut or killed is continued by the next
run; ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they mean to the hub's client.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TypeVar

from imagegram.errors import ConfigError
from imagegram.store.cost import Cost
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.pages import Asked, Page
from imagegram.store.stage import Context, Surroundings

if TYPE_CHECKING:
    from imagegram.layout import TokenSpec
    from imagegram.store.manifest import Artifact

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
_ASKED: Final = Asked(
    repo="tokenizer.hub_repo",
    revision="tokenizer.hub_revision",
    instead="tokenizer.checkpoint=FOLDER/model.safetensors",
)


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
        page = Page(repo=self.repo, revision=self.revision, kept=kept, asked=_ASKED)
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
            Page(repo=repo, revision="main", kept=kept, asked=_ASKED).fetch(CONFIG, out / name)
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
