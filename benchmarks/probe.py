"""How fast is the localization of data, and how far from the floor?

Compares, in one run, the time to localize 256 queries at 32 SNRs on two data sets (the digits, and 50,000 x 3,072:
CIFAR-10 from `--cifar FILE`, else a synthetic mixture of that size):

    brenier    `Empirical.localize_path`: two Gram products shared by all SNRs, norms to 1%; the construction apart
    direct     plain torch, per SNR: distances, softmax, mean, power iteration until the norm moves by less than 0.01%
    keops      the posterior means alone (no norms), at one SNR and multiplied, by pykeops where it is installed
    floor      the two Gram products, measured here

With `--grid` instead normal clusters of width 0.3 about centres from N(0, I): N atoms in d dimensions in so many
clusters, 32 queries, 8 SNRs from 0.03 to 3; there construction counts, and direct evaluation iterates until the norm
moves by less than 0.1%, at most 300 times (which it does where posteriors have collapsed and norms are nothing).
`--sizes`, `--dims`, `--clusters` and `--seed` choose other grids. With `--check` the rows of a table in docs/design.md
that took less than 20 seconds are run again, thrice each, and the exit status is 1 where one's median ratio is below
0.6 of what stands there: ratios hold across machines as times do not, but for their noise.

Read the column "times brenier": above 1 is slower than brenier. The large direct run is made at every `--every`-th SNR
and its time multiplied, which the row says. "largest difference" is of the norms where they exceed 0.01, over the SNRs
that both ran. Peak memory is of a process of its own, beyond the data it was given.
"""

import argparse
import io
import itertools
import multiprocessing
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from brenier import Empirical, default_snrs

QUERIES = 256


def cifar(file: Path) -> np.ndarray:
    """The 50,000 training images, scaled to [-1, 1]."""
    from PIL import Image

    archive = np.load(file)
    data, offsets = archive["bytes"], archive["offsets"]
    train = np.flatnonzero(archive["split"] == 0)
    images = np.empty((len(train), 3072), np.float32)
    for row, i in enumerate(train):
        images[row] = np.asarray(Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]]))).reshape(-1)
    return images / 127.5 - 1


def synthetic() -> np.ndarray:
    """Ten clusters whose covariances decay like those of natural images."""
    rng = np.random.default_rng(0)
    scale = (np.arange(1, 3073) ** -0.6).astype(np.float32)
    centres = rng.standard_normal((10, 3072), dtype=np.float32) * scale
    noise = rng.standard_normal((50_000, 3072), dtype=np.float32) * scale
    return 4 * (noise + centres[rng.integers(10, size=50_000)])


def direct(
    atoms: torch.Tensor, x: torch.Tensor, z: torch.Tensor, snr: float, moved: float = 1e-4, most: int = 200
) -> torch.Tensor:
    """Norms at one SNR, with nothing shared."""
    y = snr * x + z
    weights = (y @ atoms.T * snr - atoms.square().sum(1) * (snr**2 / 2)).softmax(1)
    mean = weights @ atoms
    v = torch.randn_like(x)
    norm = torch.zeros(len(x))
    for _ in range(most):
        v /= v.norm(dim=1, keepdim=True)
        image = (weights * (v @ atoms.T)) @ atoms - (v * mean).sum(1, keepdim=True) * mean
        last, norm = norm, (image * v).sum(1)
        if bool(((norm - last).abs() <= moved * norm.abs() + 1e-9).all()):
            break
        v = image + 1e-30
    return norm * snr**2


def keops_means(atoms: torch.Tensor, x: torch.Tensor, z: torch.Tensor, snr: float) -> torch.Tensor:
    """Posterior means at one SNR by a symbolic softmax."""
    from pykeops.torch import LazyTensor

    y = LazyTensor((snr * x + z)[:, None])
    points = LazyTensor(atoms[None])
    logits = -((y - snr * points) ** 2).sum(-1) / 2
    return logits.sumsoftmaxweight(points, axis=1)


def clock(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def high_water() -> float:
    """Most memory that this process has had, in GiB (Linux; `ru_maxrss` would count the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def peak(file: str) -> float:
    """GiB that localizing takes beyond the data, in this (new) process."""
    data = np.load(file)
    before = high_water()
    run(data, 8)
    return high_water() - before


def run(data: np.ndarray, count: int) -> tuple[float, float, object, list[float], torch.Tensor, torch.Tensor]:
    """Seconds to construct and to localize, the result, and what it was asked."""
    start = time.perf_counter()
    law = Empirical(data)
    snrs = default_snrs(law, count).tolist()
    built = time.perf_counter() - start
    x = law.sample(QUERIES, 1)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    start = time.perf_counter()
    path = law.localize_path(x, z, snrs)
    return built, time.perf_counter() - start, path, snrs, x, z


def compare(name: str, data: np.ndarray, every: int, with_keops: bool, console: Console) -> None:
    """One table: brenier, direct, keops and the floor on one data set."""
    built, seconds, path, snrs, x, z = run(data, 32)
    atoms = torch.from_numpy(data)
    table = Table(title=f"{name}: {len(data):,} x {data.shape[1]:,}, {QUERIES} queries, {len(snrs)} SNRs")
    for column in ("what", "seconds", "times brenier", "note"):
        table.add_column(column, justify="left" if column in ("what", "note") else "right")
    table.add_row("brenier", f"{seconds:.2f}", "1", f"and {built:.2f} s to construct and choose the SNRs")
    norms: dict[int, torch.Tensor] = {}
    picked = range(0, len(snrs), every)
    spent = sum(clock(lambda k=k: norms.update({k: direct(atoms, x, z, snrs[k])})) for k in picked) * every
    worst = 0.0
    for k, norm in norms.items():
        large = norm > 0.01
        if bool(large.any()):
            worst = max(worst, float((path.norm[k][large] / norm[large] - 1).abs().max()))
    note = f"largest difference {worst:.2%}" + (f"; timed at every {every}th SNR, multiplied" if every > 1 else "")
    table.add_row("direct", f"{spent:.1f}", f"{spent / seconds:.1f}", note)
    if with_keops:
        keops_means(atoms[:100], x[:2], z[:2], snrs[0])  # compiles
        spent = clock(lambda: keops_means(atoms, x, z, snrs[0])) * len(snrs)  # its work is the same at every SNR
        note = "posterior means only; timed at one SNR, multiplied"
        table.add_row("keops", f"{spent:.1f}", f"{spent / seconds:.1f}", note)
    floor = min(clock(lambda: (x @ atoms.T, z @ atoms.T)) for _ in range(3))
    rate = 4 * QUERIES * data.size / floor / 1e9
    table.add_row("floor", f"{floor:.3f}", f"{floor / seconds:.3f}", f"two Gram products at {rate:.0f} GFLOP/s")
    console.print(table)


def clusters(n: int, d: int, count: int, seed: int) -> np.ndarray:
    """Normal clusters of width 0.3 about normal centres, float32."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count, d), dtype=np.float32)
    points = rng.standard_normal((n, d), dtype=np.float32)
    points *= 0.3
    label = rng.integers(count, size=n)
    for i in range(0, n, 4096):
        points[i : i + 4096] += centres[label[i : i + 4096]]
    return points


def grid(options: argparse.Namespace, console: Console) -> None:
    """One row for each law of the grid."""
    snrs = np.geomspace(0.03, 3, 8).tolist()
    matrix = torch.randn(2048, 2048)
    rate = 2 * 2048**3 / min(clock(lambda: matrix @ matrix) for _ in range(3)) / 1e9
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    console.print(f"{capability}, {threads} threads, a product of 2,048 x 2,048 at {rate:.0f} GFLOP/s")
    print("| N | d | clusters | brenier (s) | direct (s) | ratio | two Gram products (s) | largest error stated |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    race(clusters(256, 8, 1, 0), snrs)  # what is loaded on first use
    for n, d, count in itertools.product(options.sizes, options.dims, options.clusters):
        ours, spent, floor, error = race(clusters(n, d, count, options.seed), snrs)
        times = f"{ours:.2f} | {spent:.2f} | {spent / ours:.1f} | {floor:.3f} | {error:.2%}"
        print(f"| {n:,} | {d:,} | {count} | {times} |", flush=True)


def check(page: Path) -> int:
    """The exit status: 1 where brenier has become slower against direct evaluation than a table says."""
    number = r"\| *([\d,.]+) "
    rows = re.findall(rf"^{number * 6}\|", page.read_text(), re.MULTILINE)
    table = [[float(cell.replace(",", "")) for cell in row] for row in rows]
    snrs = np.geomspace(0.03, 3, 8).tolist()
    race(clusters(256, 8, 1, 0), snrs)
    slower = 0
    for n, d, count, ours, spent, ratio in table:
        if ours + spent > 20:
            continue
        data = clusters(int(n), int(d), int(count), 0)
        again = statistics.median(both[1] / both[0] for both in (race(data, snrs) for _ in range(3)))
        slower += again < 0.6 * ratio
        verdict = "slower" if again < 0.6 * ratio else "as it was"
        print(f"{n:9,.0f} x {d:5,.0f} in {count:3.0f} clusters: {again:5.1f}, was {ratio:5.1f}: {verdict}", flush=True)
    print(f"{slower} rows are slower than 0.6 of their ratio" if table else f"{page} has no table")
    return int(slower > 0 or not table)


def race(data: np.ndarray, snrs: list[float]) -> tuple[float, float, float, float]:
    """Seconds of brenier, of direct evaluation and of two Gram products, and the largest error that brenier states."""
    start = time.perf_counter()
    law = Empirical(data)
    x = law.sample(32, 1)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    path = law.localize_path(x, z, snrs)
    ours = time.perf_counter() - start
    assert path.norm_error is not None
    atoms = torch.from_numpy(data)
    spent = sum(clock(lambda r=r: direct(atoms, x, z, r, 1e-3, 300)) for r in snrs)
    floor = min(clock(lambda: (x @ atoms.T, z @ atoms.T)) for _ in range(3))
    return ours, spent, floor, float(path.norm_error.max())


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the localization of data against direct evaluation.")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 as JPEG files in one .npz (bytes, offsets, split)")
    parser.add_argument("--every", type=int, default=4, help="SNRs skipped by the large direct run")
    parser.add_argument("--small", action="store_true", help="the digits only")
    parser.add_argument("--grid", action="store_true", help="clusters of many sizes instead")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 20_000, 200_000], help="atoms in the grid")
    parser.add_argument("--dims", type=int, nargs="+", default=[8, 64, 256, 1024], help="dimensions in the grid")
    parser.add_argument("--clusters", type=int, nargs="+", default=[1, 10, 200], help="clusters in the grid")
    parser.add_argument("--seed", type=int, default=0, help="of the grid's points")
    parser.add_argument("--check", action="store_true", help="compare with the table in docs/design.md")
    options = parser.parse_args()
    if options.check:
        sys.exit(check(Path(__file__).parents[1] / "docs" / "design.md"))
    console = Console()
    if options.grid:
        grid(options, console)
        return
    try:
        import pykeops  # noqa: F401

        with_keops = True
    except ImportError:
        with_keops = False
        console.print("pykeops is not installed: its rows are left out")
    digits = (load_digits().data / 8 - 1).astype(np.float32)
    compare("digits", digits, 1, with_keops, console)
    if options.small:
        return
    large = cifar(options.cifar) if options.cifar else synthetic()
    compare("CIFAR-10" if options.cifar else "synthetic", large, options.every, with_keops, console)
    file = Path("large.npy").resolve()
    try:
        np.save(file, large)
        del large
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            console.print(f"peak memory beyond the data: {pool.apply(peak, (str(file),)):.2f} GiB")
    finally:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
