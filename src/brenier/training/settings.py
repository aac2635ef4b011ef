"""The settings of a training run: defaults, checks, and what a resumed run must share with its beginning.

What a user asks for is a dictionary by the argument names of `brenier.train`, without those left to their defaults. The
settings of the network itself, `ARCHITECTURE`, become the "network" of a checkpoint's config.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from brenier.core.checks import whole_number
from brenier.networks.architectures import default_kind
from brenier.networks.saved import INDEPENDENT
from brenier.training.pairs import MINIBATCH, PLAN_SIZE

STEPS = 10_000
DECAYS = ("cosine", "constant")
DENOISING, FLOW = "denoising", "flow"
OBJECTIVES = (DENOISING, FLOW)
PRECISIONS = ("auto", "float32", "bfloat16")
ARCHITECTURE = ("width", "depth", "channels")
MLP: dict[str, Any] = {"width": 128, "depth": 4}
UNET: dict[str, Any] = {"channels": [64, 128, 128], "depth": 2}


@dataclass(frozen=True)
class Settings:
    """How a network is trained; see `brenier.train`. `steps` is None while `minutes` have to decide."""

    steps: int | None
    minutes: float | None
    batch: int
    learning_rate: float
    decay: str = "cosine"
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    precision: str = "auto"
    objective: str = DENOISING
    pairs: str | None = None
    plan_size: int | None = None
    drop_labels: float | None = None

    @classmethod
    def of(cls, asked: Mapping[str, Any], kind: str) -> Self:
        """What is asked for, and defaults for the rest, for a network of this kind."""
        batch, rate = (64, 2e-4) if kind == "unet" else (1024, 5e-3)
        usual: dict[str, Any] = {"batch": batch, "learning_rate": rate}
        usual |= {"steps": None if "minutes" in asked else STEPS, "minutes": None}
        if asked.get("objective") == FLOW:
            usual["pairs"] = INDEPENDENT
            if asked.get("pairs") == MINIBATCH:
                usual["plan_size"] = min(PLAN_SIZE, asked.get("batch", batch))
        return cls(**(usual | {name: value for name, value in asked.items() if name not in ARCHITECTURE}))

    def config(self) -> dict[str, Any]:
        """The settings as JSON."""
        return asdict(self)


def check_settings(asked: Mapping[str, Any]) -> None:
    """Refuse a setting out of its range.

    Raises:
        ValueError: names the first, and what it has to be.
    """
    for name, value in asked.items():
        if name in ("steps", "batch", "width", "depth", "seed", "checkpoint_every", "plan_size"):
            whole_number(value, name, {"seed": 0, "plan_size": 2}.get(name, 1))
        elif name in ("minutes", "learning_rate", "clip"):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        elif name == "ema":
            if not 0 <= value < 1:
                raise ValueError(f"ema must lie in [0, 1), got {value}")
        elif name == "drop_labels":
            if not 0 < value < 1:
                raise ValueError(f"drop_labels must lie in (0, 1), a share of the points, got {value}")
        elif name in ("decay", "objective"):
            known = DECAYS if name == "decay" else OBJECTIVES
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, got {value!r}")
        elif name == "precision":
            if value not in PRECISIONS:
                raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {value!r}")
        elif name == "channels" and (len(value) < 2 or any(c < 8 or c % 8 for c in value)):
            raise ValueError(f"channels must be two or more multiples of 8, got {','.join(map(str, value))}")


def check_objective(asked: Mapping[str, Any], noise: bool) -> None:
    """Refuse what does not go with the objective of a new run; `noise` tells whether noise levels were given.

    Raises:
        ValueError: pairs for denoising, noise levels for a flow, a size of plans without plans.
    """
    if asked.get("objective", DENOISING) != FLOW:
        for name in ("pairs", "plan_size"):
            if name in asked:
                raise ValueError(f"{name} goes with objective {FLOW}, whose noise is paired with data: give that, too")
    elif noise:
        raise ValueError("noise is about the levels of denoising, and a flow is trained at even times: leave it out")
    elif "plan_size" in asked and asked.get("pairs") != MINIBATCH:
        raise ValueError(f"plan_size is that of {MINIBATCH} plans: give pairs {MINIBATCH}, or leave it out")


def architecture(asked: Mapping[str, Any], event_shape: tuple[int, ...]) -> dict[str, Any]:
    """The network for points of `event_shape`, as `networks.build` takes it.

    A U-Net where `channels` are asked for, or where `default_kind` says so and no `width` is; else an MLP.

    Raises:
        ValueError: a U-Net for what is no image, or `width` and `channels` together.
    """
    if "width" in asked and "channels" in asked:
        raise ValueError("width is of the network for vectors, channels of the one for images: give one of the two")
    if "channels" in asked and len(event_shape) not in (2, 3):
        raise ValueError(f"channels are for images, (h, w) or (c, h, w): these points have shape {event_shape}")
    kind = "unet" if "channels" in asked or ("width" not in asked and default_kind(event_shape) == "unet") else "mlp"
    given = {name: asked[name] for name in ARCHITECTURE if name in asked}
    if "channels" in given:
        given["channels"] = list(given["channels"])
    return {"kind": kind} | (UNET if kind == "unet" else MLP) | given


def contradiction(asked: Mapping[str, Any], begun: Mapping[str, Any]) -> str | None:
    """The first setting that differs from those a run was begun with, in words.

    Another budget of `minutes` contradicts nothing: it only limits the clock.
    """
    for name, value in asked.items():
        mine = list(value) if name == "channels" else value
        if name != "minutes" and mine != begun.get(name):
            return f"{name} {_words(mine)}, but it was begun with {_words(begun.get(name))}"
    return None


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
