"""Does a probe of data beyond memory stay within its memory, and how far is it from reading them?

Writes a synthetic mixture (ten clusters, spectra as of natural images) as float16 into a temporary folder, block
by block, and removes it in the end; by default 1,000,000 x 3,072, which is 6.1 GB. Then, in processes of their own:

    floor      reading all rows once, and the two products of queries and atoms that any probe needs, on one thread
    probe      the first reads and `localize_path` at 32 SNRs, with the peak of resident memory of all their processes
    workers    the same by a local cluster of one and of two workers; the column "against one" is the speed-up
    draws      CPU milliseconds to count a draw into the cells of `--draws` points in 784 dimensions: in memory, in
               blocks, and in blocks by one and two workers, all processes together
    equal      `--check` rows of the same data, in blocks of 1,000 and as a whole: largest relative difference of norms
               above 0.01, of their traces and effective sample sizes; and against `Empirical` in memory, tolerance 1e-5
    screening  100 tight clusters past their collapse: products with and without screening, the proven dropped mass, and
               what was dropped in truth by the full sums

    python benchmarks/scale.py --rows 20000 --queries 64        # a small one
    python benchmarks/scale.py --rows 100000 --dim 784 --queries 64 --workers 1 2 1 2 --check 0 --draws 0  # speed-up

Times on a machine that others use are noisy: read ratios, those of CPU seconds first, and run it again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

SNRS = 32


def write(file: Path, rows: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    scale = (np.arange(1, dim + 1) ** -0.6).astype(np.float32)
    centres = rng.standard_normal((10, dim), dtype=np.float32) * scale
    stored = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=(rows, dim))
    for start in range(0, rows, 4096):
        some = stored[start : start + 4096]
        noise = rng.standard_normal(some.shape, dtype=np.float32) * scale
        some[:] = 4 * (noise + centres[rng.integers(10, size=len(some))])
        stored.flush()


def clock(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def asked(law: Any, queries: int) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Queries and SNRs of a probe."""
    from brenier import default_snrs

    z = torch.randn(queries, law.dim, generator=torch.Generator().manual_seed(1))
    return law.sample(queries, 0), z, default_snrs(law, SNRS).tolist()


def floor(file: str, queries: int) -> dict[str, float]:
    """Seconds to read all rows as float32, and for the two products."""
    from brenier.core.blocks.blocks import Blocks
    from brenier.core.blocks.rows import rows_of

    blocks = Blocks(rows_of(file))
    x, z = torch.randn(2, queries, blocks.rows.shape[1])
    spent, begun = [0.0, 0.0], time.process_time()
    for k in range(len(blocks)):
        start = time.perf_counter()
        atoms = torch.from_numpy(blocks.rows.read(int(blocks.starts[k]), int(blocks.starts[k + 1]))).float()
        read = time.perf_counter()
        _ = x @ atoms.T, z @ atoms.T
        spent[0] += read - start
        spent[1] += time.perf_counter() - read
    return {"read": spent[0], "products": spent[1], "cpu": time.process_time() - begun}


def busy(client: Any) -> float:
    """CPU seconds of this process and of workers, so far."""
    return time.process_time() + (0.0 if client is None else sum(client.run(time.process_time).values()))


def probed(file: str, queries: int, workers: int) -> dict[str, float]:
    """Seconds for the first reads and for localizing, and the largest error of a norm."""
    from brenier import BlockedEmpirical
    from brenier.core.blocks.cluster import connected

    with connected(workers or None) as client:
        start, spent = time.perf_counter(), busy(client)
        law = BlockedEmpirical.of(file)
        x, z, snrs = asked(law, queries)
        ready = time.perf_counter()
        path = law.localize_path(x, z, snrs)
        end, spent = time.perf_counter(), busy(client) - spent
    return {"first": ready - start, "localize": end - ready, "cpu": spent, "error": float(path.norm_error.max())}


def draws(file: str, workers: int) -> dict[str, float]:
    """CPU milliseconds for a draw; workers -1: points in memory."""
    from brenier import BlockedSemiDiscrete
    from brenier.core.blocks.cluster import connected
    from brenier.transport.semidiscrete.cells import Cells
    from brenier.transport.semidiscrete.sources import find_source

    with connected(workers if workers > 0 else None) as client:
        if workers < 0:
            y = torch.from_numpy(np.load(file).astype(np.float32))
            y = y.sub_(y.mean(0)).div_(y.square().sum(1).mean().sqrt())
            cells = Cells(y, find_source("normal", y.shape[1]))
        else:
            cells = BlockedSemiDiscrete(file)._cells()
        least = float("inf")
        for _ in range(3):
            begun = busy(client)
            tally = cells.tally(np.zeros(cells.count), 16, (0, 1))
            least = min(least, (busy(client) - begun) / tally.samples * 1e3)
    return {"draw": least}


def equal(file: str, queries: int, rows: int) -> dict[str, float]:
    """Largest relative differences between blocks of 1,000, one block, and memory."""
    from brenier import BlockedEmpirical, Empirical

    data = np.load(file, mmap_mode="r")[:rows].astype(np.float32)
    one, many = (BlockedEmpirical.of(data, size, tolerance=1e-5) for size in (rows, 1000))
    whole = Empirical(data, tolerance=1e-5)
    x, z, snrs = asked(one, queries)
    snrs = snrs[::4]
    a, b, c = (law.localize_path(x, z, snrs) for law in (one, many, whole))
    seen = c.norm > 0.01

    def apart(one: torch.Tensor, other: torch.Tensor) -> float:
        return float(((one - other).abs() / other)[seen].max())

    names = ("norm", "trace", "ess")
    between = {f"{name}, blocks": apart(getattr(b, name), getattr(a, name)) for name in names}
    return between | {f"{name}, memory": apart(getattr(a, name), getattr(c, name)) for name in names}


def screening(*_: object) -> dict[str, float]:
    """Products with and without screening, and mass that was dropped: as proven, and in truth."""
    from brenier import BlockedEmpirical
    from brenier.laws import block_sums
    from brenier.laws.block_norms import Batch

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, 32)) * 3
    data = (np.repeat(centres, 1000, axis=0) + rng.normal(size=(100_000, 32))).astype(np.float32)
    law = BlockedEmpirical.of(data, 1000)
    x, z, _ = asked(law, 64)
    count = [0]
    grams = block_sums.Queries.grams

    def counted(self: Any, rows: Any, atoms: Any, squares: Any) -> Any:
        count[0] += len(rows) * len(atoms) * (len(atoms) <= 1000)
        return grams(self, rows, atoms, squares)

    block_sums.Queries.grams = counted
    snrs = [8.0, 16.0]
    few = law.localize_path(x, z, snrs)
    spent = count[0]
    whole = Batch._screen
    Batch._screen = lambda self: (None, torch.full(self._shape, -torch.inf, dtype=torch.float64))
    count[0] = 0
    all_of_them = law.localize_path(x, z, snrs)
    Batch._screen = whole
    assert few.screened is not None
    apart = float((few.ess / all_of_them.ess - 1).abs().max())
    shares = {"proven dropped mass": few.screened.dropped, "share read": few.screened.read}
    return {"times fewer products": count[0] / spent, **shares, "ESS apart from full sums": apart}


def resident(pid: int) -> float:
    """GiB resident in a process and all that it started (Linux)."""
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * 4096 / 2**30
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except (OSError, IndexError):
            continue  # it has ended
    return total


def apart(*arguments: object) -> tuple[dict[str, float], float]:
    """What one part prints in a process of its own, and the peak of its memory."""
    command = [sys.executable, __file__, "--part", *map(str, arguments)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = [0.0]

    def watch() -> None:
        while running.poll() is None:
            peak[0] = max(peak[0], resident(running.pid))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = running.communicate()
    watcher.join()
    if running.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed")
    return json.loads(out.splitlines()[-1]), peak[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=3072)
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--check", type=int, default=50_000, help="rows that are compared with memory; 0: none")
    parser.add_argument("--draws", type=int, default=200_000, help="points of a map; 0: none")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument(
        "--folder", default=None, help="where there is room (default: the system's for what is temporary)"
    )
    parser.add_argument("--part", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, *numbers = options.part
        parts: dict[str, Callable[..., dict[str, float]]] = {
            "floor": floor,
            "probed": probed,
            "equal": equal,
            "screening": screening,
            "draws": draws,
        }
        torch.set_num_threads(1)
        print(json.dumps(parts[name](*(int(word) if word.lstrip("-").isdigit() else word for word in numbers))))
        return
    console = Console(width=110)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        file = Path(folder) / "mixture.npy"
        spent = clock(lambda: write(file, options.rows, options.dim))
        size = f"{options.rows:,} x {options.dim:,}"
        console.print(f"{size} float16, written in {spent:.0f} s; {options.queries} queries, {SNRS} SNRs")
        least, _ = apart("floor", file, options.queries)
        bound = least["read"] + least["products"]
        columns = "first reads", "localize", "against floor", "CPU", "against floor", "against one", "peak GiB"
        table = Table("", *columns, "largest error")
        cpu = f"{least['cpu']:.1f} s"
        table.add_row("floor", f"{least['read']:.1f} s", f"{least['products']:.1f} s", "1", cpu, "1", "", "", "")
        alone = None
        for workers in (0, *options.workers):
            found, peak = apart("probed", file, options.queries, workers)
            whole = found["first"] + found["localize"]
            alone = whole if workers == 1 else alone
            name = "one thread" if workers == 0 else f"{workers} worker{'s' * (workers > 1)}"
            speed = f"{alone / whole:.2f}" if workers and alone else ""
            times = f"{found['first']:.1f} s", f"{found['localize']:.1f} s", f"{whole / bound:.1f}", speed
            *wall, speed = times
            cpu = f"{found['cpu']:.1f} s", f"{found['cpu'] / least['cpu']:.1f}"
            table.add_row(name, *wall, *cpu, speed, f"{peak:.2f}", f"{found['error']:.4f}")
        console.print(table)
        if options.check:
            console.print(f"{min(options.check, options.rows):,} rows, largest relative differences:")
            for name, value in apart("equal", file, min(16, options.queries), min(options.check, options.rows))[
                0
            ].items():
                console.print(f"    {name}: {value:.1e}")
        if options.draws:
            file.unlink()
            write(file, options.draws, 784)
            for workers in (-1, 0, *options.workers):
                where = {-1: "in memory", 0: "in blocks"}.get(workers, f"in blocks, {workers} workers")
                console.print(f"CPU milliseconds a draw, {where}: {apart('draws', file, workers)[0]['draw']:.3f}")
    for name, value in apart("screening")[0].items():
        console.print(f"{name}: {value:.3g}")


if __name__ == "__main__":
    main()
