"""A model of the law behind data, profiled beside them: what it says where the data cannot tell."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import xarray as xr

from brenier.catalog import LawLike, load_target
from brenier.core.checks import Array
from brenier.core.records import Variables
from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.laws.fitted import fit_mixture
from brenier.networks.conventions import known_snr
from brenier.probing.likelihood import log_likelihood

CURVES = ("mean_localization", "m_star")
QUERIES = 1024  # at most, per SNR, of an explicit model
LIKELY = 512  # points whose likelihood a network is asked for


def find_model(data: Target, model: LawLike, snr: Array) -> Target | Literal["mixture"]:
    """The law that `model` names; "mixture" is left for `profiles_of` to fit.

    Raises:
        ValueError: it is of another dimension, or knows none of the SNRs; also as `load_target`.
    """
    if isinstance(model, str) and model == "mixture":
        return "mixture"
    law = load_target(model)
    law = law.with_data(data) if law.learned else law
    if law.dim != data.dim:
        raise ValueError(
            f"{law.name} lives in {law.dim} dimensions and {data.name} in {data.dim}: it is no model of it"
        )
    low, high = law.snr_range
    if all(known_snr(one, low, high) is None for one in snr.tolist()):
        raise ValueError(f"{law.name} knows SNRs from {low:.3g} to {high:.3g}, and none of those to be probed")
    return law


def profiles_of(
    data: Empirical,
    model: Target | Literal["mixture"],
    snr: Array,
    run: Callable[[Target, Array, int], xr.Dataset],
    *,
    seed: int,
    progress: bool,
) -> tuple[Variables, dict[str, Any]]:
    """The model's curves with what they leave open, and what it is.

    Args:
        data: what it is a model of.
        model: what `find_model` found; "mixture" is fitted here.
        snr: those of the data's profile. Outside of what a network was trained for its curves are NaN.
        run: probes a law at given SNRs with so many queries.
        seed: of the fit.
        progress: show its bar.

    Returns:
        `model_*`, with `model_*_low` and `model_*_high`: of a mixture the ends of what it and its refits say, of
        another law two standard errors to each side; and attributes `model` and its `model_held_out` mean
        log-likelihood in nats, with `_se`: of a mixture, of the data held out; of a network, a lower bound for the data
        with noise `model_held_out_sigma`, which are held out if it was not trained on them (see `log_likelihood`).
    """

    def curves(law: Target) -> xr.Dataset:
        known = snr[[known_snr(one, *law.snr_range) is not None for one in snr.tolist()]]
        found = run(law, known, law.default_queries if law.learned else min(QUERIES, law.default_queries))
        return found.reindex(snr=snr)

    known: dict[str, Any] = {}
    if model == "mixture":
        fit = fit_mixture(data, seed=seed, progress=progress)
        known = {"model": fit.law.name, "model_held_out": fit.held_out, "model_held_out_se": fit.held_out_se}
        found = [curves(law.to(dtype=data.dtype)) for law in (fit.law, *fit.refits)]
        ends = {name: np.stack([one[name].to_numpy() for one in found]) for name in CURVES}
        spread = {name: (each.min(0), each.max(0)) for name, each in ends.items()}
    else:
        known, found = {"model": model.name}, [curves(model)]
        if model.learned:
            names = ("model_held_out", "model_held_out_se", "model_held_out_sigma")
            known |= dict(zip(names, log_likelihood(model, data, LIKELY, seed=seed), strict=True))
        spread = {}
        for name in CURVES:
            value, error = (found[0][end].to_numpy() for end in (name, f"{name}_se"))
            spread[name] = (np.maximum(value - 2 * error, 0), value + 2 * error)
    variables: Variables = {f"model_{name}": (("snr",), found[0][name].to_numpy()) for name in CURVES}
    for name, (low, high) in spread.items():
        variables |= {f"model_{name}_low": (("snr",), low), f"model_{name}_high": (("snr",), high)}
    return variables, known
