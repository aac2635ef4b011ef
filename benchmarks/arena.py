"""Whose noise levels leave a sampler closest to the exact flow: ours, those of other papers, or those made by hand?

    python benchmarks/arena.py                                   # half an hour on one core
    python benchmarks/arena.py --quick                           # three samplers, two budgets, a twentieth of the noise
    python benchmarks/arena.py --laws ring --networks DIR ...    # folders of networks, of diffusers' pipelines too
    python benchmarks/arena.py --laws --networks DIR ... --labels 0 1 2    # told each of these labels in turn

For each law or network, sampler and number of evaluations (Heun: as many steps as fit), and each criterion of
`brenier.plan`: the root mean square distance to the exact end, from noise that no plan has seen, with its standard
error; the Frechet distance between the sampler's ends and the exact ones, which are drawn from the law; and what
planning took. All grids end at 0. For a network of diffusers, `diffusers` are the levels that its schedulers visit
by default, where there is one of this sampler, and else those of DPM-Solver++(2M).

A line for each cell goes to stdout, all numbers to --cells as they come, a table for each law to --output. What is in
--cells already is not measured again: a run that was stopped goes on there. With --grids FILE, cells of an earlier run,
the grids of all but `error` are those found then.

With --budget N ..., `error` is also planned at the cost of N samples of a network instead of 512: `error-N`.

Of the tables:

    RMS        a criterion's RMS over that of `error`, geometric mean over cells: above 1, `error` is better
    worst      the smallest of these ratios, plus or minus two standard errors (noise is shared), and where it is
    held       share of cells in which `error` is better or within 5%
    Frechet    as RMS, of the Frechet distance
    planning   evaluations of the denoiser to plan, median over cells; profiles are shared and counted each time
"""

import argparse
import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch

import brenier
from brenier.core.reading.options import Reading
from brenier.metrics.distances import frechet_distance
from brenier.networks.diffusers.folders import is_diffusers, parts_of
from brenier.networks.diffusers.model import load_scheduler
from brenier.sampling import planning
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.information import INFORMED, needed_snrs
from brenier.sampling.planning import CRITERIA
from brenier.sampling.steps import evaluations
from laws import digits, ring, uneven

LAWS = {
    "four-gaussians": lambda: brenier.load_target("four-gaussians"),
    "ring": ring,
    "uneven-20": partial(uneven, 20),
    "digits-0.01": lambda: digits().to(dtype=torch.float32),
}
SOLVERS = ("euler", "heun", "dpmpp-2m", "unipc-3", "ipndm-3")
BUDGETS = (5, 6, 8, 10)
QUICK = ("euler", "dpmpp-2m", "unipc-3"), (6, 10)
DEAR = {"digits-0.01": 1024}  # laws that get no more cells than that, and their noise
NOISE = {2: 8192, 20: 4096, 64: 2048}  # fresh points up to so many dimensions
QUERIES = 512  # per SNR of a profile
ALIKE = ("gits", "oss", "score-optimal")  # which find the same levels for all samplers, at a cost
DEFAULTS = {  # of diffusers, for chains and flow matching
    "euler": ("EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"),
    "heun": ("HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"),
    "unipc-3": ("UniPCMultistepScheduler",) * 2,
    "dpmpp-2m": ("DPMSolverMultistepScheduler",) * 2,
}
CLOSE = 1.05


class Entry(NamedTuple):
    """One criterion in one cell."""

    law: str
    solver: str
    evaluations: int
    criterion: str
    rms: float
    se: float
    ratio: float  # to `error`
    ratio_se: float
    frechet: float
    frechet_se: float
    planning: int
    sigmas: str
    predicted: float = math.nan  # what `error` says that it leaves
    predicted_se: float = math.nan


KINDS = tuple(Entry.__annotations__.values())


def measure(
    law: brenier.Target,
    solvers: Sequence[str],
    budgets: Sequence[int],
    noise: int,
    queries: int = QUERIES,
    scheduler: Any = None,
    richer: Sequence[int] = (),
    known: Sequence[Entry] = (),
    keep: Callable[[Sequence[Entry]], None] = lambda _: None,
    earlier: Sequence[Entry] = (),
) -> list[Entry]:
    """All cells of a law, or of a network with its scheduler: those known, and others, kept as they come.

    Grids of criteria but `error` are those of earlier entries, where there are any.
    """
    high, low, _ = planning.noise_range(law, None, None)
    x = start(law, noise, high, seed=1)
    tolerance = 1e-4 if scheduler is None else 1e-3  # of networks of diffusers, whose evaluations cost
    goal = reference(law, x, high, 0.0, tolerance=tolerance).double()
    about = "atoms" if law.atoms else None
    profile = cache(partial(brenier.probe, law, needed_snrs(high, low), about=about, queries=queries, progress=False))
    wanted = [*CRITERIA, *(f"error-{budget}" for budget in richer), *([] if scheduler is None else ["diffusers"])]
    before, found_then = (
        {(entry.solver, entry.evaluations, entry.criterion): entry for entry in some} for some in (known, earlier)
    )
    if not law.learned:  # pilots are the same in all cells, and flown once
        planning._fly = cache(FLY)
    found, alike = list[Entry](), dict[tuple[str, int], brenier.Schedule]()
    for solver in solvers:
        for steps in dict.fromkeys((budget + 1) // 2 if solver == "heun" else budget for budget in budgets):
            begun, own, cell = time.perf_counter(), np.empty(0), list[Entry]()
            nominal = 2 * steps - 1 if solver == "heun" else steps  # to 0
            there = [before.get((solver, nominal, criterion)) for criterion in wanted]
            done = [entry for entry in there if entry is not None]
            for criterion in wanted if len(done) < len(wanted) else []:
                had = before.get((solver, nominal, criterion))
                if had is not None and criterion != "error":  # whose errors the others' are held against
                    cell.append(had)
                    continue
                begin, then = x, None
                if not criterion.startswith("error"):
                    then = found_then.get((solver, nominal, criterion))
                shape = profile() if criterion in INFORMED and then is None else None
                if criterion == "diffusers":
                    levels, scale = default(law, scheduler, solver, steps)
                    plan, begin = brenier.Schedule(levels, solver, criterion=criterion), scale * x
                elif then is not None:
                    levels = [float(level) for level in then.sigmas.split(",")]
                    if levels[0] == levels[1]:  # nine digits do not tell them apart
                        levels[1] *= 1 - 1e-9
                    plan = brenier.Schedule(levels, solver, criterion=criterion, evaluations=then.planning)
                elif (criterion, steps) in alike:
                    plan = replace(alike[criterion, steps], solver=solver)
                else:
                    name, _, budget = (
                        criterion.partition("-") if criterion.startswith("error-") else (criterion, "", "")
                    )
                    spend = {"budget": int(budget)} if budget else {}
                    plan = brenier.plan(
                        law, steps, solver=solver, criterion=name, profile=shape, progress=False, **spend
                    )
                if criterion in ALIKE:
                    alike[criterion, steps] = plan
                spent = (plan.evaluations or 0) + (0 if shape is None else shape["snr"].size * queries)
                end = integrate(law, begin, plan.sigmas, solver).x.double()
                square = (end - goal).square().sum(1).cpu().numpy()
                own, rms = square if criterion == "error" else own, math.sqrt(square.mean())
                relative = square / square.mean() - own / own.mean()
                ratio = rms / math.sqrt(own.mean())
                frechet = frechet_distance(end, goal)[0]
                cell.append(
                    Entry(
                        law.name, solver, evaluations(solver, plan.sigmas), criterion, rms,
                        float(square.std()) / math.sqrt(noise) / 2 / rms,
                        ratio, ratio * float(relative.std()) / math.sqrt(noise) / 2,
                        frechet.value, frechet.value_se, spent, plan.to_text(),
                        plan.end_error or math.nan, plan.end_error_se or math.nan,
                    )
                )  # fmt: skip
            if not cell:
                found += done
                continue
            had = before.get((solver, nominal, "error"))
            if had is not None and not math.isclose(had.rms, cell[0].rms, rel_tol=1e-2):
                raise SystemExit("--cells are of another planner: start anew")
            keep([entry for entry in cell if (solver, nominal, entry.criterion) not in before])
            mine, *others = cell
            best = min(others, key=lambda entry: entry.rms)
            print(
                f"{law.name:15} {solver:9} {mine.evaluations:2}  error {mine.rms:.3g} +- {mine.se:.1g}, best other "
                f"{best.criterion} {best.rms:.3g} +- {best.se:.1g}, ratio {best.ratio:.3f} +- {2 * best.ratio_se:.3f}  "
                f"({time.perf_counter() - begun:.0f} s)",
                flush=True,
            )
            found += cell
    return found


FLY = planning._fly


def default(law: brenier.Target, scheduler: Any, solver: str, steps: int) -> tuple[list[float], float]:
    """The levels that a scheduler of diffusers visits by itself, and its pipeline's noise there over the law's own."""
    course = law.course
    assert course is not None
    assert course.noise is not None
    flow = "FlowMatch" in type(scheduler).__name__
    kind = getattr(diffusers, DEFAULTS.get(solver, DEFAULTS["dpmpp-2m"])[flow])
    made = kind.from_config(scheduler.config, **(FLOWS if flow and "FlowMatch" not in kind.__name__ else {}))
    made.set_timesteps(steps)
    sigmas = made.sigmas.double().numpy()
    if flow:
        sigmas = np.divide(sigmas, 1 - sigmas, out=np.full_like(sigmas, np.inf), where=sigmas < 1)
    levels = np.unique(np.minimum(sigmas, course.high))[::-1].tolist()  # Heun's has each twice
    first = 1 + levels[0] if flow else math.hypot(1, levels[0])
    return levels, first / course.noise


FLOWS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


def table(found: Sequence[Entry]) -> str:
    """A law's table, in Markdown."""
    cells = [entry for entry in found if entry.criterion == "error"]
    own = {(entry.solver, entry.evaluations): entry for entry in cells}
    best = {
        key: min(e.rms for e in found if (e.solver, e.evaluations) == key and not e.criterion.startswith("error"))
        for key in own
    }
    said = list[str]()
    told = [(e.rms, e.predicted, math.hypot(e.se, e.predicted_se)) for e in cells if not math.isnan(e.predicted)]
    for criterion in [name for name in dict.fromkeys(entry.criterion for entry in found) if name.startswith("error")]:
        entries = [entry for entry in found if entry.criterion == criterion]
        rivals = {key: min(best[key], own[key].rms) for key in own}
        held = np.mean([entry.rms <= CLOSE * rivals[entry.solver, entry.evaluations] for entry in entries])
        said.append(
            f"`{criterion}` is within 5% of the best of all in {held:.0%} of {len(entries)} cells, planning takes "
            f"it {_cost(entries)} evaluations"
        )
    if told:
        near = np.mean([abs(rms - predicted) <= 2 * se for rms, predicted, se in told])
        factor = np.mean([abs(math.log(rms / predicted)) <= math.log(1.5) for rms, predicted, _ in told])
        said.append(
            f"what it predicts is within two standard errors in {near:.0%} and within a factor of 1.5 in {factor:.0%}"
        )
    lines = [
        f"**{found[0].law}**: {'; '.join(said)}.",
        "",
        "| criterion | RMS | worst | held | Frechet | planning |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    rows: list[tuple[float, str]] = []
    for criterion in dict.fromkeys(entry.criterion for entry in found if entry.criterion != "error"):
        others = [entry for entry in found if entry.criterion == criterion]
        mean = _mean([entry.ratio for entry in others])
        worst = min(others, key=lambda entry: entry.ratio)
        kept = np.mean([entry.ratio >= 1 / CLOSE for entry in others])
        pairs = [(entry.frechet, own[entry.solver, entry.evaluations].frechet) for entry in others]
        frechet = _mean([max(other, 1e-12) / max(ours, 1e-12) for other, ours in pairs])
        where = f"{worst.ratio:.2f} ± {2 * worst.ratio_se:.2f} ({worst.solver}, {worst.evaluations})"
        rows.append((mean, f"| `{criterion}` | {mean:.2f} | {where} | {kept:.0%} | {frechet:.2f} | {_cost(others)} |"))
    return "\n".join([*lines, *(row for _, row in sorted(rows)), *_behind(found, own)])


def _behind(found: Sequence[Entry], own: Mapping[tuple[str, int], Entry]) -> list[str]:
    """In how many cells the Frechet distance is larger than by what diffusers does by default."""
    pairs = [(own[e.solver, e.evaluations], e) for e in found if e.criterion == "diffusers"]
    if not pairs:
        return []
    larger = [ours for ours, other in pairs if ours.frechet > other.frechet]
    sure = [a for a, b in pairs if a.frechet - b.frechet > 2 * math.hypot(a.frechet_se, b.frechet_se)]
    which = ", ".join(f"{entry.solver} {entry.evaluations}" for entry in larger)
    where = f" ({which})" if which else ""
    said = f"Frechet distance larger than that of `diffusers` in {len(larger)} of {len(pairs)} cells{where}"
    return ["", f"{said}, in {len(sure)} of them by more than two standard errors."]


def _cost(entries: Sequence[Entry]) -> str:
    return f"{int(np.median([entry.planning for entry in entries])):,}"


def _mean(values: Sequence[float]) -> float:
    return float(np.exp(np.log(values).mean()))


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laws", nargs="*", choices=LAWS, default=[*LAWS])
    parser.add_argument("--networks", nargs="*", default=["digits-network"], metavar="DIR")
    parser.add_argument("--labels", nargs="+", type=int, help="class_labels that networks in folders are told, in turn")
    parser.add_argument("--queries", type=int, default=QUERIES, help="of profiles, at each SNR")
    parser.add_argument("--solvers", nargs="+")
    parser.add_argument("--evaluations", nargs="+", type=int)
    parser.add_argument("--noise", type=int, help="fresh points, instead of 1,024 to 8,192")
    parser.add_argument("--budget", nargs="+", type=int, default=[], help="of `error` for networks, besides 512")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, help="tables (.md)")
    parser.add_argument("--cells", type=Path, help="all numbers (.csv)")
    parser.add_argument("--grids", type=Path, help="cells of an earlier run (.csv)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tables: list[str] = []
    for name in [*given.laws, *given.networks]:
        scheduler = load_scheduler(parts_of(name)[1]) if is_diffusers(name) else None
        told = Reading(condition={"class_labels": given.labels}) if given.labels and scheduler else None
        law = LAWS[name]() if name in LAWS else brenier.load_target(name, reading=told)
        solvers, budgets = QUICK if given.quick or name in DEAR else (SOLVERS, BUDGETS)
        noise = DEAR.get(name) or next((n for dim, n in NOISE.items() if law.dim <= dim), 256)
        noise = given.noise or (max(noise // 20, 2 * law.dim) if given.quick else noise)
        noise = -(-noise // law.period) * law.period
        known, earlier = (
            [entry for entry in _read(path) if entry.law == law.name] for path in (given.cells, given.grids)
        )
        rows = measure(
            law, given.solvers or solvers, given.evaluations or budgets, noise, given.queries, scheduler,
            given.budget if law.learned else (), known, partial(_append, given.cells), earlier,
        )  # fmt: skip
        tables.append(table(rows))
        print(tables[-1], flush=True)
        if given.output:
            given.output.write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def _read(path: Path | None) -> list[Entry]:
    """What was measured before."""
    if path is None or not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Entry(*(kind(text) for kind, text in zip(KINDS, row.values(), strict=False)))
            for row in csv.DictReader(file)
        ]


def _append(path: Path | None, entries: Sequence[Entry]) -> None:
    if path is not None:
        new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([*([Entry._fields] if new else []), *entries])


if __name__ == "__main__":
    main()
