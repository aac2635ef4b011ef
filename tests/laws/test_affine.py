import math

import numpy as np
import pytest
import scipy.stats
import torch

import brenier
from brenier.laws.affine import Rotated, affine
from brenier.laws.elliptical import Elliptical
from brenier.laws.mixture import GaussianMixture
from brenier.laws.product import Product
from brenier.laws.uniform import Uniform

SHIFT = torch.tensor([0.5, -1.0], dtype=torch.float64)
TURN = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
ALONG, BESIDE = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
GENERAL = torch.tensor([[1.0, 0.5], [-0.3, 2.0]], dtype=torch.float64)
Y = 2 * torch.randn((12, 2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def mixture() -> GaussianMixture:
    return GaussianMixture([0.3, 0.7], [[1.0, 0.0], [-1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.0, 0.0], [0.0, 0.1]]])


def agree(law: brenier.Target, same: brenier.Target, y: torch.Tensor = Y, snr: float = 1.3) -> None:
    ours, theirs = law.localize(y, snr), same.localize(y, snr)
    np.testing.assert_allclose(ours.norm, theirs.norm, rtol=3e-6)
    np.testing.assert_allclose(ours.trace, theirs.trace, rtol=1e-9)
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(law.denoise(y, snr), theirs.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(law.log_density(y, snr), same.log_density(y, snr), rtol=1e-9)


def test_a_turned_law_is_what_the_closed_form_makes_of_it() -> None:
    law, matrix = mixture(), 1.7 * TURN
    exact = affine(law, matrix, SHIFT)
    assert isinstance(exact, GaussianMixture)
    agree(Rotated(law, 1.7, TURN, SHIFT), exact)
    np.testing.assert_allclose(Rotated(law, 1.7, TURN, SHIFT).density()(Y), exact.density()(Y), rtol=1e-9)
    for found, expected in zip(Rotated(law, 1.7, TURN, SHIFT).moments(), exact.moments(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(
    "matrix", [GENERAL, TURN, 2.0, [[2.0, 0.0], [0.0, 3.0]], [[1.0, 1.0]], [[1, 0], [1, 1], [0, 2]]]
)
def test_any_image_of_a_mixture_has_its_moments_and_draws(matrix) -> None:
    law = mixture()
    image, a = affine(law, matrix), 2 * torch.eye(2).double() if np.ndim(matrix) == 0 else torch.as_tensor(matrix)
    mean, covariance = law.moments()
    np.testing.assert_allclose(image.moments()[0], a.double() @ mean, atol=1e-12)
    np.testing.assert_allclose(image.moments()[1], a.double() @ covariance @ a.double().T, atol=1e-12)


def test_elliptical_laws_take_any_matrix_that_can_be_inverted() -> None:
    law = Elliptical.student(4, 2, location=[1.0, 0.0], scale=[1.0, 3.0])
    place = GENERAL @ torch.tensor([1.0, 0.0], dtype=torch.float64) + SHIFT
    same = Elliptical.student(
        4, 2, location=place, scale=GENERAL @ torch.diag(torch.tensor([1.0, 3.0]).double()) @ GENERAL.T
    )
    agree(affine(law, GENERAL, SHIFT), same)
    assert affine(Elliptical.student(4, 2), TURN).spread.numel() == 1


def test_laws_on_the_line_are_stretched_and_turned_round() -> None:
    law, y = brenier.load_target("scipy:gamma(2)"), torch.linspace(-9, 3, 20, dtype=torch.float64)[:, None]
    agree(affine(law, 2.0, 1.0), brenier.load_target("scipy:gamma(2, loc=1, scale=2)"), y)
    image = affine(law, -2.0, 1.0)
    same = brenier.OnTheLine(lambda x: scipy.stats.gamma(2, scale=2).logpdf(1 - x), (-np.inf, 1))
    agree(image, same, y)
    np.testing.assert_allclose(image.breakpoints(1.0), -2 * law.breakpoints(2.0).flip(0) / 2 + 1, atol=1e-12)
    at, one = torch.linspace(-4, 0.5, 7, dtype=torch.float64), torch.ones(7, dtype=torch.float64)
    for sigma in (0.0, 0.4):
        found, expected = (part.distribution(at, one, sigma * one) for part in (image, same))
        np.testing.assert_allclose(found.log_cdf, expected.log_cdf, rtol=1e-7)
    mixed = affine(brenier.Mixture([1, 1], [2.0, law]), -0.5)
    assert mixed.point_masses()[0].tolist() == [[-1.0]]


def test_boxes_and_products_take_what_is_diagonal() -> None:
    box = affine(Uniform([0, 0], [1, 2]), [[-1.0, 0.0], [0.0, 2.0]], [0.0, 1.0])
    assert isinstance(box, Uniform)
    assert (box.low.tolist(), box.high.tolist()) == ([-1, 1], [0, 5])
    law = Product([brenier.load_target("scipy:laplace")] * 2)
    image = affine(law, [[2.0, 0.0], [0.0, 0.5]], SHIFT)
    same = Product([scipy.stats.laplace(0.5, 2), scipy.stats.laplace(-1, 0.5)])
    agree(image, same)


def test_a_law_in_a_subspace_has_noise_beside_it() -> None:
    line = brenier.load_target("scipy:t(3)")
    image = affine(line, ALONG[:, None], SHIFT)
    assert (image.dim, image.density()) == (2, None)
    own = (Y - 1.3 * SHIFT) @ ALONG[:, None]
    np.testing.assert_allclose(image.localize(Y, 1.3).norm, line.localize(own, 1.3).norm, rtol=1e-12)
    beside = (Y - 1.3 * SHIFT) @ BESIDE
    expected = line.log_density(own, 1.3) - beside.square() / 2 - math.log(2 * math.pi) / 2
    np.testing.assert_allclose(image.log_density(Y, 1.3), expected, rtol=1e-10)
    x = image.sample(100, 2)
    np.testing.assert_allclose((x - SHIFT) @ BESIDE, np.zeros(100), atol=1e-12)
    far = affine(line, ALONG[:, None], [1e6, 0.0])
    assert far.moved(-far.origin).shift.tolist() == [0, 0]


def test_a_turned_product_is_probed_as_the_product() -> None:
    law = Product([brenier.load_target("scipy:laplace")] * 2)
    ours, theirs = (brenier.probe(one, [1.0], queries=1024, progress=False) for one in (affine(law, TURN), law))
    gap = abs(float(ours.mean_localization[0]) - float(theirs.mean_localization[0]))
    assert gap < 4 * math.hypot(float(ours.mean_localization_se[0]), float(theirs.mean_localization_se[0]))


@pytest.mark.parametrize(
    ("law", "matrix", "shift", "words"),
    [
        (Product([scipy.stats.t(3), scipy.stats.t(3)]), GENERAL, 0.0, "give a GaussianMixture or an Elliptical"),
        (Elliptical.student(3, 2), [[1.0, 0.0]], 0.0, "orthogonal columns of one length"),
        (Uniform(0, 1), 0.0, 0.0, ""),
        (mixture(), [[1.0, 2.0, 3.0]], 0.0, r"shape \(m, 2\), got \(1, 3\)"),
        (mixture(), 1.0, [1.0, 2.0, 3.0], "shift must be a number or 2 numbers"),
        (mixture(), math.nan, 0.0, "matrix must be finite"),
        (np.zeros((4, 2)), 1.0, 0.0, "data @ matrix.T"),
    ],
)
def test_what_has_no_known_image_is_refused(law, matrix, shift, words: str) -> None:
    if not words:
        assert affine(law, matrix).point_masses()[1].tolist() == [1.0]
        return
    with pytest.raises(ValueError, match=words):
        affine(law, matrix, shift)
