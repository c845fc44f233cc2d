"""TA-TiTok: ids of the image alone, pictures of ids and caption, what is learned and refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError, CorpusError, TokenError
from imagegram.models.cores import one_core
from imagegram.models.transformer import build
from imagegram.protocols import CaptionedTokenizer
from imagegram.records import Locator, Record
from imagegram.stages.decoding import decoded
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Ready
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.ta_titok.model import TaTiTok
from imagegram.tokenizers.ta_titok.tokenizer import TaTiTokTokenizer
from imagegram.tokenizers.titok.tokenizer import TiTokTokenizer
from imagegram.training.captioned_pixels import CaptionedPixels, _kept
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import SegmentHandle, TrainSegment, train_in_segments
from tests.captioned import NAMES, Plain, captioned, text_encoder
from tests.conftest import compose
from tests.pictures import context
from tests.toy_training import bytes_of, optimization

SIZES: dict[str, Any] = {
    "image_size": 8,
    "patch_size": 4,
    "num_latents": 1,
    "encoder_width": 16,
    "encoder_depth": 1,
    "encoder_heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "standardized": False,
    "flips": False,
    "quantizer": Quantization(vocab_size=2, dim=4, normalized=True, decay=0.9),
    "optimization": optimization(),
}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEmbedder:
    return text_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def recipe(embedder: SentenceEmbedder) -> TaTiTokTokenizer:
    return TaTiTokTokenizer(**SIZES, embedder=embedder)


def train(root: Path, recipe: TaTiTokTokenizer, *, steps: int, **options: Any) -> SegmentHandle:
    items = captioned(Plain(), [*NAMES] * 4, recipe.embedder, root)
    whole = TrainSegment(
        objective=recipe.objective(),
        optimization=optimization(steps=steps, learning_rate=1e-2, gradient_clip_val=1.0),
        items=items,
        validation=items,
        last_step=steps,
        trainer=TrainerOptions(**{"accelerator": "cpu", "segment_steps": steps} | options),
    )
    return train_in_segments(context(root), whole, description="toy")


@pytest.fixture(scope="module")
def written(recipe: TaTiTokTokenizer, tmp_path_factory: pytest.TempPathFactory) -> TaTiTokTokenizer:
    """A tokenizer of fresh weights, large enough that captions are seen."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    sizes = recipe.architecture
    network: Any = build(sizes.network(), seed=1, **sizes.as_dict())
    network.begin()
    with torch.no_grad():
        network.head.to_patches.weight.mul_(10)
    recipe.write_weights(path, network.state_dict())
    return replace(recipe, checkpoint=str(path))


def test_captions_paint_what_codes_do_not_say(recipe: TaTiTokTokenizer, tmp_path: Path) -> None:
    """One bit of code, six colours: the caption tells which."""
    last = train(tmp_path, recipe, steps=150).history[-1]
    assert last["val/psnr_caption"] > last["val/psnr"] + 2
    assert last["val/psnr_caption"] > last["val/psnr_other_caption"] + 2
    assert last["val/psnr_caption_only"] < last["val/psnr_caption"]


def test_a_killed_training_goes_on_as_if_undisturbed(
    recipe: TaTiTokTokenizer, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", recipe, steps=6)
    parts = train(tmp_path / "parts", recipe, steps=6, segment_steps=2)
    assert bytes_of(whole.artifact.path) == bytes_of(parts.artifact.path)


def test_a_row_is_painted_from_its_ids_and_its_own_caption(written: TaTiTokTokenizer) -> None:
    ids = np.array([[0], [1], [1], [0], [1]], np.uint16)
    texts = ["red", None, "blue", "green", "blue"]
    together = written.decode(ids, captions=texts)
    assert together.shape == (5, 8, 8, 3)
    np.testing.assert_array_equal(together[2], together[4])
    assert (together[1] != together[2]).any()
    for row, text in enumerate(texts):
        alone = written.decode(ids[row : row + 1], captions=[text])
        np.testing.assert_array_equal(alone[0], together[row])
    np.testing.assert_array_equal(written.decode(ids[1:2])[0], together[1])
    np.testing.assert_array_equal(decoded(written, ids, captions=texts), together)
    assert written.decode(ids[:0]).shape == (0, 8, 8, 3)
    assert isinstance(written, CaptionedTokenizer)
    assert not isinstance(TiTokTokenizer(optimization=optimization()), CaptionedTokenizer)
    with pytest.raises(TokenError, match="1 captions for 5 rows"):
        written.decode(ids, captions=["red"])


def test_what_stands_behind_a_text_changes_nothing(recipe: TaTiTokTokenizer) -> None:
    sizes = recipe.architecture.as_dict()
    network: Any = build(TaTiTok, seed=0, **sizes).eval()
    ids = torch.zeros(2, 1, dtype=torch.int64)
    states = torch.randn(2, 8, 16)
    there = torch.arange(8) < torch.tensor([[3], [0]])
    other = torch.where(there[..., None], states, 99.0)
    with torch.no_grad():
        found = network.paint(ids, states, there)
        torch.testing.assert_close(network.paint(ids, other, there), found, rtol=0, atol=0)
        torch.testing.assert_close(network.paint(ids)[1], found[1], rtol=0, atol=1e-6)
        assert (network.paint(ids)[0] - found[0]).abs().max() > 1e-4


def test_the_text_encoder_is_part_of_what_a_tokenizer_is(
    recipe: TaTiTokTokenizer, written: TaTiTokTokenizer, tmp_path: Path
) -> None:
    assert isinstance(written.fit(None), Ready)  # type: ignore[arg-type]
    assert written.embedder.max_tokens == 8
    renamed = replace(written, captions="name")
    assert identity(renamed) != identity(written)
    wide = SentenceEmbedder(folder=None, max_tokens=8, dtype="float32")
    with pytest.raises(ConfigError, match=r"vectors of 16 numbers, but .* gives 384"):
        replace(written, embedder=wide)
    for wrong, words in (({"captions": ""}, "captions=caption"), ({"caption_dropout": 1.0}, "0.1")):
        with pytest.raises(ConfigError, match=words):
            replace(recipe, **wrong)


def test_captions_stay_with_their_images_whatever_was_skipped() -> None:
    def record(key: str, failure: str | None = None) -> Record:
        locator = Locator(member=f"{key}.png", offset=0, size=1)
        return Record(key=key, locator=locator, caption=key, failure=failure)

    records = [
        record("a"),
        record("b", "empty_file"),
        record("c"),
        record("c", "duplicate_key"),
        record("d"),
        record("e"),
    ]
    reasons = {"b": "empty_file", "d": "held_out"}
    lines = [
        {"key": "b", "reason": reasons["b"]},
        {"key": "c", "reason": "duplicate_key"},
        {"key": "d", "reason": reasons["d"]},
    ]
    assert [each.caption for each in _kept(records, iter(lines))] == ["a", "c", "e"]


def test_a_corpus_gives_pixels_with_their_captions(recipe: Any, tmp_path: Path) -> None:
    from hydra.utils import instantiate

    words = ("debug=tiny", "corpus.images_per_shard=12", "corpus.num_holdout=4")
    cfg = compose(*words, f"paths.outputs={tmp_path}")
    corpus = instantiate(cfg.corpus, _convert_="all")
    data = CaptionedPixels(corpus=corpus, image_size=8, key="caption", embedder=recipe.embedder)
    made_in = context(tmp_path)
    prepared: Any = data.prepare(made_in)
    records = [record for shard in corpus.shards for record in shard]
    own = prepared.items.table.find([record.caption for record in records])
    assert len(prepared.items) == len(records) == 24
    np.testing.assert_array_equal(prepared.items.numbers, own)
    assert prepared.validated_on == "holdout"
    assert (prepared.validation.numbers >= 0).all()
    assert isinstance(recipe.fit(corpus).data, CaptionedPixels)
    with pytest.raises(CorpusError, match=r"no captions are in corpus .*tokenizer=titok"):
        replace(data, key="name").prepare(made_in)
