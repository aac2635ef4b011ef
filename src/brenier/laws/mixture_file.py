"""Laws in JSON: Gaussian mixtures, mixtures of any laws on the line, and products.

    {"type": "gaussian-mixture", "weights": [...], "means": [...], "covariances": [...]}
    {"type": "mixture", "weights": [0.3, 0.7], "components": [0, "scipy:t(3)[-20, 20]"]}
    {"type": "product", "factors": ["scipy:laplace", "student(3, dim=2)"]}

Components and factors are names of laws, objects like these, or, in a mixture, numbers: point masses.

Means of a 1-D law are numbers or one-element lists. Each covariance is a number (isotropic), d numbers (diagonal) or a
d x d matrix. With "covariance_type", one of "full", "tied", "diag" and "spherical", they are as scikit-learn has them:
K matrices, one matrix for all components, K lists of d variances, or K variances.
"""

import difflib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from brenier.core.reading.files import line
from brenier.laws.base import Target
from brenier.laws.mixed import Mixture
from brenier.laws.mixture import GaussianMixture
from brenier.laws.parameters import COVARIANCE_TYPES, per_component
from brenier.laws.product import Product

_COMPOSITE = {"mixture": ("weights", "components"), "product": ("factors",)}  # the fields of each


def read_law(
    file: Path,
    named: Callable[[str], Target],
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Target:
    """The law in a file, called by the file's name.

    Args:
        file: JSON.
        named: makes the law of a name in it.
        dtype: of the law.
        device: of the law.

    Raises:
        ValueError, TypeError: one line that names the file and says which entry is wrong.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        if isinstance(content, dict) and content.get("type") in _COMPOSITE:
            law = _composite(cast(dict[str, Any], content), named).to(device, dtype)
            law.name = line(file.name)
            return law
        fields = _mixture_fields(content)
        return GaussianMixture(**fields, name=line(file.name), dtype=dtype, device=device)
    except OSError as error:
        raise ValueError(f"{str(file)!r}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(file)!r} is not JSON: {error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{str(file)!r} is not JSON: not text in UTF-8") from None
    except RecursionError:
        raise ValueError(f"{str(file)!r}: lists nested too deeply for a mixture") from None
    except (ValueError, TypeError) as error:
        raise type(error)(f"{str(file)!r}: {error}") from None


def _composite(fields: dict[str, Any], named: Callable[[str], Target]) -> Target:
    """A mixture of laws on the line, or a product."""
    kind = fields["type"]
    known = _COMPOSITE[kind]
    _check_fields(fields, known)
    parts: Any = fields.get(known[-1])
    if not isinstance(parts, list) or not parts:
        raise ValueError(f'"{known[-1]}" must be a list of names of laws, such as ["scipy:t(3)", "scipy:laplace"]')
    laws = [_part(part, f"{known[-1]}[{index}]", named, kind) for index, part in enumerate(cast(list[Any], parts))]
    if kind == "product":
        return Product(cast(list[Target], laws))
    return Mixture(_entries(fields, "weights", 0), laws)


def _part(part: Any, where: str, named: Callable[[str], Target], kind: str) -> Target | float:
    if isinstance(part, str):
        try:
            return named(part)
        except (ValueError, TypeError) as error:
            raise type(error)(f'"{where}": {error}') from None
    if kind == "mixture" and isinstance(part, int | float) and not isinstance(part, bool):
        _check_numbers(part, where, 0)
        return float(part)
    if isinstance(part, dict):
        fields = cast(dict[str, Any], part)
        if fields.get("type") in _COMPOSITE:
            return _composite(fields, named)
        return GaussianMixture(**_mixture_fields(fields))
    kinds = "the name of a law, an object or a number" if kind == "mixture" else "the name of a law or an object"
    raise ValueError(f'"{where}" is {json.dumps(part)[:40]}: it must be {kinds}')


def _check_fields(fields: dict[str, Any], known: Sequence[str]) -> None:
    for name in fields:
        if name not in ("type", *known):
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f'unknown field "{name[:40]}": {f"did you mean {near[0]}?" if near else "remove it"}')


def _mixture_fields(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError('must be an object {"type": "gaussian-mixture", "weights": ..., "means": ..., ...}')
    fields = cast(dict[str, Any], content)
    if fields.get("type") != "gaussian-mixture":
        kinds = '"gaussian-mixture", or "mixture" or "product"'
        raise ValueError(f'"type" is {json.dumps(fields.get("type"))[:40]}: it must be {kinds}')
    names = ("weights", "means", "covariances")
    _check_fields(fields, (*names, "covariance_type"))
    kind: Any = fields.get("covariance_type")
    if "covariance_type" in fields and kind not in COVARIANCE_TYPES:
        raise ValueError(
            f'"covariance_type" is {json.dumps(kind)[:40]}: it is {", ".join(COVARIANCE_TYPES)}, or left out'
        )
    weights, means, covariances = (_entries(fields, name, depth) for depth, name in enumerate(names))
    for name, values in {"means": means, "covariances": covariances}.items():
        if len(values) != len(weights) and not (name == "covariances" and kind == "tied"):
            raise ValueError(
                f'"{name}" has {len(values)} entries, "weights" has {len(weights)}: give one per component'
            )
    means = [mean if isinstance(mean, list) else [mean] for mean in means]
    for index, mean in enumerate(means):
        if len(mean) != len(means[0]):
            raise ValueError(f'"means[{index}]" has {len(mean)} coordinates, "means[0]" has {len(means[0])}')
        if kind is None:
            _check_shape(covariances[index], f"covariances[{index}]", len(mean))
    if kind is not None:
        covariances = per_component(covariances, kind, len(means), len(means[0]))
    return {"weights": weights, "means": means, "covariances": covariances}


def _entries(fields: dict[str, Any], name: str, depth: int) -> list[Any]:
    """The list of that name, of numbers or lists of them nested at most `depth` deep."""
    values: Any = fields.get(name)
    if not isinstance(values, list) or not values:
        raise ValueError(f'"{name}" must be a list with one entry per component')
    for index, value in enumerate(cast(list[Any], values)):
        _check_numbers(value, f"{name}[{index}]", depth)
    return cast(list[Any], values)


def _check_numbers(value: Any, where: str, depth: int) -> None:
    """A number, or lists of numbers nested at most `depth` deep."""
    if isinstance(value, list) and depth > 0 and value:
        for index, entry in enumerate(cast(list[Any], value)):
            _check_numbers(entry, f"{where}[{index}]", depth - 1)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        kinds = ("a number", "a number or a list of numbers", "a number, a list of numbers or a matrix")
        raise ValueError(f'"{where}" is {json.dumps(value)[:40]}: it must be {kinds[depth]}')
    elif not math.isfinite(value):
        raise ValueError(f'"{where}" is {value}: it must be finite')


def _check_shape(covariance: Any, where: str, dim: int) -> None:
    if not isinstance(covariance, list):
        return
    rows = cast(list[Any], covariance)
    matrix = [isinstance(row, list) for row in rows]
    if len(rows) != dim or any(matrix) != all(matrix) or any(isinstance(row, list) and len(row) != dim for row in rows):
        raise ValueError(f'"{where}" must be a number, {dim} numbers or a {dim} x {dim} matrix: the means are {dim}-D')
