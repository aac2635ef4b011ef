"""Potentials f of the Langevin process dX = -grad f(X) dt + sqrt(2/beta) dB, by name or as a function of yours.

What [LDK24] Theorems 1 and 2 say of a process is in the range of f'': lambda <= f'' <= kappa. A positive lambda is the
rate at which laws approach each other on the way there; on the way back kappa parts them, less what the noisy law's
curvature takes away. The Ornstein-Uhlenbeck process is that of f(x) = x^2/2, where both are 1.
"""

import difflib
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.polynomial import legendre

from brenier.core.checks import Array
from brenier.laws.line.search import read_function

_NODES, _WEIGHTS = legendre.leggauss(16)
_STRETCH = 0.5  # over which f and f'' are held against each other
_AGREE = 1e-5  # relative: how well they must agree
_GRID = 4001


class Quadratic(NamedTuple):
    """f(x) = (x - c)' H (x - c)/2."""

    hessian: Array  # (), (d,) for a diagonal, or (d, d)
    centre: Array  # (), or (d,)


class Potential:
    """A potential on the line, by its value and its second derivative.

    Args:
        value: f, of an array (n,) or, where it cannot take one, a tensor (n,): (n,). x in the unit of the data.
        second: f'', likewise.
        slope: f', likewise. Default: had from f and f'' to rounding, which takes a few dozen of their values.
        name: what to call it in results.
        convexity: infimum and supremum of f'' on the whole line, lambda and kappa; inf is allowed. Default: what they
            are where a chain's laws lie.

    Raises:
        ValueError: a value is not finite, `second` is not the second derivative of `value`, or the convexity is not
            two numbers from low to high.
        TypeError: what was given is no function of an array.
    """

    def __init__(
        self,
        value: Callable[[Any], Any],
        second: Callable[[Any], Any],
        *,
        slope: Callable[[Any], Any] | None = None,
        name: str = "potential",
        convexity: tuple[float, float] | None = None,
    ) -> None:
        self.name = name
        self.quadratic: Quadratic | None = None
        self._value, self._second = read_function(value, "value"), read_function(second, "second")
        self._slope = None if slope is None else read_function(slope, "slope")
        self._convexity = None if convexity is None else _read_range(convexity)
        self._check()

    def __repr__(self) -> str:
        return f"<Potential: {self.name}>"

    @classmethod
    def of_quadratic(cls, hessian: Any = 1.0, centre: Any = 0.0) -> Self:
        """f(x) = (x - c)' H (x - c)/2.

        Args:
            hessian: H: a number for all coordinates, d numbers for a diagonal, or a symmetric matrix (d, d); in
                1/squared unit of the data and of time. It may have eigenvalues of 0 and below.
            centre: c: a number, or d numbers.

        Raises:
            ValueError: a Hessian that is not finite or not symmetric, or a centre of another dimension.
        """
        matrix, centre = (_single(np.asarray(part, dtype=np.float64)) for part in (hessian, centre))
        if matrix.ndim > 2 or (matrix.ndim == 2 and matrix.shape[0] != matrix.shape[1]) or centre.ndim > 1:
            raise ValueError(
                f"a quadratic potential takes a number, d numbers or a d x d matrix, and a centre, got the shapes "
                f"{matrix.shape} and {centre.shape}"
            )
        if not (np.all(np.isfinite(matrix)) and np.all(np.isfinite(centre))):
            raise ValueError("the quadratic potential holds numbers that are not finite")
        if matrix.ndim == 2 and not np.allclose(matrix, matrix.T, rtol=1e-12, atol=0):
            raise ValueError("the Hessian of a quadratic potential must be symmetric")
        if matrix.ndim and centre.ndim and len(matrix) != len(centre):
            raise ValueError(f"the Hessian is of {len(matrix)} dimensions, the centre of {len(centre)}")
        h, c = (float(part) if part.ndim == 0 else math.nan for part in (matrix, centre))
        about = f"{h:g}" if matrix.ndim == 0 else " x ".join(map(str, matrix.shape))
        if np.any(centre):
            about += f", {c:g}" if centre.ndim == 0 else ", centred"
        made = cls.__new__(cls)
        made.name, made.quadratic = f"quadratic({about})", Quadratic(matrix, centre)
        made._value, made._second = (lambda x: h * (x - c) ** 2 / 2), (lambda x: np.full_like(x, h))
        made._slope, made._convexity = (lambda x: h * (x - c)), (h, h)
        return made

    def value(self, x: Array) -> Array:
        """f at places (n,)."""
        return self._finite(self._value(x), x, "f")

    def log_weight(self, x: Array, beta: float) -> Array:
        """-beta f, the log density of the equilibrium up to a constant; -inf where f is too large for a number."""
        return -beta * self._value(x)

    def second(self, x: Array) -> Array:
        """f'' at places (n,)."""
        return self._finite(self._second(x), x, "f''")

    def slope(self, x: Array) -> Array:
        """f' at places (n,)."""
        if self._slope is not None:
            return self._finite(self._slope(x), x, "f'")
        # f(x + h) - f(x - h) = 2 h f'(x) + int_0^h (h - s) (f''(x + s) - f''(x - s)) ds
        s = _STRETCH * (1 + _NODES) / 2
        there, back = (self.second((x[:, None] + side * s).ravel()).reshape(len(x), -1) for side in (1, -1))
        bend = (there - back) @ ((_STRETCH - s) * _WEIGHTS * _STRETCH / 2)
        return (self.value(x + _STRETCH) - self.value(x - _STRETCH) - bend) / (2 * _STRETCH)

    def convexity(self, low: float, high: float) -> tuple[float, float, bool]:
        """lambda and kappa, and whether they are those of the whole line: else, of the stretch from low to high."""
        if self._convexity is not None:
            return *self._convexity, True
        found = self.second(np.linspace(low, high, _GRID))
        return float(found.min()), float(found.max()), False

    def _finite(self, values: Array, x: Array, what: str) -> Array:
        wrong = ~np.isfinite(values)
        if wrong.any():
            raise ValueError(
                f"the potential {self.name}: {what} is {values[wrong][0]:g} at x = {x[wrong][0]:g}, and must be finite "
                f"where the chain's laws lie"
            )
        return values

    def _check(self) -> None:
        """f(x + h) + f(x - h) - 2 f(x) = int_0^h (h - s) (f''(x + s) + f''(x - s)) ds at a few places."""
        x = np.linspace(-2, 2, 9)
        s = _STRETCH * (1 + _NODES) / 2
        there, back = (self.second((x[:, None] + side * s).ravel()).reshape(len(x), -1) for side in (1, -1))
        expected = (there + back) @ ((_STRETCH - s) * _WEIGHTS * _STRETCH / 2)
        ends = [self.value(x + side * _STRETCH) for side in (1, 0, -1)]
        found = ends[0] - 2 * ends[1] + ends[2]
        size = np.max(np.abs(ends), axis=0) * 1e-9 + np.maximum(abs(expected), abs(found)) + 1e-12
        # A kink of f'' inside a stretch costs its sum over nodes digits: most stretches have none.
        off = abs(found - expected) / size
        if np.median(off) > _AGREE:
            place = int(off.argmax())
            raise ValueError(
                f"the potential {self.name}: second is not the second derivative of value near x = {x[place]:g}, "
                f"where it gives {expected[place] / _STRETCH**2:.4g} and differences of value "
                f"{found[place] / _STRETCH**2:.4g}"
            )


PotentialLike: TypeAlias = Potential | str


def _single(array: Array) -> Array:
    """One number as an array without axes; others as they are."""
    return array.reshape(()) if array.size == 1 else array


def _read_range(convexity: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in convexity)
    except (TypeError, ValueError):
        raise ValueError(f"convexity must be two numbers, lambda and kappa, got {convexity!r}") from None
    if not low <= high:
        raise ValueError(f"convexity must go from lambda to kappa, got {low:g} to {high:g}")
    return low, high


def _quartic(a: float = 1.0) -> Potential:
    if not a > 0:
        raise ValueError(f"quartic(a) is a x^4/4 with a > 0, got a = {a:g}: the process would leave the line")
    found = Potential(
        lambda x: a * x**4 / 4, lambda x: 3 * a * x**2, slope=lambda x: a * x**3, convexity=(0.0, math.inf)
    )
    return _named(found, "quartic", a)


def _logcosh(a: float = 1.0) -> Potential:
    def value(x: Array) -> Array:
        return a * (abs(x) + np.log1p(np.exp(-2 * abs(x))) - math.log(2))

    def second(x: Array) -> Array:
        return a * (1 - np.tanh(x) ** 2)

    found = Potential(value, second, slope=lambda x: a * np.tanh(x), convexity=(min(a, 0.0), max(a, 0.0)))
    return _named(found, "logcosh", a)


def _double_well(a: float = 1.0) -> Potential:
    if not a > 0:
        raise ValueError(
            f"double-well(a) is a (x^2 - 1)^2/4 with a > 0, got a = {a:g}: the process would leave the line"
        )
    found = Potential(
        lambda x: a * (x**2 - 1) ** 2 / 4,
        lambda x: a * (3 * x**2 - 1),
        slope=lambda x: a * (x**3 - x),
        convexity=(-a, math.inf),
    )
    return _named(found, "double-well", a)


def _named(found: Potential, name: str, a: float) -> Potential:
    found.name = name if a == 1 else f"{name}({a:g})"
    return found


POTENTIALS: dict[str, tuple[str, Callable[..., Potential], int]] = {
    "quadratic": ("h (x - c)^2/2: quadratic(h), quadratic(h, c)", Potential.of_quadratic, 2),
    "quartic": ("a x^4/4: quartic, quartic(a)", _quartic, 1),
    "logcosh": ("a log cosh x: logcosh, logcosh(a)", _logcosh, 1),
    "double-well": ("a (x^2 - 1)^2/4: double-well, double-well(a)", _double_well, 1),
}


def read_potential(potential: PotentialLike) -> Potential:
    """The potential that is meant.

    Args:
        potential: one itself, or its name with numbers: "quadratic(2)", "quadratic(2, 1)" about 1, "quartic",
            "logcosh", "double-well", "quartic(0.5)"; see `POTENTIALS`.

    Raises:
        ValueError: no such name, or numbers that it cannot take.
        TypeError: it is neither.
    """
    if isinstance(potential, Potential):
        return potential
    if not isinstance(potential, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"potential must be a brenier.Potential or the name of one, got {type(potential).__name__}: a function f "
            f"is one with its second derivative, brenier.Potential(f, f2)"
        )
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\(([^()]*)\))?\s*", potential)
    name = match.group(1).lower().replace("_", "-") if match else potential.strip().lower()
    if match is None or name not in POTENTIALS:
        near = difflib.get_close_matches(name, POTENTIALS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no potential {potential!r}: {hint}there are {', '.join(POTENTIALS)}")
    about, make, most = POTENTIALS[name]
    try:
        numbers = [float(field) for field in (match.group(2) or "").split(",") if field.strip()]
    except ValueError:
        raise ValueError(f"the numbers of the potential {potential!r} cannot be read: it is {about}") from None
    if len(numbers) > most or not all(map(math.isfinite, numbers)):
        raise ValueError(f"the potential {potential!r} takes up to {most} finite number{'s' * (most > 1)}: {about}")
    return make(*numbers)
