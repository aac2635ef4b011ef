"""`brenier calibrate`: whether a network knows its own error, as a table, verdicts, a file and a figure."""

import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer


def run_calibrate(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="A trained network: a folder or a file.")],
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="What it should know: a law or data it was not trained on.")
    ] = None,
    snr: Annotated[str | None, typer.Option(metavar="R,R,...", help="SNRs, instead of a grid.")] = None,
    snr_min: Annotated[float | None, typer.Option(help="Smallest SNR of the grid (default: from the data).")] = None,
    snr_max: Annotated[float | None, typer.Option(help="Largest SNR of the grid (default: from the data).")] = None,
    snrs: Annotated[int | None, typer.Option(help="SNRs in the grid (default: 16).")] = None,
    queries: Annotated[int | None, typer.Option(help="Noisy points per SNR (default: by the dimension).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[Literal["float32", "float64"] | None, typer.Option(help="Precision of the computation.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save the calibration (.nc, netCDF).")] = None,
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Compare the error that NETWORK's Jacobian predicts with the error that it makes on DATA."""
    from brenier.cli.numbers import given_snrs, snr_grid
    from brenier.cli.outputs import check_outputs, write_outputs

    check_outputs(output, figure, force)
    points = given_snrs(snr, snr_min, snr_max, snrs)

    import torch

    from brenier.probing.calibration import SNRS, calibrate, load_network
    from brenier.reports.calibration import print_calibration

    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        net = load_network(network, data, device=device, dtype=None if dtype is None else getattr(torch, dtype))
        if (snr_min, snr_max, snrs) != (None, None, None):
            points = snr_grid(net, snr_min, snr_max, SNRS if snrs is None else snrs)
        calibration = calibrate(net, snrs=points, queries=queries, seed=seed, progress=not quiet)
        write_outputs(calibration, output, figure, force)
        if not quiet:
            print_calibration(calibration)
