"""One fit of a map, from heights to start from to those that are kept: how it ends, and what is saved meanwhile."""

import math
import time
from collections.abc import Callable

from brenier.core.checks import Array
from brenier.core.work import now_and_then, progress_bar
from brenier.transport.semidiscrete.ascent import ascend
from brenier.transport.semidiscrete.cells import Cells
from brenier.transport.semidiscrete.fitted import Fitted, Stopped


def fit_heights(
    cells: Cells,
    masses: Array,
    start: Callable[[], Array],
    tolerance: float,
    *,
    seed: int,
    averaged: int,
    begun: float,
    minutes: float | None,
    keep: Callable[[Array, Fitted], None],
    checkpoint: Callable[[], object] | None,
    progress: bool,
) -> None:
    """Ascend until the tolerance is reached, or the time is up.

    Args:
        cells: of the points.
        masses: that the cells are to have, shape (cells,).
        start: makes the heights to start from.
        tolerance: of the measured total variation in excess of sampling noise.
        seed: of all draws.
        averaged: draws that the heights to start from are worth, as an average that goes on.
        begun: when, by the monotonic clock.
        minutes: after which the fit stops; None for no limit.
        keep: what to do with heights, and how they were found: about every minute, and at the end, also after Ctrl-C.
        checkpoint: what to call about every minute, once they are kept.
        progress: show a bar on stderr, where that is a terminal.
    """
    samples, excess = 0, math.nan
    stopped: Stopped = "minutes"
    stream = (seed, 0x5D, averaged) if averaged else (seed, 0x5D)

    def found(how: Stopped) -> Fitted:
        return Fitted(how, tolerance, samples, time.monotonic() - begun, excess, seed, averaged)

    def save() -> None:
        keep(heights, found("interrupted"))
        if checkpoint is not None:
            checkpoint()

    with progress_bar("transport", progress) as advance, cells.working():
        heights, shown, look = start(), 0.0, now_and_then(save)
        try:
            for state in ascend(cells, masses, heights, tolerance, stream, averaged):
                heights, samples, averaged = state.heights, state.samples, state.averaged
                if state.measured is not None:
                    excess = math.sqrt(max(state.measured.chi_square(masses), 0.0) / (2 * math.pi))
                    stopped = "tolerance" if excess <= tolerance else "minutes"
                advance(max(state.share - shown, 0.0))
                shown = max(state.share, shown)
                if minutes is not None and time.monotonic() - begun > 60 * minutes:
                    break
                look()
        except KeyboardInterrupt:
            stopped = "interrupted"
            raise
        finally:
            keep(heights, found(stopped))
