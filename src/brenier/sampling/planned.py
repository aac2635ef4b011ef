"""A schedule and its sampler as a scheduler of diffusers, for pipelines that take nothing but a number of steps.

Between two evaluations a pipeline holds what its network sees: c (X + sigma Z), c = alpha for chains and flow matching
and EDM's c_in. So pipelines that scale nothing (DDPM, DDIM, flow matching) and those that multiply by
`init_noise_sigma` and call `scale_model_input` go the same way. What the network returns becomes the posterior mean,
and our own solver (`steps`) makes the step: a pipeline ends where `brenier.sample` does.
"""

import inspect
import math
import warnings
from collections.abc import Sequence
from typing import Any, cast

import diffusers
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from brenier.networks.conventions import known_snr
from brenier.networks.diffusers.pipeline import START
from brenier.networks.diffusers.scheduler import EDM, FLOW, TABLE, Convention, config_of, flows, read_scheduler
from brenier.sampling.driver import check_grid
from brenier.sampling.turns import Turn, Walk, turns

WHOLE = 1e-3  # of a step, by which steps of a table are missed in rounding
OWN = ("sigmas", "solver", "trained_with")  # what the configuration has beside that of the network's own scheduler


class PlannedScheduler(SchedulerMixin, ConfigMixin):
    """Visits planned noise levels by the sampler that they were planned for, whatever number of steps it is asked for.

    Its configuration is that of the network's own scheduler, which pipelines read, and these:

    Args:
        sigmas: noise levels in x = X + sigma Z, descending; the last may be 0.
        solver: see `brenier.sampling.steps`.
        trained_with: the configuration of the scheduler that the network was trained with, with its `_class_name`.

    Attributes:
        timesteps: what the network is told at each evaluation. Samplers with several evaluations per step repeat times,
            as the Heun scheduler of diffusers does.
        order: evaluations per step.
        init_noise_sigma: what pipelines multiply unit noise by: 1 for those that do not.
        sigmas: the levels, as s for flow matching.
        trained: the scheduler that the network was trained with.

    Raises:
        ValueError: levels that the network does not know, or a scheduler that says nothing of posterior means.
    """

    _compatibles = sorted(TABLE | EDM | FLOW)  # whose options diffusers finds in a configuration without a warning

    @register_to_config
    def __init__(self, sigmas: Sequence[float], solver: str, trained_with: dict[str, Any]) -> None:
        title = str(trained_with.get("_class_name"))
        found: Any = getattr(diffusers, title, None)
        if not (inspect.isclass(found) and issubclass(found, SchedulerMixin)):
            raise ValueError(f"trained_with must be the configuration of a scheduler of diffusers, got {title!r}")
        self.trained: Any = found.from_config(trained_with)  # pyright: ignore[reportAttributeAccessIssue]
        read = read_scheduler(self.trained, "")
        if read.prediction == "score":
            raise ValueError(f"{title} steps in a way of its own, which its pipeline asks for: take brenier.sample")
        grid = [_within(sigma, read, title) for sigma in check_grid(sigmas)]
        self._read, self._walk, self._turns = read, Walk(grid, solver), turns(grid, solver)
        frames = [read.seen(turn.sigma) for turn in self._turns]
        self._factors = [factor for factor, _ in frames]
        self.order = max(sum(turn.step == step for turn in self._turns) for step in {turn.step for turn in self._turns})
        course = read.course(read.scale.low, read.scale.high)
        self.init_noise_sigma = self._factors[0] * (course.noise_at(grid[0]) or grid[0])
        self.sigmas = torch.tensor([s / (1 + s) for s in grid] if flows(self.trained) else grid)
        if hasattr(self.trained, "alphas_cumprod"):
            self.alphas_cumprod: Tensor = self.trained.alphas_cumprod
        self.timesteps = _times([t for _, t in frames])
        self.num_inference_steps: int | None = None
        self._index: int | None = None
        self._begin: int | None = None
        own = {name: value for name, value in config_of(self.trained).items() if name[0] != "_" and name not in OWN}
        self.register_to_config(**own)

    def __len__(self) -> int:
        """Steps of the network's training, as schedulers of diffusers have it."""
        return int(self.config.get("num_train_timesteps", 1000))

    @property
    def steps(self) -> int:
        """Grid intervals."""
        return len(self._walk.sigmas) - 1

    @property
    def step_index(self) -> int | None:
        """Evaluations that have been made, None before the first."""
        return self._index

    @property
    def begin_index(self) -> int | None:
        """The evaluation that the pipeline begins with, where it says so."""
        return self._begin

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin further down: image to image."""
        self._begin = begin_index

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        **others: Any,
    ) -> None:
        """Begin anew. The planned levels are visited, whatever is asked for.

        Warns:
            UserWarning: another number of steps is asked for.
        """
        del mu, others
        given = next((values for values in (timesteps, sigmas) if values is not None), None)
        asked = num_inference_steps if given is None else len(given)
        if asked not in (None, self.steps, len(self.timesteps)):
            warnings.warn(
                f"the schedule has {self.steps} steps, and they are taken, not {asked}: call the pipeline with "
                f"num_inference_steps={self.steps}",
                stacklevel=2,
            )
        self.timesteps = self.timesteps.to(device or "cpu")
        self.num_inference_steps, self._index, self._begin = self.steps, None, None

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The sample itself: it is what the network sees."""
        del timestep
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
        **others: Any,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """What the network sees next; after the last evaluation the point itself.

        Args:
            model_output: what the network returned; where it has twice the channels, the second half is left aside.
            timestep: what it was told.
            sample: what it saw.
            generator: of the noise, for samplers that draw some.
            return_dict: whether to return an object, and not a tuple.
            **others: of other schedulers (`eta`, ...), without a meaning here.
        """
        del others
        if self._index is None:
            self._index = self._first(timestep) if self._begin is None else self._begin
            self._walk.begin(self._turns[self._index].step)
        turn: Turn = self._turns[self._index]
        if model_output.shape[1] == 2 * sample.shape[1]:
            model_output = model_output[:, : sample.shape[1]]
        shape, dtype = sample.shape, sample.dtype
        wide = torch.promote_types(dtype, torch.float32)
        seen = sample.flatten(1).to(wide)
        clean = self._read.clean(model_output.flatten(1).to(wide), seen, turn.sigma)

        def draw(like: Tensor) -> Tensor:
            drawn = randn_tensor(shape, generator=cast(Any, generator), device=like.device, dtype=wide)
            return drawn.reshape(like.shape)

        x = self._walk.tell(seen / self._factors[self._index], clean, draw)
        self._index += 1
        factor = self._factors[self._index] if self._index < len(self._turns) else 1.0
        after, mean = ((factor * x).reshape(shape).to(dtype), clean.reshape(shape).to(dtype))
        return DDIMSchedulerOutput(prev_sample=after, pred_original_sample=mean) if return_dict else (after, mean)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network sees of these points at these times."""
        each = [self._first(t) for t in timesteps.reshape(-1)]

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values).to(original_samples).reshape(-1, *[1] * (original_samples.ndim - 1))

        factors = [self._factors[index] for index in each]
        noises = [factor * self._turns[index].sigma for factor, index in zip(factors, each, strict=True)]
        return column(factors) * original_samples + column(noises) * noise

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """`add_noise`, as pipelines of flow matching call it."""
        return self.add_noise(sample, noise, timestep.reshape(-1))

    def _first(self, timestep: float | Tensor) -> int:
        """The evaluation at this time, one that begins a step where there are several."""
        apart = [abs(float(t) - float(timestep)) for t in self.timesteps]
        near = [index for index, distance in enumerate(apart) if distance == min(apart)]
        return next((index for index in near if self._turns[index].first), near[0])


def install(sigmas: Sequence[float], solver: str, convention: str | None, pipeline: object) -> PlannedScheduler:
    """Put a schedule in the place of a pipeline's scheduler; see `Schedule.install`."""
    scheduler: Any = getattr(pipeline, "scheduler", None)
    if scheduler is None or not callable(pipeline):
        raise TypeError(f"pipeline must be one of diffusers, with a scheduler, got {type(pipeline).__name__}")
    trained: Any = getattr(scheduler, "trained", scheduler)
    read = read_scheduler(trained, "")
    if convention not in (None, read.name):
        warnings.warn(
            f"the schedule was planned for a network that is {convention}, and this one is {read.name}: its levels may "
            "not be those that suit it",
            stacklevel=3,
        )
    planned = PlannedScheduler(
        sigmas=[*sigmas], solver=solver, trained_with={**config_of(trained), "_class_name": type(trained).__name__}
    )
    begins = planned.init_noise_sigma
    if abs(begins - 1) > START and not _multiplies(pipeline):
        raise ValueError(
            f"{type(pipeline).__name__} starts from noise of deviation 1, and the schedule, at sigma = {sigmas[0]:.4g},"
            f" from {begins:.4g}: plan without sigma_max"
        )
    register: Any = getattr(pipeline, "register_modules", None)
    if callable(register):
        register(scheduler=planned)
    else:
        cast(Any, pipeline).scheduler = planned
    return planned


def _multiplies(pipeline: object) -> bool:
    """Whether a pipeline multiplies noise by `init_noise_sigma`, as its code has it."""
    try:
        return any("init_noise_sigma" in inspect.getsource(base) for base in type(pipeline).__mro__[:-1])
    except (OSError, TypeError):
        return True


def _within(sigma: float, read: Convention, title: str) -> float:
    """A level, moved to the end of the network's range that it misses by rounding only."""
    if sigma == 0:
        return 0.0
    known = known_snr(1 / sigma, read.scale.low, read.scale.high)
    if known is None:
        raise ValueError(
            f"{title} covers sigma from {1 / read.scale.high:.4g} to {1 / read.scale.low:.4g}, and the schedule goes to"
            f" {sigma:.4g}: plan for the pipeline's own network"
        )
    return 1 / known


def _times(times: Sequence[float]) -> Tensor:
    """Whole numbers where they are steps of a table, up to rounding."""
    whole = all(math.isclose(t, round(t), abs_tol=WHOLE) for t in times) and max(times) >= 1
    return torch.tensor([round(t) for t in times]) if whole else torch.tensor(times, dtype=torch.float32)
