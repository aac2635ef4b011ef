import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brenier.catalog import load_target
from brenier.laws.mixture import GaussianMixture
from brenier.laws.mixture_file import read_law

Y = torch.linspace(-6, 6, 25, dtype=torch.float64)[:, None]


def normal_density(x: torch.Tensor, mean: float, variance: float) -> torch.Tensor:
    return torch.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def refused(file: Path, *words: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        read_law(file, load_target)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def write(folder: Path, **fields: Any) -> Path:
    (folder / "m.json").write_text(json.dumps({"type": "gaussian-mixture", **fields}))
    return folder / "m.json"


@pytest.mark.parametrize("means", [[-1.0, 2], [[-1.0], [2]]])
@pytest.mark.parametrize("covariances", [[0.25, 0], [[0.25], [0]], [[[0.25]], [[0]]]])
def test_a_mixture_on_the_line_is_read_in_every_notation(tmp_path: Path, means: Any, covariances: Any) -> None:
    law = read_law(write(tmp_path, weights=[0.3, 0.7], means=means, covariances=covariances), load_target)
    assert (law.name, law.dtype) == ("m.json", torch.float64)
    expected = 0.3 * normal_density(Y[:, 0], -1.5, 1 + 2.25 / 4) + 0.7 * normal_density(Y[:, 0], 3.0, 1.0)
    np.testing.assert_allclose(law.log_density(Y, 1.5), expected.log(), rtol=1e-10)


def test_a_mixture_in_the_plane_takes_every_kind_of_covariance(tmp_path: Path) -> None:
    covariances = [2.0, [1.0, 3.0], [[2.0, 1.0], [1.0, 2.0]]]
    means = [[0, 0], [1, 2], [-1, 0]]
    law = read_law(write(tmp_path, weights=[0.2, 0.3, 0.5], means=means, covariances=covariances), load_target)
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
        ({"type": "mixed"}, ['"type"', '"mixed"', '"gaussian-mixture"']),
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
    law = read_law(write(tmp_path, weights=[3], means=[[1, 2, 3]], covariances=[[1, 2, 0]]), load_target)
    y = torch.zeros(1, 3, dtype=torch.float64)
    np.testing.assert_allclose(law.localize(y, 1.0).norm, [2 / 3], rtol=1e-12)


DIAGONAL = [[1.0, 2.0], [3.0, 4.0]]
MATRIX = [[2.0, 0.5], [0.5, 1.0]]


@pytest.mark.parametrize(
    ("kind", "given", "covariances"),
    [
        ("full", [MATRIX, [[1.0, 0.0], [0.0, 1.0]]], [MATRIX, 1.0]),
        ("tied", MATRIX, [MATRIX, MATRIX]),
        ("diag", DIAGONAL, [[1.0, 2.0], [3.0, 4.0]]),
        ("spherical", [0.5, 2.0], [0.5, 2.0]),
        (None, DIAGONAL, [[1.0, 2.0], [3.0, 4.0]]),  # d lists of d numbers for K = d: variances, as ever
    ],
)
def test_covariances_are_of_the_stated_type(tmp_path: Path, kind: str | None, given: Any, covariances: Any) -> None:
    fields: dict[str, Any] = {"weights": [1, 3], "means": [[0, 0], [1, 2]], "covariances": given}
    law = read_law(write(tmp_path, **fields, **({} if kind is None else {"covariance_type": kind})), load_target)
    expected = GaussianMixture([1, 3], [[0, 0], [1, 2]], covariances)
    y = torch.tensor([[0.3, -0.4], [1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(law.log_density(y, 0.7), expected.log_density(y, 0.7), rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"covariance_type": "diagonal"}, ['"covariance_type" is "diagonal"', "full, tied, diag, spherical"]),
        ({"covariance_type": None}, ['"covariance_type" is null']),
        ({"covariance_type": "tied"}, ["type 'tied' must have shape (1, 1), got (2,)"]),
        ({"covariance_type": "full"}, ["type 'full' must have shape (2, 1, 1), got (2,)"]),
        ({"covariance_type": "diag", "covariances": [[1], [1], [1]]}, ['"covariances" has 3']),
        ({"covariance_type": "diag", "covariances": [[1], [1, 2]]}, ["covariances: not an array of numbers"]),
        ({"covariance_type": "spherical", "covariances": [1, -1]}, ["covariance", "negative"]),
        ({"covariances_type": "diag"}, ["did you mean covariance_type?"]),
    ],
)
def test_covariances_that_are_not_of_their_type_are_refused(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    refused(write(tmp_path, **{**GOOD, **changes}), "m.json", *words)


def test_laws_on_the_line_are_mixed_by_name(tmp_path: Path) -> None:
    parts = [0.5, "scipy:t(3)[-20, 20]", {"type": "gaussian-mixture", "weights": [1], "means": [2], "covariances": [4]}]
    (tmp_path / "m.json").write_text(json.dumps({"type": "mixture", "weights": [1, 2, 1], "components": parts}))
    law = load_target(tmp_path / "m.json")
    assert law.name == "m.json"
    alone = [GaussianMixture([1], [0.5], 0.0), load_target(parts[1]), GaussianMixture([1], [2.0], 4.0)]
    expected = sum(p * part.log_density(Y, 0.8).exp() for p, part in zip((0.25, 0.5, 0.25), alone, strict=True))
    np.testing.assert_allclose(law.log_density(Y, 0.8), torch.as_tensor(expected).log(), rtol=1e-12)


def test_factors_are_named_and_nested(tmp_path: Path) -> None:
    mixed = {"type": "mixture", "weights": [1, 1], "components": [0, "scipy:laplace"]}
    (tmp_path / "p.json").write_text(json.dumps({"type": "product", "factors": [mixed, "student(3, dim=2)"]}))
    law = load_target(tmp_path / "p.json")
    y = torch.tensor([[0.4, 1.0, -2.0]], dtype=torch.float64)
    both = [float(load_target("student(3, dim=2)").log_density(y[:, 1:], 1.3))]
    (tmp_path / "m.json").write_text(json.dumps(mixed))
    both.append(float(load_target(tmp_path / "m.json").log_density(y[:, :1], 1.3)))
    np.testing.assert_allclose(law.log_density(y, 1.3), [sum(both)], rtol=1e-12)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "mixture", "weights": [1], "components": ["scipy:tt(3)"]}, ['"components[0]"', "did you mean"]),
        ({"type": "mixture", "weights": [1], "components": ["studnet(3, dim=1)"]}, ["did you mean 'student"]),
        ({"type": "mixture", "weights": [1], "components": ["scipy:binom(3, 0.5)"]}, ["is discrete", "point masses"]),
        ({"type": "mixture", "weights": [1], "components": ["student(3, dim=2)"]}, ["has 2 dimensions"]),
        ({"type": "mixture", "weights": [1, 1], "components": [0]}, ["one law per weight, got 1 laws and 2 weights"]),
        ({"type": "mixture", "weights": [1], "components": []}, ['"components" must be a list']),
        ({"type": "mixture", "weights": [1], "components": [True]}, ['"components[0]" is true']),
        ({"type": "mixture", "weights": [1], "component": [0]}, ["did you mean components?"]),
        ({"type": "product", "factors": [0]}, ['"factors[0]" is 0', "name of a law"]),
        ({"type": "product", "factors": ["digits"]}, ["explicit laws", "1,797 points"]),
        ({"type": "product", "factors": ["./there.npy"]}, ["'./there.npy' is a file: give names of laws"]),
    ],
)
def test_what_is_wrong_with_parts_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: Any, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("there.npy", np.zeros(3))
    (tmp_path / "m.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"m\.json") as caught:
        load_target(tmp_path / "m.json")
    for word in words:
        assert word in str(caught.value), str(caught.value)
