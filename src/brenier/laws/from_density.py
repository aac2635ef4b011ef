"""Laws by their densities, in any dimension; and Python files that define them.

dim = 2
def log_density(x):          # (n, dim) -> (n,), of numpy or of torch, up to a constant
    return -(x**2).sum(1) / 2
at = [[3.0, 0.0]]            # optional: places near modes that a search may miss
"""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from brenier.core.checks import whole_number
from brenier.core.reading.files import exists, line
from brenier.laws.base import Target
from brenier.laws.line.density import OnTheLine
from brenier.laws.space.asked import find_modes, read_density
from brenier.laws.space.cubature import ByCubature
from brenier.laws.space.weighted import ByWeights


def from_density(
    log_density: Callable[[Any], Any], dim: int, *, at: Sequence[Any] = (), name: str = "density", seed: int = 0
) -> Target:
    """A law by the logarithm of its density: by quadrature or cubature up to three dimensions, beyond by weights.

    Args:
        log_density: of x, an array (n, d) or, where it cannot take one, a tensor (n, d), in the unit of the data: (n,),
            up to a constant, and -inf where there is no mass.
        dim: d.
        at: points near modes, each of d coordinates. Modes that are narrow and far from others, or many in many
            dimensions, are not found without.
        name: what to call the law in results.
        seed: of the draws behind importance weights, from four dimensions on.

    Returns:
        A law that is probed, planned for and sampled as any other. In one dimension it is `OnTheLine`. In two and three
        posteriors are sums over boxes on which log p is resolved to 2e-4. From four on they are importance-weighted
        draws from a mixture of t laws that follows the density, with an effective sample size and an error bound of
        norms for each; that they err where the mixture has missed a mode they cannot tell.

    Raises:
        ValueError: log_density does not return a number for each point, is NaN or inf somewhere, -inf everywhere, or
            its integral diverges as far as that shows; it is too rough; no mixture follows it. Later, at an SNR at
            which more than 2% of posteriors have an effective sample size below 64.
        TypeError: log_density is no function of an array.
    """
    dim = whole_number(dim, "dim", 1)
    asked, _ = read_density(log_density, dim)
    if dim == 1:
        places = np.asarray(at, dtype=float).ravel().tolist()
        return OnTheLine(lambda x: asked(np.asarray(x, dtype=float)[:, None]), at=places, name=name)
    modes = find_modes(asked, dim, at)
    smooth = log_density if _differentiable(log_density, modes[0].place) else None
    if dim <= 3:
        return ByCubature(asked, modes, name=name, smooth=smooth)
    return ByWeights(asked, modes, name=name, smooth=smooth, seed=whole_number(seed, "seed", 0))


class PythonLaw(NamedTuple):
    """What a Python file says of a law.

    Attributes:
        log_density: its function.
        named: the same, whose errors are one line that names the file.
        dim: d.
        at: points near modes.
        name: of the file.
    """

    log_density: Callable[[Any], Any]
    named: Callable[[Any], Any]
    dim: int
    at: Sequence[Any]
    name: str


def read_python(path: Path) -> PythonLaw:
    """The law that a Python file defines; what goes wrong in there is one line that names it.

    Raises:
        ValueError: there is no such file, it fails, or it does not define log_density(x) and dim.
    """
    file = str(path)
    if not exists(path) or path.is_dir():
        raise ValueError(f"{file!r} {'is a folder' if exists(path) else 'does not exist'}: give a Python file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # the suffix is that of Python
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a file of the user may raise anything
        raise ValueError(f"{file!r}: {_one_line(error)}") from None
    given, dim = getattr(module, "log_density", None), getattr(module, "dim", None)
    if not callable(given) or dim is None:
        missing = "function log_density(x)" if not callable(given) else "whole number dim"
        raise ValueError(f"{file!r} has no {missing}: define log_density(x), (n, dim) -> (n,), and dim")

    def log_density(x: Any) -> Any:
        try:
            return given(x)
        except Exception as error:  # noqa: BLE001 - so may its function
            raise ValueError(f"{file!r}: log_density: {_one_line(error)}") from None

    log_density.__name__ = f"log_density of {path.name}"
    dim = whole_number(dim, f"{file!r}: dim", 1)
    return PythonLaw(given, log_density, dim, getattr(module, "at", ()), line(path.name))


def python_law(path: Path) -> Target:
    """The law that a Python file defines, called by the file's name; ValueError and TypeError name the file."""
    given = read_python(path)
    try:
        return from_density(given.log_density, given.dim, at=given.at, name=given.name)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{str(path)!r}: {error}") from None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _differentiable(log_density: Callable[[Any], Any], place: Any) -> bool:
    """Whether it is a function of tensors that autograd differentiates."""
    with torch.enable_grad():
        x = torch.from_numpy(np.stack([place, place])).requires_grad_()
        try:
            found = log_density(x)
        except Exception:  # noqa: BLE001 - a function of arrays, say: whatever it raises
            return False
    return isinstance(found, Tensor) and found.requires_grad
