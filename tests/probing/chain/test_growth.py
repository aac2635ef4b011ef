"""Where a gap grows, by looking at every pair of steps; and what differs from what, by closed forms."""

import math
from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from brenier.probing.chain.growth import ROUNDING, SMALL, Contrast, Measured, contrast, fastest, gap, measured


def of(gaps: list[float], errors: list[float] | None = None, **more: list[float]) -> xr.Dataset:
    found = xr.Dataset({"w2_chain": ("step", gaps)} | {name: ("step", value) for name, value in more.items()})
    found = found.assign_attrs(eta=0.1)
    return found if errors is None else found.assign(w2_chain_se=("step", errors))


def test_a_ratio_has_its_error_to_first_order() -> None:
    ratio = Measured(6.0, 0.3).over(Measured(2.0, 0.2))
    assert ratio == pytest.approx((3.0, 3 * math.hypot(0.3 / 6, 0.2 / 2)))


def test_two_standard_errors_apart_or_rounding() -> None:
    assert Measured(1.0, 0.3).differs(Measured(2.01, 0.4))
    assert not Measured(1.0, 0.3).differs(Measured(1.99, 0.4))
    assert Measured(1.0).differs(Measured(1 + 2 * ROUNDING))
    assert not Measured(1.0).differs(Measured(1 + ROUNDING / 2))
    assert not Measured(1.0, math.inf).differs(Measured(1e9))


def test_a_standard_error_of_rounding_is_none_and_one_not_known_is_infinite() -> None:
    found = measured(of([1.0, 1.0, 1.0], [1e-12, math.nan, 0.1]), "w2_chain")
    assert [one.se for one in found] == [0, math.inf, 0.1]


def test_the_fastest_step_counts_beyond_its_error() -> None:
    gaps, rate = [4.0, 2.0, 1.0], [math.nan, 30.0, 30.5]
    assert fastest(of(gaps, rate=rate)) == 2
    assert fastest(of(gaps, [1.0, 1.0, 1.0], rate=rate)) == 0
    assert fastest(of(gaps, rate=[math.nan, -1.0, 0.0])) == 0


def test_a_gap_that_cannot_be_told_from_nothing_has_no_factor() -> None:
    assert gap(of([0.0, 0.0])).seen == "nowhere"
    found = gap(of([1.0, 0.0]))
    assert (found.seen, found.change, found.rise) == ("somewhere", "grows", None)
    assert math.isnan(found.factor)
    assert gap(of([1.0, 2.0])).falls
    assert gap(of([1.0 + SMALL / 2, 1.0])).change == "small"


@given(gaps=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=8), error=st.sampled_from([0.0, 0.05]))
def test_the_rise_is_the_largest_and_half_of_it_the_shortest(gaps: list[float], error: float) -> None:
    found = gap(of(gaps, [error * value for value in gaps]))
    far_near = [(far, near) for near, far in combinations(range(len(gaps)), 2)]
    growth = {pair: math.log(gaps[pair[1]] / gaps[pair[0]]) for pair in far_near}
    sure = {
        (far, near): size
        for (far, near), size in growth.items()
        if size > math.log1p(SMALL)
        and gaps[near] - gaps[far] > max(2 * error * math.hypot(gaps[far], gaps[near]), ROUNDING * gaps[near])
    }
    if found.rise is None:
        assert not sure
        return
    low, high, half_low, half_high, factor = found.rise
    assert math.log(factor) == pytest.approx(max(sure.values()))
    assert factor == gaps[high] / gaps[low]
    assert low >= half_low > half_high >= high
    assert growth[half_low, half_high] >= math.log(factor) / 2 * (1 - 1e-8)
    for (far, near), size in growth.items():
        if low >= far and near >= high and far - near < half_low - half_high:
            assert size < math.log(factor) / 2


def test_entropy_and_w2_are_contrasted_where_w2_grows_more() -> None:
    kl, w2 = [math.inf, 2.0, 1.0], [9.0, 3.0, 1.0]
    assert contrast(of([1.0] * 3, kl_backward=kl, w2_backward=w2)) == Contrast(last=2, first=1, kl=2.0, w2=3.0)
    assert contrast(of([1.0] * 3, kl_backward=[9.0, 4.0, 1.0], w2_backward=[3.0, 2.0, 1.0])) is None
    assert contrast(of([1.0] * 3, kl_backward=[np.inf, np.inf, np.inf], w2_backward=w2)) is None
    assert contrast(of([1.0] * 3)) is None
