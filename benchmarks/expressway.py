"""What does the transport of the expressway buy, and when do its samples turn into copies?

    python benchmarks/expressway.py                      # everything: about twenty minutes on two cores
    python benchmarks/expressway.py table sweep          # parts: table, sweep, modes, sensitivity, cost

A network is trained on 1,437 of the 1,797 digits (one to two minutes; kept in --network), the other 360 are held out.

    table        samplers from the prior against the expressway, by evaluations of the denoiser
    sweep        the expressway by the SNR of its handover, 10 evaluations
    modes        mode mixture at 10 evaluations, expressway against DDIM: on a ring of eight Gaussians (where "stray",
                 the share outside every component's 99.9% ellipsoid, is the sharper measure) and on the digits
    sensitivity  the number N of latents, their noise, the tolerance of the transport, the source
    cost         of the transport, by N and dimension
    classes      of a network that is told the digit, trained without a tenth of the labels: expressways to each digit
                 against samplers from the prior and random latents of the digit, with and without guidance, whose
                 evaluations count twice. "named" is the share to which the classifier gives the digit asked for, FD
                 to the held-out digits of all kinds, and in the mean over kinds to all digits of the kind, 180 or so,
                 training digits among them; closer and copied are within the kind

Columns: FD, the Frechet distance to the held-out digits without the bias of finite samples, and to the training digits
(which copies satisfy best); precision and recall against the held-out digits; MMR, the mode mixture ratio by the
classifier that comes along; closer, the share of samples nearer to a training digit than that is to others; copied, the
share within a third of the way to the second nearest. The row "training digits" is what a perfect copier scores, the
row "held-out digits" what a perfect sampler does where that can be said. +- is one standard error.

How to read it: the latents are draws of X + sigma Z, whichever of them the map picks, so "random" starts from the right
law; what "transport" scores above "random" is what the transport buys. "fresh" noises the datum anew. A handover is one
to copies where "closer" leaves that of the held-out digits behind. "published" hands over at the last 10 of the 232
levels of NCSNv2, as the published CIFAR-10 configuration does (sigma 0.0145 for pixels in [0, 1]); planned levels
are made for each sampler by brenier.plan, by hand are Karras's. Heun takes one evaluation fewer than said.
"""

import argparse
import copy
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import brenier
from brenier.metrics import (
    Estimate,
    class_probabilities,
    frechet_distance,
    load_digits_classifier,
    memorisation,
    mode_mixture,
    precision_recall,
    stray,
)
from brenier.metrics.digits import digits_split
from brenier.networks import saved
from brenier.sampling.expressway import Expressway
from brenier.sampling.handover import final_steps
from brenier.transport import SemiDiscrete

EVALUATIONS = (2, 4, 6, 10, 20, 50)
SNRS = (0.25, 0.5, 0.7, 0.9, 1.2, 1.6, 2.2, 3.0, 5.0, 10.0)
PUBLISHED = final_steps(10, 2 * np.geomspace(50, 0.01, 232))  # pixels in [-1, 1] instead of [0, 1]
SAMPLERS = {"euler": "DDIM", "heun": "Heun", "dpmpp-2m": "DPM-Solver++(2M)"}
COLUMNS = ("FD held out", "FD train", "precision", "recall", "MMR", "closer", "copied")


class Digits:
    """The network, its training digits, the held-out ones, and what samples score."""

    def __init__(self, folder: Path, n: int) -> None:
        images, labels, (rows, others, held) = digits_split()
        self.labels, self.held_labels, self.folder = labels[torch.cat([rows, others])], labels[held], folder
        self.train = brenier.Empirical(images[torch.cat([rows, others])], event_shape=(8, 8), name="training-digits")
        self.held, self.n = images[held].double(), n
        if not saved.is_checkpoint(folder):
            profile = brenier.probe(self.train, about="atoms", progress=False)
            brenier.train(
                self.train,
                folder,
                width=192,
                depth=2,
                batch=512,
                steps=3000,
                learning_rate=0.002,
                noise=profile,
                progress=False,
            )
        self.network = saved.load(folder, data=self.train)
        self.classifier = load_digits_classifier()

    def scores(self, samples: Tensor) -> list[str]:
        """A row of the tables."""
        x, train = samples.double(), self.train.data.double()
        near = memorisation(x, train).samples.shares()
        around = precision_recall(x, self.held)
        found = [frechet_distance(x, self.held)[1], frechet_distance(x, train)[1], around.precision, around.recall]
        return [text(value) for value in (*found, self.mixed(x), near["closer"], near["copied"])]

    def mixed(self, samples: Tensor) -> Estimate:
        """The mode mixture ratio."""
        return mode_mixture(class_probabilities(self.classifier, samples))

    def controls(self) -> list[list[str]]:
        """The rows of the data themselves."""
        train = self.train.data.double()
        held = memorisation(self.held, train).samples.shares()
        distance = frechet_distance(self.held, train)[1]
        nearness = [text(held["closer"]), text(held["copied"])]
        return [
            ["training digits", *self.scores(self.train.sample(self.n, 5))],
            ["held-out digits", "", text(distance), "", "", text(self.mixed(self.held)), *nearness],
        ]


def text(value: Estimate) -> str:
    """A number and its standard error."""
    return f"{value.value:.3f}+-{value.value_se:.3f}"


def show(title: str, heads: tuple[str, ...], rows: list[list[str]]) -> None:
    """Print a table."""
    table = Table(title=title, show_edge=False, title_justify="left")
    for k, head in enumerate(heads):
        table.add_column(head, justify="left" if k == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=170).print(table)


def variants(way: Expressway, steps: int) -> dict[str, Expressway]:
    """The same latents and the same transport with other steps, and with the controls."""
    planned = copy.copy(way)
    planned._steps, planned.schedule = steps, None
    planned.schedule = planned._plan(False)
    found: dict[str, Expressway] = {}
    for fresh in (False, True):
        for assignment in ("transport", "random"):
            other = copy.copy(planned)
            other.fresh_noise, other._assign = fresh, assignment
            found[f"{assignment}{', fresh' * fresh}"] = other
    return found


def table(digits: Digits) -> None:
    """Samplers from the prior and expressways, by evaluations."""
    ways = {"auto": "auto", "published": PUBLISHED}
    ways = {name: Expressway(digits.network, handover=where).fit(progress=False) for name, where in ways.items()}
    for name, way in ways.items():
        print(f"{name}: handover at SNR {way.handover.snr:.3g}, {way.handover.reason}; {way.transport.result}")
    for count in EVALUATIONS:
        rows = digits.controls()
        for solver in ("euler", "heun", "dpmpp-2m"):
            steps = (count + 1) // 2 if solver == "heun" else count
            for criterion in ("karras", "error"):
                samples = brenier.sample(
                    digits.network, digits.n, steps=steps, solver=solver, schedule=criterion, seed=1, progress=False
                )
                label = f"{SAMPLERS[solver]}, {'planned' if criterion == 'error' else 'by hand'}"
                rows.append([label, *digits.scores(samples.points)])
        for name, way in ways.items():
            for how, other in variants(way, count).items():
                rows.append([f"{name}, {how}", *digits.scores(other.sample(digits.n, 1, progress=False).points)])
        show(f"{count} evaluations, {digits.n} samples", ("sampler", *COLUMNS), rows)


def sweep(digits: Digits) -> None:
    """The expressway by its handover."""
    rows = digits.controls()
    before: SemiDiscrete | None = None
    for snr in (*SNRS, PUBLISHED):
        way = Expressway(digits.network, handover=snr).fit(start=before, progress=False)
        before = way.transport
        for how, other in variants(way, 10).items():
            samples = other.sample(digits.n, 1, progress=False).points
            rows.append([f"{snr:.3g} {how}", *digits.scores(samples)])
    show(f"by SNR of the handover, 10 evaluations, {digits.n} samples", ("handover", *COLUMNS), rows)


def modes(digits: Digits) -> None:
    """Mode mixture at 10 evaluations, with 95% intervals."""
    angle = np.arange(8) * np.pi / 4
    ring = brenier.GaussianMixture(np.ones(8), 4 * np.stack([np.cos(angle), np.sin(angle)], 1), 0.04, name="ring")
    n = 10 * digits.n
    rows: list[list[str]] = []
    for law, data in ((ring, brenier.Empirical(ring.sample(2000, 7), name="points of ring")), (digits.network, None)):

        def add(name: str, samples: Tensor, law: brenier.Target = law) -> None:
            if law is ring:
                found = [mode_mixture(class_probabilities(ring, samples)), stray(samples, ring)]
            else:
                found = [digits.mixed(samples)]
            shares = [f"{part.value:.2%} ({part.low:.2%} to {part.high:.2%})" for part in found]
            rows.append([f"{law.name}: {name}", *shares, *[""] * (2 - len(found))])

        add("the law itself" if law is ring else "held-out digits", ring.sample(n, 3) if law is ring else digits.held)
        for solver in ("euler", "dpmpp-2m"):
            for criterion in ("karras", "error"):
                drawn = brenier.sample(
                    law, n, steps=10, solver=solver, schedule=criterion, seed=1, progress=False
                ).points
                add(f"{SAMPLERS[solver]}, {'planned' if criterion == 'error' else 'by hand'}", drawn)
        for solver in ("euler", "dpmpp-2m"):
            way = Expressway(law, data, solver=solver).fit(progress=False)
            for how, other in variants(way, 10).items():
                drawn = other.sample(n, 1, progress=False).points
                add(f"expressway at {way.handover.snr:.2g}, {SAMPLERS[solver]}, {how}", drawn)
    show(f"mode mixture, 10 evaluations, {n} samples", ("sampler", "MMR (95%)", "stray (95%)"), rows)


def sensitivity(digits: Digits) -> None:
    """One thing changed at a time, at the automatic handover with all training digits."""
    base: dict[str, Any] = {"handover": Expressway(digits.network).fit(0.5, progress=False).handover.snr}
    cases: list[tuple[str, dict[str, Any], float]] = [("as is", {}, 0.02)]
    cases += [(f"tolerance {tolerance:g}", {}, tolerance) for tolerance in (0.2, 0.1, 0.05, 0.01)]
    cases += [("uniform source", {"source": "uniform"}, 0.02)]
    cases += [(f"other latents, seed {seed}", {"seed": seed}, 0.02) for seed in (1, 2)]
    order = torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(0))
    for count in (50, 200, 700):
        cases.append((f"N = {count}", {"data": digits.train.data[order[:count]]}, 0.02))
    rows = digits.controls()
    rows = [[row[0], "", "", *row[1:]] for row in rows]
    for name, options, tolerance in cases:
        way = Expressway(digits.network, **base, **options).fit(tolerance, minutes=3, progress=False)
        fit = way.transport.result
        samples = way.sample(digits.n, 1, progress=False).points
        rows.append([name, f"{fit.seconds:.1f}", f"{fit.samples / 1e6:.2f}", *digits.scores(samples)])
    heads = ("changed", "fit, s", "draws, 1e6", *COLUMNS)
    show(f"sensitivity, 10 evaluations, {digits.n} samples", heads, rows)


def cost(_: Digits) -> None:
    """Of the transport to N draws of a mixture of ten Gaussians in d dimensions, to a total variation of 0.05."""
    rows: list[list[str]] = []
    for dim in (8, 64, 512):
        generator = np.random.default_rng(0)
        mixture = brenier.GaussianMixture(np.ones(10), generator.normal(size=(10, dim)), 0.25, dtype=torch.float32)
        for count in (500, 2000, 8000):
            points = mixture.sample(count, 1) + torch.randn(count, dim, generator=torch.Generator().manual_seed(2))
            fit = SemiDiscrete(points)
            result = fit.fit(0.05, minutes=2, progress=False).result
            x = fit.draw(4096)
            begun = time.perf_counter()
            fit.cells(x)
            each = (time.perf_counter() - begun) / len(x)
            numbers = [f"{result.seconds:.1f}", f"{result.samples / 1e6:.2f}", f"{result.excess:.3f}", result.stopped]
            rows.append([f"d = {dim}", str(count), *numbers, f"{1e6 * each:.1f}"])
    heads = ("points", "N", "fit, s", "draws, 1e6", "excess", "stopped by", "map, us/sample")
    show("cost of the transport, tolerance 0.05", heads, rows)


def classes(digits: Digits) -> None:
    """A network that is told the digit."""
    folder = digits.folder.with_name(digits.folder.name + "-told")
    options: dict[str, Any] = {"width": 192, "depth": 2, "batch": 512, "steps": 3000, "learning_rate": 0.002}
    if not saved.is_checkpoint(folder):
        profile = brenier.probe(digits.train, about="atoms", progress=False)
        told = {"labels": digits.labels.numpy(), "drop_labels": 0.1}
        brenier.train(digits.train, folder, noise=profile, progress=False, **told, **options)
    n = digits.n // 10 * 10
    rows = [
        ["training digits", *told_scores(digits, digits.train.data, digits.labels)],
        ["held-out digits", *told_scores(digits, digits.held, digits.held_labels)],
    ]
    for weight, counts in ((1.0, (4, 10)), (1.5, (10,))):
        law = saved.load(folder, guidance=weight)
        way = Expressway(law, digits.train, labels=digits.labels.numpy(), handover="auto").fit(0.05, progress=False)
        print(f"guidance {weight:g}: handover at SNR {way.handover.snr:.3g}, {way.handover.reason}")
        for count in counts:
            steps = count if weight == 1 else count // 2
            drawn = {}
            for solver, criterion in (("euler", "karras"), ("euler", "error"), ("dpmpp-2m", "error")):
                found = brenier.sample(law, n, steps=steps, solver=solver, schedule=criterion, seed=1, progress=False)
                drawn[f"{SAMPLERS[solver]}, {'planned' if criterion == 'error' else 'by hand'}"] = found
            for how, other in variants(way, steps).items():
                drawn[f"expressway, {how}"] = other.sample(n, 1, progress=False)
            asked = torch.arange(n) % 10
            told = f"{count} evaluations" + (f", guidance {weight:g}" if weight != 1 else "")
            rows += [[f"{told}: {name}", *told_scores(digits, found.points, asked)] for name, found in drawn.items()]
    show(f"ten digits, {n} samples", ("sampler", "named", "FD held out", "FD kind", "MMR", "closer", "copied"), rows)


def told_scores(digits: Digits, samples: Tensor, asked: Tensor) -> list[str]:
    """A row of the table of classes."""
    x, train = samples.double(), digits.train.data.double()
    chances = class_probabilities(digits.classifier, x)
    named = (chances.argmax(1).cpu() == asked).double()
    error = float(named.std()) / len(x) ** 0.5
    kinds, near = [], []
    everyone, labels = torch.cat([train, digits.held]), torch.cat([digits.labels, digits.held_labels])
    for kind in range(10):
        mine = x[asked == kind]
        kinds.append(frechet_distance(mine, everyone[labels == kind])[1] if len(mine) > x.shape[1] else None)
        near.append(memorisation(mine, train[digits.labels == kind]).samples.shares())
    within = "" if None in kinds else mean_of([found for found in kinds if found is not None])
    shares = [mean_of([part[name] for part in near]) for name in ("closer", "copied")]
    whole = text(frechet_distance(x, digits.held)[1]) if len(x) != len(digits.held) else ""
    return [f"{float(named.mean()):.3f}+-{error:.3f}", whole, within, text(mode_mixture(chances)), *shares]


def mean_of(values: list[Estimate]) -> str:
    """The mean of independent numbers, and its standard error."""
    mean = float(np.mean([value.value for value in values]))
    return f"{mean:.3f}+-{float(np.sqrt(np.sum([value.value_se**2 for value in values]))) / len(values):.3f}"


PARTS = {"table": table, "sweep": sweep, "modes": modes, "sensitivity": sensitivity, "cost": cost, "classes": classes}


def main() -> None:
    parser = argparse.ArgumentParser(description="What the transport buys, and when samples turn into copies.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("-n", type=int, default=2000, help="samples of each row")
    parser.add_argument("--network", type=Path, default=Path(tempfile.gettempdir()) / "digits-without-360")
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}: it is one of {', '.join(PARTS)}")
    warnings.simplefilter("ignore", UserWarning)  # that the hard band goes on: the sweep shows what that means
    digits = Digits(given.network, given.n)
    for part in given.parts or PARTS:
        begun = time.perf_counter()
        PARTS[part](digits)
        print(f"{part}: {time.perf_counter() - begun:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
