import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from brenier.catalog import BUILT_IN, load_target
from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
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


# Mixtures in JSON


def write(folder: Path, **fields: Any) -> Path:
    (folder / "m.json").write_text(json.dumps({"type": "gaussian-mixture", **fields}))
    return folder / "m.json"


@pytest.mark.parametrize("means", [[-1.0, 2], [[-1.0], [2]]])
@pytest.mark.parametrize("covariances", [[0.25, 0], [[0.25], [0]], [[[0.25]], [[0]]]])
def test_a_mixture_on_the_line_is_read_in_every_notation(tmp_path: Path, means: Any, covariances: Any) -> None:
    law = load_target(write(tmp_path, weights=[0.3, 0.7], means=means, covariances=covariances))
    assert (law.name, law.dtype) == ("m.json", torch.float64)
    expected = 0.3 * normal_density(Y[:, 0], -1.5, 1 + 2.25 / 4) + 0.7 * normal_density(Y[:, 0], 3.0, 1.0)
    np.testing.assert_allclose(law.log_density(Y, 1.5), expected.log(), rtol=1e-10)


def test_a_mixture_in_the_plane_takes_every_kind_of_covariance(tmp_path: Path) -> None:
    covariances = [2.0, [1.0, 3.0], [[2.0, 1.0], [1.0, 2.0]]]
    means = [[0, 0], [1, 2], [-1, 0]]
    law = load_target(write(tmp_path, weights=[0.2, 0.3, 0.5], means=means, covariances=covariances))
    y = torch.tensor([[0.3, -0.4], [1.0, 2.0]], dtype=torch.float64)
    matrices = [2 * np.eye(2), np.diag([1.0, 3.0]), np.array(covariances[2])]
    expected = np.zeros(2)
    for weight, mean, matrix in zip([0.2, 0.3, 0.5], means, matrices, strict=True):
        spread = 0.49 * matrix + np.eye(2)
        steps = y.numpy() - 0.7 * np.array(mean)
        square = np.einsum("ni,ij,nj->n", steps, np.linalg.inv(spread), steps)
        expected += weight * np.exp(-square / 2) / (2 * np.pi * np.sqrt(np.linalg.det(spread)))
    np.testing.assert_allclose(law.log_density(y, 0.7), np.log(expected), rtol=1e-10)


GOOD: dict[str, Any] = {"weights": [0.5, 0.5], "means": [0, 1], "covariances": [1, 1]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "mixture"}, ['"type"', '"mixture"', '"gaussian-mixture"']),
        ({"weights": None}, ['"weights"', "list"]),
        ({"weights": []}, ['"weights"', "list"]),
        ({"weights": [1, -1]}, ["weights", "non-negative"]),
        ({"weights": [0, 0]}, ["weights", "not all zero"]),
        ({"weights": [0.5, "x"]}, ['"weights[1]"', '"x"', "a number"]),
        ({"weights": [0.5, True]}, ['"weights[1]"', "true"]),
        ({"weights": [0.5, float("nan")]}, ['"weights[1]"', "finite"]),
        ({"weights": [1]}, ['"means" has 2', '"weights" has 1']),
        ({"means": [0, [1, 2]]}, ['"means[1]" has 2', '"means[0]" has 1']),
        ({"means": [0, [[1]]]}, ['"means[1][0]"', "a number"]),
        ({"means": [0, {"x": 1}]}, ['"means[1]"']),
        ({"means": [0, float("inf")]}, ['"means[1]"', "finite"]),
        ({"means": [[], []]}, ['"means[0]"']),
        ({"covariances": [1]}, ['"covariances" has 1']),
        ({"covariances": [1, -1]}, ["covariance 1", "negative"]),
        ({"covariances": [1, [1, 2]]}, ['"covariances[1]"', "1 x 1"]),
        ({"covariances": [1, [[1], [2]]]}, ['"covariances[1]"', "1 x 1"]),
        ({"means": [[0, 0], [1, 1]], "covariances": [1, [[1, 2], [2, 1]]]}, ["covariance 1", "semi-definite"]),
        ({"means": [[0, 0], [1, 1]], "covariances": [1, [[1, 0.5], [0, 1]]]}, ["covariance 1", "symmetric"]),
        ({"means": [[0, 0], [1, 1]], "covariances": [1, [[1, 0.5], 1]]}, ['"covariances[1]"', "2 x 2"]),
        ({"covariance": [1, 1]}, ['"covariance"', "did you mean covariances?"]),
        ({"extra": 1}, ['"extra"']),
    ],
)
def test_a_wrong_mixture_is_refused_by_the_name_of_its_field(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    refused(write(tmp_path, **{**GOOD, **changes}), "m.json", *words)


@pytest.mark.parametrize("field", GOOD)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    refused(write(tmp_path, **{key: value for key, value in GOOD.items() if key != field}), "m.json", f'"{field}"')


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "not JSON"), (b"{", "not JSON"), (b"\xff\xfe", "UTF-8"), (b"[1]", "object"), (b"[" * 9999, "")],
)
def test_what_is_no_mixture_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "m.json").write_bytes(content)
    refused(tmp_path / "m.json", "m.json", word)


def test_a_mixture_of_one_component_is_its_component(tmp_path: Path) -> None:
    law = load_target(write(tmp_path, weights=[3], means=[[1, 2, 3]], covariances=[[1, 2, 0]]))
    assert isinstance(law, GaussianMixture)
    y = torch.zeros(1, 3, dtype=torch.float64)
    np.testing.assert_allclose(law.localize(y, 1.0).norm, [2 / 3], rtol=1e-12)
