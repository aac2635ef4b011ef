import platform
import subprocess
import sys

import pytest

ARRAYS = """
import ctypes, resource, sys
if sys.argv[1] == "keep":
    from brenier.core.allocator import keep_memory
    keep_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        some = [c.malloc(24 * 2**20) for _ in range(3)]
        for one in some:
            ctypes.memset(one, 1, 24 * 2**20)
        for one in some:
            c.free(one)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def mapped(how: str) -> int:
    """Pages that a process maps anew for thirty arrays of 24 MiB, after it has had as many."""
    done = subprocess.run([sys.executable, "-c", ARRAYS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the C library of GNU is told")
def test_what_is_freed_is_used_again() -> None:
    whole = 30 * 24 * 2**20 // 4096
    assert mapped("leave") > whole / 4
    assert mapped("keep") < whole / 100
