"""The kinds of dataset that there are, and what each holds: its variables, their names and units, what it must have.

Standard errors end in `_se` and brackets in `_low` and `_high`: they are labelled after what they are of, and not
listed.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

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
Labels: TypeAlias = dict[str, tuple[str, str]]  # what a variable is, and its unit

_DATA, _SQUARED, _DENSITY = "unit of the data", "squared unit of the data", "1/unit of the data"


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


_LEVELS: Labels = {
    "snr": ("signal-to-noise ratio r", "1"),
    "sigma": ("noise level 1/r", _DATA),
    "time": ("Ornstein-Uhlenbeck time t", "1"),
    "perturbation": ("richness M of the perturbations", "1"),
}
_COMPLEXITY: Labels = _LEVELS | {
    "u": ("threshold u of the localization", "1"),
    "delta": ("curvature threshold delta = 1 - u", "1"),
    "survival": ("survival function s_r(u) = P(L_r > u)", "1"),
    "integrated_tail": ("integrated tail h(delta, r)", "1"),
    "m_star": ("minimal relative tail m*", "1"),
    "delta_star": ("largest minimiser delta*", "1"),
    "zeta_star": ("net contraction zeta*_M, delta in [0, 1]", "1"),
    "zeta_sharp": ("sharp net contraction, (1 - CVaR)/(1 - exp(-2t))", "1"),
    "onset_snr": ("onset r*: P(L > 1) = 0 up to here", "1"),
}
_PROFILE: Labels = _COMPLEXITY | {
    "localization": ("localization ||Cov[rX|Y_r]||_op", "1"),
    "query_weight": ("weight of the query", "1"),
    "mean_localization": ("mean localization E L_r", "1"),
    "sup_localization": ("largest localization", "1"),
    "mmse": ("minimum mean squared error E tr Cov[X|Y_r]", _SQUARED),
    "ess": ("median effective sample size of the posterior", "1"),
    "localization_error": ("largest relative error bound of an operator norm", "1"),
    "mean_symmetric": ("largest eigenvalue of the Jacobian's symmetric part", "1"),
    "asymmetry": ("asymmetry of the Jacobian ||J - J^T||_F/||J||_F", "1"),
    "m_star_replicate": ("m* of bootstrap resamples of the queries", "1"),
    "model_mean_localization": ("mean localization E L_r of the model", "1"),
    "model_m_star": ("minimal relative tail m* of the model", "1"),
    "resolved_snr": ("largest SNR up to which the data can tell", "1"),
    "bracket_width": ("width of the bracket, of E L_r relative to it or of m*", "1"),
    "effective_dimension": ("effective dimension E tr Cov/E L of the posterior", "1"),
    "view_snr": ("SNR of the images", "1"),
    "view_noisy": ("noisy images y/r, 0 to 255 from view_low - 2/r to view_high + 2/r", "1"),
    "view_mean": ("their posterior means, 0 to 255 from view_low to view_high", "1"),
    "view_axis": ("what is undecided there, the first principal component; 0 to 255 around 127.5", "1"),
    "view_variance": ("variance of rX along the component, given the noisy image", "1"),
    "view_nearest": ("the datum nearest to the noisy image, 0 to 255 from view_low to view_high", "1"),
}
_DENSITIES: Labels = {
    "step": ("steps k of the way there", "1"),
    "time": _LEVELS["time"],
    "x": ("place x", _DATA),
    "forward_target": ("density of mu_t, on the way there", _DENSITY),
    "forward_start": ("density of nu_t, on the way there", _DENSITY),
    "backward_target": ("density of mubar_t, on the way back", _DENSITY),
    "backward_start": ("density of nubar_t, on the way back", _DENSITY),
}
_CHAIN: Labels = {
    "step": _DENSITIES["step"],
    "time": _LEVELS["time"],
    "snr": _LEVELS["snr"],
    "perturbation": _LEVELS["perturbation"],
    "w2_forward": ("W2(mu, nu), on the way there", _DATA),
    "w2_backward": ("W2(mu, nubar), on the way back", _DATA),
    "w2_chain": ("W2(mubar, nubar), on the way back", _DATA),
    "w2_discretisation": ("W2(mu, mubar), what the steps alone do", _DATA),
    "rate": ("growth rate of W2(mubar, nubar)^2 on the way back", "1"),
    "rate_worst": ("growth rate 2 - 2 zeta, zeta the worst curvature", "1"),
    "rate_star": ("growth rate 2 - 2 zeta*_M", "1"),
    "rate_sharp": ("sharp growth rate 2 - 2 (1 - CVaR)/(1 - exp(-2t))", "1"),
    "bound_worst": ("W2(mubar, nubar) by the worst rates, from its value at the last step", _DATA),
    "bound_star": ("W2(mubar, nubar) by the rates 2 - 2 zeta*_M, from its value at the last step", _DATA),
    "bound_sharp": ("W2(mubar, nubar) by the sharp rates, from its value at the last step", _DATA),
    "ratio": ("W2(mu, nubar)/W2(mu, nu) at step 0", "1"),
    "ratio_chain": ("W2(mubar, nubar)/W2(mu, nu) at step 0", "1"),
    "ratio_worst": ("exp(-eta sum zeta), zeta the worst curvature", "1"),
    "ratio_star": ("exp(-eta sum zeta*_M)", "1"),
    "ratio_sharp": ("exp(-eta sum of the sharp net contraction)", "1"),
    "rate_local": ("growth rate 2 sup(f'' + (log p)''/beta) where the laws taken back lie", "1/time"),
    "contraction": ("contraction rate of W2(mu, nu), on the way there", "1/time"),
    "bound_forward": ("W2(mu, nu) by the rate lambda, from its value at the start", _DATA),
    "mean_localization": ("mean localization E L", "1"),
    "sup_localization": ("largest localization", "1"),
    "mean_curvature": ("mean of (log p)''", "1/squared unit of the data"),
    "sup_curvature": ("largest (log p)''", "1/squared unit of the data"),
    "richness": ("richness M of the difference of mubar and nubar", "1"),
    "kl_forward": ("KL(mu | nu), on the way there", "nats"),
    "kl_backward": ("KL(mu | nubar), on the way back", "nats"),
    "kl_chain": ("KL(mubar | nubar), on the way back", "nats"),
    "tv_forward": ("total variation of mu and nu, on the way there", "1"),
    "tv_backward": ("total variation of mu and nubar, on the way back", "1"),
    "tv_chain": ("total variation of mubar and nubar, on the way back", "1"),
    "w2_error": ("W2 between mubar with the score's error and without", _DATA),
    "w2_error_predicted": ("the same, to first order in the error", _DATA),
    "displacement": ("root mean square distance that the score's error moves a particle", _DATA),
}
_CALIBRATION: Labels = {
    "snr": _LEVELS["snr"],
    "sigma": _LEVELS["sigma"],
    "feature": ("what the halves are cut by", "1"),
    "check": ("what is checked", "1"),
    "denoising_error": ("denoising error E|X - D|^2", _SQUARED),
    "predicted": ("error that the Jacobian predicts, sigma^2 E tr J", _SQUARED),
    "excess": ("share of the denoising error that a correction of the denoiser saves", "1"),
    "balance": ("predicted error/denoising error", "1"),
    "directional": ("predicted error/denoising error in the top singular direction of the Jacobian", "1"),
    "contrast": ("difference in error between two halves of equal predicted error, as a share of the error", "1"),
    "dependence": ("largest significant contrast, or the most significant", "1"),
    "carried": ("effective number of queries that carry the error", "1"),
    "asymmetry": ("||J - J^T||_F/||J||_F, weighted by ||J||_op", "1"),
    "negative": ("share of eigenvalues of (J + J^T)/2 below -1% of ||J||_op", "1"),
    "mean_localization": ("mean localization E ||J||_op", "1"),
    "verdict_sampling": ("whether the denoiser is as good as one of the data's law", "1"),
    "verdict_probing": ("whether the denoiser and its Jacobian are a posterior's of the data's law", "1"),
    "level": ("what a single check says", "1"),
}
_COMPARISON: Labels = {
    "criterion": ("how the steps were placed", "1"),
    "solver": ("sampler", "1"),
    "steps": ("grid intervals", "1"),
    "rms": ("root mean squared distance to the reference end point", _DATA),
    "median": ("median distance to the reference end point", _DATA),
    "w2": ("W2 from the samples to the law", _DATA),
    "w2_reference": ("W2 from the reference end points to the law", _DATA),
    "predicted": ("predicted root mean squared distance to the reference end point", _DATA),
    "predicted_objective": ("predicted value of what the grids by error make small", _DATA),
    "evaluations": ("evaluations of the denoiser per sample", "1"),
    "planning_evaluations": ("evaluations of the denoiser that planning took, over all pilots", "1"),
    "sigmas": ("noise levels of the grid", _DATA),
}
_SCHEDULE: Labels = {
    "level": ("noise level, counted from the first", "1"),
    "sigma": ("noise level sigma", _DATA),
    "snr": _LEVELS["snr"],
    "predicted_error": ("share in the predicted end error of the step from here to the next level", _DATA),
}
_AUDIT: Labels = {
    "call": ("call of the network, counted from the first", "1"),
    "told": ("noise level of the time that the network is told", _DATA),
    "executed": ("noise level of what the network sees", _DATA),
    "requested": ("noise level that was asked for", _DATA),
    "time": ("time that the network is told", "1"),
    "size": ("size of what the network sees, over what it should be", "1"),
    "end": ("noise level that the result is left at", _DATA),
    "begins": ("noise that the pipeline begins with, over that of the first level", "1"),
}
_TRANSPORT: Labels = {
    "points": ("points y", _DATA),
    "weights": ("weights b", "1"),
    "heights": ("heights h of Brenier's potential", _SQUARED),
    "labels": ("class of the point, or its number among the classes", "1"),
    "conditions": ("conditions c of the point", "as given"),
    "class": ("class", "1"),
    "class_stopped": ("how the fit of the class ended", "1"),
    "class_samples": ("draws that the fit of the class took", "1"),
    "class_excess": ("excess total variation of the class when its fit ended", "1"),
    "class_averaged": ("draws that the heights of the class are worth", "1"),
}
_COUPLING: Labels = {
    "batch": ("noises and data of a minibatch plan", "1"),
    "cost": ("mean squared distance of noise and datum by minibatch plans", _SQUARED),
    "detour": ("root mean squared distance of the plan's datum from the map's", _DATA),
    "map_cost": ("mean squared distance of noise and datum by the map", _SQUARED),
    "independent_straightness": ("straightness of the flow that independent pairs make", _SQUARED),
    "independent_cost": ("mean squared distance of independent noise and datum", _SQUARED),
}
_HISTORY: Labels = {
    "step": ("step of the iteration", "1"),
    "eta": ("step size for standardised laws", "1"),
    "halvings": ("halvings that kept the potential convex", "1"),
    "displacement": ("root mean square of the step", _DATA),
    "curvature": ("least eigenvalue of Hess psi for standardised laws", "1"),
    "kl": ("KL(rho || target), up to the constant of an unnormalised density", "nats"),
    "kl_se": ("standard error of kl", "nats"),
    "held_kl": ("KL(rho || target) on points that no step has seen", "nats"),
    "held_kl_se": ("standard error of held_kl", "nats"),
    "reverse_kl": ("KL(target || rho) by the classifier", "nats"),
    "loss": ("loss of the classifier or score", "1"),
    "calibration": ("calibration error of the classifier", "1"),
    "w2": ("W2 between points of each law", _DATA),
    "dual": ("Kantorovich's dual for standardised laws", "1"),
}
_GRID: Labels = {
    "time": ("time of the equation", "1"),
    "saved": ("time at which the potential is kept", "1"),
    "residual": ("standard deviation of the rate of psi under the reference", "1"),
    "least_curvature": ("smallest eigenvalue of Hess psi", "1"),
    "kl": ("KL divergence from the target", "1"),
    "refused": ("trial steps refused because they left the convex functions", "1"),
    "cells": ("cells along an axis", "1"),
    "potential": ("potential", _SQUARED),
    "y1": ("first coordinate", _DATA),
    "y2": ("second coordinate", _DATA),
}
_FLOW: Labels = {
    **_GRID,
    **_HISTORY,
    "centre": ("mean of the reference, or of the frame", _DATA),
    "target_centre": ("mean of the target", _DATA),
    "root": ("root of the frame's covariance", _DATA),
    "reference_points": ("points of the reference", _DATA),
    "target_points": ("points of the target", _DATA),
    "y": ("place of the reference", _DATA),
    "x": ("place of the target", _DATA),
    "x1": ("place of the target, first coordinate", _DATA),
    "x2": ("place of the target, second coordinate", _DATA),
    "reference_density": ("density of the reference", _DENSITY),
    "target_density": ("density of the target", "1/unit of the data to the power of the dimension"),
}
_DIFFICULTY: Labels = {
    "snr": _LEVELS["snr"],
    "sigma": _LEVELS["sigma"],
    "localization": ("localization ||Cov[rX|Y_r]||_op where steps were taken", "1"),
    "trace": ("tr Cov[rX|Y_r] where steps were taken", "1"),
    "integral_localization": ("integral of the localization over log r", "1"),
    "max_localization": ("largest localization on the way", "1"),
    "hardest_snr": ("SNR where the localization is largest", "1"),
    "integral_trace": ("integral of the trace over log r", "1"),
    "rank": ("place among the points, 1 for the hardest", "1"),
    "dimension": ("local intrinsic dimension by FLIPD", "1"),
    "mean_distance": ("distance to the mean", _DATA),
    "nearest_distance": ("distance to the nearest point of the data", _DATA),
    "neighbour_distance": ("distance to the fifth nearest point of the data", _DATA),
    "noise_norm": ("length of the noise over its root mean square", "1"),
    "log_density": ("log density at the point", "log of the density in the unit of the data"),
    "error": ("distance of the sampler's end to the flow's own", _DATA),
    "measure": ("what is held against the error", "1"),
    "rho": ("Spearman's correlation with the error", "1"),
    "partial": ("correlation of the integral of the localization with the error, the measure held fixed", "1"),
    "partial_all": ("correlation of the integral of the localization with the error, all controls held fixed", "1"),
    "lead": ("correlation of the integral of the localization less that of the measure, both without sign", "1"),
    "auc": ("area under the curve for the worst tenth of the errors", "1"),
    "points": ("points", _DATA),
    "row": ("number of the point, hardest first, then easiest", "1"),
    "view_snr": ("SNR of what is undecided", "1"),
    "variance": ("variance of rX along the component, given the noisy point", "1"),
    "component": ("principal components of X given the noisy point", "1"),
    "posterior_mean": ("mean of X given the noisy point", _DATA),
}
_NUMBER = "as the metric"
_EVALUATION: Labels = {
    "value": ("the metric", _NUMBER),
    "low": ("lower end of its 95% interval", _NUMBER),
    "high": ("upper end of its 95% interval", _NUMBER),
    "control": ("the metric of a perfect sampler", _NUMBER),
    "control_low": ("lower end of the control's 95% interval", _NUMBER),
    "control_high": ("upper end of the control's 95% interval", _NUMBER),
    "closeness": ("nearest over second nearest training distance of a sample", "1"),
    "control_closeness": ("the same of a point that was held out, or of the training data", "1"),
    "cloud": ("training points", _DATA),
    "pair_sample": ("row of the sample", "1"),
    "pair_train": ("row of its nearest training point", "1"),
    "pair_distance": ("distance of the two", _DATA),
    "pair_closeness": ("nearest over second nearest training distance", "1"),
    "pair_points": ("a sample, then its nearest training point", _DATA),
}
_LIMIT: Labels = {
    "epsilon": ("epsilon", _SQUARED),
    "l2": ("error of psi, L2(reference) norm", _SQUARED),
    "sup": ("error of psi, largest value on the central 99.8% of the reference", _SQUARED),
    "iterations": ("Sinkhorn's iterations", "1"),
    "grid_points": ("points of the larger grid", "1"),
    "norm": ("norm of the error", "1"),
    "slope": ("slope of log error over log epsilon", "1"),
    "slope_low": ("lower end of its 95% interval", "1"),
    "slope_high": ("upper end of its 95% interval", "1"),
}
_FIGURE: Labels = {
    **_COMPLEXITY,
    **_DENSITIES,
    "snr_at_time": ("signal-to-noise ratio r(t)", "1"),
    "deviation": ("standard deviation of the normal law", _DATA),
    "density": ("density of Y_r", "1"),
    "y": ("noisy point, noise of unit variance", "1"),
    "edge": ("largest y with Hess log p(y) > -delta", "1"),
    "atom": ("point mass of mu", _DATA),
    "atom_mass": ("mass of mu at the point", "1"),
}

RECORDS: dict[Kind, Record] = {
    "profile": Record(
        "brenier probe",
        _PROFILE,
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
        _CHAIN,
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
    "densities": Record("brenier.densities", _DENSITIES, rows=("step", "x"), required=("time", *_DENSITIES)),
    "calibration": Record(
        "brenier calibrate",
        _CALIBRATION,
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
        _COMPARISON,
        rows=("criterion", "solver", "steps"),
        required=(
            *("criterion", "solver", "steps", "evaluations", "predicted", "planning_evaluations", "sigmas"),
            *("rms", "median", "w2", "w2_reference", "rms_se", "median_se", "w2_se", "w2_reference_se"),
        ),
        attributes=("law",),
    ),
    "schedule": Record("brenier plan", _SCHEDULE, rows=("level",), required=("sigma", "snr")),
    "transport": Record(
        "brenier transport",
        _TRANSPORT,
        rows=("point",),
        columns=("axis", "coordinate"),
        required=("points", "weights", "heights"),
        attributes=("source", "fit_stopped", "fit_tolerance", "fit_samples", "fit_excess", "fit_seed"),
    ),
    "blocked transport": Record(
        "brenier transport of data in blocks",
        {name: _TRANSPORT[name] for name in ("weights", "heights")},
        rows=("point",),
        required=("weights", "heights"),
        attributes=("source", "dim", "cells", "points_file", "points_digest", "fit_stopped", "fit_tolerance"),
    ),
    "coupling": Record(
        "brenier.coupling_report",
        _COUPLING,
        rows=("batch",),
        required=("batch", "cost", "detour", "cost_se", "detour_se", "map_cost", "independent_cost"),
        attributes=("points", "dim", "source", "excess", "chi_square", "slope"),
    ),
    "flow": Record(
        "brenier flow",
        _FLOW,
        rows=("step", "time"),  # the latter on a grid
        attributes=("family", "target", "reference", "dim", "method", "stopped", "steps"),
    ),
    "history": Record("MongeAmpere.fit", _HISTORY, rows=("step",), required=("step",)),
    "evaluation": Record(
        "brenier evaluate",
        _EVALUATION,
        rows=("metric",),
        required=("metric", "value", "low", "high", "control", "control_low", "control_high"),
        attributes=("samples", "reference"),
    ),
    "grid solution": Record("solve_on_grid", _GRID, rows=("time",), required=("residual", "kl", "cells")),
    "sinkhorn limit": Record("sinkhorn_limit", _LIMIT, rows=("epsilon",), required=("l2", "sup", "slope")),
    "audit": Record(
        "brenier audit",
        _AUDIT,
        rows=("call",),
        required=("told", "executed", "requested", "time", "size", "end", "begins"),
        attributes=("pipeline", "scheduler", "asked", "findings"),
    ),
    "difficulty": Record(
        "brenier difficulty",
        _DIFFICULTY,
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
        _COMPLEXITY
        | {
            "mean_localization": _PROFILE["mean_localization"],
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
    "paper figure": Record("brenier reproduce", _FIGURE, attributes=("law",), paper=True),
}
