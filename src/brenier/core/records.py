"""Datasets that say what they are: their kind, the labels of `kinds`, and where they came from.

    dataset     assembles a result: labels come by themselves, `attrs` say its kind and what made it
    read        reads one from a file, and refuses in one line what is of another kind, or not whole
    check       the same for one in memory
    table       the same numbers as a `pandas.DataFrame`, one row for each thing that the kind is about

A kind is known by `attrs["kind"]`, never guessed.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import ArrayLike

from brenier.core.kinds import RECORDS, Kind
from brenier.core.reading.files import exists, line

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Variables: TypeAlias = dict[str, tuple[tuple[str, ...], ArrayLike]]

PAPER = "Liang, Dharmakeerthi, Koriyama, arXiv:2411.01629"
SAVED = (
    "`brenier probe -o`, `chain -o`, `calibrate -o`, `compare -o`, `audit -o`, `evaluate -o`, `difficulty -o`, "
    "`transport -o`, `coupling -o` or `flow -o`"
)


# Making


def dataset(
    kind: Kind,
    variables: Mapping[str, Any],
    coordinates: Mapping[str, Any] | None = None,
    **about: Any,
) -> "xr.Dataset":
    """A labelled dataset of this kind that says where it came from; `describe` for one that is there already.

    Args:
        kind: what it is.
        variables: by name, as `xarray.Dataset` takes them.
        coordinates: likewise.
        about: what `describe` takes.
    """
    import xarray as xr

    return describe(xr.Dataset(variables, coordinates), kind, **about)


def describe(
    data: "xr.Dataset",
    kind: Kind,
    *,
    title: str | None = None,
    law: Any = None,
    call: Mapping[str, Any] | None = None,
    **about: Any,
) -> "xr.Dataset":
    """The dataset with labels and attributes of its kind, beside those it has.

    Args:
        data: the dataset.
        kind: what it is.
        title: one line for people.
        law: the `Target` that it is about: its name, dimension, shape, dtype and device are put down.
        call: arguments that other attributes do not hold, to make the same again.
        about: further attributes.
    """
    known: dict[str, Any] = {"kind": kind}
    if title is not None:
        known["title"] = title
    if law is not None:
        known |= {"law": law.name, "dim": law.dim, "event_shape": list(law.event_shape)}
    known |= about
    if law is not None:
        known |= {"dtype": str(law.dtype).removeprefix("torch."), "device": str(law.device)}
    known |= {"brenier_version": version("brenier"), "torch_version": version("torch")}
    if RECORDS[kind].paper:
        known["source"] = PAPER
    if call is not None:
        known["call"] = json.dumps(dict(call))
    label(data, kind)
    data.attrs |= known
    return data


ENDINGS = {"_se": "standard error", "_low": "lower end", "_high": "upper end"}


def _stem(name: str) -> tuple[str, str]:
    """A name without what it ends in if that says what of a variable it is, and that."""
    end = next((end for end in ENDINGS if name.endswith(end)), "")
    return name.removesuffix(end), end


def label(data: "xr.Dataset", kind: Kind) -> None:
    """Give each variable of the dataset its `long_name` and `units`."""
    labels = RECORDS[kind].labels
    for name, variable in data.variables.items():
        stem, end = _stem(str(name))
        if str(name) in labels:
            text, unit = labels[str(name)]
        elif end and stem in labels:
            text, unit = f"{ENDINGS[end]} of {labels[stem][0]}", labels[stem][1]
        else:
            continue
        variable.attrs |= {"long_name": text, "units": unit}


# Reading


def resolved(profile: "xr.Dataset") -> "xr.Dataset":
    """Of a profile, the SNRs at which it can be relied on: about the law behind data, those that the data resolve."""
    if "resolved_snr" not in profile:
        return profile
    return profile.isel(snr=(profile["snr"] <= profile["resolved_snr"]).to_numpy())


def check(
    data: "xr.Dataset", kind: Kind, names: Sequence[str] = (), place: str = "this", hint: str | None = None
) -> None:
    """Refuse what is not of this kind, or not whole.

    Args:
        data: the dataset. One that lost its attributes on the way is taken for what its variables say.
        kind: what it should be.
        names: of variables that it must have. Default: those that every dataset of this kind has.
        place: what to call it in messages.
        hint: what would be right. Default: what makes one.

    Raises:
        ValueError: it is of another kind, or lacks a variable or an attribute.
    """
    record, found = RECORDS[kind], data.attrs.get("kind", kind)
    hint = hint or f"give what `{record.made_by}` makes"
    if found != kind:
        raise ValueError(f"{place} holds {_one(str(found))}, and {_one(kind)} is wanted: {hint}")
    missing = [name for name in names or record.required if name not in data.variables]
    if missing:
        raise ValueError(f"{place} is not {_one(kind)}, it has no variable {missing[0]!r}: {hint}")
    lost = [] if names else [name for name in record.attributes if name not in data.attrs]
    if lost:
        raise ValueError(f"{place} is not {_one(kind)}, it does not say its {lost[0]}: {hint}")


def read(path: str | os.PathLike[str], kind: Kind | None = None) -> "xr.Dataset":
    """Read a saved dataset: netCDF-4, as it was written, or netCDF-3, as other programs write it again.

    Args:
        path: of the file.
        kind: what it should hold. Default: anything that is known.

    Raises:
        ValueError: no such file, no netCDF, another kind, or one that is not whole. The message names the file.
    """
    file, place = Path(path), repr(os.fspath(path))
    hint = f"give what {f'`{RECORDS[kind].made_by} -o`' if kind else SAVED} saved"
    if not exists(file):
        raise ValueError(f"{place} does not exist: {hint}")
    if file.is_dir():
        raise ValueError(f"{place} is a folder: {hint}")
    try:
        content = file.read_bytes() if _is_classic(file) else None
        data = _read_hdf5(file) if content is None else _read_classic(content)
    except PermissionError as error:
        raise ValueError(f"{place}: cannot be read: {error.strerror}") from None
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError):
        raise ValueError(f"{place} is not a netCDF file: {hint}") from None
    data.attrs = {name: line(value) if isinstance(value, str) else value for name, value in data.attrs.items()}
    found = data.attrs.get("kind")
    if found not in RECORDS:
        said = "does not say what it holds" if found is None else f"holds {str(found)[:40]!r}, which is not known"
        raise ValueError(f"{place} {said}: {hint}")
    check(data, kind or found, place=place, hint=hint)
    return data


def _is_classic(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(3) == b"CDF"


def _read_hdf5(file: Path) -> "xr.Dataset":
    import h5py
    import xarray as xr

    with h5py.File(file, "r") as opened:
        opened.attrs.get("_nc3_strict")  # where this fails, xarray leaves an object that cannot be closed, and says so
    return xr.load_dataset(file, engine="h5netcdf", phony_dims="access")


def _read_classic(content: bytes) -> "xr.Dataset":
    """A dataset from netCDF-3: by hand, as an attribute of the name "mode" takes down scipy's reader, and xarray's."""
    import xarray as xr
    from scipy.io import netcdf_file

    def text(about: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in about.items()}

    file = netcdf_file(io.BytesIO(content))
    attributes: Any = dict(vars(file)["_attributes"])  # pyright: ignore[reportAttributeAccessIssue]
    vars(file)["mode"] = "r"
    variables = {
        name: (found.dimensions, found[...].copy(), text(found._attributes)) for name, found in file.variables.items()
    }
    return xr.decode_cf(xr.Dataset(variables, attrs=text(attributes))).load()


def _one(kind: str) -> str:
    """The kind with its article."""
    return f"a{'n' * (kind[:1] in 'aeiou')} {kind}"


# Tables


def table(result: Any) -> "pd.DataFrame":
    """The numbers of a result as a tidy table.

    One row for each SNR of a profile or a calibration, step of a chain, cell of a comparison (criterion, solver,
    steps), level of a schedule, point of a transport map, step of a flow, metric of an evaluation. What depends on a
    few more things has a column for each: `zeta_star_5` is zeta* at M = 5, `zeta_star_5_se` its standard error. What
    depends on more, as the sample of the localization does, is left in the dataset. `frame.attrs` holds the kind, and
    the units by column.

    Args:
        result: a dataset that a verb returned or a file held, a `Schedule`, or a fitted map; or several results of one
            kind by name, whose rows then stand in one table that begins with a column `result` of their names.

    Raises:
        ValueError: the dataset does not say its kind, or has no such table; results are none, or of several kinds.
        TypeError: something else.
    """
    import xarray as xr

    if isinstance(result, Mapping) and not isinstance(result, xr.Dataset):
        return _one_table(result)
    data = result if isinstance(result, xr.Dataset) else getattr(result, "to_dataset", lambda: None)()
    if not isinstance(data, xr.Dataset):
        raise TypeError(f"a table is made of what a verb of brenier returned, got {type(result).__name__}")
    record = RECORDS.get(data.attrs.get("kind", ""))
    rows = () if record is None else tuple(dim for dim in record.rows if dim in data.dims)
    if record is None or not rows:
        raise ValueError("the dataset is not one of which there is a table: give what a verb of brenier returned")
    parts: dict[str, Any] = {}
    units: dict[str, str] = {}
    for name in data.variables:
        values = data[name]
        further = [dim for dim in values.dims if dim not in rows]
        if name not in rows and len(further) < values.ndim and all(dim in record.columns for dim in further):
            unit = str(values.attrs.get("units", ""))
            for column, part in _columns(values, further):
                parts[column], units[column] = part, unit
    coordinates = {dim: data[dim].to_numpy() for dim in rows}  # counted from 0 where there is none
    frame = xr.Dataset(parts, coordinates).to_dataframe(dim_order=list(rows)).reset_index()
    frame.attrs = {"kind": data.attrs["kind"], "units": units}
    return frame


def _one_table(results: Mapping[Any, Any]) -> "pd.DataFrame":
    """The rows of several results, each with its name."""
    import pandas as pd

    frames = {str(name): table(result) for name, result in results.items()}
    kinds = sorted({frame.attrs["kind"] for frame in frames.values()})
    if len(kinds) != 1:
        raise ValueError(f"one table holds results of one kind, not of {' and '.join(kinds) or 'none'}")
    parts = [frame.assign(result=name) for name, frame in frames.items()]
    frame = pd.concat(parts, ignore_index=True)
    frame.insert(0, "result", frame.pop("result"))
    frame.attrs = {"kind": kinds[0], "units": {k: v for part in parts for k, v in part.attrs["units"].items()}}
    return frame


def _columns(values: "xr.DataArray", further: Sequence[Any]) -> Iterator[tuple[str, "xr.Variable"]]:
    """A variable as one column, or as one for each place of its further dimensions."""
    name = str(values.name)
    stem, end = _stem(name)
    for place in product(*(range(values.sizes[dim]) for dim in further)):
        at = dict(zip(further, place, strict=True))
        places = [values[dim].to_numpy()[k] for dim, k in at.items()]
        words = [str(word) if isinstance(word, str) else f"{word:g}" for word in places]
        yield "_".join([stem, *words]) + end, values.isel(at).variable
