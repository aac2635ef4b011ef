"""What commands share: each option once, with one name, one unit and one meaning; and the law that they name."""

import csv
import functools
import inspect
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

import typer

from brenier.core.reading.options import Reading

if TYPE_CHECKING:
    import torch

    from brenier.laws.base import Target

Name = TypeVar("Name", str, str | None)

LawName: TypeAlias = Annotated[
    str, typer.Argument(metavar="LAW", help="A law, data, images or a network: see `brenier laws`.")
]
Data: TypeAlias = Annotated[
    str | None, typer.Option(metavar="DATA", help="Take these data for a network's own law, not its samples.")
]

# Noise levels
Snrs: TypeAlias = Annotated[str | None, typer.Option("--snr", metavar="R,R,...", help="SNRs, instead of a grid.")]
Sigmas: TypeAlias = Annotated[
    str | None, typer.Option("--sigma", metavar="S,S,...", help="Noise levels sigma = 1/SNR, instead of SNRs.")
]
SnrMin: TypeAlias = Annotated[float | None, typer.Option(help="Smallest SNR of the grid (default: from the law).")]
SnrMax: TypeAlias = Annotated[float | None, typer.Option(help="Largest SNR of the grid (default: from the law).")]
SigmaMax: TypeAlias = Annotated[float | None, typer.Option(help="Noise level to start from (default: from the law).")]
SigmaMin: TypeAlias = Annotated[float | None, typer.Option(help="Noise level to end at (default: 0).")]
Beta: TypeAlias = Annotated[float, typer.Option(help="Inverse temperature of the diffusion.")]
Perturbation: TypeAlias = Annotated[str, typer.Option(metavar="M,M,...", help="Richness of perturbations.")]

# The computation
Resume: TypeAlias = Annotated[bool, typer.Option("--resume", help="Go on with the unfinished fit in -o.")]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")]
Device: TypeAlias = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")]
Dtype: TypeAlias = Annotated[Literal["float32", "float64"] | None, typer.Option(help="Precision of the computation.")]
MaxMemory: TypeAlias = Annotated[float | None, typer.Option(metavar="GIB", help="Memory for blocks of work, in GiB.")]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Processes that share the work on data in blocks, or of a network.",
        rich_help_panel="Several processes",
    ),
]
Scheduler: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Dask scheduler whose workers do: tcp://...", rich_help_panel="Several processes"
    ),
]
Objective: TypeAlias = Annotated[
    str, typer.Option(help="What criterion error makes small: error (RMS), typical (median) or law (sliced W2).")
]
Pilots: TypeAlias = Annotated[int, typer.Option(help="Trajectories that plans and predictions are made from.")]
Budget: TypeAlias = Annotated[
    int,
    typer.Option(help="Samples that planning for a network may cost, 512 or more: thousands, if it is sampled often."),
]
Number: TypeAlias = Annotated[int, typer.Option("--number", "-n", help="How many.")]
Batch: TypeAlias = Annotated[int | None, typer.Option(help="Points per call of the denoiser.")]
Minutes: TypeAlias = Annotated[float | None, typer.Option(help="After which a fit stops, too.")]


def _silence(quiet: bool) -> bool:
    """Leave warnings out, too, while the command runs: `main` takes that back."""
    if quiet:
        warnings.simplefilter("ignore")
    return quiet


# What is written
Samples: TypeAlias = Annotated[
    Path, typer.Option("--output", "-o", help="Save the samples (.npy), (n, *shape of a point).")
]
SavedMap: TypeAlias = Annotated[Path, typer.Option("--output", "-o", help="Save the map (.nc).")]
Dataset: TypeAlias = Annotated[Path | None, typer.Option("--output", "-o", help="Save the result (.nc, netCDF).")]
Figure: TypeAlias = Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")]
Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, not tables and sentences.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", callback=_silence, help="Print nothing but errors.")]


def _about_files(
    help_text: str, *names: str, metavar: str | None = None, parser: Any = None, panel: str = "Reading files"
) -> Any:
    return typer.Option(*names, metavar=metavar, help=help_text, parser=parser, rich_help_panel=panel)


def _names(text: str) -> list[str]:
    """The names in "a,b,c", quoted as in a CSV file where they hold commas."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def _separator(text: str) -> str:
    return {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";"}.get(text, text)


def _shape(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        raise ValueError(f"{text!r}: give whole numbers and commas between them, such as 3,32,32") from None


def _argument(text: str) -> dict[str, Any]:
    """KEY=VALUE: numbers with commas between them, or a file whose rows are conditions: labels, if whole numbers."""
    key, equals, value = text.partition("=")
    if not (key.isidentifier() and equals and value):
        raise ValueError(f"{text!r}: give KEY=NUMBER, KEY=N,N,... or KEY=FILE, such as class_labels=3")
    for number in (int, float):
        with suppress(ValueError):
            return {key: [number(field) for field in value.split(",")]}

    from brenier.core.reading.read import read_array

    rows = read_array(value)
    if rows.shape[1:] == (1,) and bool((rows % 1 == 0).all()):
        return {key: rows[:, 0].astype(int)}
    return {key: rows}


_CONDITIONS: Any = {"metavar": "KEY=VALUE", "parser": _argument, "panel": "Networks with conditions"}
# One option for each field of a `Reading`.
_READING: dict[str, Any] = {
    "columns": Annotated[
        list[Any] | None,
        _about_files("Columns of tables to read, in this order.", metavar="NAME,NAME,...", parser=_names),
    ],
    "drop": Annotated[
        list[Any] | None, _about_files("Columns of tables to leave out.", metavar="NAME,NAME,...", parser=_names)
    ],
    "separator": Annotated[
        Any, _about_files("What stands between fields (default: found).", metavar="CHARACTER", parser=_separator)
    ],
    "decimal": Annotated[str | None, _about_files("Decimal mark: . or , (default: found).", metavar="CHARACTER")],
    "header": Annotated[
        bool | None, _about_files("Whether the first line names columns (default: found).", "--header/--no-header")
    ],
    "shape": Annotated[
        Any, _about_files("Shape of a point, of flat rows or of a network.", metavar="N,N,...", parser=_shape)
    ],
    "condition": Annotated[
        list[Any] | None,
        _about_files("What it is told beside: class_labels=3, or a file.", **_CONDITIONS),
    ],
    "unconditional": Annotated[list[Any] | None, _about_files("The same without a condition.", **_CONDITIONS)],
    "guidance": Annotated[
        float | None, _about_files("Weight of classifier-free guidance.", metavar="W", panel="Networks with conditions")
    ],
    "standardize": Annotated[
        bool, _about_files("Shift and scale coordinates to mean 0 and deviation 1.", "--standardize")
    ],
}


def reads_files(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say how files are read, in place of its argument `reading`, a `Reading`."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        asked = {name: given.pop(name) for name in _READING}
        for name in ("columns", "drop"):
            asked[name] = asked[name] and [column for part in asked[name] for column in part]
        for name in ("condition", "unconditional"):
            asked[name] = asked[name] and {key: value for part in asked[name] for key, value in part.items()}
        command(**given, reading=Reading(**{name: value for name, value in asked.items() if value is not None}))

    own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "reading"]
    default = {field.name: False if field.name == "standardize" else None for field in fields(Reading)}
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default[name], annotation=kind)
        for name, kind in _READING.items()
    ]
    shown = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *extra)]
    vars(run)["__signature__"] = inspect.Signature(shown)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run


def open_law(
    name: "Target | str",
    data: "Target | str | None" = None,
    device: str | None = None,
    dtype: str | None = None,
    reading: Reading | None = None,
) -> "Target":
    """The law that the arguments of a command name."""
    from brenier import load_target

    return load_target(name, data=data, device=device, dtype=torch_dtype(dtype), reading=reading)


def open_blocks(
    name: str, files: "Files", data: str | None, device: str | None, dtype: str | None, max_memory: float | None
) -> "Target":
    """The law that a command names, of which data may stay where they are, to be used in blocks."""
    from brenier.catalog import load_target

    options: dict[str, Any] = {"device": device, "dtype": torch_dtype(dtype)}
    if data is not None:
        return load_target(files.open(name), data=files.open(data), **options)
    return load_target(name, **options, max_memory=max_memory, reading=files.reading_of(name), blocks=True)


def stays(name: str) -> bool:
    """Whether a name is that of data that can be used in blocks."""
    from brenier.catalog import can_stay

    return can_stay(name)


SPREAD = {"data": "data in blocks", "networks": "networks"}  # what workers can share the work on


@contextmanager
def on_cluster(
    name: str, workers: int | None, scheduler: str | None, *kinds: Literal["data", "networks"], quiet: bool
) -> Generator[None, None, None]:
    """Have the workers of a cluster share the work on a law; the address of its dashboard is said once.

    Args:
        name: of the law.
        workers: processes that are started here.
        scheduler: address of one that has workers.
        kinds: of laws that workers can share the work on here.
        quiet: say nothing.

    Raises:
        ValueError: they are not for this law, or there is none of this name; as `connected`.
    """
    if workers is None and scheduler is None:
        yield
        return

    from brenier.catalog import can_stay, is_network, load_target
    from brenier.core.blocks.cluster import connected
    from brenier.core.reading.files import exists, split_member

    if not ("networks" in kinds and is_network(name)) and not ("data" in kinds and can_stay(name)):
        if not exists(Path(split_member(name)[0])):
            load_target(name)  # which says what is wrong with the name of nothing
        what = " and ".join(SPREAD[kind] for kind in kinds)
        raise ValueError(f"--workers and --scheduler are for {what}, and {name!r} is used whole: leave them out")
    with connected(workers, scheduler) as client:
        if not quiet:
            typer.echo(f"Dask dashboard: {client.dashboard_link}", err=True)
        yield


class Files:
    """The files that a command names, and how they are read.

    Args:
        reading: what the options say. Each file takes what says something about its kind.
        names: of the command's files and laws; data that are standardized are so by the first of them.
        device: where their laws live.
        dtype: of their laws.

    Raises:
        ValueError: an option applies to none of them; data are to be standardized by what are no data.
    """

    def __init__(
        self, reading: Reading, *names: str | None, device: str | None = None, dtype: str | None = None
    ) -> None:
        self._reading, self._options = reading, (device, dtype)
        self._fields: dict[str, tuple[str, ...]] = {}
        if not reading.given:
            return

        from brenier.catalog import readable

        known = [name for name in names if name is not None]
        self._fields = {name: readable(name) for name in known}
        for option in reading.given:
            if not any(option in fields for fields in self._fields.values()):
                raise ValueError(f"--{option} says nothing about {' or '.join(map(repr, known))}: leave it out")
        if reading.standardize:
            if "standardize" not in self._fields[known[0]]:
                raise ValueError(f"--standardize goes by the mean of data, and {known[0]!r} holds none: leave it out")

            from brenier.core.reading.read import read_array

            own = reading.only({*self._fields[known[0]]} - {"standardize"})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the file is read again as data, and then says what it has to say
                self._reading = replace(reading, standardize=read_array(known[0], own))

    def reading_of(self, name: str) -> Reading:
        """How the file of this name is read."""
        return self._reading.only(self._fields.get(name, ()))

    def open(self, name: Name) -> "Target | Name":
        """The law of one of the names; a name about which the options say nothing stays one."""
        own = self._reading.only(self._fields.get(name, ())) if name is not None else self._reading
        if name is None or not own.given:
            return name

        from brenier.catalog import load_target

        device, dtype = self._options
        return load_target(name, device=device, dtype=torch_dtype(dtype), reading=own)

    def values(self, name: str) -> Reading:
        """How a file beside them is read that holds a value for each point: in its columns they have no say."""
        from brenier.catalog import readable

        return self._reading.only({"separator", "decimal", "header"} & {*readable(name)})


def torch_dtype(name: str | None) -> "torch.dtype | None":
    """The dtype of this name."""
    import torch

    return None if name is None else getattr(torch, name)
