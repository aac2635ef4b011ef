"""One run of training: steps, averages of weights, checkpoints."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from brenier.core.random import spawned_seeds
from brenier.core.reading.files import exists
from brenier.networks.saved import CONFIG, empty_model
from brenier.training.checkpoint import STATE, read_state, write_checkpoint, write_config
from brenier.training.history import History, loss_bar
from brenier.training.objectives import Objective
from brenier.training.points import Moments
from brenier.training.settings import Settings
from brenier.training.workers import Workers

WARMUP = 200  # steps over which the learning rate rises, or a tenth of all where that is less
AVERAGE_AGE = 10  # the average forgets its first steps faster: decay (1 + k)/(AVERAGE_AGE + k)
BETAS = (0.9, 0.99)
CHECKPOINT_SECONDS = 60.0
# With a budget of minutes: the speed is measured over this share of it, and so much of it is planned with.
MEASURED, PLANNED = 0.05, 0.95
MEASURED_SECONDS, LEAST_MEASURED = 20.0, 5


class Run:
    """The weights, their average, the optimiser and the losses, from one step to the next."""

    def __init__(
        self, objective: Objective, moments: Moments, config: dict[str, Any], settings: Settings, workers: Workers
    ) -> None:
        self.settings, self.workers, self.objective = settings, workers, objective
        self.steps = settings.steps  # None until they are planned
        self.done = 0
        self.history = History(objective.noise)
        if self.batch_share * workers.count != settings.batch:
            raise ValueError(f"batch {settings.batch} cannot be shared by {workers.count} processes: give a multiple")
        if (settings.plan_size or 0) > self.batch_share:
            whose = f"batch of {settings.batch}" if workers.count == 1 else f"share of a process, {self.batch_share}"
            raise ValueError(f"plan_size {settings.plan_size} is more than the {whose}: give fewer, or a larger batch")
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(spawned_seeds(settings.seed, 0, 0)[0])  # as if in a step 0
            self.model = empty_model(config)
        self.model.get_buffer("centre").copy_(moments.centre)
        self.model.to(workers.device)
        self.shared = workers.share(self.model)
        self.weights = dict(self.model.named_parameters())
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.optimiser = torch.optim.Adam(self.weights.values(), betas=BETAS, fused=True)
        self.updating = False
        self._begun: dict[str, Any] | None = None  # a config that waits for the first checkpoint

    @property
    def batch_share(self) -> int:
        """Points of a step that are this process's."""
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
        with loss_bar("training", progress and self.workers.main) as tell, self._arithmetic():
            try:
                while self.done != self.steps:
                    loss = self._step()
                    if on_step is not None:
                        on_step(self.done, loss)
                    tell(pace.share(self.done, self.steps), self.history)
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
        settings = self.settings
        seeds, after = (spawned_seeds(settings.seed, self.done + k, self.workers.rank, count=3) for k in (1, 2))
        with self._autocast():
            losses, sigma = self.objective(self.shared, self.model.get_buffer("sigma_data"), self.batch_share, seeds)
        if self.done + 1 != self.steps:
            self.objective.prepare(self.batch_share, after)
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
            group["lr"] = learning_rate(settings, self.done, self.steps)
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
        state = {"step": torch.tensor(self.done), "steps": torch.tensor(self.steps or -1)} | self.history.state()
        for name, weight in self.weights.items():
            state["weights." + name] = weight
            state["average." + name] = self.average[name]
            state["first." + name] = self.optimiser.state[weight]["exp_avg"]
            state["second." + name] = self.optimiser.state[weight]["exp_avg_sq"]
        model = self.model.state_dict() | self.average
        write_checkpoint(folder, state, model, self.history.text(), self._begun)
        self._begun = None

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
        self.objective.skip(self.done * self.settings.batch)

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
        return f"step {self.done + 1}: {where}: give a smaller learning rate, or check the data"


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


def learning_rate(settings: Settings, step: int, steps: int | None) -> float:
    """Learning rate of step `step`, counted from 0."""
    warmup = WARMUP if steps is None else min(WARMUP, steps // 10)
    rate = settings.learning_rate * min(1.0, (step + 1) / (warmup + 1))
    if settings.decay == "cosine" and steps is not None:
        rate *= (1 + math.cos(math.pi * step / steps)) / 2
    return rate
