"""A training run in a terminal: what was trained, how fast, and the loss of each band of SNRs."""

from pathlib import Path
from typing import Any

from brenier.reports.tables import grid, number, say, scale, stdout


def show_training(
    folder: Path,
    config: dict[str, Any],
    losses: dict[str, float],
    *,
    steps: int,
    done: int,
    wanted: int | None,
    seconds: float,
) -> None:
    """Print what was trained, how fast, and the loss of each band of SNRs.

    Args:
        folder: of the network.
        config: its settings, as saved.
        losses: by band; none before the first were written.
        steps: of this run.
        done: of all runs together.
        wanted: how many were planned, where they were.
        seconds: that this run took.
    """
    about, network = config["data"], config["network"]
    kind = {"mlp": "an MLP", "unet": "a U-Net"}[network["kind"]]
    if steps == 0 and done == wanted:
        say(f"{folder}: {kind}, all {done} steps are done: nothing left to do")
        return
    shape = " x ".join(map(str, about["event_shape"]))
    speed = scale(steps * int(config["training"]["batch"]) / seconds)
    say(f"{folder}: {kind} for {about['name']} ({shape}), {steps} steps in {seconds:.1f} s, {speed} points/s")
    console = stdout()
    if losses:
        console.print()
        console.print(grid(["band", "loss"], [[name, number(loss)] for name, loss in losses.items()], left=1))
    if done != wanted:
        console.print()
        many = "" if wanted is None else f" of {wanted}"
        console.print(f"The clock stopped it at step {done}{many}: go on with --resume.", markup=False)
