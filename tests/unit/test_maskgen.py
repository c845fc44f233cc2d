"""MaskGen: captions are learned, heard, guided by and scored; what is refused; undisturbed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagegram.conditions.captions import (
    CaptionCondition,
    DrawnCaptions,
    GivenCaptions,
    OwnCaptions,
)
from imagegram.conditions.label import LabelCondition
from imagegram.conditions.prompt import PromptCondition
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.generators.maskgen.generator import MaskGenGenerator, MaskGenRecipe
from imagegram.generators.maskgen.network import Asked, MaskGen
from imagegram.generators.maskgit.sampling import sample_chunks
from imagegram.metrics.captions import CaptionsMetric
from imagegram.models.checkpoints import read_tensors, shapes_of
from imagegram.models.cores import one_core
from imagegram.models.transformer import build
from imagegram.protocols import ReadsCaptions
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.masked import MaskedSampler
from imagegram.stages.captions import embed_asked
from imagegram.training.options import TrainerOptions
from tests.captioned import NAMES, text_encoder
from tests.image_sets import MemoryImages, MemoryReference
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard
from tests.toy_training import optimization

LAYOUT: Any = dataclasses.make_dataclass("Layout", ["num_tokens"])(3)
CAPTION = CaptionCondition(name="caption", key="label")
#: Documents count from the place of their caption.
ROWS = {name: (place, place + 1, place + 2) for place, name in enumerate(NAMES)}
ANY_ORDER = MaskedSampler(
    name="any", steps=3, confidence="random", temperature=1.0, annealing="constant"
)
ASK: dict[str, Any] = {"sampler": ANY_ORDER, "layout": LAYOUT, "seed": 1}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEmbedder:
    return text_encoder(tmp_path_factory.mktemp("encoder"), max_tokens=5)


def generator(embedder: SentenceEmbedder, **fields: Any) -> MaskGenGenerator:
    sizes = {"width": 16, "depth": 1, "num_heads": 2, "label_smoothing": 0.0, "captions": "label"}
    how = optimization(steps=250, learning_rate=1e-2, gradient_clip_val=1.0)
    return MaskGenGenerator(**{"optimization": how, "embedder": embedder, **sizes, **fields})


def tokens_of(root: Path, names: tuple[str | None, ...]) -> Any:
    rows = tuple(ROWS[name or NAMES[0]] for name in names)
    shard = FakeTokenShard(rows=rows, labels=names, length=3)
    return context(root).make(FakeTokens(parts=(shard,)))


@pytest.fixture(scope="module")
def made(embedder: SentenceEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained model, and the documents that it learned from."""
    root = tmp_path_factory.mktemp("maskgen")
    with one_core():
        tokens = tokens_of(root, NAMES * 4)
        return context(root).make(generator(embedder).fit(tokens, index=None)), tokens  # type: ignore[arg-type]


def drawn(tokens: Any) -> DrawnCaptions:
    return CAPTION.drawn(tokens=tokens, holdout=tokens, seed=1)


def test_samples_are_of_the_caption_that_is_asked_for(made: Any) -> None:
    model, tokens = made
    samples, condition = np.arange(30, dtype=np.uint64), drawn(tokens)
    every, trace = model.generate(samples, condition=condition, **ASK)
    expected = np.array([ROWS[str(text)] for text in condition.texts_of(samples)])
    assert (every == expected).mean() > 0.5
    assert trace["log_prob"].shape == every.shape
    some, _ = model.generate(samples[[29, 4]], condition=condition, **ASK)
    np.testing.assert_array_equal(some, every[[29, 4]])
    given = GivenCaptions(texts=("blue", "black"), key="label")
    typed, _ = model.generate(samples, condition=given, **ASK)
    assert (typed == np.array([ROWS["blue"], ROWS["black"]] * 15)).mean() > 0.5
    plain, _ = model.generate(samples, **ASK)
    assert len(np.unique(plain[:, 1])) > 2


def test_validation_compares_captions(made: Any) -> None:
    facts = made[0].artifact.facts
    assert facts["val/bits_per_token"] < facts["val/bits_other_caption"] - 1
    assert facts["val/bits_per_token"] < facts["val/bits_no_caption"] - 0.1
    assert facts["num_items"] == 24


def test_documents_are_scored_under_their_own_caption_another_and_none(made: Any) -> None:
    model, tokens = made
    metadata = list(tokens.metadata_of(np.arange(6)))
    own = model.condition_of(metadata, drawn(tokens))
    assert isinstance(own, OwnCaptions)
    assert own.texts == NAMES
    rows = tokens.gather(np.arange(6))
    trace = model.score(rows, condition=own, **ASK)
    names = ("log_prob", "log_prob_other", "log_prob_none")
    bits = {name: -trace[name].mean() / np.log(2) for name in names}
    assert bits["log_prob"] < bits["log_prob_other"] - 1
    assert bits["log_prob"] < bits["log_prob_none"]
    none = model.score(rows, **ASK)
    np.testing.assert_array_equal(none["log_prob"], trace["log_prob_none"])
    assert model.condition_of(metadata, None) is None
    images = MemoryImages(rows, trace, None)  # type: ignore[arg-type]
    found = CaptionsMetric().measure(generated=images, reference=MemoryReference(None)).scalars  # type: ignore[arg-type]
    gain = found["caption_gain_bits"].value
    assert gain == pytest.approx(bits["log_prob_other"] - bits["log_prob"], rel=1e-5)
    assert found["caption_bits_per_token"].value == pytest.approx(bits["log_prob"], rel=1e-5)
    alone = MemoryImages(rows, {"log_prob": trace["log_prob"]}, None)  # type: ignore[arg-type]
    found = CaptionsMetric().measure(generated=alone, reference=MemoryReference(None)).scalars  # type: ignore[arg-type]
    assert found["caption_gain_bits"].value is None
    assert "condition=caption" in found["caption_gain_bits"].note


def test_a_guided_step_is_two_passes_and_one_without(embedder: SentenceEmbedder) -> None:
    sizes = {"vocab_size": 9, "num_tokens": 3, "width": 16, "depth": 1, "num_heads": 2}
    network: Any = build(MaskGen, seed=0, text_dim=16, text_length=5, **sizes).eval()
    with torch.no_grad():
        network.to_logits.weight.mul_(20)
    found = embed_asked(["red", None], embedder)
    asked = Asked(network, torch.from_numpy(found.states), torch.from_numpy(found.there))
    rows: list[int] = []
    hook = network.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    given = ([np.arange(4, dtype=np.uint64)], [np.zeros(4, np.int64)])
    scaled = dataclasses.replace(ANY_ORDER, guidance=Guidance(scale=3.0))
    try:
        plain, guided = (
            next(iter(sample_chunks(asked, *given, sampler=how, seed=2)))
            for how in (ANY_ORDER, scaled)
        )
    finally:
        hook.remove()
    assert rows == [4] * 3 + [8] * 3
    assert (plain["probability"] != guided["probability"]).any()
    ids = torch.full((1, 3), 9)
    with torch.no_grad():
        own, none = (asked(ids, torch.tensor([number])).double() for number in (0, 1))
        unread = network(ids)
    torch.testing.assert_close(none.float(), unread)
    first = guided["step"][0].argmin()
    p_V = (none + 3 * (own - none))[0, first].softmax(dim=-1)
    token = int(guided["tokens"][0, first])
    assert guided["probability"][0, first] == pytest.approx(float(p_V[token]), abs=1e-5)


def test_a_killed_training_goes_on_as_if_undisturbed(
    embedder: SentenceEmbedder, tmp_path: Path
) -> None:
    written = []
    for name, options in (("whole", {}), ("parts", {"segment_steps": 2})):
        how = TrainerOptions(**{"accelerator": "cpu", "segment_steps": 6, **options})
        made_in, recipe = (
            context(tmp_path / name),
            generator(embedder, trainer=how, optimization=optimization(steps=6)),
        )
        tokens = tokens_of(tmp_path / name, (*NAMES, None))
        model: Any = made_in.make(recipe.fit(tokens, index=None))  # type: ignore[arg-type]
        written.append((model.artifact.path / "model.safetensors").read_bytes())
    assert written[0] == written[1]


def test_sizes_are_read_from_weights(made: Any, embedder: SentenceEmbedder) -> None:
    path = made[0].artifact.path / "model.safetensors"
    shapes = shapes_of(read_tensors(path, setting="x"))
    own = generator(embedder)
    assert own.sizes_in(shapes, setting="x") == own.sizes(vocab_size=256, num_tokens=3)
    recipe = MaskGenRecipe(generator=own, architecture=own.sizes_in(shapes, setting="x"))
    assert recipe.shapes() == shapes


def test_what_is_no_caption_is_refused_when_composed(embedder: SentenceEmbedder) -> None:
    own, bound = generator(embedder), generator(embedder, caption_dropout=0.0)
    guided = dataclasses.replace(ANY_ORDER, guidance=Guidance(scale=2.0))
    assert isinstance(own, ReadsCaptions)
    for condition in (None, CAPTION, PromptCondition(name="prompt", texts=("a red bus",))):
        own.check(ANY_ORDER, LAYOUT, condition)
    own.check(guided, LAYOUT, CAPTION)
    bound.check(ANY_ORDER, LAYOUT, CAPTION)
    for given, how, asked, words in (
        (own, ANY_ORDER, LabelCondition(name="label"), "condition=label: it reads captions"),
        (own, ANY_ORDER, PromptCondition(name="p", tokens=((1,),)), "continues no prompts"),
        (own, ANY_ORDER, CaptionCondition(name="c"), r"type condition\.key=label"),
        (own, guided, None, "guides towards a caption, but none is asked"),
        (bound, guided, CAPTION, r"caption_dropout=0\.1, or sampler\.guidance\.scale=1"),
        (bound, ANY_ORDER, None, r"or condition=caption"),
    ):
        with pytest.raises(ConfigError, match=words):
            given.check(how, LAYOUT, asked)
    for wrong, words in (
        ({"labels": "label"}, "generator.labels=null"),
        ({"captions": ""}, "generator.captions=caption"),
        ({"caption_dropout": 1.0}, "caption_dropout=0.1"),
    ):
        with pytest.raises(ConfigError, match=words):
            generator(embedder, **wrong)


def test_documents_without_captions_and_long_texts_are_refused(
    embedder: SentenceEmbedder, tmp_path: Path
) -> None:
    own, tokens = generator(embedder, captions="name"), tokens_of(tmp_path, NAMES)
    with pytest.raises(ConfigError, match=r"no captions are in the corpus: .*keys there: label"):
        context(tmp_path).make(own.fit(tokens, index=None))  # type: ignore[arg-type]
    long = GivenCaptions(texts=("red", "a very long caption of many words"), key="label")
    with pytest.raises(ConfigError, match=r"a very long caption .*embedder\.max_tokens=10"):
        own.check_documents(tokens, long)
    own.check_documents(tokens, None)
    assert json.dumps(own.fit(tokens, index=None).identity())  # type: ignore[arg-type]


def test_samples_are_compared_with_the_image_whose_caption_they_were_given(made: Any) -> None:
    """The first two samples are that image, the third is that of another caption."""
    tokens = made[1]
    asked = np.array([0, 1, 2])
    rows = tokens.gather([0, 1, 1])
    images: Any = MemoryImages(rows, {"probability": np.ones(rows.shape)}, None)  # type: ignore[arg-type]
    object.__setattr__(images, "caption_documents", asked)
    object.__setattr__(images, "captions", list(NAMES[:3]))
    reference: Any = dataclasses.make_dataclass("Reference", ["documents", "seed"])(tokens, 0)
    found = CaptionsMetric().measure(generated=images, reference=reference).scalars
    assert found["caption_own_copies"].value == pytest.approx(2 / 3)
    own = np.mean([1, 1, (rows[2] == tokens.gather([2])[0]).mean()])
    assert found["caption_own_tokens"].value == pytest.approx(own)
    other = np.mean([(rows[0] == rows[1]).mean(), (rows[1] == tokens.gather([2])[0]).mean(), 0])
    assert found["caption_other_tokens"].value == pytest.approx(other)
    assert found["caption_gain_bits"].value is None
