import numpy as np
import pytest
import scipy.stats
import torch

import brenier
from brenier.laws.elliptical import Elliptical
from brenier.laws.line.density import OnTheLine
from brenier.laws.mixture import GaussianMixture
from brenier.laws.product import Product
from brenier.laws.uniform import Uniform


def points(n: int, dim: int, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn((n, dim), generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def test_normal_factors_make_a_normal_law() -> None:
    plane = GaussianMixture([1], [[1.0, 0.0]], [[[2.0, 0.5], [0.5, 1.0]]])
    law = Product([plane, GaussianMixture([1], [-1.0], 0.3)])
    covariance = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.3]])
    same = GaussianMixture([1], [[1.0, 0.0, -1.0]], [covariance])
    y = points(9, 3)
    ours, theirs = law.localize(y, 1.4), same.localize(y, 1.4)
    np.testing.assert_allclose(ours.norm, theirs.norm, rtol=1e-6)
    np.testing.assert_allclose(ours.trace, theirs.trace, rtol=1e-12)
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-10)
    np.testing.assert_allclose(law.log_density(y, 1.4), same.log_density(y, 1.4), rtol=1e-12)
    np.testing.assert_allclose(law.density()(y), same.density()(y), rtol=1e-10)
    for found, expected in zip(law.moments(), same.moments(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_box_is_the_product_of_its_sides() -> None:
    sides = [Uniform(-1, 1), Uniform(0, 3), Uniform(-1, 1)]
    law, box, y = Product([sides[0], sides[1], sides[0]]), Uniform([-1, 0, -1], [1, 3, 1]), points(20, 3)
    for found, expected in zip(
        (law.localize(y, 2.0).norm, law.denoise(y, 2.0), law.score(y, 2.0), law.log_density(y, 2.0)),
        (box.localize(y, 2.0).norm, box.denoise(y, 2.0), box.score(y, 2.0), box.log_density(y, 2.0)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_copies_and_blocks_stand_in_their_places() -> None:
    line = brenier.load_target("scipy:laplace")
    law = Product([line, Elliptical.student(3, 2), line, scipy.stats.norm(1e6, 1)])
    assert (law.dim, law.name) == (5, "scipy:laplace x t(3) in 2 dimensions x scipy:laplace x norm() * 1 + 1e+06")
    assert Product([line] * 3).name == "(scipy:laplace)^3"
    x = law.sample(4000, 5)
    assert scipy.stats.kstest(x[:, 0], scipy.stats.laplace.cdf).pvalue > 1e-3
    assert scipy.stats.kstest(x[:, 2], scipy.stats.t(3).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(x[:, 0], x[:, 3])[0, 1]) < 0.1
    assert law.origin.tolist() == [0, 0, 0, 0, 1e6]
    y = points(6, 5)
    y[:, 4] += 1.5 * 1e6
    moved = law.moved(-law.origin)
    np.testing.assert_allclose(moved.localize(y - 1.5 * law.origin, 1.5).norm, law.localize(y, 1.5).norm, rtol=1e-8)
    parts = [line.localize(y[:, [0]], 1.5).norm, law.factors[1].localize(y[:, 1:3], 1.5).norm]
    assert bool((law.localize(y, 1.5).norm >= torch.stack(parts).amax(0)).all())


def test_the_profile_of_a_product_is_that_of_the_largest_of_independent_localizations() -> None:
    line = brenier.load_target("scipy:t(3)")
    one = brenier.probe(line, [1.0], progress=False)
    many = brenier.probe(Product([line] * 20), [1.0], queries=2048, progress=False)
    alone = float(one.survival.sel(u=1.0)[0])
    expected = 1 - (1 - alone) ** 20
    found = many.survival.sel(u=1.0)[0]
    assert abs(float(found) - expected) < 4 * float(many.survival_se.sel(u=1.0)[0])
    np.testing.assert_allclose(many.mmse, 20 * one.mmse, rtol=0.05)


def test_square_integrability_and_precision_are_those_of_the_factors() -> None:
    cauchy = brenier.load_target("scipy:cauchy")
    assert not Product([Uniform(0, 1), cauchy]).square_integrable
    law = Product([Uniform(0, 1), GaussianMixture([1], [0.0], 1.0)]).to(dtype=torch.float32)
    assert law.localize(points(3, 2), 1.0).norm.dtype == torch.float32
    assert law.scales() == pytest.approx((12**-0.5, 1.0))
    assert law.density() is None


@pytest.mark.parametrize(
    ("laws", "words"),
    [([], "at least one law"), ([np.zeros((5, 2))], "made of 5 points"), ([scipy.stats.poisson(1)], "is discrete")],
)
def test_what_is_no_product_is_refused(laws: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Product(laws)


def test_a_law_of_the_user_s_may_be_a_factor() -> None:
    law = Product([OnTheLine(lambda x: -(x**2) / 2), OnTheLine(lambda x: -abs(x))])
    y = points(5, 2)
    np.testing.assert_allclose(law.localize(y, 1.0).trace, 0.5 + law.factors[1].localize(y[:, 1:], 1.0).norm, rtol=1e-8)
