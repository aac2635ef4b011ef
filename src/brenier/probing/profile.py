"""Probe a law: a sample of the localization at each SNR, and the multi-scale complexity that follows from it.

    Y_r = r X + Z,    L_r = ||Cov[rX | Y_r]||_op,    s, h, m*, delta*, zeta* from the law of L_r     (see `complexity`)

A law on the line with an explicit density is probed by quadrature: deterministic, in float64. Any other by queries
y = r x + z, with x drawn from the law, z standard normal, and both held fixed over all SNRs: common random numbers, so
that what differs between two SNRs is the law and not the draw.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from brenier import complexity
from brenier.catalog import LawLike, load_target
from brenier.core import records
from brenier.core.checks import MOST, check_perturbations, whole_number
from brenier.core.random import seeds
from brenier.core.records import Variables
from brenier.core.work import one_thread, progress_bar
from brenier.laws.base import Screened, Target
from brenier.laws.blocked import refused
from brenier.laws.empirical import Empirical
from brenier.laws.levels import default_snrs, given_snrs
from brenier.laws.line.quadrature import localization_quadrature, onset
from brenier.probing.behind import DIMENSIONS, Levels, look_behind, usual_queries
from brenier.probing.beside import find_model, profiles_of
from brenier.probing.views import views_of
from brenier.scales import sigma_from_snr, time_from_snr

Array: TypeAlias = NDArray[np.float64]

DELTA = np.round(np.linspace(0, 1, 101), 2)
U = np.round(np.concatenate([np.linspace(0, 2, 101), np.linspace(2.1, 4, 20)]), 2)
REPLICATES = (
    64  # bootstrap resamples behind delta*'s and the median ESS's standard errors and the bottleneck's interval
)
ROUNDING = 1e-10  # of L: what is so near to 1 counts as below it


class _Sample(NamedTuple):
    """The law of L_r at each SNR, as found."""

    localization: Array  # (snr, query)
    weights: Array  # (snr, query)
    extra: Variables  # variables that only the method at hand can give
    drawn: bool = False  # whether it is one of independent queries, so that standard errors are theirs
    screened: Screened | None = None  # of data in blocks: what was not read


def probe(
    law: LawLike,
    snrs: Sequence[float] | ArrayLike | None = None,
    *,
    sigmas: Sequence[float] | ArrayLike | None = None,
    queries: int | None = None,
    perturbations: Sequence[float] = (1, 2, 5, 20),
    beta: float = 1.0,
    about: Literal["law", "atoms"] | None = None,
    model: LawLike | None = None,
    holdout: float | None = None,
    method: Literal["auto", "quadrature", "monte-carlo"] = "auto",
    views: int = 4,
    seed: int = 0,
    max_memory: float | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Multi-scale complexity of a law at each SNR: how hard it is to denoise, where, and how sure that is.

    Args:
        law: a law, or what `load_target` takes: a built-in's name, a file, an array (n, d). A dask array stays where it
            is, as does a file that takes more than `max_memory` or that an active `distributed.Client` has its workers
            read: they are used in blocks, see `brenier.laws.blocked`.
        snrs: SNRs r = alpha/sigma > 0, not squared: what diffusers calls `compute_snr` is the square of these. Default:
            `default_snrs(law)`.
        sigmas: noise levels 1/r > 0 in the unit of the data, in place of `snrs`.
        queries: noisy points per SNR (Monte Carlo only). Default: 2,048; about the law behind data in more than 8
            dimensions 1,024, as what the data leave open is more than what queries do; for a network in d dimensions
            8192/d of them, at most 2,048 and no fewer than 64.
        perturbations: richnesses M >= 1 of the perturbations that zeta_M bounds ([LDK24] Definition 6).
        beta: inverse temperature of the Ornstein-Uhlenbeck process; enters through its time only.
        about: of data, what is asked: "law", the default, what they tell about the law behind them, with brackets for
            what they leave open; or "atoms", the profile of the N points themselves, a law of its own, which is what a
            sampler with their exact score meets. Of data in blocks only the latter can be asked.
        model: of the law behind data, to be profiled beside them: "mixture", fitted with its size chosen by held-out
            likelihood (`fit_mixture`), or a law or network. Gives `model_mean_localization` and `model_m_star` with
            their brackets.
        holdout: share of the data to draw queries from instead of making them atoms (with about="atoms" only).
        method: "quadrature" for explicit laws on the line (the default there), "monte-carlo" for any.
        views: of a law of images, how many noisy ones are kept with what a denoiser makes of them, for people to see.
            No other number depends on it; 0: none.
        seed: of every random number.
        max_memory: GiB that blocks of work may take beyond the data; a larger file is used in blocks. Default: 1, and
            half of the memory that is free for a file.
        device: where to compute. Default: where the law is.
        dtype: of the computation. Default: the law's.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        Dataset over `snr` (with `time` and `sigma`), `query`, `u`, `delta` and `perturbation`:

        - `localization`, `query_weight` (snr, query): the weighted sample of L_r that all else is computed from.
        - `survival` s (snr, u), `integrated_tail` h (snr, delta), `m_star`, `delta_star` (snr).
        - `zeta_star`, `zeta_sharp` (snr, perturbation): the contraction rates of Theorem 4, as published and sharp.
        - `mean_localization`, `sup_localization` (snr): E L_r and its supremum (over queries, in Monte Carlo).
        - `mmse` (snr): E tr Cov[X | Y_r], in squared units of the data.
        - `ess` (snr): median effective sample size of the posteriors; NaN for a law without atoms.
        - `onset_snr` (): r*, the largest r up to which P(L > 1) = 0. By Monte Carlo, the last SNR before a query with
          L > 1 was seen: an estimate from above.
        - In Monte Carlo, `*_se`: the standard deviation over queries divided by sqrt(queries), for m*, zeta* and
          zeta_sharp at the estimated optimum (the delta method: the optimum's own error is of second order); bootstrap
          over queries for delta* and ess. `sup_localization` has none: a sample maximum only bounds it from below.
          `m_star_replicate` (replicate, snr): m* of the bootstrap resamples. `localization_error` (snr): largest
          relative error bound of an operator norm.
        - About the law behind data (`about="law"`), `localization` is a grid with the estimated weights of L_r, and
          there are brackets, `*_low` and `*_high` with 95% of sampling at either end, of all but `delta_star`. `*_se`
          hold a jackknife over groups of data and what the bracket leaves open. `bracket_width` (snr): without
          sampling, of E L relative to it or of m*, whichever is larger. `resolved_snr` (): up to where that is at most
          0.2, so that the data can tell; NaN: nowhere. `effective_dimension` (snr): E tr/E L. `m_star_replicate`: draws
          from the normal law that these imply. `onset_snr`: the last SNR before P(L > 1) is significantly positive.
        - For a network, means over queries with their `*_se`: `mean_symmetric` (snr), the largest eigenvalue of the
          symmetric part of the denoiser's Jacobian J, and `asymmetry` (snr), ||J - J^T||_F/||J||_F. A posterior's J is
          symmetric: there the one equals `mean_localization`, and the other is 0.
        - Of a law of images, at up to twelve SNRs `view_snr` (view), in eight bits (view, shown, coordinate):
          `view_noisy`, `view_mean`, `view_axis`, what is undecided there, and of data `view_nearest`; `view_variance`
          (view, shown) of rX along the axis. See `probing.views`.

        Attributes hold what is needed to repeat the run; of data in blocks also `dropped_mass`, the most that a
        posterior may have in what was left out, by proof, and `share_read`, of all (SNR, query, block).

    Raises:
        ValueError: an argument is out of range, or does not go with the law. The message says what would be right.
    """
    raw = load_target(law, dtype=dtype, device=device, max_memory=max_memory, blocks=True)
    law = raw.moved(-raw.origin)
    given = given_snrs(snrs, sigmas)
    grid = default_snrs(law) if given is None else given
    richness = check_perturbations(perturbations)
    if not 0 < beta < np.inf:
        raise ValueError(f"beta must be positive and finite, got {beta}")
    views = whole_number(views, "views", 0, 64)
    seed = whole_number(seed, "seed", 0)
    chosen = _choose_method(method, law)
    asked = _choose_question(about, holdout, model, law)
    behind = isinstance(law, Empirical) and asked == "law"
    usual = usual_queries(law.dim) if behind else law.default_queries
    queries = whole_number(usual if queries is None else queries, "queries", 1, MOST - 1)
    if model is not None and not (law.atoms and asked == "law"):
        raise ValueError(f"a model says what data cannot tell about their law: {law.name} is not asked for that")
    beside = None if model is None else find_model(raw, model, grid)
    if holdout is not None and not law.atoms:
        what = "a network, which has no atoms" if law.learned else "an explicit law"
        raise ValueError(f"holdout needs data, and {law.name} is {what}: leave holdout out")
    with progress_bar(f"probing {law.name}", progress) as advance:
        if chosen == "quadrature":
            sample = _by_quadrature(law, grid, richness, advance)
        elif isinstance(law, Empirical) and behind:
            levels: dict[str, Any] = {"u": U, "delta": DELTA, "richness": richness, "beta": beta}
            sample = _Sample(*look_behind(law, grid, queries, **levels, seed=seed, advance=advance))
        else:
            sample = _by_monte_carlo(law, grid, queries, holdout, seed, advance)
    variables, coordinates = _profile(sample, grid, richness, beta)
    pictures, modelled = {}, {}
    if holdout is None and chosen == "monte-carlo":
        seen, pictures = views_of(raw, grid, views, seed, apart=asked == "law" and bool(law.atoms))
        variables |= seen
    if beside is not None:
        assert isinstance(raw, Empirical)  # only data have atoms
        shared: dict[str, Any] = {"perturbations": perturbations, "beta": beta, "seed": seed, "progress": progress}

        def run(other: Target, levels: Array, number: int) -> xr.Dataset:
            return probe(other, levels, queries=number, method="monte-carlo", views=0, max_memory=max_memory, **shared)

        curves, modelled = profiles_of(raw, beside, grid, run, seed=seed, progress=progress)
        variables |= curves
    return records.dataset(
        "profile",
        variables,
        coordinates,
        title=f"multi-scale complexity of {law.name}",
        law=law,
        about=asked,
        method=chosen,
        queries=queries if chosen == "monte-carlo" else 0,
        seed=seed,
        beta=float(beta),
        holdout=0.0 if holdout is None else float(holdout),
        snr_grid="default" if given is None else "given",
        max_memory=0.0 if max_memory is None else float(max_memory),
        atoms=law.atoms,
        square_integrable=int(law.square_integrable),
        tolerance=law.tolerance,
        **({} if sample.screened is None else {"dropped_mass": sample.screened[0], "share_read": sample.screened[1]}),
        queries_from="the network's own chain" if law.drawn_from is None else law.drawn_from.name,
        call={"snrs": grid.tolist(), "perturbations": richness.tolist()},
        **modelled,
        **pictures,
    )


def _choose_method(method: str, law: Target) -> Literal["quadrature", "monte-carlo"]:
    explicit = law.dim == 1 and law.breakpoints(1.0) is not None
    if method == "auto":
        return "quadrature" if explicit else "monte-carlo"
    if method == "quadrature":
        if not explicit:
            raise ValueError(f"quadrature needs an explicit law on the line, {law.name} is none: use monte-carlo")
        return "quadrature"
    if method == "monte-carlo":
        return "monte-carlo"
    raise ValueError(f"method must be auto, quadrature or monte-carlo, got {method!r}")


def _choose_question(about: str | None, holdout: float | None, model: object, law: Target) -> Literal["law", "atoms"]:
    if about not in (None, "law", "atoms"):
        raise ValueError(f"about must be law or atoms, got {about!r}")
    if not law.in_memory:
        if about == "law":
            raise ValueError(
                f"{law.name} is used in blocks, which tell of the points themselves: ask with about='atoms' (--about"
                " atoms), or give a part that fits into memory"
            )
        if holdout is not None:
            raise refused(law.name, "holdout")
        if model is not None:
            raise refused(law.name, "model")
        if about is None:
            note = "is used in blocks: its points themselves are probed (about='atoms'), not the law behind them"
            warnings.warn(f"{law.name} {note}", UserWarning, stacklevel=3)
        return "atoms"
    if about == "atoms" and not law.atoms:
        raise ValueError(f"about='atoms' needs data, and {law.name} has no atoms: leave about out")
    if about != "atoms" and holdout is not None and law.atoms:
        raise ValueError(
            "about the law behind data every datum is held out in turn: leave holdout out, or ask with "
            "about='atoms' (--about atoms)"
        )
    return "atoms" if about == "atoms" else "law"


def _by_quadrature(law: Target, grid: Array, richness: Array, advance: Callable[[float], None]) -> _Sample:
    law = law.to(dtype=torch.float64)
    levels = np.union1d(U, np.round(1 - DELTA, 2))
    values: list[Array] = []
    weights: list[Array] = []
    with one_thread():
        for snr in grid:
            value, weight, _ = localization_quadrature(law, float(snr), levels, richness.tolist())
            values.append(value)
            weights.append(weight)
            advance(1 / len(grid))
    # Rows of unequal length: repeat the last point with no weight.
    longest = max(map(len, values))
    localization = np.stack([np.pad(value, (0, longest - len(value)), mode="edge") for value in values])
    mass = np.stack([np.pad(weight, (0, longest - len(weight))) for weight in weights])
    # The onset is the law's, not the grid's: look for it from all noise up to the last SNR asked for.
    low, high = default_snrs(law)[[0, -1]]
    with one_thread():
        first = onset(law, min(low, grid[0]), max(high, grid[-1]))
    mmse = (localization * mass).sum(1) / grid**2
    none = np.full(len(grid), np.nan)
    return _Sample(localization, mass, {"mmse": (("snr",), mmse), "ess": (("snr",), none), "onset_snr": ((), first)})


def _by_monte_carlo(
    law: Target, grid: Array, queries: int, holdout: float | None, seed: int, advance: Callable[[float], None]
) -> _Sample:
    points, noise, part, resampling = seeds(seed, count=4)
    if holdout is not None:
        assert isinstance(law, Empirical)  # checked by `probe`
        law, held = law.split(holdout, part)
        pick = torch.randint(len(held), (queries,), generator=torch.Generator().manual_seed(points))
        x = held[pick.to(held.device)]
    else:
        x = law.sample(queries, points)
    z = torch.randn(queries, law.dim, generator=torch.Generator().manual_seed(noise), dtype=torch.float64)
    path = law.localize_path(x, z.to(x), grid.tolist(), advance)
    localization = path.norm.double().cpu().numpy()
    # Of a log-concave law L < 1 rounds to more than 1 in places, where m* would be 1 in place of 0.
    localization = np.where(abs(localization - 1) <= ROUNDING, np.nextafter(1, 0), localization)
    trace = path.trace.double().cpu().numpy()
    root = np.sqrt(queries)
    above = np.flatnonzero(localization.max(1) > 1)
    first = np.inf if len(above) == 0 else grid[above[0] - 1] if above[0] > 0 else np.nan
    extra: Variables = {
        "mmse": (("snr",), trace.mean(1) / grid**2),
        "mmse_se": (("snr",), _deviation(trace) / root / grid**2),
        "onset_snr": ((), first),
    }
    ess = np.full_like(localization, np.nan) if path.ess is None else path.ess.double().cpu().numpy()
    extra["ess"] = (("snr",), np.median(ess, axis=1))
    if path.norm_error is not None:
        extra["localization_error"] = (("snr",), path.norm_error.double().cpu().numpy().max(1))
    for name, values in (("mean_symmetric", path.symmetric), ("asymmetry", path.asymmetry)):
        if values is not None:
            rows = values.double().cpu().numpy()
            extra |= {name: (("snr",), rows.mean(1)), f"{name}_se": (("snr",), _deviation(rows) / root)}
    resamples = np.random.default_rng(resampling).multinomial(queries, np.full(queries, 1 / queries), REPLICATES)
    stars = [complexity.minimal_relative_tail(localization, np.broadcast_to(n, localization.shape)) for n in resamples]
    extra["m_star_replicate"] = (("replicate", "snr"), np.stack([least for least, _ in stars]))
    extra["delta_star_se"] = (("snr",), _deviation(np.stack([delta for _, delta in stars]).T))
    medians = np.stack([np.median(np.repeat(ess, n, axis=1), axis=1) for n in resamples])
    extra["ess_se"] = (("snr",), _deviation(medians.T))
    return _Sample(localization, np.full_like(localization, 1 / queries), extra, drawn=True, screened=path.screened)


def _deviation(rows: Array) -> Array:
    """Sample standard deviation along the last axis; NaN, unknown, from a single point."""
    return np.std(rows, axis=-1, ddof=1) if rows.shape[-1] > 1 else np.full(rows.shape[:-1], np.nan)


def _profile(sample: _Sample, grid: Array, richness: Array, beta: float) -> tuple[Variables, Variables]:
    """All that the sample of L_r at each SNR implies, and the coordinates."""
    values, weights = sample.localization, sample.weights
    implied = Levels(grid, U, DELTA, richness, beta).of(values, weights)
    variables: Variables = {
        "localization": (("snr", "query"), values),
        "query_weight": (("snr", "query"), weights),
        **{name: (DIMENSIONS[name], found) for name, found in implied.items()},
        "sup_localization": (("snr",), np.where(weights > 0, values, -np.inf).max(1)),
        **sample.extra,
    }
    if sample.drawn:
        variables |= _standard_errors(values, variables, grid, richness, beta)
    coordinates: Variables = {
        "snr": (("snr",), grid),
        "time": (("snr",), time_from_snr(grid, beta)),
        "sigma": (("snr",), sigma_from_snr(grid)),
        "u": (("u",), U),
        "delta": (("delta",), DELTA),
        "perturbation": (("perturbation",), richness),
    }
    return variables, coordinates


def _standard_errors(values: Array, known: Variables, grid: Array, richness: Array, beta: float) -> Variables:
    """Standard errors over equally weighted queries, at the optimum where there is one (the delta method)."""
    root = np.sqrt(values.shape[1])

    def excess(threshold: Array) -> Array:
        """Standard error of E[(L - u)_+], u of shape (snr,)."""
        return _deviation(np.maximum(values - threshold[:, None], 0)) / root

    survival = np.asarray(known["survival"][1])
    m_star, delta_star = (np.asarray(known[name][1]) for name in ("m_star", "delta_star"))
    quantile = complexity.value_at_risk(values, richness)
    scale = (1 + grid**2 / beta)[:, None] * np.where(
        np.isinf(richness), np.nan, richness
    )  # a maximum has no such error
    sharp = np.stack([excess(q) for q in quantile.T], 1) * scale
    net = np.stack([excess(np.clip(q, 0, 1)) for q in quantile.T], 1) * scale
    return {
        "survival_se": (("snr", "u"), np.sqrt(survival * np.maximum(1 - survival, 0)) / root),
        "integrated_tail_se": (("snr", "delta"), np.stack([excess(np.full(len(grid), 1 - d)) for d in DELTA], 1)),
        "m_star_se": (("snr",), np.where(m_star > 0, excess(1 - delta_star) / delta_star, 0)),  # else it is rounding
        "zeta_star_se": (("snr", "perturbation"), net),
        "zeta_sharp_se": (("snr", "perturbation"), sharp),
        "mean_localization_se": (("snr",), _deviation(values) / root),
    }
