"""Files that hold several arrays: which of them is meant, and whether it fits."""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from brenier.core.memory import check_fits
from brenier.core.reading.files import choices


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
