"""Do plans help a network with labels, under guidance, on real images, against diffusers' own schedules?

    python benchmarks/guidance.py NETWORK CIFAR.npz CLASSIFIER.pt                  # those of images.py: an hour
    python benchmarks/guidance.py NETWORK CIFAR.npz CLASSIFIER.pt --guidance 4 --labels 3

For each weight of guidance and number of evaluations: diffusers' sampler (DPM-Solver++(2M) for chains, Euler for flow
matching) with its default spacing and the others that it offers, and brenier's plan for the same sampler, for all
labels at once or one of them. All begin with the same noise.

    rms       root mean square distance to where the guided flow ends (3 x 32 x 32 colours in [-1, 1]), with its
              standard error; the flow is followed by 64 steps, and how far the ends are from those of 32 is printed
    frechet   between features of a classifier, to test images of these labels and to the reference's ends, without the
              bias of so few samples
    named     share that the classifier gives the label asked for
    copies    median over samples of the distance to the nearest training image over that to the second
    worst     of the labels: rms planned over rms of the default
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from images import CLASSES, Classifier, fold, load, unfold
from torch import Tensor

import brenier
from brenier.metrics import frechet_distance, memorisation
from brenier.sampling.driver import integrate, start

EVALUATIONS = (5, 6, 8, 10)
REFERENCE = 64
CHAIN: dict[str, dict[str, Any]] = {
    "default": {},
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "leading": {"timestep_spacing": "leading"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "lu": {"use_lu_lambdas": True},
}
FLOW: dict[str, dict[str, Any]] = {
    "default": {},
    "shift 3": {"shift": 3.0},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}


def by_diffusers(ask: Callable[[Tensor, Tensor], Tensor], scheduler: Any, steps: int, noise: Tensor) -> Tensor:
    """Where a scheduler of diffusers ends from unit noise."""
    scheduler.set_timesteps(steps)
    x = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    for step in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, step) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(ask(seen, step), step, x).prev_sample
    return x


def measure(given: argparse.Namespace) -> None:
    """Print a row for each weight and number of evaluations."""
    splits = load(given.data)
    judge = Classifier(splits[0][0].shape[1])
    judge.load_state_dict(torch.load(given.classifier))
    judge.eval()
    model = diffusers.UNet2DModel.from_pretrained(given.network)
    config = json.loads((Path(given.network) / "scheduler_config.json").read_text())
    trained = getattr(diffusers, config["_class_name"]).from_config(config)
    flow = config["_class_name"].startswith("FlowMatch")
    kind = type(trained) if flow else diffusers.DPMSolverMultistepScheduler
    solver, options = ("euler", FLOW) if flow else ("dpmpp-2m", CHAIN)
    every = [*range(CLASSES)] if given.labels is None else given.labels
    images, labels = splits[1]
    kept = torch.isin(labels, torch.tensor(every))
    held = features(judge, images[kept])[0]
    train = fold(splits[0][0]).flatten(1)[:: given.thin]
    for weight in given.guidance:
        law = brenier.from_diffusers(
            model, trained, condition={"class_labels": every}, unconditional={"class_labels": CLASSES}, guidance=weight
        )
        asked = torch.tensor(every).repeat(given.samples // len(every))
        high = law.course.high
        x = start(law, len(asked), high, seed=1234)
        noise = (x / law.course.noise).reshape(-1, *law.event_shape).float()
        begin = time.perf_counter()
        half, goal = (_fine(law, x, steps) for steps in (REFERENCE // 2, REFERENCE))
        spent, moved = time.perf_counter() - begin, _squares(half, goal).mean().sqrt()
        print(
            f"guidance {weight:g}: from {REFERENCE // 2} to {REFERENCE} steps ends move by {moved:.3f}; {spent:.0f} s"
        )
        _row("flow itself", goal, goal, held, judge, asked, train, law.event_shape)

        @torch.no_grad()
        def ask(seen: Tensor, step: Tensor, weight: float = weight, asked: Tensor = asked) -> Tensor:
            told = model(seen, step, class_labels=asked).sample
            if weight == 1:
                return told
            free = model(seen, step, class_labels=torch.full_like(asked, CLASSES)).sample
            return free + weight * (told - free)

        for steps in given.evaluations:
            ends = {
                name: by_diffusers(ask, kind.from_config(trained.config, **option), steps, noise).flatten(1)
                for name, option in options.items()
            }
            begin = time.perf_counter()
            plan = brenier.plan(law, steps, solver=solver, seed=given.seed, progress=False)
            spent = time.perf_counter() - begin
            ends["planned"] = integrate(law, x, plan.sigmas, solver).x.float()
            for name, found in ends.items():
                _row(f"{steps} {name}", found, goal, held, judge, asked, train, law.event_shape)
            own, other = (_squares(ends[name], goal) for name in ("planned", "default"))
            ratios = {k: float((own[asked == k].mean() / other[asked == k].mean()).sqrt()) for k in every}
            worst = max(ratios, key=lambda k: ratios[k])
            said = f"predicted {plan.end_error:.2f} +- {plan.end_error_se or math.nan:.2f}, {spent:.0f} s"
            print(f"  {steps} planned/default, worst label {worst}: {ratios[worst]:.2f}; {said}", flush=True)


def _fine(law: brenier.NetworkTarget, x: Tensor, steps: int) -> Tensor:
    """Where the flow ends, by unipc-3 on levels even in log sigma."""
    course = law.course
    sigmas = course.placed([*np.geomspace(course.high, course.low, steps).tolist(), 0.0])
    return integrate(law, x, sigmas, "unipc-3").x.float()


def features(judge: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and named labels."""
    with torch.no_grad():
        seen = torch.cat([judge.features(x) for x in images.split(250)])
        return seen.double(), judge.last(seen).argmax(1)


def _squares(x: Tensor, goal: Tensor) -> Tensor:
    return (x.double() - goal.double()).square().sum(1)


def _row(
    name: str,
    x: Tensor,
    goal: Tensor,
    held: Tensor,
    judge: Classifier,
    asked: Tensor,
    train: Tensor,
    shape: tuple[int, ...],
) -> None:
    seen, named = features(judge, unfold(x.reshape(-1, *shape)).clamp(-1, 1))
    aim = features(judge, unfold(goal.reshape(-1, *shape)).clamp(-1, 1))[0]
    squares = _squares(x, goal)
    rms = float(squares.mean().sqrt())
    error = float(squares.std()) / math.sqrt(len(x)) / 2 / max(rms, 1e-300)
    to_data = frechet_distance(seen, held)[1]
    to_flow = 0.0 if x is goal else float(frechet_distance(seen, aim)[0].value)
    near = float(torch.as_tensor(memorisation(x.float(), train).samples.closeness).median())
    print(
        f"  {name:16} rms {rms:6.2f} +- {error:.2f}  frechet to data {to_data.value:6.2f} +- {to_data.value_se:.2f}, "
        f"to the flow {to_flow:6.3f}  named {float((named == asked).double().mean()):.0%}  copies {near:.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("data")
    parser.add_argument("classifier")
    parser.add_argument("--guidance", nargs="+", type=float, default=[1.0, 2.0, 4.0, 8.0])
    parser.add_argument("--evaluations", nargs="+", type=int, default=[*EVALUATIONS])
    parser.add_argument("--labels", nargs="+", type=int)
    parser.add_argument("--samples", type=int, default=320)
    parser.add_argument("--thin", type=int, default=5, help="copies are looked for in every so many training images")
    parser.add_argument("--seed", type=int, default=0, help="of the pilots")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measure(given)


if __name__ == "__main__":
    main()
