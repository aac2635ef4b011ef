"""A Gaussian mixture fitted to data, its size and shape chosen by the likelihood of points that it has not seen.

One split of the distinct points serves all candidates, so that they are compared point by point: the difference of two
mean log-likelihoods has the standard error of the mean of the differences, which is far below that of either. Along
each covariance type the number of components climbs while that pays; of all that were tried, the simplest within one
standard error of the best is taken (Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984).

The likelihood of a mixture has no maximum: a component that shrinks onto one point, or a coordinate that is constant,
takes it to infinity. scikit-learn adds a number, `reg_covar`, to every variance, and in the unit of the data no number
would do for all data. Here points are centred and scaled to unit spread first, all coordinates by one number, so that
round components stay round. What is then added is a share of the spread, and at least h^2/12 for data that are rounded
to multiples of h: that is the variance of rounding (Sheppard), below which rounded data say nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from brenier.core.checks import Array, whole_number
from brenier.core.points import Numbers, as_tensor
from brenier.core.random import generator_for, seeds
from brenier.core.work import one_thread, progress_bar
from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.laws.parameters import COVARIANCE_TYPES, per_component

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)  # numbers of components that are tried
LEAST = 20  # distinct points
_MATRICES = 256  # most dimensions of covariance matrices that are not diagonal
_POINTS = 2**16  # most points that are fitted to,
_NUMBERS = 2**24  # most numbers in them,
_PRODUCTS = 2**28  # and most products of two coordinates, where there are matrices
_CROWD = 10  # distinct points that a component needs
_STARTS = 3
_STEPS = 100  # of expectation-maximisation
_RESOLVED = 1e-6  # of the spread: differences below it are rounding
_ROUNDING = 1e-9  # nats of likelihood: on the line some types of covariance are the same
_ROWS, _HOLDOUT, _CANDIDATE, _START, _REFIT = range(0xF17000, 0xF17005)  # streams of random numbers


class Candidate(NamedTuple):
    """A mixture that was tried.

    Attributes:
        components: how many.
        covariance_type: by its name in scikit-learn.
        held_out: mean log-likelihood of the points held out, in nats, with points in the unit of the data.
        held_out_se: its standard error over these points. Candidates differ by much less: they share the points.
        converged: whether expectation-maximisation came to its tolerance, 1e-3 nats a step, in 100 steps. What did not
            is a candidate all the same, since its likelihood is that of the mixture as it is.
    """

    components: int
    covariance_type: str
    held_out: float
    held_out_se: float
    converged: bool


@dataclass(frozen=True)
class MixtureFit:
    """A mixture fitted to data, how it was chosen, and fits to halves of the data that show how well it is known.

    Attributes:
        law: fitted to all points, in float64, on the device of the data.
        refits: of the same size and type, each fitted to a random half of the points from a start of its own. To
            first order a fit to m of n points has variance 1/m - 1/n about the fit to all, in the unit in which that
            has 1/n about the truth: for halves the two are equal. So what differs between `law` and a refit is off by
            about its standard error, in which the choice of a local maximum is included; where components have few
            points, halves exaggerate it.
        components: how many were chosen.
        covariance_type: which was chosen, by its name in scikit-learn.
        held_out: mean log-likelihood of the points held out, in nats, with points in the unit of the data; of the
            chosen candidate, which was fitted to the other points only.
        held_out_se: its standard error.
        candidates: all that were tried, in that order.
        points: how many points the law was fitted to: all, or a random choice where there are very many.
        floor: what was added to every variance, in squared units of the data. The likelihood depends on it where the
            data are constant in a coordinate, or nearly: by log(1/sqrt(floor)) for each.
    """

    law: GaussianMixture
    refits: tuple[GaussianMixture, ...]
    components: int
    covariance_type: str
    held_out: float
    held_out_se: float
    candidates: tuple[Candidate, ...]
    points: int
    floor: float


def fit_mixture(
    data: Target | Numbers,
    *,
    components: int | Sequence[int] | None = None,
    covariance_types: Sequence[str] = COVARIANCE_TYPES,
    refits: int = 3,
    holdout: float = 0.2,
    floor: float = 1e-6,
    seed: int = 0,
    progress: bool = True,
) -> MixtureFit:
    """Fit a Gaussian mixture to data, its number of components and covariance type chosen on points held out.

    Candidates have 1, 2, 3, 4, 6, 8, 12, ..., 96 components. For each covariance type their number climbs while the
    likelihood of the points held out grows by more than its paired standard error, until two in a row fail; there are
    never more than one for ten distinct points, nor more parameters than numbers in the points. Of those tried, the one
    with the fewest parameters within one paired standard error of the best is chosen. One standard error is a mild bar:
    now and then chance takes a component too many over it. The law is fitted to all points by expectation-maximisation,
    from the best of three starts as judged on the points held out.

    Time and memory are bounded. Covariance matrices, "full" and "tied", are tried in up to 256 dimensions: pixels of
    larger images get variances only, which is a crude model of them. Of more than 65,536 points, of more than 2^24
    numbers, and of more than 2^28/d^2 points in d dimensions with matrices (16,384 for d = 128, 4,096 for d = 256), as
    many are drawn at random and everything is fitted to these. Work takes one thread, some 1 GiB beyond the data and a
    copy, and from below 20 s (the digits: 1,797 points, d = 64) to many minutes for as many points as are taken.

    Args:
        data: an `Empirical` of equal weights or points that make one, shape (N,), (N, d) or (N, *event_shape).
        components: how many, or several numbers to choose from, all of which are tried but for those that the bounds
            above rule out. Default: see above.
        covariance_types: which to choose from, by their names in scikit-learn: "full", "tied" (one matrix for all
            components), "diag", "spherical". On the line all but "tied" are one, and the last of them stands for all.
        refits: how many fits to halves of the points show the spread between models; 0 for none.
        holdout: share of the distinct points that is held out of the choice; copies of a point stay together.
        floor: what is added to every variance, as a share of the mean variance of the coordinates that vary; at least
            h^2/12 where all coordinates are multiples of some h. Modes narrower than sqrt(floor) of the whole spread
            and coordinates which vary less than that are not resolved.
        seed: of the split, of starts and of halves.
        progress: show a bar on stderr, where that is a terminal.

    Raises:
        ValueError: weights that differ, fewer than 20 distinct points, points not finite, a spread beyond the squares
            of float64, more components or larger matrices than there may be, an unknown covariance type, arguments out
            of range.
        TypeError: data that are no real numbers, a law other than an `Empirical`.
    """
    seed = whole_number(seed, "seed", 0)
    refits = whole_number(refits, "refits", 0)
    if not 0 < holdout < 1:
        raise ValueError(f"holdout must lie in (0, 1), got {holdout}")
    if not 0 < floor < 1:
        raise ValueError(f"floor must lie in (0, 1), a share of the data's variance, got {floor}")
    sizes = _sizes(components)
    law = _law(data)
    kinds = _kinds(covariance_types, law.dim)
    frame = _Frame.of(_some(law, kinds, seed), floor)
    split = _Split.of(frame.points, holdout, seed)
    with progress_bar("Fitting mixtures", progress) as advance, one_thread():
        tried = _search(frame, split, kinds, sizes, seed, lambda share: advance(0.8 * share))
        chosen = _choose(tried, split)
        size, kind = chosen.size, chosen.kind
        best = chosen
        for start in seeds(seed, _START, count=_STARTS - 1):
            other = _try(frame, split, kind, size, start)
            best = max(best, other, key=lambda each: each.mean)
            advance(0.1 / (_STARTS - 1))
        name = f"mixture of {size} for {law.name}"
        whole = frame.law(_fit(frame, frame.points, kind, size, 0, best.estimator), name, law)
        halves: list[GaussianMixture] = []
        for k, start in enumerate(seeds(seed, _REFIT, count=refits)):
            half = _shuffled(len(frame.points), seed, _REFIT, k)[: (len(frame.points) + 1) // 2]
            found = _fit(frame, frame.points[half], kind, size, start)
            halves.append(frame.law(found, f"{name}, refit {k + 1}", law))
            advance(0.1 / refits)
    return MixtureFit(
        law=whole,
        refits=tuple(halves),
        components=size,
        covariance_type=kind,
        held_out=chosen.mean,
        held_out_se=split.error(chosen.scores),
        candidates=tuple(
            Candidate(each.size, each.kind, each.mean, split.error(each.scores), each.estimator.converged_)
            for each in tried
        ),
        points=len(frame.points),
        floor=frame.floor * frame.unit**2,
    )


@dataclass(frozen=True)
class _Frame:
    """Points centred and scaled: `points` = (x - `centre`)/`unit`, and what is added to variances in that unit."""

    points: Array  # (n, d)
    centre: Array  # (d,)
    unit: float
    floor: float

    @classmethod
    def of(cls, x: Array, floor: float) -> _Frame:
        coarse = 2.0 ** round(math.log2(float(np.abs(x).max()) or 1.0))  # squares of what it divides are finite
        first = x[0].copy()
        points = x / coarse - first / coarse
        shift = points.mean(0)
        points -= shift
        constant = (x == first).all(0)
        points[:, constant] = 0.0
        variance = np.square(points).mean(0)
        fine = math.sqrt(float(variance[~constant].mean())) if not constant.all() else 1.0
        unit = coarse * fine
        if not 1e-140 < unit < 1e140:
            raise ValueError(f"the data's spread of {unit:.3g} has no square in float64: give them another unit")
        points /= fine
        ordered: Array = np.sort(points, axis=0)
        steps: Array = ordered[1:] - ordered[:-1]
        step = float(steps[steps > _RESOLVED].min(initial=1.0))  # and no more than the spread itself
        centre = np.where(constant, first, first + coarse * shift)
        return cls(points, centre, unit, max(floor, step**2 / 12))

    def law(self, fitted: Any, name: str, like: Empirical) -> GaussianMixture:
        """A fitted mixture in the unit of the data, on the device of the law that it is fitted to."""
        covariances = per_component(fitted.covariances_, fitted.covariance_type, *fitted.means_.shape)
        means = self.centre + self.unit * fitted.means_
        return GaussianMixture(
            fitted.weights_,
            means,
            covariances * self.unit**2,
            name=name,
            event_shape=like.event_shape,
            device=like.device,
        )


@dataclass(frozen=True)
class _Split:
    """Rows to fit to, and distinct points held out with their numbers of copies."""

    train: NDArray[np.bool_]
    distinct: int  # points among those to fit to
    held: Array
    copies: Array

    @classmethod
    def of(cls, points: Array, holdout: float, seed: int) -> _Split:
        _, first, place = np.unique(points, axis=0, return_index=True, return_inverse=True)
        count = len(first)
        if count < LEAST:
            raise ValueError(f"the data have {count} distinct points: a mixture is chosen from at least {LEAST}")
        held = round(holdout * count)
        if held < 2 or count - held < _CROWD:
            raise ValueError(
                f"a holdout of {holdout} leaves {count - held} of {count} distinct points to fit to and {held} to "
                f"judge by: at least {_CROWD} and 2 are needed"
            )
        place = place.ravel()
        first = np.sort(first)  # the split goes by the order of the points, not by that of their values
        label = place[first]
        out = _shuffled(count, seed, _HOLDOUT)[:held]
        is_out = np.zeros(count, dtype=bool)
        is_out[label[out]] = True
        copies = np.bincount(place, minlength=count)[label[out]]
        return cls(~is_out[place], count - held, points[first[out]], copies.astype(np.float64))

    def mean(self, scores: Array) -> float:
        """Mean over the points held out."""
        return float(self.copies @ scores / self.copies.sum())

    def error(self, scores: Array) -> float:
        """Standard error of that mean: copies of a point are one observation."""
        off = self.copies * (scores - self.mean(scores))
        return float(np.sqrt(np.square(off).sum() * len(off) / (len(off) - 1)) / self.copies.sum())


@dataclass(frozen=True)
class _Tried:
    """A candidate with the log-likelihood of each distinct point held out, in nats and in the unit of the data."""

    size: int
    kind: str
    estimator: Any
    scores: Array
    mean: float


def _search(
    frame: _Frame,
    split: _Split,
    kinds: Sequence[str],
    sizes: Sequence[int] | None,
    seed: int,
    advance: Callable[[float], None],
) -> list[_Tried]:
    """All candidates: for each type the sizes given, or a climb that two failures in a row end."""
    tried: list[_Tried] = []
    for kind in kinds:
        stream = COVARIANCE_TYPES.index(kind)
        most = _most(kind, split.distinct, frame.points.shape[1])
        steps = [size for size in sizes or SIZES if size <= most]
        best: _Tried | None = None
        failures = 0
        for k, size in enumerate(steps):
            found = _try(frame, split, kind, size, seeds(seed, _CANDIDATE, stream, size)[0])
            tried.append(found)
            advance(1 / len(steps) / len(kinds))
            if best is None or found.mean - best.mean > split.error(found.scores - best.scores):
                best, failures = found, 0
            else:
                failures += 1
            if sizes is None and failures == 2:
                advance((1 - (k + 1) / len(steps)) / len(kinds))
                break
        if not steps:
            advance(1 / len(kinds))
    if not tried:
        wanted = "a component" if sizes is None else f"components={min(sizes)}"
        raise ValueError(
            f"{split.distinct} distinct points to fit to, of {frame.points.shape[1]} numbers each, are too few for "
            f"{wanted}: each needs {_CROWD} points, and all parameters together fewer than there are numbers"
        )
    return tried


def _choose(tried: Sequence[_Tried], split: _Split) -> _Tried:
    """The candidate with the fewest parameters among those within one paired standard error of the best."""
    best = max(tried, key=lambda each: each.mean)
    near = [each for each in tried if best.mean - each.mean <= split.error(best.scores - each.scores) + _ROUNDING]
    return min(near, key=lambda each: _parameters(each.kind, each.size, split.held.shape[1]))  # the first of equals


def _try(frame: _Frame, split: _Split, kind: str, size: int, seed: int) -> _Tried:
    estimator = _fit(frame, frame.points[split.train], kind, size, seed)
    scores = estimator.score_samples(split.held) - split.held.shape[1] * math.log(frame.unit)
    return _Tried(size, kind, estimator, scores, split.mean(scores))


def _fit(frame: _Frame, points: Array, kind: str, size: int, seed: int, start: Any = None) -> Any:
    """scikit-learn's mixture, from k-means or from where another fit ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Estimator

    options: dict[str, Any] = {}
    if start is not None:
        options = {"weights_init": start.weights_, "means_init": start.means_, "precisions_init": start.precisions_}
    estimator = Estimator(
        size, covariance_type=kind, reg_covar=frame.floor, max_iter=_STEPS, random_state=seed, **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(points)


def _law(data: Target | Numbers) -> Empirical:
    if isinstance(data, Empirical):
        law = data
    elif isinstance(data, Target):
        raise TypeError(f"a mixture is fitted to points or to an Empirical, got the law {data.name}: draw from it")
    else:
        points = as_tensor(data, "the data")
        law = Empirical(points, dtype=torch.float32 if points.dtype == torch.float32 else torch.float64)
    if not bool((law.weights == law.weights[0]).all()):
        raise ValueError(
            "the data have weights that differ, and scikit-learn's mixtures take none: give points of equal weight, "
            "such as draws from these"
        )
    return law


def _some(law: Empirical, kinds: Sequence[str], seed: int) -> Array:
    """The points in float64, or a random choice where they are more than is bearable."""
    most = min(_POINTS, max(1, _NUMBERS // law.dim))
    if {"full", "tied"} & set(kinds):
        most = min(most, _PRODUCTS // law.dim**2)
    rows = np.arange(len(law)) if len(law) <= most else np.sort(_shuffled(len(law), seed, _ROWS)[:most])
    return law.take(torch.from_numpy(rows)).cpu().numpy()


def _kinds(covariance_types: Sequence[str], dim: int) -> tuple[str, ...]:
    """The covariance types to try, of those given."""
    given = (covariance_types,) if isinstance(covariance_types, str) else tuple(covariance_types)
    unknown = [kind for kind in given if kind not in COVARIANCE_TYPES]
    if unknown or not given:
        raise ValueError(f"covariance_types must be some of {', '.join(COVARIANCE_TYPES)}, got {covariance_types!r}")
    kinds = tuple(kind for kind in COVARIANCE_TYPES if kind in given)
    if dim == 1:
        same = [kind for kind in kinds if kind != "tied"]
        return (*same[-1:], *(kind for kind in kinds if kind == "tied"))
    if dim > _MATRICES:
        kinds = tuple(kind for kind in kinds if kind not in ("full", "tied"))
        if not kinds:
            raise ValueError(
                f"covariances of type {' or '.join(given)} are fitted in up to {_MATRICES} dimensions, points have "
                f"{dim}: take diag or spherical, or fewer dimensions"
            )
    return kinds


def _sizes(components: int | Sequence[int] | None) -> list[int] | None:
    if components is None:
        return None
    given = list(components) if isinstance(components, Sequence) else [components]
    if not given:
        raise ValueError("components must be a whole number or several, got none")
    return sorted({whole_number(size, "components", 1) for size in given})


def _most(kind: str, distinct: int, dim: int) -> int:
    """Most components: one for ten distinct points, and fewer parameters than numbers."""
    most = distinct // _CROWD
    while most > 0 and _parameters(kind, most, dim) >= distinct * dim:
        most -= 1
    return most


def _parameters(kind: str, size: int, dim: int) -> int:
    matrix = dim * (dim + 1) // 2
    covariance = {"full": size * matrix, "tied": matrix, "diag": size * dim, "spherical": size}[kind]
    return size - 1 + size * dim + covariance


def _shuffled(count: int, *stream: int) -> NDArray[np.int64]:
    return torch.randperm(count, generator=generator_for(*stream)).numpy()
