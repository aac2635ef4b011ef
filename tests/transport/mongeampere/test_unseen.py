"""What is about maxima that a map did not come near, against mixtures whose masses are known."""

import math

import pytest
import torch
from torch import Tensor

from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.mongeampere.laws import find_marginal
from brenier.transport.mongeampere.marginal import standard_normal
from brenier.transport.mongeampere.potentials import Quadratic
from brenier.transport.mongeampere.proposal import Image, Proposal
from brenier.transport.mongeampere.unseen import climb, maxima, starts, unseen

CENTRES = torch.tensor([[4.0, 0, 0], [-3.0, 3, 0], [0, -3.0, 5], [0, 0, 0]], dtype=torch.float64)
SCALES = torch.tensor([[1.0, 0.3, 0.2], [0.1, 0.1, 0.5], [0.4, 1.0, 1.0], [0.5, 0.5, 0.5]], dtype=torch.float64)
SHARES = torch.tensor([0.2, 0.1, 0.3, 0.4], dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)


def mixture(x: Tensor) -> Tensor:
    """Of integral 5."""
    parts = -((x[:, None] - CENTRES) / SCALES).square().sum(2) / 2 - SCALES.log().sum(1) + SHARES.log()
    return torch.logsumexp(parts, 1) - 1.5 * math.log(2 * math.pi) + math.log(5)


def begun(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return starts(standard_normal(3), torch.zeros(10, 3).double(), EYE, generator)


def about_the_last() -> Image:
    """Of the map from N(0, I) to the part about the origin."""
    halved = Quadratic(EYE / 2, torch.zeros(3).double())
    return Image(find_marginal(mixture, 3), halved, Proposal(standard_normal(3)), None, torch.zeros(1, 3).double())


def test_climbs_end_at_the_maxima_and_know_their_curvature():
    law = find_marginal(mixture, 3)
    found = maxima(law, climb(law, begun(), EYE), EYE)
    assert len(found.at) == 4
    for centre, scale in zip(CENTRES, SCALES, strict=True):
        near = int((found.at - centre).norm(dim=1).argmin())
        torch.testing.assert_close(found.at[near], centre, rtol=0, atol=0.02)
        covariance = found.root[near] @ found.root[near].T
        torch.testing.assert_close(covariance, scale.square().diag(), rtol=0.05, atol=0.01)


def test_the_mass_that_was_not_seen_is_that_of_the_other_parts():
    law, image, log_z = find_marginal(mixture, 3), about_the_last(), math.log(2)
    found = unseen(law, image, begun(), EYE, log_z + 1, log_z, torch.Generator().manual_seed(1))
    assert found.share == pytest.approx(3 / 2, abs=4 * found.se)
    assert found.se < 0.15


def test_what_was_seen_is_not_counted():
    law, image = find_marginal(mixture, 3), about_the_last()
    found = unseen(law, image, begun(), EYE, math.inf, math.log(2), torch.Generator().manual_seed(1))
    assert found.share == 0


def test_evidence_without_three_of_four_modes_is_refused():
    def farther(x: Tensor) -> Tensor:
        """Of integral 5, its parts as far apart as no stretch of N(0, I) reaches."""
        parts = -((x[:, None] - 3 * CENTRES) / SCALES).square().sum(2) / 2 - SCALES.log().sum(1) + SHARES.log()
        return torch.logsumexp(parts, 1) - 1.5 * math.log(2 * math.pi) + math.log(5)

    flow = MongeAmpere("normal", farther, dim=3, method="linear")
    flow.psi = about_the_last().potential
    with pytest.warns(UserWarning, match=r"refused: the target has at least 1\.\d+ of Z about maxima .* with anneal"):
        found = flow.log_evidence(4000)
    assert math.isnan(found.value)
    assert found.own == pytest.approx(math.log(2), abs=0.1)


def test_a_density_without_a_maximum_has_none():
    law = find_marginal(lambda x: x.sum(1), 3)
    found = maxima(law, climb(law, begun(), EYE), EYE)
    assert len(found.at) == 0
    image = Image(law, Quadratic.identity(3), Proposal(standard_normal(3)), None, torch.zeros(1, 3).double())
    assert unseen(law, image, begun(), EYE, 0.0, 0.0, torch.Generator().manual_seed(1)).share == 0
