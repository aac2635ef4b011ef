import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.optimize import minimize

import brenier
from brenier.references.density import output_kl
from brenier.sampling.handmade import HANDMADE
from brenier.sampling.information import INFORMED, needed_snrs, path_kl

HIGH, LOW, S = 20.0, 0.05, 1.3


def gaussian_mmse(r: float, s: float = S) -> float:
    return s**2 / (1 + r**2 * s**2)


def gaussian_profile(dim: int = 1, s: float = S) -> xr.Dataset:
    """N(0, s^2 I): mmse d s^2/(1 + r^2 s^2), L = r^2 s^2/(1 + r^2 s^2)."""
    snr = np.array(needed_snrs(HIGH, LOW))
    mmse = gaussian_mmse(snr, s)
    return xr.Dataset(
        {"mmse": ("snr", dim * mmse), "mean_localization": ("snr", snr**2 * mmse)},
        {"snr": snr},
        {"law": "normal", "seed": 0, "dim": dim},
    )


DENSITIES = {
    "curvature": lambda r: r * gaussian_mmse(r),
    "information": lambda r: r * gaussian_mmse(r),
    "information-rescaled": gaussian_mmse,
}


@pytest.mark.parametrize("criterion", DENSITIES)
def test_increments_are_equal(criterion: str) -> None:
    sigmas = INFORMED[criterion](gaussian_profile(), 7, HIGH, LOW, "euler")
    assert sigmas[0] == HIGH
    assert sigmas[-1] == LOW
    parts = [quad(DENSITIES[criterion], 1 / a, 1 / b)[0] for a, b in itertools.pairwise(sigmas)]
    np.testing.assert_allclose(parts, np.mean(parts), rtol=1e-3)


def path_kl_of_gaussian(sigmas: list[float], solver: str) -> float:
    """By quadrature of Girsanov's integrand."""
    total = 0.0
    for a, b in itertools.pairwise(sigmas):
        if solver == "euler-maruyama":
            # E|score|^2 of N(0, s^2 + v) is 1/(s^2 + v)
            total += quad(lambda v, a=a: 1 / (v + S**2) - 1 / (a**2 + S**2), b**2, a**2)[0] / 2
        else:
            total += quad(lambda t, a=a: gaussian_mmse(1 / a) - gaussian_mmse(math.sqrt(t)), a**-2, b**-2)[0] / 2
    return total


@pytest.mark.parametrize("solver", ["euler-maruyama", "dpmpp-2m-sde"])
def test_path_kl_of_a_gaussian(solver: str) -> None:
    for sigmas in ([HIGH, 3.0, 0.7, LOW], [HIGH, LOW], np.geomspace(HIGH, LOW, 30).tolist()):
        assert path_kl(gaussian_profile(), sigmas, solver) == pytest.approx(
            path_kl_of_gaussian(sigmas, solver), rel=5e-3
        )


def output_kl_of_gaussian(sigmas: list[float]) -> float:
    """Of Euler-Maruyama from the exact law: x' = q x + (1 - q) D + sqrt(v - v') z, all of it affine."""
    variance = S**2 + sigmas[0] ** 2
    for a, b in itertools.pairwise(sigmas):
        q = (b / a) ** 2
        variance = (q + (1 - q) * S**2 / (S**2 + a**2)) ** 2 * variance + a**2 - b**2
    ratio = (S**2 + sigmas[-1] ** 2) / variance
    return (ratio - 1 - math.log(ratio)) / 2


@pytest.mark.parametrize(
    ("solver", "divergence"),
    [("euler-maruyama", output_kl_of_gaussian), ("euler", lambda sigmas: path_kl_of_gaussian(sigmas, "euler"))],
    ids=["output", "path"],
)
@pytest.mark.parametrize("count", [3, 4, 6])
def test_kl_is_the_smallest(solver: str, divergence: Callable[[list[float]], float], count: int) -> None:
    found = INFORMED["kl"](gaussian_profile(), count, HIGH, LOW, solver)

    def grid(z: np.ndarray) -> list[float]:
        share = np.exp(z - z.max())
        return (HIGH * (LOW / HIGH) ** np.concatenate([[0], np.cumsum(share / share.sum())])).tolist()

    best = min(
        minimize(lambda z: divergence(grid(z)), start, method="Nelder-Mead").fun
        for start in (np.zeros(count - 1), np.linspace(0, 2, count - 1), np.linspace(2, 0, count - 1))
    )
    assert divergence(found) <= best * (1 + 1e-3)


UNEVEN = brenier.GaussianMixture([0.5, 0.5], [0.0, 1.5], [0.25, 1.0])


@pytest.fixture(scope="module")
def uneven() -> xr.Dataset:
    """A profile of UNEVEN for grids from 10 to 0.2."""
    return brenier.probe(UNEVEN, needed_snrs(10.0, 0.2), progress=False)


@pytest.mark.parametrize("solver", ["euler-maruyama", "dpmpp-2m-sde"])
def test_kl_leaves_the_least_of_all_criteria(uneven: xr.Dataset, solver: str) -> None:
    high, low = 10.0, 0.2
    grids = {name: place(uneven, 7, high, low, solver) for name, place in INFORMED.items()}
    grids |= {name: place(7, high, low) for name, place in HANDMADE.items() if name != "uniform-sigma"}
    left = {name: output_kl(UNEVEN, sigmas, solver) for name, sigmas in grids.items()}
    assert min(left, key=lambda name: left[name]) == "kl"


def test_dimensions_add_up() -> None:
    for criterion, place in INFORMED.items():
        one, many = (place(gaussian_profile(dim), 6, HIGH, LOW, "euler-maruyama") for dim in (1, 7))
        np.testing.assert_allclose(one, many, rtol=1e-6, err_msg=criterion)


@pytest.mark.parametrize("criterion", INFORMED)
def test_few_levels(criterion: str) -> None:
    assert INFORMED[criterion](gaussian_profile(), 1, HIGH, LOW, "euler") == [HIGH]
    assert INFORMED[criterion](gaussian_profile(), 2, HIGH, LOW, "euler") == [HIGH, LOW]
    many = INFORMED[criterion](gaussian_profile(), 200, HIGH, LOW, "euler")
    assert len(many) == 200
    assert all(a > b for a, b in itertools.pairwise(many))


@pytest.mark.parametrize("criterion", INFORMED)
def test_a_point_has_even_steps_where_nothing_happens(criterion: str) -> None:
    profile = gaussian_profile()
    profile["mmse"] = 0 * profile["mmse"]
    profile["mean_localization"] = 0 * profile["mean_localization"]
    sigmas = INFORMED[criterion](profile, 5, HIGH, LOW, "dpmpp-2m-sde")
    assert all(a > b for a, b in itertools.pairwise(sigmas))


def test_noise_in_mmse_is_taken_out() -> None:
    rough = gaussian_profile()
    noise = 1 + 0.05 * np.random.default_rng(0).normal(size=rough.sizes["snr"])
    rough["mmse"] = rough["mmse"] * noise
    smooth, found = (INFORMED["kl"](p, 8, HIGH, LOW, "euler") for p in (gaussian_profile(), rough))
    assert 1 <= path_kl_of_gaussian(found, "euler") / path_kl_of_gaussian(smooth, "euler") < 1.2
    smooth, found = (INFORMED["kl"](p, 8, HIGH, LOW, "euler-maruyama") for p in (gaussian_profile(), rough))
    assert 1 <= output_kl_of_gaussian(found) / output_kl_of_gaussian(smooth) < 1.2


def test_bad_profiles() -> None:
    profile = gaussian_profile()
    with pytest.raises(ValueError, match="holds no 'mmse'"):
        INFORMED["kl"](profile.drop_vars("mmse"), 4, HIGH, LOW, "euler")
    with pytest.raises(ValueError, match="finite"):
        INFORMED["kl"](profile.assign(mmse=profile["mmse"] * np.nan), 4, HIGH, LOW, "euler")
    with pytest.raises(ValueError, match="probe SNRs from"):
        INFORMED["information"](profile, 4, 1e4 * HIGH, LOW, "euler")
