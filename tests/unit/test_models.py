"""Networks: who sees whom, what the quantizer does, and fresh weights."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from imagegram.models.cores import map_on_cores, one_core
from imagegram.models.quantizers import FiniteScalarQuantizer
from imagegram.models.transformer import Attention, Transformer, build
from imagegram.tokenizers.ordered_fsq.model import OrderedFsq, encoder_mask

SIZES = {
    "image_size": 16,
    "patch_size": 4,
    "num_registers": 6,
    "levels": (5, 4, 3),
    "width": 32,
    "encoder_depth": 2,
    "decoder_depth": 2,
    "num_heads": 2,
}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@pytest.fixture(scope="module")
def network() -> OrderedFsq:
    made = build(OrderedFsq, seed=3, **SIZES)
    assert isinstance(made, OrderedFsq)
    return made


def images(count: int = 3, *, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 16, 16, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_attention_is_what_its_equation_says() -> None:
    layer = Attention(width=8, num_heads=2)
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    qkv = layer.qkv(x)[0].view(5, 3, 2, 4)
    heads = []
    for head in range(2):
        q, k, v = qkv[:, 0, head], qkv[:, 1, head], qkv[:, 2, head]
        q, k = layer.query_norm(q), layer.key_norm(k)
        scores = (q @ k.T / math.sqrt(4)).masked_fill(~mask, -math.inf)
        heads.append(scores.softmax(dim=-1) @ v)
    expected = layer.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(layer(x, mask)[0], expected)


def test_a_register_sees_all_patches_and_no_later_register(network: OrderedFsq) -> None:
    patches, registers = network.num_patches, network.num_registers
    mask = encoder_mask(patches, registers)
    for row in range(patches + registers):
        for column in range(patches + registers):
            is_patch = column < patches
            assert mask[row, column] == (is_patch if row < patches else column <= row or is_patch)


def test_a_code_has_no_gradient_from_later_registers(network: OrderedFsq) -> None:
    for rank in range(network.num_registers):
        network.zero_grad()
        network.encode(images())[:, rank].sum().backward()
        gradient = network.registers.grad
        assert gradient is not None
        reached = gradient.abs().sum(dim=1) > 0
        assert reached.tolist() == [other <= rank for other in range(network.num_registers)]


def test_patches_do_not_see_registers(network: OrderedFsq) -> None:
    patches = network.num_patches
    x = torch.randn(1, patches + 6, 32, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, patches:] += 1
    with torch.inference_mode():
        seen = [network.encoder(some, network.mask)[:, :patches] for some in (x, other)]
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)


def test_the_first_ids_do_not_know_how_many_follow(network: OrderedFsq) -> None:
    whole = network.ids(images())
    for length in range(1, 7):
        short = build(OrderedFsq, seed=3, **{**SIZES, "num_registers": length})
        weights = network.state_dict()
        for name in ("registers", "register_positions"):
            weights[name] = weights[name][:length]
        short.load_state_dict(weights)
        assert isinstance(short, OrderedFsq)
        assert short.ids(images()).equal(whole[:, :length])


def test_dropped_codes_are_not_read(network: OrderedFsq) -> None:
    codes = network.encode(images())
    keep = torch.tensor([1, 3, 6])
    noise = torch.rand(codes.shape, generator=torch.Generator().manual_seed(1))
    kept = torch.arange(6) < keep[:, None]
    changed = torch.where(kept[..., None], codes, noise)
    with torch.inference_mode():
        assert network.decode(codes, keep).equal(network.decode(changed, keep))
        last = torch.tensor([6, 6, 6])
        assert not network.decode(codes, last).equal(network.decode(changed, last))


def test_painting_a_prefix_is_decoding_with_the_rest_dropped(network: OrderedFsq) -> None:
    ids = network.ids(images())
    for length in range(1, 7):
        keep = torch.full((3,), length)
        expected = network.decode(network.quantizer.codes(ids), keep)
        assert network.paint(ids[:, :length]).equal(expected)


def test_patches_are_cut_and_put_back(network: OrderedFsq) -> None:
    x = images()
    assert network._image(network._patches(x)).equal(x)
    assert network._patches(x)[0, 5].reshape(4, 4, 3).equal(x[0, 4:8, 4:8])


def test_gradients_pass_the_rounding() -> None:
    quantizer = FiniteScalarQuantizer((5, 5))
    z = torch.tensor([[0.3, -0.2]], requires_grad=True)
    quantizer(z).sum().backward()
    slope = (1 - torch.tanh(z.detach()) ** 2) * quantizer.reach / 2
    assert z.grad is not None
    torch.testing.assert_close(z.grad, slope)


def test_codes_are_exact_whatever_the_precision_around_them() -> None:
    quantizer = FiniteScalarQuantizer((8, 5, 5, 5))
    z = torch.linspace(-3, 3, 400).reshape(100, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert quantizer(z).equal(quantizer(z).float())
        assert quantizer.codes(quantizer.ids(quantizer(z))).equal(quantizer(z).detach())


def test_fresh_weights_are_decided_by_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, two, other = (build(OrderedFsq, seed=seed, **SIZES) for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(state)
    pairs = zip(one.parameters(), two.parameters(), other.parameters(), strict=True)
    differ = 0
    for a, b, c in pairs:
        assert a.equal(b)
        differ += not a.equal(c)
    assert differ > 20


def test_fresh_features_neither_vanish_nor_explode() -> None:
    network = build(Transformer, seed=0, width=64, depth=6, num_heads=4)
    x = torch.randn(4, 10, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for block in network.blocks:  # type: ignore[union-attr]
            x = block(x)
    assert 1 < float(x.std()) < 2


def test_work_on_cores_leaves_the_number_of_threads_alone() -> None:
    threads = torch.get_num_threads()
    cpu = torch.device("cpu")
    try:
        for cores in (1, 2):
            torch.set_num_threads(cores)
            inside = list(map_on_cores(lambda _: torch.get_num_threads(), range(4), device=cpu))
            assert inside == [1, 1, 1, 1]
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(threads)
