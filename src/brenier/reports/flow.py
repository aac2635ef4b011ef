"""A Monge-Ampère map in a terminal: how it was found, how the flow ended, and how good it is."""

import math
from collections.abc import Mapping
from typing import Any

import xarray as xr
from rich.console import Console

from brenier.reports.tables import many, print_facts, scale, with_error
from brenier.transport.mongeampere.evidence import instead

ENDS = {
    "closed form": "in closed form",
    "steady": "in the steady state",
    "steps": "after its last step",
    "tolerance": "at the tolerance, before its last step",
    "minutes": "by --minutes, before its last step",
    "interrupted": "by Ctrl-C, before its last step",
    "diverged": "by divergence: this is the last good map",
}
DRIVES = {
    "density": "the densities of both laws",
    "classifier": "a classifier between samples of both laws",
    "score": "the density of the target, and a learned score",
}


def print_flow(flow: xr.Dataset, seconds: float | None = None, console: Console | None = None) -> None:
    """Print what was fitted and how it ended, and a table of what was measured."""
    about = flow.attrs
    seed = f", seed {about['seed']}" if "seed" in about else ""
    title = f"{about['target']} in {many(int(about['dim']), 'dimension')}, from {about['reference']}{seed}"
    print_facts(title, _rows(about, seconds), console)


def _rows(about: Mapping[str, Any], seconds: float | None) -> list[tuple[str, str, str]]:
    rows = [("method", str(about["method"]), "")]
    if "drive" in about and about["method"] in ("linear", "neural"):
        rows.append(("driven by", str(about["drive"]), DRIVES[about["drive"]]))
    rows += [("steps", f"{int(about['steps']):,}", "")] if about["stopped"] != "closed form" else []
    rows.append(("it ended", ENDS[about["stopped"]], ""))
    rows += [] if seconds is None else [("seconds", f"{seconds:.1f}", "")]
    if "curvature" not in about:
        return [*rows, ("quality", "not measured", "")]
    if "kl" in about:
        rows.append(_divergence(about))
    if "kl_spread" in about:
        rows.append(
            ("spread of log(rho/target)", scale(about["kl_spread"]), "standard deviation: 0 where rho is the target")
        )
    if "log_z" in about:
        rows += _evidence(about)
    if "w2" in about:
        points = f"{int(about['w2_points']):,} points each"
        note = f"floor {with_error(about, 'floor')}, between two samples of the target; {points}"
        rows.append(("W2 to the target", with_error(about, "w2"), note))
    curvature, share = float(about["curvature"]), float(about["nonconvex"])
    note = "of Hess psi" if share == 0 else f"of Hess psi: psi is not convex at {share:.2g} of the fresh points"
    return [*rows, ("least curvature", scale(curvature) if curvature > 0 else f"{curvature:.3g}", note)]


def _evidence(about: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """log Z, or why it is refused, and what it stands on."""
    k = float(about["weights_k"])
    if math.isnan(float(about["log_z"])):
        why = str(about.get("log_z_refused", "the weights do not hold"))
        value, note = "refused", f"{why}; {instead(str(about['reference']))}"
    else:
        error = float(about["log_z_se"])
        places = 6 if not error > 0 else min(6, max(0, 1 - math.floor(math.log10(error))))
        value = f"{float(about['log_z']):.{places}f} ± {error:.{places}f}"
        note = "of the integral of the density" + (", which is 1" if not about.get("kl_constant", 1) else "")
    share = f"of {int(about['weights_n']):,} importance weights"
    drift = float(about.get("weights_drift", math.nan))
    moved = (
        [("t of moved points", f"{drift:.1f}", "above 3 the target has mass beside them")]
        if not math.isnan(drift)
        else []
    )
    return [
        ("log Z", value, note),
        ("effective sample size", f"{float(about['weights_ess']):,.0f}", share),
        (
            "Pareto shape k",
            f"{k:.2f}",
            "of their tail: up to 0.5 the standard error holds, above 0.7 none of it where the tail matters",
        ),
        *moved,
    ]


def _divergence(about: Mapping[str, Any]) -> tuple[str, str, str]:
    """KL to the place of its error's second digit, and what it is worth."""
    value, error = float(about["kl"]), float(about["kl_se"])
    if math.isnan(value):
        return ("KL(rho | target)", "-", "the map reaches beyond the density of the target")
    places = 6 if not error > 0 else max(0, 1 - math.floor(math.log10(error)))
    note = "up to the constant of the density" if about["kl_constant"] else ""
    if "kl_spread" not in about:
        note = "by the classifier, of smoothed laws"
    return ("KL(rho | target)", f"{value:.{places}f} ± {error:.{places}f}", note)
