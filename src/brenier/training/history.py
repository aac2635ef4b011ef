"""The loss of a training run, band of SNRs by band: what `history.csv` holds and the progress bar shows.

The bands share the training noise levels evenly, from the noisiest to the cleanest; a flow's time t is the SNR
t/(1 - t). The loss is the mean square error of F, see `architectures`: without unit, and 1 or so for a network that
knows no more than the data's mean and deviation.
"""

import csv
import io
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from brenier.networks.noise_levels import FlowTimes, NoiseLevels
from brenier.training.checkpoint import HISTORY

BANDS = 4
EVERY = 100  # steps per row


class History:
    """Losses per band: rows of finished averages, and the sums of the row that is being filled.

    Attributes:
        edges: SNRs between the bands, increasing, `BANDS` - 1 of them.
    """

    def __init__(self, noise: NoiseLevels | FlowTimes) -> None:
        self.edges = [1 / noise.quantile(1 - k / BANDS) for k in range(1, BANDS)]
        self._levels = torch.tensor([1 / snr for snr in reversed(self.edges)], dtype=torch.float64)
        self._rows: list[list[float]] = []
        self._sums = torch.zeros(2, BANDS, dtype=torch.float64)  # losses, counts

    def names(self) -> list[str]:
        """The bands in words, from the lowest SNRs to the highest."""
        ends = [f"{edge:.3g}" for edge in self.edges]
        between = [f"SNR {low} to {high}" for low, high in pairwise(ends)]
        return [f"SNR below {ends[0]}", *between, f"SNR above {ends[-1]}"]

    def sums(self, loss: Float[Tensor, " n"], sigma: Float[Tensor, " n"]) -> Float[Tensor, "2 b"]:
        """Sum of the losses at noise levels sigma, and their number, band by band."""
        band = BANDS - 1 - torch.bucketize(sigma.double(), self._levels.to(sigma.device))
        both = torch.stack([loss.detach().double(), torch.ones_like(loss, dtype=torch.float64)])
        # A product with ones and zeros: unlike scattered sums, it has one order of addition on every device.
        members = (band[:, None] == torch.arange(BANDS, device=band.device)).double()
        return torch.where(members.bool(), both[:, :, None], 0.0).sum(1)

    def add(self, sums: Float[Tensor, "2 b"], step: int, last: bool) -> None:
        """Take the sums of step `step` (counted from 1) in; every `EVERY` steps, and at the end, they make a row."""
        self._sums += sums.cpu()
        if step % EVERY == 0 or last:
            self._rows.append([float(step), *(self._sums[0] / self._sums[1]).tolist()])
            self._sums.zero_()

    def recent(self) -> list[float]:
        """The loss of each band since the last row, or in the last row; NaN before the first step."""
        if float(self._sums[1].sum()) > 0 or not self._rows:
            return (self._sums[0] / self._sums[1]).tolist()
        return self._rows[-1][1:]

    def state(self) -> dict[str, Tensor]:
        """All of it as tensors."""
        rows = torch.tensor(self._rows, dtype=torch.float64).reshape(-1, 1 + BANDS)
        return {"history.rows": rows, "history.sums": self._sums}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` returned."""
        self._rows = state["history.rows"].tolist()
        self._sums = state["history.sums"].clone()

    def text(self) -> str:
        """The rows as CSV: the step, and the mean loss of each band since the row before."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["step", *self.names()])
        writer.writerows([int(row[0]), *(f"{loss:.6g}" for loss in row[1:])] for row in self._rows)
        return stream.getvalue()


def read_history(folder: str | os.PathLike[str]) -> tuple[list[str], list[list[float]]]:
    """The names of the bands and the rows (step, loss per band) in a checkpoint's `history.csv`.

    Raises:
        ValueError: it is missing or damaged.
    """
    file = Path(folder) / HISTORY
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            head, *rows = csv.reader(stream)
        return head[1:], [[float(field) for field in row] for row in rows]
    except OSError as error:
        raise ValueError(f"{str(file)!r}: cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error):
        raise ValueError(f"{str(file)!r} is damaged: give the folder that `brenier train -o` wrote") from None


@contextmanager
def loss_bar(title: str, show: bool) -> Generator[Callable[[float, History], None], None, None]:
    """A progress bar on stderr, where that is a terminal, with the loss of each band from low SNRs to high.

    Yields what to tell how much of the work is done, and what the losses are.
    """
    console = Console(stderr=True)
    words, losses = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[losses]"))
    columns = words, BarColumn(), losses, TimeRemainingColumn()
    disable = not (show and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=disable) as bar:
        task = bar.add_task(title, total=1.0, losses="")

        def tell(share: float, history: History) -> None:
            if not disable:
                bar.update(task, completed=share, losses="loss " + " ".join(f"{x:.3f}" for x in history.recent()))

        yield tell
