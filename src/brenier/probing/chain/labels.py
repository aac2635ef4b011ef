"""What the variables of a chain are called, and their units."""

import xarray as xr

_DISTANCE = "unit of the data"
_LABELS = {
    "step": ("steps k of the way there", "1"),
    "time": ("Ornstein-Uhlenbeck time t", "1"),
    "snr": ("signal-to-noise ratio r", "1"),
    "perturbation": ("richness M of the perturbations", "1"),
    "x": ("place x", _DISTANCE),
    "w2_forward": ("W2(mu, nu), on the way there", _DISTANCE),
    "w2_backward": ("W2(mu, nubar), on the way back", _DISTANCE),
    "w2_chain": ("W2(mubar, nubar), on the way back", _DISTANCE),
    "w2_discretisation": ("W2(mu, mubar), what the steps alone do", _DISTANCE),
    "rate": ("growth rate of W2(mubar, nubar)^2 on the way back", "1"),
    "rate_worst": ("growth rate 2 - 2 zeta, zeta the worst curvature", "1"),
    "rate_star": ("growth rate 2 - 2 zeta*_M", "1"),
    "rate_sharp": ("sharp growth rate 2 - 2 (1 - CVaR)/(1 - exp(-2t))", "1"),
    "bound_worst": ("W2(mubar, nubar) by the worst rates, from its value at the last step", _DISTANCE),
    "bound_star": ("W2(mubar, nubar) by the rates 2 - 2 zeta*_M, from its value at the last step", _DISTANCE),
    "bound_sharp": ("W2(mubar, nubar) by the sharp rates, from its value at the last step", _DISTANCE),
    "ratio": ("W2(mu, nubar)/W2(mu, nu) at step 0", "1"),
    "ratio_chain": ("W2(mubar, nubar)/W2(mu, nu) at step 0", "1"),
    "ratio_worst": ("exp(-eta sum zeta), zeta the worst curvature", "1"),
    "ratio_star": ("exp(-eta sum zeta*_M)", "1"),
    "ratio_sharp": ("exp(-eta sum of the sharp net contraction)", "1"),
    "mean_localization": ("mean localization E L", "1"),
    "sup_localization": ("largest localization", "1"),
    "richness": ("richness M of the difference of mubar and nubar", "1"),
    "kl_forward": ("KL(mu | nu), on the way there", "nats"),
    "kl_backward": ("KL(mu | nubar), on the way back", "nats"),
    "kl_chain": ("KL(mubar | nubar), on the way back", "nats"),
    "tv_forward": ("total variation of mu and nu, on the way there", "1"),
    "tv_backward": ("total variation of mu and nubar, on the way back", "1"),
    "tv_chain": ("total variation of mubar and nubar, on the way back", "1"),
    "w2_error": ("W2 between mubar with the score's error and without", _DISTANCE),
    "w2_error_predicted": ("the same, to first order in the error", _DISTANCE),
    "displacement": ("root mean square distance that the score's error moves a particle", _DISTANCE),
    "forward_target": ("density of mu, on the way there", "1/unit of the data"),
    "forward_start": ("density of nu, on the way there", "1/unit of the data"),
    "backward_target": ("density of mubar, on the way back", "1/unit of the data"),
    "backward_start": ("density of nubar, on the way back", "1/unit of the data"),
}


def label(chain: xr.Dataset) -> xr.Dataset:
    """The same dataset with a `long_name` and `units` at every variable; those of a standard error `*_se` derived."""
    for name in chain.variables:
        text, unit = _LABELS[str(name).removesuffix("_se")]
        if str(name).endswith("_se"):
            text = f"standard error of {text}"
        chain[name].attrs = {"long_name": text, "units": unit}
    return chain
