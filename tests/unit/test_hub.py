"""Weights from the hub, against a local server: fetched, cached, cut, continued, refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from imagegram.errors import ConfigError, ImagegramError, StageError
from imagegram.executors.context import RunContext
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.store.artifacts import ArtifactStore, fingerprint
from imagegram.store.stage import Ready
from imagegram.tokenizers.fetch import FetchWeights
from imagegram.tokenizers.flextok.tokenizer import FlexTokTokenizer
from tests import flextok_models
from tests.conftest import REPOSITORY
from tests.hub_server import COMMIT, Hub, serving

REPO = "EPFL-VILAB/flextok_small"
VAE = "EPFL-VILAB/flextok_vae_small"
CHUNK = 100


def weights(config: dict[str, Any] | None) -> bytes:
    header = None if config is None else {key: str(value) for key, value in config.items()}
    return save({"weight": np.arange(5000, dtype=np.float32)}, header)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits before it tries again
    # What is lost of a cut is at most one chunk, 10 MB by default.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    config = json.dumps(flextok_models.config()).encode()
    page = {"config.json": config, "model.safetensors": weights(None), "model.bin": b"\x80pickle"}
    with serving({REPO: page, VAE: {"config.json": b'{"scaling_factor": 0.25}'}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def tokenizer(**fields: Any) -> FlexTokTokenizer:
    return FlexTokTokenizer(**{"hub_repo": REPO, "num_tokens": 16, "image_size": 32} | fields)


def make(folder: Path, **fields: Any) -> FlexTokTokenizer:
    """The tokenizer with its weights, through its own stage."""
    chosen = tokenizer(**fields)
    return context(folder).make(chosen.fit(None))  # type: ignore[arg-type] # needs no corpus


def context(folder: Path) -> RunContext:
    store = ArtifactStore(root=folder / "artifacts")
    return RunContext(store=store, executor=SerialExecutor(), progress=SilentProgress())


def folder_of(made: FlexTokTokenizer) -> Path:
    assert made.checkpoint is not None
    return Path(made.checkpoint).parent


@pytest.mark.parametrize("redirects", [False, True])
def test_weights_become_an_artifact_once(hub: Hub, tmp_path: Path, redirects: bool) -> None:
    hub.redirects = redirects
    made = make(tmp_path)
    assert made == dataclasses.replace(tokenizer(), checkpoint=made.checkpoint)
    assert made.fit(None) == Ready(made)  # type: ignore[arg-type]
    assert made.spec.layout.digits == flextok_models.LEVELS
    files = {path.name for path in folder_of(made).iterdir()}
    assert files == {"config.json", "model.safetensors", "manifest.json"}  # and no pickle
    data = hub.pages[REPO]["model.safetensors"]
    assert made.checkpoint is not None
    assert Path(made.checkpoint).read_bytes() == data
    assert made.identity()["weights"] == hashlib.sha256(data).hexdigest()
    facts = json.loads((folder_of(made) / "manifest.json").read_text())["facts"]
    assert facts["files"][1] == {
        "repo": REPO,
        "file": "model.safetensors",
        "commit": COMMIT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
    }
    hub.requests.clear()
    assert make(tmp_path) == made
    assert hub.requests == []
    assert list((tmp_path / "artifacts" / "weights").glob(".partial*")) == []


def test_identity_is_page_and_revision_alone() -> None:
    def name(**fields: Any) -> str:
        chosen = tokenizer(**fields)
        return fingerprint(FetchWeights(repo="a/b", revision="main", tokenizer=chosen))[0]

    assert name() == name(num_tokens=3, name="other", device="cpu")
    stage = tokenizer(hub_revision="v2").fit(None)  # type: ignore[arg-type]
    assert isinstance(stage, FetchWeights)
    assert (stage.repo, stage.revision) == (REPO, "v2")


@pytest.mark.parametrize("redirects", [False, True])
def test_a_broken_download_is_continued_by_the_next_run(
    hub: Hub, tmp_path: Path, redirects: bool
) -> None:
    hub.cut_at, hub.redirects = 10_000, redirects  # the configuration is shorter
    with pytest.raises(StageError, match="What has arrived is kept; run the same command"):
        make(tmp_path)
    arrived = next((tmp_path / "artifacts" / "weights").glob(".partial-*-download/*")).stat()
    assert 10_000 - CHUNK <= arrived.st_size <= 10_000
    hub.cut_at = None
    hub.requests.clear()
    path = folder_of(make(tmp_path)) / "model.safetensors"
    assert path.read_bytes() == hub.pages[REPO]["model.safetensors"]
    spans = {span for file, span in hub.gets() if file == "model.safetensors"}
    assert spans == {f"bytes={arrived.st_size}-"}  # only the rest was asked for
    assert list((tmp_path / "artifacts" / "weights").glob(".partial*")) == []


def test_another_version_is_not_continued(hub: Hub, tmp_path: Path) -> None:
    hub.cut_at = 10_000
    with pytest.raises(StageError):
        make(tmp_path)
    hub.cut_at = None
    hub.pages[REPO]["model.safetensors"] = data = weights({"made": "later"})
    assert (folder_of(make(tmp_path)) / "model.safetensors").read_bytes() == data


def test_what_the_client_has_in_its_cache_is_copied(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    for file in ("config.json", "model.safetensors"):
        cached = hf_hub_download(REPO, file, endpoint=hub.url, cache_dir=tmp_path / "cache")
    hub.requests.clear()
    made = make(tmp_path)
    assert hub.gets() == []
    path = folder_of(made) / "model.safetensors"
    assert not path.is_symlink()
    assert path.read_bytes() == Path(cached).read_bytes()
    assert not path.samefile(Path(cached).resolve())  # whoever edits the cache edits no artifact


def test_offline_the_cache_is_all(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import hf_hub_download

    for file in ("config.json", "model.safetensors"):
        hf_hub_download(REPO, file, endpoint=hub.url, cache_dir=tmp_path / "cache")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    assert make(tmp_path).spec.vocab_size == 200
    with pytest.raises(StageError, match=r"cannot be reached .*HF_HUB_OFFLINE"):
        make(tmp_path, hub_repo="EPFL-VILAB/other")


def test_the_configuration_may_be_in_the_header(hub: Hub, tmp_path: Path) -> None:
    del hub.pages[REPO]["config.json"]
    hub.pages[REPO]["model.safetensors"] = weights(flextok_models.config())
    assert make(tmp_path).spec.vocab_size == 200


def test_a_vae_of_another_page_gives_its_numbers_alone(hub: Hub, tmp_path: Path) -> None:
    config = flextok_models.config()
    config["vae"] = {**config["vae"], "hf_hub_path": VAE, "scaling_factor": None}
    hub.pages[REPO]["config.json"] = json.dumps(config).encode()
    made = make(tmp_path)
    assert made.spec.vocab_size == 200
    assert json.loads((folder_of(made) / "vae_config.json").read_text())["scaling_factor"] == 0.25


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"hub_repo": "EPFL-VILAB/unknown"}, ConfigError, "the hub has no such page"),
        ({"hub_revision": "v9"}, ConfigError, "no such branch, tag or commit"),
        ({"hub_repo": VAE}, ConfigError, "has no model.safetensors"),
        ({"hub_repo": "a/b/c"}, ConfigError, "tokenizer.hub_repo=a/b/c is no page"),
        ({"num_tokens": 17}, ConfigError, "the model has 16 tokens an image"),
    ],
)
def test_what_cannot_be_fetched(
    hub: Hub, tmp_path: Path, fields: dict[str, Any], error: type[ImagegramError], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(tmp_path, **fields)
    assert list((tmp_path / "artifacts").glob("weights/[!.]*")) == []


def test_bytes_that_are_not_those_announced(hub: Hub, tmp_path: Path) -> None:
    hub.lies = True
    with pytest.raises(StageError, match="not those that the hub announced"):
        make(tmp_path)


def test_a_configuration_that_runs_programs_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    config = flextok_models.config()
    config["vae"] = {"_target_": "os.system", "command": f"touch {tmp_path}/ran"}
    hub.pages[REPO]["config.json"] = json.dumps(config).encode()
    with pytest.raises(ConfigError, match=r"asks for 'os\.system'"):
        make(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "artifacts").glob("weights/[!.]*")) == []


_SCRIPT = """
import sys
from pathlib import Path
from tests.unit.test_hub import make
print(make(Path(sys.argv[1])).checkpoint)
"""


def test_a_process_of_its_own_reads_hf_endpoint(hub: Hub, tmp_path: Path) -> None:
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == hub.pages[REPO]["model.safetensors"]
