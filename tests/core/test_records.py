import json
from pathlib import Path
from typing import Any, get_args

import diffusers
import h5py
import numpy as np
import pytest
import torch
import xarray as xr

import brenier
from brenier.core import records
from brenier.core.kinds import RECORDS, Kind
from brenier.core.records import check, read, table
from brenier.core.writing import write_dataset
from brenier.metrics.evaluation import evaluate
from brenier.probing.chain.run import densities
from brenier.references import paper
from brenier.sampling.comparison import compare
from brenier.sampling.schedule import Schedule

POINTS = np.random.default_rng(0).normal(size=(60, 2))


@pytest.fixture(scope="module")
def mapped() -> brenier.SemiDiscrete:
    return brenier.SemiDiscrete(POINTS[:5]).fit(0.2, progress=False)


@pytest.fixture(scope="module")
def flowed() -> brenier.MongeAmpere:
    return brenier.MongeAmpere("normal", "four-gaussians", method="linear").fit(2, progress=False)


@pytest.fixture(scope="module")
def made(mapped: brenier.SemiDiscrete, flowed: brenier.MongeAmpere) -> dict[str, xr.Dataset]:
    """One result of every kind that is cheap."""
    cloud = brenier.Empirical(POINTS, name="cloud")
    network = brenier.load_target("digits-network", data="digits")
    return {
        "profile": brenier.probe(cloud, [0.5, 2.0], queries=20, progress=False),
        "chain": brenier.chain("four-gaussians", 0.0, steps=3, score_error=0.1, progress=False),
        "densities": densities("two-points", steps=2, points=11),
        "calibration": brenier.calibrate(network, snrs=[1.0, 2.0], queries=4, progress=False),
        "comparison": compare(
            cloud, [3, 4], solvers=["euler"], criteria=["karras", "cosine"], n=10, pilots=8, progress=False
        ),
        "evaluation": evaluate(POINTS, cloud, progress=False),
        "audit": brenier.audit(diffusers.DDPMScheduler(), steps=3),
        "transport": mapped.to_dataset(),
        "flow": flowed.to_dataset(),
        "paper figure": paper.numbers("fig1"),
        "schedule": Schedule([3.0, 1.0, 0.0], "heun", criterion="karras", predicted_error=[0.1, 0.2]).to_dataset(),
    }


def test_every_kind_says_what_it_is_and_what_made_it(made: dict[str, xr.Dataset]) -> None:
    for kind, data in made.items():
        assert data.attrs["kind"] == kind
        assert data.attrs["brenier_version"]
        assert torch.__version__.startswith(data.attrs["torch_version"])  # which may lack "+cu130"
        check(data, kind)  # type: ignore[arg-type]
    about = made["profile"].attrs
    assert (about["law"], about["dim"], about["dtype"], about["device"]) == ("cloud", 2, "float32", "cpu")
    assert json.loads(about["call"]) == {"snrs": [0.5, 2.0], "perturbations": [1.0, 2.0, 5.0, 20.0]}


def test_every_variable_has_a_name_and_a_unit(made: dict[str, xr.Dataset]) -> None:
    for kind, data in made.items():
        for name, values in data.variables.items():
            own = kind == "flow" and str(name).startswith("features_")  # numbers of the potential
            if not own and name not in {"metric", "long_name"}:
                assert set(values.attrs) >= {"long_name", "units"}, (kind, name)
    assert made["profile"]["m_star_se"].attrs == {
        "long_name": "standard error of minimal relative tail m*",
        "units": "1",
    }


def test_the_ends_of_brackets_are_labelled_after_what_they_are_of(made: dict[str, xr.Dataset]) -> None:
    profile = made["profile"]
    assert profile["m_star_low"].attrs == {"long_name": "lower end of minimal relative tail m*", "units": "1"}
    assert profile["survival_high"].attrs["long_name"] == "upper end of survival function s_r(u) = P(L_r > u)"
    beside = records.dataset("profile", {"model_m_star_high": (("snr",), [1.0])}, {"snr": [1.0]})
    assert beside["model_m_star_high"].attrs["long_name"] == "upper end of minimal relative tail m* of the model"
    # A whole name goes before its ending.
    low = records.dataset("evaluation", {"low": (("metric",), [1.0])}, {"metric": ["fid"]})
    assert low["low"].attrs["long_name"] == "lower end of its 95% interval"


def test_of_a_profile_behind_data_the_resolved_part_is_to_be_relied_on(made: dict[str, xr.Dataset]) -> None:
    profile = made["profile"].assign(resolved_snr=((), 0.5))
    assert records.resolved(profile)["snr"].to_numpy().tolist() == [0.5]
    assert records.resolved(profile)["survival"].shape == (1, profile.sizes["u"])
    assert records.resolved(profile.assign(resolved_snr=((), 2.0))).sizes["snr"] == 2
    assert records.resolved(profile.assign(resolved_snr=((), np.nan))).sizes["snr"] == 0
    other = brenier.probe("two-points", [0.5, 2.0], progress=False)
    assert records.resolved(other) is other


def test_what_is_required_is_labelled() -> None:
    assert set(RECORDS) == set(get_args(Kind))
    for record in RECORDS.values():
        assert {name.removesuffix("_se") for name in record.required} <= {*record.labels, "metric"}


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_a_file_comes_back_as_it_was(made: dict[str, xr.Dataset], tmp_path: Path, engine: Any) -> None:
    for kind, data in made.items():
        file = tmp_path / f"{kind}.nc"
        if engine == "h5netcdf":
            write_dataset(data, file)
        else:  # netCDF-3, as other programs write it
            about = {name.replace("mode", "mood"): value for name, value in data.attrs.items()}  # which it cannot write
            data.drop_attrs(deep=False).assign_attrs(about).to_netcdf(file, engine="scipy", format="NETCDF3_64BIT")
            file.write_bytes(file.read_bytes().replace(b"mood", b"mode"))
        found = read(file)
        assert set(found.variables) == set(data.variables)
        for name, values in data.variables.items():
            np.testing.assert_array_equal(found[name].to_numpy(), values.to_numpy())
        assert found.attrs["kind"] == kind
        assert read(file, kind).attrs.keys() == data.attrs.keys()  # type: ignore[arg-type]


def test_other_files_are_refused_in_one_line(made: dict[str, xr.Dataset], tmp_path: Path) -> None:
    write_dataset(made["chain"], tmp_path / "chain.nc")
    write_dataset(made["profile"].drop_vars("m_star"), tmp_path / "half.nc")
    write_dataset(made["flow"].drop_attrs(deep=False).assign_attrs(kind="flow"), tmp_path / "mute.nc")
    write_dataset(xr.Dataset({"m_star": ("snr", [1.0])}), tmp_path / "other.nc")
    write_dataset(xr.Dataset(attrs={"kind": "poem"}), tmp_path / "poem.nc")
    (tmp_path / "text.nc").write_text("text")
    (tmp_path / "classic.nc").write_bytes(b"CDF\x01 no more")
    with h5py.File(tmp_path / "plain.nc", "w") as file:
        file["x"] = np.zeros((2, 3))  # without names of its axes
    for name, words in {
        "none.nc": "does not exist: give what `brenier probe -o` saved",
        "": "is a folder",
        "text.nc": "is not a netCDF file",
        "classic.nc": "is not a netCDF file",
        "other.nc": "does not say what it holds",
        "plain.nc": "does not say what it holds",
        "poem.nc": "holds 'poem', which is not known",
        "chain.nc": "holds a chain, and a profile is wanted: give what `brenier probe -o` saved",
        "half.nc": "is not a profile, it has no variable 'm_star'",
    }.items():
        with pytest.raises(ValueError, match=words) as caught:
            read(tmp_path / name, "profile")
        assert "\n" not in str(caught.value)
        assert repr(str(tmp_path / name)) in str(caught.value)
    with pytest.raises(ValueError, match="is not a flow, it does not say its family"):
        read(tmp_path / "mute.nc")


def test_what_a_file_says_is_printable(made: dict[str, xr.Dataset], tmp_path: Path) -> None:
    """A terminal would follow it, and SVG knows no place for it."""
    write_dataset(made["profile"].assign_attrs(law="\x1b[2J mine\x9b\u202e", start="two  words"), tmp_path / "a.nc")
    about = read(tmp_path / "a.nc").attrs
    assert (about["law"], about["start"]) == ("\ufffd[2J mine\ufffd\ufffd", "two words")


def test_what_lost_its_attributes_is_taken_for_what_its_variables_say(made: dict[str, xr.Dataset]) -> None:
    bare = made["evaluation"].drop_attrs()
    check(bare, "evaluation", ("value", "low"))
    with pytest.raises(ValueError, match="an evaluation, it does not say its samples"):
        check(bare, "evaluation")
    with pytest.raises(ValueError, match="holds an evaluation, and a chain is wanted"):
        check(made["evaluation"], "chain")


# Tables


def test_a_table_has_one_row_for_each_thing_that_the_kind_is_about(made: dict[str, xr.Dataset]) -> None:
    rows = {"profile": 2, "chain": 4, "calibration": 2, "comparison": 4, "transport": 5, "flow": 2, "schedule": 3}
    rows |= {"evaluation": made["evaluation"].sizes["metric"], "densities": 33}
    for kind, count in rows.items():
        frame = table(made[kind])
        assert len(frame) == count, kind
        assert frame.attrs["kind"] == kind
        assert set(frame.attrs["units"]) <= set(frame.columns)


def test_columns_hold_the_numbers_of_the_dataset(made: dict[str, xr.Dataset]) -> None:
    profile, frame = made["profile"], table(made["profile"])
    assert list(frame["snr"]) == [0.5, 2.0]
    for name in ("m_star", "m_star_se", "mean_localization", "ess", "sigma"):
        np.testing.assert_array_equal(frame[name], profile[name])
    np.testing.assert_array_equal(frame["zeta_star_5"], profile["zeta_star"].sel(perturbation=5))
    np.testing.assert_array_equal(frame["zeta_star_5_se"], profile["zeta_star_se"].sel(perturbation=5))
    np.testing.assert_array_equal(frame["zeta_star_5_low"], profile["zeta_star_low"].sel(perturbation=5))
    np.testing.assert_array_equal(frame["m_star_high"], profile["m_star_high"])
    np.testing.assert_array_equal(frame["bracket_width"], profile["bracket_width"])
    assert not {"localization", "survival", "survival_low", "onset_snr", "resolved_snr"} & set(frame.columns)

    frame = table(made["comparison"]).set_index(["criterion", "solver", "steps"])
    cell = made["comparison"].sel(criterion="cosine", solver="euler", steps=4)
    assert frame.loc[("cosine", "euler", 4), "rms"] == float(cell["rms"])
    assert frame.loc[("cosine", "euler", 4), "evaluations"] == int(cell["evaluations"])

    frame = table(made["calibration"])
    np.testing.assert_array_equal(frame["level_balance"], made["calibration"]["level"].sel(check="balance"))
    assert {"contrast_moved", "contrast_moved_se", "denoising_error_se"} <= set(frame.columns)
    assert list(table(made["evaluation"])["metric"]) == made["evaluation"]["metric"].to_numpy().tolist()


def test_fitted_objects_and_schedules_have_tables(mapped: brenier.SemiDiscrete, flowed: brenier.MongeAmpere) -> None:
    frame = table(Schedule([3.0, 1.0, 0.0], "heun", criterion="karras", predicted_error=[0.1, 0.2]))
    assert frame["sigma"].tolist() == [3.0, 1.0, 0.0]
    assert frame["snr"].tolist() == [1 / 3, 1.0, np.inf]
    np.testing.assert_array_equal(frame["predicted_error"], [0.1, 0.2, np.nan])
    assert table(mapped)[["points_0", "points_1"]].to_numpy() == pytest.approx(POINTS[:5])
    assert table(flowed)["step"].tolist() == [1, 2]


def test_results_of_one_kind_have_one_table(made: dict[str, xr.Dataset]) -> None:
    first, other = made["profile"], brenier.probe("two-points", [1.0], progress=False)
    both = table({"cloud": first, "two": other})
    assert both["result"].tolist() == ["cloud", "cloud", "two"]
    assert list(both.columns)[1] == "snr"
    for name, alone in (("cloud", table(first)), ("two", table(other))):
        rows = both[both["result"] == name].reset_index(drop=True)
        for column in alone:
            np.testing.assert_array_equal(rows[column].to_numpy(), alone[column].to_numpy())
    assert both.attrs["kind"] == "profile"
    assert both.attrs["units"]["mmse"] == "squared unit of the data"
    with pytest.raises(ValueError, match="of one kind, not of chain and profile"):
        table({"a": first, "b": made["chain"]})
    with pytest.raises(ValueError, match="not of none"):
        table({})


def test_what_has_no_table_is_refused(made: dict[str, xr.Dataset]) -> None:
    with pytest.raises(TypeError, match="got list"):
        table([1.0])
    with pytest.raises(ValueError, match="not one of which there is a table"):
        table(xr.Dataset({"a": ("k", [1.0])}))
    with pytest.raises(ValueError, match="not one of which there is a table"):
        table(made["paper figure"])


def test_columns_may_hold_infinite_richness() -> None:
    data = records.dataset(
        "profile", {"zeta_star": (("snr", "perturbation"), [[1.0, 2.0]])}, {"snr": [1.0], "perturbation": [1.5, np.inf]}
    )
    assert list(table(data).columns) == ["snr", "zeta_star_1.5", "zeta_star_inf"]
