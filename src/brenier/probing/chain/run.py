"""Diffuse, then denoise: the chain of a law, with its account in Wasserstein distance.

    mu_k = alpha_k X + sigma_k Z       the target law after k steps, exactly in law, nu_k the same from a start law nu
    nubar_K = nu_K,  nubar_{k-1} = b_k# nubar_k       taken back by the target's own maps b_k (see `process`)
    mubar_K = mu_K,  mubar_{k-1} = b_k# mubar_k       the target taken back the same way: what the steps alone do

Theorems 1-4 of [LDK24] are about these laws. Per unit of time, W2^2 between two laws taken back grows at most at the
rate 2 - 2 zeta, with zeta the worst curvature (Theorem 2), zeta*_M (Theorem 4) or the sharp rate (`complexity`); over
the whole chain, W2(mu_0, nubar_0)/W2(mu_0, nu_0) <= exp(-eta sum zeta) up to O(eta) (Corollary 2).

That is the Ornstein-Uhlenbeck process, of the potential f(x) = x^2/2. With another potential the laws are those of its
Langevin process (`flow`) or of JKO steps (`proximal`), the maps back i + eta (f' + (log p_k)'/beta), and the rates
2 (kappa - zeta/beta), see `langevin`; normal laws under a quadratic potential have closed forms (`gaussian`).

Explicit laws on the line go by quantile functions (`quantiles`): every map is monotone, nothing is drawn at random. All
else goes by particles, and its distances carry error bars (`wasserstein`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from brenier.catalog import LawLike, load_target
from brenier.core import records
from brenier.core.checks import check_perturbations, whole_number
from brenier.core.records import Variables
from brenier.core.work import one_thread, progress_bar
from brenier.laws.base import Target
from brenier.laws.line.quantiles import check_moment, is_explicit
from brenier.probing.chain.gaussian import Forward, account_of_normals, as_normal, is_normal, quadratic_in
from brenier.probing.chain.langevin import account_by_potential
from brenier.probing.chain.particles import account_by_particles
from brenier.probing.chain.potential import Potential, PotentialLike, read_potential
from brenier.probing.chain.process import ScoreError
from brenier.probing.chain.quantiles import account_by_quantiles, densities_by_quantiles
from brenier.probing.chain.start import Start, start_law
from brenier.probing.chain.theory import Convexity, of_potential, of_walk, of_way_there
from brenier.probing.chain.walk import (
    LocalizationPath,
    Walk,
    draw,
    localize_by_quadrature,
    localize_by_queries,
)

Array: TypeAlias = NDArray[np.float64]

PARTICLES = {True: 2**15, False: 1024}  # of each law, by default: on the line, and in more dimensions
_SHORTEST = 1e-12
_LONGEST = 350.0  # OU time beyond which the SNR is below what float64 holds


def chain(
    law: LawLike,
    start: Start = "equilibrium",
    *,
    steps: int = 100,
    eta: float = 0.01,
    mode: Literal["ode", "sde"] = "ode",
    perturbations: Sequence[float] = (1, 2, 5, 20),
    beta: float = 1.0,
    potential: PotentialLike | None = None,
    forward: Forward = "flow",
    n: int | None = None,
    method: Literal["auto", "quantiles", "particles"] = "auto",
    score_error: float = 0.0,
    error_kind: Literal["smooth", "white"] = "smooth",
    error_band: tuple[float, float] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Run a law's chain forward and back from another law, and hold it against what theory allows.

    Args:
        law: mu, or what `load_target` takes.
        start: the law nu: a number or d numbers (a point; one number stands for all coordinates), "normal" for
            N(0, I), "equilibrium" for N(0, I/beta) or e^(-beta f), a law, samples (n, d), or what `load_target` takes.
        steps: K >= 1.
        eta: length of a step in OU time, > 0; with another potential, in that of its Langevin process.
        mode: "ode", the optimal transport maps of (3.2), or "sde", the reverse diffusion by Euler-Maruyama.
        perturbations: richnesses M >= 1 for the rates of Theorem 4.
        beta: inverse temperature; inf for a process without noise, on the line or for normal laws.
        potential: f of dX = -grad f dt + sqrt(2/beta) dB: a `brenier.Potential`, "quadratic(2)", "quartic", "logcosh",
            "double-well"; see `potential.POTENTIALS`. Default: x^2/2, the Ornstein-Uhlenbeck process. In more than one
            dimension it must be quadratic and both laws normal.
        forward: "flow", the process exactly in law, or "jko", steps of its implicit Euler scheme (Proposition 1).
        n: particles of each law (particles only). Default: 32,768 on the line, 1,024 in more dimensions.
        method: "quantiles" for explicit laws on the line with the ODE, "particles" for any.
        score_error: relative error eps of the score used on the way back (see `process.ScoreError`).
        error_kind: "smooth" in x, or "white".
        error_band: SNRs from low to high where the score has the error; None for all.
        seed: of every random number.
        device: where to compute. Default: where the law is.
        dtype: of the computation. Default: the law's; quantiles are float64 always.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        Dataset over `step` 0..K (with `time`, `snr`) and `perturbation` M. Distances are in the unit of the data, with
        a standard error `*_se` where they come from particles:

        - `w2_forward` = W2(mu_k, nu_k), `w2_backward` = W2(mu_k, nubar_k), `w2_chain` = W2(mubar_k, nubar_k) and
          `w2_discretisation` = W2(mu_k, mubar_k).
        - `rate`: rate at which the square of `w2_chain` grew in the step k -> k-1, per unit of OU time, stored at k;
          `rate_worst`, `rate_star`, `rate_sharp`: 2 - 2 zeta of Theorem 2, of Theorem 4, and sharp. NaN at step 0.
        - `bound_worst`, `bound_star`, `bound_sharp`: `w2_chain` as those rates would have it, from its value at K.
        - `ratio`: W2(mu_0, nubar_0)/W2(mu_0, nu_0), `ratio_chain` the same for `w2_chain`; `ratio_worst`, `ratio_star`,
          `ratio_sharp`: exp(-eta sum zeta), Corollary 2.
        - `mean_localization`, `sup_localization`: E L and its supremum (with particles, over queries: from below, and
          then `rate_worst` is no bound).
        - By quantiles, `richness`: M of the difference of mubar_k and nubar_k ([LDK24] Definition 6) over the middle
          99.9% of the mass; `kl_forward` = KL(mu_k | nu_k), `kl_backward` = KL(mu_k | nubar_k) and `kl_chain` =
          KL(mubar_k | nubar_k) in nats, and the same three as total variation, `tv_*`. The maps are bijections, so
          that those of the chain stay what they are at step K.
        - With a potential, `contraction`: rate at which W2(mu_k, nu_k) fell in the step from k-1, which Theorem 1 holds
          to lambda = inf f'' at least, and `bound_forward`, W2 as that would have it. The rates are 2 (kappa -
          zeta/beta) with kappa = sup f'' for `rate_worst` and `rate_star`, and 2 CVaR of f'' + (log p)''/beta for
          `rate_sharp`. By quantiles beyond quadratic ones `rate_local`, 2 sup of the same over the stretch where the
          laws taken back lie; `mean_curvature` and `sup_curvature` of (log p_k)'' in place of the localization, and
          no SNRs; KL and total variation as above (`entropies`). Of normal laws in closed form KL alone.
        - With a score error, `w2_error`: W2 between mubar_k with and without it, and `w2_error_predicted`: the errors
          of all steps amplified by the slopes 1 + eta - (eta/beta)(1 - L)/sigma^2 that follow. To first order in eps
          that is exact for a smooth error on the line, and an upper bound otherwise.

    Raises:
        ValueError: an argument is out of range, or does not go with the laws. The message says what would be right.
    """
    law = load_target(law, dtype=dtype, device=device)
    f = _potential(potential, beta, forward)
    steps, eta, beta = _check(steps, eta, mode, beta, n, f)
    seed, richness = whole_number(seed, "seed", 0), check_perturbations(perturbations)
    nu = start_law(start, law, beta, f)
    for each in (law, nu):
        check_moment(each)
    error = ScoreError(score_error, error_kind, error_band, seed) if score_error else None
    convexity: Convexity | None = None
    if f is None or not _needs_maps(f, law, beta, forward):
        chosen = _choose_method(method, law, nu, mode, error)
        count = 0 if chosen == "quantiles" else PARTICLES[law.dim == 1] if n is None else int(n)
        variables, coordinates, distance = _run_walk(
            law, nu, f, steps, eta, beta, mode, chosen, count, richness, error, seed, progress
        )
        convexity = None if f is None else Convexity(*f.convexity(0, 0))
    else:
        _check_maps(f, law, nu, beta, mode, method, error)
        chosen, count = "quantiles", 0
        variables, coordinates, distance, convexity = _run_maps(
            law, nu, f, steps, eta, beta, forward, richness, progress
        )
    about: dict[str, Any] = {}
    if f is not None and convexity is not None:
        variables |= of_way_there(variables, eta, convexity, implicit=forward == "jko")
        about = {
            "potential": f.name,
            "forward": forward,
            "convexity": [convexity.low, convexity.high],
            "convexity_of": "whole space" if convexity.everywhere else "stretch of the laws",
        }
    return records.dataset(
        "chain",
        variables,
        coordinates,
        title=f"diffusing and denoising {law.name} from {nu.name}",
        law=law,
        start=nu.name,
        mode=mode,
        method=chosen,
        distance=distance,
        steps=steps,
        eta=eta,
        beta=beta,
        n=count,
        seed=seed,
        score_error=float(score_error),
        error_kind=error_kind if score_error else "none",
        error_band=[0.0, math.inf] if error_band is None else [float(end) for end in error_band],
        **about,
        call={"perturbations": richness.tolist()},
    )


def densities(
    law: LawLike,
    start: Start = "equilibrium",
    *,
    steps: int = 100,
    eta: float = 0.01,
    beta: float = 1.0,
    points: int = 801,
) -> xr.Dataset:
    """Densities of all laws of a chain between explicit laws on the line ([LDK24] Figures 7, 9, 11).

    Returns:
        Dataset over `step` 0..K (with `time`) and `x`, in 1/unit of the data: `forward_target` of mu_k, `forward_start`
        of nu_k, `backward_target` of mubar_k and `backward_start` of nubar_k. The forward ones are NaN at step 0 where
        the law has point masses.

    Raises:
        ValueError: as `chain`; a law that is not explicit on the line.
    """
    law = load_target(law)
    steps, eta, beta = _check(steps, eta, "ode", beta, None)
    nu = start_law(start, law, beta)
    _choose_method("quantiles", law, nu, "ode", None)
    walk = Walk(law.to(device="cpu", dtype=torch.float64), steps, eta, beta)
    with one_thread():
        x, found = densities_by_quantiles(walk, nu.to("cpu", torch.float64), points)
    return records.dataset(
        "densities",
        {name: (("step", "x"), rows) for name, rows in found.items()},
        {"step": np.arange(steps + 1), "time": ("step", walk.time), "x": x},
        law=law,
        start=nu.name,
        steps=steps,
        eta=eta,
        beta=beta,
    )


def _run_walk(
    law: Target,
    nu: Target,
    f: Potential | None,
    steps: int,
    eta: float,
    beta: float,
    mode: Literal["ode", "sde"],
    method: Literal["quantiles", "particles"],
    count: int,
    richness: Array,
    error: ScoreError | None,
    seed: int,
    progress: bool,
) -> tuple[Variables, Variables, str]:
    """A chain of noisy laws alpha X + sigma Z, by one of the two methods: variables, coordinates, method in words."""
    pull = 1.0
    if f is not None and f.quadratic is not None:
        pull, centre = float(f.quadratic.hessian), float(f.quadratic.centre)
        if centre:  # distances are the same about any centre
            law, nu = (each.moved(torch.tensor([-centre], dtype=each.dtype, device=each.device)) for each in (law, nu))
    with progress_bar(f"chain of {law.name}", progress) as advance:
        if method == "quantiles":
            law, nu = law.to(device="cpu", dtype=torch.float64), nu.to("cpu", torch.float64)
            walk = Walk(law, steps, eta, beta, pull)
            with one_thread():
                local = localize_by_quadrature(walk, richness, lambda share: advance(0.5 * share))
                _set_error(walk, error, local, seed)
                found, distance = account_by_quantiles(walk, nu)
        else:
            walk = Walk(law, steps, eta, beta, pull)
            local = localize_by_queries(walk, richness, seed, lambda share: advance(0.2 * share))
            _set_error(walk, error, local, seed)
            found, distance = account_by_particles(walk, nu, mode, count, seed, lambda share: advance(0.8 * share))
    return *of_walk(walk, found, local, richness), distance


def _run_maps(
    law: Target,
    nu: Target,
    f: Potential,
    steps: int,
    eta: float,
    beta: float,
    forward: Forward,
    richness: Array,
    progress: bool,
) -> tuple[Variables, Variables, str, Convexity]:
    """A chain under a potential, by its maps: variables, coordinates, method in words, and what bounds f''."""
    with progress_bar(f"chain of {law.name}", progress) as advance:
        if f.quadratic is not None and is_normal(law) and is_normal(nu):
            both = as_normal(law), as_normal(nu)
            found, bounds = account_of_normals(*both, quadratic_in(f, law.dim), steps, eta, beta, forward)
            for name, source in (("rate_star", "rate_worst"), ("rate_sharp", "rate_sharp")):  # L is the same everywhere
                rates = np.asarray(found[source][1])
                found[name] = (("step", "perturbation"), np.tile(rates[:, None], len(richness)))
            distance, convexity = "normal laws in closed form", Convexity(*bounds, everywhere=True)
        else:
            law, nu = law.to(device="cpu", dtype=torch.float64), nu.to("cpu", torch.float64)
            with one_thread():
                found, distance, known = account_by_potential(
                    law, nu, f, steps=steps, eta=eta, beta=beta, forward=forward, richness=richness, advance=advance
                )
            convexity = Convexity(*known)
    return *of_potential(found, steps, eta, richness, convexity), distance, convexity


def _potential(potential: PotentialLike | None, beta: float, forward: str) -> Potential | None:
    """The potential that is meant; None for the Ornstein-Uhlenbeck process exactly in law, with noise."""
    if forward not in ("flow", "jko"):
        raise ValueError(f"forward must be flow or jko, got {forward!r}")
    if potential is None:
        return Potential.of_quadratic(1.0) if forward == "jko" or beta == math.inf else None
    return read_potential(potential)


def _needs_maps(f: Potential, law: Target, beta: float, forward: str) -> bool:
    """Whether a chain is no law seen through noise: anything but a quadratic potential on the line, with noise."""
    return law.dim > 1 or f.quadratic is None or f.quadratic.hessian.ndim > 0 or math.isinf(beta) or forward == "jko"


def _check_maps(
    f: Potential, law: Target, nu: Target, beta: float, mode: str, method: str, error: ScoreError | None
) -> None:
    """Refuse what a chain by maps under a potential cannot do."""
    normal = is_normal(law) and is_normal(nu)
    if law.dim > 1 and (f.quadratic is None or not normal):
        what = f"the potential is {f.name}" if f.quadratic is None else f"{(nu if is_normal(law) else law).name} is not"
        raise ValueError(
            f"in {law.dim} dimensions a potential must be quadratic and both laws normal, and {what}: leave it out for "
            f"the Ornstein-Uhlenbeck process of any law"
        )
    if f.quadratic is not None:
        quadratic_in(f, law.dim)
    others = [each.name for each in (law, nu) if not is_explicit(each)]
    if others and not (f.quadratic is not None and normal):
        raise ValueError(
            f"a chain under {f.name} goes by quantile functions, and {others[0]} is no explicit law on the line"
        )
    if mode != "ode" or method == "particles" or error is not None:
        what = "mode sde" if mode != "ode" else "particles" if method == "particles" else "a score error"
        noise = "without noise " if math.isinf(beta) else ""
        raise ValueError(
            f"a chain under {f.name} {noise}goes by its maps and quantile functions: {what} is for the "
            f"Ornstein-Uhlenbeck process and quadratic potentials on the line"
        )
    if method not in ("auto", "quantiles"):
        raise ValueError(f"method must be auto, quantiles or particles, got {method!r}")


def _set_error(walk: Walk, error: ScoreError | None, local: LocalizationPath, seed: int) -> None:
    if error is None:
        return
    draws = 4096 if walk.law.dim == 1 else 1024
    x, z = draw(walk.law, draws, seed)
    walk.set_error(error, local.trace, lambda k: walk.noised(x, z, k))


def _check(
    steps: int | float, eta: float, mode: str, beta: float, n: int | float | None, f: Potential | None = None
) -> tuple[int, float, float]:
    """The number of steps, their length and the inverse temperature, as an int and two floats."""
    if not 1 <= steps < math.inf or steps != int(steps):
        raise ValueError(f"steps must be a whole number of at least 1, got {steps}")
    if not (0 < beta < np.inf or (f is not None and beta == np.inf)):
        raise ValueError(f"beta must be positive and finite, got {beta}")
    if not 0 < eta < np.inf:
        raise ValueError(f"eta must be positive and finite, got {eta}")
    if eta < _SHORTEST:
        raise ValueError(f"eta = {eta:g} is too short a step for float64: give at least {_SHORTEST:g}")
    pull = 1.0 if f is None or f.quadratic is None else float(abs(f.quadratic.hessian).max())
    if eta * steps * pull > _LONGEST:
        raise ValueError(
            f"eta = {eta:g} over {steps} steps reaches time {eta * steps:g}, where nothing of the target is left in "
            f"float64: the largest eta is {_LONGEST / steps / pull:g}"
        )
    if mode not in ("ode", "sde"):
        raise ValueError(f"mode must be ode or sde, got {mode!r}")
    # At a concentrated posterior the drift of step k multiplies by 1 - eta coth(k eta): at step 1 this is lowest.
    if mode == "sde" and pull > 0 and pull * eta / math.tanh(pull * eta) >= 2:
        limit = f"{1.915 / pull:.4g}"
        raise ValueError(f"eta = {eta:g} makes step 1 of the reverse SDE unstable: it must be below {limit}")
    if n is not None and (not 2 <= n < 2**24 or n != int(n)):
        raise ValueError(f"n must be a whole number from 2 to {2**24 - 1}, got {n}")
    return int(steps), float(eta), float(beta)


def _choose_method(
    method: str, law: Target, nu: Target, mode: str, error: ScoreError | None
) -> Literal["quantiles", "particles"]:
    obstacle = None
    if not (is_explicit(law) and is_explicit(nu)):
        obstacle = f"{(nu if is_explicit(law) else law).name} is no explicit law on the line"
    elif mode == "sde":
        obstacle = "a stochastic step is no map"
    elif error is not None and error.kind == "white":
        obstacle = "a white error is no map"
    if method == "auto":
        return "particles" if obstacle else "quantiles"
    if method == "quantiles":
        if obstacle:
            raise ValueError(f"quantiles need monotone maps between explicit laws, and {obstacle}: use particles")
        return "quantiles"
    if method == "particles":
        return "particles"
    raise ValueError(f"method must be auto, quantiles or particles, got {method!r}")
