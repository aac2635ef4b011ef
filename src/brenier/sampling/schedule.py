"""A schedule: the noise levels that a sampler visits, how they were chosen, and the error that they should leave."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brenier.core import records
from brenier.core.checks import whole_number
from brenier.core.reading.files import line
from brenier.core.writing import atomic_path
from brenier.laws.base import Target
from brenier.networks.diffusers import timesteps
from brenier.sampling.driver import check_grid
from brenier.sampling.steps import SolverName, evaluations, find_solver

if TYPE_CHECKING:
    import xarray as xr

    from brenier.sampling.planned import PlannedScheduler

REQUIRED = ("sigmas", "solver", "criterion")


@dataclass(frozen=True, init=False)
class Schedule:
    """Noise levels for a sampler.

    Attributes:
        sigmas: at least two, finite and descending; the last may be 0. In the variable x = X + sigma Z, in the unit of
            the data.
        solver: the sampler that they were made for.
        criterion: how they were chosen.
        predicted_error: share of each step in the predicted end error, in the unit of the data; they add up to it.
        end_error_se: standard error of their sum.
        objective: what criterion "error" made small, see `plan`.
        predicted_objective: what it is predicted to be, in the unit of the data: of "typical" the median distance to
            the exact end point, of "law" the sliced W2 between the laws of both, times sqrt(d). None for "error", whose
            value is `end_error`.
        predicted_objective_se: its standard error.
        law: name of the law that they were made for.
        seed: of the pilots.
        evaluations: of the denoiser that planning took.
        convention: of the network that they were made for: what it predicts from what, see `conventions.describe`.
    """

    sigmas: tuple[float, ...]
    solver: SolverName
    criterion: str
    predicted_error: tuple[float, ...] | None = None
    end_error_se: float | None = None
    objective: str | None = None
    predicted_objective: float | None = None
    predicted_objective_se: float | None = None
    law: str | None = None
    seed: int | None = None
    evaluations: int | None = None
    convention: str | None = None

    def __init__(
        self,
        sigmas: Iterable[Any] | Tensor,
        solver: object,
        *,
        criterion: object,
        predicted_error: Iterable[Any] | Tensor | None = None,
        end_error_se: object = None,
        objective: object = None,
        predicted_objective: object = None,
        predicted_objective_se: object = None,
        law: object = None,
        seed: object = None,
        evaluations: object = None,
        convention: object = None,
    ) -> None:
        """Take numbers from any sequence, array or tensor.

        Raises:
            ValueError: noise levels that are fewer than two, not finite or not descending; an unknown solver; a
                prediction that has not one number per step; a criterion without a name.
        """
        levels = tuple(check_grid(_numbers(sigmas, "sigmas")))
        find_solver(solver if isinstance(solver, str) else repr(solver))
        if not isinstance(criterion, str) or not criterion:
            raise ValueError(f"criterion must be the name of what the noise levels were chosen by, got {criterion!r}")
        for name, words in (("law", law), ("convention", convention), ("objective", objective)):
            if not (words is None or isinstance(words, str)):
                raise ValueError(f"{name} must be a name, got {words!r}")
        shares = None if predicted_error is None else _numbers(predicted_error, "predicted_error")
        if shares is not None and len(shares) != len(levels) - 1:
            raise ValueError(f"predicted_error must be {len(levels) - 1} numbers, one per step, got {list(shares)[:8]}")
        criterion, law = line(criterion), None if law is None else line(law)
        known: dict[str, object] = {"sigmas": levels, "solver": solver, "criterion": criterion}
        known |= {"predicted_error": shares, "law": law, "convention": convention}
        known["objective"] = None if objective is None else line(str(objective))
        numbers = {"end_error_se": end_error_se, "predicted_objective": predicted_objective}
        for name, number in (numbers | {"predicted_objective_se": predicted_objective_se}).items():
            known[name] = None if number is None else _numbers([number], name)[0]
        for name, count in (("seed", seed), ("evaluations", evaluations)):
            known[name] = None if count is None else whole_number(count, name, 0)
        for name, value in known.items():
            object.__setattr__(self, name, value)

    @property
    def steps(self) -> int:
        """Number of grid intervals."""
        return len(self.sigmas) - 1

    @property
    def evaluations_per_sample(self) -> int:
        """Evaluations of the denoiser that one sample takes."""
        return evaluations(self.solver, self.sigmas)

    @property
    def end_error(self) -> float | None:
        """The predicted end error, in the unit of the data."""
        return None if self.predicted_error is None else math.fsum(self.predicted_error)

    @property
    def steps_per_decade(self) -> NDArray[np.float64]:
        """One over the length of each step between two positive noise levels, in powers of ten."""
        levels = np.asarray(self.sigmas)
        return 1 / np.diff(np.log10(1 / levels[levels > 0]))

    def to_dataset(self) -> xr.Dataset:
        """The schedule over `level`: `sigma`, `snr`, and with a prediction `predicted_error`, NaN at the last level."""
        levels = np.asarray(self.sigmas)
        with np.errstate(divide="ignore"):
            columns = {"sigma": ("level", levels), "snr": ("level", 1 / levels)}
        if self.predicted_error is not None:
            columns["predicted_error"] = ("level", np.append(self.predicted_error, np.nan))
        about = {name: value for name, value in asdict(self).items() if name not in ("sigmas", "predicted_error")}
        known = {name: value for name, value in about.items() if value is not None}
        return records.dataset("schedule", columns, {"level": np.arange(len(levels))}).assign_attrs(known)

    def to_json(self, path: str | os.PathLike[str] | None = None, force: bool = False) -> str:
        """The schedule as JSON, written to `path` where that is given.

        Args:
            path: file to write, whole or not at all.
            force: replace it where it exists.

        Raises:
            ValueError: the file exists, or cannot be written.
        """
        text = json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"
        if path is not None:
            with atomic_path(path, force) as draft:
                draft.write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Self:
        """Read what `to_json` wrote.

        Args:
            source: a file, or the JSON itself: text that begins with a brace. `sigmas`, `solver` and `criterion` must
                be there; what else a `Schedule` has may be missing or null; anything more is refused.

        Raises:
            ValueError: no such file, no JSON, or no schedule in it. The message names the file.
        """
        text, name = os.fspath(source), "schedule"
        if not text.lstrip().startswith("{"):
            text, name = _read(Path(text)), repr(text)
        try:
            content = json.loads(text, parse_constant=_refuse_constant)
            if not isinstance(content, dict):
                raise ValueError(f"must be an object with {', '.join(REQUIRED)}, got {type(content).__name__}")
            given = cast(dict[str, Any], content)
            known = [field.name for field in fields(cls)]
            if missing := [key for key in REQUIRED if given.get(key) is None]:
                raise ValueError(f"{missing[0]!r} is missing")
            if unknown := [key for key in given if key not in known]:
                raise ValueError(f"{unknown[0][:40]!r} is nothing that a schedule has: {', '.join(known)}")
            return cls(**given)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name} is not JSON: {error}") from None
        except RecursionError:
            raise ValueError(f"{name} is not a schedule: it is nested too deeply") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name} is not a schedule: {error}") from None

    def to_diffusers(
        self,
        scheduler: object,
        rounding: float = timesteps.ROUNDING,
        *,
        network: Target | None = None,
        latent_scale: float | None = 1.0,
    ) -> dict[str, Any]:
        """Arguments for `scheduler.set_timesteps`; see `timesteps.to_diffusers`.

        Args:
            scheduler: of the diffusers library.
            rounding: largest relative change of a noise level.
            network: that the scheduler is to sample. Default: the one that the schedule was planned for.
            latent_scale: what the noise that a pipeline takes as `latents` is multiplied by. None: it starts from noisy
                points at the first level, and not from noise.
        """
        convention = self.convention if network is None else network.convention
        return timesteps.to_diffusers(
            self.sigmas, scheduler, rounding, convention=convention, latent_scale=latent_scale
        )

    def latent_scale(self, scheduler: object, rounding: float = timesteps.ROUNDING) -> float:
        """What unit noise has to be multiplied by to be a pipeline's `latents`; see `timesteps.latent_scale`."""
        return timesteps.latent_scale(self.sigmas, scheduler, rounding)

    def install(self, pipeline: object) -> PlannedScheduler:
        """Make a pipeline of diffusers visit these levels by this solver, from the right noise.

        Its scheduler becomes a `brenier.PlannedScheduler`, which `save_pretrained` keeps: `import
        brenier.sampling.planned` before such a folder is loaded. Call the pipeline with `num_inference_steps=steps`.

        Args:
            pipeline: whose scheduler is one of a network that predicts posterior means, in any form; see
                `brenier.from_diffusers`.

        Returns:
            The scheduler, which other pipelines of the same network may be given, too.

        Raises:
            TypeError: it is no pipeline.
            ValueError: its scheduler belongs to a distilled model, or is none that can be read; the network does not
                know these levels; or the pipeline starts from other noise than that of the first.

        Warns:
            UserWarning: the schedule was planned for a network with another convention.
        """
        from brenier.sampling.planned import install

        return install(self.sigmas, self.solver, self.convention, pipeline)

    def to_text(self) -> str:
        """The noise levels as text, such as "14.61, 2.1, 0.5, 0": ComfyUI's manual sigmas.

        Nine digits of each, or as many as tell neighbours apart.
        """
        short = [f"{sigma:.9g}" for sigma in self.sigmas]
        return ", ".join(short if len(set(short)) == len(short) else map(repr, self.sigmas))

    def to_k_diffusion(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, " levels"]:
        """The noise levels for a sampler of k-diffusion; see `timesteps.to_k_diffusion`."""
        return timesteps.to_k_diffusion(self.sigmas, dtype)

    def to_timesteps(self, alphas_cumprod: ArrayLike | Tensor, fractional: bool = False) -> list[int] | list[float]:
        """The steps of a DDPM chain at the positive noise levels; see `timesteps.to_timesteps`."""
        return timesteps.to_timesteps(self.sigmas, alphas_cumprod, fractional)


def _numbers(values: object, what: str) -> tuple[float, ...]:
    """Numbers in a row, as floats; `json` and numpy give real ones, text and booleans are none."""
    entries: object = values.tolist() if hasattr(values, "tolist") else values  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(entries, str | bytes | dict) or not isinstance(entries, Iterable):
        raise ValueError(f"{what} must be a list of numbers, got {type(entries).__name__}")
    numbers: list[float] = []
    for k, entry in enumerate(cast(Iterable[object], entries)):
        if isinstance(entry, bool) or not isinstance(entry, Real):
            raise ValueError(f"{what} must be numbers, got {str(entry)[:40]!r} (entry {k}, counted from 0)")
        try:
            numbers.append(float(entry))
        except OverflowError:  # an integer
            numbers.append(math.inf)
        if not math.isfinite(numbers[-1]):
            raise ValueError(f"{what} must be finite, got {numbers[-1]} (entry {k}, counted from 0)")
    return tuple(numbers)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{str(path)!r} is not JSON but something else than text in UTF-8") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is no number in JSON")
