import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from brenier import probe
from brenier.core.blocks import cluster
from brenier.core.blocks.blocks import Block, Blocks, joined
from brenier.core.blocks.rows import rows_of
from brenier.core.writing import write_dataset
from brenier.laws.blocked import BlockedEmpirical
from brenier.transport.semidiscrete.blocked import BlockedSemiDiscrete
from brenier.transport.semidiscrete.blocked_cells import BlockedCells

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of ports, and of loops that end while they are closed
ROWS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def client() -> Generator[Any, None, None]:
    """Two workers as threads of this process, which need no time to start."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as local,
        distributed.Client(local) as client,
    ):
        yield client


def total(block: Block, shared: Any, asked: Any) -> Any:
    return [(block.number, block.values.sum(0, dtype=np.float64) * shared)]


def test_the_workers_of_an_active_client_do_the_tasks(client: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    lazy = pytest.importorskip("dask.array").from_array(ROWS, chunks=(31, 2))
    for data in (tmp_path / "a.npy", lazy):
        found = Blocks(rows_of(data), 31).map_reduce(total, lambda a, b: a + b, shared=2.0)
        assert [number for number, _ in found] == list(range(7))
        assert np.allclose(sum(part for _, part in found), 2 * ROWS.sum(0), atol=1e-4)
    here = Blocks(rows_of(tmp_path / "a.npy"), 31).map_reduce(_where, lambda a, b: a | b)
    assert all("worker" in name.lower() or "Dask" in name for name in here)


def _where(block: Block, shared: Any, asked: Any) -> set[str]:
    import threading

    return {threading.current_thread().name}


def noting(first: Any, second: Any) -> Any:
    """Both, in their order, and who merged them."""
    import threading

    first.append((-1, threading.current_thread().name))
    return first + second


def test_workers_merge_in_order_too(client: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    lazy = pytest.importorskip("dask.array").from_array(ROWS, chunks=(5, 3))
    for data in (tmp_path / "a.npy", lazy):  # 8 tasks and 40, two levels of joins and three
        shares: list[float] = []
        found = Blocks(rows_of(data), 5).map_reduce(total, noting, shared=1.0, advance=shares.append)
        assert [number for number, _ in found if number >= 0] == list(range(40))
        merges = [who for number, who in found if number < 0]
        assert len(merges) == 39
        assert all("Dask" in who or "worker" in who.lower() for who in merges)
        assert sum(shares) == pytest.approx(1)


def test_joining_leaves_the_parts_as_they_are() -> None:
    parts = [([(k, 0, 0, 0)], [k]) for k in range(3)]
    for _ in range(2):
        assert joined(lambda a, b: a.extend(b) or a, parts) == ([(k, 0, 0, 0) for k in range(3)], [0, 1, 2])
    assert [found for _, found in parts] == [[0], [1], [2]]


def test_single_rows_are_read_by_workers(client: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    asked = [(np.array([3, 50]), 2.0), (np.array([7]), 3.0)]
    lazy = pytest.importorskip("dask.array").from_array(ROWS, chunks=(31, 2))
    for data, workers in ((tmp_path / "a.npy", True), (lazy, False)):
        found = Blocks(rows_of(data), 31).with_rows(scaled, asked, 10.0)
        for (numbers, factor), (values, where) in zip(asked, found, strict=True):
            assert np.array_equal(values, ROWS[numbers] * factor * 10)
            assert ("Dask" in where) == workers


def scaled(values: Any, shared: float, numbers: Any, factor: float) -> Any:
    import threading

    return values * factor * shared, threading.current_thread().name


def test_posteriors_are_the_same_on_a_cluster(client: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    on_cluster, here = BlockedEmpirical.of(tmp_path / "a.npy", 40), BlockedEmpirical.of(ROWS, 40)
    one, other = (law.localize_path(law.sample(5, 0), z, [0.3, 3.0]) for law in (on_cluster, here))
    assert torch.equal(one.norm, other.norm)
    assert torch.equal(one.ess, other.ess)


def test_an_active_client_is_enough_for_a_file(client: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    with pytest.warns(UserWarning, match="its points themselves are probed"):
        found = probe(str(tmp_path / "a.npy"), [0.5, 2.0], queries=20, progress=False)
    whole = probe(ROWS, [0.5, 2.0], queries=20, about="atoms", progress=False)
    assert found.attrs["about"] == "atoms"
    assert 0 <= found.attrs["dropped_mass"] <= 1e-6
    assert 0 < found.attrs["share_read"] <= 1
    assert np.allclose(found["localization"], whole["localization"], rtol=0.01)


def test_bad_rows_are_refused_by_workers_as_here(client: Any, tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[77] = np.inf
    np.save(tmp_path / "a.npy", rows)
    with pytest.raises(ValueError, match=r"block 3, row 77 \(counted"):
        BlockedEmpirical.of(tmp_path / "a.npy", 25)


def test_workers_with_another_version_are_refused() -> None:
    from importlib.metadata import version

    own = version("brenier")
    cluster.refuse_others({"tcp://a:1": own, "tcp://b:2": own})
    with pytest.raises(ValueError, match=r"^worker tcp://b:2 has brenier 9\.9, and this is brenier"):
        cluster.refuse_others({"tcp://a:1": own, "tcp://b:2": "9.9"})
    with pytest.raises(ValueError, match="worker tcp://a:1 has no brenier"):
        cluster.refuse_others({"tcp://a:1": ModuleNotFoundError("brenier")})


def test_a_scheduler_that_nobody_answers_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SECONDS", 0.5)
    for address, why in (("tcp://127.0.0.1:9", "nobody answers"), ("nonsense", "missing port")):
        with pytest.raises(ValueError, match=f"^scheduler '{address}': {why}"), cluster.connected(scheduler=address):
            pytest.fail("connected")
    with pytest.raises(ValueError, match="give one of them"), cluster.connected(2, "tcp://127.0.0.1:9"):
        pytest.fail("connected")
    with pytest.raises(ValueError, match="at least 1"), cluster.connected(0):
        pytest.fail("connected")
    with cluster.connected() as none:
        assert none is None


class Scheduler:
    """`dask scheduler` and one worker, as processes of their own."""

    def __init__(self, folder: Path) -> None:
        file = folder / "scheduler.json"
        make = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
        self.scheduler = subprocess.Popen([*make, "--scheduler-file", str(file)], stderr=subprocess.DEVNULL)
        while not file.exists():
            assert self.scheduler.poll() is None
            time.sleep(0.05)
        work = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--no-nanny"]
        more = ["--nthreads", "1", "--no-dashboard"]
        self.workers = [subprocess.Popen([*work, *more], stderr=subprocess.DEVNULL) for _ in range(2)]
        self.file = file

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def test_a_worker_that_dies_is_no_error_and_a_scheduler_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "SECONDS", 1.0)
    np.save(tmp_path / "a.npy", ROWS)
    blocks = Blocks(rows_of(tmp_path / "a.npy"), 10)
    running = Scheduler(tmp_path)
    try:
        with distributed.Client(scheduler_file=str(running.file), timeout=20) as client:
            client.wait_for_workers(2, timeout=30)
            shares: list[float] = []

            def kill_one(share: float) -> None:
                shares.append(share)
                if len(shares) == 3:
                    running.workers[0].kill()

            found = blocks.map_reduce(slow, lambda a, b: a + b, shared=1.0, advance=kill_one)
            assert [number for number, _ in found] == list(range(20))
            assert np.allclose(sum(part for _, part in found), ROWS.sum(0), atol=1e-4)

            def kill_all(share: float) -> None:
                running.scheduler.kill()

            with pytest.raises(ValueError, match=r"^the scheduler at tcp://.* is gone: start it anew"):
                blocks.map_reduce(slow, lambda a, b: a + b, shared=1.0, advance=kill_all)
    finally:
        running.end()


def test_a_fit_goes_on_without_a_worker_that_dies_and_ends_without_a_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(1).normal(size=(90, 7)).astype(np.float32)
    np.save(tmp_path / "a.npy", rows)
    alone = BlockedSemiDiscrete(BlockedEmpirical.of(rows, 30)).fit(0.3, progress=False)
    running, tallies = Scheduler(tmp_path), [0]
    tally = BlockedCells.tally

    def killing(self: BlockedCells, *arguments: Any, **options: Any) -> Any:
        tallies[0] += 1
        if tallies[0] == 5:
            running.workers[0].kill()
        return tally(self, *arguments, **options)

    monkeypatch.setattr(BlockedCells, "tally", killing)
    try:
        with distributed.Client(scheduler_file=str(running.file), timeout=20) as client:
            client.wait_for_workers(2, timeout=30)
            there = BlockedSemiDiscrete(BlockedEmpirical.of(tmp_path / "a.npy", 30)).fit(0.3, progress=False)
            assert len(client.nthreads()) == 1

            def ending(self: BlockedCells, *arguments: Any, **options: Any) -> Any:
                running.scheduler.kill()
                return tally(self, *arguments, **options)

            monkeypatch.setattr(cluster, "SECONDS", 1.0)
            monkeypatch.setattr(BlockedCells, "tally", ending)
            with pytest.raises(ValueError, match=r"^the scheduler at tcp://.* is gone: start it anew"):
                BlockedSemiDiscrete(BlockedEmpirical.of(tmp_path / "a.npy", 30)).fit(0.3, progress=False)
    finally:
        running.end()
    assert there.result is not None
    assert there.result.stopped == "tolerance"
    torch.testing.assert_close(there.heights, alone.heights, rtol=0, atol=1e-5)


def test_results_are_written_without_the_cluster(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "Lock", lambda name: pytest.fail("a lock of the cluster"))
    write_dataset(xr.Dataset({"a": ("n", np.arange(3.0))}), tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as found:
        assert found["a"].values.tolist() == [0, 1, 2]


def slow(block: Block, shared: Any, asked: Any) -> Any:
    time.sleep(0.02)
    return total(block, shared, asked)


slow.__module__ = total.__module__ = noting.__module__ = _where.__module__ = scaled.__module__ = (
    "__main__"  # sent by value: workers do not see this file
)
