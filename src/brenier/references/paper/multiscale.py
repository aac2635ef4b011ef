"""The numbers of Figures 2 to 6, 8 and 10: survival, m*, delta* and zeta* of the six worked examples.

Survival curves s_r(u) stand at the paper's SNRs; m*, delta* and zeta*_M over the Ornstein-Uhlenbeck time t ([LDK24]
Section 5). Where the law has an onset r*, its time is one of the times: m* and delta* have a corner there. To the
paper's M = 1, ..., 5 comes M = 20, for which the sharp rate is plainly another one.

Two published panels show something else. zeta*_inf of the uniform law, Figure 5(c), is (1 + r^2) (1 - L_r(0)) and
vanishes as t -> 0, where the published curve, from a Monte Carlo sample, rises. The published curves of Figure 10 have
their onset at r = 0.26 (t = 1.38), as equal normal laws around -4 and 4 do; the law in the text has it at r = 0.428
(t = 0.93).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from brenier import complexity
from brenier.catalog import load_target
from brenier.figures.axes import Array
from brenier.laws.base import Target
from brenier.laws.levels import default_snrs
from brenier.laws.line.quadrature import localization_quadrature, onset
from brenier.laws.mixture import GaussianMixture
from brenier.scales import snr_from_time, time_from_snr

LOW, HIGH = np.linspace(0.1, 1, 10), np.linspace(1.1, 3, 10)
WIDE = np.linspace(0.1, 10, 10)
WORST = (np.inf,)
RICHNESS = (1.0, 2.0, 3.0, 4.0, 5.0, 20.0)
INTERVALS = 96  # of the time axis
LEVELS = 300  # intervals of u


@dataclass(frozen=True)
class Example:
    """What a figure shows, and of which law."""

    law: str
    snrs: tuple[Array, ...] = ()  # one panel of survival curves for each
    u_max: float = 1.5
    t_max: float = 1.5  # 0: no curves over time
    richness: tuple[float, ...] = WORST
    deviations: tuple[float, ...] = ()  # of the normal laws whose curves over time are shown
    constant: bool = False  # whether the localization is, as that of a single normal law


EXAMPLES = {
    "fig2": Example("two-points", (np.linspace(0.01, 1, 10), np.linspace(1.01, 2.5, 10)), u_max=3, t_max=0),
    "fig3": Example("point-mass", constant=True),
    "fig4": Example("normal", (WIDE,), deviations=tuple(np.linspace(0.1, 2, 10).tolist()), constant=True),
    "fig5": Example("uniform", (WIDE,)),
    "fig6": Example("two-points", (LOW, HIGH), richness=RICHNESS),
    "fig8": Example("spike-slab", (LOW, np.append(HIGH, 50.0)), richness=RICHNESS),
    "fig10": Example("four-gaussians", (LOW, HIGH), richness=RICHNESS, t_max=2.0),
}


def compute(name: str) -> xr.Dataset:
    """The numbers of one figure.

    Returns:
        Dataset with `survival` (snr, u); over `time`, with the SNR there as `snr_at_time`: `m_star`, `delta_star`
        (time), `zeta_star`, `zeta_sharp` (time, perturbation), for several normal laws with a leading `deviation`;
        and `onset_snr` (), inf where there is none. Of these, what the figure shows.
    """
    example = EXAMPLES[name]
    law = load_target(example.law)
    data = xr.Dataset(attrs={"law": law.name, "method": "quadrature"})
    if example.snrs:
        data = data.merge(
            _survival(example, law, np.concatenate(example.snrs), np.linspace(0, example.u_max, LEVELS + 1))
        )
    if example.t_max:
        first = np.inf if example.richness is WORST else _onset(law)
        # Denser at short times, where the SNR changes fastest.
        times = example.t_max * (np.arange(1, INTERVALS + 1) / INTERVALS) ** 1.5
        if np.isfinite(first):
            times = np.union1d(times, time_from_snr(first))
        if example.deviations:
            laws = [GaussianMixture([1.0], [0.0], [deviation**2]) for deviation in example.deviations]
            parts = [_over_time(example, one, times) for one in laws]
            data = data.merge(xr.concat(parts, xr.Variable("deviation", np.array(example.deviations))))
        else:
            data = data.merge(_over_time(example, law, times))
        data["onset_snr"] = first
    return data


def _onset(law: Target) -> float:
    low, high = default_snrs(law)[[0, -1]]
    return onset(law, float(low), float(high))


def _sample(example: Example, law: Target, snr: float, levels: Array, richness: Sequence[float]) -> tuple[Array, Array]:
    """A weighted sample of L_r, exact at the levels; a single point where L_r is constant."""
    if example.constant:
        return law.localize(torch.zeros(1, 1, dtype=law.dtype), snr).norm.numpy(), np.ones(1)
    return localization_quadrature(law, snr, levels, richness)[:2]


def _survival(example: Example, law: Target, snrs: Array, u: Array) -> xr.Dataset:
    samples = [_sample(example, law, float(snr), u, ()) for snr in snrs]
    rows = np.stack([complexity.survival(values, u, weights) for values, weights in samples])
    return xr.Dataset({"survival": (("snr", "u"), rows)}, {"snr": snrs, "u": u})


def _over_time(example: Example, law: Target, times: Array) -> xr.Dataset:
    snrs = np.asarray(snr_from_time(times))
    samples = [_sample(example, law, float(snr), np.ones(1), example.richness) for snr in snrs]
    m = np.array(example.richness)
    m_star, delta_star = np.array([complexity.minimal_relative_tail(*sample) for sample in samples]).T
    net, sharp = (
        np.stack([rate(values, m, snr, weights) for (values, weights), snr in zip(samples, snrs, strict=True)])
        for rate in (complexity.net_contraction, complexity.sharp_contraction)
    )
    variables = {
        "m_star": ("time", m_star),
        "delta_star": ("time", delta_star),
        "zeta_star": (("time", "perturbation"), net),
        "zeta_sharp": (("time", "perturbation"), sharp),
    }
    coordinates = {"time": times, "snr_at_time": ("time", snrs), "perturbation": m}
    return xr.Dataset(variables, coordinates)
