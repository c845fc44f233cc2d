"""Get a corpus from the Hugging Face Hub: tars, Parquet files of a dataset, or Wikipedia.

    python -m imagegram.tools.download corpus=cc12m_10
    python -m imagegram.tools.download corpus=cc12m_100 paths.data=/big/disk
    python -m imagegram.tools.download corpus=huggingface corpus.dataset=food101
    python -m imagegram.tools.download corpus=wikipedia corpus.language=simple

Of Wikipedia articles are streamed, and those that are long enough written as JSON lines: a command
that was killed goes on behind the last whole file. A dataset without Parquet files of its own is
taken as the hub has converted it. Files that are there in full are left alone, a partial one is
continued where it stopped, and nothing carries its final name before it is whole. ``HF_ENDPOINT``
names a mirror, ``HF_TOKEN`` logs in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple, TypeAlias

from imagegram.corpora.huggingface import LISTING, HuggingFaceCorpus, HuggingFaceTextCorpus
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.corpora.wikipedia import WikipediaCorpus
from imagegram.corpora.wikipedia_export import export
from imagegram.errors import (
    OF_THE_SYSTEM,
    ConfigError,
    CorpusError,
    ImagegramError,
    remedy,
)
from imagegram.executors.commands import exit_cleanly
from imagegram.store import hub
from imagegram.tools.arguments import tool_parser

_DEFAULT_ENDPOINT: Final = "https://huggingface.co"
DatasetCorpus: TypeAlias = HuggingFaceCorpus | HuggingFaceTextCorpus
#: Branch on which the hub keeps datasets of other forms as Parquet files.
CONVERTED: Final = "refs/convert/parquet"


def main(argv: Sequence[str] | None = None) -> int:
    """Download the corpus that the command line names; return the exit status."""
    parser = tool_parser("download", __doc__)
    parser.add_argument(
        "overrides",
        nargs="+",
        metavar="KEY=VALUE",
        help="as for imagegram.run: corpus=cc12m_10 [paths.data=FOLDER] [corpus.num_shards=3]",
    )
    overrides = parser.parse_args(argv).overrides
    corpus = compose_corpus(overrides)
    if isinstance(corpus, WikipediaCorpus):
        counts = export(corpus, say=lambda line: print(line, flush=True))
        told = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
        print(f"corpus {corpus.name}: {told}; in {corpus.folder}")
        return 0
    endpoint = os.environ.get("HF_ENDPOINT")
    files = remote_files(corpus, endpoint=endpoint)
    num_new = download(files, endpoint=endpoint)
    noun = "tars" if isinstance(corpus, WebDatasetCorpus) else "files"
    print(f"corpus {corpus.name}: {len(files)} {noun} are there, {num_new} of them new")
    return 0


class RemoteFile(NamedTuple):
    """A file of the hub, and where it goes."""

    url: str
    path: Path


def compose_corpus(overrides: Sequence[str]) -> WebDatasetCorpus | DatasetCorpus | WikipediaCorpus:
    """Compose the configuration and return its corpus.

    Raises:
        ConfigError: when it does not compose, or there is nothing to download for that corpus.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    from imagegram import schema, words

    schema.register()
    typed = words.as_typed(overrides)
    try:
        with initialize_config_dir(str(schema.CONF), version_base="1.3"):
            corpus: Any = instantiate(compose("config", typed).corpus, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, ImagegramError):
            raise cause from None
        hints = words.explain(typed)
        lines = [str(error), *hints, "for example: corpus=cc12m_10"]
        raise ConfigError("\n".join(lines)) from error
    if isinstance(corpus, HuggingFaceCorpus | HuggingFaceTextCorpus | WikipediaCorpus):
        return corpus
    if not isinstance(corpus, WebDatasetCorpus) or corpus.hub_repo is None:
        pattern = re.compile(r"^hub_repo: (?!null)", re.MULTILINE)
        names = (
            path.stem
            for path in sorted((schema.CONF / "corpus").glob("*.yaml"))
            if pattern.search(path.read_text())
        )
        raise ConfigError(
            f"corpus {corpus.name} has nothing to download; these have: "
            f"{', '.join(f'corpus={name}' for name in names)}, corpus=wikipedia, "
            "corpus=huggingface corpus.dataset=NAME"
        )
    return corpus


def remote_files(
    corpus: WebDatasetCorpus | DatasetCorpus, *, endpoint: str | None = None
) -> list[RemoteFile]:
    """Return the files of a corpus; those of a dataset are listed by the hub.

    Args:
        corpus: with a ``hub_repo``, or a ``dataset``.
        endpoint: address of the hub; None: huggingface.co.

    Raises:
        CorpusError: when the hub cannot be asked, or has no such dataset, split or configuration.
    """
    if isinstance(corpus, HuggingFaceCorpus | HuggingFaceTextCorpus):
        return _dataset_files(corpus, endpoint)
    from huggingface_hub import hf_hub_url

    assert corpus.hub_repo is not None
    files = [(f"{corpus.hub_folder}/{path.name}".lstrip("/"), path) for path in corpus.wanted()]
    return [
        RemoteFile(hf_hub_url(corpus.hub_repo, file, repo_type="dataset", endpoint=endpoint), path)
        for file, path in files
    ]


def _dataset_files(corpus: DatasetCorpus, endpoint: str | None) -> list[RemoteFile]:
    """Return the files of the splits of a dataset; write which files the dataset has."""
    from huggingface_hub import hf_hub_url

    folder, dataset = corpus.folder, corpus.dataset
    if dataset is None or Path(dataset).is_dir():
        raise ConfigError(
            f"corpus.dataset={dataset} is a folder of this machine: there is nothing to download"
        )
    listing, revision = {}, corpus.revision
    for revision in (corpus.revision, CONVERTED):
        if listing := _list_parquet(dataset, revision, endpoint):
            break
    if not listing:
        raise CorpusError(
            f"corpus.dataset={dataset} has no Parquet files at the hub, neither its own nor any "
            "that the hub has converted; download it in its own form, then use corpus=folder or "
            "corpus=webdataset"
        )
    files = corpus.choose([*listing], corpus.split)[: corpus.num_shards]
    if corpus.holdout_split is not None:
        files += corpus.choose([*listing], corpus.holdout_split, "holdout_split")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LISTING).write_text(json.dumps(listing, indent=1, sort_keys=True) + "\n")
    how: dict[str, Any] = {"repo_type": "dataset", "revision": revision, "endpoint": endpoint}
    return [RemoteFile(hf_hub_url(dataset, file, **how), folder / file) for file in files]


def _list_parquet(dataset: str, revision: str, endpoint: str | None) -> dict[str, int]:
    """Return the sizes of the Parquet files of a revision; {} where there is no such revision."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.hf_api import RepoFile

    try:
        tree = HfApi(endpoint=endpoint).list_repo_tree(
            dataset, repo_type="dataset", revision=revision, recursive=True
        )
        files = [entry for entry in tree if isinstance(entry, RepoFile)]
    except RevisionNotFoundError as error:
        if revision == CONVERTED:
            return {}
        raise CorpusError(
            f"corpus.dataset={dataset} has no branch, tag or commit corpus.revision={revision}"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CorpusError(
            f"corpus.dataset={dataset} is neither a folder nor a dataset of the hub, or it is "
            "private: then HF_TOKEN logs in. Type corpus.dataset=NAME or OWNER/NAME, as in its "
            "address"
        ) from error
    except hub.failures() as error:
        raise CorpusError(f"{dataset} could not be listed: {error}\n{_advice(endpoint)}") from error
    return {
        entry.path: entry.size
        for entry in files
        # A path that leads out of the folder is none of a dataset's.
        if entry.path.endswith(".parquet") and ".." not in PurePosixPath("/", entry.path).parts
    }


def download(files: Sequence[RemoteFile], *, endpoint: str | None = None) -> int:
    """Download every missing or partial file; return their number.

    Args:
        files: from :func:`remote_files`.
        endpoint: address of the hub; None: huggingface.co.

    Raises:
        CorpusError: when the hub cannot be reached, refuses, or sends other bytes than announced;
            the bytes received so far are kept.
    """
    from huggingface_hub import get_hf_file_metadata

    num_new = 0
    for number, (url, path) in enumerate(files, 1):
        try:
            remote = get_hf_file_metadata(url, endpoint=endpoint)
            if path.is_file() and path.stat().st_size == remote.size:
                continue
            print(f"{path} ({number} of {len(files)}, {remote.size} bytes)", flush=True)
            _fetch(url, path, etag=remote.etag or "", size=remote.size)
        except hub.failures() as error:
            if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
                advice = remedy(error, outputs=path.parent, setting="paths.data")
                raise CorpusError(
                    f"{path} could not be written: {error.strerror}; {advice}. What has arrived is "
                    "kept"
                ) from error
            raise CorpusError(
                f"{url} could not be downloaded to {path.parent.absolute()}: {error}\n"
                f"What has arrived is kept. {_advice(endpoint)}"
            ) from error
        num_new += 1
    return num_new


def _advice(endpoint: str | None) -> str:
    return (
        f"Check the network, HF_ENDPOINT (now {endpoint or _DEFAULT_ENDPOINT}) and, for data that "
        "need a login, HF_TOKEN; then run the same command again"
    )


def _fetch(url: str, path: Path, *, etag: str, size: int | None) -> None:
    """Download one file; continue a partial one if it is of the same version (ETag)."""
    version = hashlib.sha256(etag.encode()).hexdigest()[:12]
    partial = path.with_name(f".{path.name}.{version}.partial")
    if not hub.fetch(url, partial, etag=etag, size=size):
        raise CorpusError(
            f"{url}: the bytes that arrived are not those that the hub announced (sha256 {etag}); "
            "they were removed, run the same command again"
        )
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
