import numpy as np
import pytest
import torch

from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.training.points import SAMPLED, Moments, Points

CPU = torch.device("cpu")


def test_moments_of_data_are_those_of_their_weights() -> None:
    data = np.random.default_rng(0).normal(3.0, [1.0, 5.0], size=(5000, 2))
    weights = np.arange(5000.0)
    moments = Moments.of(Empirical(data, weights, dtype=torch.float64))
    mean = np.average(data, axis=0, weights=weights)
    assert moments.centre.numpy() == pytest.approx(mean, rel=1e-6)
    assert moments.deviation == pytest.approx(np.sqrt(np.average((data - mean) ** 2, axis=0, weights=weights).mean()))


def test_moments_of_an_explicit_law_are_within_their_error() -> None:
    law = GaussianMixture([0.25, 0.75], [[0.0, 0.0], [4.0, 0.0]], [1.0, [[2.0, 1.0], [1.0, 1.0]]])
    moments = Moments.of(law)
    variances = np.array([0.25 * 1 + 0.75 * 2 + 0.25 * 0.75 * 16, 1.0])
    five = 5 * np.sqrt(variances / SAMPLED)
    assert np.all(np.abs(moments.centre.numpy() - [3.0, 0.0]) < five)
    assert moments.deviation == pytest.approx(np.sqrt(variances.mean()), rel=0.02)


@pytest.mark.parametrize("law", [GaussianMixture([1.0], [2.0], [0.0]), Empirical(np.full((5, 2), 0.1))])
def test_a_single_point_is_nothing_to_train_on(law: Empirical | GaussianMixture) -> None:
    with pytest.raises(ValueError, match="is a single point"):
        Moments.of(law)


def test_rows_come_by_their_weights_and_in_their_shape() -> None:
    data = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    for weights, chances in ((None, [1 / 3] * 3), ([1.0, 0.0, 3.0], [0.25, 0, 0.75])):
        batch = Points(Empirical(data, weights), CPU).batch(8000, 1)[0]
        assert batch.shape == (8000, 2, 2)
        shares = [(batch == torch.from_numpy(row)).all(2).all(1).float().mean().item() for row in data]
        assert shares == pytest.approx(chances, abs=5 * np.sqrt(0.25 / 8000))


def test_an_explicit_law_is_sampled_afresh() -> None:
    points = Points(GaussianMixture([1.0], [[1.0, 2.0]], [1.0]), CPU)
    assert points.batch(8, 0)[0].dtype == torch.float32
    assert torch.equal(points.batch(8, 0)[0], points.batch(8, 0)[0])
    assert not torch.equal(points.batch(8, 0)[0], points.batch(8, 1)[0])


def test_classes_come_with_their_points() -> None:
    data = torch.arange(12.0).reshape(6, 2)
    points = Points(Empirical(data), torch.device("cpu"), torch.tensor([0, 1, 2, 0, 1, 2]))
    rows, labels = points.batch(50, 3)
    assert labels is not None
    torch.testing.assert_close(rows[:, 0] / 2 % 3, labels.float())
    assert points.labelled
    with pytest.raises(ValueError, match="pairs name point 6: data has points 0 to 5"):
        points.take(torch.tensor([0, 6]))
