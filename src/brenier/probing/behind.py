"""The law behind data: what N points tell about its localization, with brackets for what they leave open.

At each SNR there are three samples of localizations (see `laws.crossfit`): from below, from above, and between them,
each freed of the scatter of its values (see `deconvolution`). What follows from the lower and the upper one are the
ends of a bracket. Sampling is a jackknife's that leaves out one of 16 groups in turn, as atoms and as queries at once
(Quenouille 1956; Shao and Wu, Ann. Stat. 17, 1989), so it covers that of data and of noise. Standard errors are of
sampling and of what the bracket leaves open together. Past the SNR at which posteriors are too small for data to tell,
a quarter of the queries is asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from brenier import complexity
from brenier.core.checks import Array
from brenier.core.random import seeds
from brenier.core.records import Variables
from brenier.core.work import workers
from brenier.laws.crossfit import GROUPS, CrossFit, CrossFitted
from brenier.laws.empirical import Empirical
from brenier.probing.deconvolution import mixing_weights, support

SHARE = 0.2  # width of a bracket, of E L or of m* on its scale of 1, up to which data can tell
LEVEL = float(stdtrit(GROUPS - 1, 0.975))  # standard errors in half an interval of 95%
CROWD = 64  # median effective sample size from which on estimates hold: 16 in each of the folds
MOST = 4.0  # squared relative error, and inflation of one
# Of the scatter that was measured so much is taken out: it may be more or less.
DOUBT = {"low": 2.0, "": 1.0, "high": 0.5}
ALIKE = 16  # sets of queries of like localization, over which the agreement of directions is averaged
BINS = 256  # of values that are nearly equal, which the deconvolution takes as one
ITERATIONS, MORE = 200, 30  # of it: from equal weights, and from those of all data for a replicate
PILOTS = 64  # queries that tell how large posteriors are, before the others are asked
FEWER, LEAST = 4, 256  # times as few are asked where posteriors are too small to tell; but so many at least
DRAWS = 64  # of m* from the normal law with the jackknife's covariance
INCREASING = ("mean_localization", "survival", "integrated_tail", "m_star")
DECREASING = ("zeta_star", "zeta_sharp")


class Behind(NamedTuple):
    """What is known of the localization of the law behind data.

    Attributes:
        localization, weights: the sample between the bounds, shape (snr, m).
        variables: brackets, standard errors and what else only data have.
    """

    localization: Array
    weights: Array
    variables: Variables


class Levels(NamedTuple):
    """Where tails and rates are asked for."""

    snr: Array
    u: Array
    delta: Array
    richness: Array
    beta: float

    def of(self, values: Array, weights: Array) -> dict[str, Array]:
        """All that a weighted sample at each SNR implies, shape (snr, ...)."""
        with np.errstate(invalid="ignore"):
            rates = (values, self.richness, self.snr, weights, self.beta)
            m_star, delta_star = complexity.minimal_relative_tail(values, weights)
            return {
                "mean_localization": (values * weights).sum(1),
                "survival": complexity.survival(values, self.u, weights),
                "integrated_tail": complexity.integrated_tail(values, self.delta, weights),
                "m_star": m_star,
                "delta_star": delta_star,
                "zeta_star": complexity.net_contraction(*rates),
                "zeta_sharp": complexity.sharp_contraction(*rates),
            }


DIMENSIONS = {
    "mean_localization": ("snr",),
    "survival": ("snr", "u"),
    "integrated_tail": ("snr", "delta"),
    "m_star": ("snr",),
    "delta_star": ("snr",),
    "zeta_star": ("snr", "perturbation"),
    "zeta_sharp": ("snr", "perturbation"),
}


def usual_queries(dim: int) -> int:
    """Queries that are asked about the law behind data unless told otherwise.

    What N points leave open is more than what N/2 queries at them do: past 8 dimensions, where queries cost, more than
    1,024 hardly ever make standard errors smaller.
    """
    return 2048 if dim <= 8 else 1024


def look_behind(
    law: Empirical,
    snr: Array,
    queries: int,
    *,
    u: Array,
    delta: Array,
    richness: Array,
    beta: float,
    seed: int,
    advance: Callable[[float], None] = lambda share: None,
) -> Behind:
    """Localizations of the law that data were drawn from, with brackets.

    Raises:
        ValueError: there are too few distinct points to leave some out.
    """
    parts, points, noise, draws = seeds(seed, count=4)
    folded = CrossFit.of(law, parts)
    index = folded.draw(queries, points)
    z = torch.randn(queries, law.dim, generator=torch.Generator().manual_seed(noise), dtype=torch.float64)
    z = z.to(law.device, law.dtype)
    some = slice(None, None, max(1, queries // PILOTS))
    crowd = folded.crowd(index[some], z[some], snr.tolist())
    lost = int(np.argmax(np.append(crowd < CROWD / 2, True)))  # from there on data cannot tell, however many are asked
    steps = [(slice(0, lost), 1), (slice(lost, len(snr)), max(1, min(FEWER, queries // LEAST)))]
    steps = [(place, step) for place, step in steps if place.start < place.stop]
    work = sum((place.stop - place.start) / step for place, step in steps)
    looks: list[_Look] = []
    for place, step in steps:
        share = (place.stop - place.start) / step / work
        found = folded.crossfit(
            index[::step], z[::step], snr[place].tolist(), lambda done, share=share: advance(share * done)
        )
        looks.append(_look(found, snr[place], law.dim))
    samples, inflation, posteriors = _joined(looks)
    levels = Levels(snr, u, delta, richness, beta)
    known = {end: _jackknife(levels, *sample, np.sqrt(inflation)) for end, sample in samples.items()}
    value, error, replicates = known[""]
    left = {name: _left_open(known, name) for name in DIMENSIONS}
    normal = np.random.default_rng(draws).normal(size=(DRAWS, GROUPS + 1))
    deviations = normal[:, :GROUPS] @ (replicates - replicates.mean(0)) * np.sqrt((GROUPS - 1) / GROUPS)
    drawn = np.maximum(value["m_star"] + deviations + normal[:, GROUPS:] * left["m_star"], 0)
    grid, weights, _ = samples[""]
    variables: Variables = {f"{name}_se": (DIMENSIONS[name], np.hypot(error[name], left[name])) for name in DIMENSIONS}
    variables |= _brackets(known) | posteriors
    variables |= {"m_star_replicate": (("replicate", "snr"), drawn)}
    variables |= _resolution(known, variables, snr, u)
    return Behind(grid, weights, variables)


class _Look(NamedTuple):
    """What the same queries tell at some SNRs.

    Attributes:
        samples: for each end of the brackets a grid and weights (snr, m), and both without each group (2, G, snr, m).
        inflation: of standard errors, squared, shape (snr,).
        posteriors: what they are like, all along snr.
    """

    samples: dict[str, tuple[Array, Array, Array]]
    inflation: Array
    posteriors: Variables


def _look(found: CrossFitted, snr: Array, dim: int) -> _Look:
    inflation = _inflation(found)
    found = replace(found, noise=found.noise * inflation[:, None])
    share = _seen(found)
    between = found.form ** (1 - share) * found.ceiling**share
    ends = {"low": found.floor, "": between, "high": found.ceiling}
    samples = {end: _sample(found, values, DOUBT[end], exact=end == "low") for end, values in ends.items()}
    return _Look(samples, inflation.cpu().numpy(), _posteriors(found, snr, dim))


def _joined(looks: Sequence[_Look]) -> _Look:
    """One after the other along the SNRs."""
    samples = {end: [look.samples[end] for look in looks] for end in looks[0].samples}
    whole = {
        end: (
            np.concatenate([grid for grid, _, _ in parts]),
            np.concatenate([weights for _, weights, _ in parts]),
            np.concatenate([without for _, _, without in parts], 2),
        )
        for end, parts in samples.items()
    }
    posteriors: Variables = {
        name: (("snr",), np.concatenate([look.posteriors[name][1] for look in looks])) for name in looks[0].posteriors
    }
    return _Look(whole, np.concatenate([look.inflation for look in looks]), posteriors)


class _End(NamedTuple):
    """What one of the three samples implies."""

    value: dict[str, Array]
    error: dict[str, Array]  # standard errors
    m_star: Array  # without each group, (G, snr)


def _left_open(known: dict[str, _End], name: str) -> Array:
    """Standard error of what the bracket leaves open: anything no further off than its further end is as likely."""
    if name == "delta_star":  # it has no ends
        return np.zeros(len(known[""].value[name]))
    value, low, high = (known[end].value[name] for end in ("", "low", "high"))
    return np.nan_to_num(np.fmax(abs(high - value), abs(low - value))) / np.sqrt(3)


def _brackets(known: dict[str, _End]) -> Variables:
    """Ends of the brackets with sampling: outside of the value, and in the range that a quantity has."""
    found: Variables = {}
    for name in (*INCREASING, *DECREASING):
        below, above = ("low", "high") if name in INCREASING else ("high", "low")
        value = known[""].value[name]
        low = np.fmin(known[below].value[name] - LEVEL * np.nan_to_num(known[below].error[name]), value)
        high = np.fmax(known[above].value[name] + LEVEL * np.nan_to_num(known[above].error[name]), value)
        if name == "survival":  # it falls, so that it is below what it was at any u before, and above what it will be
            low = np.maximum.accumulate(low[:, ::-1], axis=1)[:, ::-1]
            high = np.minimum.accumulate(high, axis=1)
        least, most = (0.0 if name in INCREASING else -np.inf), (1.0 if name == "survival" else np.inf)
        found[f"{name}_low"] = (DIMENSIONS[name], low.clip(least, most))
        found[f"{name}_high"] = (DIMENSIONS[name], high.clip(least, most))
    return found


def _posteriors(found: CrossFitted, snr: Array, dim: int) -> Variables:
    """What posteriors are like: size, spread, dimension."""
    total, form = found.trace.cpu().numpy().mean(1), found.form.mean(1).cpu().numpy()
    kept = np.arange(GROUPS)[:, None] != found.group.cpu().numpy()
    without = (found.trace_without.cpu().numpy() * kept[:, None]).sum(2) / kept.sum(1).clip(1)[:, None]
    without = np.where(kept.any(1)[:, None], without, total)
    dimension = total / np.maximum(form, np.maximum(total / dim, 1e-300))
    return {
        "mmse": (("snr",), total / snr**2),
        "mmse_se": (("snr",), _spread(without) / snr**2),
        "ess": (("snr",), found.ess.median(1).values.cpu().numpy()),
        "effective_dimension": (("snr",), dimension.clip(1)),
    }


def _resolution(known: dict[str, _End], variables: Variables, snr: Array, u: Array) -> Variables:
    """Up to which SNR brackets are narrow and posteriors large, and from which on L > 1 is certain up to there."""
    value, low, high = (known[end].value for end in ("", "low", "high"))
    name = "mean_localization"
    width = np.maximum((high[name] - low[name]) / np.maximum(value[name], 1e-300), high["m_star"] - low["m_star"])
    vague = (width > SHARE) | (np.asarray(variables["ess"][1]) < CROWD)
    told = int(np.argmax(np.append(vague, True)))
    surely = np.flatnonzero(np.asarray(variables["survival_low"][1])[:told, np.argmin(abs(u - 1))] > 0)
    onset = np.inf if len(surely) == 0 else float(snr[surely[0] - 1]) if surely[0] else np.nan
    return {
        "bracket_width": (("snr",), width),
        "resolved_snr": ((), float(snr[told - 1]) if told else np.nan),
        "onset_snr": ((), onset),
    }


def _inflation(found: CrossFitted) -> Float[Tensor, " S"]:
    """By how much the scatter of values is larger than along fixed directions, over all queries of an SNR."""
    asked = found.disagreement.isfinite()
    both = [torch.where(asked, each, 0).clamp_max(MOST).sum(1) for each in (found.disagreement, found.noise)]
    return (both[0] / both[1].clamp_min(1e-300)).clamp(1, MOST)


def _seen(found: CrossFitted) -> Float[Tensor, "S Q"]:
    """How far leading directions can be seen, from 0 to 1: the mean over queries of like localization."""
    rank = found.form.argsort(1).argsort(1) * ALIKE // found.form.shape[1]
    sums = torch.zeros(len(rank), ALIKE, dtype=torch.float64, device=rank.device)
    counts = torch.zeros_like(sums).scatter_add_(1, rank, torch.ones_like(found.form)).clamp_min(1)
    mean = sums.scatter_add(1, rank, found.agreement) / counts
    return mean.clamp(0, 1).sqrt().gather(1, rank)


def _sample(
    found: CrossFitted, values: Float[Tensor, "S Q"], doubt: float = 1.0, exact: bool = False
) -> tuple[Array, Array, Array]:
    """Grid and weights (snr, m) of the localization behind the values, and both without each group (2, G, snr, m).

    Values that are small by chance seem to have much noise and count for less in the likelihood, so that what comes out
    is larger in the mean, by up to 5%. With `exact` the mean is that of the values.
    """
    scale = (values / found.form.clamp_min(1e-300)).clamp_max(GROUPS)  # a group is taken to change all ends alike
    groups = torch.arange(GROUPS, device=found.group.device)[:, None] != found.group

    def one(k: int) -> tuple[Tensor, Tensor, Tensor]:
        """At one SNR."""
        rank = values[k].argsort().argsort() * min(BINS, values.shape[1]) // values.shape[1]
        without = found.form_without[:, k] * scale[k] * groups
        parts = torch.cat([torch.ones_like(values[:1]), values[k][None], found.noise[k][None], groups, without])
        sums = torch.zeros(len(parts), int(rank.max()) + 1, dtype=parts.dtype, device=parts.device)
        (count, value, noise), kept, seen = sums.index_add_(1, rank, parts).split([3, GROUPS, GROUPS])
        value, noise, seen = value / count, doubt * noise / count, seen / kept.clamp_min(1)
        grid = support(values[k])
        weight = mixing_weights(value, noise, grid, steps=ITERATIONS, counts=count)
        many = (GROUPS, -1)
        seen = torch.where(kept > 0, seen, value)
        kept = torch.where(kept.sum(1, keepdim=True) > 0, kept, count)  # all queries are of one group: it tells nothing
        shift = (seen * kept).sum(1) / (value * kept).sum(1).clamp_min(1e-300)  # so that only the shape is left to find
        moved = grid * shift[:, None].clamp_min(1e-9)
        part = mixing_weights(seen, noise.expand(*many), moved, weight.expand(*many), MORE, kept)
        if exact:
            grid, moved = grid * _scale(value, count, grid, weight), moved * _scale(seen, kept, moved, part)
        return grid, weight, torch.stack([moved, part])

    with workers(values.device) as over:
        grids, weights, without = zip(*over(one, range(len(values))), strict=True)
    stacked = torch.stack(grids), torch.stack(weights), torch.stack(without, 2)
    grid, weight, part = (each.cpu().numpy() for each in stacked)
    return grid, weight, part


def _scale(
    values: Float[Tensor, "*b Q"], counts: Float[Tensor, "*b Q"], grid: Float[Tensor, "*b m"], weights: Tensor
) -> Float[Tensor, "*b 1"]:
    """By what to multiply the grid for its mean to be that of the values."""
    mean = (values * counts).sum(-1, keepdim=True) / counts.sum(-1, keepdim=True)
    return mean / (grid * weights).sum(-1, keepdim=True).clamp_min(1e-300)


def _jackknife(levels: Levels, grid: Array, weights: Array, without: Array, inflation: Array) -> _End:
    """What a sample implies, with its standard errors."""
    value = levels.of(grid, weights)
    replicates = [levels.of(*one) for one in without.swapaxes(0, 1)]
    with np.errstate(invalid="ignore"):
        error = {name: (_spread(np.stack([one[name] for one in replicates])).T * inflation).T for name in value}
    return _End(value, error, np.stack([one["m_star"] for one in replicates]))


def _spread(replicates: Array) -> Array:
    """The jackknife's standard error from what is found without each group, along the first axis."""
    return np.sqrt((len(replicates) - 1) * np.var(replicates, axis=0))
