"""Long work: how it shows itself and is saved, where and on how many threads it is done, what to do without memory."""

import sys
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from threadpoolctl import ThreadpoolController

CHECKPOINT_SECONDS = 60.0


@contextmanager
def progress_bar(title: str, show: bool) -> Generator[Callable[[float], None], None, None]:
    """A progress bar on stderr, where that is a terminal; yields what to call with each share of the work done."""
    if not show:
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share: bar.advance(task, share)


def now_and_then(save: Callable[[], object] | None) -> Callable[[], None]:
    """What calls `save` if it was not called for a minute."""
    last = time.monotonic()

    def look() -> None:
        nonlocal last
        if save is not None and time.monotonic() - last > CHECKPOINT_SECONDS:
            save()
            last = time.monotonic()

    return look


@contextmanager
def enough_memory(advice: str) -> Generator[None, None, None]:
    """What to do where memory runs out, `advice`, in one line.

    Raises:
        ValueError: in place of the error that says so.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        raise ValueError(f"out of memory: give {advice}, or fewer points") from None


@contextmanager
def one_thread() -> Generator[None, None, None]:
    """Compute on one thread, torch and numpy alike: on small arrays more threads mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _pools(len(sys.modules)).limit(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _pools(_: int) -> "ThreadpoolController":
    """The libraries of this process that have threads: looked for anew, for milliseconds, only after more imports."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def workers(
    device: "torch.device | None" = None, most: int | None = None
) -> Generator[Callable[..., Iterable[Any]], None, None]:
    """An ordered map over as many threads as torch may use, or `most`, each of which computes on one; on a GPU `map`.

    Threads that share a small product wait for each other at its end, on a busy machine many times as long as it takes.
    """
    import torch

    count = min(torch.get_num_threads(), most or sys.maxsize)
    if device is not None and device.type != "cpu":
        yield map
        return
    with one_thread():
        if count == 1:
            yield map
            return
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map


def usable_device(device: "torch.device | str | None") -> "torch.device | None":
    """The device of this name; None for none.

    Raises:
        ValueError: there is no such device here.
    """
    if device is None:
        return None

    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise ValueError(f"device {str(device)!r} is not available here: choose {' or '.join(here)}") from None
    return torch.device(device)
