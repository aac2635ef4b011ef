"""The shapes that annotations promise are checked while the tests run."""

import jaxtyping
import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from brenier.core.linalg import norm_by_squaring
from brenier.laws.base import Localization


def test_a_function_refuses_an_argument_whose_shape_is_not_the_annotated_one():
    with pytest.raises(TypeCheckError):
        norm_by_squaring(torch.eye(3).expand(2, 3, 3)[:, :2])


def test_a_record_refuses_fields_whose_lengths_disagree():
    with pytest.raises(TypeCheckError):
        Localization(norm=torch.ones(4), trace=torch.ones(5))


def test_after_what_fits_what_does_not_is_still_refused():
    results = [torch.ones(3), torch.ones(3), torch.ones(4), torch.ones(3)]

    def next_result(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return results.pop(0)

    checked = jaxtyping.jaxtyped(next_result)
    for _ in range(2):
        assert len(checked(torch.ones(3))) == 3
    with pytest.raises(TypeCheckError):
        checked(torch.ones(3))
    with pytest.raises(TypeCheckError):
        checked(torch.ones(3, 2))
    assert len(checked(torch.ones(3))) == 3
