"""kill -9 at random moments of a training, again and again: the weights of an undisturbed one.

``IMAGEGRAM_KILLS=20 python -m pytest --log-cli-level=INFO tests/e2e/test_train_kills.py`` for more.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagegram.experiment import build
from imagegram.stages.tokenize import Tokenize
from imagegram.training.course import HISTORY
from tests.captioned import text_encoder
from tests.conftest import compose
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

NUM_KILLS = int(os.environ.get("IMAGEGRAM_KILLS", "3"))
NUM_STATES = 4
SMALL = "generator.width=16 generator.depth=3 generator.num_heads=2 generator.labels=label"
SMALL_FLOW = (
    "generator.width=16 generator.depth=2 generator.num_heads=2 generator.autoencoder.width=16"
)
SMALL_KL = (
    "tokenizer.sizes=[1,2] corpus.num_shards=1 corpus.images_per_shard=16 corpus.num_holdout=8 "
    "generator.width=16 generator.depth=1 generator.num_heads=2 generator.head_width=16 "
    "generator.autoencoder.image_size=16 generator.autoencoder.width=16 "
    "generator.autoencoder.depth=1 generator.autoencoder.num_latents=2"
)
#: Begins with the weights that the same training gives with another seed.
STARTED = "generator.optimization.seed=7"
#: Documents of different lengths, of which none is validated on.
CHOSEN_LAST = "generator.validation_fraction=0 generator.optimization.keep=last"
#: Whatever is drawn in a step is drawn somewhere: dropout, hidden labels, orders, dead codes.
COMPONENTS = {
    "ordered_fsq": "tokenizer=ordered_fsq_tiny",
    "conv_vq": "tokenizer=conv_vq_tiny",
    "titok": "tokenizer=titok_tiny tokenizer.quantizer.revive_below=0.9",
    "titok_two_stage": "tokenizer=titok_two_stage_tiny tokenizer.loss.adversarial_start=5",
    "ar": f"generator=ar {SMALL}",
    "rar": f"generator=rar {SMALL} generator.backbone=rar generator.dropout=0.2",
    "maskgit_bert": f"generator=maskgit {SMALL} generator.backbone=bert",
    "latent_flow": f"generator=latent_flow {SMALL_FLOW}",
    "maskgen_kl": f"generator=maskgen_kl {SMALL_KL}",
    "maskgen_kl_started": f"generator=maskgen_kl {SMALL_KL} {STARTED}",
    "maskgit_uvit": f"generator=maskgit {SMALL} generator.backbone=uvit",
    "maskgit_transformer": f"generator=maskgit {SMALL}",
    "chunk_transformer": f"generator=chunk_transformer {SMALL} {CHOSEN_LAST}",
    "masked_diffusion": f"generator=masked_diffusion {SMALL} {CHOSEN_LAST}",
}
#: Its children begin with torch imported, so that they are not killed while they import it.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["imagegram.training.loop", "tests.pictures", "transformers.models.bert.modeling_bert"]
)


def training(words: str, outputs: Path, *, num_states: int) -> Any:
    """The stage that trains a component, from its configuration."""
    how = ("trainer=cpu", "trainer.max_steps=12", f"trainer.segment_steps={12 // num_states}")
    if is_captioned := "maskgen_kl" in words:
        how = (*how, f"generator.embedder.folder={text_encoder(outputs).folder}")
    if STARTED in words:
        first = training(words.replace(STARTED, ""), outputs, num_states=1)
        folder = context(outputs / "first").make(first).artifact.path
        how = (*how, f"generator.start={folder}")
    exp = build(compose("debug=tiny", f"paths.outputs={outputs}", *how, *words.split()))
    if words.startswith("tokenizer="):
        assert exp.corpus.shards  # the demo is drawn now, not while it is trained on
        return exp.tokenizer.fit(exp.corpus)
    index: Any = None
    if is_captioned:
        tokenize = Tokenize(shards=exp.corpus.shards, tokenizer=exp.tokenizer)
        return exp.generator.fit(context(outputs / "tokens").make(tokenize), index=index)
    rows = tuple((i % 9, i % 7, i % 5) for i in range(96))
    labels = tuple(("a", "b", None)[i % 3] for i in range(96))
    shard = FakeTokenShard(rows=rows, labels=labels)
    if CHOSEN_LAST in words:
        some = tuple(row[: 1 + place % 3] for place, row in enumerate(rows))
        shard = replace(shard, rows=some, length=None)
    tokens = context(outputs / "tokens").make(FakeTokens(parts=(shard,)))
    return exp.generator.fit(replace(tokens, window=3), index=index)


def make(stage: Any, root: Path) -> None:
    context(root).make(stage)


@pytest.fixture(scope="module", autouse=True)
def _begun() -> None:
    """The server has imported torch."""
    process = SERVER.Process(target=int)
    process.start()
    process.join()


def start(stage: Any, root: Path) -> Any:
    process = SERVER.Process(target=make, args=(stage, root))
    process.start()
    return process


def weights(root: Path) -> dict[str, bytes]:
    """The weights that each training kept, and the last state."""
    found = root.glob("artifacts/*/[!.]*/model.safetensors")
    kept = [path for path in found if path.with_name(HISTORY).exists()]  # else they were given
    last = max(states(root), key=lambda path: path.stat().st_mtime_ns)
    return {path.parent.name: path.read_bytes() for path in [*kept, last]}


def states(root: Path) -> list[Path]:
    return list(root.glob("artifacts/training_state/[!.]*/state.safetensors"))


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_training_that_is_killed_again_and_again_gives_the_same_weights(
    name: str, tmp_path: Path, demo_outputs: Path
) -> None:
    whole, cut = (
        training(COMPONENTS[name], demo_outputs, num_states=number) for number in (1, NUM_STATES)
    )
    seconds = 0.0
    for stage, root in ((whole, tmp_path / "whole"), (cut, tmp_path / "cut")):
        began, process = time.monotonic(), start(stage, root)
        process.join()
        seconds = time.monotonic() - began
        assert process.exitcode == 0
    expected, moments = weights(tmp_path / "whole"), random.Random(name)
    assert weights(tmp_path / "cut") == expected
    num_states = NUM_STATES * (len(expected) - 1)  # some begin with the weights of others
    assert len(states(tmp_path / "cut")) == num_states

    done: list[int] = []  # states that there were at each kill
    trainings = 0
    while len(done) < NUM_KILLS:
        root, trainings = tmp_path / str(trainings), trainings + 1
        finished = False
        while not finished:
            process = start(cut, root)
            if len(done) < NUM_KILLS:
                process.join(moments.uniform(0, seconds))
                process.kill()
            process.join()
            finished = process.exitcode == 0
            if not finished:
                assert process.exitcode == -signal.SIGKILL
                done.append(len(states(root)))
        assert weights(root) == expected
    said = "%s: %d kills in %d trainings of %.1f s, after %s of %d states"
    logging.getLogger(__name__).info(said, name, len(done), trainings, seconds, done, num_states)
