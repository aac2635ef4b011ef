"""What theory allows a chain, beside what was measured: rates, and the bounds that they add up to."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brenier.core.checks import Array
from brenier.core.records import Variables
from brenier.probing.chain.walk import LocalizationPath, Walk


class Convexity(NamedTuple):
    """lambda <= f'' <= kappa: on the whole line, or where the laws lie."""

    low: float
    high: float
    everywhere: bool


def of_walk(walk: Walk, found: Variables, local: LocalizationPath, richness: Array) -> tuple[Variables, Variables]:
    """All variables over the steps, what was found and what theory allows, and the coordinates."""
    steps, eta, flat = walk.steps, walk.eta, walk.flat[1:]
    zeta = {"worst": (1 - local.supremum) * flat, "star": local.zeta_star, "sharp": local.zeta_sharp}
    w2 = _array(found, "w2_chain")
    variables: Variables = found | _measured(found, eta)
    for name, values in zeta.items():
        dims = ("step", "perturbation")[: values.ndim]
        rates = np.full((steps + 1, *values.shape[1:]), np.nan)
        rates[1:] = 2 * walk.pull - 2 * values
        variables[f"rate_{name}"] = (dims, rates)
        variables[f"bound_{name}"] = (dims, _bound(w2, rates, eta))
        variables[f"ratio_{name}"] = (dims[1:], np.exp(-eta * values.sum(0)))
    for name, values in (("mean_localization", local.mean), ("sup_localization", local.supremum)):
        variables[name] = (("step",), np.concatenate([[np.nan], values]))
    return variables, _coordinates(walk.time, richness) | {"snr": (("step",), walk.snr)}


def of_potential(
    found: Variables, steps: int, eta: float, richness: Array, convexity: Convexity
) -> tuple[Variables, Variables]:
    """The same, of a chain whose rates were found with its distances."""
    w2 = _array(found, "w2_chain")
    variables: Variables = found | _measured(found, eta)
    for name in ("worst", "star", "sharp"):
        dims, rates = found[f"rate_{name}"][0], _array(found, f"rate_{name}")
        variables[f"bound_{name}"] = (dims, _bound(w2, rates, eta))
        # Lambda takes off on the way there what kappa puts on at most on the way back.
        with np.errstate(over="ignore"):
            variables[f"ratio_{name}"] = (dims[1:], np.exp(eta * (rates[1:] / 2 - convexity.low).sum(0)))
    return variables, _coordinates(np.arange(steps + 1) * eta, richness)


def of_way_there(found: Variables, eta: float, convexity: Convexity, *, implicit: bool) -> Variables:
    """How W2(mu_k, nu_k) contracts from step to step, and as Theorem 1 would have it.

    An implicit step contracts by 1/(1 + eta lambda), time eta of the process by exp(-eta lambda).
    """
    w2 = _array(found, "w2_forward")
    rate = np.full(len(w2), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate[1:] = (w2[:-1] / w2[1:] - 1) / eta if implicit else -np.log(w2[1:] / w2[:-1]) / eta
    factor = 1 / (1 + eta * convexity.low) if implicit else math.exp(-eta * convexity.low)
    bound = w2[0] * factor ** np.arange(len(w2))
    return {"contraction": (("step",), rate), "bound_forward": (("step",), bound)}


def _measured(found: Variables, eta: float) -> Variables:
    """The growth of W2(mubar, nubar)^2, and the ratios of the ends."""
    w2, top = _array(found, "w2_chain"), float(_array(found, "w2_forward")[0])
    variables: Variables = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        growth = np.full(len(w2), np.nan)
        growth[1:] = ((w2[:-1] / w2[1:]) ** 2 - 1) / eta
        variables["rate"] = (("step",), growth)
        for name, bar in (("ratio", "w2_backward"), ("ratio_chain", "w2_chain")):
            variables[name] = ((), float(_array(found, bar)[0]) / top if top > 0 else np.nan)
    return variables


def _bound(w2: Array, rates: Array, eta: float) -> Array:
    """W2(mubar_k, nubar_k) from its value at K: sums over the steps between k and K, by which it has grown there."""
    passed = np.cumsum(rates[:0:-1] / 2, 0)[::-1]
    with np.errstate(over="ignore", invalid="ignore"):
        return w2[-1] * np.exp(eta * np.concatenate([passed, np.zeros_like(passed[:1])]))


def _array(found: Variables, name: str) -> Array:
    return np.asarray(found[name][1], dtype=np.float64)


def _coordinates(time: NDArray[np.floating[Any]], richness: Array) -> Variables:
    return {
        "step": (("step",), np.arange(len(time))),
        "time": (("step",), time),
        "perturbation": (("perturbation",), richness),
    }
