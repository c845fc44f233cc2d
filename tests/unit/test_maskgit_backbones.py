"""Backbones: published sizes, published weights give published outputs, masked tokens are not seen.

``recorded/maskgit.json`` holds names and shapes of small ``ImageBert`` and ``UViT`` networks of
bytedance/1d-tokenizer (942a96f), and what they return and draw when :func:`filled` has filled them;
``recorded/record_maskgit.py`` wrote it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imagegram.errors import ConfigError
from imagegram.generators.maskgit.backbones import make, make_fresh
from imagegram.generators.maskgit.generator import MaskGitGenerator
from imagegram.generators.maskgit.sampling import sample_chunks
from imagegram.models.cores import one_core
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.masked import MaskedSampler
from imagegram.training.optimization import Optimization
from tests.conftest import compose

RECORDED = json.loads((Path(__file__).parents[1] / "recorded/maskgit.json").read_text())
SIZES = {"vocab_size": 7, "num_tokens": 6, "width": 16, "depth": 3, "num_heads": 2}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def filled(name: str, shape: list[int]) -> Tensor:
    """Numbers that follow from a name: gains near 1, others near 0."""
    size = int(np.prod(shape))
    values = 0.3 * np.sin(0.7 * np.arange(size) + zlib.crc32(name.encode()) % 1000)
    is_gain = name.lower().endswith(("norm.weight", "norm1.weight", "norm2.weight"))
    return torch.from_numpy((values + is_gain).reshape(shape).astype(np.float32))


def published(backbone: str) -> dict[str, Tensor]:
    return {name: filled(name, shape) for name, shape in RECORDED[backbone]["shapes"].items()}


def small(backbone: str, **sizes: Any) -> nn.Module:
    return make_fresh(backbone, seed=0, **SIZES, **sizes).eval()


@pytest.mark.parametrize(
    ("preset", "num_tokens", "weights"),
    [("maskgit_bert", 64, 177_227_008), ("maskgit_uvit", 128, 294_990_848)],
)
def test_presets_have_the_published_number_of_weights(
    preset: str, num_tokens: int, weights: int
) -> None:
    generator = compose(f"generator={preset}").generator
    sizes = {name: generator[name] for name in ("width", "depth", "num_heads")}
    with torch.device("meta"):
        network = make(
            generator.backbone, vocab_size=4096, num_tokens=num_tokens, num_classes=1000, **sizes
        )
    assert sum(p.numel() for p in network.parameters()) == weights
    tables = [p for p in network.parameters() if p.shape == (4096 + 1002, generator.width)]
    assert len(tables) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"backbone": "uvit", "depth": 4}, "type generator.depth=5"),
        ({"backbone": "brt"}, "did you mean 'bert'"),
    ],
)
def test_a_backbone_that_cannot_be_is_refused(words: dict[str, Any], message: str) -> None:
    optimization = Optimization(steps=1, batch_size=1, learning_rate=1e-3)
    with pytest.raises(ConfigError, match=message):
        MaskGitGenerator(optimization=optimization, **words)


@pytest.mark.parametrize("backbone", ["bert", "uvit"])
def test_published_weights_give_the_published_logits(backbone: str) -> None:
    recorded = RECORDED[backbone]
    network = make(backbone, **RECORDED["sizes"], depth=RECORDED["depth"][backbone]).eval()
    network.load_state_dict(published(backbone), strict=True)
    ids, classes = (torch.tensor(recorded[name]) for name in ("ids", "classes"))
    no_class = torch.full_like(classes, RECORDED["sizes"]["num_classes"])
    with torch.no_grad():
        for given, name in ((classes, "logits"), (no_class, "logits_of_no_class")):
            expected = torch.tensor(recorded[name])
            torch.testing.assert_close(network(ids, given), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(network(ids), network(ids, no_class), rtol=0, atol=0)


#: Their ``guidance_scale`` is 4.5, 1.5 (both added to the conditional logits) and 6.9.
GREEDY = {
    "linear": {"guidance": Guidance(scale=5.5, schedule="linear")},
    "constant": {"guidance": Guidance(scale=2.5), "softmax_temperature": (1.3, 0.5)},
    "power_cosine": {"guidance": Guidance(scale=6.9, schedule="power_cosine", power=3.0)},
}


@pytest.mark.parametrize("schedule", GREEDY)
@pytest.mark.parametrize("backbone", ["bert", "uvit"])
def test_without_noise_samples_are_the_published_ones(backbone: str, schedule: str) -> None:
    """The authors' ``generate``, at temperature 0 and four steps, for the classes 0, 1 and 2."""
    network = make(backbone, **RECORDED["sizes"], depth=RECORDED["depth"][backbone]).eval()
    network.load_state_dict(published(backbone))
    how = MaskedSampler(name="greedy", steps=4, temperature=0.0, **GREEDY[schedule])
    samples, classes = np.arange(3, dtype=np.uint64), np.arange(3)
    (made,) = sample_chunks(network, [samples], [classes], sampler=how, seed=0)
    assert made["tokens"].tolist() == RECORDED[backbone]["greedy"][schedule]


@pytest.mark.parametrize("backbone", ["bert", "uvit"])
def test_a_row_depends_on_itself_and_a_masked_token_is_not_seen(backbone: str) -> None:
    network = small(backbone)
    ids = torch.randint(0, 7, (4, 6), generator=torch.Generator().manual_seed(0))
    ids[0, 2] = 7
    others = ids.clone()
    others[1:] = (others[1:] + 1) % 7
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 1) % 7
    with torch.inference_mode():
        assert torch.equal(network(ids)[0], network(others)[0])
        assert not torch.equal(network(ids)[0, 2], network(changed)[0, 2])


@pytest.mark.parametrize("backbone", ["bert", "uvit"])
def test_classes_change_the_logits_and_no_class_is_one_of_them(backbone: str) -> None:
    network = small(backbone, num_classes=2)
    ids = torch.full((3, 6), 7)
    with torch.inference_mode():
        logits = network(ids, torch.tensor([0, 1, 2]))
        assert torch.equal(network(ids)[2], logits[2])
    assert not torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[1], logits[2])


@pytest.mark.parametrize("backbone", ["bert", "uvit"])
def test_fresh_weights_follow_from_the_seed(backbone: str) -> None:
    """Matrices and embeddings have the published deviation, gains are one, biases zero."""
    torch.manual_seed(0)
    network, again = small(backbone), small(backbone)
    for (name, one), other in zip(network.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name
        if name.endswith("bias"):
            assert not one.any(), name
        elif "norm" in name.lower():
            assert (one == 1).all(), name
        else:
            assert 0.01 < float(one.detach().std()) < 0.03, name
