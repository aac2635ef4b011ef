"""Files that hold several arrays: which of them is meant, and whether it fits."""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from brenier.core.memory import check_fits
from brenier.core.reading.files import choices

# Attributes that name other arrays, which are about the array and not data themselves.
_ABOUT = ("coordinates", "bounds", "climatology", "grid_mapping", "cell_measures", "ancillary_variables")


def chosen(names: Sequence[str], name: str | None, file: str) -> str:
    """The name of the array that is meant: the one asked for, or the only one.

    Raises:
        ValueError: there is none, or none of that name, or there are several and none is asked for.
    """
    if not names:
        raise ValueError("the file holds no array")
    if name is None and len(names) > 1:
        raise ValueError(f"holds {len(names)} arrays: choose one as '{file}:NAME', NAME = {choices(names)}")
    if name is not None and name not in names:
        raise ValueError(f"holds no array {name!r}: choose one of {choices(names)}")
    return names[0] if name is None else name


def data_among(about: Mapping[str, Mapping[str, Any]], axes: set[str], name: str | None) -> list[str]:
    """What there is to choose from: the arrays that are no coordinates, and all where one is named or all are.

    Args:
        about: the attributes of each array, by its name.
        axes: names of arrays that say where the others' rows or columns lie.
        name: of the array that is asked for.
    """
    named = {word for known in about.values() for key in _ABOUT for word in str(known.get(key, "")).split()}
    data = [key for key in about if key not in axes and key.rpartition("/")[2] not in named]
    return list(about) if name in about or not data else data


def check_size(shape: Sequence[int], itemsize: int, there: int | None = None) -> None:
    """Refuse an array before anything of it is in memory.

    Args:
        shape: as the file says.
        itemsize: bytes of a value.
        there: bytes of values in the file; None: it is compressed, or says itself.

    Raises:
        ValueError: there is less than the shape takes, or that does not fit into memory.
    """
    size = math.prod(shape) * itemsize
    if min(shape, default=0) < 0:
        raise ValueError(f"the header is damaged: it gives an array of shape {tuple(shape)}")
    if there is not None and size > there:
        raise ValueError(f"cut off: shape {tuple(shape)} takes {size:,} bytes, and {there:,} are there")
    check_fits(size, f"an array of shape {tuple(shape)}")


@contextmanager
def by_others(library: str) -> Generator[None, None, None]:
    """Turn whatever a library raises that reads a damaged file into a `ValueError`."""
    try:
        yield
    except (OSError, ValueError, TypeError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file may lead it anywhere
        detail = f": {error}" if " " in str(error) else ""  # others are keys, bytes, numbers
        raise ValueError(f"damaged, or not a file that {library} reads{detail}") from None
