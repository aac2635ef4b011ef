from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from brenier.catalog import BUILT_IN, load_target
from brenier.laws.base import Target
from brenier.laws.elliptical import Elliptical
from brenier.laws.empirical import Empirical
from brenier.laws.uniform import Uniform

Y = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]


def normal_density(y: torch.Tensor, mean: float, variance: float) -> torch.Tensor:
    return torch.exp(-((y - mean) ** 2) / (2 * variance)) / (2 * torch.pi * variance) ** 0.5


def refused(source: Any, *words: str, kind: type[Exception] = ValueError, **options: Any) -> None:
    with pytest.raises(kind) as caught:
        load_target(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


# Built-in laws


@pytest.mark.parametrize("snr", [0.3, 1.0, 2.5])
def test_the_point_mass_is_never_in_doubt(snr: float) -> None:
    localization = load_target("point-mass").localize(Y, snr)
    np.testing.assert_array_equal(localization.norm, np.zeros(25))


@pytest.mark.parametrize("snr", [0.3, 1.0, 2.5])
def test_the_normal_law_localizes_as_its_closed_form(snr: float) -> None:
    norm = load_target("normal").localize(Y, snr).norm
    np.testing.assert_allclose(norm, np.full(25, snr**2 / (snr**2 + 1)), rtol=1e-12)


@pytest.mark.parametrize("snr", [0.3, 1.0, 2.5])
def test_two_points_localize_as_their_closed_form(snr: float) -> None:
    norm = load_target("two-points").localize(Y, snr).norm
    np.testing.assert_allclose(norm, (snr / torch.cosh(snr * Y[:, 0])) ** 2, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "components"),
    [
        ("spike-slab", [(0.5, 0.0, 0.0), (0.5, 0.0, 1.0)]),
        ("four-gaussians", [(0.1, -4.0, 1.0), (0.2, -2.0, 0.5), (0.4, 2.0, 0.5), (0.3, 4.0, 1.0)]),
    ],
)
def test_mixtures_have_the_densities_of_the_paper(name: str, components: list[tuple[float, float, float]]) -> None:
    expected = sum(p * normal_density(Y[:, 0], 1.3 * m, 1.69 * v + 1) for p, m, v in components)
    assert isinstance(expected, torch.Tensor)
    np.testing.assert_allclose(load_target(name).log_density(Y, 1.3), expected.log(), rtol=1e-10)


def test_the_uniform_law_is_that_on_minus_one_to_one() -> None:
    x = np.linspace(-1, 1, 20001)
    for y in (-2.0, 0.0, 0.7):
        weights = np.exp(-((y - 2 * x) ** 2) / 2)
        mean = (weights * x).sum() / weights.sum()
        denoised = load_target("uniform").denoise(torch.tensor([[y]], dtype=torch.float64), 2.0)
        np.testing.assert_allclose(float(denoised), mean, rtol=1e-3, atol=1e-9)


def test_digits_are_all_the_digits_scaled_to_plus_minus_one() -> None:
    digits = load_target("digits")
    assert isinstance(digits, Empirical)
    assert digits.event_shape == (8, 8)
    assert digits.dtype == torch.float32
    np.testing.assert_allclose(digits.data, load_digits().data / 8 - 1, atol=2e-6)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_law_carries_its_name_and_the_dtype_asked_for(name: str) -> None:
    assert load_target(name).name == name
    assert load_target(name, dtype=torch.float64).dtype == torch.float64
    assert load_target(name, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("digit", "digits"), ("two-point", "two-points"), ("Normal", "normal"), ("spikeslab", "spike-slab")],
)
def test_unknown_names_are_answered_with_the_nearest(name: str, nearest: str) -> None:
    refused(name, f"'{name}'", f"did you mean '{nearest}'?", ", ".join(BUILT_IN))


def test_far_off_names_are_answered_with_the_list() -> None:
    refused("zzzz", "'zzzz'", ", ".join(BUILT_IN))
    refused("", "''")
    refused("a\nb", "a\\nb")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("student(3, dim=5)", Elliptical.student(3, 5)),
        ("laplace(dim=2, scale=[1, 4])", Elliptical.laplace(2, scale=[1.0, 4.0])),
        ("gennorm(0.8, 3, location=1)", Elliptical.generalised_normal(0.8, 3, location=1.0)),
    ],
)
def test_elliptical_laws_go_by_their_names(text: str, same: Elliptical) -> None:
    law = load_target(text)
    assert (law.name, law.dim) == (text, same.dim)
    y = torch.linspace(-3, 3, 4 * law.dim, dtype=torch.float64).view(4, law.dim)
    np.testing.assert_array_equal(law.localize(y, 1.3).norm, same.localize(y, 1.3).norm)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("studnet(3, dim=5)", ["did you mean 'student(...)'"]),
        ("student(3)", ["missing a required argument: 'dim'", "student takes df, dim, location, scale"]),
        ("student(3, dims=2)", ["student takes df, dim"]),
        ("student(-1, dim=2)", ["df must be positive"]),
        ("gennorm(3, dim=2)", ["no mixture of normal laws"]),
        ("laplace(dim=x)", ["parameters must be numbers"]),
        ("laplace(dim=0)", ["dim must be a whole number"]),
    ],
)
def test_what_is_wrong_with_an_elliptical_name_is_said(text: str, words: list[str]) -> None:
    refused(text, *words)


def test_a_missing_file_is_answered_with_the_nearest(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.zeros(3))
    refused(str(tmp_path / "point.npy"), "does not exist", "did you mean", "points.npy")
    refused(tmp_path / "missing" / "points.npy", "there is no folder")
    refused("points.json", "does not exist")


# Data


def test_data_come_as_float32_unless_asked_otherwise(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(5, 2))
    np.savez(tmp_path / "a.npz", x=points, y=points[:3])
    law = load_target(f"{tmp_path / 'a.npz'}:x")
    assert isinstance(law, Empirical)
    assert (law.name, law.dtype, law.event_shape) == ("a.npz:x", torch.float32, (2,))
    np.testing.assert_allclose(law.data, points, rtol=1e-6, atol=1e-6)
    law = load_target(points, dtype=torch.float64)
    assert isinstance(law, Empirical)
    np.testing.assert_allclose(law.data, points, rtol=1e-14)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("kind", ["array", "tensor", "file"])
def test_the_unit_of_the_data_does_not_matter(tmp_path: Path, size: float, kind: str) -> None:
    points = size * np.array([[-1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    np.save(tmp_path / "a.npy", points)
    law = load_target({"array": points, "tensor": torch.tensor(points), "file": tmp_path / "a.npy"}[kind])
    y = torch.tensor([[0.3, 0.1]])
    # Atoms at -1 and 1 of weights 1/3 and 2/3, r = 1.2/size: rX given y has the variance (2 r size)^2 w (1 - w).
    w = 1 / (1 + 2 * np.exp(2 * 1.2 * 0.3))
    np.testing.assert_allclose(law.localize(y, 1.2 / size).norm, [2.4**2 * w * (1 - w)], rtol=0.01)
    np.testing.assert_allclose(law.denoise(y, 1.2 / size), [[size * (1 - 2 * w), 0.0]], rtol=1e-5, atol=1e-6 * size)


def test_a_small_spread_far_from_the_origin_keeps_its_digits() -> None:
    law = load_target(np.array([1e6, 1e6 + 0.01]))
    y = torch.tensor([[1.0]], dtype=torch.float64) * (100 * (1e6 + 0.005))
    np.testing.assert_allclose(law.localize(y, 100.0).norm, [0.25], rtol=0.01)


def test_a_json_file_or_a_name_in_the_way_is_reached_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("normal.npy", np.zeros((2, 3)))
    Path("normal.npy").rename("normal")
    assert load_target("normal").dim == 1
    refused("./normal", "no suffix")


def test_a_target_is_returned_as_it_is() -> None:
    law = Uniform([0.0, 0.0], [1.0, 2.0])
    assert load_target(law) is law
    moved = load_target(law, dtype=torch.float32)
    assert isinstance(moved, Target)
    assert moved.dtype == torch.float32


def test_arrays_that_are_no_data_are_refused() -> None:
    refused([[1.0, np.nan]], "NaN", "row 0")
    refused(torch.zeros(0, 3), "empty")
    refused(torch.tensor([1 + 2j]), "complex", kind=TypeError)
    refused([object()], "objects", kind=TypeError)
    refused(3.0, "single number")
    refused([1e30, 0.0], "1e+30", "rescale")
    assert load_target([1e30, 0.0], dtype=torch.float64).dim == 1


def test_options_that_cannot_be_had_are_refused() -> None:
    refused("normal", "device 'warp'", "cpu", device="warp")
    refused([1.0, 2.0], "device 'cuda:99'", "cpu", device="cuda:99")
    refused("normal", "float16", "float32", dtype=torch.float16)


def test_a_mixture_in_a_file_goes_by_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"type": "gaussian-mixture", "weights": [1], "means": [0], "covariances": [1]}')
    law = load_target(tmp_path / "m.json", dtype=torch.float32)
    assert (law.name, law.dtype) == ("m.json", torch.float32)
    (tmp_path / "m.json").write_text("[1]")
    refused(tmp_path / "m.json", "m.json", "object")


def test_memory_is_counted_in_gib() -> None:
    law = load_target([[1.0], [2.0]], max_memory=0.25)
    assert isinstance(law, Empirical)
    assert law.max_memory == 0.25
    again = load_target(law, max_memory=0.5)
    assert isinstance(again, Empirical)
    assert (again.max_memory, law.max_memory) == (0.5, 0.25)
    refused("normal", "max_memory must be positive, got 0 GiB", max_memory=0)
