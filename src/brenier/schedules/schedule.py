"""A schedule: the noise levels that a sampler visits, how they were chosen, and what error they are predicted to leave."""

from dataclasses import dataclass

from brenier.samplers.steps import SolverName


@dataclass(frozen=True)
class Schedule:
    """Noise levels for a sampler.

    Attributes:
        sigmas: descending; the last may be 0. In the variable x = X + sigma Z, in the unit of the data.
        solver: the sampler that they were made for.
        criterion: how they were chosen.
        predicted_error: share of each step in the predicted end error, in the unit of the data; they add up to it.
        target: name of the law that they were made for.
        seed: of the pilots.
        evaluations: of the denoiser that planning took.
    """

    sigmas: tuple[float, ...]
    solver: SolverName
    criterion: str
    predicted_error: tuple[float, ...] | None = None
    target: str | None = None
    seed: int | None = None
    evaluations: int | None = None

    @property
    def steps(self) -> int:
        """Number of grid intervals."""
        return len(self.sigmas) - 1
