import numpy as np
import pytest
import torch

from brenier import GaussianMixture
from brenier.transport.mongeampere import find_law, gaussian_flow, residual_map
from brenier.transport.mongeampere.discrepancy import Exact, Field
from brenier.transport.mongeampere.fits import FeatureFit, NetworkFit, QuadraticFit
from brenier.transport.mongeampere.flow import Diverged, iterate
from brenier.transport.mongeampere.potentials import Quadratic


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def law(d, seed=0):
    W = draw(d, 2 * d, seed=seed)
    S = W @ W.T / (2 * d) + 0.3 * torch.eye(d, dtype=torch.float64)
    return find_law(GaussianMixture([1.0], draw(1, d, seed=seed + 1), S[None]))


def fits(d):
    return {"quadratic": QuadraticFit(), "linear": FeatureFit(draw(10, d), 1.0), "neural": NetworkFit(8)}


@pytest.mark.parametrize("d", [1, 2, 5, 20, 50])
@pytest.mark.parametrize("name", ["quadratic", "linear", "neural"])
def test_fed_exact_scores_every_method_follows_the_gaussian_recursion(d, name):
    """To 1e-10 (arXiv:2504.09279; the recursion of `gaussian`). Scores as a field that knows the step's own law."""
    reference, target, etas = find_law("normal", d), law(d), [0.1] * 15
    exact = [Quadratic.identity(d), *gaussian_flow(reference, target, etas)]
    inverse = torch.linalg.inv(target.covariance)

    def field(x, k):
        A, b = exact[k].A, exact[k].b
        return -(x - b) @ torch.linalg.inv(A @ A) + (x - target.mean) @ inverse

    steps = iterate(
        exact[0], reference, Field(field), fits(d)[name], etas, 4 * d + 20, 1e9, generator(), first=0, fixed=None
    )
    for step, expected in zip(steps, exact[1:], strict=True):
        assert float((step.potential.A - expected.A).abs().max()) < 1e-10
        assert float((step.potential.b - expected.b).abs().max()) < 1e-10


@pytest.mark.parametrize("name", ["quadratic", "linear", "neural"])
def test_and_so_it_does_from_densities(name):
    reference, target, etas = find_law("normal", 3), law(3), [0.1] * 15
    steps = iterate(
        Quadratic.identity(3), reference, Exact(reference, target), fits(3)[name], etas, 60, 0.5, generator()
    )
    for step, expected in zip(steps, gaussian_flow(reference, target, etas), strict=True):
        assert float((step.potential.A - expected.A).abs().max()) < 1e-10


def test_the_printed_residual_form_follows_it_too():
    reference, target, etas = find_law("normal", 3), law(3), [0.1] * 5
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
        find_law("normal", 1),
        Field(lambda x, k: fields[k](x)),
        FeatureFit(centres, 0.3),
        etas,
        400,
        1e9,
        generator(),
        fixed=y,
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
    target = find_law(GaussianMixture([1.0], [0.0], [0.01]))
    reference = find_law("normal", 1)
    steps = list(
        iterate(Quadratic.identity(1), reference, Exact(reference, target), QuadraticFit(), [0.1], 50, 1e9, generator())
    )
    assert steps[0].halvings == 4
    assert steps[0].eta == pytest.approx(0.1 / 16)
    assert steps[0].curvature == pytest.approx(1 - 99 * 0.1 / 16)


def test_no_step_at_all_is_a_divergence():
    jump = Field(lambda x, k: 1e30 * x)
    with pytest.raises(Diverged, match="step 1: the potential is not convex after a step"):
        list(iterate(Quadratic.identity(1), find_law("normal", 1), jump, QuadraticFit(), [1.0], 50, 1e9, generator()))


def test_numbers_that_are_not_finite_are_a_divergence_that_names_the_step():
    field = Field(lambda x, k: x * (np.nan if k == 2 else 0.1))
    steps = iterate(
        Quadratic.identity(1), find_law("normal", 1), field, QuadraticFit(), [1.0] * 5, 50, 1e9, generator()
    )
    assert next(steps).number == 1
    assert next(steps).number == 2
    with pytest.raises(Diverged, match="step 3"):
        next(steps)


def test_the_dual_falls_by_both_divergences():
    """d D/dt = -KL(rho || target) - KL(target || rho): the evolution variational inequality, for Gaussians."""
    reference, target = find_law("normal", 2), law(2)
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
