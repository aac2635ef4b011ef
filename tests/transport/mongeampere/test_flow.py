import numpy as np
import pytest
import torch

from brenier import GaussianMixture
from brenier.references.residual import residual_map
from brenier.transport.mongeampere import find_marginal, gaussian_flow, gaussian_map
from brenier.transport.mongeampere.discrepancy import Exact, Field
from brenier.transport.mongeampere.fits import FeatureFit, ImplicitFit, NetworkFit, QuadraticFit
from brenier.transport.mongeampere.flow import Diverged, iterate
from brenier.transport.mongeampere.marginal import covering
from brenier.transport.mongeampere.potentials import Features, Quadratic


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def law(d, seed=0):
    W = draw(d, 2 * d, seed=seed)
    S = W @ W.T / (2 * d) + 0.3 * torch.eye(d, dtype=torch.float64)
    return find_marginal(GaussianMixture([1.0], draw(1, d, seed=seed + 1), S[None]))


def fits(d):
    return {"quadratic": QuadraticFit(), "linear": FeatureFit(draw(10, d), 1.0), "neural": NetworkFit(8)}


@pytest.mark.parametrize("d", [1, 2, 5, 20, 50])
@pytest.mark.parametrize("name", ["quadratic", "linear", "neural"])
def test_fed_exact_scores_every_method_follows_the_gaussian_recursion(d, name):
    """To 1e-10 (arXiv:2504.09279; the recursion of `gaussian`). Scores as a field that knows the step's own law."""
    reference, target, etas = find_marginal("normal", d), law(d), [0.1] * 15
    exact = [Quadratic.identity(d), *gaussian_flow(reference, target, etas)]
    inverse = torch.linalg.inv(target.covariance)

    def field(x, k):
        A, b = exact[k].A, exact[k].b
        return -(x - b) @ torch.linalg.inv(A @ A) + (x - target.mean) @ inverse

    steps = iterate(exact[0], reference, Field(field), fits(d)[name], etas, 4 * d + 20, 1e9, generator())
    for step, expected in zip(steps, exact[1:], strict=True):
        assert float((step.potential.A - expected.A).abs().max()) < 1e-10
        assert float((step.potential.b - expected.b).abs().max()) < 1e-10


@pytest.mark.parametrize("name", ["quadratic", "linear", "neural"])
def test_and_so_it_does_from_densities(name):
    reference, target, etas = find_marginal("normal", 3), law(3), [0.1] * 15
    steps = iterate(
        Quadratic.identity(3), reference, Exact(reference, target), fits(3)[name], etas, 60, 0.5, generator()
    )
    for step, expected in zip(steps, gaussian_flow(reference, target, etas), strict=True):
        assert float((step.potential.A - expected.A).abs().max()) < 1e-10


def test_the_printed_residual_form_follows_it_too():
    reference, target, etas = find_marginal("normal", 3), law(3), [0.1] * 5
    exact = [Quadratic.identity(3), *gaussian_flow(reference, target, etas)]
    inverse = torch.linalg.inv(target.covariance)
    fields = [
        lambda x, k=k: -(x - exact[k].b) @ torch.linalg.inv(exact[k].A @ exact[k].A) + (x - target.mean) @ inverse
        for k in range(5)
    ]
    y = draw(20, 3, seed=5)
    torch.testing.assert_close(residual_map(fields, etas, y), exact[5].gradient(y), rtol=1e-10, atol=1e-10)


def test_refits_agree_with_the_residual_form_where_the_map_bends():
    fields = [lambda x, k=k: torch.tanh(2 * x - 0.3 * k) for k in range(4)]
    etas, y = [0.1] * 4, torch.linspace(-3, 3, 400, dtype=torch.float64)[:, None]
    centres = torch.linspace(-3.5, 3.5, 40, dtype=torch.float64)[:, None]
    flow = iterate(
        Quadratic.identity(1),
        find_marginal("normal", 1),
        Field(lambda x, k: fields[k](x)),
        FeatureFit(centres, 0.3),
        etas,
        400,
        1e9,
        generator(),
        fixed=(y, torch.full_like(y[:, 0], 1 / len(y))),
    )
    *_, last = flow
    exact = residual_map(fields, etas, y)
    assert float((last.potential.gradient(y) - exact).abs().max()) < 2e-3
    assert float((exact - y).abs().max()) > 0.3


def test_the_residual_form_counts_its_steps():
    with pytest.raises(ValueError, match="9 fields, 9 steps: give as many of both, at most 8"):
        residual_map([torch.tanh] * 9, [0.1] * 9, draw(3, 1))
    with pytest.raises(ValueError, match="2 fields, 1 steps"):
        residual_map([torch.tanh] * 2, [0.1], draw(3, 1))


def test_a_step_that_folds_is_halved_and_counted():
    """N(0, 0.01): a step of 0.1 makes A = 1 - 0.1 (100 - 1) < 0, one of 0.1/16 does not."""
    target = find_marginal(GaussianMixture([1.0], [0.0], [0.01]))
    reference = find_marginal("normal", 1)
    steps = list(
        iterate(Quadratic.identity(1), reference, Exact(reference, target), QuadraticFit(), [0.1], 50, 1e9, generator())
    )
    assert steps[0].halvings == 4
    assert steps[0].eta == pytest.approx(0.1 / 16)
    assert steps[0].curvature == pytest.approx(1 - 99 * 0.1 / 16)


def test_no_step_at_all_is_a_divergence():
    jump = Field(lambda x, k: 1e30 * x)
    with pytest.raises(Diverged, match="step 1: the potential is not convex after a step"):
        list(
            iterate(
                Quadratic.identity(1), find_marginal("normal", 1), jump, QuadraticFit(), [1.0], 50, 1e9, generator()
            )
        )


def test_numbers_that_are_not_finite_are_a_divergence_that_names_the_step():
    field = Field(lambda x, k: x * (np.nan if k == 2 else 0.1))
    steps = iterate(
        Quadratic.identity(1), find_marginal("normal", 1), field, QuadraticFit(), [1.0] * 5, 50, 1e9, generator()
    )
    assert next(steps).number == 1
    assert next(steps).number == 2
    with pytest.raises(Diverged, match="step 3"):
        next(steps)


def test_the_dual_falls_by_both_divergences():
    """d D/dt = -KL(rho || target) - KL(target || rho): the evolution variational inequality, for Gaussians."""
    reference, target = find_marginal("normal", 2), law(2)
    m, S = target.mean, target.covariance

    def dual(q):
        """E psi(Y) + E psi^c(X) in closed form."""
        inverse = torch.linalg.inv(q.A)
        centred = S + torch.outer(m - q.b, m - q.b)
        return float((q.A.trace() + (inverse * centred).sum()) / 2)

    def kl(b0, C0, b1, C1):
        ratio, shift = torch.linalg.solve(C1, C0), b0 - b1
        return float(ratio.trace() - len(b0) - torch.logdet(ratio) + shift @ torch.linalg.solve(C1, shift)) / 2

    eta, before = 1e-5, Quadratic.identity(2)
    for after in gaussian_flow(reference, target, [eta] * 3):
        C = before.A @ before.A
        fall = kl(before.b, C, m, S) + kl(m, S, before.b, C)
        assert (dual(before) - dual(after)) / eta == pytest.approx(fall, rel=1e-3)
        before = after


def exact_moments():
    """400 points with mean 0 and covariance I exactly, for which implicit steps on normal laws have no noise."""
    y = draw(400, 2)
    y = y - y.mean(0)
    y = torch.linalg.solve(torch.linalg.cholesky(y.T @ y / 400), y.T).T
    return y, torch.full_like(y[:, 0], 1 / 400)


def implicit_steps(target, etas):
    reference, fit = (
        find_marginal("normal", 2),
        ImplicitFit(20 + draw(1, 2), 0.1, target.log_density),
    )  # no point feels it
    return iterate(
        Quadratic.identity(2),
        reference,
        Exact(reference, target),
        fit,
        etas,
        400,
        1e9,
        generator(),
        exact_moments(),
    )


def test_small_implicit_steps_are_the_iterations_to_first_order():
    target = law(2)
    for eta in (1e-3, 1e-4):
        (exact,) = gaussian_flow(find_marginal("normal", 2), target, [eta])
        (step,) = implicit_steps(target, [eta])
        moved = float((exact.A - torch.eye(2)).abs().max())
        assert float((step.potential.A - exact.A).abs().max()) < 10 * eta * moved


def test_large_implicit_steps_are_newtons_method():
    """From one step to the next the error is squared."""
    target = law(2)
    exact = gaussian_map(find_marginal("normal", 2), target)
    errors = [float((step.potential.A - exact.A).abs().max()) for step in implicit_steps(target, [1e9] * 8)]
    assert errors[-1] < 1e-8
    near = next(k for k, error in enumerate(errors) if error < 0.1)
    assert errors[near + 1] < 3 * errors[near] ** 2 + 1e-8


def test_the_forms_of_an_implicit_step_are_derivatives_of_the_divergence():
    target = find_marginal(GaussianMixture([0.4, 0.6], draw(2, 2), [0.25, 0.5]))
    centres, y = draw(4, 2, seed=1), draw(30, 2, seed=2)
    A = 1.5 * torch.eye(2, dtype=torch.float64)
    potential = Features(A, A[0] * 0, centres, torch.tensor(0.8, dtype=torch.float64), 0.05 * draw(4, seed=3))
    fit = ImplicitFit(centres, 0.8, target.log_density)
    mass = torch.rand(30, generator=generator(4), dtype=torch.float64).softmax(0)
    *_, slope = fit._forms(potential, y, mass)
    exact = Exact(find_marginal("normal", 2), target)
    for j in range(len(slope)):
        unit = torch.zeros_like(slope)
        unit[j] = 1e-6
        change = fit._potential(unit, 2)
        there, back = (
            Features(
                potential.A + s * change.A, s * change.b, centres, potential.width, potential.theta + s * change.theta
            )
            for s in (1, -1)
        )
        expected = float(mass @ (exact.value(there, y) - exact.value(back, y))) / 2e-6
        assert float(slope[j]) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_points_that_cover_a_law_average_as_it_does():
    mixture = find_marginal(GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.5, 1.0]], [0.25, 0.5]))
    for law_, scale in ((find_marginal("normal", 2), 1.0), (mixture, 2.0)):
        y, mass = covering(law_, 20_000, generator(1))
        torch.testing.assert_close(mass @ y, law_.mean, atol=0.03 * scale, rtol=0)
        spread = y - law_.mean
        torch.testing.assert_close((mass[:, None] * spread).T @ spread, law_.covariance, atol=0.05 * scale**2, rtol=0)
        assert float(mass.max()) < 2.1 / 20_000
