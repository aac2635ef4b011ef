import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brenier.core.blocks.blocks import Block, Blocks, checked
from brenier.core.blocks.rows import rows_of

ROWS = np.random.default_rng(0).normal(size=(60, 4))


def number(block: Block, shared: Any, asked: Any) -> list[Any]:
    return [(block.number, block.start, len(block.values), shared, asked)]


def add(first: list[Any], second: list[Any]) -> list[Any]:
    return first + second


@given(st.integers(1, 70), st.integers(1, 3))
def test_results_are_merged_in_order_on_any_number_of_threads(size: int, threads: int) -> None:
    blocks = Blocks(rows_of(ROWS), size)
    try:
        torch.set_num_threads(threads)
        found = blocks.map_reduce(number, add, shared="s")
    finally:
        torch.set_num_threads(1)
    starts = np.cumsum([0, *(count for _, _, count, _, _ in found)])
    assert [one[0] for one in found] == list(range(len(blocks)))
    assert [one[1] for one in found] == starts[:-1].tolist()
    assert starts[-1] == 60
    assert {one[3] for one in found} == {"s"}


def test_single_blocks_are_asked(tmp_path: Path) -> None:
    blocks = Blocks(rows_of(ROWS), 10)
    shares: list[float] = []
    found = blocks.map_reduce(number, add, asked={4: "d", 1: "a"}, advance=shares.append)
    assert [(one[0], one[4]) for one in found] == [(1, "a"), (4, "d")]
    assert shares == [0.5, 0.5]
    with pytest.raises(ValueError, match="no block"):
        blocks.map_reduce(number, add, asked={})
    with pytest.raises(ValueError, match="rows 0 to 59"):
        blocks.take([60])
    with pytest.raises(ValueError, match="at least one row"):
        Blocks(rows_of(ROWS), 0)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_task_raises_comes_through(threads: int) -> None:
    def fail(block: Block, shared: Any, asked: Any) -> int:
        if block.number == 3:
            raise ValueError("three")
        return 1

    try:
        torch.set_num_threads(threads)
        with pytest.raises(ValueError, match="three"):
            Blocks(rows_of(ROWS), 10).map_reduce(fail, lambda a, b: a + b)
    finally:
        torch.set_num_threads(1)


def test_values_that_are_not_finite_are_named() -> None:
    rows = ROWS.copy()
    rows[[37, 39], 1] = np.nan
    block = Block(rows[30:40], 3, 30)
    with pytest.raises(
        ValueError, match=r"^'x': 2 values are NaN or infinite in block 3, rows 37, 39 \(counted from 0\)"
    ):
        checked(block, "x", 4)
    with pytest.raises(ValueError, match="block 3 has rows of 4 numbers, and others of 5"):
        checked(block, "x", 5)
    assert checked(Block(ROWS, 0, 0), "x", 4) is ROWS


def test_a_store_that_changes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, ROWS)
    blocks = Blocks(rows_of(file), 10)
    blocks.map_reduce(number, add)
    blocks.map_reduce(number, add)  # as it was
    written, now = np.load(file, mmap_mode="r+"), file.stat()
    written[37, 2] += 1e-9
    written.flush()
    os.utime(file, ns=(now.st_atime_ns, now.st_mtime_ns))  # and does not say so
    with pytest.raises(ValueError, match=r"changes while it is read: block 3 \(rows 30 to 39\)"):
        blocks.map_reduce(number, add)
    np.save(file, ROWS[:50])
    with pytest.raises(ValueError, match="changes while it is read: its shape was"):
        blocks.map_reduce(number, add)
