import numpy as np
import xarray as xr

from brenier.reports.schedule import sentences


def test_sentences_weigh_error_against_what_is_made_by_hand() -> None:
    shape = (3, 1, 2)
    rms = np.array([[0.1, 0.3], [0.2, 0.3], [0.4, 0.2]]).reshape(shape)  # error, karras, log-snr at 2 steps and at 4
    dims = ("criterion", "solver", "steps")
    found = xr.Dataset(
        {
            "rms": (dims, rms),
            "rms_se": (dims, np.full(shape, 0.01)),
            "predicted": (dims, 1.1 * rms),
            "w2_reference": 0.25,
            "w2_reference_se": 0.01,
        },
        {"criterion": ["error", "karras", "log-snr"], "solver": ["heun"], "steps": [2, 4]},
    )
    first, second, third = sentences(found)
    assert "in 1 of 2 cells" in first
    # By hand the best is 2 and 2/3 times as bad: 1.15 in the geometric mean; Karras 2 times and once: 1.41.
    assert "leaves 1.15 times its error, karras 1.41 times." in first
    assert second == "Predicted over measured RMS: 1.1 in the median, 1.1 to 1.1 in all."
    assert third == "The reference end points lie at W2 = 0.25 ± 0.01 from the law."
    assert sentences(found.sel(criterion=["karras"]))[0] == second
