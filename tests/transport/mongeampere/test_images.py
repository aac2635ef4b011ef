"""What is shown of a map is what the map does, and what it should do."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from brenier.laws.mixture import GaussianMixture
from brenier.transport.mongeampere import Fitted, MongeAmpere, images
from brenier.transport.mongeampere.portrait import portrait
from brenier.transport.mongeampere.potentials import Quadratic

A, B = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -1.0])


def affine(target: Any, A: Any, b: Any) -> xr.Dataset:
    """The portrait of a map y -> Ay + b that is known without a fit."""
    found = MongeAmpere("normal", target, method="linear", dim=len(b))
    found.psi = Quadratic(torch.tensor(A, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    found.result = Fitted("steps", 0, 1.0)
    return portrait(found)


def test_quantiles_go_to_quantiles() -> None:
    law = GaussianMixture([0.3, 0.7], [-2.0, 1.0], [0.25, 0.5], name="two")
    found = images.line_map(affine(law, [[1.0]], [0.0]))
    np.testing.assert_allclose(found.x, found.y)
    assert found.quantiles is not None
    seen = np.isfinite(found.quantiles)
    exact = found.quantiles[seen]
    below = 0.3 * stats.norm.cdf(exact, -2, 0.5) + 0.7 * stats.norm.cdf(exact, 1, math.sqrt(0.5))
    np.testing.assert_allclose(below, stats.norm.cdf(found.y[seen]), atol=1e-5)
    assert stats.norm.sf(found.y[seen].max()) == pytest.approx(1e-5, rel=0.1)
    np.testing.assert_allclose(found.shown, stats.norm.ppf([1e-5, 1 - 1e-5]), atol=0.01)


def test_the_image_of_a_density_has_the_slope_in_it() -> None:
    found = images.line_densities(affine(GaussianMixture([1.0], [1.0], [4.0]), [[3.0]], [0.5]))
    assert not found.image.counted
    np.testing.assert_allclose(found.image.heights, stats.norm.pdf(found.image.places, 0.5, 3), atol=1e-12)
    np.testing.assert_allclose(found.target.heights, stats.norm.pdf(found.target.places, 1, 2), atol=1e-12)


def test_the_polar_grid_is_that_of_the_references_points() -> None:
    """Seen from there, its circles have radii of 0.5 to 2.5 standard deviations."""
    law = GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], [0.25, 0.25])
    data = affine(law, A.tolist(), B.tolist())
    reference, lines = data["reference_points"].to_numpy(), images.polar_grid(data)
    back = (lines - B) @ np.linalg.inv(A) - reference.mean(0)
    radii = np.sqrt(np.einsum("lpi,ij,lpj->lp", back, np.linalg.inv(np.cov(reference.T)), back))
    np.testing.assert_allclose(radii[:5], np.repeat([[0.5], [1], [1.5], [2], [2.5]], lines.shape[1], 1))
    np.testing.assert_allclose(radii[5:, -1], 2.5)
    assert len(lines) == 5 + 24


def test_contours_hold_their_share_of_the_mass() -> None:
    data = affine(lambda x: -x.square().sum(1) / 2, [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    radii = np.sqrt(-2 * np.log(2 * np.pi * np.array(images.contour_levels(data))))  # of a standard normal density
    np.testing.assert_allclose(radii, stats.chi(2).ppf([0.9, 0.5]), rtol=0.03)
