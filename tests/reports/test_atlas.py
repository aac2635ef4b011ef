import io
import json

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from brenier.reports import show, to_json

LAWS = {"normal": (0.0, np.nan, np.inf), "t(3)": (0.315, 32.0, 0.0), "t(3), d = 3": (0.81, 8.0, np.nan)}


@pytest.fixture
def atlas() -> xr.Dataset:
    snr = np.array([0.5, 8.0, 32.0])
    highest, place, onset = (np.array(each) for each in zip(*LAWS.values(), strict=True))
    m_star = np.where(snr == place[:, None], highest[:, None], 0.0)
    return xr.Dataset(
        {
            "m_star": (("entry", "snr"), m_star),
            "m_star_se": (("entry", "snr"), np.where(m_star == 0.81, 0.02, 0.0)),
            "bottleneck_snr": ("entry", place),
            "bottleneck_m_star": ("entry", highest),
            "onset_snr": ("entry", onset),
        },
        {"snr": snr, "name": ("entry", list(LAWS)), "group": ("entry", ["tails", "tails", "radial, to d = 1,000"])},
        {"kind": "atlas"},
    )


@pytest.mark.parametrize("width", [40, 80])
def test_an_atlas_has_a_row_for_each_law(atlas: xr.Dataset, width: int) -> None:
    stream = io.StringIO()
    show(atlas, console=Console(file=stream, width=width))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert text.startswith("3 laws at 3 SNRs from 0.5 to 32\n")
    if width == 80:
        rows = [line.split() for line in text.splitlines() if line.startswith(("normal", "t(3)"))]
        assert rows[0] == ["normal", "tails", "0", "-", "none"]
        assert rows[1] == ["t(3)", "tails", "0.315", "32", "0"]
        assert rows[2][-5:] == ["0.810", "±0.020", "8", "below", "0.5"]


def test_what_is_nowhere_is_null_in_json(atlas: xr.Dataset) -> None:
    rows = json.loads(to_json(atlas))["rows"]
    assert rows[0]["bottleneck_snr"] is None
    assert rows[-1]["bottleneck_m_star"] == 0.81
