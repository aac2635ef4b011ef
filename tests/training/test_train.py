import contextlib
import itertools
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file

from brenier.catalog import load_target
from brenier.core.reading.options import Reading
from brenier.distances.wasserstein import w2
from brenier.laws.mixture import GaussianMixture
from brenier.networks.architectures import weighted_loss
from brenier.networks.flow import FlowTarget
from brenier.networks.noise_levels import NoiseLevels
from brenier.networks.saved import load, read_model
from brenier.probing.profile import probe
from brenier.sampling.planning import plan
from brenier.sampling.sample import sample, straightness_of
from brenier.training import checkpoint, history, objectives, run
from brenier.training import train as training
from brenier.training.checkpoint import read_progress
from brenier.training.history import read_history
from brenier.training.settings import Settings
from brenier.training.train import train
from brenier.transport import SemiDiscrete

LAW = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.05, [0.1, 0.4]])
SMALL = {"batch": 64, "width": 16, "depth": 1, "device": "cpu", "progress": False}
FILES = ("config.json", "model.safetensors", "state.safetensors", "history.csv")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def after(step: int, error: type[BaseException]) -> Callable[[int, float], None]:
    """What raises an error behind a step."""

    def stop(done: int, _: float) -> None:
        if done == step:
            raise error

    return stop


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, whose folder is copied and not touched."""
    folder = tmp_path_factory.mktemp("begun") / "net"
    train(LAW, folder, steps=4, **SMALL)
    return folder


@pytest.fixture
def net(begun: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(begun, tmp_path / "net"))


# What is learned


def test_training_comes_near_the_least_error_there_is(tmp_path: Path) -> None:
    """E|D - X|^2 = mmse + E|D - E[X|Y]|^2: short training takes away nine tenths of the linear denoiser's excess."""
    network = train(LAW, tmp_path / "net", steps=400, batch=256, width=32, depth=2, device="cpu", progress=False)
    n, snr = 4000, 2.0
    x, z = LAW.sample(n, 1), torch.randn((n, 2), generator=torch.Generator().manual_seed(2))
    y = snr * x + z
    exact = LAW.denoise(y, snr)
    found = network.denoise(y.float(), snr).double()
    s = json.loads((tmp_path / "net" / "config.json").read_text())["data"]["sigma_data"]
    linear = s**2 * snr / (s**2 * snr**2 + 1) * y  # the centre is 0 but for sampling
    excess, before = ((other - exact).square().sum(1).mean().item() for other in (found, linear))
    assert excess < before / 10
    # No denoiser is better than the posterior mean, beyond the error of the comparison.
    worse = (found - x).square().sum(1) - (exact - x).square().sum(1)
    assert worse.mean() > -4 * worse.std() / math.sqrt(n)
    assert worse.mean() == pytest.approx(excess, abs=4 * float(worse.std()) / math.sqrt(n))


def test_the_history_is_the_loss_of_each_band(tmp_path: Path) -> None:
    """At a vanishing rate nothing is learned: the loss is that of F = 0, which a sample of the law tells."""
    train(LAW, tmp_path / "net", steps=300, learning_rate=1e-12, **SMALL)
    names, rows = read_history(tmp_path / "net")
    assert [row[0] for row in rows] == [100, 200, 300]
    levels = NoiseLevels.from_config(json.loads((tmp_path / "net" / "config.json").read_text())["noise"])
    assert names[0] == f"SNR below {1 / levels.quantile(0.75):.3g}"
    sigma = levels.sample(40_000, torch.Generator().manual_seed(1)).sort(descending=True).values
    x = LAW.sample(len(sigma), 3).float()
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    denoiser = read_model(tmp_path / "net")
    loss = weighted_loss(denoiser, x, z, sigma, denoiser.get_buffer("sigma_data")).reshape(4, -1)
    for k in range(4):
        # 100 steps of 16 points in each band, against 10,000.
        error = float(loss[k].std()) * math.sqrt(1 / 1600 + 1 / 10_000)
        assert rows[0][1 + k] == pytest.approx(float(loss[k].mean()), abs=5 * error)


def test_the_unit_of_the_data_does_not_matter(tmp_path: Path) -> None:
    """Rescaled data train the same weights, but for the rounding of the noise levels."""
    data = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    train(data, tmp_path / "one", steps=20, **SMALL)
    train(4 * data, tmp_path / "four", steps=20, **SMALL)
    one, four = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "four"))
    for name, tensor in one.items():
        factor = 4 if name in ("centre", "sigma_data") else 1
        assert torch.allclose(four[name], factor * tensor, rtol=1e-4, atol=1e-5), name


def test_a_profile_moves_the_noise_levels(tmp_path: Path) -> None:
    profile = probe("two-points", [2.0, 3.0, 4.0], progress=False)
    profile.to_netcdf(tmp_path / "profile.nc", engine="h5netcdf")
    train(LAW, tmp_path / "net", steps=2, noise=str(tmp_path / "profile.nc"), **SMALL)
    train(LAW, tmp_path / "same", steps=2, noise=profile, **SMALL)
    levels = NoiseLevels.from_config(json.loads((tmp_path / "net" / "config.json").read_text())["noise"])
    assert levels.cdf(1 / 2) - levels.cdf(1 / 4) > 0.5
    assert contents(tmp_path / "net") == contents(tmp_path / "same")


def test_a_profile_is_read_from_its_file(tmp_path: Path) -> None:
    plain = NoiseLevels(0.0, 1.2)
    profile = probe("two-points", [0.5, 1.5, 2.0], progress=False)
    profile.to_netcdf(tmp_path / "profile.nc", engine="h5netcdf")
    assert training._noise(plain, tmp_path / "profile.nc") == plain.with_profile(profile)
    with pytest.raises(ValueError, match="does not exist: give what `brenier probe -o` saved, or log-normal"):
        training._noise(plain, tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("text")
    with pytest.raises(ValueError, match="not a netCDF file"):
        training._noise(plain, tmp_path / "text.nc")


@pytest.mark.parametrize("shape", [(2, 3), (16, 16), (3, 18, 17)])
def test_images_are_trained_in_their_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = np.random.default_rng(0).normal(size=(20, *shape))
    sizes = {"width": 8} if shape == (2, 3) else {"channels": (8, 8)}
    network = train(data, tmp_path / "net", steps=2, batch=4, depth=1, device="cpu", progress=False, **sizes)
    assert network.event_shape == shape
    assert network.denoise(torch.zeros(2, math.prod(shape)), 1.0).shape == (2, math.prod(shape))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_and_moments_stay_in_float32(tmp_path: Path, precision: str) -> None:
    train(LAW, tmp_path / "net", steps=3, precision=precision, **SMALL)
    state = load_file(tmp_path / "net" / "state.safetensors")
    assert {str(t.dtype) for name, t in state.items() if name.split(".")[0] in ("weights", "average", "first")} == {
        "torch.float32"
    }
    assert float(state["weights.network.leave.weight"].abs().max()) > 0


def test_rates_warm_up_and_fall_to_nothing() -> None:
    settings = Settings(steps=1000, minutes=None, batch=1, learning_rate=2.0)
    rates = [run.learning_rate(settings, step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(2 / 101)
    assert max(rates) == pytest.approx(2 * (1 + math.cos(math.pi / 10)) / 2, rel=0.02)
    assert rates[500] == pytest.approx(1.0)
    assert rates[-1] < 1e-5
    assert all(b < a for a, b in itertools.pairwise(rates[100:]))
    constant = Settings(steps=1000, minutes=None, batch=1, learning_rate=2.0, decay="constant")
    assert run.learning_rate(constant, 999, 1000) == 2.0


def test_a_flow_comes_near_the_velocity_that_there_is(tmp_path: Path) -> None:
    """Short training takes away nine tenths of what the velocity of a normal law misses."""
    network = train(
        LAW, tmp_path / "net", objective="flow", steps=400, **(SMALL | {"batch": 256, "width": 32, "depth": 2})
    )
    assert isinstance(network, FlowTarget)
    assert not network.coupled
    s = json.loads((tmp_path / "net" / "config.json").read_text())["data"]["sigma_data"]
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x, missed, before = LAW.sample(4000, 1), 0.0, 0.0
    for t in (0.2, 0.5, 0.8):
        y = (1 - t) * noise + t * x
        true = (LAW.denoise(y / (1 - t), t / (1 - t)) - y) / (1 - t)
        normal = (s**2 * t - (1 - t)) / ((1 - t) ** 2 + (s * t) ** 2) * y  # the centre is 0 but for sampling
        missed += float((network.velocity(y.float(), t).double() - true).square().mean())
        before += float((normal - true).square().mean())
    assert missed < before / 10
    distance = w2(sample(network, 2000, steps=20, solver="midpoint", progress=False).points, LAW)
    assert distance.value < 0.1 + 2 * distance.value_se


def test_paths_become_straighter_by_pairs(tmp_path: Path) -> None:
    """A map between the data and the noise; its network is coupled, and saved as such."""
    data = np.array([[-2.0], [-1.0], [0.5], [3.0]], dtype=np.float32)
    options = SMALL | {"objective": "flow", "steps": 150, "batch": 256}
    transport = SemiDiscrete(data).fit(progress=False)
    found = [
        train(data, tmp_path / str(k), pairs=pairs, **options) for k, pairs in enumerate(("independent", transport))
    ]
    assert [load_target(str(tmp_path / str(k))).coupled for k in range(2)] == [False, True]
    bent = [straightness_of(network).value for network in found]
    assert bent[1] < bent[0] / 2
    with pytest.raises(ValueError, match="coupled to its data"):
        plan(found[1], 4, progress=False)


def test_a_flow_to_a_single_point_gets_there(tmp_path: Path) -> None:
    network = train([[3.0, -2.0]], tmp_path / "net", objective="flow", pairs="minibatch", steps=20, **SMALL)
    for steps, solver in ((1, "euler"), (4, "euler"), (4, "midpoint")):
        points = sample(network, 10, steps=steps, solver=solver, progress=False).points
        torch.testing.assert_close(points, torch.tensor([[3.0, -2.0]]).expand(10, 2), rtol=0, atol=0.02)


@pytest.mark.parametrize("options", [{"objective": "flow", "pairs": "minibatch"}, {"objective": "denoising"}])
def test_a_network_is_told_classes(tmp_path: Path, options: dict[str, Any]) -> None:
    """Points are nearest to data of the class that is asked for; all classes come in turn where none is."""
    data, labels = np.array([[-2.0], [3.0], [3.5]], np.float32), ["low", "up", "up"]
    settings = SMALL | options | {"steps": 150, "batch": 128}
    network = train(data, tmp_path / "net", labels=labels, **settings)
    assert (network.period, network.data) == (2, None)
    for which in (0, 1):
        asked = load_target(str(tmp_path / "net"), reading=Reading(condition={"class_labels": [which]}))
        points = sample(asked, 40, steps=8, schedule=None if "pairs" in options else "karras", progress=False).points
        assert float(((points > 0.5) == which).double().mean()) > 0.9
        assert float(points.median()) == pytest.approx(float(data[1:].mean() if which else data[0, 0]), abs=0.6)
    if "pairs" in options:
        both = sample(network, 40, steps=8, batch=7, progress=False).points[:, 0]
        assert float((both[0::2] < 0.5).double().mean()) > 0.9
        assert float((both[1::2] > 0.5).double().mean()) > 0.9
        torch.testing.assert_close(both, sample(network, 40, steps=8, progress=False).points[:, 0])


@pytest.mark.parametrize("options", [{"objective": "flow", "pairs": "minibatch"}, {"objective": "denoising"}])
def test_a_network_that_is_not_always_told_can_be_guided(tmp_path: Path, options: dict[str, Any]) -> None:
    """Guided by w it returns D() + w (D(c) - D()); w = 0 samples all of the data, whatever is asked for."""
    data, labels = np.array([[-2.0], [3.0]], np.float32), [4, 9]
    settings = SMALL | options | {"steps": 150, "batch": 128, "drop_labels": 0.3}
    network = train(data, tmp_path / "net", labels=labels, **settings)
    assert (network.period, network.conditions.count) == (2, 2)

    def asked(weight: float, which: int = 1) -> Any:
        reading = Reading(condition={"class_labels": [which]}, guidance=weight)
        return load_target(str(tmp_path / "net"), reading=reading)

    x = torch.linspace(-2, 3, 7)[:, None]
    seen = [(law.velocity(x, 0.5) if "pairs" in options else law.denoise(x, 1.0)) for law in map(asked, (0, 1, 3))]
    torch.testing.assert_close(seen[2], seen[0] + 3 * (seen[1] - seen[0]), rtol=1e-4, atol=1e-4)
    schedule = None if "pairs" in options else "karras"
    points = [sample(asked(w), 200, steps=8, schedule=schedule, progress=False).points for w in (0.0, 1.0)]
    shares = [float((found > 0.5).double().mean()) for found in points]
    assert 0.3 < shares[0] < 0.7
    assert shares[1] > 0.9


def test_guidance_that_does_not_do(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    flow = SMALL | {"objective": "flow", "steps": 2}
    with pytest.raises(ValueError, match=r"drop_labels must lie in \(0, 1\), a share of the points, got 1"):
        train(data, tmp_path / "net", labels=[0, 1] * 3, drop_labels=1.0, **flow)
    with pytest.raises(ValueError, match="drop_labels leaves labels out now and then, and there are none"):
        train(data, tmp_path / "net", drop_labels=0.1, **flow)
    train(data, tmp_path / "net", labels=[0, 1] * 3, **flow)
    with pytest.raises(ValueError, match="was never trained without labels: train it with --drop-labels"):
        load_target(str(tmp_path / "net"), reading=Reading(guidance=2.0))


def test_labels_that_do_not_do(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    flow = SMALL | {"objective": "flow", "steps": 2}
    for law, labels, words in (
        (data, [0, 1], "labels must be 6, one for each point"),
        (data, [0, 1, np.nan, 0, 1, 0], "1 are NaN, first in row 2"),
        (LAW, [0, 1], "labels are of data, and .* is a law"),
    ):
        with pytest.raises(ValueError, match=words):
            train(law, tmp_path / "net", labels=labels, **flow)
    train(data, tmp_path / "net", labels=[0, 1, 2, 0, 1, 2], **flow)
    for labels in (None, [0, 1, 0, 1, 0, 1]):
        with pytest.raises(ValueError, match="begun with 3 classes, these data"):
            train(data, tmp_path / "net", labels=labels, resume=True, device="cpu", progress=False)
    with pytest.raises(ValueError, match=r"does not take points .* with class_labels=3"):
        load(tmp_path / "net", condition={"class_labels": 3})


# Stopping and going on


def seeded(data: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs without end, the same every time."""
    random = np.random.default_rng(5)
    while True:
        yield random.normal(size=(7, data.shape[1])), random.integers(len(data), size=7)


@pytest.mark.parametrize("pairs", ["independent", "minibatch", "given"])
def test_a_stopped_flow_resumes_bit_by_bit(tmp_path: Path, pairs: str) -> None:
    data = np.random.default_rng(0).normal(size=(50, 2))
    options = SMALL | {"objective": "flow", "steps": 12}

    def which() -> Any:
        return seeded(data) if pairs == "given" else pairs

    train(data, tmp_path / "whole", pairs=which(), **options)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "net", pairs=which(), on_step=after(5, KeyboardInterrupt), **options)
    again = {"resume": True, "device": "cpu", "progress": False}
    if pairs == "given":
        with pytest.raises(ValueError, match="was begun with pairs of its own: give them again"):
            train(data, tmp_path / "net", **again)
        with pytest.raises(ValueError, match="pairs minibatch, but it was begun with given"):
            train(data, tmp_path / "net", pairs="minibatch", **again)
        train(data, tmp_path / "net", pairs=which(), **again)
    else:
        with pytest.raises(ValueError, match="objective denoising, but it was begun with flow"):
            train(data, tmp_path / "net", objective="denoising", **again)
        with pytest.raises(ValueError, match="noise is another distribution"):
            train(data, tmp_path / "net", noise="log-normal", **again)
        train(data, tmp_path / "net", **again)
    assert contents(tmp_path / "net") == contents(tmp_path / "whole")


def test_pairs_that_end_stop_the_run_and_leave_its_last_checkpoint(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(50, 2))
    few = itertools.islice(seeded(data), 30)  # 210 pairs, three steps of 64
    with pytest.raises(ValueError, match="the pairs ended after 210, amid the training"):
        train(data, tmp_path / "net", objective="flow", pairs=few, steps=9, checkpoint_every=2, **SMALL)
    assert read_progress(tmp_path / "net") == (2, 9)


def test_the_same_run_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train("four-gaussians", tmp_path / name, steps=5, **SMALL)
    train("four-gaussians", tmp_path / "c", steps=5, seed=1, **SMALL)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["model.safetensors"] != contents(tmp_path / "c")["model.safetensors"]


@pytest.mark.parametrize("data", [LAW, np.random.default_rng(0).normal(size=(50, 2))])
@pytest.mark.parametrize(("error", "kept"), [(KeyboardInterrupt, 14), (RuntimeError, 9)])
def test_a_stopped_run_resumes_bit_by_bit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: GaussianMixture | np.ndarray,
    error: type[BaseException],
    kept: int,
) -> None:
    """Ctrl-C saves the step it finds, any other error leaves the last checkpoint: both amid a row of the history."""
    monkeypatch.setattr(history, "EVERY", 10)
    train(data, tmp_path / "whole", steps=24, **SMALL)
    with pytest.raises(error):
        train(data, tmp_path / "net", steps=24, checkpoint_every=9, on_step=after(14, error), **SMALL)
    assert read_progress(tmp_path / "net") == (kept, 24)
    with pytest.raises(error):
        train(data, tmp_path / "net", resume=True, on_step=after(16, error), device="cpu", progress=False)
    steps: list[int] = []
    train(data, tmp_path / "net", resume=True, on_step=lambda k, _: steps.append(k), device="cpu", progress=False)
    assert steps[0] == (17 if error is KeyboardInterrupt else kept + 1)
    assert contents(tmp_path / "net") == contents(tmp_path / "whole")


SCRIPT = """
import os, signal, sys
import torch
from brenier.training.train import train

torch.set_num_threads(1)
options = {"batch": 64, "width": 16, "depth": 1, "device": "cpu", "progress": False}
kill = lambda step, loss: os.kill(os.getpid(), signal.SIGKILL) if step == 13 else None
train("two-points", sys.argv[1], steps=20, checkpoint_every=5, on_step=kill, **options)
"""


def test_a_killed_run_resumes_bit_by_bit(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "net"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_progress(tmp_path / "net") == (10, 20)
    train("two-points", tmp_path / "net", resume=True, device="cpu", progress=False)
    train("two-points", tmp_path / "whole", steps=20, **SMALL)
    assert contents(tmp_path / "net") == contents(tmp_path / "whole")


def test_a_run_killed_between_two_renames_resumes(tmp_path: Path) -> None:
    """The state is new, the model and the history are those of the checkpoint before: only the state counts."""
    train(LAW, tmp_path / "whole", steps=12, **SMALL)
    old: dict[str, bytes] = {}

    def remember(step: int, _: float) -> None:
        if step == 9:
            old.update(contents(tmp_path / "net"))
        if step == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(LAW, tmp_path / "net", steps=12, checkpoint_every=4, on_step=remember, **SMALL)
    for name in ("model.safetensors", "history.csv"):
        (tmp_path / "net" / name).write_bytes(old[name])
    train(LAW, tmp_path / "net", resume=True, device="cpu", progress=False)
    assert contents(tmp_path / "net") == contents(tmp_path / "whole")


def test_a_run_killed_before_its_first_checkpoint_begins_again(net: Path) -> None:
    whole = contents(net)
    for name in FILES[1:]:
        (net / name).unlink()
    train(LAW, net, resume=True, device="cpu", progress=False)
    assert contents(net) == whole


def test_a_finished_run_resumed_is_left_as_it_is(net: Path) -> None:
    whole = contents(net)
    train(LAW, net, resume=True, steps=4, learning_rate=5e-3, on_step=after(1, AssertionError), **SMALL)
    assert contents(net) == whole


# The clock


class Clock:
    """A clock on which every step takes as long as we say."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(training, "time", clock)
    monkeypatch.setattr(run, "time", clock)
    return clock


def slow(clock: Clock, seconds: Callable[[int], float]) -> Callable[[int, float], None]:
    def tick(step: int, _: float) -> None:
        clock.now += seconds(step)

    return tick


def test_a_budget_of_minutes_plans_the_steps(tmp_path: Path, clock: Clock) -> None:
    train(LAW, tmp_path / "net", minutes=1, on_step=slow(clock, lambda step: 0.5), **SMALL)
    # 95% of a minute at half a second a step.
    assert read_progress(tmp_path / "net") == (114, 114)


def test_a_resumed_run_follows_the_plan(tmp_path: Path, clock: Clock) -> None:
    train(LAW, tmp_path / "whole", minutes=1, on_step=slow(clock, lambda step: 0.5), **SMALL)

    def stop(step: int, _: float) -> None:
        clock.now += 0.5
        if step == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(LAW, tmp_path / "net", minutes=1, on_step=stop, **SMALL)
    train(LAW, tmp_path / "net", resume=True, on_step=slow(clock, lambda step: 0.1), device="cpu", progress=False)
    assert contents(tmp_path / "net") == contents(tmp_path / "whole")


def test_the_clock_stops_a_run_that_slows_down(tmp_path: Path, clock: Clock) -> None:
    train(LAW, tmp_path / "whole", steps=40, **SMALL)
    begun = clock.now
    train(LAW, tmp_path / "net", steps=40, minutes=1, on_step=slow(clock, lambda step: 0.1 * step), **SMALL)
    done, wanted = read_progress(tmp_path / "net")
    assert (done, wanted) == (35, 40)  # 0.1 (1 + ... + 35) = 63
    assert clock.now - begun == pytest.approx(63)
    train(LAW, tmp_path / "net", resume=True, device="cpu", progress=False)
    same = {name: contents(tmp_path / "net")[name] == contents(tmp_path / "whole")[name] for name in FILES[1:]}
    assert all(same.values()), same


# What is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"minutes": 0}, "minutes must be positive and finite"),
        ({"minutes": math.inf}, "minutes must be positive and finite"),
        ({"batch": -1}, "batch must be"),
        ({"width": 0}, "width must be"),
        ({"depth": 0}, "depth must be"),
        ({"learning_rate": math.nan}, "learning_rate must be positive and finite"),
        ({"clip": 0}, "clip must be positive"),
        ({"ema": 1}, r"ema must lie in \[0, 1\)"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"decay": "linear"}, "decay must be cosine or constant, got 'linear'"),
        ({"precision": "float16"}, "precision must be one of auto, float32, bfloat16, got 'float16'"),
        ({"checkpoint_every": 0}, "checkpoint_every must be"),
        ({"channels": (8,)}, "channels must be two or more multiples of 8, got 8"),
        ({"channels": (8, 12)}, "channels must be two or more multiples of 8, got 8,12"),
        ({"channels": (8, 16)}, r"channels are for images, .* have shape \(2,\)"),
        ({"channels": (8, 16), "width": 8}, "give one of the two"),
        ({"device": "gpu"}, "device 'gpu' is not available"),
        ({"noise": "uniform"}, "does not exist: give what .* saved, or log-normal"),
        ({"objective": "score"}, "objective must be denoising or flow, got 'score'"),
        ({"pairs": "minibatch"}, "pairs goes with objective flow"),
        ({"plan_size": 8}, "plan_size goes with objective flow"),
        ({"objective": "flow", "pairs": "best"}, "pairs must be independent, minibatch, a map"),
        ({"objective": "flow", "noise": "log-normal"}, "a flow is trained at even times: leave it out"),
        ({"objective": "flow", "plan_size": 8}, "plan_size is that of minibatch plans"),
        ({"objective": "flow", "pairs": "minibatch", "plan_size": 1}, "plan_size must be a whole number of at least 2"),
        ({"objective": "flow", "pairs": "minibatch", "plan_size": 9, "batch": 8}, "more than the batch of 8"),
        ({"objective": "flow", "pairs": []}, "is a law: give data"),
        ({"resume": True, "force": True}, "give one of the two"),
        ({"resume": True}, "does not exist"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        train(LAW, tmp_path / "net", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_kept_unless_it_is_to_be_replaced(net: Path) -> None:
    old = contents(net)
    with pytest.raises(ValueError, match=r"exists: resume it \(--resume\), or replace it \(--force\)"):
        train(LAW, net, steps=3, **SMALL)
    assert contents(net) == old
    train(LAW, net, steps=3, force=True, **SMALL)
    assert read_progress(net) == (3, 3)


def test_no_force_replaces_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    (tmp_path / "file").write_text("")
    for name, words in (("other", "no network of brenier's"), ("file", "is a file"), ("none/net", "make it first")):
        with pytest.raises(ValueError, match=words):
            train(LAW, tmp_path / name, steps=1, force=True, **SMALL)
    assert (tmp_path / "other" / "config.json").read_text() == '{"_class_name": "UNet2DModel"}'
    (tmp_path / "empty").mkdir()
    train(LAW, tmp_path / "empty", steps=1, **SMALL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 9}, "steps 9, but it was begun with 4"),
        ({"learning_rate": 0.01}, "learning_rate 0.01, but it was begun with 0.005"),
        ({"width": 32}, "width 32, but it was begun with 16"),
        ({"channels": (8, 8)}, "channels 8,8, but it was begun with none"),
        ({"seed": 3}, "seed 3, but it was begun with 0"),
        ({"data": "two-points"}, r"two-points has event_shape \[1\], .* was begun with \[2\]"),
        ({"data": GaussianMixture([1.0], [[0.0, 0.0]], [9.0])}, "has sigma_data 2.99"),
        ({"data": np.eye(2)}, "has points 2, .* was begun with None"),
        ({"noise": xr.Dataset({"m_star": ("snr", [1.0, 1.0])}, {"snr": [1.0, 2.0]})}, "noise is another"),
    ],
)
def test_a_resumed_run_must_not_contradict_its_beginning(net: Path, options: dict[str, object], words: str) -> None:
    old = contents(net)
    with pytest.raises(ValueError, match=words) as caught:
        train(**({"data": LAW, "output": net, "resume": True, "device": "cpu"} | options))
    assert "\n" not in str(caught.value)
    assert contents(net) == old


@pytest.mark.parametrize(
    ("part", "entries", "words"),
    [
        ("training", {"speed": 1}, "damaged: .*speed"),
        ("network", {"kind": "none"}, "damaged: it holds no 'none'"),
        ("noise", {"mean": None}, "damaged"),
        ("network", {"width": 8}, "does not fit config.json: weights.network.enter.weight is of another shape"),
        ("network", {"depth": 2}, "does not fit config.json: it holds no 'weights.network.blocks.1"),
    ],
)
def test_a_damaged_run_is_not_resumed(net: Path, part: str, entries: dict[str, object], words: str) -> None:
    file = net / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {part: config[part] | entries}))
    with pytest.raises(ValueError, match=words) as caught:
        train(LAW, net, resume=True, device="cpu", progress=False)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    words = r"^step \d+: the (loss|gradient) is not finite.*smaller learning rate"
    with pytest.raises(ValueError, match=words) as caught:
        train(LAW, tmp_path / "net", steps=50, learning_rate=1e18, checkpoint_every=1, decay="constant", **SMALL)
    step = int(str(caught.value).split()[1].rstrip(":"))
    assert read_progress(tmp_path / "net") == (step - 1, 50)
    for name, tensor in load_file(tmp_path / "net" / "model.safetensors").items():
        assert bool(tensor.isfinite().all()), name


def test_the_band_where_the_loss_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: torch.Tensor) -> torch.Tensor:
        loss, sigma = weighted_loss(*arguments), arguments[3]
        return torch.where(sigma == sigma.max(), math.nan, loss)

    monkeypatch.setattr(objectives, "weighted_loss", broken)
    with pytest.raises(ValueError, match=r"^step 1: the loss is not finite at SNR below 0\.\d+: "):
        train(LAW, tmp_path / "net", steps=2, **SMALL)


def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        train(LAW, tmp_path / "net", steps=50, on_step=after(1, RuntimeError), **SMALL)
    assert list(tmp_path.iterdir()) == []


# Several processes

PAIR = """
import sys
import torch
from brenier.training.train import train

torch.set_num_threads(1)
data = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).numpy()
options = {"batch": 64, "width": 16, "depth": 1, "device": "cpu", "progress": False}
train(data, sys.argv[1], steps=6, checkpoint_every=2, **options)
"""


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PAIR, tmp_path / "net"],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    assert read_progress(tmp_path / "net") == (6, 6)
    state = load_file(tmp_path / "net" / "state.safetensors")
    assert float(state["history.sums"].sum()) == 0
    assert len(read_history(tmp_path / "net")[1]) == 1


def test_force_keeps_the_old_network_until_there_is_a_new_one(tmp_path):
    folder = tmp_path / "net"
    train("four-gaussians", folder, steps=3, batch=8, width=8, depth=1, device="cpu", progress=False)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ValueError, match="not finite"):
        train("four-gaussians", folder, steps=9, learning_rate=1e30, force=True, **SMALL)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    train("four-gaussians", folder, steps=4, batch=8, width=8, depth=1, device="cpu", force=True, progress=False)
    assert '"steps": 4' in (folder / "config.json").read_text()


def test_force_puts_a_whole_network_in_the_place_of_another(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the new files are written the old ones stay; a kill between their renames leaves no mixture of the two."""
    old, seen, real = contents(net), list[dict[str, bytes]](), checkpoint._clear

    def last(folder: Path) -> None:
        seen.append(contents(net))
        real(folder)

    monkeypatch.setattr(checkpoint, "_clear", last)
    train(LAW, net, steps=3, force=True, **SMALL)
    assert seen == [old]
    new = contents(net)
    assert all(new[name] != old[name] for name in FILES)

    def killed(draft: Path, target: Path) -> None:
        if target.name == "model.safetensors":
            raise SystemExit
        real_link(draft, target)

    real_link = os.link
    monkeypatch.setattr(os, "link", killed)
    with pytest.raises(SystemExit):
        train(LAW, net, steps=5, force=True, **SMALL)
    monkeypatch.undo()
    left = {path.name: path.read_bytes() for path in net.iterdir()}
    assert not [name for name in left if left[name] == new.get(name)]
    assert set(left) <= {"config.json"}


def test_two_runs_do_not_share_a_folder(net: Path) -> None:
    script = "import sys, signal, os; from brenier.core.writing import locked; from pathlib import Path\n"
    script += "with locked(Path(sys.argv[1])): print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", script, net], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        before = contents(net)
        for how in ({"resume": True, "device": "cpu"}, {"force": True, "steps": 2, **SMALL}):
            with pytest.raises(ValueError, match="another run is training in it"):
                train(LAW, net, **{"progress": False, **how})
        assert contents(net) == before
        other.kill()
    train(LAW, net, resume=True, device="cpu", progress=False)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, **how: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ValueError, match=r"net' cannot be written: No space left on device"):
        train(LAW, tmp_path / "net", steps=2, **SMALL)


def test_a_network_is_no_data(tmp_path):
    with pytest.raises(ValueError, match="digits-network is a network itself: give data or a law to train on"):
        train("digits-network", tmp_path / "net", steps=1, progress=False)
    assert not (tmp_path / "net").exists()


def test_images_with_channels_last_are_trained_as_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(6, 16, 16, 3))
    with pytest.warns(UserWarning, match=r"channels of data come last, \(16, 16, 3\): turned to \(3, 16, 16\)"):
        net = train(images, tmp_path / "net", steps=1, batch=4, device="cpu", progress=False)
    assert json.loads((tmp_path / "net" / "config.json").read_text())["network"]["kind"] == "unet"
    assert net.event_shape == (3, 16, 16)
