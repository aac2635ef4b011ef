"""How much memory is free, and what does not fit."""

import math
import os
from contextlib import suppress
from pathlib import Path


def check_fits(size: int, what: str) -> None:
    """Refuse what does not fit into memory before anything of it is there.

    Args:
        size: bytes that it takes.
        what: the beginning of a sentence about it.

    Raises:
        ValueError: it takes more than is free.
    """
    free = free_memory()
    if size > free:
        raise ValueError(f"{what} takes {size / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are free")


def free_memory() -> float:
    """Bytes of memory that are free, to the machine and to the control group of this process; infinity if unknown."""
    free: list[float] = [math.inf]
    with suppress(OSError, ValueError, KeyError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free.append(1024 * int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0]))
    with suppress(OSError, ValueError, AttributeError):
        if len(free) == 1:  # not Linux: not less than all there is
            free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for group in _control_groups():
        with suppress(OSError, ValueError, KeyError):
            limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
            of = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
            free.append(max(limit - used + int(of["inactive_file"]), 0))  # the cache of files gives way
    return min(free)


def _control_groups(root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """The folders that say what this process may take, Linux's second kind: its own group and those around it."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):
                own = root / line.removeprefix("0::/")
                return [own, *(folder for folder in own.parents if folder == root or root in folder.parents)]
    return []
