"""From one potential to the next: the convex potential nearest to psi_k - eta h(T_k), from its values and gradients.

A step of the iteration names the next potential at points y of the reference,

    v(y) = psi_k(y) - eta h(T_k(y)),      t(y) = grad v(y) = T_k(y) - eta J_k(y) (grad h)(T_k(y)),

and a fit finds a member of a family that has them: the *quadratic* one in closed form; *features* by linear least
squares; a *network* by gradient steps on what the quadratic part leaves. Composing the steps instead, as they are
printed, takes k nested derivatives; see `residual`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.transport.mongeampere.marginal import LogDensity
from brenier.transport.mongeampere.potentials import (
    ConvexNetwork,
    Features,
    Potential,
    Quadratic,
    detached,
    fit_quadratic,
)

BOUND = 3.0  # of log(rho/e^{-f}) about its median, in the fit of a network
BLOCK = 2**24  # numbers in a block of second derivatives
DONE = 1e-7  # that the quadratic part may leave, of a step or of a standard deviation, without others being called in
REACH = 7.0  # standard deviations of the reference that bumps cover on the line and in the plane
FLOOR = 1e-3  # least curvature of the quadratic part of a network


@dataclass(frozen=True)
class Aim:
    """What the next potential is to be at points of the reference.

    Attributes:
        y: shape (n, d).
        gradient: t, shape (n, d).
        value: v, shape (n,), up to a constant; None where unknown.
        weights: of the gradients, shape (n,): less than 1 where they leave the trust region.
        step: root mean square of t - T_k(y).
        eta: the step size.
        h: log(rho_k/e^{-f}) at T_k(y), shape (n,); None where unknown.
        mass: of the points in averages, shape (n,), sum 1.
    """

    y: Float[Tensor, "n d"]
    gradient: Float[Tensor, "n d"]
    value: Float[Tensor, " n"] | None
    weights: Float[Tensor, " n"]
    step: float
    eta: float
    h: Float[Tensor, " n"] | None
    mass: Float[Tensor, " n"]


class Fit(ABC):
    """A way to find the next potential."""

    @abstractmethod
    def next(self, potential: Potential, aim: Aim, pace: float, generator: torch.Generator) -> Potential:
        """The potential nearest to `aim`; `pace` is the step over the first step of the rule, at most 1."""


class QuadraticFit(Fit):
    """Least squares among the gradients of quadratic potentials."""

    def next(self, potential: Potential, aim: Aim, pace: float, generator: torch.Generator) -> Quadratic:
        """The potential nearest to what `aim` asks for."""
        return fit_quadratic(aim.y, aim.gradient, aim.weights)


class FeatureFit(Fit):
    """Least squares on values, where known, and gradients, among quadratics plus Gaussian bumps.

    Args:
        centres: c, shape (m, d).
        width: l.
        ridge: of the bumps' coefficients, over the mean square of the rows.
    """

    def __init__(self, centres: Float[Tensor, "m d"], width: float, ridge: float = 1e-9) -> None:
        self.centres, self.width, self.ridge = centres, torch.tensor(width, dtype=centres.dtype), ridge

    def next(self, potential: Potential, aim: Aim, pace: float, generator: torch.Generator) -> Features:
        """The potential nearest to what `aim` asks for."""
        quadratic = fit_quadratic(aim.y, aim.gradient, aim.weights)
        zero = self.centres.new_zeros(len(self.centres))
        left = aim.gradient - quadratic.gradient(aim.y)
        if _size(left, aim.weights) <= DONE * max(aim.step, 1.0):
            return Features(quadratic.A, quadratic.b, self.centres, self.width, zero)
        rows, goal = self._rows(aim)
        normal = rows.T @ rows
        ridge = self.ridge * normal.diagonal().mean()
        normal.diagonal()[-len(self.centres) :] += ridge
        found = torch.linalg.solve(normal, rows.T @ goal)
        return self._potential(found, aim.y.shape[1])

    def _rows(self, aim: Aim) -> tuple[Float[Tensor, "rows p"], Float[Tensor, " rows"]]:
        """Gradients of all terms at all points, weighted, and what they are to sum to; below them the values."""
        y, (n, d) = aim.y, aim.y.shape
        first, second = torch.triu_indices(d, d)
        eye = torch.eye(d, dtype=y.dtype)
        bumps = Features(eye, eye[0], self.centres, self.width, self.centres[:, 0]).bumps(y)
        pull = bumps[:, :, None] * (self.centres - y[:, None]) / self.width**2
        gradients = torch.cat([_products(y), eye.expand(n, d, d), pull], 1).mT  # (n, d, p)
        root = aim.weights.sqrt()[:, None, None]
        rows, goal = (root * gradients).flatten(0, 1), (root[:, 0] * aim.gradient).flatten()
        if aim.value is None:
            return rows, goal
        squares = y[:, first] * y[:, second] * torch.where(first == second, 0.5, 1.0)
        values = torch.cat([squares, y, bumps], 1)
        return torch.cat([rows, values - values.mean(0)]), torch.cat([goal, aim.value - aim.value.mean()])

    def _potential(self, found: Float[Tensor, " p"], d: int) -> Features:
        first, second = torch.triu_indices(d, d)
        A = found.new_zeros(d, d)
        A[first, second] = found[: len(first)]
        A[second, first] = found[: len(first)]
        b, theta = found[len(first) : len(first) + d], found[len(first) + d :]
        return Features(A, b, self.centres, self.width, theta)


class ImplicitFit(FeatureFit):
    """A backward Euler step of the flow in its own geometry, linearised.

    Tested with a feature phi, a step delta = -eta h(T) has

        E[grad phi . J^{-1} grad delta] = -eta E[grad phi . (grad h)(T)] = -eta dF(phi),    F(psi) = KL(rho || e^{-f}):

    gradients fitted by least squares, weighted by J^{-1}, are steepest descent of F. An implicit step adds to the left
    the second derivative of F,

        eta E[tr(J^{-1} Hess phi J^{-1} Hess delta) + grad phi . (Hess f)(T) grad delta],

    or, where that leaves it indefinite, the same with the positive part of Hess f.

    Explicit steps over fine features are stable for small eta only; these for any. For large eta they are Newton's
    method for F, and log det J in F keeps psi convex.

    Args:
        centres, width: see `FeatureFit`.
        log_density: -f.
        ridge: of the change of the bumps' coefficients, over the mean of the matrix's diagonal.
    """

    def __init__(
        self, centres: Float[Tensor, "m d"], width: float, log_density: LogDensity, ridge: float = 1e-9
    ) -> None:
        super().__init__(centres, width, ridge)
        self.log_density = log_density

    def next(self, potential: Potential, aim: Aim, pace: float, generator: torch.Generator) -> Features:
        """The potential after the step."""
        d, m = potential.dim, len(self.centres)
        terms = d * (d + 1) // 2 + d + m
        metric, barrier, curved, kept = (aim.y.new_zeros(terms, terms) for _ in range(4))
        slope = aim.y.new_zeros(terms)
        rows = max(1, BLOCK // (d * d * terms))
        for y, mass in zip(aim.y.split(rows), aim.mass.split(rows), strict=True):
            forms = self._forms(potential, y, mass)
            for total, part in zip((metric, barrier, curved, kept, slope), forms, strict=True):
                total += part
        for second in (curved, kept):
            matrix = metric + aim.eta * (barrier + second)
            matrix.diagonal()[-m:] += self.ridge * matrix.diagonal().mean()
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if not int(failed):
                break
        step = torch.cholesky_solve(-aim.eta * slope[:, None], factor)[:, 0]
        change = self._potential(step, d)
        theta = change.theta if not isinstance(potential, Features) else potential.theta + change.theta
        assert isinstance(potential, Quadratic | Features)
        return Features(potential.A + change.A, potential.b + change.b, self.centres, self.width, theta)

    def _forms(self, potential: Potential, y: Float[Tensor, "n d"], mass: Float[Tensor, " n"]) -> tuple[Tensor, ...]:
        """Sums over points: metric; second derivative of -E log det J, of E f(T), the same with (Hess f)_+; slope.

        Second derivatives of features go with J^{-1} = C C' as the upper half of C' Hess C, off its diagonal times
        the root of 2, so that products of such vectors are traces.
        """
        n, d = y.shape
        first, second = torch.triu_indices(d, d)
        eye, on = torch.eye(d, dtype=y.dtype), first == second
        slope, hessian = self._target(potential, y)
        root = torch.linalg.inv(torch.linalg.cholesky(potential.hessian(y))).mT
        away = (self.centres - y[:, None]) / self.width**2
        bumps = (-(self.width**2) * away.square().sum(2) / 2).exp()[:, :, None]
        gradients = torch.cat([_products(y), eye.expand(n, d, d), bumps * away], 1)  # (n, p, d)
        scale = y.new_full((len(first),), math.sqrt(2)).masked_fill(on, 1.0)
        products = root[:, first][:, :, first] * root[:, second][:, :, second]
        products = products + root[:, first][:, :, second] * root[:, second][:, :, first]
        leaning = away @ root
        inverse = (root.mT @ root)[:, first, second] / self.width**2
        outer = bumps * (leaning[:, :, first] * leaning[:, :, second] - inverse[:, None])
        hessians = torch.cat([products * torch.where(on, 0.5, 1.0)[:, None], y.new_zeros(n, d, len(first)), outer], 1)
        share, weighted = mass.sqrt()[:, None, None], mass.sqrt()[:, None, None] * gradients
        curved = _gram(weighted, weighted @ hessian)
        falls = (gradients @ slope[:, :, None])[:, :, 0] - hessians[:, :, on].sum(2)
        return (
            _gram(weighted @ root),
            _gram(share * scale * hessians),
            (curved + curved.T) / 2,
            _gram(weighted @ _positive_root(hessian)),
            mass @ falls,
        )

    def _target(self, potential: Potential, y: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
        """grad f and Hess f at T(y)."""
        with torch.enable_grad():
            x = potential.gradient(y).detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(-self.log_density(x).sum(), x, create_graph=True)
            if not slope.requires_grad:
                return slope, y.new_zeros(*y.shape, y.shape[1])
            rows = [
                torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True, allow_unused=True, materialize_grads=True)[
                    0
                ]
                for i in range(y.shape[1])
            ]
        return slope.detach(), torch.stack(rows, 1)


def _products(y: Float[Tensor, "n d"]) -> Float[Tensor, "n q d"]:
    """Gradients of the terms y_i^2/2 and y_i y_j, i < j, of a quadratic."""
    first, second = torch.triu_indices(y.shape[1], y.shape[1])
    eye = torch.eye(y.shape[1], dtype=y.dtype)
    return y[:, first, None] * eye[second] + (y[:, second, None] * eye[first]) * (first != second)[:, None]


def _gram(rows: Float[Tensor, "n p c"], others: Float[Tensor, "n p c"] | None = None) -> Float[Tensor, "p p"]:
    flat = rows.transpose(0, 1).flatten(1)
    return flat @ (flat if others is None else others.transpose(0, 1).flatten(1)).T


def _positive_root(matrices: Float[Tensor, "n d d"]) -> Float[Tensor, "n d d"]:
    """R with R R' the positive part of each symmetric matrix."""
    values, axes = torch.linalg.eigh((matrices + matrices.mT) / 2)
    return axes * values.clamp(min=0).sqrt()[:, None]


def bumps(dim: int, count: int, seed: int) -> tuple[Float[Tensor, "m d"], float]:
    """Centres and width of bumps that cover a standardised reference: evenly up to the plane, else by its law."""
    width = REACH / count ** (1 / dim)
    if dim == 1:
        return torch.linspace(-REACH / 2, REACH / 2, count, dtype=torch.float64)[:, None], width
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)
    if dim == 2:
        square = REACH * (engine.draw(2 * count, dtype=torch.float64) - 0.5)
        return square[square.norm(dim=1) <= REACH / 2][:count], width
    return 1.3 * torch.special.ndtri(engine.draw(count, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)), width


@dataclass(eq=False)
class NetworkFit(Fit):
    """The quadratic part in closed form, then Adam on everything, from where the network was.

    Args:
        units: m.
        rounds: gradient steps.
        batch: points in each.
        rate: of Adam; the laws are standardised.
        value_weight, gradient_weight: of the two losses. Values carry the balance between the modes of a target, to
            a few hundredths; gradients are large in the layers between them, and would drown it.
    """

    units: int
    rounds: int = 60
    batch: int = 1024
    rate: float = 3e-3
    value_weight: float = 10.0
    gradient_weight: float = 0.05
    _network: ConvexNetwork | None = field(default=None, init=False)
    _optimizer: torch.optim.Adam | None = field(default=None, init=False)

    def next(self, potential: Potential, aim: Aim, pace: float, generator: torch.Generator) -> Potential:
        """The potential nearest to what `aim` asks for."""
        network = potential if isinstance(potential, ConvexNetwork) else None
        if network is None:
            quadratic = fit_quadratic(aim.y, aim.gradient, aim.weights)
            left = aim.gradient - quadratic.gradient(aim.y)
            if _size(left, aim.weights) <= DONE * max(aim.step, 1.0):
                return quadratic
            assert isinstance(potential, Quadratic)
            rank = min(potential.dim, 8)
            rows = torch.randperm(len(aim.y), generator=generator)[: self.units]
            network = ConvexNetwork.start(potential, self.units, rank, aim.y[rows])
        return self._train(network, aim, pace, generator)

    def _train(self, network: ConvexNetwork, aim: Aim, pace: float, generator: torch.Generator) -> ConvexNetwork:
        now, aim = self._adopted(network), tamed(network, aim)
        optimizer, y = self._optimizer, aim.y
        assert optimizer is not None
        for group in optimizer.param_groups:
            group["lr"] = group["first"] * pace
        with torch.no_grad():
            self._close(now, aim)
        with torch.enable_grad():
            for _ in range(self.rounds):
                rows = torch.randint(len(y), (self.batch,), generator=generator)
                value, gradient = now.both(y[rows])
                gradient = gradient + now.quadratic.gradient(y[rows])
                off = (gradient - aim.gradient[rows]).square().sum(1)
                loss = self.gradient_weight * (aim.weights[rows] * off).mean()
                if aim.value is not None:
                    error = value + now.quadratic.value(y[rows]) - aim.value[rows]
                    loss = loss + self.value_weight * (error - error.mean()).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    now.amplitude.clamp_(min=0)
                    now.A.copy_(_raised(now.A, FLOOR))
        found = detached(now)
        assert isinstance(found, ConvexNetwork)
        return found

    def _close(self, network: ConvexNetwork, aim: Aim) -> None:
        """The quadratic part that goes best with the units as they are."""
        units = network.both(aim.y)[1]
        quadratic = fit_quadratic(aim.y, aim.gradient - units, aim.weights)
        network.A.copy_(_raised(quadratic.A, FLOOR))
        network.b.copy_(quadratic.b)

    def _adopted(self, network: ConvexNetwork) -> ConvexNetwork:
        """The network as parameters of the one optimizer, whose moments go on from step to step."""
        if self._network is None:
            arrays: dict[str, Any] = {k: v.detach().clone().requires_grad_(True) for k, v in network.arrays().items()}
            self._network = ConvexNetwork(**arrays)
            rates = {"log_temperature": 0.01, "amplitude": self.rate, "A": self.rate}
            groups = [{"params": [v], "lr": 0.0, "first": rates.get(k, self.rate)} for k, v in arrays.items()]
            self._optimizer = torch.optim.Adam(groups)
        with torch.no_grad():
            for name, value in network.arrays().items():
                self._network.arrays()[name].copy_(value)
        return self._network


def _size(left: Float[Tensor, "n d"], weights: Float[Tensor, " n"]) -> float:
    """Root of the weighted mean square."""
    return float(((weights * left.square().sum(1)).sum() / weights.sum()).sqrt())


def _raised(A: Float[Tensor, "d d"], least: float) -> Float[Tensor, "d d"]:
    """The nearest symmetric matrix with eigenvalues of at least `least`."""
    values, axes = torch.linalg.eigh((A + A.T) / 2)
    return (axes * values.clamp(min=least)) @ axes.T


def tamed(potential: Potential, aim: Aim) -> Aim:
    """The same aim with h led through BOUND tanh(h/BOUND) about its median, where it leaves these bounds.

    Between densities h varies by hundreds where a map crosses the gaps of a target, on few points. How far above the
    rest it is there says nothing about how to get out, and would outweigh all else in a fit.
    """
    if aim.h is None:
        return aim
    centred = aim.h - aim.h.median()
    if float(centred.abs().max()) <= 2 * BOUND:
        return aim
    soft = torch.tanh(centred / BOUND)
    with torch.no_grad():
        here, value = potential.gradient(aim.y), potential.value(aim.y)
    gradient = here + (1 - soft.square())[:, None] * (aim.gradient - here)
    return replace(aim, gradient=gradient, value=value - aim.eta * BOUND * soft)


def trusted(aim: Aim, displacement: Float[Tensor, "n d"], limit: float) -> Aim:
    """The same aim with gradients weighted down where they move a point by more than `limit`."""
    length = displacement.norm(dim=1)
    return replace(aim, weights=(limit / length.clamp(min=limit)).square())
