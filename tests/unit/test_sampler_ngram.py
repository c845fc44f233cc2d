"""NgramSampler: its knobs refuse nonsense; its distribution and draws are what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.errors import ConfigError
from imagegram.generators.ngram import kernels
from imagegram.layout import TokenLayout
from imagegram.samplers.ngram import NgramSampler, distribution
from imagegram.samplers.truncation import draw, entropy_bits

COUNTS = st.lists(st.integers(1, 50), min_size=1, max_size=12)
KNOBS = st.tuples(
    st.sampled_from([0.0, 0.01, 0.5, 0.9, 1.0, 3.0]),
    st.integers(0, 6),
    st.sampled_from([1.0, 0.9, 0.5, 1e-9]),
    st.sampled_from([0.0, 0.2, 1.0]),
)


def expected(counts: list[int], temperature: float, top_k: int, top_p: float, min_p: float):
    """The definition on dictionaries: rank by probability, then by index."""
    if temperature == 0:
        best = max(range(len(counts)), key=lambda i: (counts[i], -i))
        return [float(i == best) for i in range(len(counts))]
    weights = {i: (c / max(counts)) ** (1 / temperature) for i, c in enumerate(counts)}

    def normal(kept: dict[int, float]) -> dict[int, float]:
        return {i: w / math.fsum(kept.values()) for i, w in kept.items()}

    kept = normal(weights)
    ranked = sorted(kept, key=lambda i: (-counts[i], i))
    if top_k:
        kept = normal({i: kept[i] for i in ranked[:top_k]})
    ranked = [i for i in ranked if i in kept]
    if top_p < 1:
        fewest = next(
            n for n in range(1, len(ranked) + 1)
            if math.fsum(kept[i] for i in ranked[:n]) >= top_p - 1e-12 or n == len(ranked)
        )  # fmt: skip
        kept = normal({i: kept[i] for i in ranked[:fewest]})
    kept = normal({i: p for i, p in kept.items() if p >= min_p * max(kept.values())})
    return [kept.get(i, 0.0) for i in range(len(counts))]


@given(COUNTS, KNOBS)
def test_the_distribution_is_the_definition(counts, knobs) -> None:
    found = distribution(np.array(counts), *knobs)
    np.testing.assert_allclose(found, expected(counts, *knobs), rtol=1e-9, atol=1e-12)


@settings(deadline=None)  # the first example compiles
@given(COUNTS, KNOBS, st.floats(0, 1, exclude_max=True))
def test_compiled_and_interpreted_give_the_same_bits(counts, knobs, uniform) -> None:
    counts_K = np.array(counts)
    p_K = distribution(counts_K, *knobs)
    assert p_K.tobytes() == kernels.distribution(counts_K, *knobs).tobytes()
    assert draw(p_K, uniform) == kernels.draw(p_K, uniform)
    assert entropy_bits(p_K) == kernels.entropy_bits(p_K)


@given(COUNTS, KNOBS, st.floats(0, 1, exclude_max=True))
def test_a_draw_inverts_the_cumulative_sum(counts, knobs, uniform) -> None:
    p_K = distribution(np.array(counts), *knobs)
    chosen = draw(p_K, uniform)
    assert p_K[chosen] > 0
    below = math.fsum(p_K[:chosen])
    assert below - 1e-12 <= uniform <= below + p_K[chosen] + 1e-12


def test_rounding_never_draws_an_impossible_token() -> None:
    p_K = np.array([0.1] * 9 + [0.1 - 1e-16, 0.0])
    assert draw(p_K, np.nextafter(1.0, 0.0)) == 9


def test_a_small_temperature_approaches_greedy() -> None:
    counts_K = np.array([5, 9, 8])
    np.testing.assert_array_equal(distribution(counts_K, 1e-4, 0, 1.0, 0.0), [0, 1, 0])
    np.testing.assert_array_equal(distribution(counts_K, 0.0, 0, 1.0, 0.0), [0, 1, 0])


def test_greedy_takes_the_smallest_id_among_equals() -> None:
    assert distribution(np.array([2, 7, 7]), 0.0, 0, 1.0, 0.0).tolist() == [0, 1, 0]
    assert distribution(np.array([7, 2, 7]), 1.0, 1, 1.0, 0.0).tolist() == [1, 0, 0]


def test_entropy_of_equal_tokens_is_the_logarithm_of_their_number() -> None:
    assert entropy_bits(distribution(np.full(8, 3), 0.7, 0, 1.0, 0.0)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.5),
        ("max_context", 0),
        ("max_context", []),
        ("max_context", [4, 0]),
        ("min_count", 0),
        ("matching", "chanel"),
        ("anchor", -1),
        ("anchor", True),
        ("label_tokens", 0),
        ("context_digits", 0),
    ],
)
def test_nonsense_is_refused_by_name(knob: str, value: object) -> None:
    with pytest.raises(ConfigError, match=knob):
        NgramSampler(name="bad", **{knob: value})


def test_a_mistyped_matching_is_corrected() -> None:
    with pytest.raises(ConfigError, match="did you mean 'channel'"):
        NgramSampler(name="bad", matching="chanel")


def test_max_context_is_one_number_or_one_per_level() -> None:
    layout = TokenLayout.pyramid((1, 2))
    one = NgramSampler(name="s", max_context=7).max_context_per_position(layout)
    assert one.tolist() == [7] * 15
    two = NgramSampler(name="s", max_context=[5, 2])
    assert two.max_context == (5, 2)
    assert two.max_context_per_position(layout).tolist() == [5] * 3 + [2] * 12
    with pytest.raises(ConfigError, match="2 levels"):
        NgramSampler(name="s", max_context=(5, 4, 3)).max_context_per_position(layout)


def test_contexts_that_a_trace_cannot_tell_are_refused() -> None:
    large = TokenLayout.pyramid((2, 150))  # 67,512 tokens: suffix_len would wrap at 65,536
    with pytest.raises(ConfigError, match="max_context=65536: must be at most 65535"):
        NgramSampler(name="s", max_context=65536).max_context_per_position(large)
    for fits in (65535, (2**31 - 1, 32)):
        limits = NgramSampler(name="s", max_context=fits).max_context_per_position(large)
        assert limits.shape == (67_512,)
    small = TokenLayout.pyramid((2,))
    assert NgramSampler(name="s", max_context=10**6).max_context_per_position(small).size
