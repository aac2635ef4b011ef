"""The maps of the Ornstein-Uhlenbeck process against closed forms, and Theorems 1 and 3."""

import math

import numpy as np
import pytest
import torch

from brenier.laws.line.quantiles import REACH, Quantiles, resolve
from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform
from brenier.probing.chain.process import ScoreError, backward_map, forward_map, marginal, score_at

TWO = GaussianMixture([0.5, 0.5], [-1, 1], 0, name="two-points")
FOUR = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1], name="four-gaussians")
X = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("beta", [0.5, 1, 4])
@pytest.mark.parametrize("time", [0.01, 0.3, 4])
def test_the_score_of_a_gaussian(time, beta):
    law = GaussianMixture([1], [1.5], 2.0)
    mean, variance = 1.5 * math.exp(-time), 2 * math.exp(-2 * time) + (1 - math.exp(-2 * time)) / beta
    expected = -(X - mean) / variance
    torch.testing.assert_close(score_at(law, X, time, beta), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(backward_map(law, X, time, 0.01, beta), X + 0.01 * (X + expected / beta))
    torch.testing.assert_close(forward_map(law, X, time, 0.01, beta), X - 0.01 * (X + expected / beta))


def test_the_marginals_solve_the_variance_equation():
    # d var/dt = -2 var + 2/beta, from 0.
    h = 1e-5
    for time, beta in ((0.2, 1), (1, 3)):
        var = [marginal(t, beta)[1] ** 2 for t in (time - h, time, time + h)]
        assert (var[2] - var[0]) / (2 * h) == pytest.approx(-2 * var[1] + 2 / beta, rel=1e-8)


@pytest.mark.parametrize("law", [TWO, FOUR, Uniform(0, 2)], ids=lambda law: law.name)
def test_no_score_at_time_zero(law):
    for function in (score_at, lambda *a: backward_map(*a, 0.01), lambda *a: forward_map(*a, 0.01)):
        with pytest.raises(ValueError, match="at time 0, where the SNR is infinite"):
            function(law, X, 0)


def test_a_backward_step_that_reaches_too_far_folds():
    limit = math.expm1(0.2)
    with pytest.raises(ValueError, match=f"below e\\^2t - 1 = {limit:.6g}"):
        backward_map(TWO, X, 0.1, 1.001 * limit)
    # The bound is sharp: the slope at a place without localization tends to 0.
    far = torch.tensor([[1.2], [1.2 + 1e-6]], dtype=torch.float64)
    step = backward_map(TWO, far, 0.01, 0.9999 * math.expm1(0.02)).diff(dim=0) / 1e-6
    assert 0 < float(step) < 2e-4


def test_a_forward_step_that_reaches_too_far_folds():
    middle = torch.tensor([[-1e-6], [1e-6]], dtype=torch.float64)
    with pytest.raises(ValueError, match="it must be below") as error:
        forward_map(TWO, middle, 0.1, 0.9)
    limit = float(str(error.value).split("below ")[1].split()[0])
    slope = forward_map(TWO, middle, 0.1, 0.999 * limit).diff(dim=0) / 2e-6
    assert float(slope) == pytest.approx(0.001, abs=2e-5)


def test_forward_contraction_is_attained_by_dirac_pairs():
    a, b = (GaussianMixture([1], [mean], 0.0) for mean in (-0.7, 1.9))
    for time, eta in ((0.05, 0.01), (1.0, 0.1)):
        ends = []
        for law, mean in ((a, -0.7), (b, 1.9)):
            alpha, sigma = marginal(time)
            at = alpha * mean + sigma * torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
            ends.append((at, forward_map(law, at, time, eta)))
        # Both laws are the same Gaussian but for its mean: the coupling by translation is optimal, before and after.
        before, after = (float((ends[0][i] - ends[1][i]).abs().mean()) for i in (0, 1))
        assert after / before == pytest.approx(1 - eta, rel=1e-12)


def _slope(etas, errors):
    return np.polyfit(np.log(etas), np.log(errors), 1)[0]


def test_theorem_3_denoising_what_was_diffused_errs_by_the_square_of_the_step():
    time, etas = 0.3, np.geomspace(0.002, 0.03, 6)
    alpha, sigma = marginal(time)
    curve = Quantiles(FOUR, np.array([alpha]), np.array([sigma]))
    mesh, (x,) = resolve(lambda z: (curve(z),), np.linspace(-REACH, REACH, 41), lambda v: np.array([1e-8]))
    x = torch.from_numpy(x[0])[:, None]
    by_flow, by_definition = [], []
    for eta in etas:
        there = forward_map(FOUR, x, time, eta)
        back = backward_map(FOUR, there, time + eta, eta)
        assert bool((back.diff(dim=0) > 0).all())  # monotone: the coupling is optimal
        by_flow.append(math.sqrt(float((back - x)[:, 0].square().numpy() @ mesh.weights)))
        # The theorem's own b takes the score of f# mu: by change of variables, (s - f''/f')/f' at f(x).
        point = x.clone().requires_grad_()
        score = _score(point, alpha, sigma)
        slope = torch.autograd.grad(score.sum(), point, create_graph=True)[0]
        bend = torch.autograd.grad(slope.sum(), point)[0]
        f1, f2 = 1 - eta * (1 + slope.detach()), -eta * bend
        back = there + eta * (there + (score.detach() - f2 / f1) / f1)
        by_definition.append(math.sqrt(float((back - x)[:, 0].square().numpy() @ mesh.weights)))
    assert _slope(etas, by_flow) == pytest.approx(2, abs=0.1)
    assert _slope(etas, by_definition) == pytest.approx(2, abs=0.1)


def _score(x, alpha, sigma):
    """grad log of the density of alpha X + sigma Z for the four Gaussians, by autograd."""
    variance = alpha**2 * FOUR.variances[:, 0] + sigma**2
    bells = -((x - alpha * FOUR.means[:, 0]) ** 2) / (2 * variance) - variance.log() / 2 + FOUR.weights.log()
    return torch.autograd.grad(bells.logsumexp(1).sum(), x, create_graph=True)[0]


def test_the_smooth_field_has_mean_square_one_and_its_slope():
    x = torch.linspace(-40, 40, 4001, dtype=torch.float64)[:, None]
    squares = []
    for seed in range(40):
        field, slope = ScoreError(0.1, seed=seed).field(x, 1.3)
        numeric = torch.gradient(field[:, 0], spacing=0.02)[0]
        torch.testing.assert_close(slope[1:-1], numeric[1:-1], rtol=0, atol=1e-3)
        squares.append(float(field.square().mean()))
    assert np.mean(squares) == pytest.approx(1, abs=4 * np.std(squares) / math.sqrt(40))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1,), "at least 0, got -0.1"),
        ((math.nan,), "must be finite"),
        ((0.1, "smooth", (2, 1)), "from low to high, got 2 to 1"),
    ],
)
def test_bad_score_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        ScoreError(*arguments)
