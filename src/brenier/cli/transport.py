"""`brenier transport`: the optimal map from a simple law to data, as a file, a table and a figure."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading

FRESH = 2**20  # draws that the map is judged by, unless asked otherwise


@options.reads_files
def run_transport(
    data: Annotated[str, typer.Argument(metavar="DATA", help="The points to carry to: see `brenier laws`.")],
    output: options.SavedMap,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="A weight for each point (default: equal weights).")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="A class for each point: there is then a map for each class.")
    ] = None,
    conditions: Annotated[
        str | None, typer.Option(metavar="FILE", help="Real numbers for each point: the map goes by these.")
    ] = None,
    kappa: Annotated[float | None, typer.Option(help="Weight of --conditions (default: from the data).")] = None,
    source: Annotated[
        Literal["normal", "uniform"], typer.Option(help="The law to carry: N(0, I), or uniform on [0, 1]^d.")
    ] = "normal",
    tolerance: Annotated[float, typer.Option(help="Total variation that the map may be off by.")] = 0.02,
    minutes: options.Minutes = None,
    start: Annotated[
        Path | None, typer.Option(metavar="MAP", help="A saved map to start from: of these points, or of some.")
    ] = None,
    resume: options.Resume = False,
    samples: Annotated[int, typer.Option(help="Fresh draws that the map is judged by.")] = FRESH,
    seed: options.Seed = 0,
    device: options.Device = None,
    max_memory: options.MaxMemory = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    figure: options.Figure = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Find the optimal transport map to DATA. After Ctrl-C it is saved as it is, and --resume goes on."""
    from brenier.cli.outputs import Unfinished, check_outputs, finish
    from brenier.core.checks import whole_number
    from brenier.core.reading.read import read_array, read_labels

    check_outputs(None, figure, force)
    unfinished = Unfinished(output, resume=resume, start=start, force=force)
    whole_number(samples, "--samples", 512)
    files = options.Files(reading, data, device=device)
    shares = None if weights is None else read_array(weights, files.values(weights))
    classes = None if labels is None else read_labels(labels, files.values(labels))
    told = None if conditions is None else read_array(conditions, files.values(conditions))

    from brenier.laws.blocked import refused
    from brenier.transport import BlockedSemiDiscrete, SemiDiscrete
    from brenier.transport.semidiscrete.portrait import portrait

    with options.on_cluster(data, workers, scheduler, "data", quiet=quiet):
        law = options.open_blocks(data, files, None, device, None, max_memory)
        if not law.atoms:
            raise ValueError(f"{law.name} is a law, and transport leads to points: give data, a file or digits")
        if law.in_memory:
            known = None if unfinished.start is None else SemiDiscrete.load(unfinished.start)
            points = law.point_masses()[0]
            more: dict[str, Any] = {"labels": classes, "conditions": told, "kappa": kappa}
            transport: Any = SemiDiscrete(points, shares, source=source, **more)
        else:
            alone = {"--labels": labels, "--conditions": conditions, "--kappa": kappa, "--figure": figure}
            if asked := [name for name, value in alone.items() if value is not None]:
                raise refused(law.name, ", ".join(asked))
            known = None if unfinished.start is None else BlockedSemiDiscrete.load(unfinished.start, law)
            transport = BlockedSemiDiscrete(law, shares, source=source)
        about: dict[str, Any] = {"target": law.name, "event_shape": list(law.event_shape)}

        def checkpoint() -> None:
            unfinished.write(transport.to_dataset(), about)

        try:
            transport.fit(
                tolerance,
                minutes=minutes,
                seed=seed,
                start=known,
                resume=unfinished.resume,
                checkpoint=checkpoint,
                progress=not quiet,
            )
            found = portrait(transport, samples=samples, seed=seed).assign_attrs(about)
        except KeyboardInterrupt:
            if transport.result is not None:
                unfinished.end(transport.to_dataset(), about)
            raise
    seconds = None if transport.result is None else transport.result.seconds
    finish(found, output, figure, force=unfinished.force, quiet=quiet, json=json, seconds=seconds)
