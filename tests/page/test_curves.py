import diffusers
import numpy as np
import pytest
import xarray as xr

import brenier
from brenier.page.charts import Chart, Series
from brenier.page.curves import CHARTS
from brenier.probing.verdicts import VERDICTS


def charts(found: xr.Dataset) -> dict[str, Chart]:
    return {chart["title"]: chart for chart in CHARTS[found.attrs["kind"]](found, 0)}


def curves(chart: Chart) -> dict[str, Series]:
    return {one["name"]: one for one in chart["series"]}


@pytest.fixture(scope="module")
def evaluation() -> xr.Dataset:
    generator = np.random.default_rng(0)
    return brenier.evaluate(
        generator.normal(size=(80, 2)),
        generator.normal(size=(80, 2)),
        train=generator.normal(size=(90, 2)),
        progress=False,
    )


def test_an_evaluation_has_its_metrics_with_intervals_beside_a_perfect_samplers(evaluation: xr.Dataset) -> None:
    chart = charts(evaluation)["How good, how mixed, how copied"]
    samples, perfect = curves(chart).values()
    assert chart["rows"] == samples["y"]
    for row, name in enumerate(chart["rows"]):
        metric = {"closer than data are": "closer"}.get(name, name)
        one = evaluation.sel(metric=metric)
        assert [samples[key][row] for key in ("x", "low", "high")] == [
            float(one[key]) for key in ("value", "low", "high")
        ]
        assert perfect["x"][row] == float(one["control"])


def test_closeness_is_the_share_of_points_below(evaluation: xr.Dataset) -> None:
    samples = curves(charts(evaluation)["How close to the training data"])["samples"]
    for x, share in zip(samples["x"], samples["y"], strict=True):
        assert share == pytest.approx(float((evaluation["closeness"] <= x).mean()))


def test_pairs_in_the_plane_are_where_they_are(evaluation: xr.Dataset) -> None:
    one = curves(charts(evaluation)["The closest pairs: sample and nearest training point"])["sample"]
    np.testing.assert_array_equal(np.stack([one["x"], one["y"]], 1), evaluation["pair_points"].values[:, 0])
    assert one["notes"] == [f"no. {k}" for k in evaluation["pair_sample"].values]


def test_verdicts_are_marks_in_rows() -> None:
    found = brenier.calibrate("digits-network", snrs=[0.5, 2.0], queries=64, progress=False)
    chart = charts(found)["Verdicts"]
    seen = {
        (x, row): verdict for verdict, one in curves(chart).items() for x, row in zip(one["x"], one["y"], strict=True)
    }
    assert len(seen) == 2 * 8
    for k, snr in enumerate(found["snr"].values):
        assert seen[snr, "probing"] == VERDICTS[int(found["verdict_probing"][k])]
        assert seen[snr, "symmetry"] == VERDICTS[int(found["level"].sel(check="asymmetry")[k])]
    ratio = curves(charts(found)["Balance: predicted over true error"])["all directions"]
    assert ratio["y"] == found["balance"].values.tolist()
    assert ratio["se"] == found["balance_se"].values.tolist()


def test_points_of_a_difficulty_are_coloured_by_it() -> None:
    points = np.random.default_rng(0).normal(size=(60, 2))
    found = brenier.difficulty(points, n=20, steps=4, progress=False)
    made = charts(found)
    dots = made["Where the hard points lie"]["series"][0]
    assert dots["shades"] == found["integral_localization"].values.tolist()
    np.testing.assert_array_equal(np.stack([dots["x"], dots["y"]], 1), found["points"].values)
    against = curves(made["Does it tell of the error?"])
    errors = {note: y for one in against.values() for note, y in zip(one["notes"], one["y"], strict=True)}
    assert errors == {f"no. {k}": float(error) for k, error in enumerate(found["error"].values)}
    ranks = curves(made["What tells of the error, and of its worst tenth?"])["Spearman's correlation"]
    assert ranks["x"] == found["rho"].values.tolist()
    assert ranks["low"] == found["rho_low"].values.tolist()


def test_levels_of_an_audit_are_counted_from_one() -> None:
    found = brenier.audit(diffusers.EulerDiscreteScheduler(), steps=5)
    executed = curves(charts(found)["Noise levels visited"])["executed"]
    assert executed["x"] == [1, 2, 3, 4, 5]
    assert executed["y"] == found["executed"].values.tolist()


def test_a_chain_has_its_rates_and_bounds() -> None:
    found = brenier.chain("two-points", "normal", steps=10, progress=False)
    made = charts(found)
    rates = curves(made["Growth rate on the way back"])
    assert rates["measured"]["y"] == [None if np.isnan(x) else x for x in found["rate"].values]
    star = found["rate_star"].sel(perturbation=5).values
    assert rates["by zeta*, M = 5"]["y"] == [x if np.isfinite(x) else None for x in star]
    assert "Relative entropy (KL) and total variation (TV)" in made


def test_more_marks_than_a_browser_likes_are_thinned() -> None:
    points = np.random.default_rng(0).normal(size=(60, 3))
    found = brenier.difficulty(points, n=20, steps=2, check=False, progress=False)
    many = found.isel(sample=np.zeros(4100, dtype=int))
    (one,) = charts(many)["Difficulty, sorted"]["series"]
    assert one["name"] == "point, 1,367 of 4,100"
    assert len(one["x"]) == len(one["notes"]) == 1367
