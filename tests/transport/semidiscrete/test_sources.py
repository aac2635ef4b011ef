import numpy as np
import pytest
import torch
from scipy import stats

from brenier.transport.semidiscrete.sources import combinations, find_source


@pytest.mark.parametrize(("name", "law"), [("normal", stats.norm()), ("uniform", stats.uniform())])
def test_named_sources_have_the_laws_that_they_name(name, law):
    x = find_source(name, 3).draw(4000, torch.Generator().manual_seed(0))
    assert stats.kstest(x.flatten().numpy(), law.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(x.numpy().T) - np.eye(3)).max() < 0.07


def test_combinations_are_unit_and_orthogonal_within_a_block():
    c = combinations(200, 16, torch.Generator().manual_seed(1))
    assert c.shape == (112, 16)  # half of 200, rounded up to whole matrices
    for block in c.split(16):
        torch.testing.assert_close(block @ block.T, torch.eye(16), atol=1e-5, rtol=0)


def test_a_combination_of_normal_draws_is_normal():
    c = combinations(32, 16, torch.Generator().manual_seed(2))
    draws = torch.randn(3000, 16, 2, generator=torch.Generator().manual_seed(3))
    x = (c @ draws)[:, 5]  # one member of 3,000 families
    assert stats.kstest(x.flatten().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [("gaussian", ValueError, "no source 'gaussian'"), (3, TypeError, "got int"), (None, TypeError, "got NoneType")],
)
def test_unknown_sources(source, error, said):
    with pytest.raises(error, match=said):
        find_source(source, 2)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda n, g: torch.zeros(n, 3), r"got \(5, 3\)"),
        (lambda n, g: np.zeros((n, 2)), "got ndarray"),
        (lambda n, g: torch.full((n, 2), torch.nan), "not finite"),
    ],
)
def test_what_a_source_of_ones_own_may_not_return(returned, said):
    with pytest.raises(ValueError, match=said):
        find_source(returned, 2).draw(5, torch.Generator())
