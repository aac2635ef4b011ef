"""The series of stable laws against scipy's quadrature, where that has digits, and Levy's law."""

import math

import numpy as np
import pytest
from scipy import stats

from brenier.laws.line.bergstrom import _far, log_density


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 0.3), (1.8, -0.5), (0.7, 0.2), (1.2, 1)])
def test_the_series_is_the_density_far_out(alpha, beta):
    x = np.array([40.0, 100, 300])
    np.testing.assert_allclose(_far(x, alpha, beta), stats.levy_stable.logpdf(x, alpha, beta), rtol=1e-11)


def test_levys_law_at_any_distance():
    # Of scale 1 the stable law of index 1/2 and skew 1 is Levy's: x^(-3/2) e^(-1/(2x))/sqrt(2 pi).
    x = np.geomspace(10, 1e30, 7)
    expected = -1.5 * np.log(x) - 1 / (2 * x) - math.log(2 * math.pi) / 2
    np.testing.assert_allclose(log_density(x, 0.5, 1.0), expected, rtol=1e-13)
    assert np.isnan(_far(x, 0.5, -1.0)).all()  # nothing lies on the other side
