from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

import brenier
from brenier.laws.elliptical import Elliptical
from brenier.laws.from_density import from_density
from brenier.laws.mixture import GaussianMixture
from brenier.laws.product import Product
from brenier.laws.space.proposal import TMixture
from brenier.laws.space.weighted import ByWeights


def closed(dim: int) -> dict[str, Any]:
    spread = np.geomspace(0.25, 4, dim)
    means = [[-2.0] * dim, [0.0] * (dim - 1) + [3.0]]
    mixed = GaussianMixture([0.4, 0.6], means, [0.3, 1.0])
    density = mixed.density()
    return {
        "t": (
            scipy.stats.multivariate_t(np.zeros(dim), np.diag(spread), df=3).logpdf,
            Elliptical.student(3, dim, scale=spread),
            (),
        ),
        "mixture": (lambda x: density(torch.as_tensor(x)).numpy(), mixed, means),
    }


@pytest.mark.parametrize("dim", [5, 10])
@pytest.mark.parametrize("name", ["t", "mixture"])
def test_posteriors_are_those_of_the_law_in_closed_form(name: str, dim: int) -> None:
    log_density, law, at = closed(dim)[name]
    found = from_density(log_density, dim, at=at)
    assert isinstance(found, ByWeights)
    x = law.sample(128, 2)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    smallest, largest = law.scales()
    for snr in (1 / largest, 1 / smallest, 10 / smallest):
        y = snr * x + z
        ours, theirs = found.localize(y, snr), law.localize(y, snr)
        off = ours.norm / theirs.norm - 1
        assert float(off.abs().median()) < 0.02
        assert abs(float(ours.norm.mean() / theirs.norm.mean()) - 1) < 0.02
        assert float((snr * (ours.mean - theirs.mean)).square().mean().sqrt()) < 0.05
        assert float(ours.ess.median()) > 500
        assert float((found.log_density(y, snr) - law.log_density(y, snr)).abs().median()) < 0.05


def test_the_profile_of_a_heavy_tail_is_the_one_in_closed_form() -> None:
    log_density, law, _ = closed(5)["t"]
    ours, theirs = (
        brenier.probe(one, [0.5, 2.0], queries=512, seed=k, progress=False)
        for k, one in enumerate((from_density(log_density, 5), law))
    )
    for name in ("mean_localization", "m_star"):
        error = np.hypot(ours[f"{name}_se"], theirs[f"{name}_se"])
        assert bool((abs(ours[name] - theirs[name]) < 4 * error).all()), name
    assert bool((ours.ess > 500).all())
    assert "localization_error" in ours


def test_draws_and_moments_are_the_law_s() -> None:
    log_density, law, at = closed(5)["mixture"]
    found = from_density(log_density, 5, at=at)
    x, same = found.sample(3000, 1), law.sample(3000, 2)
    for axis in (0, 4):
        assert scipy.stats.ks_2samp(x[:, axis].numpy(), same[:, axis].numpy()).pvalue > 1e-3
    mean, covariance = found.moments()
    np.testing.assert_allclose(mean, law.moments()[0], atol=0.1)
    np.testing.assert_allclose(covariance, law.moments()[1], atol=0.3)
    far = found.moved(torch.full((5,), 1e6, dtype=torch.float64))
    y = same[:3]
    np.testing.assert_allclose(far.denoise(y + 1e6, 1.0) - 1e6, found.denoise(y, 1.0), atol=1e-6)


def test_no_log_concave_law_is_told_to_have_a_bottleneck() -> None:
    law = from_density(lambda x: -(x**2).sum(1) / 2 - 0.1 * (x**4).sum(1), 6)
    profile = brenier.probe(law, [0.5, 1.5], queries=256, progress=False)
    assert float(profile.m_star.max()) < 0.01


def test_a_posterior_that_its_draws_miss_is_refused() -> None:
    def two(x: Any) -> Any:
        """A mode that is never found, and posteriors at points of it."""
        return np.logaddexp(-(x**2).sum(1) / 2, -((x - 50) ** 2).sum(1) / 2 * 1e4 + 60)

    law = from_density(two, 4)
    y = 3.0 * torch.full((8, 4), 49.0, dtype=torch.float64)
    with pytest.raises(ValueError, match="effective sample size below 64") as caught:
        law.localize(y + torch.randn((8, 4), generator=torch.Generator().manual_seed(0)).double(), 3.0)
    assert "at=[x]" in str(caught.value)


@pytest.mark.parametrize("log_density", [lambda x: np.zeros(len(x)), lambda x: -np.log1p((x**2).sum(1))])
def test_what_has_no_integral_is_refused(log_density: Any) -> None:
    with pytest.raises(ValueError, match="no finite integral"):
        from_density(log_density, 5)


@pytest.mark.parametrize("df", [3.0, np.inf])
def test_a_mixture_of_t_laws_has_the_posterior_of_its_scales(df: float) -> None:
    shape = np.array([[1.0, 0.3], [0.3, 2.0]])
    mixture = TMixture(np.ones(1), np.array([[1.0, -1.0]]), shape[None], df)
    exact = Elliptical.student(df, 2, location=[1.0, -1.0], scale=shape) if np.isfinite(df) else None
    same = exact or GaussianMixture([1], [[1.0, -1.0]], [shape])
    y = torch.tensor([[0.5, 2.0], [-4.0, 1.0]], dtype=torch.float64)
    given = mixture.given(y, 1.3)
    np.testing.assert_allclose(given.log_density, same.log_density(y, 1.3), atol=1e-4)
    mean = torch.einsum("nc,ncd->nd", given.log_weights.exp(), given.mean) + y
    np.testing.assert_allclose(mean / 1.3, same.denoise(y, 1.3), atol=1e-4)
    x = np.array([[0.0, 0.0], [3.0, -2.0]])
    np.testing.assert_allclose(mixture.logs(x)[:, 0], same.density()(torch.from_numpy(x)), atol=1e-4)
    drawn = mixture.sample(4000, np.random.default_rng(0))
    assert scipy.stats.ks_2samp(drawn[:, 1], same.sample(4000, 1)[:, 1].numpy()).pvalue > 1e-3


def test_a_product_of_kinks_is_followed_well_enough_to_be_probed() -> None:
    law = from_density(lambda x: -abs(x).sum(1), 4)
    same = Product([brenier.load_target("scipy:laplace")] * 4)
    x = same.sample(64, 1)
    y = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = law.localize(y, 1.0), same.localize(y, 1.0)
    assert float((ours.norm / theirs.norm - 1).abs().mean()) < 0.05
