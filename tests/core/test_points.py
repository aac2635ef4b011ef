import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from brenier.core.points import arrays_too, as_points, as_tensor, as_weights, like


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3, 4]],
        np.array([[1, 2], [3, 4]], dtype=np.uint64),
        np.array([[1, 2], [3, 4]], dtype=">f4"),
        np.array([[1, 3], [2, 4]], dtype=np.longdouble).T,
        torch.tensor([[1, 2], [3, 4]]),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True),
    ],
)
def test_numbers_of_any_kind_are_points(values):
    found = as_points(values, dtype=torch.float64)
    assert torch.equal(found, torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64))
    assert not found.requires_grad


def test_points_keep_their_dtype_and_lie_where_they_did():
    array = np.ones((2, 1), dtype=np.float32)
    found = as_points(array)
    assert found.dtype == torch.float32
    array[0] = 5
    assert found[0, 0] == 5
    assert as_points([[1], [2]]).dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: as_points(np.zeros(3), "x"), ValueError, r"x has shape \(3,\): points are the rows of an array"),
        (lambda: as_points(np.zeros((3, 0)), "x"), ValueError, r"x has shape \(3, 0\)"),
        (
            lambda: as_points(np.zeros((3, 1)), "x", least=4, note=" for that"),
            ValueError,
            "3 points in x.*4 .* for that",
        ),
        (lambda: as_points([[0.0], [math.nan]], "x"), ValueError, "x holds values that are not finite, first in row 1"),
        (
            lambda: as_points([[0.0]], "x", dim=2, note=", as y"),
            ValueError,
            r"x must have shape \(n, 2\), as y, got \(1, 1\)",
        ),
        (lambda: as_tensor([[1, 2], [3]], "x"), ValueError, "x: not an array of numbers"),
        (lambda: as_tensor(["a"], "x"), TypeError, "x must be real numbers, got an array of <U1"),
        (lambda: as_tensor(torch.zeros(2, dtype=torch.complex64), "x"), TypeError, "x must be real numbers"),
        (lambda: as_weights([1, 2], 3), ValueError, r"weights have shape \(2,\): 3 points need shape \(3,\)"),
        (lambda: as_weights([1, -2], 2, "w"), ValueError, "w must be finite and not negative"),
        (lambda: as_weights([0, 0], 2), ValueError, "all weights are zero"),
    ],
)
def test_what_are_no_points_or_weights_is_said_in_one_line(make, kind, message):
    with pytest.raises(kind, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


class Pair(NamedTuple):
    x: Any
    n: int


@dataclass(frozen=True)
class Found:
    mean: Tensor
    pair: Pair
    ess: Tensor | None = None


def test_results_are_of_the_kind_of_what_was_given():
    found = Found(torch.ones(2), Pair(torch.zeros(1), 3))
    assert like(found, torch.zeros(1)) is found
    arrays = like(found, [0.0])
    assert isinstance(arrays, Found)
    assert isinstance(arrays.mean, np.ndarray)
    assert isinstance(arrays.pair.x, np.ndarray)
    assert (arrays.pair.n, arrays.ess) == (3, None)
    assert isinstance(found.mean, Tensor)


def test_a_function_of_tensors_takes_arrays_too_wherever_they_stand():
    @arrays_too(2)
    def total(x: Tensor, y: Tensor, weight: float = 1.0) -> Tensor:
        assert isinstance(x, Tensor)
        assert isinstance(y, Tensor)
        return weight * (x + y)

    x, y = np.array([1.0, 2.0]), torch.tensor([3.0, 4.0], dtype=torch.float64)
    for found in (total(x, [3.0, 4.0], 2.0), total(x, y, weight=2.0), total(weight=2.0, y=[3, 4], x=[1, 2])):
        assert isinstance(found, np.ndarray)
        assert found.tolist() == [8, 12]
    found = total(y, x)
    assert isinstance(found, Tensor)
    assert found.tolist() == [4, 6]
    with pytest.raises(TypeError, match="missing"):
        total(x)  # pyright: ignore[reportCallIssue]


def test_a_method_reads_points_as_its_object_says():
    class Scaled:
        dtype = torch.float32

        @arrays_too(read=lambda self, values, name: as_tensor(values, name).to(self.dtype))
        def half(self, y: Tensor) -> Tensor:
            return y / 2

    assert Scaled().half([1, 2]).dtype == np.float32
