"""`brenier pairs`: noise and data that a map pairs, for the training of flows, as a file of seeds and numbers."""

import time
from pathlib import Path
from typing import Annotated

import typer

from brenier.cli import options


def run_pairs(
    transport: Annotated[Path, typer.Argument(metavar="MAP", help="What `brenier transport` saved.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Save the pairs (.npz).")],
    n: options.Number = 1_000_000,
    equal: Annotated[bool, typer.Option("--equal", help="Give each datum its share of them, exactly.")] = False,
    seed: options.Seed = 0,
    device: options.Device = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pair noise with the data of MAP, and save seeds and numbers: what `brenier.RecordedPairs` makes batches of."""
    from brenier.cli.outputs import print_json, write_files
    from brenier.core.checks import whole_number
    from brenier.core.writing import check_output

    check_output(output, (".npz",), force)
    whole_number(n, "-n", 1)

    from brenier.reports.pairs import numbers_of, print_pairs
    from brenier.transport import SemiDiscrete

    found = SemiDiscrete.load(transport, device=device)
    begun = time.monotonic()
    pairs = found.record(n, seed, equal=equal, progress=not quiet)
    seconds = time.monotonic() - begun
    write_files((output, pairs.write), force=force)
    size = output.stat().st_size
    if json:
        print_json(numbers_of(pairs, transport.name, seconds=seconds, size=size))
    elif not quiet:
        print_pairs(pairs, transport.name, seconds=seconds, size=size)
