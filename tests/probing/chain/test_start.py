"""What a chain can start from."""

import numpy as np
import pytest
import torch

from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.start import start_law

LINE = GaussianMixture([1], [0], 1.0, name="line")
SPACE = GaussianMixture([1], [[0.0, 0, 0]], 1.0, name="space")


@pytest.mark.parametrize(
    ("start", "target", "point"),
    [
        (0, LINE, [0]),
        (-1.5, LINE, [-1.5]),
        ("-2", LINE, [-2]),
        (2, SPACE, [2, 2, 2]),
        ("1,-2,0.5", SPACE, [1, -2, 0.5]),
    ],
)
def test_points(start, target, point):
    law = start_law(start, target)
    places, masses = law.point_masses()
    assert places.tolist() == [point]
    assert masses.tolist() == [1]


def test_arrays_of_numbers_are_points_and_rows_are_samples():
    assert start_law(np.array([1.0, 2, 3]), SPACE).point_masses()[0].tolist() == [[1, 2, 3]]
    assert start_law(torch.tensor([1.0, 2, 3]), SPACE).name == "point 1,2,3"
    assert isinstance(start_law(np.ones((5, 3)), SPACE), Empirical)


@pytest.mark.parametrize(("name", "beta", "variance"), [("normal", 4, 1), ("equilibrium", 4, 0.25)])
def test_named_laws(name, beta, variance):
    law = start_law(name, SPACE, beta)
    assert law.variances.tolist() == [[variance]]
    assert law.dim == 3


def test_laws_files_and_names(tmp_path):
    np.save(tmp_path / "points.npy", np.arange(12.0).reshape(4, 3))
    assert len(start_law(str(tmp_path / "points.npy"), SPACE)) == 4
    assert start_law("two-points", LINE).name == "two-points"
    assert start_law(LINE, LINE).name == "line"
    single = GaussianMixture([1], [0], 1.0, dtype=torch.float32)
    assert start_law("uniform", single).dtype == torch.float32


@pytest.mark.parametrize(
    ("start", "target", "message"),
    [
        ([1.0, 2.0], SPACE, "start is a point of 2 coordinates, space has 3 dimensions: give one finite number, or 3"),
        ("1,2", LINE, "start is a point of 2 coordinates, line has 1 dimension: give one finite number, or 1"),
        (float("nan"), LINE, "give one finite number"),
        (LINE, SPACE, "points of line have shape \\(1,\\), those of space \\(3,\\)"),
        ("two-points", SPACE, "have shape \\(1,\\), those of space \\(3,\\)"),
        ("nowhere.npy", LINE, "does not exist"),
        ("normla", LINE, "no target 'normla'"),
    ],
)
def test_refused(start, target, message):
    with pytest.raises(ValueError, match=message):
        start_law(start, target)


def test_images_are_put_in_the_order_of_the_law():
    images = np.random.default_rng(0).normal(size=(6, 3, 4, 5))
    with pytest.warns(UserWarning, match="channels of data come last"):
        found = start_law(np.moveaxis(images, 1, -1), Empirical(images, dtype=torch.float64))
    np.testing.assert_allclose(found.point_masses()[0], images.reshape(6, -1), atol=1e-6)
