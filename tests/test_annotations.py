"""The shapes that annotations promise are checked while the tests run."""

import pytest
import torch
from jaxtyping import TypeCheckError

from brenier.core.linalg import norm_by_squaring
from brenier.laws.base import Localization


def test_a_function_refuses_an_argument_whose_shape_is_not_the_annotated_one():
    with pytest.raises(TypeCheckError):
        norm_by_squaring(torch.eye(3).expand(2, 3, 3)[:, :2])


def test_a_record_refuses_fields_whose_lengths_disagree():
    with pytest.raises(TypeCheckError):
        Localization(norm=torch.ones(4), trace=torch.ones(5))
