import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.dom import minidom

import numpy as np
import pytest
import xarray as xr
from matplotlib import cbook
from matplotlib.figure import Figure
from matplotlib.text import Text

from brenier import bottleneck, table
from brenier.core.reading.files import line

Command = Callable[..., Any]  # to a `Result` of conftest.py


@pytest.fixture
def points(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(40, 3)))
    return tmp_path / "points.npy"


@pytest.mark.parametrize("options", [(), ("--snr", "0.5,1,2"), ("--about", "atoms", "--holdout", "0.2")])
def test_a_saved_profile_prints_as_when_it_was_made(brenier: Command, points: Path, options: tuple[str, ...]) -> None:
    saved = points.with_name("profile.nc")
    made = brenier("probe", points, "--queries", 50, "-o", saved, *options)
    assert made[0] == 0
    assert made[1].count("\n") > 4
    assert brenier("show", saved) == made


def test_json_holds_the_rows_of_the_table_and_the_bottleneck(brenier: Command, points: Path) -> None:
    saved = points.with_name("profile.nc")
    made = brenier("probe", points, "--queries", 50, "--snr", "0.5,4", "-o", saved, "--json")
    assert brenier("show", saved, "--json") == made
    found = json.loads(made[1], parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    profile = xr.load_dataset(saved, engine="h5netcdf")
    frame, kept = table(profile), bottleneck(profile)
    assert (found["kind"], found["attributes"]["atoms"], found["units"]["mmse"]) == (
        "profile",
        40,
        "squared unit of the data",
    )
    for row, (_, expected) in zip(found["rows"], frame.iterrows(), strict=True):
        assert [np.nan if value is None else value for value in row.values()] == pytest.approx(
            expected.where(np.isfinite(expected)).to_numpy(), rel=1e-15, nan_ok=True
        )
    assert {name: value for name, value in kept.items() if np.isfinite(value)} == {
        name: value for name, value in found["bottleneck"].items() if value is not None
    }


def test_a_schedule_prints_as_json_when_it_is_made_and_after(brenier: Command, tmp_path: Path) -> None:
    saved = tmp_path / "schedule.json"
    made = brenier("plan", "normal", "--steps", 3, "--criterion", "karras", "-o", saved, "--json")
    assert [row["sigma"] for row in json.loads(made[1])["rows"]] == json.loads(saved.read_text())["sigmas"]
    assert brenier("show", saved, "--json") == made


def test_a_flow_in_closed_form_prints_as_json_without_rows(brenier: Command, points: Path) -> None:
    saved = points.with_name("flow.nc")
    made = brenier("flow", points, "--method", "gaussian", "-o", saved, "--json")
    assert brenier("show", saved, "--json") == made
    found = json.loads(made[1])
    assert (found["kind"], found["rows"], found["attributes"]["method"]) == ("flow", [], "gaussian")


def test_the_figure_of_a_saved_profile_is_the_one_drawn_when_it_was_made(brenier: Command, points: Path) -> None:
    saved, first, second = (points.with_name(name) for name in ("p.nc", "first.png", "second.png"))
    assert brenier("probe", points, "--queries", 50, "--snrs", 5, "-o", saved, "--figure", first)[0] == 0
    second.write_text("old")
    brenier("show", saved, "--figure", second).refused("--force")
    assert brenier("show", saved, "--figure", second, "--force")[0] == 0
    assert first.read_bytes()[:4] == b"\x89PNG"
    assert first.read_bytes() == second.read_bytes()


def test_what_is_no_profile_and_no_chain_is_refused(brenier: Command, tmp_path: Path) -> None:
    xr.Dataset({"m_star": ("snr", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    xr.Dataset({"w2_forward": ("step", [1.0])}, attrs={"kind": "chain"}).to_netcdf(
        tmp_path / "half.nc", engine="h5netcdf"
    )
    (tmp_path / "text.nc").write_text("not netCDF")
    (tmp_path / "empty.nc").write_bytes(b"")
    (tmp_path / "cut.nc").write_bytes((tmp_path / "other.nc").read_bytes()[:3000])
    before = sorted(tmp_path.iterdir())
    for name, word in {
        "missing.nc": "does not exist",
        "": "folder",
        "other.nc": "does not say what it holds",
        "half.nc": "not a chain, it has no variable 'time'",
        "text.nc": "not a netCDF file",
        "empty.nc": "not a netCDF file",
        "cut.nc": "not a netCDF file",
    }.items():
        brenier("show", tmp_path / name).refused(word)
    assert sorted(tmp_path.iterdir()) == before


def test_several_profiles_have_one_table_and_one_json(brenier: Command, tmp_path: Path) -> None:
    one, two, frame = tmp_path / "one.nc", tmp_path / "two.nc", tmp_path / "both.csv"
    for file, law in ((one, "two-points"), (two, "normal")):
        assert brenier("probe", law, "--snr", "1,3", "-o", file, "-q").code == 0
    assert "Side by side" in brenier("show", one, two, "--table", frame).out
    found = json.loads(brenier("show", one, two, "--json").out)
    alone = {file.stem: json.loads(brenier("show", file, "--json").out) for file in (one, two)}
    assert found == alone
    rows = [line.split(",")[:2] for line in frame.read_text().splitlines()]
    assert rows == [["result", "snr"], ["one", "1.0"], ["one", "3.0"], ["two", "1.0"], ["two", "3.0"]]


# Names of files

NAMES = ("$x_1^2$ \x1b[31m\x9b[bold]\udcff\u202e<&'%s{0}\\frac{", "_a$\nb")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_and_drawn_as_they_are_and_do_nothing(
    brenier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What steers a terminal, or has no place in XML, is drawn as a box."""
    monkeypatch.chdir(tmp_path)
    data, saved, other = (Path(f"{letter}{name}") for letter in ("x", "", "o"))
    with data.with_name(f"{data.name}.npy").open("wb") as stream:
        np.save(stream, np.random.default_rng(0).normal(size=(60, 2)))
    drawn: list[str] = []

    def draw(figure: Figure, *arguments: Any, **options: Any) -> None:
        drawn.extend(text.get_text() for text in figure.findobj(Text))
        real(figure, *arguments, **options)

    real = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", draw)
    options = ("--queries", 9, "--snr", 1, "-o", f"./{saved}.nc", "--figure", "one.svg")
    made = brenier("probe", f"./{data}.npy", *options)
    assert (made.code, made.err) == (0, "")
    Path(f"{other}.nc").write_bytes(Path(f"{saved}.nc").read_bytes())
    shown = brenier("show", f"./{saved}.nc", f"./{other}.nc", "--figure", "both.svg")
    assert (shown.code, shown.err) == (0, "")
    wanted = line(name)
    assert wanted in made.out
    assert all(letter.isprintable() for letter in (made.out + shown.out).replace("\n", ""))
    mine = [text for text in drawn if wanted.replace("$", r"\$") in text]
    assert len(mine) >= 4
    assert not any(cbook.is_math_text(text) for text in mine if "x" + wanted[:1] in text.replace("\\", ""))
    for figure in tmp_path.glob("*.svg"):
        minidom.parse(str(figure))
    brenier("show", f"./gone{name}.nc").refused("does not exist")
