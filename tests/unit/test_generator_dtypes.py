"""Networks that compute with bfloat16: faster, nearly the same probabilities, another identity."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram.errors import ConfigError
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.generators.maskgit.generator import MaskGitGenerator
from imagegram.layout import TokenLayout
from imagegram.samplers.masked import MaskedSampler
from imagegram.samplers.sequential import SequentialSampler
from imagegram.training.optimization import Optimization
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

LAYOUT = TokenLayout.sequence(4, order="none")
SAMPLERS = {
    AutoregressiveGenerator: SequentialSampler(name="raster", temperature=1.0),
    MaskGitGenerator: MaskedSampler(name="masked", steps=3, confidence="random", temperature=1.0),
}
FAMILIES = pytest.mark.parametrize("family", SAMPLERS)


def trained(family: Any, tmp_path: Path) -> Any:
    """Return a model of digits that count upwards."""
    rows = tuple(tuple((first + step) % 8 for step in range(4)) for first in range(8)) * 4
    tokens = context(tmp_path).make(FakeTokens(parts=(FakeTokenShard(rows=rows, length=4),)))
    optimization = Optimization(
        steps=40, batch_size=16, learning_rate=1e-2, final_learning_rate=1e-4, warmup_steps=10
    )
    generator = family(width=16, depth=1, num_heads=2, optimization=optimization)
    return context(tmp_path).make(generator.fit(tokens, index=None))


@FAMILIES
def test_samples_and_scores_are_nearly_those_of_float32(family: Any, tmp_path: Path) -> None:
    exact = trained(family, tmp_path)
    rough, options = dataclasses.replace(exact, dtype="bfloat16"), {"seed": 3, "layout": LAYOUT}
    options["sampler"] = SAMPLERS[family]
    samples = np.arange(40, dtype=np.uint64)
    tokens_BT, trace = rough.generate(samples, **options)
    again_BT, again = rough.generate(samples[[33, 5]], **options)
    np.testing.assert_array_equal(again_BT, tokens_BT[[33, 5]])
    scored = rough.score(tokens_BT, samples=samples, **options)
    for name, array_BT in trace.items():
        np.testing.assert_array_equal(again[name], array_BT[[33, 5]])
        np.testing.assert_array_equal(scored[name], array_BT)
    difference = scored["log_prob"] - exact.score(tokens_BT, samples=samples, **options)["log_prob"]
    assert 0 < np.abs(difference).max() < 0.1


@FAMILIES
def test_other_numbers_are_another_model_of_the_same_training(family: Any, tmp_path: Path) -> None:
    exact = trained(family, tmp_path)
    assert exact.identity() == exact.artifact.identity()
    rough = dataclasses.replace(exact, dtype="bfloat16")
    assert rough.identity() == [exact.identity(), "bfloat16"]


@FAMILIES
def test_unknown_numbers_are_refused(family: Any) -> None:
    with pytest.raises(ConfigError, match=r"generator\.dtype=float16 .*allowed"):
        family(optimization=Optimization(steps=1, batch_size=1, learning_rate=1.0), dtype="float16")
