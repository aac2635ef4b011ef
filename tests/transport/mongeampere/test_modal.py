"""The mixture at the maxima of a density: what it is made of, and flows and evidence from it."""

import math

import pytest
import torch

from brenier.laws.mixture import GaussianMixture
from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.mongeampere.laws import find_marginal
from brenier.transport.mongeampere.modal import mixture_at_maxima

MEANS = torch.tensor([[4.0, 0, 0], [-3, 3, 0], [0, -5, 2]], dtype=torch.float64)
SPREADS = torch.stack([torch.diag(torch.tensor(values).double()) for values in ([1, 0.2, 0.5], [0.1, 1, 1], [1, 1, 1])])
LAW = GaussianMixture([0.5, 0.3, 0.2], MEANS, SPREADS)


def three(x):
    """e^2 times the density of three modes apart."""
    density = LAW.density()
    return density(x) + 2


def test_modes_apart_are_found_with_their_masses_and_shapes():
    found = mixture_at_maxima(find_marginal(three, 3))
    order = found.components.weights.argsort(descending=True)
    torch.testing.assert_close(found.components.weights[order], LAW.components.weights, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.components.means[order], MEANS, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.moments()[1], LAW.moments()[1], rtol=1e-2, atol=1e-2)


def test_a_flow_from_the_modes_has_all_of_them_and_its_evidence(tmp_path):
    flow = MongeAmpere("modes", three, dim=3, method="linear", units=20).fit(1, points=512, progress=False)
    found = flow.log_evidence(4000)
    assert found.holds
    assert abs(found.value - 2) < 4 * found.se + 1e-3
    x = flow.sample(4000, 1)
    shares = torch.cdist(x, MEANS).argmin(1).bincount(minlength=3) / 4000
    torch.testing.assert_close(shares.double(), LAW.components.weights, rtol=0, atol=0.03)
    flow.save(tmp_path / "map.nc")
    again = MongeAmpere.load(tmp_path / "map.nc", target=find_marginal(three, 3))
    torch.testing.assert_close(again.sample(4000, 1), x)
    assert again.log_evidence(4000).value == pytest.approx(found.value)
    assert not math.isnan(float(MongeAmpere.load(tmp_path / "map.nc").map(x[:2]).sum()))


def test_what_has_no_maxima_is_refused():
    with pytest.raises(ValueError, match="no maximum with a curvature"):
        MongeAmpere("modes", lambda x: 0 * x.sum(1), dim=2, method="linear")
    with pytest.raises(ValueError, match="is for a function"):
        MongeAmpere("modes", LAW, method="linear")
