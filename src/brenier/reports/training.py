"""A training run in a terminal: what was trained, how fast, and the loss of each band of SNRs."""

from pathlib import Path
from typing import Any

from brenier.networks.saved import read_config
from brenier.reports.tables import grid, number, say, scale, stdout
from brenier.training.checkpoint import read_progress
from brenier.training.history import read_history


def numbers_of(folder: Path, *, steps: int, seconds: float) -> dict[str, Any]:
    """The numbers that `show_training` prints, by names: steps of this run and in all, and the loss of each band."""
    (done, wanted), (names, rows) = read_progress(folder), read_history(folder)
    losses = dict(zip(names, map(float, rows[-1][1:]), strict=True)) if rows else {}
    return {"network": str(folder), "steps": steps, "seconds": seconds, "done": done, "wanted": wanted, "loss": losses}


def show_training(folder: Path, *, steps: int, seconds: float) -> None:
    """Print what was trained, how fast, and the loss of each band of SNRs.

    Args:
        folder: of the network.
        steps: of this run.
        seconds: that this run took.
    """
    config, (done, wanted), (names, rows) = read_config(folder), read_progress(folder), read_history(folder)
    about, network = config["data"], config["network"]
    kind = {"mlp": "an MLP", "unet": "a U-Net"}[network["kind"]]
    if config["training"].get("objective") == "flow":
        kind = f"a flow by {kind}"
    if steps == 0 and done == wanted:
        say(f"{folder}: {kind}, all {done} steps are done: nothing left to do")
        return
    shape = " x ".join(map(str, about["event_shape"]))
    speed = scale(steps * int(config["training"]["batch"]) / seconds)
    say(f"{folder}: {kind} for {about['name']} ({shape}), {steps} steps in {seconds:.1f} s, {speed} points/s")
    console = stdout()
    if rows:  # none before the first were written
        losses = zip(names, map(number, rows[-1][1:]), strict=True)
        console.print()
        console.print(grid(["band", "loss"], list(losses), left=1))
    if done != wanted:
        console.print()
        many = "" if wanted is None else f" of {wanted}"
        console.print(f"The clock stopped it at step {done}{many}: go on with --resume.", markup=False)
