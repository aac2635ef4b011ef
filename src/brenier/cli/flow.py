"""`brenier flow`: a smooth optimal map by the parabolic Monge-Ampère iteration, as a file, a table and a figure."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_flow(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="Where to: see `brenier laws`, or a .py file with log_density and dim."),
    ],
    output: options.SavedMap,
    method: Annotated[
        Literal["neural", "linear", "grid", "gaussian"],
        typer.Option(help="Potentials: a convex network, features, a grid (1-D, 2-D), or the closed form of moments."),
    ] = "neural",
    steps: Annotated[int | None, typer.Option(help="Steps of the iteration (default: 200).")] = None,
    reference: Annotated[
        str, typer.Option(metavar="normal|laplace|triangular|modes|FILE", help="The law that is carried.")
    ] = "normal",
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
    anneal: Annotated[
        bool, typer.Option("--anneal", help="By way of laws between the two: for densities with several modes.")
    ] = False,
    minutes: options.Minutes = None,
    start: Annotated[
        Path | None, typer.Option(metavar="MAP", help="A saved map between the same laws to go on from.")
    ] = None,
    resume: options.Resume = False,
    n: Annotated[int | None, typer.Option("--number", "-n", help="How many samples.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Save so many samples (.npy), (n, *shape of a point).")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Save importance weights of these samples (.npy), (n,): densities only.")
    ] = None,
    seed: options.Seed = 0,
    figure: options.Figure = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Find Brenier's map to TARGET step by step. After Ctrl-C it is saved as it is, and --resume goes on."""
    from brenier.cli.outputs import Unfinished, check_outputs, finish, write_points
    from brenier.core.checks import whole_number
    from brenier.core.writing import check_output

    check_outputs(None, figure, force)
    unfinished = Unfinished(output, resume=resume, start=start, force=force)
    if samples is not None:
        check_output(samples, (".npy",), force)
    if weights is not None:
        check_output(weights, (".npy",), force)
        if samples is None:
            raise ValueError("--weights are those of the samples: give --samples and -n, too")
    if (samples is None) != (n is None):
        raise ValueError("-n is how many samples, and --samples is where they go: give both, or neither")
    count = 0 if n is None else whole_number(n, "-n", 1)
    given: dict[str, Any] = {"steps": steps, "rule": rule, "eta": eta, "units": units, "noise": noise}
    given |= {"minutes": minutes, "start": start, "drive": None if drive == "auto" else drive}
    given["anneal"] = anneal or None
    asked = {name: value for name, value in given.items() if value is not None}
    if method in ("grid", "gaussian") and asked:
        raise ValueError(f"--{next(iter(asked))} is for --method neural and linear, and {method} knows none")

    from brenier.transport.mongeampere import MongeAmpere
    from brenier.transport.mongeampere.portrait import portrait

    settings = {name: asked.pop(name) for name in ("drive", "units", "noise") if name in asked}
    files = options.Files(reading, target, reference)
    flow = MongeAmpere(files.open(reference), files.open(target), method=method, **settings)
    about = {name: given[name] for name in ("rule", "eta", "noise") if given[name] is not None}
    asked |= {"start": unfinished.start, "resume": unfinished.resume}

    def checkpoint() -> None:
        unfinished.write(flow.to_dataset(), about)

    try:
        flow.fit(**asked, seed=seed, checkpoint=checkpoint, progress=not quiet)
        found = portrait(flow, seed).assign_attrs(about)
    except KeyboardInterrupt:
        if flow.result is not None and (flow.result.steps or flow.result.stopped == "closed form"):
            unfinished.end(flow.to_dataset(), about)
        raise

    def draw(path: Path) -> None:
        write_points(flow.sample(count, seed).reshape(count, *flow.target.event_shape), path)

    def weigh(path: Path) -> None:
        write_points(flow.weights(count, seed), path)

    files_of = (samples, draw), (weights, weigh)
    seconds = None if flow.result is None else flow.result.seconds
    finish(found, output, figure, *files_of, force=unfinished.force, quiet=quiet, json=json, seconds=seconds)
