"""Panels hold the law: masses against scipy's distribution functions, and one line for what is no law."""

import math

import numpy as np
import pytest
from scipy import stats

from brenier.laws.line.panels import panels_of


@pytest.mark.parametrize(
    ("law", "tolerance"),
    [
        (stats.norm(), 1e-14),
        (stats.t(3), 1e-14),
        (stats.cauchy(), 1e-14),
        (stats.laplace(), 1e-14),
        (stats.gamma(0.5), 1e-14),
        (stats.lognorm(3), 1e-14),
        (stats.pareto(0.5), 1e-14),
        (stats.triang(0.3), 1e-14),
        (stats.dweibull(0.5), 1e-14),
        (stats.arcsine(), 1e-9),  # beside 1 numbers are 1e-16 apart, and 1e-8 of the law lies closer
        (stats.beta(0.05, 0.05), 1e-5),  # a tenth of it
    ],
    ids=lambda law: law.dist.name if hasattr(law, "dist") else "",
)
def test_masses_are_those_of_the_distribution(law, tolerance):
    unit = (law.ppf(0.75) - law.ppf(0.25)) / 2
    panels = panels_of(law.logpdf, *law.support(), law.median(), unit)
    np.testing.assert_allclose(np.cumsum(np.exp(panels.log_mass)), law.cdf(panels.right), atol=tolerance)


@pytest.mark.parametrize(
    ("log_density", "support", "message"),
    [
        (lambda x: -np.log(abs(x)), (-math.inf, math.inf), "does not fall fast enough"),
        (lambda x: 0 * x, (-math.inf, math.inf), "does not fall fast enough"),
        (lambda x: x, (-math.inf, math.inf), "does not fall fast enough towards inf"),
        (lambda x: -1.1 * np.log1p(abs(x)), (-math.inf, math.inf), "too large to be computed with"),
        (lambda x: -np.log(x), (0, 1), "rises like -1 log"),
        (lambda x: -1.5 * np.log(1 - x), (0, 1), "rises like -1.5 log"),
        (lambda x: -np.log(abs(x)), (-1, 1), "pole"),
        (lambda x: np.where(x > 0.3, np.nan, 0.0), (0, 1), "NaN at x = "),
        (lambda x: np.full_like(x, math.inf), (0, 1), "inf around"),
        (lambda x: np.where(x > 2, -np.sqrt(x), 0.0) * np.where(x < 100, 1, math.nan), (0, math.inf), "NaN|nan at"),
    ],
)
def test_what_is_no_law_is_refused_in_one_line(log_density, support, message):
    with pytest.raises(ValueError, match=message) as error:
        panels_of(log_density, *support, 0.5, 0.5)
    assert "\n" not in str(error.value)
