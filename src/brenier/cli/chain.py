"""`brenier chain`: a law diffused and denoised from another start, as tables, sentences, a file and a figure."""

import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer


def run_chain(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A law, data, images or a network: see `brenier targets`.")
    ],
    start: Annotated[
        str,
        typer.Option("--from", metavar="START", help="A point (X or X,X,...), normal, equilibrium, or as TARGET."),
    ] = "equilibrium",
    steps: Annotated[int, typer.Option(help="Steps there, and back.")] = 100,
    eta: Annotated[float, typer.Option(help="Length of a step, in Ornstein-Uhlenbeck time.")] = 0.01,
    mode: Annotated[
        Literal["ode", "sde"], typer.Option(help="Back by the optimal transport maps, or by the reverse SDE.")
    ] = "ode",
    perturbation: Annotated[str, typer.Option(metavar="M,M,...", help="Richness of perturbations.")] = "1,2,5,20",
    beta: Annotated[float, typer.Option(help="Inverse temperature of the diffusion.")] = 1.0,
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
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Take these data for a network's own law, not its samples.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[Literal["float32", "float64"] | None, typer.Option(help="Precision of the computation.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save the chain (.nc, netCDF).")] = None,
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Diffuse START, denoise it by TARGET's score, and show where it closes in on TARGET and where errors grow."""
    from brenier.cli.numbers import read_numbers
    from brenier.cli.outputs import check_outputs, write_outputs

    check_outputs(output, figure, force)
    richness = read_numbers(perturbation, "--perturbation")
    band = None if error_band is None else read_numbers(error_band, "--error-band")
    if band is not None and len(band) != 2:
        raise ValueError(f"--error-band {error_band!r}: give two SNRs, LOW,HIGH")
    if band is not None and not score_error:
        raise ValueError("--error-band says where the score is wrong: give --score-error, by how much")

    import torch

    import brenier
    from brenier.reports.chain import print_chain

    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        law = brenier.load_target(
            target, dtype=None if dtype is None else getattr(torch, dtype), device=device, data=data
        )
        chain = brenier.chain(
            law,
            start,
            steps=steps,
            eta=eta,
            mode=mode,
            perturbations=richness,
            beta=beta,
            n=particles,
            method=method,
            score_error=score_error,
            error_kind=error_kind,
            error_band=None if band is None else (band[0], band[1]),
            seed=seed,
            progress=not quiet,
        )
        write_outputs(chain, output, figure, force)
        if not quiet:
            print_chain(chain)
