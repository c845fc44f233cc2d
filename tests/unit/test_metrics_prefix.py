"""Prefixes of ordered tokens: what they show, beside the best JPEG by brute force."""

from __future__ import annotations

import dataclasses
import io
import math
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from imagegram.layout import TokenLayout, prefix_lengths
from imagegram.metrics import jpeg_budget
from imagegram.metrics.aligned import AlignedMetric
from imagegram.metrics.copying import CopyingMetric
from imagegram.metrics.jpeg_budget import best_errors, encode_jpeg, scan_bytes
from imagegram.metrics.likelihood import LikelihoodMetric
from imagegram.metrics.order import OrderMetric
from imagegram.metrics.patches import PatchMetric
from imagegram.metrics.prefix import PrefixMetric
from imagegram.records import Images, Measurement, Tokens
from tests.image_sets import MemoryImages, MemoryReference, MemoryTokens, free_trace
from tests.ordered_tokenizer import OrderedTokenizer, square
from tests.pictures import ids_of, noise

TOKENIZER = OrderedTokenizer(num_tokens=12, image_size=16, digits=(39, 39, 41))


def pictures(count: int, *, seed: int) -> Images:
    """Smooth ones: noise of 5 pixels a side, enlarged."""
    small = [Image.fromarray(noise(seed + i, size=5)) for i in range(count)]
    return np.stack([np.asarray(one.resize((40, 30), Image.Resampling.BICUBIC)) for one in small])


def ordered_set(images: Images) -> MemoryImages:
    tokens = np.stack([ids_of(TOKENIZER, image) for image in images])
    originals = np.stack([square(image, TOKENIZER.image_size) for image in images])
    return MemoryImages(tokens, free_trace(tokens), TOKENIZER.decode(tokens), originals)


@dataclass(frozen=True)
class OrderedReference(MemoryReference):
    vocab_size = TOKENIZER.spec.vocab_size

    def decode(self, tokens_BT: Tokens, **known: object) -> Images:
        return TOKENIZER.decode(tokens_BT)


TRAINING = ordered_set(pictures(30, seed=100))
IMAGES = ordered_set(pictures(20, seed=0))
REFERENCE = OrderedReference(MemoryTokens(shards=[TRAINING.tokens]), layout=TOKENIZER.spec.layout)


def measure(images: MemoryImages = IMAGES, **fields: int) -> Measurement:
    return PrefixMetric(**fields).measure(generated=images, reference=REFERENCE)  # type: ignore[arg-type]


def test_errors_are_those_of_decoded_prefixes_and_fall_with_every_token() -> None:
    measured = measure()
    assert IMAGES.originals is not None
    lengths = list(prefix_lengths(12))
    assert lengths == [1, 2, 4, 8, 12]
    for length in lengths:
        decoded = TOKENIZER.decode(IMAGES.tokens[:, :length]).astype(float)
        error = ((decoded - IMAGES.originals) ** 2).mean()
        found = measured.scalars[f"prefix_psnr_k{length}"]
        assert found.value == pytest.approx(10 * math.log10(255**2 / error))
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high
    assert (np.diff(measured.curves["prefix_psnr"]) > 0).all()
    assert measured.curves["prefix_lengths"].tolist() == lengths
    assert measured.recipe["N"] == "20"
    assert measured.recipe["bits of a token"] == "15.93"


def test_images_are_chosen_whatever_their_order() -> None:
    order = np.random.default_rng(0).permutation(20)
    assert IMAGES.originals is not None
    turned = MemoryImages(
        IMAGES.tokens[order], IMAGES.trace, IMAGES.images[order], IMAGES.originals[order]
    )
    first, second = measure(max_images=7), measure(turned, max_images=7)
    assert first.recipe["N"] == "7"
    for name, value in first.scalars.items():
        assert second.scalars[name].value == pytest.approx(value.value)
    assert first.scalars["prefix_psnr_k4"].value != measure().scalars["prefix_psnr_k4"].value


def test_without_originals_nothing_is_defined_and_says_why() -> None:
    bare = dataclasses.replace(IMAGES, originals=None)
    scalars = measure(bare).scalars
    assert scalars.keys() == measure().scalars.keys()
    assert all(one.value is None and "no original" in one.note for one in scalars.values())


def test_tokens_without_an_order_have_one_length() -> None:
    ranked = measure()
    places = dataclasses.replace(REFERENCE, layout=TokenLayout.sequence(12, order="none"))
    found = PrefixMetric().measure(generated=IMAGES, reference=places)
    assert found.scalars.keys() == {"prefix_psnr_k12", "prefix_jpeg_psnr_k12"}
    for name, one in found.scalars.items():
        assert one.value == ranked.scalars[name].value
    assert found.curves.keys() == {"id_entropy"}


def test_a_jpeg_that_fits_for_some_images_only_is_not_defined() -> None:
    assert IMAGES.originals is not None
    flat = IMAGES.originals.copy()
    flat[:3] = 128
    scalars = measure(dataclasses.replace(IMAGES, originals=flat)).scalars
    one = scalars["prefix_jpeg_psnr_k1"]
    assert one.value is None
    assert one.note.startswith("only ")
    assert "of 20 images have a JPEG scan of 2 bytes" in one.note
    jpeg = [scalars[f"prefix_jpeg_psnr_k{length}"].value for length in (4, 8, 12)]
    assert all(value is not None for value in jpeg)
    assert jpeg == sorted(jpeg, key=float)  # type: ignore[arg-type]


def test_the_best_jpeg_is_that_of_all_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_budget, "SIDES", (2, 8, 64))
    monkeypatch.setattr(jpeg_budget, "QUALITIES", (3, 30, 90))
    image = square(pictures(1, seed=7)[0], 16)
    budgets = [1, 4, 9, 20, 60, 400]
    best = dict.fromkeys(budgets, math.inf)
    for side in (2, 8, 16):
        small = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)
        for quality in (3, 30, 90):
            for subsampling in (0, 2):
                stream = io.BytesIO()
                small.save(stream, "JPEG", quality=quality, subsampling=subsampling)
                again = Image.open(stream).resize((16, 16), Image.Resampling.BICUBIC)
                error = ((np.asarray(again).astype(float) - image) ** 2).mean()
                for budget in budgets:
                    if slow_scan_bytes(stream.getvalue()) <= budget:
                        best[budget] = min(best[budget], error)
    assert best_errors(image, budgets).tolist() == pytest.approx(list(best.values()))
    assert best[1] == math.inf
    assert best[400] < best[20] < math.inf


def slow_scan_bytes(data: bytes) -> int:
    """Segment by segment, then byte by byte."""
    at = 2
    while data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    count = 0
    while data[at : at + 2] != b"\xff\xd9":
        at += 2 if data[at : at + 2] == b"\xff\x00" else 1
        count += 1
    return count


@pytest.mark.parametrize("seed", range(5))
def test_a_scan_has_neither_headers_nor_stuffing(seed: int) -> None:
    picture = Image.fromarray(noise(seed, size=40))
    data = encode_jpeg(picture, quality=95, subsampling="4:4:4")
    assert b"\xff\x00" in data
    assert scan_bytes(data) == slow_scan_bytes(data)


# ------------------------------------------------------------------------------------ by position


def test_positions_have_curves_of_their_own() -> None:
    half = np.concatenate([TRAINING.tokens[:10], IMAGES.tokens[:10]])
    half[:10, 6:] = TRAINING.tokens[10:20, 6:]
    trace = free_trace(half)
    trace["num_distinct"][:5, 3] = 1
    trace["suffix_len"][:, 4] = 9
    images = MemoryImages(half, trace, TOKENIZER.decode(half))
    order = OrderMetric().measure(generated=images, reference=REFERENCE).curves
    assert order["forced_by_position"].tolist() == [0.25 * (t == 3) for t in range(12)]
    assert order["suffix_len_by_position"].tolist() == [9 if t == 4 else 3 for t in range(12)]
    aligned = AlignedMetric().measure(generated=images, reference=REFERENCE)
    reached = aligned.curves["copied_prefix_by_position"]
    assert (reached[:6] >= 0.5).all()
    assert (np.diff(reached) <= 0).all()
    assert reached[11] == 0
    rates = {name: one.value for name, one in aligned.scalars.items() if "through" in name}
    assert rates.keys() == {f"copied_through_k{k}_rate" for k in (3, 6, 12)}
    assert [rates[f"copied_through_k{k}_rate"] for k in (3, 6, 12)] == [
        reached[k - 1] for k in (3, 6, 12)
    ]
    copying = CopyingMetric().measure(generated=images, reference=REFERENCE)
    shares = copying.curves["source_share_by_position"]
    assert shares.mean() == pytest.approx(copying.scalars["largest_source_share"].value)


def test_bits_are_those_of_the_measured_pictures_and_tiles_parts_of_them() -> None:
    found = LikelihoodMetric().measure(generated=IMAGES, reference=REFERENCE)
    assert found.scalars.keys() == {"bits_per_token", "bits_per_dim"}
    bits, dims = (found.scalars[name].value for name in ("bits_per_token", "bits_per_dim"))
    assert bits is not None
    assert dims == pytest.approx(bits * 12 / (3 * 16 * 16))
    assert found.recipe["pixels"] == "16x16x3"
    assert PatchMetric().tiles_of(TOKENIZER.spec.layout, 32) == [4, 8]
    assert PatchMetric().tiles_of(TOKENIZER.spec.layout, 256) == [32, 64]
    assert PatchMetric().tiles_of(TOKENIZER.spec.layout, 16) == [4]
