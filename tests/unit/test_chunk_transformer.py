"""A transformer over chunks: exact probabilities, who sees whom, the cache, and that it learns."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagegram.errors import ConfigError
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.generators.autoregressive.published import sizes_in
from imagegram.generators.autoregressive.sampling import score_rows
from imagegram.generators.autoregressive.sizes import ChunkSizes, make_fresh
from imagegram.layout import TokenLayout
from imagegram.models.checkpoints import shapes_of
from imagegram.models.cores import one_core
from imagegram.samplers.sequential import SequentialSampler
from imagegram.training.optimization import Optimization
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

V, T = 3, 5  # two ids and the end
SIZES = ChunkSizes(
    vocab_size=V, num_tokens=T, width=8, depth=1, num_heads=2, chunk_size=2, local_depth=1
)
HOW = Optimization(steps=150, batch_size=32, learning_rate=5e-3, warmup_steps=10, ema_decay=0.95)
CHUNKS = {"backbone": "chunk", "chunk_size": 4, "local_depth": 1}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def network(**changes: int) -> Any:
    """A network whose probabilities are far from uniform."""
    found: Any = make_fresh(dataclasses.replace(SIZES, **changes), seed=1)
    with torch.no_grad():
        found.to_logits.weight.mul_(20)
    return found.eval()


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 7])
def test_probabilities_of_all_documents_sum_to_one(chunk_size: int) -> None:
    """Of those that end early, and of those that do not."""
    end, total = V - 1, 0.0
    for size in range(T + 1):
        documents = [list(row) for row in itertools.product(range(end), repeat=size)]
        rows = torch.tensor([row + [end] * (T - size) for row in documents])
        log_prob = score_rows(network(chunk_size=chunk_size), rows)["log_prob"]
        total += np.exp(log_prob[:, : size + 1].sum(axis=1)).sum()
    assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("num_classes", [0, 2])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 7])
def test_steps_with_a_cache_are_whole_rows(chunk_size: int, num_classes: int) -> None:
    model = network(chunk_size=chunk_size, num_classes=num_classes)
    ids = torch.randint(0, V, (6, T), generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 2, 0, 1, 2]) % (num_classes + 1)
    with torch.no_grad():
        whole = model.to_logits(model(ids, None, classes))
        steps, last = model.begin(classes), None
        for place in range(T):
            logits = model.step(last, place, steps)
            torch.testing.assert_close(logits, whole[:, place], atol=1e-4, rtol=1e-4)
            last = ids[:, place]
        shorter = model.to_logits(model(ids[:, :3], None, classes))
    torch.testing.assert_close(shorter, whole[:, :3], atol=1e-4, rtol=1e-4)


def test_a_step_sees_all_tokens_before_it_and_none_behind() -> None:
    model = network(chunk_size=2)
    ids = torch.zeros(1, T, dtype=torch.int64)
    with torch.no_grad():
        plain = model(ids)
        for place in range(T):
            changed = ids.clone()
            changed[0, place] = 1
            differs = (model(changed) != plain).any(dim=-1)[0].tolist()
            assert differs == [other > place for other in range(T)]


def test_weights_tell_the_sizes() -> None:
    found = sizes_in(shapes_of(network(num_classes=2).state_dict()), backbone="chunk", setting="x")
    assert found == dataclasses.replace(SIZES, num_classes=2)


def test_it_learns_windows_that_are_no_multiple_of_a_chunk(tmp_path: Path) -> None:
    """Documents count upwards from a random digit, modulo 8; half of them end early."""
    rows = [tuple((first + step) % 8 for step in range(7)) for first in range(8)]
    rows += [row[:3] for row in rows]
    shard = FakeTokenShard(rows=tuple(rows * 4), length=None)
    tokens = context(tmp_path).make(FakeTokens(parts=(shard,)))
    tokens = dataclasses.replace(tokens, window=7)
    generator = AutoregressiveGenerator(width=32, depth=1, num_heads=2, optimization=HOW, **CHUNKS)
    index: Any = None
    model = context(tmp_path).make(generator.fit(tokens, index=index))
    how: Any = {
        "sampler": SequentialSampler(name="raster", temperature=1.0),
        "layout": TokenLayout.sequence(7, order="raster"),
        "seed": 0,
    }
    documents = tokens.windows().gather(np.arange(16))
    bits = -model.score(documents, **how)["log_prob"].sum(axis=1) / math.log(2)
    assert 3.9 < bits.mean() < 4.6  # one of 16
    ids, _ = model.generate(np.arange(64, dtype=np.uint64), **how)
    known = {tuple(row) for row in documents.tolist()}
    assert np.mean([tuple(row) in known for row in ids.tolist()]) > 0.8


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"chunk_size": 4}, "type generator.backbone=chunk"),
        ({"backbone": "chunk"}, "needs generator.chunk_size"),
        ({**CHUNKS, "chunk_size": 0}, "generator.chunk_size=0 must be at least 1"),
        ({**CHUNKS, "local_depth": 0}, "generator.local_depth=0 must be at least 1"),
        ({**CHUNKS, "anneal": (0.5, 0.75)}, r"generator.anneal=\[0.5, 0.75\] permutes"),
        ({**CHUNKS, "hidden": 8}, "belong to the backbone of RAR"),
    ],
)
def test_what_is_no_network_of_chunks_is_refused(fields: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AutoregressiveGenerator(optimization=HOW, **fields)
