"""Training: denoising score matching, min E w(sigma) |D(X + sigma Z; sigma) - X|^2 over networks D; or flows.

The minimiser is the posterior mean. Preconditioning and weights are EDM's (Karras et al., arXiv:2206.00364): the loss
is the error of the inner network F at every noise level. What a run yields is the average of its weights.

A flow is v with min E |v((1 - t) Z + t X, t) - (X - Z)|^2, t even in [0, 1] (arXiv:2210.02747): noise at t = 0, data at
t = 1. Noise and data may be paired, so that its paths are straighter and few steps do: see `pairs`. The unit of the
data does not matter for how well it is trained, see `architectures.flow_loss`, but the noise is N(0, I) in any unit.

Step k draws its points, noise and noise levels from a seed made of the run's seed and k, and a checkpoint holds all
that step k left behind. Hence a run that was stopped or killed, and resumed with as many threads, ends in the same
bytes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from brenier.catalog import LawLike, load_target
from brenier.core import records
from brenier.core.points import as_labels
from brenier.core.reading.files import exists, line
from brenier.core.writing import locked
from brenier.laws.alike import channels_first
from brenier.laws.base import Target
from brenier.networks.network import NetworkTarget
from brenier.networks.noise_levels import FlowTimes, NoiseLevels, levels_of
from brenier.networks.saved import CONFIG, empty_model, is_checkpoint, load, read_config, readable
from brenier.training.checkpoint import STATE
from brenier.training.objectives import Denoising, Dropped, FlowMatching, Objective
from brenier.training.pairs import GIVEN, PairsLike, name_of, pairs_of
from brenier.training.points import SINGLE, Moments, Points
from brenier.training.run import Run
from brenier.training.settings import FLOW, Settings, architecture, check_objective, check_settings, contradiction
from brenier.training.workers import Workers

Noise: TypeAlias = str | os.PathLike[str] | xr.Dataset | None

LOG_NORMAL = "log-normal"
OTHER = "give the data that it was begun with"


def train(
    data: LawLike,
    output: str | os.PathLike[str],
    *,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    channels: tuple[int, ...] | None = None,
    learning_rate: float | None = None,
    decay: str | None = None,
    clip: float | None = None,
    ema: float | None = None,
    noise: Noise = None,
    objective: str | None = None,
    pairs: PairsLike | None = None,
    plan_size: int | None = None,
    labels: Any = None,
    drop_labels: float | None = None,
    seed: int | None = None,
    device: torch.device | str | None = None,
    precision: str | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    on_step: Callable[[int, float], object] | None = None,
) -> NetworkTarget:
    """Train a network on data, or on an explicit law that is sampled afresh at every step: to denoise, or as a flow.

    Settings that are None take their defaults; in a resumed run, the values that it was begun with.

    Args:
        data: a law, or what `load_target` takes: a built-in's name, a file, a folder of images, an array.
        output: folder of the network, made here: see `brenier.networks.saved` for what it holds.
        steps: updates of the weights. Default: 10,000.
        minutes: clock time that one call may take. Without `steps`, their number is planned from the speed of the first
            ones, and kept: a resumed run follows the same learning rates. In any case the clock stops the run, behind a
            checkpoint that it can be resumed from.
        batch: points per step, over all processes. Default: 1024 (MLP), 64 (U-Net).
        width: of the MLP's layers; 128.
        depth: blocks of the MLP, 4, or layers per size of the U-Net, 2.
        channels: of the U-Net, size by size, multiples of 8; (64, 128, 128). Points of shape (h, w) or (c, h, w), h and
            w at least 16, get a U-Net unless `width` is given; all others an MLP unless `channels` are.
        learning_rate: of Adam, after warming up. Default: 5e-3 (MLP), 2e-4 (U-Net).
        decay: "cosine" lets the learning rate fall to 0 at the last step; "constant".
        clip: largest norm of the gradient; 1.
        ema: decay per step of the average of the weights; 0.999, less in the first thousands of steps.
        noise: "log-normal" or a profile, of `brenier.probe` or its file: see `brenier.networks.noise_levels`.
        objective: "denoising" or "flow". Default: "denoising".
        pairs: of a flow, which noise goes with which datum. "independent": any with any; the flow's velocity is then a
            posterior mean, and it can be probed and planned for. "minibatch": by exact plans between `plan_size`
            noises and data. A fitted `SemiDiscrete` map from a normal source to these data; or its `Pairs` or
            `RecordedPairs`, or whatever yields (noise, index) without end, one pair or an array of each at a time:
            noise N(0, I), the row of its datum. A resumed run has to be given maps and pairs again, from their
            beginning, and leaves out those that were used.
            Default: "independent".
        plan_size: noises to a plan, of minibatch pairs: from 2 to the batch. Default: 128, or the batch if it is less.
        labels: the class of each datum, whole numbers or words, shape (N,): the network is told it, as its number in
            the sorted list of classes, and can be asked for one (`condition={"class_labels": 3}` in a `Reading`).
            Plans are then made within classes, and maps have to be by class. A resumed run needs them again.
        drop_labels: share of the points of each step, such as 0.1, whose label the network is not told: it can then be
            guided, `Reading(guidance=2.0)`. Default: none.
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
        The network, as `load` returns it, with queries drawn from `data` where there are no classes.

    Raises:
        ValueError: a setting is out of range; `output` exists; a resumed run contradicts its beginning; a map of other
            data; the loss is not finite, pairs end or name no datum (the last checkpoint stays).
        KeyboardInterrupt: Ctrl-C. The steps that are done are in a checkpoint, except when it fell into an update of
            the weights: then the last checkpoint stays.
    """
    started = time.monotonic()
    if resume and force:
        raise ValueError("resume goes on with what is there, force replaces it: give one of the two")
    options: dict[str, Any] = {"steps": steps, "minutes": minutes, "batch": batch}
    options |= {"width": width, "depth": depth, "channels": channels}
    options |= {"learning_rate": learning_rate, "decay": decay, "clip": clip, "ema": ema}
    options |= {"seed": seed, "precision": precision, "objective": objective, "plan_size": plan_size}
    options["drop_labels"] = drop_labels
    options["pairs"] = None if pairs is None else name_of(pairs)
    asked = {name: value for name, value in options.items() if value is not None}
    check_settings(asked | ({} if checkpoint_every is None else {"checkpoint_every": checkpoint_every}))
    folder = Path(output)
    if not resume:
        check_objective(asked, noise is not None)
        check_folder(folder, force)
    law = load_target(data, device=device)
    if law.learned:
        raise ValueError(f"{law.name} is a network itself: give data or a law to train on")
    given, raw = law, channels_first(law)
    law = raw.moved(-raw.origin)
    flow = objective == FLOW or (resume and _is_flow(folder))
    moments = Moments.of(law, SINGLE if flow else None)
    classes, known = _classes(given, labels)
    if drop_labels is not None and not classes:
        raise ValueError("drop_labels leaves labels out now and then, and there are none: give labels, or leave it out")
    config = _continued(folder, law, moments, asked, noise) if resume else _begun(law, moments, asked, noise)
    if not resume and classes:
        known_as = len(classes) + (drop_labels is not None)  # the last is that of no label
        config["network"]["classes"], config["data"]["classes"] = known_as, classes
    elif classes != config["data"].get("classes", []):
        has = f"{len(config['data'].get('classes', []))} classes, these data {len(classes)}"
        raise ValueError(f"{str(folder)!r} was begun with {has}, or others: give the labels that it was begun with")
    if bool((raw.origin != 0).any()):
        config["data"]["origin"] = raw.origin.tolist()
    workers = Workers(None if device is None else torch.device(device))
    with readable(folder / CONFIG):
        settings = Settings(**config["training"])
    limit = settings.minutes if minutes is None else minutes
    levels = levels_of(config["noise"])
    dropped = None if settings.drop_labels is None else Dropped(settings.drop_labels, len(classes))
    loss: Objective
    if isinstance(levels, FlowTimes):
        which = settings.pairs if pairs is None else pairs
        if which is None or which == GIVEN:
            raise ValueError(f"{str(folder)!r} was begun with pairs of its own: give them again")
        loss = FlowMatching(
            levels, pairs_of(which, settings.plan_size, law, given, workers, known), workers.device, dropped
        )
    else:
        loss = Denoising(levels, Points(law, workers.device, known), workers.device, dropped)
    run = Run(loss, moments, config, settings, workers)
    with _held(folder, resume, force) if workers.main else nullcontext():
        if resume:
            run.restore(folder)
        elif workers.main:
            run.begin(folder, config)
        workers.wait()
        deadline = math.inf if limit is None else started + 60 * limit
        run.run(folder, started, deadline, checkpoint_every, progress, on_step)
    workers.wait()
    return load(folder, None if classes else raw).to(workers.device)


def _classes(law: Target, labels: Any) -> tuple[list[Any], Tensor | None]:
    """The classes of data in order, and the number of each datum's among them."""
    if labels is None:
        return [], None
    if not law.atoms:
        raise ValueError(f"labels are of data, and {law.name} is a law: leave them out")
    classes, code = np.unique(as_labels(labels, law.atoms), return_inverse=True)
    return classes.tolist(), torch.from_numpy(code.ravel().astype(np.int64))


def _begun(law: Target, moments: Moments, asked: dict[str, Any], noise: Noise) -> dict[str, Any]:
    """The config of a new run."""
    network = architecture(asked, law.event_shape)
    flow = asked.get("objective") == FLOW
    levels = FlowTimes(moments.deviation) if flow else _noise(NoiseLevels.of_law(law, moments.deviation), noise)
    return {
        "data": _described(law) | {"sigma_data": moments.deviation},
        "network": network,
        "noise": levels.config(),
        "training": Settings.of(asked, network["kind"]).config(),
    }


def _described(law: Target) -> dict[str, Any]:
    return {"name": law.name, "event_shape": list(law.event_shape), "points": law.atoms or None}


def _noise(levels: NoiseLevels, noise: Noise) -> NoiseLevels:
    """The levels that the argument `noise` of `train` stands for."""
    if noise is None or (isinstance(noise, str) and noise == LOG_NORMAL):
        return levels
    if isinstance(noise, str | os.PathLike):
        try:
            noise = records.read(noise, "profile")
        except ValueError as error:
            raise ValueError(f"noise {error}, or log-normal") from None
    return levels.with_profile(noise)


def _continued(folder: Path, law: Target, moments: Moments, asked: dict[str, Any], noise: Noise) -> dict[str, Any]:
    """The config of the run in `folder`, where this call goes on with it."""
    config = read_config(folder)
    with readable(folder / CONFIG):
        empty_model(config)
        levels = levels_of(config["noise"])
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
    if difference is None and noise is not None:
        plain = isinstance(levels, NoiseLevels)
        if not plain or _noise(NoiseLevels(levels.mean, levels.std), noise) != levels:
            difference = "noise is another distribution than the run was begun with"
    if difference is not None:
        raise ValueError(f"cannot resume {str(folder)!r}: {difference}: leave it out")
    return config


def _is_flow(folder: Path) -> bool:
    return read_config(folder)["training"].get("objective") == FLOW


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


@contextmanager
def _held(folder: Path, resume: bool, force: bool) -> Generator[None, None, None]:
    """The folder for this run alone, made where it is missing, and taken back where nothing was trained."""
    created = not exists(folder)
    with ExitStack() as held:
        try:
            if not resume:
                folder.mkdir(exist_ok=True)
            mine = held.enter_context(locked(folder))
        except OSError as error:
            raise ValueError(f"{str(folder)!r} cannot be written: {line(error.strerror or error)}") from None
        if not mine:
            raise ValueError(f"{str(folder)!r}: another run is training in it: give another folder")
        if not resume:
            check_folder(folder, force)  # once more, as it may have been filled meanwhile
        try:
            yield
        except BaseException:
            if not resume and not exists(folder / STATE):
                _remove(folder, created)
            raise


def _remove(folder: Path, created: bool) -> None:
    with suppress(OSError):
        (folder / CONFIG).unlink(missing_ok=True)
        if created:
            folder.rmdir()
