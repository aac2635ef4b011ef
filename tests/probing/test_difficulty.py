import math

import numpy as np
import pytest
import torch
from jaxtyping import Float
from scipy.special import ive
from torch import Tensor

from brenier.laws.base import Localization, Target
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.probing.difficulty import dimension_level, distances, integral, local_dimension, undecided

LEVELS = np.geomspace(10, 0.01, 14).tolist()


class Sphere(Target):
    """The uniform law on a sphere of dimension k and radius 1 in the first k + 1 of d coordinates.

    The posterior is von Mises and Fisher's, of concentration r |y| with y projected: with A = I_{p/2}/I_{p/2-1},
    p = k + 1, the mean is A times the direction of y and the trace of the covariance is 1 - A^2.
    """

    name, dtype, device = "sphere", torch.float64, torch.device("cpu")

    def __init__(self, k: int, d: int) -> None:
        self.p, self.event_shape = k + 1, (d,)

    def scales(self) -> tuple[float, float]:
        return 0.1, 1.0

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        x = torch.randn((n, self.dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x[:, self.p :] = 0
        return x / x.norm(dim=1, keepdim=True)

    def _mean(self, y: Float[Tensor, "n d"], snr: float) -> tuple[Tensor, Tensor]:
        inside = y.clone()
        inside[:, self.p :] = 0
        size = inside.norm(dim=1)
        kappa = (snr * size).numpy()
        ratio = torch.from_numpy(ive(self.p / 2, kappa) / ive(self.p / 2 - 1, kappa))
        return ratio, ratio[:, None] * inside / size[:, None]

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        return self._mean(y, snr)[1]

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        ratio = self._mean(y, snr)[0]
        return Localization(norm=snr**2 * ratio, trace=snr**2 * (1 - ratio**2))

    def to(self, device: object = None, dtype: object = None) -> "Sphere":
        return self


def subspace(k: int, d: int = 64) -> GaussianMixture:
    """A normal law on a subspace of dimension k, turned, its deviations from 0.5 to 1.5."""
    basis = np.linalg.qr(np.random.default_rng(k).normal(size=(d, k)))[0]
    return GaussianMixture([1.0], np.zeros((1, d)), [(basis * np.linspace(0.5, 1.5, k) ** 2) @ basis.T])


@pytest.mark.parametrize("k", [2, 8, 20])
@pytest.mark.parametrize("law", [subspace, lambda k: Sphere(k, 64)], ids=["subspace", "sphere"])
def test_flipd_finds_the_dimension_to_a_tenth(law, k: int):
    law = law(k)
    x = law.sample(200, 1)
    found = local_dimension(law, x, dimension_level(law, x[:64], LEVELS))
    assert abs(float(found.median()) - k) < 0.1 * k
    assert float(((found - k).abs() < 0.1 * k).double().mean()) > 0.9


def test_flipd_of_data_finds_the_dimension_where_there_are_points_enough():
    x = Sphere(2, 64).sample(4000, 3)
    law = Empirical(x)
    fresh = Sphere(2, 64).sample(50, 4)
    found = local_dimension(law, fresh, dimension_level(law, fresh, LEVELS))
    assert abs(float(found.median()) - 2) < 0.2


def test_flipd_of_a_normal_law_is_its_formula():
    law = GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 4.0]])
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    sigma = 0.5
    variance, noise = np.array([1.0, 4.0]), 0.25
    expected = (variance / (variance + noise)).sum() + (
        (np.array([1, 2]) * noise / (variance + noise)) ** 2
    ).sum() / noise
    np.testing.assert_allclose(local_dimension(law, x, sigma).numpy(), [expected], rtol=1e-12)


def test_what_is_undecided_are_the_principal_components_of_the_posterior():
    random = np.random.default_rng(0)
    root = random.normal(size=(6, 6))
    covariance = root @ root.T
    law, snr = GaussianMixture([1.0], np.zeros((1, 6)), [covariance]), 0.7
    expected, axes = np.linalg.eigh(snr**2 * covariance @ np.linalg.inv(snr**2 * covariance + np.eye(6)))
    y = torch.from_numpy(random.normal(size=(3, 6)))
    values, vectors, mean = undecided(law, y, snr, 2)
    for row in range(3):
        np.testing.assert_allclose(values[row].numpy(), expected[::-1][:2], rtol=5e-3)
        cosines = np.abs((vectors[row].numpy() * axes[:, ::-1].T[:2]).sum(1))
        assert cosines.min() > 0.99
    np.testing.assert_allclose(mean, law.denoise(y, snr))


def test_distances_leave_out_the_point_itself_among_its_own():
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    near, second = distances(x, None, 2)
    assert near.tolist() == [1, 1, 2, 4]
    assert second.tolist() == [3, 2, 3, 6]
    near, far = distances(x, x[:1], 5)
    assert near.tolist() == far.tolist() == [0, 1, 3, 7]


def test_an_integral_over_log_r_is_by_trapezoids():
    snrs = np.array([0.1, 1.0, 10.0])
    np.testing.assert_allclose(integral(np.ones((3, 2)), snrs), [math.log(100)] * 2)
    np.testing.assert_allclose(integral(np.array([[5.0]]), snrs[:1]), [5.0])
