import math

import pytest
import torch
from scipy.stats import binomtest

from brenier.metrics.estimates import median, points_of, share


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (499, 1000), (1, 5000)])
def test_a_share_has_wilsons_interval(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    found = share(hits / n, n)
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high))
    assert found.value_se == pytest.approx(math.sqrt(hits / n * (1 - hits / n) / n))


def test_a_larger_error_is_that_of_fewer_draws() -> None:
    found, fewer = share(0.25, 400, value_se=math.sqrt(0.25 * 0.75 / 100)), share(0.25, 100)
    assert found == pytest.approx(fewer)
    assert share(0.25, 400, value_se=1e-9)[2:] == share(0.25, 400)[2:]


def test_the_interval_of_a_median_covers_it_as_often_as_it_says() -> None:
    x = torch.randn(1000, 101, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    found = [median(row) for row in x]
    covered = sum(one.low <= 1 <= one.high for one in found) / 1000
    assert abs(covered - 0.95) < 3 * math.sqrt(0.05 * 0.95 / 1000) + 0.01  # ranks are whole numbers
    spread = torch.tensor([one.value for one in found]).std()
    assert sum(one.value_se for one in found) / 1000 == pytest.approx(float(spread), rel=0.1)


def test_refused() -> None:
    good = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"reference has shape \(3,\)"):
        points_of(good, torch.zeros(3))
    with pytest.raises(TypeError, match="samples must be real numbers"):
        points_of(good.to(torch.complex64), good)
    with pytest.raises(ValueError, match="3 points in x are too few: at least 4 are needed for that"):
        points_of(good, good, ("x", "y"), least=4, note=" for that")
    with pytest.raises(ValueError, match="reference holds values that are not finite, first in row 1"):
        points_of(good, [[0, 0], [0, math.nan]])
    with pytest.raises(ValueError, match="samples have 2 numbers each, reference 3"):
        points_of(good, torch.zeros(3, 3))
