import numpy as np
import pytest
import scipy.stats
import torch

from brenier.laws.space.asked import find_modes, read_density


def test_arrays_and_tensors_are_both_taken() -> None:
    x = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 3.0]])
    for function in (lambda x: -(x**2).sum(1), lambda x: -(torch.linalg.vector_norm(x, dim=1) ** 2)):
        asked, _ = read_density(function, 2)
        np.testing.assert_allclose(asked(x), -(x**2).sum(1))
    asked, _ = read_density(scipy.stats.multivariate_t(np.zeros(2), np.eye(2), df=3).logpdf, 2)
    assert asked(x[:1]).shape == (1,)  # scipy makes a number of it


@pytest.mark.parametrize(
    ("function", "words", "kind"),
    [
        (3.0, "must be a function", TypeError),
        (lambda x: x.sum(), "one number per point", ValueError),
        (lambda x: x, r"got shape \(2, 2\)", ValueError),
        (lambda x: x[:, 5], "fails on an array x of shape", TypeError),
        (lambda x: np.full(len(x), np.nan), "log_density is nan at x", ValueError),
        (lambda x: np.full(len(x), np.inf), "log_density is inf at x", ValueError),
        (lambda x: ["a"] * len(x), "must return numbers", TypeError),
        (scipy.stats.multinomial(3, [0.5, 0.5]), "discrete", ValueError),
        (scipy.stats.multinomial(3, [0.5, 0.5]).logpmf, "discrete", ValueError),
    ],
)
def test_what_is_no_density_is_refused_in_one_line(function, words: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=words) as caught:
        read_density(function, 2)
    assert "\n" not in str(caught.value)


def test_modes_are_found_with_their_widths_and_where_they_are_given() -> None:
    spots = np.array([[0.0, 0.0, 0.0], [40.0, 0.0, -3.0]])

    def log_density(x):
        far = -(((x - spots[1]) / 0.01) ** 2).sum(1) / 2 + 8
        return np.logaddexp(-(x**2).sum(1) / 2, far)

    asked, _ = read_density(log_density, 3)
    found = find_modes(asked, 3, [[40.001, 0.0, -3.0]])
    places = np.array([mode.place for mode in found])
    for spot, width in zip(spots, (1.0, 0.01), strict=True):
        (k,) = np.flatnonzero(np.linalg.norm(places - spot, axis=1) < 0.1 * width)
        assert bool((found[k].widths < 3 * width).all() & (found[k].widths > 0.7 * width).all())
    with pytest.raises(ValueError, match="points of 3 coordinates, got 2"):
        find_modes(asked, 3, [[1.0, 2.0]])
    with pytest.raises(ValueError, match="-inf wherever"):
        find_modes(lambda x: np.full(len(x), -np.inf), 3)
