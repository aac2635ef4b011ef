from typing import Any

import numpy as np
import pytest
import xarray as xr

from brenier.metrics.copying import memorisation
from brenier.metrics.verdicts import against_control, copies, frechet_needs


@pytest.mark.parametrize(
    ("value", "se", "interval", "verdict"),
    [
        (0.5, 0.03, (0.4, 0.6), "same"),
        (0.7, 0.03, (0.6, 0.8), "more"),
        (0.3, 0.03, (0.2, 0.4), "less"),
        (0.0, 0.0, (0.0, 0.5), "same"),  # without an error the intervals decide
    ],
)
def test_two_standard_errors_decide(value: float, se: float, interval: tuple[float, float], verdict: str) -> None:
    control_se = 0.04 if se else 0.0
    row = {"value": value, "value_se": se, "low": interval[0], "high": interval[1]}
    row |= {"control": 0.5, "control_se": control_se, "control_low": 0.45, "control_high": 0.55}
    found = xr.Dataset({name: ("metric", [number]) for name, number in row.items()}, {"metric": ["closer"]})
    assert against_control(found, "closer") == verdict


@pytest.mark.parametrize(
    ("about", "needs"),
    [
        ({"features": "raw", "dim": 20, "n": 150, "n_reference": 300}, (20, 150, 200)),
        ({"features": "raw", "dim": 20, "n": 200, "n_reference": 200}, None),
        ({"features": "pca, 10 components", "dim": 99, "n": 90, "n_reference": 80}, (10, 80, 100)),
        ({"features": "digits", "dim": 99, "n": 90, "n_reference": 80}, None),
    ],
)
def test_ten_points_for_each_feature_are_enough(about: dict[str, Any], needs: tuple[int, int, int] | None) -> None:
    assert frechet_needs(xr.Dataset(attrs=about)) == needs


def test_copies_are_more_than_data_among_data() -> None:
    rng = np.random.default_rng(0)
    data, fresh = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    assert copies(memorisation(data + 1e-4, data))
    assert not copies(memorisation(fresh, data))
