"""Get the tars of a corpus from the Hugging Face Hub.

    python -m imagegram.tools.download corpus=cc12m_10
    python -m imagegram.tools.download corpus=cc12m_100 paths.data=/big/disk

Tars that are there in full are left alone, a partial one is continued where it stopped, and nothing
carries its final name before it is whole. ``HF_ENDPOINT`` names a mirror, ``HF_TOKEN`` logs in.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import (
    OF_THE_SYSTEM,
    ConfigError,
    CorpusError,
    ImagegramError,
    remedy,
)
from imagegram.store import hub
from imagegram.tools.arguments import exit_cleanly, tool_parser

_DEFAULT_ENDPOINT: Final = "https://huggingface.co"


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
    num_new = download(corpus, endpoint=os.environ.get("HF_ENDPOINT"))
    print(f"corpus {corpus.name}: {len(corpus.wanted())} tars are there, {num_new} of them new")
    return 0


def compose_corpus(overrides: Sequence[str]) -> WebDatasetCorpus:
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
    if not isinstance(corpus, WebDatasetCorpus) or corpus.hub_repo is None:
        pattern = re.compile(r"^hub_repo: (?!null)", re.MULTILINE)
        names = (
            path.stem
            for path in sorted((schema.CONF / "corpus").glob("*.yaml"))
            if pattern.search(path.read_text())
        )
        raise ConfigError(
            f"corpus {corpus.name} has nothing to download; these have: "
            f"{', '.join(f'corpus={name}' for name in names)}"
        )
    return corpus


def download(corpus: WebDatasetCorpus, *, endpoint: str | None = None) -> int:
    """Download every missing or partial training tar of ``corpus``; return their number.

    Args:
        corpus: with a ``hub_repo``.
        endpoint: address of the hub; None: huggingface.co.

    Raises:
        CorpusError: when the hub cannot be reached, refuses, or sends other bytes than announced;
            the bytes received so far are kept.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    assert corpus.hub_repo is not None
    num_new = 0
    wanted = corpus.wanted()
    for number, path in enumerate(wanted, 1):
        file = f"{corpus.hub_folder}/{path.name}".lstrip("/")
        url = hf_hub_url(corpus.hub_repo, file, repo_type="dataset", endpoint=endpoint)
        try:
            remote = get_hf_file_metadata(url, endpoint=endpoint)
            if path.is_file() and path.stat().st_size == remote.size:
                continue
            print(f"{path} ({number} of {len(wanted)}, {remote.size} bytes)", flush=True)
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
                "What has arrived is kept. Check the network, HF_ENDPOINT (now "
                f"{endpoint or _DEFAULT_ENDPOINT}) and, for data that need a login, HF_TOKEN; "
                "then run the same command again"
            ) from error
        num_new += 1
    return num_new


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
