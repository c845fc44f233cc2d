"""A whole run under captions: tokens and pictures of captions, scores of what captions save."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from imagegram.run import run_experiment
from imagegram.store.weights import AUTOENCODER, MODEL
from imagegram.texts.samples import read_texts
from tests.captioned import text_encoder
from tests.conftest import compose

SMALL = (
    *("debug=tiny", "corpus.num_shards=1", "corpus.images_per_shard=16", "corpus.num_holdout=8"),
    *("tokenizer.sizes=[1,2]", "planted=[]", "trainer=cpu", "num_samples=4", "condition=caption"),
    *("generator.width=16", "generator.depth=1", "generator.num_heads=2"),
)
TRAINED = ("steps=4", "warmup_steps=0", "batch_size=4")
_AUTOENCODER = ("image_size=16", "width=16", "depth=1", "num_latents=2", "latent_size=2")
#: Words of a run that paints.
PAINTS = (
    *("sampler.steps=2", "sampler.flow_steps=2", "output_size=12"),
    *(f"generator.autoencoder.{each}" for each in _AUTOENCODER),
    *(f"generator.autoencoder.optimization.{each}" for each in TRAINED),
)


def words(root: Path, name: str, *more: str) -> list[str]:
    """The words of a run of a generator with a text encoder of random weights."""
    encoder = text_encoder(root).folder
    how = [f"generator.optimization.{each}" for each in TRAINED]
    own = (f"generator={name}", f"generator.embedder.folder={encoder}", f"paths.outputs={root}/out")
    return [*SMALL, *how, *own, *more]


def test_samples_under_captions_are_written_scored_and_shown(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    more = ("sampler=any_order", "metric=[captions]", "condition.captions=training")
    finished = run_experiment(compose(*words(tmp_path, "maskgen", *more)), run)
    asked = read_texts(run / "samples" / "captions.jsonl")
    assert len(asked) == len(np.load(run / "samples" / "caption_documents.npy")) == 4
    page = (run / "report.html").read_text()
    assert f"<figcaption>{asked[0]}</figcaption>" in page
    assert "captions of training images" in page
    gain = finished.scores["caption_gain_bits"]
    assert gain["value"] is None  # of samples only one caption is known
    assert gain["floor"] is not None
    assert 0.0 <= finished.scores["caption_own_tokens"]["value"] <= 1.0


def test_what_a_generator_paints_is_kept_and_audited(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    finished = run_experiment(
        compose(*words(tmp_path, "maskgen_kl", "metric=[copying]", *PAINTS)), run
    )
    images = np.load(run / "samples" / "images.npy")
    assert images.shape == (4, 12, 12, 3)
    assert np.load(run / "samples" / "tokens.npy").shape == (4, 15)
    assert not (run / "samples" / "trace").exists()
    assert finished.scores["largest_source_share"]["value"] < 1.0


def test_pictures_are_measured_under_captions(tmp_path: Path) -> None:
    """Samples, held-out and training images alike; planted ones have no pictures of their own."""
    run = tmp_path / "run"
    run.mkdir()
    more = ("metric=[caption_errors]", "sampler.error_draws=2", "planted=[shuffled]")
    finished = run_experiment(compose(*words(tmp_path, "maskgen_kl", *PAINTS, *more)), run)
    assert np.load(run / "samples" / "trace" / "error_other.npy").shape == (4, 2)
    for name in ("caption_error", "caption_none_error", "caption_saved_error"):
        score = finished.scores[name]
        assert None not in (score["value"], score["floor"], score["ceiling"])
    values = json.loads((run / "scores.json").read_text())
    assert "shuffled" not in values["values"]["caption_error"]
    assert "sampler.error_draws=8" in values["notes"]["caption_error"]


def test_weights_of_a_training_are_sampled_from_and_begun_with(tmp_path: Path) -> None:
    """Both networks: the same samples from them, and themselves after steps without learning."""
    often = (*PAINTS, "metric=[copying]")
    runs = {name: tmp_path / name for name in ("first", "taken", "begun")}
    for run in runs.values():
        run.mkdir()
    run_experiment(compose(*words(tmp_path, "maskgen_kl", *often)), runs["first"])
    (folder,) = trained(tmp_path)
    given = {name: folder / name for name in (MODEL, AUTOENCODER)}
    taken = (*often, f"generator.checkpoint={folder}")
    run_experiment(compose(*words(tmp_path, "maskgen_kl", *taken)), runs["taken"])
    samples = [np.load(runs[name] / "samples" / "images.npy") for name in ("first", "taken")]
    np.testing.assert_array_equal(*samples)
    still = ("learning_rate=0", "final_learning_rate=0", "seed=5", "steps=2")
    begun = (
        *(*often, f"generator.start={given[MODEL]}", "corpus.seed=9"),
        *(f"generator.optimization.{each}" for each in still),
    )
    run_experiment(compose(*words(tmp_path, "maskgen_kl", *begun)), runs["begun"])
    for name, path in given.items():
        expected = load_file(path)
        kept = load_file(trained(tmp_path)[-1] / name)
        assert kept.keys() == expected.keys()
        for key, tensor in expected.items():
            assert torch.equal(kept[key], tensor), key


def trained(root: Path) -> list[Path]:
    """The folders of all generators, in the order in which they were trained or taken over."""
    found = root.glob(f"out/artifacts/generator/[!.]*/{AUTOENCODER}")
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]


def test_errors_that_nobody_asked_for_are_left_out_with_what_to_type(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    metrics = "metric=[caption_errors,captions]"
    run_experiment(compose(*words(tmp_path, "maskgen_kl", *PAINTS, metrics)), run)
    skipped = json.loads((run / "scores.json").read_text())["skipped"]
    assert "sampler.error_draws=8" in skipped["caption_errors"]
    assert "metric=[caption_errors]" in skipped["captions"]
