"""A chain on the line under any potential, by quantile functions: laws there, maps back, and what theory allows.

    back        b_k = i + eta (f' + (log p_k)'/beta)                                         [LDK24] (3.2), Theorem 2
    curvature   C_k = f'' + (log p_k)''/beta,  at mu_k's points: b_k' = 1 + eta C_k

W2^2 grows at most at the rate 2 (kappa - zeta/beta), with zeta = -sup (log p_k)'' (Theorem 2). What Theorem 4 says of
the Ornstein-Uhlenbeck process its proof gives here, too: for differences of richness M, at most 2 (kappa -
zeta*_M/beta) with

    zeta*_M = sup over delta >= 0 of [delta - M E((log p_k)'' + delta)_+],

and, sharp, 2 CVaR_{1-1/M}(C_k), in which f'' and the law's curvature meet at the same point. The latter is finite
where kappa is not. Over the stretch where the laws taken back lie, 2 sup C_k is the worst case.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.integrate import solve_ivp
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtr

from brenier import complexity
from brenier.core.checks import Array
from brenier.core.records import Variables
from brenier.laws.base import Target
from brenier.laws.line.quantiles import REACH, Mesh, Quantiles, resolve
from brenier.probing.chain.entropies import divergences
from brenier.probing.chain.flow import Flow, Noiseless, Reach
from brenier.probing.chain.gaussian import Forward
from brenier.probing.chain.potential import Potential
from brenier.probing.chain.proximal import EXTENT, Proximal

_POSITION = 1e-7  # error allowed of a curve on a panel, relative to the spread of the laws
_MIDDLE = 3.2905  # |z| < _MIDDLE is the middle 99.9% of a law
_OUT = 10.5  # |z| up to which laws are followed
_ROOM = 0.15  # share of the reach that is added on either side
_ROUNDS = 4
_FOLDS, _FLAT = 1e-6, 1e-3  # slopes below 0 that are put down to rounding
_MOMENTS = 201
_GRID = 501
_SAMPLE, _FINER = 1001, 8


Course: TypeAlias = Flow | Proximal | Noiseless  # the laws of a process at steps 0..K


def account_by_potential(
    law: Target,
    nu: Target,
    potential: Potential,
    *,
    steps: int,
    eta: float,
    beta: float,
    forward: Forward,
    richness: Array,
    advance: Callable[[float], None],
) -> tuple[Variables, str, tuple[float, float, bool]]:
    """Distances, rates and richness along the chain; how they were found, in words; lambda, kappa, and whether exact.

    Raises:
        ValueError: a step back folds, or what the laws' own constructions refuse.
    """
    room = reach(law, nu, potential, steps * eta, beta) if math.isfinite(beta) and forward == "flow" else None
    time = np.arange(steps + 1, dtype=np.float64) * eta
    for _ in range(_ROUNDS):
        mu, start = (_course(each, potential, steps, eta, beta, forward, room) for each in (law, nu))
        advance(0.3)
        mesh, (theirs, others, mubar, nubar) = _resolved(mu, start, law, nu, potential, steps, eta, beta)
        every = np.concatenate([theirs, others, mubar, nubar], 1)
        low, high = every.min(1), every.max(1)
        wider = None if room is None else room.widened(time, low, high)
        if wider is None:
            break
        room = wider
    else:
        raise ValueError(
            f"taken back, {nu.name} leaves the stretch where the laws of the chain lie: take fewer or shorter steps"
        )
    if forward == "jko" and math.isfinite(beta):
        _check_apart(mu, law, nu, others[-1], mesh)
    weights = mesh.weights
    found = {
        f"w2_{name}": np.sqrt(((a - b) ** 2) @ weights)
        for name, (a, b) in {
            "forward": (theirs, others),
            "backward": (theirs, nubar),
            "chain": (mubar, nubar),
            "discretisation": (theirs, mubar),
        }.items()
    }
    gap = (mubar - nubar)[:, abs(mesh.z) < _MIDDLE] ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        found["richness"] = gap.max(1) / found["w2_chain"] ** 2
    if math.isfinite(beta):

        def slope(k: int, x: Array) -> Array:
            return 1 + eta * (potential.second(x) + mu.at(k, x).bend / beta)

        own, other = (lambda k, x, course=course: course.at(k, x).log_density for course in (mu, start))
        found |= divergences((law, nu), (own, other), slope, (theirs, mubar), weights)
    known = potential.convexity(float(low.min()), float(high.max()))
    variables: Variables = {name: (("step",), values) for name, values in found.items()}
    variables |= _rates(mu, potential, mesh, (theirs, mubar, nubar), beta, richness, known[1])
    advance(0.1)
    how = "JKO steps" if forward == "jko" else "exact flow"
    return variables, f"quantile quadrature, {len(weights)} nodes, {how}", known


def _course(
    law: Target,
    potential: Potential,
    steps: int,
    eta: float,
    beta: float,
    forward: Forward,
    room: Reach | None,
) -> Course:
    if math.isinf(beta):
        return Noiseless(law, potential, steps, eta, implicit=forward == "jko")
    if room is None:
        return Proximal(law, potential, steps, eta, beta)
    return Flow(law, potential, steps, eta, beta, room)


def _resolved(
    mu: Course, start: Course, law: Target, nu: Target, potential: Potential, steps: int, eta: float, beta: float
) -> tuple[Mesh, tuple[Array, ...]]:
    """The curves of mu_k, nu_k, mubar_k and nubar_k on a mesh that resolves them."""
    # A JKO step takes whole stretches back to a point mass: there the slope is 0 but for the errors of splines.
    allowed = _FLAT if isinstance(mu, Proximal) else _FOLDS

    def curves(z: Array) -> tuple[Array, ...]:
        theirs, others = mu.curves(z), start.curves(z)
        mubar, nubar = np.zeros_like(theirs), np.zeros_like(theirs)
        mubar[-1], nubar[-1] = theirs[-1], others[-1]
        for k in range(steps, 0, -1):
            x = np.concatenate([mubar[k], nubar[k]])
            level = mu.at(k, x)
            there = x + eta * (potential.slope(x) + level.score / beta)
            # Far out, where a law has next to no mass, slopes are not known well enough to say that a map folds.
            bulk = np.tile(abs(z) < EXTENT / 2, 2)
            slope = 1 + eta * (potential.second(x) + level.bend / beta)
            if slope[bulk].min(initial=np.inf) < -allowed:
                worst = float(slope[bulk].min())
                if isinstance(mu, Proximal) and isinstance(start, Proximal):
                    widest = max(mu, start, key=lambda course: course.gap)
                    raise ValueError(
                        f"JKO step {k} of {steps} of {widest.name} is not resolved, its map's slope comes out as "
                        f"{worst:.3g}: {widest.emptiness}"
                    )
                raise ValueError(
                    f"step {k} of {steps} folds on its way back, its map's slope falls to {worst:.3g}: take a smaller "
                    f"eta, or JKO steps"
                )
            mubar[k - 1], nubar[k - 1] = there[: len(z)], there[len(z) :]
        return theirs, others, mubar, nubar

    jumps = [Quantiles(each, np.ones(1), np.zeros(1)).jumps() for each in (law, nu)]
    edges = np.unique(np.concatenate([np.linspace(-REACH, REACH, 25), *jumps]))

    def tolerances(first: tuple[Array, ...]) -> Array:
        theirs, others = first[:2]
        spread = max(float(np.std(theirs[0])), float(abs(theirs[0] - others[0]).max()), float(np.std(theirs[-1])))
        return np.full(4 * (steps + 1), _POSITION * max(spread, np.finfo(float).tiny))

    return resolve(curves, edges, tolerances)


def _rates(
    mu: Course,
    potential: Potential,
    mesh: Mesh,
    curves: tuple[Array, Array, Array],
    beta: float,
    richness: Array,
    kappa: float,
) -> Variables:
    """Rates on the way back at steps 1..K, by the theorems."""
    theirs, mubar, nubar = curves
    steps, temperature = len(theirs) - 1, 1 / beta
    single = {
        name: np.full(steps + 1, np.nan) for name in ("rate_worst", "rate_local", "mean_curvature", "sup_curvature")
    }
    star, sharp = (np.full((steps + 1, len(richness)), np.nan) for _ in range(2))
    inner = abs(mesh.z) < 2 * _MIDDLE  # beyond lies 5e-11 of the mass
    for k in range(1, steps + 1):
        x, weights, bend = _sample(mu, k, mesh, theirs[k])
        whole = potential.second(x) + bend * temperature
        back = np.concatenate([mubar[k, inner], nubar[k, inner]])
        ends = float(back.min()), float(back.max())
        largest = max(float(bend.max()), _highest(lambda x, k=k: mu.at(k, x).bend, *ends))
        worst_here = _highest(lambda x, k=k: potential.second(x) + mu.at(k, x).bend * temperature, *ends)
        worst_here = max(float(whole.max()), worst_here)
        unit = max(1.0, -float(bend.min()))
        zeta = unit * complexity.net_contraction(1 + bend / unit, richness, 0.0, weights)
        single["rate_worst"][k] = 2 * (kappa + largest * temperature)
        single["rate_local"][k] = 2 * worst_here
        single["mean_curvature"][k], single["sup_curvature"][k] = bend @ weights, largest
        star[k] = 2 * (kappa - zeta * temperature)
        sharp[k] = 2 * (1 - complexity.sharp_contraction(whole, richness, 0.0, weights))
    found: Variables = {name: (("step",), values) for name, values in single.items()}
    found |= {"rate_star": (("step", "perturbation"), star), "rate_sharp": (("step", "perturbation"), sharp)}
    return found


def _highest(function: Callable[[Array], Array], low: float, high: float) -> float:
    """The largest value of a function between two places, by grids that close in on it."""
    highest = -math.inf
    for _ in range(3):
        x = np.linspace(low, high, _GRID)
        values = function(x)
        best = int(values.argmax())
        highest = max(highest, float(values[best]))
        low, high = float(x[max(best - 1, 0)]), float(x[min(best + 1, _GRID - 1)])
    return highest


def _sample(mu: Course, k: int, mesh: Mesh, places: Array) -> tuple[Array, Array, Array]:
    """A weighted sample of mu_k with (log p_k)'' at its points, so close that tails of the curvature are resolved.

    Points lie close in z, and where the law has next to no mass in x. Between those that are computed, `_FINER` times
    as many are interpolated.
    """
    z = np.linspace(-2 * _MIDDLE, 2 * _MIDDLE, _SAMPLE)  # beyond lies 5e-11 of the mass
    rising = np.concatenate([[True], np.diff(np.maximum.accumulate(places)) > 1e-12 * np.ptp(places)])
    of_z = PchipInterpolator(mesh.z, places)
    x = of_z(z)
    if rising.sum() > 1:
        x = np.union1d(x, np.linspace(x[0], x[-1], _SAMPLE))
        z = np.union1d(z, np.interp(x, places[rising], mesh.z[rising]))
    x = np.unique(of_z(z))
    bend = mu.at(k, x).bend
    shares = np.arange(_FINER) / _FINER
    edges = np.append((z[:-1, None] + np.diff(z)[:, None] * shares).ravel(), z[-1])
    mass = np.maximum(np.diff(ndtr(edges)), 0)
    finer = of_z((edges[1:] + edges[:-1]) / 2).clip(x[0], x[-1])
    return finer, mass / mass.sum(), PchipInterpolator(x, bend)(finer) if len(x) > 1 else np.full_like(finer, bend[0])


def reach(law: Target, nu: Target, potential: Potential, time: float, beta: float) -> Reach:
    """Places between which a process from either law stays up to a time, but for 1e-25 of its mass, about.

    Half the width w of a law about its middle c grows as that of a normal law, dw^2/dt = 2 z^2/beta - 2 w (f'(c + w) -
    f'(c)).
    """
    moments = time * np.linspace(0, 1, _MOMENTS) ** 2
    paths: list[Array] = []
    for each in (law, nu):
        low, middle, high = Quantiles(each, np.ones(1), np.zeros(1))(np.array([-REACH, 0.0, REACH]))[0]
        widths = np.array([middle - low, high - middle]) * (_OUT / REACH)

        def growth(_: float, state: Array) -> Array:
            centre, squares = state[:1], np.maximum(state[1:], 0)
            width = np.sqrt(squares) * np.array([-1.0, 1.0])
            drift = potential.slope(np.concatenate([centre, centre + width]))
            return np.concatenate([-drift[:1], 2 * _OUT**2 / beta - 2 * width * (drift[1:] - drift[0])])

        found = solve_ivp(
            growth, (0.0, time), np.array([middle, *widths**2]), method="LSODA", rtol=1e-4, atol=1e-6, t_eval=moments
        )
        if not found.success:
            raise ValueError(f"the drift of the potential {potential.name} leaves the line within a time of {time:g}")
        width = np.sqrt(np.maximum(found.y[1:], 0))
        paths.append(np.stack([found.y[0] - width[0], found.y[0] + width[1]]))
    low, high = np.minimum(*(path[0] for path in paths)), np.maximum(*(path[1] for path in paths))
    room = _ROOM * (high - low)
    return Reach(moments, low - room, high + room)


def _check_apart(mu: Course, law: Target, nu: Target, points: Array, mesh: Mesh) -> None:
    """A ValueError where the start's bulk lies beyond what of the target's law the JKO steps hold."""
    low, high = (float(end) for end in mu.curves(np.array([-EXTENT + 2, EXTENT - 2]))[-1])
    outside = float(mesh.weights[(points < low) | (points > high)].sum())
    if outside > 1e-9:
        raise ValueError(
            f"{outside:.2g} of {nu.name} lies where {law.name} has no mass to speak of, even at the last step: JKO "
            f"steps cannot take it back; take more steps"
        )
