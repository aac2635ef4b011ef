import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from brenier.core import work
from brenier.transport.mongeampere import Fitted, MongeAmpere, learned, model
from brenier.transport.mongeampere.flow import Diverged
from brenier.transport.mongeampere.portrait import portrait
from brenier.transport.mongeampere.potentials import Quadratic

Command = Callable[..., Any]  # to a `Result` of conftest.py
MEAN, COVARIANCE = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]])
NORMAL = '{"type": "gaussian-mixture", "weights": [1], "means": [[1, -2]], "covariances": [[[2, 0.6], [0.6, 0.5]]]}'
SPACE = '{"type": "gaussian-mixture", "weights": [1], "means": [[0, 0, 0]], "covariances": [1]}'
BANANA = "dim = 2\ndef log_density(x):\n    return -(x[:, 0]**2)/2 - 2*(x[:, 1] - x[:, 0]**2/2)**2\n"
BROKEN = {
    "empty.py": "",
    "no_dim.py": "def log_density(x):\n    return -x.square().sum(1)\n",
    "half_dim.py": "dim = 2.5\ndef log_density(x):\n    return -x.square().sum(1)\n",
    "syntax.py": "dim = = 2\n",
    "raises.py": "raise KeyError('nothing here')\n",
    "exits.py": "import sys\nsys.exit('bye')\n",
    "inside.py": "dim = 2\ndef log_density(x):\n    return -x[:, 5]\n",
    "shape.py": "dim = 2\ndef log_density(x):\n    return -x.square()\n",
    "constant.py": "dim = 2\ndef log_density(x):\n    return 0 * x.detach()[:, 0]\n",
    "origin.py": "dim = 2\ndef log_density(x):\n    return x[:, 0].log()\n",
    "far.py": "import torch\ndim = 2\ndef log_density(x):\n"
    "    return torch.where(x.norm(dim=1) < 1, -x.square().sum(1), -torch.inf)\n",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data and laws, as the working directory."""
    rng = np.random.default_rng(0)
    plane = rng.multivariate_normal(MEAN, COVARIANCE, 200)
    np.save(tmp_path / "plane.npy", plane)
    np.save(tmp_path / "images.npy", rng.normal(size=(50, 2, 1)))
    np.save(tmp_path / "one.npy", [[3.0, 1.0]])
    np.save(tmp_path / "same.npy", np.full((20, 2), 3.0))
    np.save(tmp_path / "twice.npy", np.concatenate([plane, plane]))
    np.save(tmp_path / "flat.npy", plane * [1, 0])
    np.save(tmp_path / "gap.npy", np.where(plane > 2, np.nan, plane))
    (tmp_path / "law.json").write_text(NORMAL)
    (tmp_path / "space.json").write_text(SPACE)
    (tmp_path / "banana.py").write_text(BANANA)
    for name, text in BROKEN.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No longer training before the first step than before others."""
    monkeypatch.setattr(learned, "FIRST", 1)


def read(path: str) -> xr.Dataset:
    return xr.load_dataset(path, engine="h5netcdf")


def rows(out: str) -> dict[str, str]:
    """What stands beside each name of the table."""
    parts = [line.split("  ", 1) for line in out.splitlines()[2:]]
    return {part[0]: " ".join(part[1].split()) for part in parts if len(part) == 2}


# What it prints and saves


def test_it_saves_the_map_and_the_samples_that_fit_finds(brenier: Command, files: Path) -> None:
    options = ("--method", "linear", "--steps", 3, "--rule", "constant", "--eta", 0.3, "--units", 20, "--seed", 3)
    saved = ("-o", "map.nc", "--samples", "x.npy", "-n", 50, "--figure", "f.png")
    code, out, err = brenier("flow", "law.json", *options, *saved)
    assert (code, err) == (0, "")
    again = MongeAmpere("normal", "law.json", method="linear", units=20).fit(
        3, rule="constant", eta=0.3, seed=3, progress=False
    )
    loaded, data = MongeAmpere.load("map.nc"), read("map.nc")
    y = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(loaded.map(y), again.map(y))
    torch.testing.assert_close(loaded.sample(50, 3), again.sample(50, 3))
    np.testing.assert_array_equal(np.load("x.npy"), again.sample(50, 3).numpy())
    assert (data.attrs["target"], data.attrs["method"], data.attrs["drive"]) == ("law.json", "linear", "density")
    assert (data.attrs["rule"], data.attrs["eta"], data.attrs["seed"]) == ("constant", 0.3, 3)
    assert Path("f.png").read_bytes()[:4] == b"\x89PNG"
    assert out.startswith("law.json in 2 dimensions, from normal, seed 3\n")
    table = rows(out)
    assert (table["method"], table["steps"], table["it ended"]) == ("linear", "3", "after its last step")
    assert table["driven by"].startswith("density")
    assert float(table["seconds"]) >= 0
    expected = portrait(again, 3).attrs
    for name, row in (("w2", "W2 to the target"), ("kl", "KL(rho | target)")):
        value, _, error = table[row].split()[:3]
        assert float(value) == pytest.approx(expected[name], abs=expected[f"{name}_se"] / 5)
        assert float(error) == pytest.approx(expected[f"{name}_se"], rel=0.06)
    assert float(table["least curvature"].split()[0]) == pytest.approx(expected["curvature"], rel=1e-2)


def test_what_is_measured_is_right(brenier: Command, files: Path) -> None:
    """Between normal laws the map stays affine, and KL is known."""
    options = ("--drive", "density", "--steps", 2, "--rule", "constant", "--eta", 0.1)
    assert brenier("flow", "law.json", *options, "-o", "map.nc", "-q") == (0, "", "")
    found, data = MongeAmpere.load("map.nc"), read("map.nc")
    assert (data.attrs["kind"], data.attrs["family"]) == ("flow", "quadratic")
    places = torch.eye(2, dtype=torch.float64)
    b = found.map(torch.zeros(1, 2, dtype=torch.float64))[0].numpy()
    A = found.map(places).numpy() - b
    S, m = A @ A.T, b - MEAN
    inverse = np.linalg.inv(COVARIANCE)
    kl = (np.trace(inverse @ S) - 2 + m @ inverse @ m - np.linalg.slogdet(inverse @ S)[1]) / 2
    about = data.attrs
    assert kl > 10 * about["kl_se"]
    assert about["kl"] == pytest.approx(kl, abs=4 * about["kl_se"])
    # h is quadratic in y: its variance is that of a quadratic form of normal variables
    M = (A @ inverse @ A - np.eye(2)) / 2
    variance = 2 * np.sum(M**2) + np.sum((A @ inverse @ m) ** 2)
    assert about["kl_spread"] == pytest.approx(math.sqrt(variance), rel=0.1)
    assert about["curvature"] == pytest.approx(np.linalg.eigvalsh(A)[0], rel=1e-6)
    assert about["nonconvex"] == 0


def test_the_closed_form_is_at_the_floor(brenier: Command, files: Path) -> None:
    found = brenier("flow", "law.json", "--method", "gaussian", "-o", "map.nc", "--figure", "f.svg")
    assert (found.code, found.err) == (0, "")
    about = read("map.nc").attrs
    assert about["kl"] == pytest.approx(0, abs=1e-9)
    assert about["kl_spread"] < 1e-9
    assert about["w2"] == pytest.approx(about["floor"], abs=4 * math.hypot(about["w2_se"], about["floor_se"]))
    table = rows(found.out)
    assert table["it ended"] == "in closed form"
    assert "steps" not in table
    assert "driven by" not in table


def test_data_are_learned_from_and_keep_their_shape(brenier: Command, files: Path) -> None:
    options = ("--minutes", 1e-9, "--units", 8, "-o", "map.nc", "--samples", "x.npy", "-n", 7)
    found = brenier("flow", "images.npy", *options)
    assert (found.code, found.err) == (0, "")
    assert np.load("x.npy").shape == (7, 2, 1)
    table = rows(found.out)
    assert table["it ended"] == "by --minutes, before its last step"
    assert table["driven by"].startswith("classifier")
    assert "by the classifier" in table["KL(rho | target)"]
    data = read("map.nc")
    kept, points = data["target_points"].to_numpy(), np.load("images.npy").reshape(50, 2)
    assert np.linalg.norm(kept[:, None] - points, axis=2).min(1).max() < 1e-6
    assert data.attrs["steps"] == 1


def test_a_python_file_is_a_law_up_to_a_constant(brenier: Command, files: Path) -> None:
    found = brenier("flow", "banana.py", "--method", "linear", "--steps", 1, "--units", 10, "-o", "map.nc")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("banana.py in 2 dimensions")
    assert "up to the constant" in rows(found.out)["KL(rho | target)"]
    assert "W2 to the target" not in rows(found.out)
    density = read("map.nc")["target_density"]
    first, second = density["x1"].to_numpy(), density["x2"].to_numpy()
    assert float(density.sum()) * (first[1] - first[0]) * (second[1] - second[0]) == pytest.approx(1)
    exact = math.exp(-0.5 - 2 * (0.3 - 0.5) ** 2) / math.exp(-2 * 0.3**2)
    found = [float(density.interp(x1=a, x2=0.3)) for a in (1.0, 0.0)]
    assert found[0] / found[1] == pytest.approx(exact, rel=0.02)


def test_a_score_may_drive_it(brenier: Command, files: Path) -> None:
    options = ("--drive", "score", "--minutes", 1e-9, "--units", 8, "-o", "map.nc")
    assert rows(brenier("flow", "banana.py", *options).out)["driven by"].startswith("score")


def test_a_laplace_reference(brenier: Command, files: Path) -> None:
    shared = ("banana.py", "--reference", "laplace", "--method", "linear", "--units", 8)
    brenier("flow", *shared, "--steps", 3, "-o", "map.nc", "-q")
    data = xr.load_dataset("map.nc")
    assert data.attrs["reference"] == "laplace"
    assert data["root"].shape == (2, 2)
    brenier("flow", *shared, "--steps", 2, "--start", "map.nc", "-o", "on.nc", "--figure", "on.png", "-q")
    brenier("flow", "plane.npy", "--reference", "laplace", "-o", "no.nc").refused("plane.npy can be sampled")


def test_a_reference_that_is_nearly_one_is_suggested(brenier: Command) -> None:
    said = brenier("flow", "normal", "--reference", "triangulr", "-o", "a.nc")
    said.refused("no reference 'triangulr'", "did you mean 'triangular'")


def test_a_triangular_reference_has_the_banana(brenier: Command, files: Path) -> None:
    options = ("--reference", "triangular", "--method", "linear", "--units", 8, "--steps", 2)
    found = rows(brenier("flow", "banana.py", *options, "-o", "map.nc", "--figure", "map.png").out)
    assert not found["log Z"].startswith("refused")
    data = xr.load_dataset("map.nc")
    assert data.attrs["reference"] == "triangular"
    assert data["shift"].shape == (2, 6)
    brenier("flow", "banana.py", *options[:-1], 3, "--start", "map.nc", "--resume", "-o", "on.nc", "-q")


def test_annealing_is_for_networks_with_densities(brenier: Command, files: Path) -> None:
    options = ("banana.py", "--units", 8, "--steps", 4, "-q")
    brenier("flow", *options, "--anneal", "-o", "slow.nc")
    brenier("flow", *options, "-o", "map.nc")
    slow, found = (xr.load_dataset(name)["kl"].to_numpy() for name in ("slow.nc", "map.nc"))
    assert slow[0] < found[0] - 0.1  # a quarter of the way asked for no more
    words = 'anneal is for method "neural" and drive "density"'
    brenier("flow", *options, "--anneal", "--method", "linear", "-o", "no.nc").refused(words)
    brenier("flow", "plane.npy", "--anneal", "-o", "no.nc", "-q").refused(words)


def test_a_reference_of_ones_own(brenier: Command, files: Path) -> None:
    options = ("--reference", "plane.npy", "--method", "gaussian", "-o", "map.nc", "-q")
    assert brenier("flow", "law.json", *options) == (0, "", "")
    found = MongeAmpere.load("map.nc")
    assert found.reference.name == "plane.npy"
    pushed = found.map(np.load("plane.npy").astype(np.float32))
    np.testing.assert_allclose(pushed.mean(0), MEAN, atol=1e-9)
    np.testing.assert_allclose(np.cov(pushed.T, bias=True), COVARIANCE, atol=1e-9)


def test_a_saved_map_shows_as_when_it_was_made_but_for_the_seconds(brenier: Command, files: Path) -> None:
    options = ("--method", "linear", "--steps", 2, "--units", 10, "-o", "map.nc", "--figure", "a.svg")
    made = brenier("flow", "four-gaussians", *options)
    shown = brenier("show", "map.nc", "--figure", "b.svg")
    assert shown.code == 0
    without = [line.rstrip() for line in made.out.splitlines() if not line.startswith("seconds")]
    assert [line.rstrip() for line in shown.out.splitlines()] == without
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


def test_the_same_seed_makes_the_same_file(brenier: Command, files: Path) -> None:
    options = ("flow", "law.json", "--method", "linear", "--steps", 2, "--units", 10)
    for name in "ab":
        assert brenier(*options, "-o", f"{name}.nc", "--quiet") == (0, "", "")
    assert Path("a.nc").read_bytes() == Path("b.nc").read_bytes()
    brenier(*options, "-o", "a.nc").refused("a.nc", "--force")
    assert brenier(*options, "-o", "a.nc", "--force", "--seed", 1).code == 0
    assert Path("a.nc").read_bytes() != Path("b.nc").read_bytes()


def test_a_grid_goes_to_the_steady_state(brenier: Command, files: Path) -> None:
    found = brenier("flow", "normal", "--method", "grid", "-o", "map.nc", "--figure", "f.svg")
    assert (found.code, found.err) == (0, "")
    assert rows(found.out)["it ended"] == "in the steady state"
    assert brenier("show", "map.nc").code == 0
    found = MongeAmpere.load("map.nc")
    y = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    torch.testing.assert_close(found.map(y), y, atol=1e-3, rtol=0)


# Ctrl-C and divergence


def stopped_by(error: BaseException, steps: int) -> Callable[..., Any]:
    """An iteration that ends by an error after so many steps."""
    real = model.iterate

    def iterate(*arguments: Any, **options: Any) -> Any:
        whole = real(*arguments, **options)
        for _ in range(steps):
            yield next(whole)
        raise error

    return iterate


LINEAR = ("--method", "linear", "--units", 10, "--steps", 4)


def test_ctrl_c_saves_the_map_so_far_and_resume_goes_on(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "iterate", stopped_by(KeyboardInterrupt(), 2))
    code, out, err = brenier("flow", "law.json", *LINEAR, "-o", "map.nc", "--figure", "f.png")
    monkeypatch.undo()
    monkeypatch.chdir(files)
    assert (code, out) == (130, "")
    assert err.count("\n") == 1
    assert "go on with --resume" in err
    assert not Path("f.png").exists()
    kept = MongeAmpere.load("map.nc")
    assert (kept.result.stopped, kept.result.steps) == ("interrupted", 2)
    shown = rows(brenier("show", "map.nc").out)
    assert (shown["it ended"], shown["quality"]) == ("by Ctrl-C, before its last step", "not measured")
    brenier("show", "map.nc", "--figure", "f.png").refused("reference_points", "measured")
    assert brenier("flow", "law.json", *LINEAR, "-o", "map.nc", "--resume", "-q") == (0, "", "")
    assert brenier("flow", "law.json", *LINEAR, "-o", "whole.nc", "-q") == (0, "", "")
    xr.testing.assert_allclose(read("map.nc"), read("whole.nc"), rtol=1e-10)
    assert read("map.nc").attrs["stopped"] == "steps"


def test_a_killed_flow_resumes_from_its_checkpoint(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint after every step, and the third step fails as if it had never come."""
    monkeypatch.setattr(work, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(model, "iterate", stopped_by(SystemExit(), 2))
    with pytest.raises(SystemExit):
        brenier("flow", "law.json", *LINEAR, "-o", "map.nc", "--rule", "constant")
    monkeypatch.undo()
    monkeypatch.chdir(files)
    about = read("map.nc").attrs
    assert (about["stopped"], about["steps"], about["rule"]) == ("interrupted", 2, "constant")
    brenier("flow", "law.json", *LINEAR, "-o", "map.nc").refused("exists")
    options = ("--rule", "constant", "-o")
    assert brenier("flow", "law.json", *LINEAR, *options, "map.nc", "--resume", "-q") == (0, "", "")
    assert brenier("flow", "law.json", *LINEAR, *options, "whole.nc", "-q") == (0, "", "")
    xr.testing.assert_allclose(read("map.nc"), read("whole.nc"), rtol=1e-10)
    assert brenier("flow", "law.json", *LINEAR, *options, "map.nc", "--resume", "-q") == (0, "", "")  # nothing is left
    xr.testing.assert_allclose(read("map.nc"), read("whole.nc"), rtol=1e-10)


def test_resume_without_a_file_begins_and_says_so(brenier: Command, files: Path) -> None:
    with pytest.warns(UserWarning, match=r"'map.nc' does not exist, there is nothing to resume: a fit begins"):
        assert brenier("flow", "law.json", *LINEAR, "-o", "map.nc", "--resume").code == 0
    assert read("map.nc").attrs["steps"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("law.json", *map(str, ("--method", "linear")), "--force"), ["--resume", "leave out --force"]),
        (("law.json", "--method", "linear", "--start", "map.nc"), ["--resume", "leave out --start"]),
        (("space.json", "--method", "linear"), ["target 'law.json'", "'space.json'"]),
        (("law.json",), ["method 'linear'", "'neural'"]),
        (("law.json", "--method", "gaussian"), ["method 'linear'", "'gaussian'"]),
    ],
)
def test_what_cannot_be_resumed_is_refused_and_stays(
    brenier: Command, files: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    brenier("flow", "law.json", *LINEAR, "-o", "map.nc", "-q")
    before = Path("map.nc").read_bytes()
    brenier("flow", *arguments, "-o", "map.nc", "--resume").refused(*words)
    assert Path("map.nc").read_bytes() == before


def test_ctrl_c_before_the_first_step_leaves_no_file(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "iterate", stopped_by(KeyboardInterrupt(), 0))
    assert brenier("flow", "law.json", *LINEAR, "-o", "map.nc") == (130, "", "")
    assert not Path("map.nc").exists()


def test_divergence_keeps_the_last_good_map_and_says_so(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "iterate", stopped_by(Diverged("step 3: too much"), 2))
    with pytest.warns(UserWarning, match="diverged, the last good map is kept: step 3: too much"):
        code, out, _ = brenier("flow", "law.json", *LINEAR, "-o", "map.nc", "--samples", "x.npy", "-n", 5)
    assert code == 0
    assert rows(out)["it ended"] == "by divergence: this is the last good map"
    assert read("map.nc").attrs["stopped"] == "diverged"
    assert np.isfinite(np.load("x.npy")).all()


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gone.npy",), ["gone.npy", "does not exist"]),
        (("gone.py",), ["gone.py", "does not exist"]),
        (("digit",), ["did you mean 'digits'"]),
        (("gap.npy",), ["gap.npy", "NaN"]),
        (("uniform",), ["uniform has no smooth density and no points"]),
        (("two-points",), ["without a density"]),
        (("law.json", "--method", "newton"), ["--method", "neural"]),
        (("law.json", "--drive", "magic"), ["--drive", "classifier"]),
        (("law.json", "--rule", "magic"), ["no step rule 'magic'", "harmonic"]),
        (("law.json", "--steps", "0"), ["steps must be a whole number"]),
        (("law.json", "--eta", "-1"), ["eta must be positive"]),
        (("law.json", "--eta", "nan"), ["eta must be positive"]),
        (("law.json", "--noise", "0"), ["noise must be positive"]),
        (("law.json", "--units", "0"), ["units"]),
        (("law.json", "--minutes", "-1"), ["minutes must be positive"]),
        (("law.json", "--reference", "four-gaussians"), ["law.json is in 2 dimensions, the other law in 1"]),
        (("law.json", "--reference", "gone.npy"), ["gone.npy", "does not exist"]),
        (("law.json", "--samples", "x.npy"), ["-n", "--samples", "both"]),
        (("law.json", "-n", "5"), ["-n", "--samples", "both"]),
        (("law.json", "-n", "0", "--samples", "x.npy"), ["-n must be"]),
        (("law.json", "-n", "5", "--samples", "x.csv"), ["x.csv", ".npy"]),
        (("law.json", "-n", "5", "--samples", "plane.npy"), ["plane.npy", "--force"]),
        (("law.json", "-o", "kept.nc"), ["kept.nc", "--force"]),
        (("law.json", "-o", "map.json"), ["map.json", ".nc"]),
        (("law.json", "--figure", "f.gif"), ["f.gif"]),
        (("law.json", "--start", "gone.nc"), ["gone.nc", "brenier flow -o"]),
        (("law.json", "--start", "plane.npy"), ["plane.npy", "brenier flow -o"]),
        (("plane.npy", "--method", "linear", "--start", "kept.nc"), ["kept.nc", "target 'law.json'", "'plane.npy'"]),
        (("law.json", "--start", "kept.nc"), ["kept.nc", "method 'linear'", "'neural'"]),
        (("law.json", "--method", "grid", "--start", "kept.nc"), ["--start", "grid knows none"]),
        (("law.json", "--method", "gaussian", "--steps", "9"), ["--steps", "gaussian knows none"]),
        (("law.json", "--method", "gaussian", "--drive", "density"), ["--drive", "gaussian knows none"]),
        (("plane.npy", "--drive", "density"), ["plane.npy has no density", "classifier"]),
        (("plane.npy", "--drive", "score"), ["plane.npy has no density", "classifier"]),
        (("banana.py", "--drive", "classifier"), ["banana.py cannot be sampled"]),
        (("banana.py", "--method", "gaussian"), ["banana.py has no known mean"]),
        (("plane.npy", "--method", "grid"), ["plane.npy has no density"]),
        (("space.json", "--method", "grid"), ["a grid is for 1 or 2 dimensions", "space.json is in 3"]),
        (("one.npy",), ["one.npy is a single point"]),
        (("same.npy",), ["same.npy is a single point"]),
        (("flat.npy", "--method", "gaussian"), ["flat.npy does not spread in every direction"]),
        (("empty.py",), ["empty.py", "no function log_density(x)"]),
        (("no_dim.py",), ["no_dim.py", "no whole number dim"]),
        (("half_dim.py",), ["half_dim.py", "dim must be a whole number", "2.5"]),
        (("syntax.py",), ["syntax.py", "SyntaxError"]),
        (("raises.py",), ["raises.py", "KeyError: 'nothing here'"]),
        (("exits.py",), ["exits.py", "SystemExit: bye"]),
        (("inside.py",), ["inside.py", "log_density: IndexError"]),
        (("shape.py",), ["log_density of shape.py must return a tensor of shape (2,)", "(2, 2)"]),
        (("constant.py",), ["log_density of constant.py cannot be differentiated"]),
        (("origin.py",), ["log_density of origin.py is not finite at the origin"]),
        (("far.py",), ["far.py is not finite at x = ("]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    brenier: Command, files: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    kept = MongeAmpere("normal", "law.json", method="linear")
    kept.psi, kept.result = Quadratic.identity(2), Fitted("steps", 1, 0.0)
    kept.save("kept.nc")
    before = {path: path.read_bytes() for path in files.iterdir() if path.is_file()}
    output = () if "-o" in arguments else ("-o", "new.nc")
    brenier("flow", *arguments, *output).refused(*words)
    assert {path: path.read_bytes() for path in files.iterdir() if path.is_file()} == before


def test_what_only_looks_like_a_map_is_refused(brenier: Command, files: Path) -> None:
    MongeAmpere("normal", "law.json", method="gaussian").fit().save("map.nc")
    read("map.nc").drop_vars("quadratic_A").to_netcdf("cut.nc", engine="h5netcdf")
    brenier("show", "cut.nc").refused("cut.nc", "no whole map")
    data = read("map.nc")
    del data.attrs["stopped"]
    data.to_netcdf("mute.nc", engine="h5netcdf")
    brenier("show", "mute.nc").refused("mute.nc", "does not say its stopped")


def test_duplicates_and_a_constant_column_go_through(brenier: Command, files: Path) -> None:
    np.save("both.npy", np.load("twice.npy") * [1, 0])
    assert brenier("flow", "both.npy", "--minutes", 1e-9, "--units", 8, "-o", "both.nc", "-q") == (0, "", "")
    about = read("both.nc").attrs
    assert 0 < about["w2"] < 3
    assert about["curvature"] > 0


def test_weights_of_samples_are_written_beside_them_and_the_evidence_is_told(brenier: Command, tmp_path: Path) -> None:
    points, weights = tmp_path / "x.npy", tmp_path / "w.npy"
    made = brenier(
        *("flow", "four-gaussians", "--method", "grid", "-o", tmp_path / "m.nc"),
        *("-n", 500, "--samples", points, "--weights", weights),
    )
    assert made.code == 0
    assert "log Z" in made.out
    assert "Pareto shape k" in made.out
    w = np.load(weights)
    assert w.shape == (500,)
    assert w.sum() == pytest.approx(1)
    alone = brenier("flow", "four-gaussians", "--method", "grid", "-o", tmp_path / "n.nc", "--weights", weights)
    alone.refused("weights")
