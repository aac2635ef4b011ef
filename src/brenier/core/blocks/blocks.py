"""Sums over blocks of rows: one task per block, merged in the order of the blocks whatever the order they end in.

    map_reduce(function, merge) = merge(... merge(function(block 0), function(block 1)) ...)

Two executors do the tasks: the threads of this process, each of which computes on one, and the workers of a Dask
cluster, where `distributed.Client` is active and any process can read the rows; they merge results, too. Above this
module no code knows which.
"""

import copy
import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from brenier.core.blocks import cluster
from brenier.core.blocks.rows import Picked, Rows, whole
from brenier.core.reading.plain import count as how_many
from brenier.core.work import one_thread

T = TypeVar("T")
Digest: TypeAlias = tuple[int, int, int, int]  # of the values of a block

BYTES = 2**25  # of a block as float32, unless its size is given: some of them are in memory at a time
AHEAD = 2  # tasks per thread that may be done before an earlier one is
TASKS = 4  # of a round per thread of the workers: each does some blocks, and merges what they say


@dataclass(frozen=True)
class Block:
    """Some rows, as a task sees them: their values (m, d), the number of the block and of the first row."""

    values: NDArray[Any]
    number: int
    start: int


class Blocks:
    """Rows cut into blocks.

    Args:
        rows: where they lie.
        size: rows of a block; more where they are stored in larger pieces. Default: as many as take 32 MiB.

    Attributes:
        name: what to call them in errors.
        shape: (n, *event_shape).
        starts: the first row of each block, and n.
    """

    def __init__(self, rows: Rows, size: int | None = None) -> None:
        self.rows, self.name, self.shape = rows, rows.name, rows.shape
        if size is not None and size < 1:
            raise ValueError(f"a block must have at least one row, got {size}")
        size = max(1, BYTES // (4 * self.dim)) if size is None else size
        self.starts = _starts(rows.ends, min(size, rows.shape[0]))
        self._digests: dict[int, Digest] = {}

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return int(np.prod(self.shape[1:]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """That the rows are stored in."""
        return self.rows.dtype

    def sizes(self) -> NDArray[np.int64]:
        """Rows of each block."""
        return np.diff(self.starts)

    def map_reduce(
        self,
        function: Callable[[Block, Any, Any], T],
        merge: Callable[[T, T], T],
        *,
        shared: Any = None,
        asked: Mapping[int, Any] | None = None,
        advance: Callable[[float], None] = lambda share: None,
    ) -> T:
        """Merge what a function makes of each block.

        Args:
            function: (block, shared, asked of that block) -> result. It must be one that can be sent to workers.
            merge: of two results of adjacent blocks, the earlier one first, which alone it may change.
            shared: what all tasks are told, sent once to each worker.
            asked: what single blocks are told, by their number; others are left out. Default: all, told None.
            advance: told the share of the work done since it was last called.

        Raises:
            ValueError: no block is asked for; values that are not finite, a block that is not what it was when it was
                first read; the cluster is gone.
        """
        told = dict.fromkeys(range(len(self))) if asked is None else asked
        order = sorted(told)
        if not order:
            raise ValueError("no block is asked for")
        client = cluster.active() if self.rows.anywhere else None
        if client is not None:
            return self._on_workers(client, order, told, (function, merge), shared, advance)
        merged = _Merged(merge, len(order))

        def done(place: int, result: tuple[Digest, T]) -> None:
            self._check(order[place], result[0])
            merged.add(place, result[1])
            advance(1 / len(order))

        self._on_threads([self._one(k, told[k]) for k in order], function, shared, done, merged)
        return merged.result()

    def _one(self, number: int, asked: Any) -> tuple[int, int, int, Any]:
        return number, int(self.starts[number]), int(self.starts[number + 1]), asked

    def _on_workers(
        self,
        client: Any,
        order: Sequence[int],
        told: Mapping[int, Any],
        how: tuple[Callable[[Block, Any, Any], T], Callable[[T, T], T]],
        shared: Any,
        advance: Callable[[float], None],
    ) -> T:
        # Blocks of a dask array are made before their task begins: one at a time.
        size = 1 if hasattr(self.rows, "part") else max(1, len(order) // (TASKS * cluster.threads_of(client)))
        groups = [order[k : k + size] for k in range(0, len(order), size)]
        tasks = [[self._one(k, told[k]) for k in group] for group in groups]
        seen: set[int] = set()

        def ended(place: int) -> None:
            if place not in seen:  # again, after a worker that died
                seen.add(place)
                advance(len(groups[place]) / len(order))

        join = partial(joined, how[1])
        digests, total = cluster.reduced(client, self.rows, tasks, several, how, join, shared, ended)
        for number, digest in zip(order, digests, strict=True):
            self._check(number, digest)
        return total

    def take(self, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """The rows of these numbers, in the order that is asked for, shape (len(numbers), d)."""
        wanted = np.asarray(numbers, dtype=np.int64)
        if len(wanted) == 0:
            return np.empty((0, self.dim), self.dtype)
        if wanted.min() < 0 or wanted.max() >= self.shape[0]:
            raise ValueError(f"{self.name!r} has rows 0 to {self.shape[0] - 1}, got {wanted.min()} to {wanted.max()}")
        distinct, place = np.unique(wanted, return_inverse=True)
        if isinstance(self.rows, Picked):
            return self.rows.pick(distinct)[place]
        home = np.searchsorted(self.starts, distinct, side="right") - 1
        asked = {int(k): distinct[home == k] - self.starts[k] for k in np.unique(home)}
        parts = self.map_reduce(_some, _joined, asked=asked)
        return np.concatenate(parts)[place]

    @property
    def threads(self) -> int:
        """How many tasks are done at a time, by workers or here."""
        client = cluster.active() if self.rows.anywhere else None
        return torch.get_num_threads() if client is None else cluster.threads_of(client)

    def with_rows(
        self,
        function: Callable[[NDArray[Any], Any, NDArray[np.int64], Any], T],
        asked: Sequence[tuple[NDArray[np.int64], Any]],
        shared: Any,
    ) -> list[T]:
        """What a function makes of some rows, for each that is asked: on workers, if they can read single rows.

        Args:
            function: (rows as stored, shared, numbers, one) -> result; it must be one that can be sent to workers.
            asked: ascending numbers of rows, and what else the function is told.
            shared: what all are told.
        """
        client = cluster.active() if self.rows.anywhere and isinstance(self.rows, Picked) else None
        if client is None or len(asked) < 2:
            return [function(self.take(numbers), shared, numbers, one) for numbers, one in asked]
        found: list[Any] = [None] * len(asked)
        tell = partial(_told, client, (self.rows, function, shared))
        cluster.each(client, tell, _picked, asked, found.__setitem__)
        return found

    def _check(self, number: int, digest: Digest) -> None:
        known = self._digests.setdefault(number, digest)
        if known != digest:
            first, last = self.starts[number], self.starts[number + 1] - 1
            raise ValueError(
                f"{self.name!r} changes while it is read: block {number} (rows {first} to {last}) is not what it was"
                " before"
            )

    def _on_threads(
        self,
        tasks: Sequence[tuple[int, int, int, Any]],
        function: Callable[[Block, Any, Any], T],
        shared: Any,
        done: Callable[[int, tuple[Digest, T]], None],
        merged: "_Merged[T]",
    ) -> None:
        threads = min(torch.get_num_threads(), len(tasks))
        with one_thread():
            if threads == 1:
                for place, one in enumerate(tasks):
                    done(place, task(self.rows, one[:3], function, shared, one[3]))
                return
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                waiting: dict[Future[tuple[Digest, T]], int] = {}
                try:
                    for place, one in enumerate(tasks):
                        while waiting and (len(waiting) >= threads or place - merged.ready >= AHEAD * threads):
                            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                                done(waiting.pop(future), future.result())
                        future = pool.submit(task, self.rows, one[:3], function, shared, one[3])
                        waiting[future] = place
                    for future in list(waiting):
                        done(waiting[future], future.result())
                finally:
                    for future in waiting:
                        future.cancel()


class _Merged(Generic[T]):
    """Results that are merged in their order, as far as they are there."""

    def __init__(self, merge: Callable[[T, T], T], count: int) -> None:
        self._merge, self._count = merge, count
        self._waiting: list[tuple[int, T]] = []
        self._total: T | None = None
        self.ready = 0  # as many are merged

    def add(self, place: int, result: T) -> None:
        heapq.heappush(self._waiting, (place, result))
        while self._waiting and self._waiting[0][0] == self.ready:
            found = heapq.heappop(self._waiting)[1]
            self._total = found if self._total is None else self._merge(self._total, found)
            self.ready += 1

    def result(self) -> T:
        assert self._total is not None
        assert self.ready == self._count
        return self._total


def task(
    rows: Rows | NDArray[Any], place: tuple[int, int, int], function: Callable[..., T], shared: Any, asked: Any
) -> tuple[Digest, T]:
    """What is done for one block, wherever: its digest, and what the function makes of it."""
    number, start, stop = place
    values = whole(rows) if isinstance(rows, np.ndarray) else rows.read(start, stop)
    return _digest(values), function(Block(values, number, start), shared, asked)


def several(
    rows: Rows | Sequence[NDArray[Any]],
    blocks: Sequence[tuple[int, int, int, Any]],
    how: tuple[Callable[..., T], Callable[[T, T], T]],
    shared: Any,
) -> tuple[list[Digest], T]:
    """What a worker does for some adjacent blocks, one after the other: their digests, and what they merge to."""
    function, merge = how
    digests: list[Digest] = []
    total: T | None = None
    for k, (number, start, stop, asked) in enumerate(blocks):
        own = rows if isinstance(rows, Rows) else rows[k]
        digest, found = task(own, (number, start, stop), function, shared, asked)
        digests.append(digest)
        total = found if total is None else merge(total, found)
    assert total is not None  # there is a block
    return digests, total


def joined(merge: Callable[[T, T], T], parts: Sequence[tuple[list[Digest], T]]) -> tuple[list[Digest], T]:
    """What `several` says of adjacent groups of blocks, as of one. The parts stay as they are: Dask may ask again."""
    digests = [digest for own, _ in parts for digest in own]
    return digests, reduce(merge, (found for _, found in parts[1:]), copy.deepcopy(parts[0][1]))


def of_length(block: Block, name: str, dim: int) -> NDArray[Any]:
    """The values of a block.

    Raises:
        ValueError: rows of another length.
    """
    length = block.values.shape[1]
    if length != dim:
        raise ValueError(f"{name!r}: block {block.number} has rows of {length} numbers, and others of {dim}")
    return block.values


def checked(block: Block, name: str, dim: int) -> NDArray[Any]:
    """The values of a block.

    Raises:
        ValueError: rows of another length; NaN or infinite values, with the block and the rows.
    """
    values = of_length(block, name, dim)
    if values.dtype.kind == "f":
        bad = ~np.isfinite(values)
        if bad.any():
            rows = (np.flatnonzero(bad.any(1)) + block.start).tolist()
            shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
            what = how_many(bad[bad], "NaN or infinite").partition(",")[0]
            raise ValueError(
                f"{name!r}: {what} in block {block.number}, row{'s' * (len(rows) > 1)} {shown} (counted from 0):"
                " remove or fill in such rows"
            )
    return values


def _told(client: Any, what: Any, _: bool) -> Any:
    return client.scatter(what, hash=False)


def _picked(told: tuple[Picked, Callable[..., T], Any], numbers: NDArray[np.int64], one: Any) -> T:
    rows, function, shared = told
    return function(rows.pick(numbers), shared, numbers, one)


def _digest(values: NDArray[Any]) -> Digest:
    """Numbers that change with the values: how many bytes there are, and sums of them, eight at a time."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    end = len(flat) // 8 * 8
    words = flat[:end].view(np.uint64)
    even, odd = (int(words[k::2].sum(dtype=np.uint64)) for k in (0, 1))
    return len(flat), even, odd, int(flat[end:].sum(dtype=np.uint64))


def _some(block: Block, _: Any, places: NDArray[np.int64]) -> list[NDArray[Any]]:
    return [block.values[places]]


def _joined(first: list[NDArray[Any]], second: list[NDArray[Any]]) -> list[NDArray[Any]]:
    first += second
    return first


def _starts(ends: Collection[int], size: int) -> NDArray[np.int64]:
    """Blocks of about so many rows, which end where pieces end; a larger piece is cut."""
    starts = [0]
    ends = list(ends)
    for k, end in enumerate(ends):
        later = ends[k + 1] if k + 1 < len(ends) else None
        if later is not None and later - starts[-1] <= size:
            continue
        count = -(-(end - starts[-1]) // size)
        step = -(-(end - starts[-1]) // count)
        starts += [*range(starts[-1] + step, end, step), end]
    return np.asarray(starts)
