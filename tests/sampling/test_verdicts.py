import math

import numpy as np
import pytest
import xarray as xr

from brenier.sampling.verdicts import against_hand, predicted

DIMS = ("criterion", "solver", "steps")


@pytest.fixture
def found() -> xr.Dataset:
    """At 2 and at 4 steps: error is best, then no better than log-snr by far."""
    rms = np.array([[[0.1, 0.3]], [[0.2, 0.3]], [[0.4, 0.2]]])
    return xr.Dataset(
        {
            "rms": (DIMS, rms),
            "rms_se": (DIMS, np.full(rms.shape, 0.01)),
            "predicted": (DIMS, rms * [[[1.0, 2.0]], [[3.0, 4.0]], [[math.nan, 5.0]]]),
        },
        {"criterion": ["error", "karras", "log-snr"], "solver": ["heun"], "steps": [2, 4]},
    )


def test_the_best_by_hand_is_that_of_each_cell(found: xr.Dataset) -> None:
    verdict = against_hand(found)
    assert verdict is not None
    assert (verdict.cells, verdict.good) == (2, 1)
    assert verdict.best == pytest.approx(math.sqrt(2 * 2 / 3))
    assert verdict.karras == pytest.approx(math.sqrt(2 * 1))
    unsure = against_hand(found.assign(rms_se=found["rms_se"] * 5))
    assert unsure is not None
    assert unsure.good == 2


def test_what_was_not_compared_has_no_verdict(found: xr.Dataset) -> None:
    assert against_hand(found.sel(criterion=["karras", "log-snr"])) is None
    assert against_hand(found.sel(criterion=["error"])) is None
    assert against_hand(found.assign(rms=found["rms"].where(found["criterion"] != "error"))) is None
    verdict = against_hand(found.sel(criterion=["error", "log-snr"]))
    assert verdict is not None
    assert math.isnan(verdict.karras)


def test_predictions_are_told_by_their_ratios(found: xr.Dataset) -> None:
    assert predicted(found) == pytest.approx((1, 3, 5))
    assert predicted(found.assign(predicted=found["predicted"] * math.nan)) is None
