import numpy as np
import pytest
import torch

import brenier
from brenier.transport.semidiscrete.sketch import check_same, sketch

rng = np.random.default_rng(0)


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_data_are_known_whatever_float32_has_made_of_them(shift: float) -> None:
    """As they were; rounded; read as a law, which keeps them in the middle; as images; as a tensor."""
    data = rng.normal(size=(500, 48)) + shift
    own = sketch(data)
    for same in (data, data.astype(np.float32), brenier.Empirical(data.astype(np.float32)).point_masses()[0]):
        check_same(own, 48, same)
    check_same(own, 48, data.reshape(500, 3, 4, 4))
    check_same(sketch(data.astype(np.float32)), 48, torch.from_numpy(data))


def test_other_data_and_another_order_are_refused() -> None:
    data = rng.normal(size=(50, 6))
    own = sketch(data)
    with pytest.raises(ValueError, match=r"50 points in 6 dimensions, and these data are 49 in 6"):
        check_same(own, 6, data[1:])
    with pytest.raises(ValueError, match=r"50 points in 6 dimensions, and these data are 50 in 5"):
        check_same(own, 6, data[:, 1:])
    with pytest.raises(ValueError, match=r"50 of 50 data differ .* first in row 0"):
        check_same(own, 6, data[::-1])
    one = data.copy()
    one[7, 3] += 1e-3
    with pytest.raises(ValueError, match=r"1 of 50 data differ .* first in row 7"):
        check_same(own, 6, one)
