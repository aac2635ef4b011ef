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
from brenier.laws.space.cubature import ByCubature
from brenier.laws.uniform import Uniform

SPREAD = [1.0, 4.0, 0.25]
PAIRS: dict[str, Any] = {}
for dim in (2, 3):
    PAIRS[f"t{dim}"] = (
        scipy.stats.multivariate_t(np.zeros(dim), np.diag(SPREAD[:dim]), df=3).logpdf,
        Elliptical.student(3, dim, scale=SPREAD[:dim]),
    )
    mixed = GaussianMixture([0.4, 0.6], [[-2.0] * dim, [1.0] * dim], [0.2, SPREAD[:dim]])
    PAIRS[f"mixture{dim}"] = (mixed.density(), mixed)
    PAIRS[f"laplace{dim}"] = (
        lambda x: -abs(x).sum(1),
        Product([brenier.load_target("scipy:laplace")] * dim),
    )


@pytest.mark.parametrize("name", PAIRS)
def test_posteriors_are_those_of_the_law_in_closed_form(name: str) -> None:
    log_density, law = PAIRS[name]
    found = from_density(log_density, law.dim)
    assert isinstance(found, ByCubature)
    x = law.sample(48, 2)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    smallest, largest = law.scales()
    for snr in (0.3 / largest, 1 / smallest, 30 / smallest):
        y = snr * x + z
        ours, theirs = found.localize(y, snr), law.localize(y, snr)
        np.testing.assert_allclose(ours.norm, theirs.norm, rtol=2e-3)
        np.testing.assert_allclose(ours.trace, theirs.trace, rtol=2e-3)
        np.testing.assert_allclose(snr * ours.mean, snr * theirs.mean, atol=1e-3)
        np.testing.assert_allclose(found.score(y, snr), law.score(y, snr), atol=1e-3)
        np.testing.assert_allclose(found.log_density(y, snr), law.log_density(y, snr), atol=1e-3)


def test_draws_moments_and_scales_are_the_law_s() -> None:
    log_density, law = PAIRS["mixture2"]
    found = from_density(log_density, 2)
    for ours, theirs in zip(found.moments(), law.moments(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    x, same = found.sample(3000, 1), law.sample(3000, 2)
    for axis in range(2):
        assert scipy.stats.ks_2samp(x[:, axis].numpy(), same[:, axis].numpy()).pvalue > 1e-3
    normal = from_density(lambda x: -(x**2).sum(1) / 2 / 9, 2)
    np.testing.assert_allclose(normal.scales(), (3, 3), rtol=0.08)
    values = found.density()(x[:5])
    np.testing.assert_allclose(values, law.density()(x[:5]), atol=1e-4)


def test_a_profile_is_that_of_the_closed_form_within_its_errors() -> None:
    log_density, law = PAIRS["t2"]
    ours, theirs = (
        brenier.probe(one, [0.5, 2.0, 8.0], queries=1024, seed=k, progress=False)
        for k, one in enumerate((from_density(log_density, 2), law))
    )
    for name in ("mean_localization", "m_star", "mmse"):
        error = np.hypot(ours[f"{name}_se"], theirs[f"{name}_se"])
        assert bool((abs(ours[name] - theirs[name]) < 4 * error).all()), name
    assert ours.attrs["square_integrable"] == 1


def test_it_is_sampled_and_planned_for_as_any_other() -> None:
    ring = from_density(lambda x: -((np.linalg.norm(x, axis=1) - 1) ** 2) / 2 / 0.1**2, 2, name="ring")
    points = brenier.sample(ring, 64, steps=20, schedule="karras", progress=False).points
    radius = torch.linalg.vector_norm(points, dim=1)
    assert abs(float(radius.mean()) - 1) < 0.05
    assert float(radius.std()) < 0.15


def test_jumps_are_resolved_up_to_an_snr_that_it_knows() -> None:
    ball = from_density(lambda x: np.where((x**2).sum(1) <= 1, 0.0, -np.inf), 3, name="ball")
    last = ball.snr_range[1]
    assert 10 < last < 1000
    np.testing.assert_allclose(ball.moments()[1], np.eye(3) / 5, atol=3e-3)
    with pytest.raises(ValueError, match="jumps"):
        ball.localize(torch.zeros(2, 3).double(), 2 * last)
    assert brenier.default_snrs(ball)[-1] <= last * (1 + 1e-9)
    box = from_density(lambda x: np.where((abs(x) <= 1).all(1), 0.0, -np.inf), 2)
    same, y = Uniform([-1.0, -1.0], [1.0, 1.0]), torch.linspace(-3, 3, 8).double().view(4, 2)
    np.testing.assert_allclose(box.localize(y, 1.5).norm, same.localize(y, 1.5).norm, rtol=0.01)


def test_a_law_far_away_is_moved_to_where_it_is_computed() -> None:
    log_density, law = PAIRS["t2"]
    near = from_density(log_density, 2)
    far = near.moved(torch.tensor([1e6, -1e6], dtype=torch.float64))
    np.testing.assert_allclose(far.origin, [1e6, -1e6], atol=1)
    y = law.sample(5, 1)
    moved = far.denoise(y + torch.tensor([1e6, -1e6]).double(), 1.0)
    np.testing.assert_allclose(moved - torch.tensor([1e6, -1e6]).double(), near.denoise(y, 1.0), atol=1e-6)
    found = from_density(lambda x: log_density(x - np.array([1e4, 0.0])), 2, at=[[1e4 + 1, 0.0]])
    np.testing.assert_allclose(found.origin, [1e4, 0.0], atol=0.1)


@pytest.mark.parametrize(
    ("log_density", "words"),
    [
        (lambda x: np.zeros(len(x)), "does not fall fast enough"),
        (lambda x: -np.log1p((x**2).sum(1)), "does not fall fast enough, like -2"),
        (lambda x: -1.02 * np.log1p((x**2).sum(1)), "like -2.04 log|x| only"),
        (lambda x: (x**2).sum(1), "does not fall fast enough|log_density is inf"),
        (lambda x: -1.99 * np.log(np.linalg.norm(x - 0.3, axis=1)) - (x**2).sum(1), "too rough|is inf at x"),
    ],
)
def test_what_is_no_law_is_refused(log_density: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("|x|", r"\|x\|")):
        from_density(log_density, 2)


def test_without_second_moment_it_says_so() -> None:
    law = from_density(scipy.stats.multivariate_t(np.zeros(2), np.eye(2), df=1.5).logpdf, 2)
    assert not law.square_integrable
    with pytest.raises(NotImplementedError, match="no second moment"):
        law.moments()
