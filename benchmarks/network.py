"""What does it cost to probe a network, in forward passes, and does its memory depend on the number of queries?

    python benchmarks/network.py                                  # a U-Net trained for a minute on 32 x 32 digits
    python benchmarks/network.py --network DIR --data DATA        # one of yours

A forward pass is the denoiser alone, without gradients, on the same batch. "passes" is the time of a probe (norm to 2%,
trace, asymmetry) over that of a forward pass, per query and SNR, on the default grid; the target is 40. Peak memory is
that of the process (of the GPU, on one), above what it was before: it must not grow with the number of queries.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

import brenier

TARGET = 40


def digits_32() -> np.ndarray:
    """The digits of scikit-learn, each pixel as 4 x 4."""
    return np.kron(load_digits().images / 8 - 1, np.ones((1, 4, 4))).astype(np.float32)


def seconds(work, repeat: int = 3) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def forget_peak(device: torch.device) -> float:
    """Measure the most memory from here on; returns what is in use, in GiB. On a CPU, Linux only."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")
    return peak(device)


def peak(device: torch.device) -> float:
    """Most memory since `forget_peak`, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", help="a folder of `brenier train`, or of diffusers")
    parser.add_argument("--data", help="what queries are drawn from (default: the network's own chain)")
    parser.add_argument("--steps", type=int, default=150, help="of training, where no network is given")
    parser.add_argument("--snrs", type=int, default=12)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--device", default=None)
    arguments = parser.parse_args()
    if arguments.network is None:
        with tempfile.TemporaryDirectory() as folder:
            options = {"steps": arguments.steps, "batch": 16, "channels": [16, 32, 32], "depth": 1, "ema": 0.98}
            data = digits_32()
            target = brenier.train(data, Path(folder) / "net", progress=False, device=arguments.device, **options)
            target = target.with_data(data)
    else:
        target = brenier.load_target(arguments.network, data=arguments.data, device=arguments.device)
    weights = sum(p.numel() for p in target.network.parameters())
    print(
        f"{target.name}: {weights:,} weights, points of shape {target.event_shape}, "
        f"batch {target.batch}, {target.device}"
    )

    grid = brenier.default_snrs(target, arguments.snrs)
    x = target.sample(arguments.queries, 1)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x)
    middle = float(grid[len(grid) // 2])
    y = (middle * x + z)[: target.batch]
    target.denoise(y, middle)
    forward = seconds(lambda: target.denoise(y, middle)) / len(y)

    before = forget_peak(target.device)
    start = time.perf_counter()
    path = target.localize_path(x, z, grid.tolist())
    total = time.perf_counter() - start
    after = peak(target.device)
    passes = total / (arguments.queries * len(grid) * forward)
    print(
        f"forward pass {forward * 1e3:.2f} ms per point; probe {passes:.1f} passes per query and SNR (target {TARGET})"
    )
    print(
        f"largest relative residual of a norm {float(path.norm_error.max()):.3g}, "
        f"E L from {float(path.norm.mean(1).min()):.3g} to {float(path.norm.mean(1).max()):.3g}"
    )
    print(f"peak memory above the start: {after - before:.2f} GiB for {arguments.queries} queries", end=", ")
    more = 4 * arguments.queries
    x = target.sample(more, 3)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(4)).to(x)
    forget_peak(target.device)
    target.localize_path(x, z, [middle])
    print(f"{peak(target.device) - before:.2f} GiB for {more}")


if __name__ == "__main__":
    main()
