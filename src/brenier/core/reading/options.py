"""How files are to be read, where they do not say it themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)  # points are not equal or unequal as a whole
class Reading:
    """How files are to be read. What is not given is found in the file.

    Args:
        columns: names of a table's columns to read, in this order. Columns without a name are called 0, 1, ...
        drop: names of columns to leave out.
        separator: what stands between the fields of a text: one character.
        decimal: the decimal mark of its numbers, "." or ",".
        header: whether its first line names the columns.
        shape: of one point: rows of as many numbers are reshaped to it.
        condition: further arguments of a network of diffusers, see `brenier.from_diffusers`; class_labels of one that
            was trained here with labels.
        unconditional: the same without a condition.
        guidance: weight of classifier-free guidance.
        standardize: shift every coordinate by its mean and divide it by its standard deviation; by those of other
            points, where these are given, (m, *shape). Constant coordinates are only shifted.

    Raises:
        ValueError, TypeError: one line, where these are not what they should be or contradict each other.
    """

    columns: Sequence[str] | None = None
    drop: Sequence[str] = ()
    separator: str | None = None
    decimal: str | None = None
    header: bool | None = None
    shape: Sequence[int] | None = None
    condition: Mapping[str, Any] | None = None
    unconditional: Mapping[str, Any] | None = None
    guidance: float | None = None
    standardize: bool | ArrayLike = False

    def __post_init__(self) -> None:
        for name in ("columns", "drop"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise TypeError(f"{name} must be a list of names, got the text {given!r}")
            names = None if given is None else tuple(map(str, given))
            if names is not None and len(set(names)) < len(names):
                raise ValueError(f"{name} holds a name twice: give each once")
            object.__setattr__(self, name, names)
        if self.columns is not None and self.drop:
            raise ValueError("columns says what to read and drop what not to: give one of them")
        if self.columns == ():
            raise ValueError("columns names none: give one or more")
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n.+-'):
            raise ValueError(f"separator must be one character between numbers, got {self.separator!r}")
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal must be '.' or ',', got {self.decimal!r}")
        if self.decimal is not None and self.decimal == self.separator:
            raise ValueError(f"separator and decimal are both {self.decimal!r}: they must differ")
        if self.shape is not None:
            object.__setattr__(self, "shape", _checked_shape(self.shape))

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the fields that say something."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return tuple(
            name
            for name, value in values.items()
            if not (value is None or value is False or (name == "drop" and not value))
        )

    def only(self, names: Iterable[str]) -> Self:
        """The same, where only these fields say something."""
        kept: dict[str, Any] = {field.name: field.default for field in fields(self)}
        return replace(self, **kept | {name: getattr(self, name) for name in names})


def _checked_shape(shape: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in shape)
        whole = all(size == given for size, given in zip(sizes, shape, strict=True))
    except (TypeError, ValueError):
        raise TypeError(f"shape must be a list of whole numbers, got {shape!r}") from None
    if not whole or not sizes or min(sizes) < 1:
        raise ValueError(f"shape must be whole numbers from 1 on, got {shape!r}")
    return sizes
