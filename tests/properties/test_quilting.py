"""Quilts equal their definition, depend on seed and sample, and take one patch of an image."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.errors import ConfigError
from imagegram.experiment import build
from imagegram.generators.quilting import quilt
from imagegram.generators.quilting.guides import draw_guides, nearest
from imagegram.generators.quilting.model import at_places
from imagegram.generators.quilting.quilt import Plan, grid, paint_quilts, pinwheel
from imagegram.generators.quilting.reference import quilt_reference, seam_reference
from imagegram.generators.quilting.seams import least_seams
from imagegram.generators.quilting.soften import soften_seams, solve_steps
from imagegram.layout import TokenLayout
from imagegram.samplers.quilting import QuiltingSampler
from tests.conftest import compose


@st.composite
def quilts(draw: st.DrawFn) -> dict[str, Any]:
    """Images with few colours, so that costs are often equal; some near-duplicates; any plan."""
    cell, block = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    if draw(st.booleans()):
        size = block * draw(st.integers(1, 3))
        blocks = grid(size, block)
    else:
        size = 2 * block + draw(st.integers(1, 2))
        blocks = pinwheel(size, block)
    side = size * cell
    overlap = draw(st.integers(0, max((block * cell - 1) // 2, 0)))
    count = len(blocks) + draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    colours = draw(st.sampled_from([2, 5, 256]))
    pixels = rng.integers(0, colours, (count, side, side, 3)) * (255 // (colours - 1))
    clusters = np.arange(count)
    if count > len(blocks):
        clusters[-1] = draw(st.integers(0, count - 1))
    return {
        "pixels": pixels.astype(np.uint8),
        "clusters_N": clusters,
        "guides": rng.integers(0, 255 * cell**2 + 1, (3, size, size, 3)),
        "plan": Plan(
            side=side,
            cell=cell,
            blocks=blocks,
            overlap=overlap,
            guide_weight=draw(st.sampled_from([0.0, 0.5, 8.0])),
            shift=draw(st.integers(0, 2)),
        ),
        "mirror": draw(st.booleans()),
    }


@given(quilts(), st.sampled_from([1, 2, 5, 100]))
@settings(max_examples=60, deadline=None)
def test_quilts_are_the_definition_whatever_is_compared_at_a_time(
    case: dict[str, Any], chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quilt, "CHUNK", chunk)
        images, owners = paint_quilts(**case)
    guides, plan = case.pop("guides"), case["plan"]
    for row, guide in enumerate(guides):
        expected, owned = quilt_reference(**case, guide=guide)
        np.testing.assert_array_equal(images[row], expected)
        np.testing.assert_array_equal(owners[row], owned)
        documents, pixels = np.unique(owned, return_counts=True)
        patches = [owned[plan.patch(number)].size for number in range(len(plan.blocks))]
        assert pixels.max() <= max(patches)
        assert len(np.unique(case["clusters_N"][documents])) == len(documents)


@given(quilts())
@settings(max_examples=20, deadline=None)
def test_every_pixel_is_that_of_its_document(case: dict[str, Any]) -> None:
    case["plan"] = replace(case["plan"], shift=0)
    images, owners = paint_quilts(**case)
    row, column = np.indices(owners.shape[1:])
    plain = case["pixels"][owners, row, column]
    mirrored = case["pixels"][owners, row, images.shape[2] - 1 - column]
    is_own = (images == plain).all(axis=-1) | (case["mirror"] & (images == mirrored).all(axis=-1))
    assert is_own.all()


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.5, 0.7, 1.0]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_softer_seams_are_a_least_squares_solution(
    height: int, width: int, seam_step: float, seed: int
) -> None:
    """Of all wished steps between neighbours, and of the mean."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    owners = rng.integers(0, 2, (height, width))
    rows, wishes = [np.full(height * width, 1.0)], [image.sum(axis=(0, 1), dtype=float)]
    for place in np.ndindex(height, width):
        for other in ((place[0] + 1, place[1]), (place[0], place[1] + 1)):
            if other[0] < height and other[1] < width:
                row = np.zeros((height, width))
                row[other], row[place] = 1, -1
                step = image[other].astype(float) - image[place]
                rows.append(row.ravel())
                wishes.append(step * (1.0 if owners[other] == owners[place] else seam_step))
    expected = np.linalg.lstsq(np.array(rows), np.array(wishes))[0].reshape(image.shape)
    np.testing.assert_allclose(solve_steps(image, owners, seam_step), expected, atol=1e-8)
    softer = soften_seams(np.stack([image, image]), np.stack([owners, owners * 0]), seam_step)
    np.testing.assert_array_equal(softer[1], image)  # no seam, no change
    np.testing.assert_allclose(softer[0], np.clip(expected, 0, 255), atol=0.5 + 1e-6)


def test_patches_of_a_pinwheel_are_cut_along_the_blocks_beside_them() -> None:
    plan = Plan(side=8, cell=1, blocks=pinwheel(8, 2), overlap=1, guide_weight=1.0)
    sides = [{(cut.side, cut.first, cut.last) for cut in cuts} for cuts in plan.cuts]
    left, right, top, bottom = range(4)
    assert sides[0] == set()
    assert sides[1] == {(top, 0, 3)}
    assert sides[2] == {(left, 0, 3)}
    assert sides[3] == {(bottom, 0, 3), (left, 0, 3)}
    assert sides[4] == {(side, 0, 6) for side in (left, right, top, bottom)}


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_no_seam_costs_less(width: int, lines: int, seed: int) -> None:
    errors = np.random.default_rng(seed).integers(0, 4, (lines, width))
    costs = {
        seam: sum(int(errors[line, at]) for line, at in enumerate(seam))
        for seam in itertools.product(range(width), repeat=lines)
        if all(abs(a - b) <= 1 for a, b in itertools.pairwise(seam))
    }
    found = tuple(seam_reference(errors.tolist()))
    assert costs[found] == min(costs.values())
    taken = least_seams(np.stack([errors, np.zeros_like(errors)]))
    assert taken[0].argmax(axis=1).tolist() == list(found)
    assert (np.diff(taken.astype(int), axis=2) >= 0).all()  # what is behind the seam is the patch's


@given(
    st.integers(1, 30),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_the_nearest_images_are_those_of_a_full_sort(
    count: int, most: int, colours: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    thumbnails = rng.integers(0, colours, (count, 2)).astype(np.uint32)
    clusters = rng.integers(0, count, count)
    first = rng.integers(0, count, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imagegram.generators.quilting.guides._CHUNK", 4)
        found = list(nearest(thumbnails, clusters, first, most))
    for own, documents in zip(first, found, strict=True):
        off = ((thumbnails.astype(int) - thumbnails[own].astype(int)) ** 2).sum(axis=1)
        ranked = sorted(range(count), key=lambda n: (n != own, off[n], n))
        expected: list[int] = []
        for document in ranked:
            if clusters[document] not in clusters[expected]:
                expected.append(document)
        assert documents.tolist() == expected[:most]


def test_a_guide_depends_on_seed_and_sample_alone() -> None:
    rng = np.random.default_rng(1)
    thumbnails = rng.integers(0, 1000, (50, 12)).astype(np.uint32)
    samples = np.arange(6, dtype=np.uint64)
    how: dict[str, Any] = {"num_images": 4, "contrast": 1.4, "largest": 1000}
    all_six = draw_guides(thumbnails, np.arange(50), samples, seed=3, **how)
    for b in range(6):
        alone = draw_guides(thumbnails, np.arange(50), samples[b : b + 1], seed=3, **how)
        np.testing.assert_array_equal(alone[0], all_six[b])
    assert (all_six != draw_guides(thumbnails, np.arange(50), samples, seed=4, **how)).any()
    how |= {"num_images": 1, "contrast": 1.0}
    one = draw_guides(thumbnails, np.arange(50), samples, seed=3, **how)
    assert all((thumbnails == row).all(axis=1).any() for row in one)  # a thumbnail as it is


def test_guides_vary_as_the_images_that_they_are_mixed_from() -> None:
    """Over many draws, mean and covariance are those of the neighbours."""
    first = np.array([[100, 500, 300], [140, 480, 310], [120, 560, 250]], dtype=np.uint32)
    thumbnails = np.concatenate((first, 900 - first[:, ::-1]), axis=1)
    how: dict[str, Any] = {"num_images": 3, "contrast": 1.0, "largest": 1000}
    samples = np.arange(4000, dtype=np.uint64)
    found = draw_guides(thumbnails, np.arange(3), samples, seed=0, **how).astype(float)
    np.testing.assert_allclose(found.mean(axis=0), thumbnails.mean(axis=0), atol=2.0)
    wanted = np.cov(thumbnails.T.astype(float), bias=True)
    np.testing.assert_allclose(np.cov(found.T, bias=True), wanted, rtol=0.1, atol=40)


def test_contrast_multiplies_differences_from_the_mean_colour() -> None:
    thumbnails = np.array([[100, 200, 300, 200, 400, 320]], dtype=np.uint32)
    how: dict[str, Any] = {"num_images": 1, "largest": 1000, "seed": 0}
    samples = np.zeros(1, dtype=np.uint64)
    found = draw_guides(thumbnails, np.arange(1), samples, contrast=1.5, **how)
    assert found[0].tolist() == [75, 150, 295, 225, 450, 325]


def test_documents_of_tokens_are_those_at_the_middle_of_their_places() -> None:
    owners = np.arange(64, dtype=np.int32).reshape(1, 8, 8)
    pyramid = at_places(owners, TokenLayout.pyramid((2, 8)))[0]
    assert pyramid[:12:3].tolist() == [18, 22, 50, 54]
    assert pyramid[12::3].tolist() == list(range(64))
    sequence = at_places(owners, TokenLayout.sequence(3))[0]
    assert sequence.tolist() == [36, 36, 36]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("sampler.block=3",), r"sampler\.block=2"),
        (("sampler.block=16",), r"sampler\.block=8"),
        (("generator.guide_size=10", "sampler.block=1"), r"generator\.guide_size=8"),
        (("sampler=balanced",), r"sampler=quilting"),
        (("condition=label", "condition.label=0"), "condition"),
        (("sampler.overlap=1.0",), "half a block"),
        (("sampler.arrangement=spiral",), "grid or pinwheel"),
        (("sampler.arrangement=pinwheel", "sampler.block=4"), r"sampler\.block=3"),
        (("sampler.seam_step=1.5",), "seam_step"),
        (("sampler.guide_images=0",), "guide_images"),
        (("sampler.guide_weight=-1",), "guide_weight"),
        (("sampler.guide_contrast=-1",), "guide_contrast"),
        (("modality=text", "tokenizer=bpe_tiny"), "tokenizer=pyramid3"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_type(words: tuple[str, ...], hint: str) -> None:
    with pytest.raises(Exception, match=hint) as caught:
        build(compose("debug=tiny", "tokenizer=pyramid2", *words, "generator=quilting"))
    assert ConfigError in (type(caught.value), type(caught.value.__cause__))


def test_a_patch_is_smaller_than_its_bound() -> None:
    sampler = QuiltingSampler(name="quilting")
    assert ((sampler.block + 2 * sampler.overlap) / 8) ** 2 < 0.1
