"""`brenier flow`: a smooth optimal map by the parabolic Monge-Ampère iteration, as a file, a table and a figure."""

import copy
import importlib.util
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from brenier.transport.mongeampere import Law, MongeAmpere


STEPS = 200


def run_flow(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="Where to: see `brenier targets`, or a .py file with log_density and dim."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Save the map (.nc).")],
    method: Annotated[
        Literal["neural", "linear", "grid", "gaussian"],
        typer.Option(help="Potentials: a convex network, features, a grid (1-D, 2-D), or the closed form of moments."),
    ] = "neural",
    steps: Annotated[int | None, typer.Option(help="Steps of the iteration (default: 200).")] = None,
    reference: Annotated[str, typer.Option(metavar="normal|laplace|FILE", help="The law that is carried.")] = "normal",
    drive: Annotated[
        Literal["auto", "density", "classifier", "score"],
        typer.Option(help="What drives it: densities, or what is learned from samples."),
    ] = "auto",
    rule: Annotated[
        str | None, typer.Option(metavar="RULE", help="Step sizes: adaptive, constant, root, harmonic, ...")
    ] = None,
    eta: Annotated[float | None, typer.Option(help="Their constant, for standardised laws (default: 0.2).")] = None,
    units: Annotated[
        int | None, typer.Option(help="Of the network (default: 64); features (default: 200, on the line 100).")
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="Smoothing of what is learned, in standard deviations (default: 0.1).")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="After which it stops, too.")] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="MAP", help="A saved map between the same laws to go on from.")
    ] = None,
    n: Annotated[int | None, typer.Option("--number", "-n", help="How many samples.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Save so many samples (.npy), (n, *shape of a point).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Find Brenier's map to TARGET step by step. After Ctrl-C it is saved as it is, and --start goes on from there."""
    from brenier.cli.outputs import check_outputs, write_figure
    from brenier.core.checks import whole_number
    from brenier.core.writing import atomic_path, atomic_paths, check_output, write_dataset

    check_outputs(output, figure, force)
    if samples is not None:
        check_output(samples, (".npy",), force)
    if (samples is None) != (n is None):
        raise ValueError("-n is how many samples, and --samples is where they go: give both, or neither")
    count = 0 if n is None else whole_number(n, "-n", 1)
    given: dict[str, Any] = {"steps": steps, "rule": rule, "eta": eta, "units": units, "noise": noise}
    given |= {"minutes": minutes, "start": start, "drive": None if drive == "auto" else drive}
    asked = {name: value for name, value in given.items() if value is not None}
    if method in ("grid", "gaussian") and asked:
        raise ValueError(f"--{next(iter(asked))} is for --method neural and linear, and {method} knows none")

    import numpy as np

    from brenier.catalog import load_target
    from brenier.reports.flow import print_flow
    from brenier.transport.mongeampere import MongeAmpere
    from brenier.transport.mongeampere.learned import DEFAULT
    from brenier.transport.mongeampere.portrait import portrait

    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        law = _python_law(target) if Path(target).suffix.lower() == ".py" else load_target(target)
        source = reference if reference in ("normal", "laplace") else load_target(reference)
        smoothing = DEFAULT.noise if noise is None else noise
        flow = MongeAmpere(source, law, method, drive=drive, units=units, noise=smoothing)
        known = None if start is None else _saved(start, flow)
        shape = list(getattr(law, "event_shape", (flow.dim,)))
        about: dict[str, Any] = {
            "event_shape": shape,
            **{name: asked[name] for name in ("rule", "eta", "noise") if name in asked},
        }
        steps = STEPS if steps is None else steps
        try:
            flow.fit(steps, rule, eta, minutes=minutes, seed=seed, start=known, progress=not quiet)
            found = portrait(flow, seed).assign_attrs(about)
        except KeyboardInterrupt:
            if flow.result is not None and (flow.result.steps or flow.result.stopped == "closed form"):
                with atomic_path(output, force) as draft:
                    write_dataset(flow.to_dataset().assign_attrs(about), draft)
                sys.stderr.write(
                    f"brenier: interrupted: {str(output)!r} holds the map so far, not measured; "
                    f"go on from it with --start {output} and a new name for -o, or --force\n"
                )
            raise
        wanted = [path for path in (output, samples, figure) if path is not None]
        with atomic_paths(*wanted, force=force) as drafts:
            write_dataset(found, drafts[0])
            if samples is not None:
                np.save(drafts[1], flow.sample(count, seed).reshape(count, *shape).numpy())
            if figure is not None:
                write_figure(found, drafts[-1])
        if not quiet:
            print_flow(found, flow.result.seconds if flow.result is not None else None)


def _python_law(file: str) -> "Law":
    """The law whose log density a Python file defines; what goes wrong in there is one line that names it.

    Raises:
        ValueError: no such file, an error in it, or no function log_density(x) and whole number dim.
    """
    from brenier.core.checks import whole_number
    from brenier.core.reading import exists
    from brenier.transport.mongeampere import find_law

    path = Path(file)
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
        raise ValueError(f"{file!r} has no {missing}: define log_density(x), in torch, (n, dim) -> (n,), and dim")

    def log_density(x: Any) -> Any:
        try:
            return given(x)
        except Exception as error:  # noqa: BLE001 - so may its function
            raise ValueError(f"{file!r}: log_density: {_one_line(error)}") from None

    log_density.__name__ = f"log_density of {path.name}"
    return replace(find_law(log_density, whole_number(dim, f"{file!r}: dim", 1)), name=path.name)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _saved(path: Path, flow: "MongeAmpere") -> "MongeAmpere":
    """A saved map as a flow to start from.

    Raises:
        ValueError: it is between other laws, or was found by another method.
    """
    from brenier.transport.mongeampere import load_potential

    potential, data = load_potential(path)
    wanted = {"reference": flow.reference.name, "target": flow.target.name, "method": flow.method, "dim": flow.dim}
    for name, value in wanted.items():
        if data.attrs[name] != value:
            raise ValueError(
                f"{str(path)!r} has {name} {data.attrs[name]!r}, and now it is {value!r}: leave out --start"
            )
    known = copy.copy(flow)
    known.potential = potential
    return known
