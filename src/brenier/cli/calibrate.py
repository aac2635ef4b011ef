"""`brenier calibrate`: whether a network knows its own error, as a table, verdicts, a file and a figure."""

from typing import Annotated

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_calibrate(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="A trained network: a folder or a file.")],
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="What it should know: a law or data it was not trained on.")
    ] = None,
    snr: options.Snrs = None,
    sigma: options.Sigmas = None,
    snr_min: options.SnrMin = None,
    snr_max: options.SnrMax = None,
    snrs: Annotated[int | None, typer.Option(help="SNRs in the grid (default: 16).")] = None,
    queries: Annotated[int | None, typer.Option(help="Noisy points per SNR (default: by the dimension).")] = None,
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
    """Compare the error that NETWORK's Jacobian predicts with the error that it makes on DATA."""
    from brenier.cli.numbers import given_levels, snr_grid
    from brenier.cli.outputs import check_outputs, finish
    from brenier.probing.calibration import SNRS, calibrate, load_network

    check_outputs(output, figure, force)
    levels = given_levels(snr, sigma, snr_min, snr_max, snrs)
    files = options.Files(reading, data, network, device=device, dtype=dtype)
    net = load_network(files.open(network), files.open(data), device=device, dtype=options.torch_dtype(dtype))
    if (snr_min, snr_max, snrs) != (None, None, None):
        levels["snrs"] = snr_grid(net, snr_min, snr_max, SNRS if snrs is None else snrs)
    calibration = calibrate(net, **levels, queries=queries, seed=seed, progress=not quiet)
    finish(calibration, output, figure, force=force, quiet=quiet, json=json)
