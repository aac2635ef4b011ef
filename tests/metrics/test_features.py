import math

import numpy as np
import pytest
import torch
from torch import nn

from brenier.metrics.features import apply, extract


def points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_all_principal_components_keep_distances() -> None:
    x, y = points(300, 5), points(200, 5, 1) @ points(5, 5, 2)
    seen, name = extract(x, y, features="pca")
    assert name == "pca, 5 components"
    torch.testing.assert_close(torch.cdist(seen(x), seen(y)), torch.cdist(x, y))
    spread = seen(y).var(0)
    torch.testing.assert_close(spread, torch.linalg.eigvalsh(y.T.cov()).flip(0))
    assert extract(points(300, 100), points(400, 100), features="pca")[1] == "pca, 30 components"
    assert extract(points(2000, 100), points(2000, 100), features="pca")[1] == "pca, 64 components"


def test_a_module_is_called_in_evaluation_mode_on_float32_rows_and_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).train()
    x = points(1500, 3)
    seen, name = extract(x, x, features=module)
    assert name == "Sequential"
    torch.testing.assert_close(seen(x), module[0](x.float()).double())
    assert module.training
    assert extract(x, x, features=torch.sin)[1] == "sin"


@pytest.mark.parametrize("features", ["raw", "pca", torch.sin])
def test_features_of_arrays_and_lists_are_arrays(features: object) -> None:
    x, y = points(30, 3), points(20, 3, 1)
    seen, name = extract(x, y, features=features)
    same, called = extract(x.tolist(), y.numpy(), features=features)
    assert name == called
    for given in (x.numpy(), x.tolist()):
        assert isinstance(same(given), np.ndarray)
        np.testing.assert_array_equal(same(given), seen(x))


def test_refused() -> None:
    x = points(20, 3)
    with pytest.raises(ValueError, match="no features 'inception'"):
        extract(x, x, features="inception")
    with pytest.raises(TypeError):
        extract(x, x, features=3)
    with pytest.raises(ValueError, match="single point"):
        extract(x, torch.full((20, 3), 0.1, dtype=torch.float64), features="pca")
    with pytest.raises(ValueError, match=r"\(20, 3\) to \(20,\)"):
        apply(lambda rows: rows[:, 0], x, "features")
    with pytest.raises(ValueError, match="NaN or infinite"):
        apply(lambda rows: rows * math.nan, x, "features")
