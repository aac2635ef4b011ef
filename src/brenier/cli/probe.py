"""`brenier probe`: the complexity of a law over noise levels, as a table, a sentence, a file and a figure."""

from typing import Annotated, Literal

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_probe(
    law: options.LawName,
    snr: options.Snrs = None,
    sigma: options.Sigmas = None,
    snr_min: options.SnrMin = None,
    snr_max: options.SnrMax = None,
    snrs: Annotated[int | None, typer.Option(help="SNRs in the grid (default: 32).")] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            help="Noisy points per SNR (default: 2,048; about the law of data past 8 dimensions 1,024; networks fewer)."
        ),
    ] = None,
    data: options.Data = None,
    perturbation: options.Perturbation = "1,2,5,20",
    beta: options.Beta = 1.0,
    about: Annotated[
        Literal["law", "atoms"] | None,
        typer.Option(help="Of data: the law behind them (default), or the points themselves."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model of the law behind data to show beside: mixture, or a law or network.")
    ] = None,
    holdout: Annotated[float | None, typer.Option(help="With --about atoms: share of the data to draw from.")] = None,
    method: Annotated[
        Literal["auto", "quadrature", "monte-carlo"], typer.Option(help="Auto: quadrature for explicit 1-D laws.")
    ] = "auto",
    views: Annotated[
        int, typer.Option(help="Of images: noisy ones to keep in the file, for `brenier report` to show.")
    ] = 4,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    max_memory: options.MaxMemory = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    output: options.Dataset = None,
    figure: options.Figure = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Show at which noise levels LAW is hard to denoise, and how hard."""
    from brenier import probe
    from brenier.cli.numbers import given_levels, read_numbers, snr_grid
    from brenier.cli.outputs import check_outputs, finish

    check_outputs(output, figure, force)
    levels = given_levels(snr, sigma, snr_min, snr_max, snrs)
    richness = read_numbers(perturbation, "--perturbation")
    files = options.Files(reading, data, law, model, device=device, dtype=dtype)
    with options.on_cluster(law, workers, scheduler, "data", "networks", quiet=quiet):
        source = options.open_blocks(law, files, data, device, dtype, max_memory)
        if (snr_min, snr_max, snrs) != (None, None, None):
            levels["snrs"] = snr_grid(source, snr_min, snr_max, 32 if snrs is None else snrs)
        profile = probe(
            source,
            **levels,
            queries=queries,
            perturbations=richness,
            beta=beta,
            about=about,
            model=files.open(model),
            holdout=holdout,
            method=method,
            views=views,
            seed=seed,
            max_memory=max_memory,
            progress=not quiet,
        )
    finish(profile, output, figure, force=force, quiet=quiet, json=json)
