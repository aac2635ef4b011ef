import numpy as np
import pytest

from brenier.laws.levels import default_snrs, given_snrs
from brenier.laws.mixture import GaussianMixture


def test_levels_are_given_either_way() -> None:
    np.testing.assert_array_equal(given_snrs(None, [0.5, 2.0, 1.0]), [0.5, 1.0, 2.0])
    np.testing.assert_array_equal(given_snrs([2.0, 0.5, 1.0], None), [0.5, 1.0, 2.0])
    np.testing.assert_array_equal(given_snrs(None, 4), [0.25])
    assert given_snrs(None, None) is None


@pytest.mark.parametrize(
    ("snrs", "sigmas", "said"),
    [
        ([1.0], [1.0], "say the same: give one of them"),
        (None, [1.0, 0.0], "every sigma must be positive and finite, got 0.0"),
        (None, -1.0, "every sigma must be positive and finite, got -1.0"),
        (None, [np.inf], "every sigma must be positive and finite, got inf"),
        (None, [], "at least one number"),
        (None, [2.0, 2.0], "given twice"),
    ],
)
def test_levels_that_are_none_are_refused(snrs: object, sigmas: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        given_snrs(snrs, sigmas)  # type: ignore[arg-type]


def test_the_default_grid_spans_the_lengths_of_the_law() -> None:
    law = GaussianMixture([1.0], [[0.0, 0.0]], [0.25])
    np.testing.assert_allclose(default_snrs(law, 3), [0.2, 2.0, 20.0])
    with pytest.raises(ValueError, match="at least 1"):
        default_snrs(law, 0)
