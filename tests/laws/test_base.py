import numpy as np
import pytest
import torch

import brenier
from brenier.laws.base import Localization, Target
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform

Y = np.array([[0.3, -1.0], [2.0, 0.5], [0.0, 0.0]])


class Shrunk(Target):
    """N(0, I), as somebody else would write it."""

    name, event_shape, dtype = "shrunk", (2,), torch.float32

    def sample(self, n, seed=0):
        return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=self.dtype)

    def denoise(self, points, snr):
        assert isinstance(points, torch.Tensor)
        return points * (snr / (1 + snr**2))

    def localize(self, points, snr):
        assert isinstance(points, torch.Tensor)
        norm = points.new_full((len(points),), snr**2 / (1 + snr**2))
        return Localization(norm, 2 * norm, self.denoise(points, snr))

    def scales(self):
        return 1.0, 1.0


LAWS = {
    "mixture": GaussianMixture([1, 2], [[0.0, 0.0], [1.0, 1.0]], 0.5),
    "uniform": Uniform([0.0, 0.0], [1.0, 2.0]),
    "empirical": Empirical([[0.0, 0.0], [1.0, 1.0], [0.0, 2.0]]),
    "own": Shrunk(),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("give", [lambda y: y, lambda y: y.tolist(), lambda y: y.astype(np.float32)])
def test_arrays_and_lists_are_answered_by_arrays(law, give):
    given, y = give(Y), torch.from_numpy(Y).to(law.dtype)
    calls = {"denoise": law.denoise, "score": law.score}
    if law.name in ("gaussian-mixture", "uniform"):
        calls["log_density"] = law.log_density
    for name, call in calls.items():
        found = call(given, 0.7)
        assert isinstance(found, np.ndarray), name
        np.testing.assert_allclose(found, call(y, 0.7).numpy(), rtol=1e-6, atol=1e-6, err_msg=name)
    found, expected = law.localize(snr=0.7, **{"y" if law.name != "shrunk" else "points": given}), law.localize(y, 0.7)
    path, along = law.localize_path(given, np.zeros_like(Y), [0.5, 0.7]), law.localize_path(y, 0 * y, [0.5, 0.7])
    for name in ("norm", "trace", "mean", "ess", "norm_error"):
        for one, other in ((found, expected), (path, along)):
            if getattr(other, name) is None:
                assert getattr(one, name) is None
            else:
                assert isinstance(getattr(one, name), np.ndarray)
                np.testing.assert_allclose(getattr(one, name), getattr(other, name).numpy(), rtol=1e-6, atol=1e-6)


def test_tensors_are_answered_by_tensors_as_they_are():
    y = torch.from_numpy(Y).requires_grad_()
    LAWS["mixture"].log_density(y, 1.0).sum().backward()
    torch.testing.assert_close(y.grad, LAWS["mixture"].score(y.detach(), 1.0))


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_what_are_no_points_is_said_in_one_line(law):
    with pytest.raises(TypeError, match=r"^(y|points) must be real numbers, got an array of <U1$"):
        law.denoise([["a", "b"]], 1.0)
    if law.name != "shrunk":
        with pytest.raises(ValueError, match=r"points must have shape \(n, 2\), got \(3, 1\)"):
            law.denoise([[1.0], [2.0], [3.0]], 1.0)


def test_only_networks_have_data_and_only_data_need_memory():
    with pytest.raises(ValueError, match="shrunk is no network"):
        Shrunk().with_data(LAWS["mixture"])
    assert LAWS["mixture"].within(0.5) is LAWS["mixture"]
    assert LAWS["empirical"].within(0.5).max_memory == 0.5
    for law in LAWS.values():
        with pytest.raises(ValueError, match="max_memory must be positive, got 0 GiB"):
            law.within(0)


class Circle(Target):
    """Uniform on a circle: no more than the docs say a law needs. Posteriors are von Mises laws."""

    event_shape = (2,)

    def __init__(self, radius):
        self.radius = torch.tensor(radius, dtype=torch.float64)

    def sample(self, n, seed=0):
        angle = 2 * torch.pi * torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=self.dtype)
        return self.radius * torch.stack([angle.cos(), angle.sin()], 1)

    def denoise(self, y, snr):
        return self.localize(y, snr).mean

    def localize(self, y, snr):
        length = y.norm(dim=1)
        kappa = (snr * self.radius * length).clamp_min(1e-9)
        ratio = torch.special.i1e(kappa) / torch.special.i0e(kappa)
        across = (snr * self.radius) ** 2 * ratio / kappa  # E sin^2 = ratio/kappa
        along = (snr * self.radius) ** 2 * (1 - ratio / kappa - ratio**2)
        return Localization(
            torch.maximum(along, across), along + across, self.radius * (ratio / length.clamp_min(1e-9))[:, None] * y
        )

    def scales(self):
        return float(self.radius), float(self.radius)


def test_a_law_needs_what_the_docs_say_and_nothing_else():
    law, points = Circle(1.0), Circle(1.0).sample(20_000, seed=1)
    own = brenier.probe(law, snrs=[0.5, 2.0], queries=400, progress=False)
    by_points = brenier.probe(points, snrs=[0.5, 2.0], queries=400, about="atoms", progress=False)
    spread = np.hypot(own["mean_localization_se"], by_points["mean_localization_se"])
    assert bool((abs(own["mean_localization"] - by_points["mean_localization"]) < 4 * spread).all())
    assert own.attrs["law"] == "law"
    schedule = brenier.plan(law, 4, pilots=32, progress=False)
    found = brenier.sample(law, 500, schedule=schedule, progress=False)
    assert float((found.points.norm(dim=1) - 1).abs().mean()) < 0.1
    moved = law.to(dtype=torch.float32)
    assert (moved.dtype, moved.radius.dtype, law.dtype) == (torch.float32, torch.float32, torch.float64)
    assert moved.sample(2).dtype == torch.float32


def test_laws_and_samples_are_named_in_a_line():
    law = brenier.load_target("digits")
    assert repr(law) == "<Empirical 'digits': 1,797 points, 8 x 8 dimensions>"
    assert repr(Uniform([0.0], [1.0])) == "<Uniform 'uniform': 1 dimension>"
    drawn = brenier.sample("normal", 3, steps=2, schedule="karras", progress=False)
    assert repr(drawn) == "<3 samples of shape 1: 2 steps of dpmpp-2m, 2 evaluations>"
