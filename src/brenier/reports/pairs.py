"""Recorded pairs in a terminal: how many, how soon, and how evenly they use the data."""

from typing import TYPE_CHECKING, Any

from rich.console import Console

from brenier.reports.tables import many, print_facts, scale

if TYPE_CHECKING:
    from brenier.transport.semidiscrete.recorded import Recording


def numbers_of(pairs: "Recording", name: str, *, seconds: float, size: int) -> dict[str, Any]:
    """The numbers that `print_pairs` prints, by names."""
    low, high = pairs.uses
    found = {"map": name, "pairs": len(pairs.index), "bytes": size, "seconds": seconds, "seed": pairs.seed}
    found |= {"source": pairs.source, "least_uses": low, "most_uses": high}
    return found | ({"moved": pairs.moved, "lost": pairs.lost} if pairs.equal else {})


def print_pairs(pairs: "Recording", name: str, *, seconds: float, size: int, console: Console | None = None) -> None:
    """Print what was made of the map of this name, in what time, and how large the file is, in bytes."""
    n, dim = len(pairs.index), len(pairs.first)
    data = f"{many(len(pairs.sketch), 'point')} in {many(dim, 'dimension')}"
    low, high = pairs.uses
    rows = [
        ("pairs", f"{n:,}", f"{scale(size / 1e6)} MB; their noise would be {scale(4e-6 * n * dim)} MB"),
        ("seconds", f"{seconds:.1f}", f"{scale(n / max(seconds, 1e-9))} pairs per second"),
        ("uses of a datum", f"{low:,} to {high:,}" if low < high else f"{low:,}", ""),
    ]
    if pairs.equal:
        remark = f"which costs {100 * pairs.lost:.2g}% of what the map gains over independent pairs"
        rows.append(("noises moved", f"{100 * pairs.moved:.3g}%", remark))
    print_facts(f"{name}: {data}, from the {pairs.source} law, seed {pairs.seed}", rows, console)
