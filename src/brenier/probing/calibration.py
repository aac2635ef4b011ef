"""Whether a network's denoiser is a posterior mean: how large its error is, and what its Jacobian says of that error.

Where D(x; sigma) = E[X | x] for the law that X is drawn from, x = X + sigma Z, J = dD/dx and sigma = 1/r,

    Cov[X | x] = sigma^2 J,    so    E[|X - D|^2 | x] = sigma^2 tr J,    E[(v.(X - D))^2 | x] = sigma^2 v.Jv

for every direction v that depends on x alone, and J is symmetric without negative eigenvalues ([LDK24] Propositions 2
and 3). The left sides are measured with fresh X and Z, the right ones are the network's own. Each of six checks is a
relative deviation, 0 for an exact posterior of the law:

    excess       share of E|X - D|^2 that a correction of D, fitted to one half of the queries, saves on the other
    balance      sigma^2 E tr J / E|X - D|^2 - 1
    directional  sigma^2 E ||J|| / E(v.(X - D))^2 - 1,    v the top singular direction of J: the number that a probe
                 reports, against the error in its direction
    dependence   noisy points are cut in two halves of equal predicted error, by a feature of x; the difference between
                 the halves' true errors, as a share of the error. The largest of three: by tr J (are the points called
                 uncertain those where it errs?), by |D - E D|, by |x - D|. A linear denoiser balances on average, and
                 fails here
    asymmetry    ||J - J^T||/||J|| / 2: the antisymmetric part, as a share of J
    negative     share of the eigenvalues of (J + J^T)/2 below -1% of ||J||

There are two verdicts at each SNR, by the checks that matter (`PURPOSES`).

Sampling: the excess alone. A sampler is told D(x) and nothing of J, so that all that can go wrong is the error
delta = D - E[X | x] of the denoiser. The reverse SDE with D in place of the posterior mean ends in a law at most

    1/2 int E|delta|^2 d(r^2)    away in relative entropy, beside    1/2 int E|X - E[X | x]|^2 d(r^2),

the information that all of denoising brings; and E|delta|^2/E|X - D|^2 is what the excess measures, from below: what
no correction finds is not seen. A correction is D + A(x - D) + B(D - E D) + c with a vector c, and numbers A and B that
may differ between halves of the points, by |D - E D| and by |x - D|. The other checks say nothing to a sampler of first
order. A ripple of D of small height and small wavelength is as good as none, and changes J entirely (a method of higher
order takes differences of D along its way, and may then lose its order). The balance is, by Stein's lemma,
1 + E[delta.(x - D)]/E|X - D|^2: it does see the error, but magnified, as x - D is as long as the noise. A balance of
1 + b betrays an excess of b^2 E|X - D|^2/E|x - D|^2, next to nothing where the noise is large.

Probing: all six. A probe reports ||J|| and tr J as the posterior's own, so each of its properties counts; and a
denoiser that errs is the posterior mean of another law, if of any, however regular its Jacobian.

A deviation beyond `FAIR` makes a network fair at an SNR, beyond `POOR` poor, if it is larger than `SIGNIFICANT`
standard errors. Otherwise it is good if the first check of the purpose, for sampling the excess and for probing the
balance, is known to lie within `POOR` (its deviation and two standard errors do), and undecided if not: more queries
would tell. The first four checks decide nothing where fewer than `CARRIED` queries carry the error e = |X - D|^2, by
their effective number (sum e)^2/sum e^2: most samples miss events that rare, and their standard error is no guide.

Errors vary more from query to query than their mean should be uncertain, and much of that is the draw of Z: whatever D
is, |Z|^2 - d, Z.X and Z.D - sigma tr J (Stein's lemma) have mean zero, and what linear regression on them explains is
taken out. Where X comes from data, queries from the same point are one cluster, so that standard errors are those for
the law behind the data.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brenier.catalog import load_target
from brenier.core import records
from brenier.core.checks import MOST, whole_number
from brenier.core.random import normal_like, seeds
from brenier.core.records import Variables
from brenier.core.work import progress_bar
from brenier.laws.levels import default_snrs, given_snrs
from brenier.networks.conventions import known_snr
from brenier.networks.flow import FlowTarget
from brenier.networks.jacobian import DENSE
from brenier.networks.network import NetworkTarget
from brenier.probing.verdicts import CHECKS, FAIR, POOR, PURPOSES, SIGNIFICANT, VERDICTS, judge
from brenier.scales import sigma_from_snr

Array: TypeAlias = NDArray[np.float64]


SNRS = 16
CONTROLLED = 24  # and those from which on the noise is regressed out
FEATURES = ("predicted", "outlying", "moved")
FLAGS = {"flag_values": np.arange(len(VERDICTS), dtype=np.int8), "flag_meanings": " ".join(VERDICTS)}


class _Sample(NamedTuple):
    """n queries at one SNR."""

    error: Array  # |X - D|^2, (n,)
    saved: Array  # what a correction fitted to other queries takes off it, (n,)
    predicted: Array  # sigma^2 tr J, (n,)
    along: Array  # (v.(X - D))^2, (n,)
    norm: Array  # ||J||, (n,)
    asymmetry: Array  # (n,)
    negative: Array  # (n,)
    features: Array  # functions of x alone, (feature, n)
    controls: Array  # mean zero whatever D is, (control, n)


def default_queries(network: NetworkTarget) -> int:
    """Queries per SNR: as many as bring standard errors to a few per cent, as far as they are cheap."""
    return 32 if network.dim > DENSE else max(512, min(8192, 32768 // network.dim))


def calibrate(
    network: object,
    data: object = None,
    *,
    snrs: Sequence[float] | ArrayLike | None = None,
    sigmas: Sequence[float] | ArrayLike | None = None,
    queries: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Compare what a network's Jacobian says of its error with the error that it makes, at each SNR.

    Args:
        network: a `NetworkTarget`, or what `load_target` makes one of.
        data: the law that the network should know: a law, or what `load_target` takes. Points that the network was not
            trained on: to the atoms that it has memorised, a network is calibrated. Default: the network's own data.
        snrs: SNRs r = alpha/sigma > 0, not squared: diffusers' `compute_snr` is the square of these. Default: 16 from
            where `default_snrs` of the data begins to where it ends, within the network's range.
        sigmas: noise levels 1/r > 0 in the unit of the data, in place of `snrs`.
        queries: noisy points per SNR; the same X and Z at each. Default: `default_queries`.
        seed: of every random number.
        device: where to compute. Default: where the network is.
        dtype: of the computation. Default: the network's.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        Dataset over `snr` (with `sigma`), `feature` and `check`; `*_se` are standard errors:

        - `denoising_error`, `predicted`: E|X - D|^2 and sigma^2 E tr J, in squared units of the data.
        - `excess`: share of the denoising error that a correction saves; below 0 where it saves nothing and costs some.
        - `balance`, `directional`: ratios of predicted to true error, in all directions and in the top one.
        - `contrast` (snr, feature): differences between two halves of equal predicted error; `dependence`, the
          largest that is significant, or the most significant if none is.
        - `asymmetry`: E ||J - J^T||_F/||J||_F, weighted by ||J||. `negative`: mean share of negative eigenvalues.
        - `mean_localization`: E ||J||. `carried`: effective number of queries that carry the error.
        - `level` (check, snr): 0 good, 1 fair, 2 poor, 3 undecided, check by check; `verdict_sampling` and
          `verdict_probing`: the same for either purpose, the worst of its checks.

        Attributes hold what is needed to repeat the run.

    Raises:
        ValueError: there are no data, they do not fit the network, or an argument is out of range.
        TypeError: `network` is not a network.
    """
    net = load_network(network, data, device, dtype)
    net = net.moved(-net.origin)
    given = given_snrs(snrs, sigmas)
    grid = default_snrs(net, SNRS) if given is None else given
    low, high = net.snr_range
    outside = [snr for snr in grid.tolist() if known_snr(snr, low, high) is None]
    if outside:
        raise ValueError(
            f"the SNR {outside[0]:g} is not one that {net.name} was trained for: it must lie between {low:.4g} and "
            f"{high:.4g}"
        )
    count = whole_number(default_queries(net) if queries is None else queries, "queries", 2, MOST - 1)
    seed = whole_number(seed, "seed", 0)
    law = net.data
    assert law is not None  # checked by `load_network`
    points, noise, signs = seeds(seed, count=3)
    x = law.sample(count, points).to(net.device, net.dtype)
    z = normal_like(x, torch.Generator().manual_seed(noise))
    clusters = _clusters(x) if law.atoms else np.arange(len(x))
    columns: list[dict[str, float | Array]] = []
    with progress_bar(f"calibrating {net.name}", progress) as advance:
        for snr in grid.tolist():
            blocks: list[dict[str, Tensor]] = []
            for start in range(0, len(x), net.batch):
                rows = slice(start, start + net.batch)
                blocks.append(_look(net, x[rows], z[rows], snr, signs + start))
                advance(len(x[rows]) / len(x) / len(grid))
            floor = _rounding(x)
            columns.append(_statistics(_sample(blocks, clusters), clusters, snr, floor))
    variables, coordinates = _variables(columns, grid)
    result = records.dataset(
        "calibration",
        variables,
        coordinates,
        title=f"calibration of {net.name}",
        network=net.name,
        law=net,
        queries=count,
        points=len(np.unique(clusters)) if law.atoms else count,
        seed=seed,
        snr_grid="default" if given is None else "given",
        fair=FAIR,
        poor=POOR,
        significant=SIGNIFICANT,
        call={"snrs": grid.tolist(), "queries": count, "seed": seed},
    ).assign_attrs(law=law.name)
    for name in ("level", *(f"verdict_{purpose}" for purpose in PURPOSES)):
        result[name].attrs |= FLAGS
    return result


def load_network(
    network: object,
    data: object = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> NetworkTarget:
    """A network with the data that it is to be calibrated on; arguments and errors are those of `calibrate`."""
    net = load_target(network)  # pyright: ignore[reportArgumentType]
    if not isinstance(net, NetworkTarget):
        raise TypeError(f"{net.name} is not a network: calibrate takes a NetworkTarget or a saved network")
    if isinstance(net, FlowTarget):
        net.check_denoiser()
    net = net.to(device, dtype)
    if data is not None:
        net = net.with_data(load_target(data, dtype=net.dtype, device=net.device))  # pyright: ignore[reportArgumentType]
    if net.guided:
        warnings.warn(
            f"{net.name} is guided: it is no posterior mean of any law, and calibration tells how far it is from one",
            stacklevel=3,
        )
    if net.data is None:
        raise ValueError(f"{net.name} comes without data: give data, points or a law that it should know")
    return net


def _clusters(x: Tensor) -> NDArray[np.int64]:
    """Which queries come from the same point."""
    return np.unique(x.cpu().numpy(), axis=0, return_inverse=True)[1].reshape(-1)


def _rounding(x: Tensor) -> float:
    """A squared error that is nothing but rounding of x."""
    return x.shape[1] * (4 * torch.finfo(x.dtype).eps * max(float(x.abs().max()), 1e-30)) ** 2


def _look(net: NetworkTarget, x: Tensor, z: Tensor, snr: float, seed: int) -> dict[str, Tensor]:
    """What a block of queries shows at one SNR, in float64."""
    found = net.jacobian(snr * x + z, snr, seed)
    assert found.negative is not None  # asked for
    mean, miss, noise = found.mean.double(), (x - found.mean).double(), z.double()
    trace, step = found.trace.double(), noise / snr + miss
    inside = (noise * x.double()).sum(1)
    return {
        "mean": mean,
        "miss": miss,
        "step": step,
        "error": miss.square().sum(1),
        "predicted": trace / snr**2,
        "along": (found.direction.double() * miss).sum(1).square(),
        "norm": found.norm.double(),
        "asymmetry": found.asymmetry.double(),
        "negative": found.negative.double(),
        "moved": step.square().sum(1),
        "length": noise.square().sum(1) - x.shape[1],
        "inside": inside,
        "stein": (noise * mean).sum(1) - trace / snr,
    }


def _sample(blocks: Sequence[dict[str, Tensor]], clusters: NDArray[np.int64]) -> _Sample:
    found = {name: torch.cat([block[name] for block in blocks]).cpu().numpy() for name in blocks[0]}
    centred = found["mean"] - found["mean"].mean(0)
    outlying = np.square(centred).sum(1)
    signs = [_halves(feature, np.ones_like(feature)) for feature in (outlying, found["moved"])]
    return _Sample(
        saved=_saved(found["miss"], (found["step"], centred), signs, clusters),
        **{name: found[name] for name in ("error", "predicted", "along", "norm", "asymmetry", "negative")},
        features=np.stack([found["predicted"], outlying, found["moved"]]),
        controls=np.stack([found["length"], found["inside"], found["stein"]]),
    )


def _statistics(sample: _Sample, clusters: NDArray[np.int64], snr: float, floor: float) -> dict[str, float | Array]:
    """The checks at one SNR, each with its standard error."""
    error, predicted = sample.error, sample.predicted
    carried = float(len(error)) if error.mean() <= floor else error.sum() ** 2 / np.square(error).sum()
    estimate = _Estimate(sample.controls if carried >= CONTROLLED else sample.controls[:0], clusters)
    contrasts = [estimate.ratio((predicted - error) * _halves(f, predicted), error, floor) for f in sample.features]
    values, errors = np.asarray(contrasts).T
    sure = np.abs(values) > SIGNIFICANT * errors
    worst = int(np.argmax(np.abs(values) * sure if sure.any() else np.abs(values) / np.where(errors > 0, errors, 1)))
    variance = sample.norm / snr**2
    found: dict[str, tuple[float, float]] = {
        "denoising_error": estimate.mean(error),
        "predicted": estimate.mean(predicted),
        "excess": estimate.ratio(sample.saved, error, floor),
        "balance": estimate.ratio(predicted, error, floor, 1.0),
        "directional": estimate.ratio(variance, sample.along, floor, 1.0),
        "dependence": (values[worst], errors[worst]),
        "asymmetry": estimate.ratio(sample.asymmetry * sample.norm, sample.norm, 0.0),
        "negative": estimate.mean(sample.negative),
        "mean_localization": estimate.mean(sample.norm),
    }
    named: dict[str, float | Array] = {name: value for name, (value, _) in found.items()}
    named |= {f"{name}_se": deviation for name, (_, deviation) in found.items()}
    return named | {"contrast": values, "contrast_se": errors, "carried": carried}


class _Estimate:
    """Means and ratios of means over queries, what the controls explain taken out, with standard errors over clusters.

    Args:
        controls: of mean zero, shape (m, n).
        clusters: a number for each query; those of one cluster may depend on each other.
    """

    def __init__(self, controls: Array, clusters: NDArray[np.int64]) -> None:
        self.clusters = np.unique(clusters, return_inverse=True)[1].reshape(-1)
        scale = np.sqrt(np.square(controls).mean(1, keepdims=True))
        self.controls = controls / np.where(scale > 0, scale, 1)

    def mean(self, values: Array) -> tuple[float, float]:
        """E values, and its standard error; NaN, unknown, from a single cluster."""
        adjusted = values - self._explained(values)
        value = float(adjusted.mean())
        groups = int(self.clusters.max()) + 1
        freedom = groups - 1 - len(self.controls)
        if freedom < 1:
            return value, math.nan
        sums = np.bincount(self.clusters, adjusted - value)
        return value, float(np.sqrt(np.square(sums).sum() * groups / freedom) / len(values))

    def ratio(self, top: Array, bottom: Array, floor: float, none: float = 0.0) -> tuple[float, float]:
        """E top/E bottom and its standard error to first order; `none`, exactly, where both are at most `floor`."""
        if max(abs(float(np.abs(top).mean())), abs(float(bottom.mean()))) <= floor:
            return none, 0.0
        below = max(self.mean(bottom)[0], floor, float(bottom.mean()) / 10)
        value = self.mean(top)[0] / below
        return value, self.mean((top - value * bottom) / below)[1]

    def _explained(self, values: Array) -> Array:
        if len(self.controls) == 0:
            return np.zeros_like(values)
        centred = self.controls - self.controls.mean(1, keepdims=True)
        slopes = np.linalg.lstsq(centred.T, values - values.mean(), rcond=1e-10)[0]
        return slopes @ self.controls


def _halves(feature: Array, weights: Array) -> Array:
    """1 where the feature is large, -1 where it is small, the two with the same total of the weights."""
    order = np.argsort(feature, kind="stable")
    mass = np.cumsum(np.abs(weights[order]))
    if mass[-1] == 0:
        mass = np.arange(1.0, len(order) + 1)
    signs = np.empty_like(feature)
    signs[order] = np.where(mass <= mass[-1] / 2, -1.0, 1.0)
    return signs


def _saved(miss: Array, fields: Sequence[Array], signs: Sequence[Array], clusters: NDArray[np.int64]) -> Array:
    """What a correction of D takes off each squared error: fitted to half of the clusters, tried on the other half.

    Args:
        miss: X - D, shape (n, d).
        fields: directions to correct D in, functions of the noisy point, each of shape (n, d). One vector, the same
            for all, is added first.
        signs: by which their factors may differ, functions of the noisy point, each of shape (n,).
        clusters: as in `_Estimate`.

    Returns:
        Shape (n,); 0 where all queries are from one cluster.
    """
    saved = np.zeros(len(miss))
    weights = np.stack([np.ones(len(miss)), *signs])
    for fitted in (clusters % 2 == 0, clusters % 2 == 1):
        if fitted.all() or not fitted.any():
            continue
        shifted = miss - _shift(miss[fitted], len(np.unique(clusters[fitted])))
        vectors = (shifted, *fields)
        products = np.asarray([[np.einsum("nd,nd->n", a, b) for a in vectors] for b in vectors])
        inner, gram = products[0, 1:], products[1:, 1:]
        scale = np.sqrt(gram[..., fitted].mean(2).diagonal())
        scale = np.where(scale > 0, scale, 1)
        inner, gram = inner / scale[:, None], gram / np.multiply.outer(scale, scale)[..., None]
        here = weights[:, fitted]
        left = np.einsum("abn,wn,vn->awbv", gram[..., fitted], here, here)
        right = np.einsum("an,wn->aw", inner[:, fitted], here)
        factors = np.linalg.lstsq(left.reshape(right.size, -1), right.ravel(), rcond=1e-6)[0].reshape(right.shape)
        moved = factors @ weights[:, ~fitted]
        gained = 2 * (moved * inner[:, ~fitted]).sum(0) - np.einsum("an,abn,bn->n", moved, gram[..., ~fitted], moved)
        saved[~fitted] = (np.square(miss).sum(1) - products[0, 0])[~fitted] + gained
    return saved


def _shift(miss: Array, clusters: int) -> Array:
    """E[X - D], shrunk as James and Stein do: in many dimensions the mean of a few queries is mostly noise."""
    mean = miss.mean(0)
    noise, size = float(np.square(miss - mean).sum(1).mean()) / clusters, float(mean @ mean)
    return mean * max(0.0, 1 - noise / size) if size > 0 else mean


def _variables(columns: Sequence[dict[str, float | Array]], grid: Array) -> tuple[Variables, Variables]:
    """All statistics, with the verdicts that they imply, and the coordinates."""
    variables: Variables = {
        name: (("snr", "feature") if name.startswith("contrast") else ("snr",), np.asarray([c[name] for c in columns]))
        for name in columns[0]
    }
    level, verdicts = judge({name: np.asarray(values) for name, (_, values) in variables.items()})
    variables["level"] = (("check", "snr"), level)
    variables |= {f"verdict_{purpose}": (("snr",), verdict) for purpose, verdict in verdicts.items()}
    coordinates: Variables = {
        "snr": (("snr",), grid),
        "sigma": (("snr",), sigma_from_snr(grid)),
        "feature": (("feature",), list(FEATURES)),
        "check": (("check",), list(CHECKS)),
    }
    return variables, coordinates
