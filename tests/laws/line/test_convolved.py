"""Sums over panels against closed forms: normal posteriors, Laplace's, and scipy's distribution functions."""

import math

import numpy as np
import torch
from scipy import integrate, special, stats

from brenier.laws.line.convolved import Convolved
from brenier.laws.line.density import OnTheLine
from brenier.laws.line.panels import panels_of


def convolved(law):
    unit = (law.ppf(0.75) - law.ppf(0.25)) / 2
    return Convolved(panels_of(law.logpdf, *law.support(), law.median(), unit))


def at(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_posteriors_of_a_normal_law():
    law = convolved(stats.norm())
    for r in (1e-3, 0.3, 1.0, 30.0, 1e4):
        y = at(-9, -1, 0, 0.5, 8) * math.hypot(r, 1)
        found = law.moments(y, torch.full_like(y, r))
        np.testing.assert_allclose(found.mean, -y / (1 + r**2), rtol=1e-9, atol=1e-12 * r)
        np.testing.assert_allclose(found.variance, r**2 / (1 + r**2) * torch.ones_like(y), rtol=1e-12)
        np.testing.assert_allclose(found.log_density, stats.norm.logpdf(y, scale=math.hypot(r, 1)), rtol=1e-11)


def test_density_of_a_laplace_law_with_noise():
    """int exp(-|u|)/2 phi(y - r u) du has a closed form in the normal distribution function."""
    law = convolved(stats.laplace())
    y = np.array([0.0, 0.7, -3.0, 15.0, -40.0])
    for r in (0.2, 1.0, 7.0):
        found = law.moments(torch.from_numpy(y), torch.full((len(y),), r, dtype=torch.float64)).log_density
        s = 1 / r
        sides = [special.log_ndtr(sign * y - s) - sign * y * s for sign in (1, -1)]
        np.testing.assert_allclose(found, math.log(s / 2) + s**2 / 2 + np.logaddexp(*sides), rtol=1e-11, atol=1e-12)


def test_a_pole_at_the_end_of_the_support():
    """gamma(1/2) is the law of V^2 for V ~ N(0, 1/2), whose integrals have no pole."""
    law = convolved(stats.gamma(0.5))
    for y, r in ((-5.0, 0.01), (1.0, 1.0), (20.0, 1.0), (-3.0, 10.0)):

        def part(v, power, y=y, r=r):
            t = r * v * v - y
            return 2 * t**power * math.exp(-v * v - t * t / 2) / math.sqrt(2) / math.pi

        sums = [integrate.quad(part, 0, 7, (k,), epsrel=1e-13, epsabs=0, limit=500)[0] for k in range(3)]
        found = law.moments(at(y), at(r))
        assert math.isclose(float(found.log_density.exp()), sums[0], rel_tol=1e-11)
        assert math.isclose(float(found.mean), sums[1] / sums[0], rel_tol=1e-9)
        assert math.isclose(float(found.variance), sums[2] / sums[0] - (sums[1] / sums[0]) ** 2, rel_tol=1e-6)


def test_tails_keep_their_digits():
    law = convolved(stats.t(3))
    u = np.array([-1e5, -3.0, 0.0, 2.0, 1e6])
    for upper, expected in ((False, stats.t.logcdf(u, 3)), (True, stats.t.logsf(u, 3))):
        np.testing.assert_allclose(
            law.log_tail_clean(torch.from_numpy(u), upper=upper), expected, rtol=1e-10, atol=1e-13
        )
    # Z adds nothing to a tail at 1e5 but 6/x^2 of it; and a normal law with noise is a normal law.
    y = at(-1e5, -4.0, 0.0, 4.0, 1e5)
    lower, upper = law.log_tails(y, torch.ones_like(y))
    np.testing.assert_allclose(lower[0], stats.t.logcdf(-1e5, 3), rtol=1e-8)
    np.testing.assert_allclose(lower.flip(0), upper, rtol=1e-10)
    normal = convolved(stats.norm())
    for r in (0.1, 1.0, 20.0):
        lower, upper = normal.log_tails(y[1:4] * r, torch.full((3,), r, dtype=torch.float64))
        z = (y[1:4] * r).numpy() / math.hypot(r, 1)
        np.testing.assert_allclose(lower, special.log_ndtr(z), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(upper, special.log_ndtr(-z), rtol=1e-10, atol=1e-13)


def test_far_out_nothing_is_known_and_so_it_says():
    found = convolved(stats.norm()).moments(at(1e6), at(1.0))
    assert all(bool(part.isnan().all()) for part in found)


def test_the_power_of_a_tail_is_not_read_where_a_function_has_no_digits_left():
    """Far out 1 - |u|/sqrt(1 + u^2) has one digit, then none: a step, flat for a while, and before it a staircase."""

    def log_density(u):
        with np.errstate(divide="ignore"):
            return 8.5 * np.log1p(-np.abs(u) / np.sqrt(1 + u * u))

    law = OnTheLine(log_density, (-math.inf, math.inf))
    assert law.square_integrable
    panels = law._convolved
    np.testing.assert_allclose(panels.powers(), -17, rtol=1e-5)
    flat = (panels.left < -1e8) & (panels.coefficients[:, -3:].abs().amax(1) < 1e-6)
    assert flat.any()  # a panel there is as clear as any
