"""The `brenier` command, as a script and as `python -m brenier`. Ctrl-C ends it quietly from the first line on.

SIGTERM ends it as ever, after drafts of files are removed.

Threads that wait for each other sleep (`OMP_WAIT_POLICY`), unless the environment says otherwise: by torch's default
they spin, and where another process has one of the cores, commands then take up to ten times as long. What is freed is
kept for the next arrays (`core.allocator`).
"""

import os
import signal
import sys
from types import FrameType


def leave() -> None:
    """End at once, without drafts of files."""
    remove_drafts()
    os._exit(130)


def remove_drafts() -> None:
    """Remove the drafts of files of this process."""
    if "brenier.core.writing" in sys.modules:
        for draft in list(sys.modules["brenier.core.writing"].DRAFTS):
            draft.unlink(missing_ok=True)


def run() -> int:
    """The command with the arguments of the process; its exit status, 130 after Ctrl-C."""
    interrupted = False
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is imported

    def interrupt(_: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        sys.unraisablehook = lambda _: None  # where a callback swallows the interrupt, nothing is to be said of it
        while frame is not None:
            if "importlib" in frame.f_code.co_filename:
                leave()  # libraries in C++ abort on an exception while they are imported
            frame = frame.f_back
        raise KeyboardInterrupt

    owner = os.getpid()

    def terminate(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:  # a process that was forked from this one has no drafts of its own
            remove_drafts()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    terminated = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if terminated:
        signal.signal(signal.SIGTERM, terminate)
    caught = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # and not ignored, as behind nohup
    if caught:
        signal.signal(signal.SIGINT, interrupt)
    try:
        from brenier.core.allocator import keep_memory

        keep_memory()
        from brenier.cli import main

        status = main()
    except BaseException:
        if not interrupted:
            raise
        status = 130
    finally:
        if terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if caught:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left to do is to end
    return 130 if interrupted else status


if __name__ == "__main__":
    sys.exit(run())
