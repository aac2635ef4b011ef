"""Exact functions of a weighted sample against their definitions, evaluated the slow way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brenier import complexity

GRID = np.linspace(0.001, 1, 1000)


@st.composite
def samples(draw):
    n = draw(st.integers(1, 30))
    values = draw(st.lists(st.floats(0, 4, allow_subnormal=False), min_size=n, max_size=n))
    weights = draw(st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.0]), min_size=n, max_size=n))
    if not any(weights):
        weights[0] = 1.0
    return np.array(values), np.array(weights)


def tail(values, weights, delta):
    """h(delta), as the weighted mean that Definition 5 is."""
    return np.average(np.maximum(values - (1 - delta), 0), weights=weights)


@given(samples(), st.floats(0, 5))
def test_survival_is_the_weight_above_the_threshold(sample, u):
    values, weights = sample
    expected = weights[values > u].sum() / weights.sum()
    assert complexity.survival(values, u, weights)[0] == pytest.approx(expected, abs=1e-12)


@given(samples(), st.floats(-3, 1))
def test_integrated_tail_is_the_mean_excess(sample, delta):
    values, weights = sample
    assert complexity.integrated_tail(values, delta, weights)[0] == pytest.approx(
        tail(values, weights, delta), abs=1e-12
    )


@given(samples())
def test_minimal_relative_tail_is_below_every_delta_and_reached_at_its_own(sample):
    values, weights = sample
    least, delta = complexity.minimal_relative_tail(values, weights)
    assert 0 < delta <= 1
    assert tail(values, weights, delta) / delta == pytest.approx(least, abs=1e-9)
    ratios = np.array([tail(values, weights, d) / d for d in GRID])
    assert np.all(ratios >= least - 1e-12)
    larger = delta + 1e-6 < GRID
    assert np.all(ratios[larger] > least - 1e-15)  # delta* is the largest minimiser


@given(samples(), st.sampled_from([1.0, 1.5, 2.0, 5.0, 20.0]), st.floats(0.1, 3))
def test_net_contraction_is_the_supremum_over_delta_in_the_unit_interval(sample, m, snr):
    values, weights = sample
    candidates = np.concatenate([[0, 1], 1 - values[(values >= 0) & (values <= 1)]])
    expected = max(d - m * tail(values, weights, d) for d in candidates) * (1 + snr**2)
    assert complexity.net_contraction(values, m, snr, weights)[0] == pytest.approx(expected, abs=1e-9)


@given(samples(), st.sampled_from([1.0, 1.5, 2.0, 5.0, 20.0]))
def test_sharp_contraction_is_the_supremum_over_every_delta(sample, m):
    values, weights = sample
    expected = max(d - m * tail(values, weights, d) for d in 1 - values[weights > 0]) * 2
    sharp = complexity.sharp_contraction(values, m, 1.0, weights)[0]
    assert sharp == pytest.approx(expected, abs=1e-9)
    assert sharp >= complexity.net_contraction(values, m, 1.0, weights)[0] - 1e-9


@given(samples())
def test_sharp_contraction_ends_at_the_mean_and_at_the_maximum(sample):
    values, weights = sample
    first, last = complexity.sharp_contraction(values, [1, np.inf], 0.0, weights)
    assert first == pytest.approx(1 - np.average(values, weights=weights), abs=1e-9)
    assert last == pytest.approx(1 - values[weights > 0].max(), abs=1e-9)


@given(samples())
def test_an_integer_weight_is_a_repeated_point(sample):
    values, weights = sample
    counts = np.ceil(weights).astype(int)
    repeated = np.repeat(values, counts)
    assert complexity.minimal_relative_tail(values, counts)[0] == pytest.approx(
        complexity.minimal_relative_tail(repeated)[0], abs=1e-12
    )


def test_rows_are_independent():
    rng = np.random.default_rng(0)
    values, weights = rng.random((3, 50)) * 2, rng.random((3, 50))
    together = complexity.net_contraction(values, [1, 3], [0.5, 1, 2], weights)
    for k, snr in enumerate([0.5, 1, 2]):
        assert together[k] == pytest.approx(complexity.net_contraction(values[k], [1, 3], snr, weights[k]))


def test_a_log_concave_law_has_no_tail_up_to_its_distance_from_one():
    least, delta = complexity.minimal_relative_tail([0.2, 0.5, 0.7])
    assert (least, delta) == (0, pytest.approx(0.3))


def test_a_law_above_one_everywhere_has_its_least_tail_at_delta_one():
    least, delta = complexity.minimal_relative_tail([2.0, 3.0])
    assert (least, delta) == (pytest.approx(2.5), 1)


def test_a_point_of_no_weight_is_no_part_of_the_law():
    assert complexity.sharp_contraction([0.5, 9.0], np.inf, 0.0, [1, 0])[0] == 0.5
    assert complexity.minimal_relative_tail([0.5, 9.0], [1, 0])[0] == 0


def test_two_points_at_time_0_3_have_the_published_and_the_sharp_rate():
    """[LDK24] Theorem 4 gives 4.2131 for two points +-1, t = 0.3, M = 20; the sharp rate is 2.9303."""
    r = np.exp(-0.3) / np.sqrt(1 - np.exp(-0.6))
    y = np.linspace(-12, 12, 400_001)
    density = np.exp(-((y - r) ** 2) / 2) + np.exp(-((y + r) ** 2) / 2)
    localization = r**2 / np.cosh(r * y) ** 2
    assert 2 - 2 * complexity.net_contraction(localization, 20, r, density)[0] == pytest.approx(4.2131, abs=5e-5)
    assert 2 - 2 * complexity.sharp_contraction(localization, 20, r, density)[0] == pytest.approx(2.9303, abs=5e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: complexity.survival([], 1), "empty"),
        (lambda: complexity.survival([1.0, np.nan], 1), "not finite"),
        (lambda: complexity.survival([1.0, 2.0], 1, [1, -1]), "non-negative"),
        (lambda: complexity.survival([1.0, 2.0], 1, [0, 0]), "not all zero"),
        (lambda: complexity.survival([1.0, 2.0], 1, [1, 1, 1]), "must be the same"),
        (lambda: complexity.relative_tail([1.0], [0.0]), r"delta must lie in \(0, 1\]"),
        (lambda: complexity.net_contraction([1.0], 0.5, 1), "at least 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
