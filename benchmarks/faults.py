"""Does every command that writes leave whole files behind, whatever happens to it?

Each command runs on small inputs, in a process of its own, over a folder in which its outputs stand already, and

    killed       is killed (SIGKILL)
    Ctrl-C       is interrupted (SIGINT)
    folder gone  finds its folder removed
    disk full    writes to a disk of a few kB, without outputs on it
    read-only    writes to a folder in which nobody may write
    at once      runs twice at the same time on the same names, with --force and then, without outputs, without it

The first three come at random moments: half of them anywhere in the life of the command, half after it has begun to
write. A fault is survived where afterwards every output is whole, the one from before or a new one; where nothing else
lies in the folder, but for drafts of a killed process, which the next run of the command removes; and where a command
that was not killed ended with status 0, 2 (with one line) or 130, and without a traceback. What is said is
survived/tried: a command that ended before its fault came does not count.

    python benchmarks/faults.py                       # 20 moments each: about an hour on one core
    python benchmarks/faults.py 3 probe train         # three moments, two of the commands

Processes are forks of this one, so that moments fall into work and not into imports. Checkpoints are written every
tenth of a second instead of every minute. Disks are small tmpfs, for which one has to be root; without, no file may be
larger than such a disk, and a folder is made read-only by its permissions.
"""

import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import numpy as np
from diffusers import DDIMScheduler
from PIL import Image
from rich.console import Console
from rich.table import Table

from brenier import __main__
from brenier.cli.outputs import read_result
from brenier.core import work
from brenier.networks.saved import is_checkpoint, load
from brenier.training import run as training
from brenier.training.checkpoint import read_progress

COMMANDS = {
    "probe": "probe data.npy --queries 20 --snr 1,2 -o a.nc --figure a.png",
    "chain": "chain two-points --steps 4 --particles 64 -o a.nc --figure a.svg",
    "plan": "plan data.npy --steps 4 --criterion karras --pilots 16 -o a.json --figure a.pdf",
    "sample": "sample data.npy -n 2000 --steps 4 --criterion karras -o a.npy",
    "express": "express data.npy -n 2000 --steps 3 --criterion karras --handover 1 --tolerance 0.1 -o a.npy --map b.nc",
    "compare": "compare data.npy --steps 3 --criteria karras --pilots 32 -o a.nc --figure a.png",
    "evaluate": "evaluate data.npy --reference other.npy -o a.json --figure a.png",
    "transport": "transport data.npy --tolerance 0.01 --samples 20000 -o a.nc --figure a.png",
    "flow": "flow data.npy --steps 8 --units 8 --samples a.npy -n 2000 -o b.nc --figure a.png",
    "train": "train data.npy --steps 300 --batch 32 --width 8 --depth 1 --device cpu --checkpoint-every 10 -o net",
    "calibrate": "calibrate digits-network --queries 16 --snr 1 -o a.nc --figure a.png",
    "reproduce": "reproduce fig1 -o .",
    "audit": "audit pipeline --steps 8 -o a.nc --figure a.png",
    "show": "show saved.nc --figure a.png --table a.csv",
}
INPUTS = ("data.npy", "other.npy", "saved.nc", "pipeline")
FAULTS = ("killed", "Ctrl-C", "folder gone", "disk full", "read-only", "at once")
DRAFT = re.compile(r"\..*\.brenier-[0-9a-f]{12}\..*")
SIZES = (4, 12, 28, 60, 124)  # kB


def command(name: str, inputs: Path) -> list[str]:
    """Its arguments, with where the inputs are."""
    return [str(inputs / word) if word in INPUTS else word for word in shlex.split(COMMANDS[name])]


def start(arguments: list[str], folder: Path, most: int | None = None) -> tuple[int, Path]:
    """The number of a process that runs the command in the folder, and the file of its messages."""
    messages = Path(tempfile.mkstemp(suffix=".err")[1])
    child = os.fork()
    if child:
        return child, messages
    status, begun = 70, False
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(messages, os.O_WRONLY), 2)
        os.chdir(folder)
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        sys.argv = ["brenier", *arguments]
        begun = True
        status = __main__.run()
    except BaseException:  # noqa: BLE001 - it is what a traceback would have been
        status = status if begun else 130  # interrupted here, before there was a command
        if begun:
            traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def finish(child: int, messages: Path) -> tuple[int, str]:
    """The status of a process, negative for a signal, and what it said on stderr."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = messages.read_text()
    messages.unlink()
    return status, text


def running(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None


def whole(path: Path) -> bool:
    """Whether an output is all there."""
    try:
        match path.suffix:
            case "":
                states = (path / "state.safetensors").exists(), (path / "model.safetensors").exists()
                _ = states[0] and read_progress(path), states[1] and load(path)
                return is_checkpoint(path)
            case ".npy":
                return len(np.load(path)) > 0
            case ".png":
                Image.open(path).load()
                return True
            case ".pdf":
                return path.read_bytes().rstrip().endswith(b"%%EOF")
            case ".svg" | ".csv":
                return path.read_text().endswith("</svg>\n" if path.suffix == ".svg" else "\n")
            case ".json":
                return bool(json.loads(path.read_text()))
            case _:
                return read_result(path) is not None
    except (ValueError, OSError):
        return False


def wrong(folder: Path, outputs: set[str], status: int, text: str, *, there: bool, drafts: bool = False) -> str:
    """What is wrong after a fault; empty for nothing. `there`: outputs have to exist. `drafts`: they may be left."""
    if status == -signal.SIGKILL:
        text = ""
    elif status not in (0, 2, 130):
        return f"status {status}: {text[-500:]}"
    lines = [line for line in text.splitlines() if not line.startswith("brenier: warning:")]
    if "Traceback" in text or (status == 2 and len(lines) != 1):
        return f"status {status}: {text[-500:]}"
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    nested = {path.name for path in (folder / "net").iterdir()} if "net" in names else set[str]()
    left = {name for name in names - outputs | nested if not drafts or not DRAFT.fullmatch(name)}
    left -= {"config.json", "state.safetensors", "model.safetensors", "history.csv"}
    if left:
        return f"left: {sorted(left)}"
    if there and not outputs <= names:
        return f"gone: {sorted(outputs - names)}"
    broken = [name for name in sorted(outputs & names) if not whole(folder / name)]
    return f"not whole: {broken}" if broken else ""


@contextmanager
def disk(folder: Path, kilobytes: int | None) -> Generator[bool, None, None]:
    """The folder as a disk of its own of so many kB, or as a read-only one; whether that was allowed."""
    size = "ro" if kilobytes is None else f"size={kilobytes}k"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=False, capture_output=True)
    mounted = done.returncode == 0
    if kilobytes is None and not mounted:
        folder.chmod(0o555)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)
        folder.chmod(0o755)


class Trials:
    """All faults of one command."""

    def __init__(self, name: str, inputs: Path, moments: int, random_numbers: random.Random) -> None:
        self.arguments = command(name, inputs)
        self.folder, self.moments, self.random = Path(tempfile.mkdtemp()), moments, random_numbers
        self.kept = Path(tempfile.mkdtemp()) / "kept"
        begun = time.monotonic()
        status, text = finish(*start(self.arguments, self.folder))
        assert status == 0, text
        self.seconds = time.monotonic() - begun
        self.outputs = {path.name for path in self.folder.iterdir()}
        shutil.copytree(self.folder, self.kept)
        self.counts = dict.fromkeys(FAULTS, (0, 0))

    def count(self, fault: str, problem: str) -> None:
        """Count a fault, and say what was wrong after it."""
        survived, tried = self.counts[fault]
        self.counts[fault] = (survived + (not problem), tried + 1)
        if problem:
            print(f"{self.arguments[0]}, {fault}: {problem}", file=sys.stderr, flush=True)

    def restore(self, empty: bool = False) -> None:
        """Have the outputs from before in the folder, and nothing else."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if empty:
            self.folder.mkdir()
        else:
            shutil.copytree(self.kept, self.folder)

    def struck(self, fault: str, strike: Callable[[int], object], k: int) -> tuple[int, str] | None:
        """Run the command until the fault strikes; None where it had ended before."""
        child, messages = start([*self.arguments, "--force"], self.folder)
        moment = time.monotonic() + self.seconds * (k + self.random.random()) / self.moments
        writes = k % 2 == 1
        while running(child):
            drafts = writes and any(".brenier-" in path.name for path in self.folder.rglob(".*"))
            if drafts:
                time.sleep(self.random.choice((0, 1e-3, 1e-2, 5e-2)) * self.random.random())
            if drafts or (not writes and time.monotonic() > moment):
                hit = running(child)
                strike(child)
                found = finish(child, messages)
                return found if hit else None
            time.sleep(2e-4)
        finish(child, messages)
        return None

    def strikes(self) -> None:
        """Faults at random moments."""
        for fault, number in (("killed", signal.SIGKILL), ("Ctrl-C", signal.SIGINT)):
            self.restore()
            for k in range(self.moments):
                found = self.struck(fault, lambda child, number=number: os.kill(child, number), k)
                if found is not None:
                    killed = fault == "killed"
                    self.count(fault, wrong(self.folder, self.outputs, *found, there=True, drafts=killed))
            found = finish(*start([*self.arguments, "--force"], self.folder))  # which removes what is left
            if problem := wrong(self.folder, self.outputs, *found, there=True):
                self.count(fault, problem)
        for k in range(self.moments):
            self.restore()
            found = self.struck("folder gone", lambda _: shutil.rmtree(self.folder, ignore_errors=True), k)
            if found is not None:
                shutil.rmtree(self.folder, ignore_errors=True)  # files that were made while it was removed
                self.count("folder gone", wrong(self.folder, self.outputs, *found, there=False))

    def disks(self) -> None:
        """Disks that are full or read-only."""
        for size in (*SIZES, None):
            self.restore(empty=True)
            with disk(self.folder, size) as mounted:
                most = None if mounted or size is None else 1024 * size
                found = finish(*start(self.arguments, self.folder, most))
                problem = wrong(self.folder, self.outputs, *found, there=found[0] == 0)
                self.count("read-only" if size is None else "disk full", problem)

    def pairs(self) -> None:
        """Two at once: with --force both may write; without, one, and the other is refused."""
        for k in range(6):
            self.restore(empty=k >= 3)
            arguments = [*self.arguments, *(["--force"] if k < 3 else [])]
            pair = [start(arguments, self.folder) for _ in range(2)]
            ends = [finish(*process) for process in pair]
            problem = next((bad for end in ends if (bad := wrong(self.folder, self.outputs, *end, there=True))), "")
            allowed = ([0, 0], [0, 2]) if k < 3 else ([0, 2],)
            statuses = sorted(status for status, _ in ends)
            self.count("at once", problem or ("" if statuses in allowed else f"statuses {statuses}: {ends}"))


ALL = """
import json, sys
from brenier.cli import main
for words in json.loads(sys.argv[1]):
    main(words)
print(*sys.modules, file=sys.stderr)
"""


def preload(commands: list[list[str]]) -> None:
    """Import here what the commands import, so that their processes need not."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", ALL, json.dumps(commands)]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    for module in done.stderr.splitlines()[-1].split():
        if module not in ("__main__", "brenier.__main__"):
            with suppress(Exception):
                import_module(module)


def main(moments: int = 20, *names: str) -> None:
    """Print the table."""
    inputs = Path(tempfile.mkdtemp())
    generator = np.random.default_rng(0)
    for name in INPUTS[:2]:
        np.save(inputs / name, generator.normal(size=(60, 2)).astype(np.float32))
    DDIMScheduler(timestep_spacing="trailing").save_pretrained(inputs / "pipeline")
    status, text = finish(*start(shlex.split(f"probe {inputs / 'data.npy'} --queries 20 --snr 1 -o saved.nc"), inputs))
    assert status == 0, text
    work.CHECKPOINT_SECONDS = training.CHECKPOINT_SECONDS = 0.1
    chosen = list(names or COMMANDS)
    preload([command(name, inputs) for name in chosen])
    table = Table("command", *FAULTS, title=f"faults survived/tried, {moments} moments")
    total = dict.fromkeys(FAULTS, (0, 0))
    for name in chosen:
        trials = Trials(name, inputs, moments, random.Random(0))
        trials.strikes()
        trials.disks()
        trials.pairs()
        table.add_row(name, *(f"{survived}/{tried}" for survived, tried in trials.counts.values()))
        total = {f: (total[f][0] + trials.counts[f][0], total[f][1] + trials.counts[f][1]) for f in FAULTS}
        print(name, trials.counts, file=sys.stderr, flush=True)
    table.add_row("all", *(f"{survived}/{tried}" for survived, tried in total.values()))
    Console(width=110).print(table)


if __name__ == "__main__":
    main(*(int(word) if word.isdigit() else word for word in sys.argv[1:]))  # type: ignore[arg-type]
