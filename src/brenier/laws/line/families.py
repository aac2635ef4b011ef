"""Continuous distributions of scipy.stats as laws on the line: by name, frozen, and cut off at the ends of an interval.

    scipy:t(3)    scipy:gamma(2, scale=3)    scipy:t(3)[-2, 5]      a name, its parameters, an interval to truncate to

Location and scale are taken out first, so that a law is as exact at 1e9 as it is at 0.
"""

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from brenier.laws.base import Target
from brenier.laws.line import bergstrom
from brenier.laws.line.density import OnTheLine
from brenier.laws.line.search import read_support
from brenier.laws.mixture import GaussianMixture
from brenier.laws.written import arguments

PREFIX = "scipy:"
_FORM = re.compile(r"\s*(\w+)\s*(?:\((.*?)\))?\s*(?:\[([^\[\]]*)\])?\s*", re.DOTALL)
_WRITTEN = 'such as "scipy:t(3)", "scipy:gamma(2, scale=3)" or, truncated, "scipy:t(3)[-2, 5]"'


@runtime_checkable
class _Density(Protocol):
    def logpdf(self, x: Any) -> Any: ...


@runtime_checkable
class _Masses(Protocol):
    def support(self) -> Any: ...


Frozen: TypeAlias = _Density | _Masses  # what scipy.stats gives: those without a density are refused later, in one line


def _kinds(value: object) -> tuple[type, ...]:
    return type(value).__mro__


def is_distribution(value: object) -> bool:
    """Whether something is a distribution of scipy.stats, of whatever kind."""
    return any(kind.__module__.startswith("scipy.stats") for kind in _kinds(value))


def named(text: str) -> Target:
    """The law of a name, with or without "scipy:" before it.

    Raises:
        ValueError: one line, for what is not written like a law, is unknown, discrete or of more dimensions, or has
            parameters that it does not take.
    """
    from scipy import stats

    written = _FORM.fullmatch(text.removeprefix(PREFIX))
    if written is None:
        raise ValueError(f"{text!r} is not how a distribution of scipy.stats is written: {_WRITTEN}")
    name, inside, interval = written.groups()
    family: Any = getattr(stats, name, None)
    if isinstance(family, stats.rv_discrete):
        raise ValueError(_discrete(f"{text!r}"))
    if not isinstance(family, stats.rv_continuous):
        names = [known for known in dir(stats) if isinstance(getattr(stats, known), stats.rv_continuous)]
        near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
        hint = f": did you mean {near[0]!r}?" if near else ", see scipy.stats"
        raise ValueError(f"scipy.stats has no continuous distribution {name!r}{hint}")
    args, kwargs = _parameters(text, inside or "")
    try:
        frozen = family(*args, **kwargs)
    except TypeError:
        needed = f"the parameters {family.shapes}, and loc and scale" if family.shapes else "loc and scale alone"
        raise ValueError(f"{text!r}: {name} takes {needed}, in this order or by name") from None
    return of_distribution(frozen, None if interval is None else _interval(text, interval), name=text)


def of_distribution(distribution: Any, support: Sequence[float] | None = None, *, name: str | None = None) -> Target:
    """The law of a frozen distribution of scipy.stats, or of one that needs no parameters.

    Args:
        distribution: `scipy.stats.t(3)`, `scipy.stats.norm`, `scipy.stats.rv_histogram(...)`, or one of the new kind,
            `scipy.stats.Normal()`. A `gaussian_kde`, of any dimension, is the mixture that it is.
        support: ends (low, high) to truncate it to.
        name: default: that of scipy, with the parameters.

    Raises:
        ValueError: one line, for one that is discrete or has more dimensions, parameters out of range, and all that
            `OnTheLine` refuses.
    """
    from scipy import stats

    # Frozen ones have a family of their own class; those that were never frozen are families without parameters.
    family: Any = getattr(distribution, "dist", distribution)
    known = getattr(family, "name", None) or type(distribution).__name__
    if isinstance(distribution, stats.gaussian_kde) and support is None:
        kernels = len(distribution.weights)
        covariances = np.broadcast_to(distribution.covariance, (kernels, *distribution.covariance.shape))
        return GaussianMixture(distribution.weights, distribution.dataset.T, covariances, name=name or "gaussian_kde")
    if isinstance(family, stats.rv_discrete) or any(
        kind.__name__ == "DiscreteDistribution" for kind in _kinds(distribution)
    ):
        raise ValueError(_discrete(name or str(known)))
    if known == "vonmises":
        raise ValueError(f"{name or known} is a law on the circle: vonmises_line is the same from -pi to pi")
    if isinstance(family, stats.rv_continuous):
        shapes, place, scale = _standard(family, getattr(distribution, "args", ()), getattr(distribution, "kwds", {}))
        written = ", ".join(f"{float(value):g}" for value in shapes)
        name = name or f"{known}({written})" + (f" * {scale:g} + {place:g}" if (place, scale) != (0, 1) else "")
        low, high = (float(end) for end in family.support(*shapes))
        if not (scale > 0 and math.isfinite(scale) and math.isfinite(place) and low < high):
            raise ValueError(f"{name}: parameters out of range for {known}")

        def log_density(x: Any) -> Any:
            return bergstrom.log_density(x, *shapes) if known == "levy_stable" else family.logpdf(x, *shapes)

    elif hasattr(distribution, "logpdf") and hasattr(distribution, "icdf"):
        place, scale, log_density = 0.0, 1.0, distribution.logpdf
        new_kind: Any = distribution
        low, high = (float(end) for end in new_kind.support())
        name = name or str(known)
    else:
        raise ValueError(f"{known} is no distribution on the line: give points drawn from it, or another law")
    if support is not None:
        ends = [(end - place) / scale for end in read_support(support)]
        if not max(low, ends[0]) < min(high, ends[1]):
            raise ValueError(f"{name} has nothing between {support[0]:g} and {support[1]:g}")
        low, high = max(low, ends[0]), min(high, ends[1])
    bins = getattr(family, "_hbins", ())  # of a histogram, where its density jumps
    at = [float(edge) for edge in bins if low <= edge <= high]
    try:
        law = OnTheLine(log_density, (low, high), name=name, at=at)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return law.affine(scale, place)


def _standard(family: Any, args: Sequence[Any], kwds: dict[str, Any]) -> tuple[list[float], float, float]:
    """Shape parameters, location and scale of what a family was frozen with."""
    names = [*(family.shapes or "").replace(" ", "").split(","), "loc", "scale"]
    given = dict(zip([name for name in names if name], args, strict=False)) | kwds
    values: list[float] = []
    for name in names:
        value = np.asarray(given.get(name, {"loc": 0.0, "scale": 1.0}.get(name, math.nan)), dtype=float)
        if name and value.ndim:
            raise ValueError(f"{family.name}: {name} must be one number, got shape {value.shape}: one law at a time")
        if name:
            values.append(float(value))
    if any(math.isnan(value) for value in values):
        missing = [name for name in names if name and name not in given and name not in ("loc", "scale")]
        raise ValueError(f"{family.name} needs its parameters {family.shapes}: {', '.join(missing) or 'NaN'} missing")
    return values[:-2], values[-2], values[-1]


def _parameters(text: str, inside: str) -> tuple[list[float], dict[str, float]]:
    """Positional and named numbers between brackets."""
    args, kwargs = arguments(text, inside, _WRITTEN)
    if any(isinstance(value, list | tuple) for value in (*args, *kwargs.values())):
        raise ValueError(f"{text!r}: parameters must be numbers, {_WRITTEN}")
    return [float(value) for value in args], {name: float(value) for name, value in kwargs.items()}


def _interval(text: str, inside: str) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in inside.split(","))
    except ValueError:
        raise ValueError(f"{text!r}: an interval must be two numbers, such as [-2, 5] or [0, inf]") from None
    return read_support((low, high))


def _discrete(what: str) -> str:
    return (
        f"{what} is discrete: give its points and probabilities as a mixture of point masses, "
        "GaussianMixture(probabilities, points, 0) or a mixture in JSON with covariances 0"
    )
