"""Blocks on a Dask cluster: the active client, a local cluster that is closed in the end, and tasks that workers do.

A worker that dies is no error: Dask has its blocks computed again. A scheduler that dies is one line.
"""

import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

import torch

from brenier.core.allocator import keep_memory
from brenier.core.extras import library
from brenier.core.reading.files import line

T = TypeVar("T")

SECONDS = 5.0  # in which a scheduler answers
ATTEMPTS = 8  # times that what a worker took with it is sent again
AHEAD = 3  # tasks per thread of the workers that are in flight
FAN = 4  # results that are joined at a time
# What a local cluster does beside, often: on a machine that is all at work it took up to a seventh of all time.
QUIETER = {
    "distributed.worker.profile.enabled": False,  # where each worker is, a hundred times a second
    "distributed.worker.memory.monitor-interval": "1s",  # in place of a tenth
    "distributed.admin.system-monitor.interval": "10s",  # in place of half a second
}


def active() -> Any:
    """The client that is active here, `distributed.Client`; None where there is none."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        client = distributed.Client.current()
    except ValueError:
        return None
    check_versions(client)
    return client


@contextmanager
def connected(workers: int | None = None, scheduler: str | None = None) -> Generator[Any, None, None]:
    """A client that is active inside, and closed afterwards with the cluster that was started for it.

    Args:
        workers: processes of a local cluster, of one thread each.
        scheduler: address of a scheduler that runs, such as tcp://10.0.0.1:8786.

    Yields:
        The client; None where neither is given.

    Raises:
        ValueError: both are given; dask is not installed; nobody answers; a worker has another brenier; the scheduler
            goes away.
    """
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise ValueError("workers are started here and a scheduler has its own: give one of them")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    distributed = library("distributed", "distributed", "clusters")
    _quiet()
    local: Any = None
    try:
        if scheduler is not None:
            client = _client(distributed.Client, scheduler)
        else:
            from dask import config

            with warnings.catch_warnings(action="ignore"), config.set(QUIETER):  # of a port that is taken
                local = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
                client = distributed.Client(local, set_as_default=False)
        try:
            with client.as_current():
                yield client
        finally:
            with suppress(Exception):  # of what is gone
                client.close(timeout=2)
    finally:
        if local is not None:
            local.close(timeout=10)


def _client(make: Callable[..., Any], scheduler: str) -> Any:
    try:
        return make(scheduler, timeout=SECONDS, set_as_default=False)  # which one that fails would stay
    except (OSError, TimeoutError, ValueError, TypeError, MemoryError) as error:
        why = "nobody answers" if isinstance(error, OSError | TimeoutError) else line(error)
        why = "what answers is no Dask scheduler" if isinstance(error, MemoryError) else why
        raise ValueError(f"scheduler {scheduler!r}: {why}: give the address that `dask scheduler` prints") from None


def _quiet() -> None:
    """Keep what Dask logs of connections that end off the terminal: errors are one line here."""
    import logging

    for name in ("distributed", "distributed.client", "distributed.scheduler", "distributed.worker"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


_KNOWN: dict[str, set[str]] = {}  # by client, the workers whose version was looked at


def check_versions(client: Any) -> None:
    """Refuse workers with another brenier than here.

    Raises:
        ValueError: which, or that they have none.
    """
    seen = _KNOWN.setdefault(client.id, set())
    with _one_line(client):
        there = {*client.scheduler_info(n_workers=-1)["workers"]}
        if there <= seen:
            return
        refuse_others(client.run(importlib.metadata.version, "brenier", on_error="return"))
    seen |= there


def refuse_others(found: Mapping[str, object]) -> None:
    """Refuse versions of brenier, by worker, that are not this one.

    Raises:
        ValueError: of the first worker that has another.
    """
    own = importlib.metadata.version("brenier")
    for worker, version in found.items():
        if version != own:
            what = f"brenier {version}" if isinstance(version, str) else "no brenier"
            raise ValueError(f"worker {worker} has {what}, and this is brenier {own}: install the same everywhere")


def reduced(
    client: Any,
    rows: Any,
    tasks: Sequence[Sequence[tuple[int, int, int, Any]]],
    task: Callable[..., Any],
    function: Any,
    join: Callable[[list[Any]], Any],
    shared: Any,
    ended: Callable[[int], None],
) -> Any:
    """Have workers do the tasks and join their results, `FAN` adjacent ones at a time: one result comes back.

    Who joins what depends on the number of tasks alone, and not on which of them ends first.

    Args:
        client: of the cluster.
        rows: that any process can read; those of a dask array have `part`.
        tasks: blocks of each; of a block its number, first row, the row after its last, and what it is asked.
        task: (rows, blocks, function, shared) -> result.
        function: what `task` is to do.
        join: of some results, in their order, which it does not change: they may be joined again.
        shared: what all tasks are told.
        ended: told the place of each task as it ends.

    Raises:
        ValueError: the scheduler goes away, or workers die over a block one after the other; what a task raises.
    """
    from dask.delayed import delayed

    lazy = hasattr(rows, "part")

    def tell(_: bool) -> tuple[Any, Any]:  # to one worker: others ask it; to all waits without end for one that died
        told = client.scatter(shared, hash=False) if shared is not None else None
        return told, None if lazy else client.scatter(rows, hash=False)

    def start(known: tuple[Any, Any], one: Sequence[tuple[int, int, int, Any]]) -> Any:
        told, common = known
        if lazy:
            lazily: Any = delayed(_alone, pure=False)
            parts = [rows.part(start, stop) for _, start, stop, _ in one]
            return client.compute(lazily(task, parts, one, function, told))
        return client.submit(_alone, task, common, one, function, told, pure=False)

    def once(again: bool) -> Any:
        told = tell(again)
        return _tree(client, lambda one: start(told, one), join, tasks, ended)

    return _again(client, once)


def each(
    client: Any,
    tell: Callable[[bool], Any],
    function: Callable[..., Any],
    asked: Sequence[tuple[Any, ...]],
    done: Callable[[int, Any], None],
) -> None:
    """Have workers compute function(told, *one) for each one that is asked, and tell `done` of each as it ends.

    Args:
        client: of the cluster.
        tell: makes a future of what all are told; told itself whether that is to be sent again, as a worker took it
            along.
        function: one that can be sent to workers.
        asked: of each.
        done: told its place and its result.

    Raises:
        ValueError: as `reduced`.
    """
    left = dict(enumerate(asked))

    def finish(place: int, result: Any) -> None:
        del left[place]
        done(place, result)

    def once(again: bool) -> None:
        told = tell(again)
        _try(client, lambda one: client.submit(_alone, function, told, *one, pure=False), dict(left), finish)

    _again(client, once)


def _again(client: Any, once: Callable[[bool], T]) -> T:
    """What `once` returns, told whether it is called again: as a worker died that had what all were told."""
    from distributed.client import FutureCancelledError, FuturesCancelledError
    from distributed.comm.core import CommClosedError

    with _one_line(client):
        for attempt in range(ATTEMPTS):
            try:
                return once(attempt > 0)
            except (FutureCancelledError, FuturesCancelledError, CommClosedError):
                # Or while it was told: the scheduler closes what it asks by.
                if attempt == ATTEMPTS - 1 or not _answers(client):
                    raise
    raise AssertionError  # the last attempt returns or raises


def _tree(
    client: Any,
    start: Callable[[Any], Any],
    join: Callable[[list[Any]], Any],
    tasks: Sequence[Any],
    ended: Callable[[int], None],
) -> Any:
    """The tasks once, and a tree of joins over their results."""
    counts = [len(tasks)]  # of results at each level
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // FAN))
    running: dict[Any, tuple[int, int]] = {}
    waiting: dict[tuple[int, int], Any] = {}
    left, most = iter(enumerate(tasks)), AHEAD * threads_of(client)

    def keep(level: int, place: int, future: Any) -> Any:
        """The result of all, if this is that; else join it with those next to it once they are there."""
        if level == len(counts) - 1:
            return future
        waiting[level, place] = future
        parent = place // FAN
        own = [(level, k) for k in range(parent * FAN, min(counts[level], (parent + 1) * FAN))]
        if not all(one in waiting for one in own):
            return None
        parts = [waiting.pop(one) for one in own]
        if len(parts) == 1:
            return keep(level + 1, parent, parts[0])
        running[client.submit(_alone, join, parts, pure=False)] = (level + 1, parent)
        return None

    try:
        while True:
            for place, one in islice(left, max(0, most - len(running))):
                running[start(one)] = (0, place)
            for future in _next(list(running), client):
                level, place = running.pop(future)
                if future.status != "finished":
                    future.result()  # which raises why
                if level == 0:
                    ended(place)
                if (whole := keep(level, place, future)) is not None:
                    return whole.result()
    finally:
        if client.status == "running":
            client.cancel([*running, *waiting.values()], force=True)


def _try(
    client: Any,
    start: Callable[[Any], Any],
    tasks: Mapping[int, Any],
    done: Callable[[int, Any], None],
) -> None:
    """The tasks, by their place, once."""
    threads = threads_of(client)
    places: dict[Any, int] = {}
    left = iter(tasks.items())

    def more() -> bool:
        place, one = next(left, (None, None))
        if place is None:
            return False
        places[start(one)] = place
        return True

    try:
        some = True
        while some and len(places) < AHEAD * threads:
            some = more()
        while places:
            for future in _next(list(places), client):
                place = places.pop(future)
                done(place, future.result())
            while some and len(places) < AHEAD * threads:
                some = more()
    finally:
        if client.status == "running":
            client.cancel(list(places), force=True)


def _answers(client: Any) -> bool:
    """Whether the scheduler is still there."""
    if client.status != "running":
        return False
    try:
        client.sync(client.scheduler.identity, callback_timeout=SECONDS)
    except (OSError, TimeoutError):
        return False
    return True


def threads_of(client: Any) -> int:
    """Of all workers together; 1 where there is none yet."""
    with _one_line(client):
        return max(1, sum(client.nthreads().values()))


def _next(futures: Sequence[Any], client: Any) -> Collection[Any]:
    """The futures that are done next; an error where the client has lost its scheduler meanwhile."""
    import distributed

    lost = 0
    while True:
        try:
            found: Any = distributed.wait(list(futures), timeout=1.0, return_when="FIRST_COMPLETED")
            return found.done
        except TimeoutError:
            lost = 0 if client.status == "running" else lost + 1
            if lost >= SECONDS:
                raise OSError from None


def _alone(task: Callable[..., Any], *arguments: Any) -> Any:
    """A task, on one thread of its worker."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    keep_memory()
    return task(*arguments)


@contextmanager
def _one_line(client: Any) -> Generator[None, None, None]:
    """Turn what a client raises that has lost its scheduler into one line."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError, FuturesCancelledError
    from distributed.comm.core import CommClosedError

    address = client.scheduler.address if client.scheduler is not None else "?"
    try:
        yield
    except KilledWorker as error:
        raise ValueError(f"workers of {address} died one after the other: {line(error)[:150]}") from None
    except (CommClosedError, FutureCancelledError, FuturesCancelledError, TimeoutError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise ValueError(
                f"a worker of {address} does not see {error.filename!r}: give a path that all see"
            ) from None
        raise ValueError(f"the scheduler at {address} is gone: start it anew, and run this again") from None
