"""RAR's own network beside recorded outputs of its authors' code, its sizes, its cache, its fields.

The records are of upstream's classes at commit 942a96f: ``rar_names.json`` of the published sizes,
``rar.npz`` of a small network whose weights are a function of their names. They are written by
``tests/recorded/record_rar.py``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from imagegram.errors import ConfigError
from imagegram.generators.autoregressive import rar
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.generators.autoregressive.rar import Rar
from imagegram.generators.autoregressive.sampling import NextLogits, draw_rows, score_rows
from imagegram.generators.autoregressive.sizes import RarSizes, make_fresh
from imagegram.models.cores import one_core
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.sequential import SequentialSampler
from imagegram.training.optimization import Optimization
from tests.conftest import compose

RECORDED = Path(__file__).parents[1] / "recorded"
NAMES: dict[str, Any] = json.loads((RECORDED / "rar_names.json").read_text())
SIZES = RarSizes(
    vocab_size=10,
    num_tokens=6,
    width=8,
    depth=2,
    num_heads=2,
    hidden=24,
    dropout=0.1,
    num_classes=3,
)


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core(), torch.no_grad():
        yield


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    with np.load(RECORDED / "rar.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def small() -> Rar:
    """The network of the records."""
    network = Rar(**SIZES.arguments()).eval()
    rng = np.random.Generator(np.random.Philox(key=7))
    with torch.no_grad():
        for _, tensor in sorted(network.state_dict().items()):
            tensor.copy_(torch.from_numpy((rng.random(tensor.shape) - 0.5).astype(np.float32)))
    return network


def logits(network: Rar, *given: Any) -> torch.Tensor:
    return network.to_logits(network(*given))


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes_have_their_names_and_numbers(name: str) -> None:
    generator = instantiate(compose(f"generator={name}").generator, _convert_="all")
    sizes = generator.sizes(vocab_size=1024, num_tokens=256)
    with torch.device("meta"):
        network = Rar(**dataclasses.replace(sizes, num_classes=1000).arguments())
    known = NAMES[name]
    found = {}
    for key, tensor in network.state_dict().items():
        parts = key.split(".")
        if parts[0] == "blocks":
            parts[1] = "*"
        found[".".join(parts)] = list(tensor.shape)
    assert found == known["shapes"]
    assert len(network.blocks) == known["depth"]
    assert sum(p.numel() for p in network.parameters()) == known["num_parameters"]


def test_outputs_are_those_of_its_authors(recorded: dict[str, torch.Tensor]) -> None:
    network, ids, classes = small(), recorded["ids"], recorded["classes"]
    for found, name in (
        (logits(network, ids, None, classes), "raster"),
        (logits(network, ids, recorded["orders"], classes), "permuted"),
        (logits(network, ids), "null"),
    ):
        torch.testing.assert_close(found, recorded[name], atol=1e-5, rtol=1e-5)


def test_guided_steps_are_those_of_its_authors(recorded: dict[str, torch.Tensor]) -> None:
    how = Guidance(scale=4.0, schedule="power_cosine", power=2.5)
    steps = NextLogits(small(), recorded["classes"], how)
    for step in range(SIZES.num_tokens):
        last = recorded["ids"][:, step - 1] if step else None
        p = (steps(last, step) / 1.02).softmax(dim=-1)
        torch.testing.assert_close(p, recorded["guided"][:, step], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("most", [1, 1200, 1 << 24])
def test_cached_logits_are_those_of_the_whole_row(
    recorded: dict[str, torch.Tensor], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many places are modulated at a time."""
    monkeypatch.setattr(rar, "_MAX_MODULATIONS", most)
    network, ids, classes = small(), recorded["ids"], recorded["classes"]
    whole, steps = logits(network, ids, None, classes), network.begin(classes)
    for step in range(SIZES.num_tokens):
        last = None if step == 0 else ids[:, step - 1]
        found = network.step(last, step, steps)
        torch.testing.assert_close(found, whole[:, step], atol=1e-5, rtol=1e-5)


def test_a_step_sees_the_tokens_before_it_and_no_others(recorded: dict[str, torch.Tensor]) -> None:
    network, ids = small(), recorded["ids"][:1]
    for place in range(SIZES.num_tokens):
        other = ids.clone()
        other[0, place] = (ids[0, place] + 1) % SIZES.vocab_size
        equal = (logits(network, ids) == logits(network, other)).all(dim=-1)[0].tolist()
        assert equal == [step <= place for step in range(SIZES.num_tokens)]


def test_orders_with_one_beginning_differ_by_their_target_alone() -> None:
    network, ids = small(), torch.tensor([[0, 1, 2, 3, 4, 5]])
    left, right = torch.tensor([[2, 0, 1, 3, 4, 5]]), torch.tensor([[2, 0, 4, 1, 3, 5]])
    one, two = logits(network, ids, left), logits(network, ids, right)
    torch.testing.assert_close(one[:, :2], two[:, :2])
    assert not torch.allclose(one[:, 2], two[:, 2])
    network.target_aware_pos_embed.zero_()
    one, two = logits(network, ids, left), logits(network, ids, right)
    torch.testing.assert_close(one[:, :3], two[:, :3])


def test_samples_are_drawn_and_scored() -> None:
    network, samples = small(), np.arange(6, dtype=np.uint64)
    sampler = SequentialSampler(name="raster", temperature=1.0)
    classes = np.array([0, 1, 2, 3, 0, 1])
    drawn = draw_rows(network, samples, classes, sampler=sampler, seed=1, end=None)
    assert tuple(drawn.shape) == (6, SIZES.num_tokens)
    scored = score_rows(network, drawn, torch.from_numpy(classes))
    log_p = logits(network, drawn, None, torch.from_numpy(classes)).double().log_softmax(dim=-1)
    expected = log_p.gather(-1, drawn[..., None])[..., 0]
    np.testing.assert_allclose(scored["log_prob"], expected, rtol=1e-5)


def test_fresh_weights_are_a_function_of_the_seed() -> None:
    one, same, other = (make_fresh(SIZES, seed=seed) for seed in (3, 3, 4))
    assert isinstance(one, Rar)
    for (name, left), right in zip(one.named_parameters(), same.parameters(), strict=True):
        assert torch.equal(left, right), name
    assert not torch.equal(one.lm_head.weight, other.state_dict()["lm_head.weight"])
    assert one.blocks[0].norm1.weight.eq(1).all()  # type: ignore[union-attr]
    ids = torch.zeros(2, SIZES.num_tokens, dtype=torch.int64)
    assert torch.equal(one.eval()(ids)[0], one(ids)[1])


def test_dropout_is_for_training_alone() -> None:
    network, ids = small(), torch.zeros(1, SIZES.num_tokens, dtype=torch.int64)
    torch.testing.assert_close(network(ids), network(ids))
    network.train()
    assert not torch.equal(network(ids), network(ids))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backbone": "llama"}, r"generator\.backbone='llama'"),
        ({"hidden": 4}, r"type generator\.backbone=rar"),
        ({"dropout": 0.1}, r"type generator\.backbone=rar"),
        ({"backbone": "rar", "dropout": 1.0}, r"generator\.dropout=1\.0"),
        ({"backbone": "rar", "hidden": 0}, r"generator\.hidden=0"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, Any], words: str) -> None:
    how = Optimization(steps=1, batch_size=1, learning_rate=1.0)
    with pytest.raises(ConfigError, match=words):
        AutoregressiveGenerator(optimization=how, **fields)
