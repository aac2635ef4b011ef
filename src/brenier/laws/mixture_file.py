"""Mixtures in JSON.

    {"type": "gaussian-mixture", "weights": [...], "means": [...], "covariances": [...]}

Means of a 1-D law are numbers or one-element lists. Each covariance is a number (isotropic), d numbers (diagonal) or a
d x d matrix. With "covariance_type", one of "full", "tied", "diag" and "spherical", they are as scikit-learn has them:
K matrices, one matrix for all components, K lists of d variances, or K variances.
"""

import difflib
import json
import math
from pathlib import Path
from typing import Any, cast

import torch

from brenier.core.reading.files import line
from brenier.laws.mixture import GaussianMixture
from brenier.laws.parameters import COVARIANCE_TYPES, per_component


def read_mixture(
    file: Path, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> GaussianMixture:
    """The mixture in a file, called by the file's name.

    Raises:
        ValueError, TypeError: one line that names the file and says which entry is wrong.
    """
    try:
        fields = _mixture_fields(file)
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


def _mixture_fields(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict):
        raise ValueError('must be an object {"type": "gaussian-mixture", "weights": ..., "means": ..., ...}')
    fields = cast(dict[str, Any], content)
    if fields.get("type") != "gaussian-mixture":
        raise ValueError(f'"type" is {json.dumps(fields.get("type"))[:40]}: it must be "gaussian-mixture"')
    names = ("weights", "means", "covariances")
    known = (*names, "covariance_type")
    for name in fields:
        if name not in ("type", *known):
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f'unknown field "{name[:40]}": {f"did you mean {near[0]}?" if near else "remove it"}')
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
