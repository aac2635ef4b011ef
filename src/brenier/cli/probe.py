"""`brenier probe`: the complexity of a law over noise levels, as a table, a sentence, a file and a figure."""

import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer


def run_probe(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A law, data, images or a network: see `brenier targets`.")
    ],
    snr: Annotated[str | None, typer.Option(metavar="R,R,...", help="SNRs to probe, instead of a grid.")] = None,
    snr_min: Annotated[float | None, typer.Option(help="Smallest SNR of the grid (default: from the law).")] = None,
    snr_max: Annotated[float | None, typer.Option(help="Largest SNR of the grid (default: from the law).")] = None,
    snrs: Annotated[int | None, typer.Option(help="SNRs in the grid (default: 32).")] = None,
    queries: Annotated[
        int | None, typer.Option(help="Noisy points per SNR (default: 2,048; 64 for a large network).")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Draw a network's queries from these data, not from itself.")
    ] = None,
    perturbation: Annotated[str, typer.Option(metavar="M,M,...", help="Richness of perturbations.")] = "1,2,5,20",
    beta: Annotated[float, typer.Option(help="Inverse temperature of the diffusion.")] = 1.0,
    holdout: Annotated[float | None, typer.Option(help="Share of the data that queries are drawn from.")] = None,
    method: Annotated[
        Literal["auto", "quadrature", "monte-carlo"], typer.Option(help="Auto: quadrature for explicit 1-D laws.")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[Literal["float32", "float64"] | None, typer.Option(help="Precision of the computation.")] = None,
    max_memory: Annotated[float | None, typer.Option(metavar="GIB", help="Memory for blocks of work, in GiB.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save the profile (.nc, netCDF).")] = None,
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Show at which noise levels TARGET is hard to denoise, and how hard."""
    from brenier.cli.numbers import given_snrs, read_numbers, snr_grid
    from brenier.cli.outputs import check_outputs, write_outputs

    check_outputs(output, figure, force)
    points = given_snrs(snr, snr_min, snr_max, snrs)
    richness = read_numbers(perturbation, "--perturbation")

    import torch

    import brenier
    from brenier.reports.profile import print_report

    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        law = brenier.load_target(
            target, dtype=None if dtype is None else getattr(torch, dtype), device=device, data=data
        )
        if (snr_min, snr_max, snrs) != (None, None, None):
            points = snr_grid(law, snr_min, snr_max, 32 if snrs is None else snrs)
        profile = brenier.probe(
            law,
            points,
            queries=queries,
            perturbations=richness,
            beta=beta,
            holdout=holdout,
            method=method,
            seed=seed,
            max_memory=max_memory,
            progress=not quiet,
        )
        write_outputs(profile, output, figure, force)
        if not quiet:
            print_report(profile)
