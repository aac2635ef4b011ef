"""Sinkhorn's iterates against the equation that they tend to, on the line."""

import math

import numpy as np
import pytest

from brenier.laws.mixture import GaussianMixture
from brenier.references.sinkhorn_limit import sinkhorn_limit
from brenier.transport.mongeampere.laws import find_marginal
from brenier.transport.mongeampere.marginal import standard_normal


def test_the_error_against_the_equation_is_of_first_order() -> None:
    law = find_marginal(GaussianMixture([0.4, 0.6], [-1.0, 1.0], [[0.25], [0.36]]))
    found = sinkhorn_limit(standard_normal(1), law, 0.5, (0.1, 0.05, 0.025, 0.0125), points=512)
    assert found.iterations.to_numpy().tolist() == [5, 10, 20, 40]
    np.testing.assert_allclose(found.epsilon, [0.1, 0.05, 0.025, 0.0125])
    slopes = found.slope.to_numpy()
    np.testing.assert_allclose(slopes, 1, atol=0.03)
    assert (found.slope_low < found.slope).all()
    assert (found.slope < found.slope_high).all()
    last = found.l2.to_numpy()[-2:]
    assert last[0] / last[1] == pytest.approx(2, rel=0.03)
    assert (found.sup > found.l2).all()


def test_between_normal_laws_the_error_is_that_of_the_recursion() -> None:
    """Both sides in closed form: Sinkhorn's curvature after k steps, Riccati's at time t; psi = curvature y^2/2."""
    law, time = find_marginal(GaussianMixture([1], [0.0], 2.0)), 1.0
    edges = ([-6.0], [6.0])
    found = sinkhorn_limit(standard_normal(1), law, time, (0.2, 0.1, 0.05), points=600, box=edges, image=edges)
    limit = math.sqrt(2) * math.tanh(time / math.sqrt(2) + math.atanh(1 / math.sqrt(2)))
    for epsilon, error in zip(found.epsilon.to_numpy(), found.l2.to_numpy(), strict=True):
        curvature = 1.0
        for _ in range(round(time / epsilon)):
            curvature = 1 / (1 / (curvature + epsilon) + epsilon / 2)
        assert error == pytest.approx(abs(curvature - limit) / math.sqrt(2), rel=0.01)  # y^2/2 has variance 1/2


def test_what_does_not_fit_is_refused() -> None:
    line_law, plane = standard_normal(1), standard_normal(2)
    with pytest.raises(ValueError, match="the limit is computed on the line, and normal is in 2 dimensions"):
        sinkhorn_limit(plane, plane)
    with pytest.raises(ValueError, match="give at least 3 epsilons between 0 and the time 1"):
        sinkhorn_limit(line_law, line_law, epsilons=(0.1, 0.05))
    with pytest.raises(ValueError, match="make fewer than 3 numbers of iterations"):
        sinkhorn_limit(line_law, line_law, epsilons=(0.1, 0.1001, 0.5))
