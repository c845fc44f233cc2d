"""Latent flows: chunks and padding, the flow on a Gaussian, prompts, and that both learn."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imagegram.conditions.prompt import GivenTokens
from imagegram.errors import ConfigError
from imagegram.generators.latent_flow.generator import LatentFlowGenerator
from imagegram.generators.latent_flow.objectives import ChunkReconstruction, LatentFlow
from imagegram.generators.latent_flow.sampling import Given, follow, normal_rows
from imagegram.generators.latent_flow.settings import Autoencoder
from imagegram.generators.latent_flow.sizes import ChunkSizes, FlowSizes
from imagegram.generators.latent_flow.training import AUTOENCODER, DENOISER, NOISES
from imagegram.layout import TokenLayout
from imagegram.models.cores import one_core
from imagegram.records import EOS_TOKEN_ID
from imagegram.samplers.flow import FlowSampler
from imagegram.store.manifest import MANIFEST
from imagegram.training.optimization import Optimization
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

V = 9  # eight ids and the end
CHUNKS = ChunkSizes(vocab_size=V, chunk_size=3, latent_size=2, width=16, depth=1, num_heads=0)
RECONSTRUCTION = ChunkReconstruction(
    sizes=CHUNKS, ends=True, beta=0.1, free_nats=0.0, token_dropout=0.2, latent_dropout=0.1
)
HOW = Optimization(steps=10, batch_size=4, learning_rate=1e-2)
FLOW = LatentFlow(
    sizes=FlowSizes(num_chunks=4, latent_size=2, width=16, depth=1, num_heads=2),
    autoencoder=RECONSTRUCTION,
    autoencoder_optimization=HOW,
    sigma=1.0,
    loss="both",
    times="logit_normal",
    self_conditioning=0.5,
    prompted=0.3,
)
PLAIN = FlowSampler(name="flow", steps=20)


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@given(
    st.lists(st.lists(st.integers(0, V - 2), max_size=10), min_size=1, max_size=4),
    st.booleans(),
)
def test_chunks_are_the_slow_definition(rows: list[list[int]], ends: bool) -> None:
    length, size, end = 10, CHUNKS.chunk_size, V - 1
    tokens = np.full((len(rows), length), EOS_TOKEN_ID, dtype=np.uint16)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    ids_BNC = CHUNKS.chunks(tokens)
    counted_BNC = CHUNKS.counted(ids_BNC, ends=ends)
    for ids, found, counted in zip(rows, ids_BNC, counted_BNC, strict=True):
        assert found.ravel().tolist() == ids + [end] * (12 - len(ids))
        num_counted = len(ids) + (ends and len(ids) < 12)
        assert counted.ravel().tolist() == [place < num_counted for place in range(12)]
    assert ids_BNC.shape == (len(rows), 4, size)


def losses_and_gradients(module: Any, batch: Any) -> tuple[Tensor, list[Tensor]]:
    module.log = module.log_dict = lambda *_, **__: None
    module.zero_grad()
    loss = module.training_step(tuple(map(torch.as_tensor, batch)), 0)
    loss.backward()
    gradients = [p.grad.clone() for p in module.networks.parameters() if p.grad is not None]
    return loss.detach(), gradients


def module_of(objective: Any, networks: dict[str, torch.nn.Module]) -> Any:
    module = objective.module()
    module.networks = torch.nn.ModuleDict(networks)
    return module


def networks() -> dict[str, torch.nn.Module]:
    from imagegram.generators.latent_flow.autoencoder import ChunkAutoencoder
    from imagegram.generators.latent_flow.denoiser import Denoiser
    from imagegram.models.transformer import build

    return {
        AUTOENCODER: build(ChunkAutoencoder, seed=1, **CHUNKS.arguments()),
        DENOISER: build(Denoiser, seed=2, **FLOW.sizes.arguments()),
    }


@pytest.mark.parametrize("objective", [RECONSTRUCTION, FLOW], ids=["autoencoder", "flow"])
def test_what_stands_behind_the_first_end_changes_no_bit_of_the_loss(objective: Any) -> None:
    short = np.array([[1, 2, EOS_TOKEN_ID] + [EOS_TOKEN_ID] * 7, [3] * 10], dtype=np.uint16)
    made = networks()
    module = module_of(objective, {k: v for k, v in made.items() if k == AUTOENCODER})
    if objective is FLOW:
        module = module_of(objective, {DENOISER: made[DENOISER]})
        module.autoencoder = made[AUTOENCODER].requires_grad_(False)
    batch = list(objective.batch(short, np.random.default_rng(0)))
    loss, gradients = losses_and_gradients(module, batch)
    assert loss > 0
    for array in batch[1:4]:  # other noise, other numbers kept or hidden, in chunks of padding
        array[0, 1:] = array[0, 1:] == 0 if array.dtype == bool else array[0, 1:] + 0.25
    again, others = losses_and_gradients(module, batch)
    assert torch.equal(loss, again)
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    assert any(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize(("method", "tolerance"), [("euler", 0.08), ("heun", 0.02)])
def test_a_flow_with_the_exact_posterior_arrives_at_the_gaussian(
    method: str, tolerance: float
) -> None:
    """x = (1 - t) start + t goal: E[goal | x] = m + t C (t^2 C + (1 - t)^2)^-1 (x - t m)."""
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    mean = torch.tensor([0.5, -1.0], dtype=torch.float64)

    def arrivals(latents: Tensor, times: Tensor, _: Tensor) -> Tensor:
        t = float(times[0, 0])
        of_noisy = t**2 * covariance + (1 - t) ** 2 * torch.eye(2, dtype=torch.float64)
        away = latents.double() - t * mean
        return mean + away @ torch.linalg.inv(of_noisy) @ (t * covariance)

    start = torch.from_numpy(
        normal_rows(seed=3, samples_B=np.arange(20_000, dtype=np.uint64), shape=(1, 2))
    ).double()
    sampler = FlowSampler(name="flow", steps=40, method=method)
    found = follow(arrivals, start, sampler=sampler)[:, 0].double()
    torch.testing.assert_close(found.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(found.T.cov(), covariance, atol=tolerance, rtol=0)


def test_normal_rows_are_normal_and_their_own() -> None:
    samples = np.arange(500, dtype=np.uint64)
    rows = normal_rows(seed=1, samples_B=samples, shape=(4, 5))
    np.testing.assert_array_equal(
        rows[[7]], normal_rows(seed=1, samples_B=samples[[7]], shape=(4, 5))
    )
    assert abs(rows.mean()) < 0.03
    assert abs(rows.std() - 1) < 0.03
    assert abs(np.corrcoef(rows[:, 0, 0], rows[:, 0, 1])[0, 1]) < 0.15


def test_given_chunks_stay_and_are_seen_at_time_1() -> None:
    seen = []

    def arrivals(latents: Tensor, times: Tensor, _: Tensor) -> Tensor:
        seen.append((latents[0, 0].tolist(), times[0].tolist()))
        return latents * 0 + 7.0

    given, is_given = torch.full((1, 3, 2), 5.0), torch.tensor([[True, False, False]])
    found = follow(
        arrivals,
        torch.randn(1, 3, 2),
        sampler=FlowSampler(name="flow", steps=2),
        given=Given(latents=given, is_whole=is_given, is_begun=is_given),
    )
    assert found.tolist() == [[[5.0, 5.0], [7.0, 7.0], [7.0, 7.0]]]
    assert seen == [([5.0, 5.0], [1.0, 0.0, 0.0]), ([5.0, 5.0], [1.0, 0.5, 0.5])]


def test_times_and_prompts_of_a_batch_are_as_asked() -> None:
    tokens = np.zeros((4000, 10), dtype=np.uint16)
    times_BN = FLOW.batch(tokens, np.random.default_rng(0))[3]
    given_BN = times_BN == 1
    assert not given_BN.all(axis=1).any()
    assert (given_BN[:, :-1] >= given_BN[:, 1:]).all()  # a prompt is a beginning
    assert abs(given_BN.any(axis=1).mean() - 0.3 * 3 / 4) < 0.03
    assert 0.05 < (times_BN[:, -1] < 0.25).mean() < 0.2
    uniform = dataclasses.replace(FLOW, times="uniform", prompted=0.0)
    times_BN = uniform.batch(tokens, np.random.default_rng(0))[3]
    assert abs((times_BN[:, -1] < 0.25).mean() - 0.25) < 0.03
    assert (times_BN == times_BN[:, :1]).all()


def test_lengths_are_drawn_by_their_shares() -> None:
    denoiser: Any = networks()[DENOISER]
    denoiser.lengths.copy_(torch.tensor([0.0, 0.25, 0.0, 0.75]))
    there = denoiser.there(torch.tensor([0.0, 0.2, 0.25, 0.99], dtype=torch.float64))
    assert there.sum(dim=1).tolist() == [2, 2, 4, 4]
    assert (there[:, :-1] >= there[:, 1:]).all()


@pytest.mark.parametrize("kind", ["mlp", "attention"])
def test_both_networks_learn(tmp_path: Path, kind: str) -> None:
    """Documents count upwards from a random digit, modulo 8; some end early."""
    rows = [tuple((first + step) % 8 for step in range(8)) for first in range(8)]
    rows += [row[:4] for row in rows]
    shard = FakeTokenShard(rows=tuple(rows * 4), length=None)
    tokens = context(tmp_path).make(FakeTokens(parts=(shard,)))
    tokens = dataclasses.replace(tokens, window=8)
    how = Optimization(
        steps=150, batch_size=32, learning_rate=5e-3, warmup_steps=10, ema_decay=0.95
    )
    generator = LatentFlowGenerator(
        autoencoder=Autoencoder(
            chunk_size=2, latent_size=4, kind=kind, width=32, depth=1, optimization=how
        ),
        width=32,
        depth=2,
        num_heads=2,
        prompted=0.6,
        optimization=dataclasses.replace(how, steps=300),
    )
    index: Any = None
    model = context(tmp_path).make(generator.fit(tokens, index=index))
    layout = TokenLayout.sequence(8, order="raster")
    ids, trace = model.generate(
        np.arange(64, dtype=np.uint64), sampler=PLAIN, layout=layout, seed=0
    )
    steps = [(a, b) for row in ids.tolist() for a, b in itertools.pairwise(row)]
    inside = [(a, b) for a, b in steps if EOS_TOKEN_ID not in (a, b)]
    legal = np.mean([b == (a + 1) % 8 for a, b in inside])
    assert legal > 0.7  # chance: 0.125
    ended = ids[:, 4] == EOS_TOKEN_ID
    assert 0.3 < ended.mean() < 0.7
    assert (trace["probability"][ended][:, 5:] == 0).all()
    assert (trace["probability"][~ended] > 0).all()
    assert len({tuple(row) for row in ids.tolist()}) > 8
    manifests = [json.loads(path.read_text()) for path in tmp_path.rglob(MANIFEST)]
    (facts,) = [m["facts"] for m in manifests if "val/accuracy" in m["facts"]]
    noisy = [facts[f"val/accuracy_noise{noise:g}"] for noise in NOISES]
    assert facts["val/accuracy"] >= noisy[0] > noisy[-1] > 0
    longer = TokenLayout.sequence(9, order="raster")
    with pytest.raises(ConfigError, match=r"9 tokens .* trained on 4 chunks, 8 tokens"):
        model.generate(np.arange(2, dtype=np.uint64), sampler=PLAIN, layout=longer, seed=0)
    documents = tokens.windows().gather(np.arange(16))
    latents = model.encode(documents)
    assert (model.decode(latents)[:, :8] == documents).mean() > 0.95
    same = model.denoise(latents, noise=0.0, sampler=PLAIN, seed=0)
    little = model.denoise(latents, noise=0.2, sampler=PLAIN, seed=0)
    np.testing.assert_array_equal(same, latents)
    right = (model.decode(little)[:, :8] == documents)[:8].mean()
    lost = model.denoise(latents, noise=1.0, sampler=PLAIN, seed=0)
    assert right > 0.6 > (model.decode(lost)[:, :8] == documents)[:8].mean()
    prompt = GivenTokens(rows=((3, 4), ()))
    samples = np.arange(80, dtype=np.uint64)
    ids, trace = model.generate(samples, sampler=PLAIN, layout=layout, seed=0, condition=prompt)
    assert (ids[::2, :2] == [3, 4]).all()
    assert trace["is_prompt"].sum(axis=1).tolist() == [2, 0] * 40
    assert (trace["probability"][::2, :2] == 1).all()
    assert (ids[::2, 2] == 5).mean() > 0.35  # chance: 0.125


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"loss": "mse"}, "generator.loss=mse"),
        ({"times": "linear"}, "generator.times=linear"),
        ({"width": 7}, "generator.width=7"),
        ({"sigma": -1.0}, "generator.sigma=-1"),
        ({"sigma": 0.0}, "generator.sigma=0 would start every sample at one place"),
        ({"autoencoder": Autoencoder(latent_size=0)}, "generator.autoencoder.latent_size=0"),
        ({"prompted": 1.5}, "generator.prompted=1.5"),
        ({"autoencoder": Autoencoder(kind="conv")}, "generator.autoencoder.kind=conv"),
        ({"autoencoder": Autoencoder(chunk_size=0)}, "generator.autoencoder.chunk_size=0"),
        ({"autoencoder": Autoencoder(kind="attention", num_heads=3)}, "must divide"),
    ],
)
def test_what_cannot_be_trained_is_refused(fields: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LatentFlowGenerator(optimization=HOW, **fields)


@pytest.mark.parametrize("knobs", [{"steps": 0}, {"method": "rk4"}, {"noise_scale": -0.1}])
def test_a_sampler_out_of_range_is_refused(knobs: Any) -> None:
    with pytest.raises(ConfigError, match=f"sampler.{next(iter(knobs))}="):
        FlowSampler(name="flow", **knobs)
