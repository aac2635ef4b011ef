import math

import pytest
import torch

from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.mongeampere.laws import find_marginal
from brenier.transport.mongeampere.triangular import fit_triangular
from brenier.transport.mongeampere.whitening import Triangular


def funnel(x):
    """Neal's, of integral 3 (2 pi)^{d/2}."""
    return -(x[:, 0] ** 2) / 18 - (x.shape[1] - 1) / 2 * x[:, 0] - torch.exp(-x[:, 0]) * x[:, 1:].square().sum(1) / 2


def banana(x):
    """Of integral pi."""
    return -(x[:, 0] ** 2 + ((x[:, 1] - x[:, 0] ** 2 + 1) / 0.5) ** 2) / 2


def known(dim):
    return tuple(torch.zeros(free.shape, dtype=torch.float64) for free in Triangular.free(dim))


def test_a_banana_and_a_funnel_are_triangular_images_of_the_normal_law():
    shift, logs = known(2)
    logs[1, 0], shift[1, 3] = math.log(0.5), 1.0  # x_2 = (z_1^2 - 1) + z_2/2
    found = fit_triangular(find_marginal(banana, 2))
    torch.testing.assert_close(found.shift, shift, rtol=0, atol=0.01)
    torch.testing.assert_close(found.log_scale, logs, rtol=0, atol=0.01)
    shift, logs = known(3)
    logs[0, 0], logs[1:, 1] = math.log(3.0), 1.5  # x_1 = 3 z_1, x_i = z_i exp(3 z_1/2)
    found = fit_triangular(find_marginal(funnel, 3))
    torch.testing.assert_close(found.log_scale, logs, rtol=0, atol=0.05)
    torch.testing.assert_close(found.shift, shift, rtol=0, atol=0.05)


def test_its_mean_is_that_of_its_points():
    generator = torch.Generator().manual_seed(0)
    S = Triangular(*(torch.randn(free.shape, generator=generator).double() * free / 4 for free in Triangular.free(3)))
    x = S.outward(torch.randn(200_000, 3, generator=generator, dtype=torch.float64))
    assert bool((abs(x.mean(0) - S.mean) < 4 * x.std(0) / math.sqrt(len(x))).all())


def test_a_flow_from_a_triangular_reference_has_the_funnel_and_its_evidence(tmp_path):
    flow = MongeAmpere("triangular", funnel, dim=5, method="linear", units=20).fit(2, points=512, progress=False)
    found, truth = flow.log_evidence(4000), math.log(3) + 2.5 * math.log(2 * math.pi)
    assert found.holds
    assert abs(found.value - truth) < 0.05
    x = flow.sample(4000, 1)
    assert float(x[:, 0].std()) == pytest.approx(3, rel=0.1)
    torch.testing.assert_close(flow.log_density(x[:50]), funnel(x[:50]) - truth, rtol=0, atol=0.5)
    torch.testing.assert_close(flow.map(flow.inverse(x[:50])), x[:50], rtol=1e-6, atol=1e-6)
    flow.save(tmp_path / "map.nc")
    again = MongeAmpere.load(tmp_path / "map.nc", target=find_marginal(funnel, 5))
    torch.testing.assert_close(again.sample(4000, 1), x)
    assert again.log_evidence(4000) == found


def test_where_it_cannot_be():
    with pytest.raises(ValueError, match="the log density of half is not finite all over N"):

        def half(x):
            return torch.where(x[:, 0] > 0.5, -torch.inf, -x.square().sum(1))

        MongeAmpere("triangular", half, dim=2)
    with pytest.raises(ValueError, match='reference "triangular" whitens both laws'):
        MongeAmpere("triangular", banana, dim=2, method="grid")
    with pytest.raises(ValueError, match="can be sampled"):
        MongeAmpere("triangular", torch.zeros(9, 2))
