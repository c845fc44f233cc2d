"""The vector quantizer: ids by brute force and by another library; codes that follow and revive."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from imagegram.models.clusters import Clusters, Devices
from imagegram.models.codebooks import Codebook
from imagegram.models.cores import one_core
from imagegram.models.quantizers import FiniteScalarQuantizer
from imagegram.models.standardization import Standardizer

V, D = 24, 4


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, D, generator=torch.Generator().manual_seed(seed))


def codebook(*, normalized: bool = False) -> Codebook:
    made = Codebook(vocab_size=V, dim=D, normalized=normalized)
    with torch.no_grad():
        made.vectors.copy_(vectors(V, seed=9))
    return made


def clusters(learned: str = "ema", *, decay: float = 0.9, revive_below: float = 0.1) -> Clusters:
    return Clusters(vocab_size=V, dim=D, learned=learned, decay=decay, revive_below=revive_below)


@pytest.mark.parametrize("normalized", [False, True])
def test_ids_and_codes_are_those_of_another_library(normalized: bool) -> None:
    ours = codebook(normalized=normalized)
    theirs = VectorQuantize(dim=D, codebook_size=V, use_cosine_sim=normalized).eval()
    theirs.codebook = ours.codes(torch.arange(V)).detach()
    z = vectors(7, 50)
    codes, ids, _ = theirs(z)
    found = ours.quantize(z)
    assert len(ids.unique()) > V // 2
    assert found.ids.equal(ids)
    torch.testing.assert_close(found.codes, codes)
    torch.testing.assert_close(ours.codes(found.ids), codes)


def test_the_nearest_code_is_chosen_in_float32_under_autocast() -> None:
    ours, z = codebook(), vectors(5, 40)
    apart = (z[:, :, None] - ours.vectors).square().sum(-1)
    with torch.autocast("cpu", torch.bfloat16):
        found = ours.quantize(z.bfloat16().float())
    assert found.codes.dtype == torch.float32
    assert ours.quantize(z).ids.equal(apart.argmin(-1))
    assert found.ids.equal(
        (z.bfloat16().float()[:, :, None] - ours.vectors).norm(dim=-1).argmin(-1)
    )


def test_gradients_pass_the_codes_and_each_loss_pulls_on_one_side() -> None:
    ours, z = codebook(), vectors(3, 5).requires_grad_()
    weights = vectors(3, 5, seed=1)
    found = ours.quantize(z)
    (found.codes * weights).sum().backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, weights)
    assert ours.vectors.grad is None
    z.grad = None
    found.commitment().backward(retain_graph=True)
    torch.testing.assert_close(z.grad, 2 * (z - ours.codes(found.ids)).detach() / z.numel())
    assert ours.vectors.grad is None
    z.grad = None
    found.attraction().backward()
    assert z.grad is None
    assert ours.vectors.grad is not None
    chosen = torch.zeros(V, dtype=torch.bool)
    chosen[found.ids.flatten()] = True
    assert (ours.vectors.grad.abs().sum(1) > 0).equal(chosen)


def test_rounded_numbers_are_pulled_by_nothing() -> None:
    z = torch.randn(6, 3, requires_grad=True)
    found = FiniteScalarQuantizer((8, 5, 5)).quantize(z)
    assert found.commitment().item() == found.attraction().item() == 0.0
    assert found.ids.equal(FiniteScalarQuantizer((8, 5, 5)).ids(found.codes))


# ------------------------------------------------------------------------------ codes that follow


def slow_ema(steps: list[Tensor], decay: float) -> tuple[Tensor, Tensor]:
    """Codes and usage of moving averages, code by code."""
    codes = vectors(V, seed=9).double()
    usage, sums = [0.0] * V, [torch.zeros(D, dtype=torch.float64) for _ in range(V)]
    for z in steps:
        mine: list[list[Tensor]] = [[] for _ in range(V)]
        for vector in z.flatten(0, 1).double():
            mine[int((codes - vector).norm(dim=1).argmin())].append(vector)
        scale = V / z[..., 0].numel()
        for code, members in enumerate(mine):
            usage[code] = decay * usage[code] + (1 - decay) * len(members) * scale
            total = torch.stack([torch.zeros(D, dtype=torch.float64), *members]).sum(0)
            sums[code] = decay * sums[code] + (1 - decay) * total * scale
            if usage[code] > 0:
                codes[code] = sums[code] / usage[code]
    return codes, torch.tensor(usage)


def follow(
    steps: list[Tensor], made: Clusters, *, cut: Callable[[Tensor], list[Tensor]] = lambda z: [z]
) -> Codebook:
    ours = codebook()
    for number, z in enumerate(steps):
        for piece in cut(z):
            found = ours.quantize(piece)
            made.collect(found.inputs, found.ids)
        made.move(ours, np.random.default_rng(number))
    return ours


def test_codes_are_moving_averages_of_their_vectors() -> None:
    steps = [vectors(6, 8, seed=seed) for seed in range(12)]
    made = clusters(revive_below=0.0)
    ours = follow(steps, made)
    codes, usage = slow_ema(steps, decay=0.9)
    torch.testing.assert_close(ours.vectors.double(), codes, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made.usage, usage, rtol=1e-5, atol=1e-6)


def test_the_first_batch_becomes_the_first_codes() -> None:
    z = vectors(4, 8)
    ours = follow([z], clusters())
    rows = {tuple(row) for row in z.flatten(0, 1).tolist()}
    revived = [tuple(row) in rows for row in ours.vectors.tolist()]
    assert sum(revived) >= V // 2
    assert len({tuple(row) for row in ours.vectors.tolist()}) == V


@pytest.mark.parametrize("learned", ["ema", "gradient", "clustering"])
def test_pieces_of_a_batch_are_the_batch(learned: str) -> None:
    steps = [vectors(8, 6, seed=seed) for seed in range(5)]
    whole = follow(steps, clusters(learned))
    cut = follow(steps, clusters(learned), cut=lambda z: [z[0::4], z[1::4], z[2::4], z[3::4]])
    torch.testing.assert_close(cut.vectors, whole.vectors)
    assert not whole.vectors.equal(codebook().vectors)


@pytest.mark.parametrize("learned", ["ema", "gradient", "clustering"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_devices_that_share_a_batch_agree(learned: str, pieces: int) -> None:
    """Two devices in turn: the first says what it would send, then both receive both."""
    steps = [vectors(8, 6, seed=seed) for seed in range(4)]
    whole = follow(steps, clusters(learned))
    ours, made = [codebook(), codebook()], [clusters(learned), clusters(learned)]
    for number, z in enumerate(steps):
        for rank in range(2):
            for piece in range(pieces):
                found = ours[rank].quantize(z[piece * 2 + rank :: 2 * pieces])
                made[rank].collect(found.inputs, found.ids)
        together(
            [
                lambda devices, rank=rank, number=number: made[rank].move(
                    ours[rank], np.random.default_rng(number), devices
                )
                for rank in range(2)
            ]
        )
    torch.testing.assert_close(ours[0].vectors, whole.vectors)
    assert ours[1].vectors.equal(ours[0].vectors)


def together(moves: list[Callable[[Devices], None]]) -> None:
    """Let two devices move at once and exchange what they gather, in threads that meet."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    sent: list[Any] = [None, None]
    barrier = Barrier(2, timeout=20)

    def gather(rank: int, tensor: Tensor) -> Tensor:
        sent[rank] = tensor
        barrier.wait()
        both = torch.stack([sent[0], sent[1]])
        barrier.wait()
        return both

    def move(rank: int) -> None:
        moves[rank](Devices(rank, 2, lambda tensor: gather(rank, tensor)))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(move, range(2)))


def test_a_code_that_is_hardly_used_moves_to_the_nearest_vector() -> None:
    ours, z = codebook(), vectors(4, 8)
    made = clusters("clustering", revive_below=0.0)
    before = ours.vectors.detach().clone()
    found = ours.quantize(z)
    made.collect(found.inputs, found.ids)
    made.move(ours, np.random.default_rng(0))
    counts = torch.bincount(found.ids.flatten(), minlength=V)
    for code in range(V):
        usage = float(counts[code]) / 32 * V * (1 - 0.9)
        pull = math.exp(-usage * 10 / (1 - 0.9) - 1e-3)
        anchor = min(z.flatten(0, 1), key=lambda vector: float((vector - before[code]).norm()))
        expected = (1 - pull) * before[code] + pull * anchor
        torch.testing.assert_close(ours.vectors[code].detach(), expected, rtol=1e-4, atol=1e-5)


def test_fewer_vectors_than_dead_codes_revive_as_many_as_there_are() -> None:
    ours = follow([vectors(2, 3)], clusters("gradient"))
    changed = (ours.vectors != codebook().vectors).any(1)
    assert int(changed.sum()) == 6


def learn(learned: str, *, revive_below: float) -> float:
    """Train a codebook on far apart blobs, of which one code is near; return the ids in use."""
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(V, D, generator=generator)
    ours, made = codebook(), clusters(learned, revive_below=revive_below)
    with torch.no_grad():
        ours.vectors[1:] += 1000
    optimizer = torch.optim.Adam([ours.vectors], lr=0.05)
    used: list[Tensor] = []
    for step in range(120):
        z = centres[torch.randint(V, (16, 4), generator=generator)]
        z = z + 0.1 * torch.randn(z.shape, generator=generator)
        found = ours.quantize(z)
        if learned != "ema":
            optimizer.zero_grad()
            found.attraction().backward()
            optimizer.step()
        made.collect(found.inputs, found.ids)
        made.move(ours, np.random.default_rng(step))
        used.append(found.ids)
    return len(torch.cat(used[-30:]).unique()) / V


@pytest.mark.parametrize("learned", ["ema", "gradient"])
def test_without_revival_codes_collapse_and_with_it_all_are_used(learned: str) -> None:
    assert learn(learned, revive_below=0.0) < 0.5
    assert learn(learned, revive_below=0.2) > 0.9


def test_clusters_travel_in_states_and_not_in_averages() -> None:
    made = clusters()
    follow([vectors(4, 8)], made)
    other = clusters()
    other.load_state_dict(made.state_dict())
    assert other.usage.equal(made.usage)
    assert other.sums.equal(made.sums)
    assert isinstance(made, nn.Module)
    assert not list(made.parameters())


# ----------------------------------------------------------------------- vectors and their places


def standardized(steps: list[Tensor], made: Standardizer, pieces: int = 1) -> Standardizer:
    for z in steps:
        for piece in range(pieces):
            made(z[piece::pieces])
        made.move(0.9, Devices())
    return made


def test_the_moments_of_places_are_moving_averages_of_those_of_batches() -> None:
    steps = [3 * vectors(8, 6, seed=seed) + vectors(6, seed=50) for seed in range(7)]
    made = standardized(steps, Standardizer(num_places=6, dim=D))
    mean, variance = torch.zeros(6, D), torch.ones(6, D)
    for z in steps:
        mean = 0.9 * mean + 0.1 * z.mean(0)
        variance = 0.9 * variance + 0.1 * z.var(0, unbiased=False)
    torch.testing.assert_close(made.means.detach(), mean)
    torch.testing.assert_close(made.variances.detach(), variance)
    expected = (steps[0] - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(made.eval()(steps[0]), expected)


def test_a_vector_is_standardized_by_the_steps_before_alone() -> None:
    made = standardized([vectors(8, 6)], Standardizer(num_places=6, dim=D))
    z = vectors(5, 6, seed=3)
    alone = torch.cat([made(row[None]) for row in z])
    assert made(z).equal(alone)
    assert made.eval()(z).equal(alone)


def test_pieces_and_devices_that_share_a_batch_move_as_one() -> None:
    steps = [vectors(8, 6, seed=seed) for seed in range(4)]
    whole = standardized(steps, Standardizer(num_places=6, dim=D))
    pieces = standardized(steps, Standardizer(num_places=6, dim=D), pieces=4)
    torch.testing.assert_close(pieces.means, whole.means)
    torch.testing.assert_close(pieces.variances, whole.variances)
    shared = [Standardizer(num_places=6, dim=D) for _ in range(2)]
    for z in steps:
        for rank, made in enumerate(shared):
            made(z[rank::2])
        together([lambda devices, made=made: made.move(0.9, devices) for made in shared])
    torch.testing.assert_close(shared[0].means, whole.means)
    assert shared[1].variances.equal(shared[0].variances)


def test_moments_have_no_gradient_and_evaluation_leaves_no_trace() -> None:
    made = Standardizer(num_places=6, dim=D)
    z = vectors(3, 6).requires_grad_()
    made(z).sum().backward()
    assert made.means.grad is None
    made.move(0.5, Devices())
    before = made.means.clone()
    made.eval()(z)
    made(vectors(3, 6))
    assert made.means.equal(before)
    with pytest.raises(RuntimeError, match="non-empty"):
        made.move(0.5, Devices())
