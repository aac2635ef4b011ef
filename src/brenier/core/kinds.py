"""The kinds of dataset that there are, and what each holds: its variables, and what it must have."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from brenier.core.labels import (
    AUDIT,
    CALIBRATION,
    CHAIN,
    COMPARISON,
    COMPLEXITY,
    COUPLING,
    DENSITIES,
    DIFFICULTY,
    EVALUATION,
    FIGURE,
    FLOW,
    GRID,
    HISTORY,
    LIMIT,
    PROFILE,
    SCHEDULE,
    TRANSPORT,
    Labels,
)

Kind: TypeAlias = Literal[
    "profile",
    "chain",
    "densities",
    "calibration",
    "comparison",
    "schedule",
    "transport",
    "blocked transport",
    "coupling",
    "flow",
    "history",
    "evaluation",
    "grid solution",
    "sinkhorn limit",
    "paper figure",
    "atlas",
    "audit",
    "difficulty",
]


@dataclass(frozen=True)
class Record:
    """What a dataset of one kind holds.

    Attributes:
        made_by: what makes one.
        labels: of its variables, by name.
        rows: the dimensions over which a table has a row for each place.
        columns: further ones over which it has a column for each place.
        required: variables without which it is not one.
        attributes: that it has to have.
        paper: whether what it holds is defined in [LDK24].
    """

    made_by: str
    labels: Labels
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    paper: bool = False


RECORDS: dict[Kind, Record] = {
    "profile": Record(
        "brenier probe",
        PROFILE,
        rows=("snr",),
        columns=("perturbation",),
        required=(
            *("snr", "time", "sigma", "localization", "survival", "m_star", "delta_star", "zeta_star", "zeta_sharp"),
            *("mean_localization", "sup_localization", "ess", "onset_snr"),
        ),
        attributes=("law", "beta"),
        paper=True,
    ),
    "chain": Record(
        "brenier chain",
        CHAIN,
        rows=("step",),
        columns=("perturbation",),
        required=(
            *("time", "w2_forward", "w2_backward", "w2_chain", "w2_discretisation"),
            *("rate", "rate_worst", "rate_star", "rate_sharp", "bound_worst", "bound_star"),
            *("bound_sharp", "ratio_chain", "ratio_worst", "ratio_star", "ratio_sharp"),
        ),
        attributes=("law", "start"),
        paper=True,
    ),
    "densities": Record("brenier.densities", DENSITIES, rows=("step", "x"), required=("time", *DENSITIES)),
    "calibration": Record(
        "brenier calibrate",
        CALIBRATION,
        rows=("snr",),
        columns=("feature", "check"),
        required=(
            *(
                "verdict_sampling",
                "verdict_probing",
                "level",
                "contrast",
                "carried",
                "asymmetry",
                "negative",
                "mean_localization",
            ),
            *("denoising_error", "predicted", "excess", "balance", "directional", "dependence"),
            *("denoising_error_se", "predicted_se", "excess_se", "balance_se", "directional_se", "dependence_se"),
        ),
        attributes=("network", "law"),
    ),
    "comparison": Record(
        "brenier compare",
        COMPARISON,
        rows=("criterion", "solver", "steps"),
        required=(
            *("criterion", "solver", "steps", "evaluations", "predicted", "planning_evaluations", "sigmas"),
            *("rms", "median", "w2", "w2_reference", "rms_se", "median_se", "w2_se", "w2_reference_se"),
        ),
        attributes=("law",),
    ),
    "schedule": Record("brenier plan", SCHEDULE, rows=("level",), required=("sigma", "snr")),
    "transport": Record(
        "brenier transport",
        TRANSPORT,
        rows=("point",),
        columns=("axis", "coordinate"),
        required=("points", "weights", "heights"),
        attributes=("source", "fit_stopped", "fit_tolerance", "fit_samples", "fit_excess", "fit_seed"),
    ),
    "blocked transport": Record(
        "brenier transport of data in blocks",
        {name: TRANSPORT[name] for name in ("weights", "heights")},
        rows=("point",),
        required=("weights", "heights"),
        attributes=("source", "dim", "cells", "points_file", "points_digest", "fit_stopped", "fit_tolerance"),
    ),
    "coupling": Record(
        "brenier.coupling_report",
        COUPLING,
        rows=("batch",),
        required=("batch", "cost", "detour", "cost_se", "detour_se", "map_cost", "independent_cost"),
        attributes=("points", "dim", "source", "excess", "chi_square", "slope"),
    ),
    "flow": Record(
        "brenier flow",
        FLOW,
        rows=("step", "time"),  # the latter on a grid
        attributes=("family", "target", "reference", "dim", "method", "stopped", "steps"),
    ),
    "history": Record("MongeAmpere.fit", HISTORY, rows=("step",), required=("step",)),
    "evaluation": Record(
        "brenier evaluate",
        EVALUATION,
        rows=("metric",),
        required=("metric", "value", "low", "high", "control", "control_low", "control_high"),
        attributes=("samples", "reference"),
    ),
    "grid solution": Record("solve_on_grid", GRID, rows=("time",), required=("residual", "kl", "cells")),
    "sinkhorn limit": Record("sinkhorn_limit", LIMIT, rows=("epsilon",), required=("l2", "sup", "slope")),
    "audit": Record(
        "brenier audit",
        AUDIT,
        rows=("call",),
        required=("told", "executed", "requested", "time", "size", "end", "begins"),
        attributes=("pipeline", "scheduler", "asked", "findings"),
    ),
    "difficulty": Record(
        "brenier difficulty",
        DIFFICULTY,
        rows=("sample",),
        required=(
            *("localization", "trace", "sigma", "snr", "integral_localization", "max_localization", "hardest_snr"),
            *(
                "integral_trace",
                "rank",
                "dimension",
                "mean_distance",
                "nearest_distance",
                "neighbour_distance",
                "points",
            ),
        ),
        attributes=("law", "n", "asked", "solver", "steps", "event_shape", "neighbours", "dimension_sigma"),
    ),
    "atlas": Record(
        "brenier reproduce atlas",
        COMPLEXITY
        | {
            "mean_localization": PROFILE["mean_localization"],
            "survival_at_one": ("P(L_r > 1)", "1"),
            "bottleneck_snr": ("SNR of the largest m*", "1"),
            "bottleneck_m_star": ("largest m*", "1"),
            "queries": ("noisy points per SNR, 0 for quadrature", "1"),
            "square_integrable": ("whether E |X|^2 is finite", "1"),
            "name": ("law", "1"),
            "group": ("what the law is there for", "1"),
            "dim": ("dimension", "1"),
        },
        rows=("entry",),
        required=("m_star", "bottleneck_m_star"),
        paper=True,
    ),
    "paper figure": Record("brenier reproduce", FIGURE, attributes=("law",), paper=True),
}
