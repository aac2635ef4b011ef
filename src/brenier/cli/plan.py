"""`brenier plan`: where a sampler should put its steps, as a table, a sentence, a file and a figure."""

import time
from pathlib import Path
from typing import Annotated

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_plan(
    law: options.LawName,
    steps: Annotated[int, typer.Option(help="Steps of the sampler: intervals of the grid.")] = 10,
    solver: Annotated[str, typer.Option(help="euler, heun, dpmpp-2m, unipc-2, ...")] = "dpmpp-2m",
    criterion: Annotated[
        str, typer.Option(help="error, curvature, information, kl, karras, log-snr, ays, gits, ld3, ...")
    ] = "error",
    objective: options.Objective = "error",
    sigma_max: options.SigmaMax = None,
    sigma_min: options.SigmaMin = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="PROFILE", help="What `brenier probe -o` saved, instead of a new probe.")
    ] = None,
    pilots: options.Pilots = 256,
    budget: options.Budget = 512,
    data: options.Data = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save the schedule (.json).")] = None,
    figure: options.Figure = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Place the steps of a sampler of LAW where they leave the least error."""
    from brenier import plan
    from brenier.cli.outputs import SCHEDULE_SUFFIXES, check_outputs, print_result, write_files
    from brenier.core.records import read

    check_outputs(output, figure, force, SCHEDULE_SUFFIXES)
    known = None if profile is None else read(profile, "profile")
    with options.on_cluster(law, workers, scheduler, "networks", quiet=quiet):
        source = options.open_law(law, data, device, dtype, reading)
        begun = time.monotonic()
        schedule = plan(
            source,
            steps,
            solver=solver,
            criterion=criterion,
            objective=objective,
            sigma_max=sigma_max,
            sigma_min=sigma_min,
            profile=known,
            pilots=pilots,
            budget=budget,
            seed=seed,
            progress=not quiet,
        )
        seconds = time.monotonic() - begun

    def write(path: Path) -> None:
        path.write_text(schedule.to_json(), encoding="utf-8")

    def draw(path: Path) -> None:
        from brenier.figures import plot_schedule, save_figure

        save_figure(plot_schedule(schedule, known), path)

    write_files((output, write), (figure, draw), force=force)
    if not quiet:
        print_result(schedule, json=json, seconds=seconds)
