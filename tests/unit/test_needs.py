"""A metric is left out with its reason: no pictures, or a trace array that is not recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hydra.utils import instantiate

from imagegram.errors import ConfigError
from imagegram.metrics.copying import CopyingMetric
from imagegram.metrics.order import OrderMetric
from imagegram.stages.needs import lacking, reads_trace
from tests.conftest import compose
from tests.image_sets import MemoryImages, random_tokens

GROUPS = ("generator", "sampler")
TOKENS = random_tokens(3, seed=0)
PICTURES: Any = MemoryImages.of(TOKENS)
TEXTS: Any = SimpleNamespace(tokens=TOKENS, texts=["a", "b", "c"], trace={})


@dataclass(frozen=True, kw_only=True)
class Asking:
    """A metric of which only the needs matter."""

    SCORES: ClassVar[tuple[()]] = ()
    name: str = "asking"
    NEEDS: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, *needs: str) -> Any:
        return cls(NEEDS=frozenset(needs))


def test_pictures_of_an_ngram_have_all_but_text() -> None:
    needs = ("ids", "images", "matches", "training_features", "trace.suffix_len")
    assert lacking(Asking.of(*needs), PICTURES) == ""
    assert "needs text, but these items are not texts" in lacking(Asking.of("text"), PICTURES)


def test_texts_have_ids_and_no_pictures() -> None:
    assert lacking(CopyingMetric(), TEXTS) == ""
    assert lacking(Asking.of("text", "ids"), TEXTS) == ""
    reason = lacking(Asking.of("images", "ids"), TEXTS)
    assert reason == "metric asking needs images, but these items are not pictures"


def test_a_trace_is_asked_for_its_arrays() -> None:
    neural: Any = SimpleNamespace(tokens=TOKENS, trace={"log_prob": np.zeros((3, 15))})
    assert lacking(Asking.of("trace.log_prob"), neural) == ""
    reason = lacking(Asking.of("trace.entropy", "trace.step"), neural)
    assert reason.startswith("metric asking needs the trace arrays entropy, step, which this gene")
    assert reason.endswith("does not record with this sampler")
    untraced: Any = SimpleNamespace(tokens=TOKENS, trace={})
    assert lacking(OrderMetric(), untraced) == lacking(OrderMetric(), neural)
    assert lacking(OrderMetric(), untraced) == (
        "metric order needs the contexts that an n-gram chose its tokens by, and there are none "
        "here"
    )
    both = lacking(Asking.of("images", "trace.log_prob"), TEXTS)
    assert both == (
        "metric asking needs images, but these items are not pictures; "
        "and the trace array log_prob, which this generator does not record with this sampler"
    )


def test_a_need_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'images'"):
        lacking(Asking.of("image"), PICTURES)


def test_only_needs_of_a_trace_read_one() -> None:
    assert reads_trace(OrderMetric())
    assert not reads_trace(CopyingMetric())
    assert not reads_trace(Asking.of("ids", "images"))


@pytest.mark.parametrize(
    ("words", "is_measured"),
    [
        ("generator=ar", True),
        ("generator=maskgit", False),
        ("generator=maskgit_bert", False),
        ("generator=maskgit sampler=any_order", True),
    ],
)
def test_nll_is_asked_for_where_a_generator_has_it(words: str, is_measured: bool) -> None:
    cfg = compose(*words.split())
    generator, sampler = (instantiate(cfg[name], _convert_="all") for name in GROUPS)
    assert generator.scores(sampler) is ("nll" in cfg.metric) is is_measured
