import pytest
import torch

from brenier import GaussianMixture
from brenier.transport.mongeampere import find_marginal
from brenier.transport.mongeampere.discrepancy import Exact, Field, NotFinite
from brenier.transport.mongeampere.learned import Classified, Matched, Training
from brenier.transport.mongeampere.marginal import standardised
from brenier.transport.mongeampere.potentials import Quadratic


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def stretched():
    """T(y) = Ay + b from N(0, I), and the target N(m, S) in the plane."""
    A = torch.tensor([[1.5, 0.2], [0.2, 0.7]], dtype=torch.float64)
    b, m = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    S = torch.tensor([[2.0, -0.4], [-0.4, 1.0]], dtype=torch.float64)
    return Quadratic(A, b), m, S


def test_exact_values_and_gradients_of_normal_laws():
    potential, m, S = stretched()
    target = GaussianMixture([1.0], m[None], S[None])
    y = find_marginal("normal", 2).draw(50, generator())
    measured = Exact(find_marginal("normal", 2), find_marginal(target)).measure(potential, y, 0, generator())
    x, pushed = potential.gradient(y), GaussianMixture([1.0], potential.b[None], (potential.A @ potential.A)[None])
    expected = find_marginal(pushed).log_density(x) - find_marginal(target).log_density(x)
    torch.testing.assert_close(measured.value, expected)
    field = -torch.linalg.solve(potential.A @ potential.A, (x - potential.b).T).T + torch.linalg.solve(S, (x - m).T).T
    torch.testing.assert_close(measured.gradient, field @ potential.A)
    given = Field(lambda x, k: field).measure(potential, y, 0, generator())
    torch.testing.assert_close(given.gradient, measured.gradient)
    assert given.value is None


def test_the_divergence_is_that_of_normal_laws():
    potential, m, S = stretched()
    C = potential.A @ potential.A
    shift = potential.b - m
    ratio = torch.linalg.solve(S, C)
    exact = float(ratio.trace() - 2 - torch.logdet(ratio) + shift @ torch.linalg.solve(S, shift)) / 2
    law = find_marginal(GaussianMixture([1.0], m[None], S[None]))
    y = find_marginal("normal", 2).draw(20_000, generator(1))
    figures = Exact(find_marginal("normal", 2), law).measure(potential, y, 0, generator()).figures
    assert abs(figures["kl"] - exact) < 4 * figures["kl_se"]


def test_a_factor_in_the_density_shifts_the_value_only():
    potential, m, S = stretched()
    law = find_marginal(GaussianMixture([1.0], m[None], S[None]))
    y = find_marginal("normal", 2).draw(9, generator())
    one = Exact(find_marginal("normal", 2), law).measure(potential, y, 0, generator())
    other = find_marginal(lambda x: law.log_density(x) + 7, 2)
    two = Exact(find_marginal("normal", 2), other).measure(potential, y, 0, generator())
    torch.testing.assert_close(two.value, one.value - 7)
    torch.testing.assert_close(two.gradient, one.gradient)


def test_the_value_is_invariant_under_standardisation():
    potential, m, S = stretched()
    law = find_marginal(GaussianMixture([1.0], m[None], S[None]))
    y = find_marginal("normal", 2).draw(9, generator())
    inner = Quadratic(potential.A / 3, (potential.b - m) / 3)
    one = Exact(find_marginal("normal", 2), law).measure(potential, y, 0, generator()).value
    two = Exact(find_marginal("normal", 2), standardised(law, m, 3.0)).measure(inner, y, 0, generator()).value
    torch.testing.assert_close(one, two)


def test_an_annealed_target_comes_as_the_square_of_time():
    potential, m, S = stretched()
    reference, target = find_marginal("normal", 2), find_marginal(GaussianMixture([1.0], m[None], S[None]))
    y, exact = reference.draw(20, generator()), Exact(reference, target, annealed=3)
    x = potential.gradient(y)
    own = reference.log_density(y) - potential.log_determinant(y)
    for k, share in enumerate((1 / 16, 1 / 4, 9 / 16, 1, 1)):
        between = share * target.log_density(x) + (1 - share) * reference.log_density(x)
        torch.testing.assert_close(exact.measure(potential, y, k, generator()).value, own - between)
    torch.testing.assert_close(exact.value(potential, y), own - target.log_density(x))  # judges see the target itself


def test_a_density_that_is_not_finite_is_named_with_the_place():
    law = find_marginal(lambda x: torch.where(x[:, 0] > 2, torch.nan, 0.0) * x[:, 0], 1)
    exact = Exact(find_marginal("normal", 1), law)
    with pytest.raises(NotFinite, match=r"not finite at x = \(3\)"):
        exact.measure(Quadratic.identity(1), torch.tensor([[0.0], [3.0]], dtype=torch.float64), 0, generator())


def test_a_law_without_a_density_is_refused():
    with pytest.raises(ValueError, match="data has no density"):
        Exact(find_marginal("normal", 1), find_marginal(torch.randn(9, 1, generator=generator())))


def test_the_classifier_learns_the_log_ratio():
    """N(0.5, 0.5^2) against N(0, 1), both with noise of 0.3: the log-ratio of the smoothed laws is a parabola."""
    target = GaussianMixture([1.0], [0.0], [1.0])
    data = find_marginal(target.sample(20_000, 0))
    learner = Classified(find_marginal("normal", 1), data, Training(noise=0.3, rounds=120), bound=10.0)
    step = 10_000  # at its least noise
    potential = Quadratic(torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64))
    y = find_marginal("normal", 1).draw(2000, generator(1))
    measured = learner.measure(potential, y, step, generator(2))
    x, own, other = potential.gradient(y)[:, 0], 0.25 + 0.09, 1 + 0.09
    ratio = -((x - 0.5) ** 2) / (2 * own) + x**2 / (2 * other) + 0.5 * torch.tensor(other / own).log()
    assert float((measured.value - ratio).square().mean().sqrt()) < 0.12  # of a ratio that varies by 0.6
    slope = 0.5 * (-(x - 0.5) / own + x / other)
    assert float((measured.gradient[:, 0] - slope).square().mean().sqrt()) < 0.15
    assert measured.figures["calibration"] < 0.05
    smoothed_kl = (own / other - 1 - float(torch.tensor(own / other).log()) + 0.25 / other) / 2
    assert measured.figures["kl"] == pytest.approx(smoothed_kl, abs=0.06)


def test_score_matching_learns_the_score():
    law = find_marginal(GaussianMixture([1.0], [[0.0, 0.0]], [1.0]))
    learner = Matched(find_marginal("normal", 2), law, Training(noise=0.2, rounds=120))
    potential = Quadratic(torch.diag(torch.tensor([2.0, 0.5])).double(), torch.zeros(2).double())
    y = find_marginal("normal", 2).draw(2000, generator(1))
    learner.measure(potential, y, 10_000, generator(2))
    x = potential.gradient(y)
    exact = -x / torch.tensor([4.04, 0.29], dtype=torch.float64)
    error = (learner.score(x).detach() - exact).square().sum(1).mean().sqrt()
    assert float(error / exact.square().sum(1).mean().sqrt()) < 0.15


def test_what_learners_need():
    normal, data = find_marginal("normal", 1), find_marginal(torch.randn(9, 1, generator=generator()))
    with pytest.raises(ValueError, match="no points to learn from"):
        Classified(normal, find_marginal(lambda x: -x.square().sum(1), 1))
    with pytest.raises(ValueError, match="has no density"):
        Matched(normal, data)
