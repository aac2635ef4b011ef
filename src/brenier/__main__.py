"""The `brenier` command, as a script and as `python -m brenier`. Ctrl-C ends it quietly from the first line on.

Threads that wait for each other sleep (`OMP_WAIT_POLICY`), unless the environment says otherwise: by torch's default
they spin, and where another process has one of the cores, commands then take up to ten times as long.
"""

import os
import signal
import sys
from types import FrameType


def leave() -> None:
    """End at once, without drafts of files."""
    if "brenier.core.writing" in sys.modules:
        for draft in sys.modules["brenier.core.writing"].DRAFTS:
            draft.unlink(missing_ok=True)
    os._exit(130)


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

    caught = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # and not ignored, as behind nohup
    if caught:
        signal.signal(signal.SIGINT, interrupt)
    try:
        from brenier.cli import main

        status = main()
    except BaseException:
        if not interrupted:
            raise
        status = 130
    finally:
        if caught:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left to do is to end
    return 130 if interrupted else status


if __name__ == "__main__":
    sys.exit(run())
