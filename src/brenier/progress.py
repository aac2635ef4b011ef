"""How long work shows itself."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


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
