"""How long work shows itself, and on how many threads it is done."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits


class progress_bar:  # noqa: N801 - a context manager, used like a function
    """A progress bar on stderr, where that is a terminal; yields what to call with each share of the work done."""

    def __init__(self, title: str, show: bool) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (show and console.is_terminal),
        )
        self._task = self._bar.add_task(title, total=1.0)

    def __enter__(self) -> Callable[[float], None]:
        self._bar.start()
        return lambda share: self._bar.advance(self._task, share)

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()


@contextmanager
def one_thread() -> Generator[None, None, None]:
    """Compute on one thread, torch and numpy alike: on small arrays more threads mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
