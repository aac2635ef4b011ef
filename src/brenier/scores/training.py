"""Denoising score matching: minimise E w(sigma) |D(X + sigma Z; sigma) - X|^2 over networks D.

The minimiser is the posterior mean. Preconditioning and weights are EDM's (Karras et al., arXiv:2206.00364): the loss
is the error of the inner network F at every noise level. What a run yields is the average of its weights.

Step k draws its points, noise and noise levels from a seed made of the run's seed and k, and a checkpoint holds all
that step k left behind. Hence a run that was stopped or killed, and resumed with as many threads, ends in the same
bytes.
"""

import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from brenier.files import exists
from brenier.scores.checkpoint import (
    CONFIG,
    STATE,
    empty_denoiser,
    is_checkpoint,
    load,
    read_config,
    read_state,
    readable,
    write_checkpoint,
    write_config,
)
from brenier.scores.history import History, loss_bar
from brenier.scores.networks import Denoiser, build, weighted_loss
from brenier.scores.noise import NoiseLevels, read_profile
from brenier.scores.points import Moments, Points
from brenier.scores.settings import Settings, architecture, check_settings, contradiction
from brenier.scores.workers import Workers
from brenier.targets.base import Target
from brenier.targets.catalog import Source, load_target
from brenier.targets.empirical import Empirical
from brenier.targets.network import NetworkTarget

Noise: TypeAlias = str | os.PathLike[str] | xr.Dataset | None

WARMUP = 200  # steps over which the rate rises, or a tenth of all where that is less
AVERAGE_AGE = 10  # the average forgets its first steps faster: decay (1 + k)/(AVERAGE_AGE + k)
BETAS = (0.9, 0.99)
CHECKPOINT_SECONDS = 60.0
LOG_NORMAL = "log-normal"
OTHER = "give the data that it was begun with"
# With a budget of minutes: the speed is measured over this share of it, and so much of it is planned with.
MEASURED, PLANNED = 0.05, 0.95
MEASURED_SECONDS, LEAST_MEASURED = 20.0, 5


def train(
    data: Source,
    output: str | os.PathLike[str],
    *,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    channels: tuple[int, ...] | None = None,
    rate: float | None = None,
    schedule: str | None = None,
    clip: float | None = None,
    ema: float | None = None,
    noise: Noise = None,
    seed: int | None = None,
    device: torch.device | str | None = None,
    precision: str | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    on_step: Callable[[int, float], object] | None = None,
) -> NetworkTarget:
    """Train a denoising network on data, or on an explicit law that is sampled afresh at every step.

    Settings that are None take their defaults; in a resumed run, the values that it was begun with.

    Args:
        data: a law, or what `load_target` takes: a built-in's name, a file, a folder of images, an array.
        output: folder of the network, made here: see `brenier.scores.checkpoint` for what it holds.
        steps: updates of the weights. Default: 10,000.
        minutes: clock time that one call may take. Without `steps`, their number is planned from the speed of the first
            ones, and kept: a resumed run follows the same rates. In any case the clock stops the run, behind a
            checkpoint that it can be resumed from.
        batch: points per step, over all processes. Default: 1024 (MLP), 64 (U-Net).
        width: of the MLP's layers; 128.
        depth: blocks of the MLP, 4, or layers per size of the U-Net, 2.
        channels: of the U-Net, size by size, multiples of 8; (64, 128, 128). Points of shape (h, w) or (c, h, w), h and
            w at least 16, get a U-Net unless `width` is given; all others an MLP unless `channels` are.
        rate: of Adam, after warming up. Default: 5e-3 (MLP), 2e-4 (U-Net).
        schedule: "cosine" lets the rate fall to 0 at the last step; "constant".
        clip: largest norm of the gradient; 1.
        ema: decay per step of the average of the weights; 0.999, less in the first thousands of steps.
        noise: "log-normal" or a profile, of `brenier.probe` or its file: see `brenier.scores.noise`.
        seed: of every random number; 0.
        device: Default: a GPU where there is one. Under `accelerate launch`, accelerate chooses.
        precision: "float32"; "bfloat16", which leaves weights, their updates and sums in float32; "auto", bfloat16 on
            GPUs that have it.
        checkpoint_every: steps between checkpoints. Default: one a minute.
        resume: go on from the last checkpoint in `output`; from the beginning if it was stopped before the first.
        force: replace a network in `output`.
        progress: show a bar with the loss per band of SNRs on stderr, where that is a terminal.
        on_step: called after each step with its number, counted from 1, and its mean loss.

    Returns:
        The network, as `load` returns it, with queries drawn from `data`.

    Raises:
        ValueError: a setting is out of range; `output` exists; a resumed run contradicts its beginning; the loss is
            not finite (the last checkpoint stays).
        KeyboardInterrupt: Ctrl-C. The steps that are done are in a checkpoint, except when it fell into an update of
            the weights: then the last checkpoint stays.
    """
    started = time.monotonic()
    if resume and force:
        raise ValueError("resume goes on with what is there, force replaces it: give one of the two")
    options = {
        "steps": steps,
        "minutes": minutes,
        "batch": batch,
        "width": width,
        "depth": depth,
        "channels": channels,
        "rate": rate,
        "schedule": schedule,
        "clip": clip,
        "ema": ema,
        "seed": seed,
        "precision": precision,
    }
    asked = {name: value for name, value in options.items() if value is not None}
    check_settings(asked | ({} if checkpoint_every is None else {"checkpoint_every": checkpoint_every}))
    folder = Path(output)
    if not resume:
        check_folder(folder, force)
    law = load_target(data, device=device)
    if isinstance(law, NetworkTarget):
        raise ValueError(f"{law.name} is a network itself: give data or a law to train on")
    moments = Moments.of(law)
    config = _continued(folder, law, moments, asked, noise) if resume else _begun(law, moments, asked, noise)
    workers = Workers(None if device is None else torch.device(device))
    with readable(folder / CONFIG):
        settings = Settings(**config["training"])
    limit = settings.minutes if minutes is None else minutes
    run = _Run(law, moments, config, settings, workers)
    created = not exists(folder)
    try:
        if resume:
            run.restore(folder)
        elif workers.main:
            folder.mkdir(exist_ok=True)
            run.begin(folder, config)
        workers.wait()
        deadline = math.inf if limit is None else started + 60 * limit
        run.run(folder, started, deadline, checkpoint_every, progress, on_step)
    except BaseException:
        if not resume and workers.main and not exists(folder / STATE):
            _remove(folder, created)
        raise
    workers.wait()
    return load(folder, law, device=workers.device)


class _Run:
    """The weights, their average, the optimiser and the losses, from one step to the next."""

    def __init__(
        self, law: Target, moments: Moments, config: dict[str, Any], settings: Settings, workers: Workers
    ) -> None:
        self.settings, self.workers = settings, workers
        self.steps = settings.steps  # None until they are planned
        self.done = 0
        self.noise = NoiseLevels.from_config(config["noise"])
        self.history = History(self.noise)
        self.points = Points(law, workers.device)
        if self.batch_share * workers.count != settings.batch:
            raise ValueError(f"batch {settings.batch} cannot be shared by {workers.count} processes: give a multiple")
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(_seeds(settings.seed, 0, 0)[0])
            network = build(config["network"], law.event_shape)
        self.denoiser = Denoiser(network, moments.centre, moments.deviation).to(workers.device)
        self.shared = workers.share(self.denoiser)
        self.weights = dict(self.denoiser.named_parameters())
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.optimiser = torch.optim.Adam(self.weights.values(), betas=BETAS, fused=True)
        self.updating = False
        self._begun: dict[str, Any] | None = None  # a config that waits for the first checkpoint

    @property
    def batch_share(self) -> int:
        return self.settings.batch // self.workers.count

    def run(
        self,
        folder: Path,
        started: float,
        deadline: float,
        every: int | None,
        progress: bool,
        on_step: Callable[[int, float], object] | None,
    ) -> None:
        """Train until the last step, or until the clock has run out."""
        pace = _Pace(started, deadline)
        saved, saved_at = self.done or -1, time.monotonic()
        with loss_bar("training", progress and self.workers.main) as bar, self._arithmetic():
            try:
                while self.done != self.steps:
                    loss = self._step()
                    if on_step is not None:
                        on_step(self.done, loss)
                    bar.show(pace.share(self.done, self.steps), self.history)
                    now = time.monotonic()
                    due = now > saved_at + CHECKPOINT_SECONDS if every is None else self.done % every == 0
                    if self.steps is None:
                        self.steps = self.workers.agree(pace.plan(self.done)) or None
                        due = due or self.steps is not None
                    over = bool(self.workers.agree(int(now > deadline)))
                    if due and not over and self.done != self.steps:
                        self.save(folder)
                        saved, saved_at = self.done, time.monotonic()
                    if over:
                        break
            except KeyboardInterrupt:
                if not self.updating and self.done > 0:
                    self.save(folder)
                raise
            if saved != self.done:
                self.save(folder)
        self.workers.wait()

    def _step(self) -> float:
        """One update of the weights; the mean loss before it."""
        settings, device = self.settings, self.workers.device
        first, second, third = _seeds(settings.seed, self.done + 1, self.workers.rank)
        x = self.points.batch(self.batch_share, first)
        sigma = self.noise.sample(self.batch_share, torch.Generator(device).manual_seed(second))
        z = torch.randn(x.shape, generator=torch.Generator(device).manual_seed(third), device=device)
        with self._autocast():
            losses = weighted_loss(self.shared, x, z, sigma, self.denoiser.get_buffer("sigma_data"))
        sums = self.workers.total(self.history.sums(losses, sigma))
        total = (sums[0].sum() / sums[1].sum()).item()
        if not math.isfinite(total):
            raise ValueError(self._not_finite(sums))
        self.optimiser.zero_grad()
        losses.mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), settings.clip)
        if not math.isfinite(norm.item()):
            raise ValueError(self._not_finite(sums))
        self.updating = True
        for group in self.optimiser.param_groups:
            group["lr"] = _rate(settings, self.done, self.steps)
        self.optimiser.step()
        decay = min(settings.ema, (1 + self.done) / (AVERAGE_AGE + self.done))
        for name, weight in self.weights.items():
            self.average[name].lerp_(weight.detach(), 1 - decay)
        self.done += 1
        self.history.add(sums, self.done, self.done == self.steps)
        self.updating = False
        return total

    def begin(self, folder: Path, config: dict[str, Any]) -> None:
        """Write the config; where it replaces another network, with the first checkpoint, and not before."""
        if exists(folder / STATE):
            self._begun = config
        else:
            write_config(folder, config)

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        if not self.workers.main:
            return
        if self._begun is not None:
            write_config(folder, self._begun)
            self._begun = None
        state = {"step": torch.tensor(self.done), "steps": torch.tensor(self.steps or -1)} | self.history.state()
        for name, weight in self.weights.items():
            state["weights." + name] = weight
            state["average." + name] = self.average[name]
            state["first." + name] = self.optimiser.state[weight]["exp_avg"]
            state["second." + name] = self.optimiser.state[weight]["exp_avg_sq"]
        model = self.denoiser.state_dict() | self.average
        write_checkpoint(folder, state, model, self.history.text())

    def restore(self, folder: Path) -> None:
        """Take up the last checkpoint, if there is one."""
        state = read_state(folder)
        if state is None:
            return
        file = folder / STATE
        try:
            self.done, steps = int(state["step"]), int(state["steps"])
            self.history.restore(state)
            for name, weight in self.weights.items():
                first, second = torch.zeros_like(weight), torch.zeros_like(weight)
                places = {"weights": weight.data, "average": self.average[name], "first": first, "second": second}
                for part, place in places.items():
                    saved = state[f"{part}.{name}"]
                    if saved.shape != place.shape:
                        raise ValueError(f"{str(file)!r} does not fit {CONFIG}: {part}.{name} is of another shape")
                    place.copy_(saved)
                step = torch.tensor(float(self.done), device=weight.device)
                self.optimiser.state[weight] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        except KeyError as error:
            raise ValueError(f"{str(file)!r} does not fit {CONFIG}: it holds no {error.args[0]!r}") from None
        self.steps = self.steps if steps < 0 else steps

    def _arithmetic(self) -> Any:
        """cuDNN's repeatable kernels on a GPU."""
        if self.workers.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(deterministic=True, benchmark=False)

    def _autocast(self) -> Any:
        kind, precision = self.workers.device.type, self.settings.precision
        if precision == "auto":
            precision = "bfloat16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "float32"
        return torch.autocast(kind, torch.bfloat16) if precision == "bfloat16" else nullcontext()

    def _not_finite(self, sums: Tensor) -> str:
        bad = (~sums[0].isfinite()).nonzero().flatten().tolist()
        where = f"the loss is not finite at {self.history.names()[bad[0]]}" if bad else "the gradient is not finite"
        return f"step {self.done + 1}: {where}: give a smaller rate, or check the data"


class _Pace:
    """How many steps fit into a budget of time."""

    def __init__(self, started: float, deadline: float) -> None:
        self._started, self._deadline = started, deadline
        self._marks: list[tuple[int, float]] = []

    def plan(self, done: int) -> int:
        """Steps in all, once the speed is known; before, 0."""
        self._marks.append((done, time.monotonic()))
        (first, begin), (last, now) = self._marks[min(1, len(self._marks) - 1)], self._marks[-1]
        measured = min(MEASURED * (self._deadline - self._started), MEASURED_SECONDS)
        if last - first < LEAST_MEASURED or now - begin < measured:
            return 0
        left = PLANNED * (self._deadline - self._started) - (now - self._started)
        return done + max(1, int(left * (last - first) / (now - begin)))

    def share(self, done: int, steps: int | None) -> float:
        """Share of the work that is done."""
        if steps is not None:
            return done / steps
        return (time.monotonic() - self._started) / (self._deadline - self._started)


def _seeds(seed: int, step: int, rank: int) -> list[int]:
    """Seeds of the streams of one step (0: the weights' start) in one process."""
    return [int(word) for word in np.random.SeedSequence(seed, spawn_key=(step, rank)).generate_state(3, np.uint64)]


def _rate(settings: Settings, step: int, steps: int | None) -> float:
    """Learning rate of step `step`, counted from 0."""
    warmup = WARMUP if steps is None else min(WARMUP, steps // 10)
    rate = settings.rate * min(1.0, (step + 1) / (warmup + 1))
    if settings.schedule == "cosine" and steps is not None:
        rate *= (1 + math.cos(math.pi * step / steps)) / 2
    return rate


def _begun(law: Target, moments: Moments, asked: dict[str, Any], noise: Noise) -> dict[str, Any]:
    """The config of a new run."""
    network = architecture(asked, law.event_shape)
    return {
        "data": _described(law) | {"sigma_data": moments.deviation},
        "network": network,
        "noise": _noise(NoiseLevels.of_law(law, moments.deviation), noise).config(),
        "training": Settings.of(asked, network["kind"]).config(),
    }


def _described(law: Target) -> dict[str, Any]:
    points = len(law) if isinstance(law, Empirical) else None
    return {"name": law.name, "event_shape": list(law.event_shape), "points": points}


def _noise(levels: NoiseLevels, noise: Noise) -> NoiseLevels:
    """The levels that the argument `noise` of `train` stands for."""
    if noise is None or (isinstance(noise, str) and noise == LOG_NORMAL):
        return levels
    return levels.with_profile(noise if isinstance(noise, xr.Dataset) else read_profile(Path(noise)))


def _continued(folder: Path, law: Target, moments: Moments, asked: dict[str, Any], noise: Noise) -> dict[str, Any]:
    """The config of the run in `folder`, where this call goes on with it."""
    config = read_config(folder)
    with readable(folder / CONFIG):
        empty_denoiser(config)
        levels = NoiseLevels.from_config(config["noise"])
    begun = config["data"]
    for name, value in _described(law).items():
        if name != "name" and value != begun.get(name):
            raise ValueError(
                f"{law.name} has {name} {value}, {str(folder)!r} was begun with {begun.get(name)}: {OTHER}"
            )
    mine, other = moments.deviation, float(begun["sigma_data"])
    if not math.isclose(mine, other, rel_tol=1e-6):
        raise ValueError(f"{law.name} has sigma_data {mine:g}, {str(folder)!r} was begun with {other:g}: {OTHER}")
    difference = contradiction(asked, config["training"] | config["network"])
    if difference is None and noise is not None and _noise(NoiseLevels(levels.mean, levels.std), noise) != levels:
        difference = "noise is another distribution than the run was begun with"
    if difference is not None:
        raise ValueError(f"cannot resume {str(folder)!r}: {difference}: leave it out")
    return config


def check_folder(folder: Path, force: bool) -> None:
    """Refuse a folder that cannot be made, or that holds anything but a network to be replaced."""
    if not exists(folder.parent):
        raise ValueError(f"{str(folder)!r}: the folder {str(folder.parent)!r} does not exist: make it first")
    if not exists(folder):
        return
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is a file: give the name of a folder")
    if is_checkpoint(folder):
        if not force:
            raise ValueError(f"{str(folder)!r} exists: resume it (--resume), or replace it (--force)")
    elif any(folder.iterdir()):
        raise ValueError(f"{str(folder)!r} exists, and what it holds is no network of brenier's: give another folder")


def _remove(folder: Path, created: bool) -> None:
    """Take back a folder in which nothing was trained."""
    with suppress(OSError):
        (folder / CONFIG).unlink(missing_ok=True)
        if created:
            folder.rmdir()
