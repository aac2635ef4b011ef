"""`brenier chain`: a law diffused and denoised from another start, as tables, sentences, a file and a figure."""

from typing import Annotated, Literal

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_chain(
    law: options.LawName,
    start: Annotated[
        str, typer.Option("--from", metavar="START", help="A point (X or X,X,...), normal, equilibrium, or as LAW.")
    ] = "equilibrium",
    steps: Annotated[int, typer.Option(help="Steps there, and back.")] = 100,
    eta: Annotated[float, typer.Option(help="Length of a step, in Ornstein-Uhlenbeck time.")] = 0.01,
    mode: Annotated[
        Literal["ode", "sde"], typer.Option(help="Back by the optimal transport maps, or by the reverse SDE.")
    ] = "ode",
    perturbation: options.Perturbation = "1,2,5,20",
    beta: options.Beta = 1.0,
    potential: Annotated[
        str | None,
        typer.Option(metavar="F", help="Of the drift: quadratic(2), quartic, logcosh, double-well (default: x^2/2)."),
    ] = None,
    forward: Annotated[Literal["flow", "jko"], typer.Option(help="There exactly in law, or by JKO steps.")] = "flow",
    particles: Annotated[
        int | None,
        typer.Option("--particles", "-n", help="Particles of each law (default: 1,024; on the line, 32,768)."),
    ] = None,
    method: Annotated[
        Literal["auto", "quantiles", "particles"], typer.Option(help="Auto: quantiles for explicit 1-D laws.")
    ] = "auto",
    score_error: Annotated[
        float, typer.Option(metavar="EPS", help="Relative error of the score on the way back.")
    ] = 0.0,
    error_kind: Annotated[Literal["smooth", "white"], typer.Option(help="What the error is like.")] = "smooth",
    error_band: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="SNRs where the score has the error (default: all).")
    ] = None,
    data: options.Data = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    output: options.Dataset = None,
    figure: options.Figure = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Diffuse START, denoise it by LAW's score, and show where it closes in on LAW and where errors grow."""
    from brenier import chain
    from brenier.cli.numbers import read_numbers
    from brenier.cli.outputs import check_outputs, finish

    check_outputs(output, figure, force)
    richness = read_numbers(perturbation, "--perturbation")
    band = None if error_band is None else read_numbers(error_band, "--error-band")
    if band is not None and len(band) != 2:
        raise ValueError(f"--error-band {error_band!r}: give two SNRs, LOW,HIGH")
    if band is not None and not score_error:
        raise ValueError("--error-band says where the score is wrong: give --score-error, by how much")
    files = options.Files(reading, data, law, start, device=device, dtype=dtype)
    found = chain(
        options.open_law(files.open(law), files.open(data), device, dtype),
        files.open(start),
        steps=steps,
        eta=eta,
        mode=mode,
        perturbations=richness,
        beta=beta,
        potential=potential,
        forward=forward,
        n=particles,
        method=method,
        score_error=score_error,
        error_kind=error_kind,
        error_band=None if band is None else (band[0], band[1]),
        seed=seed,
        progress=not quiet,
    )
    finish(found, output, figure, force=force, quiet=quiet, json=json)
