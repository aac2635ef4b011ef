"""Networks with conditions and under guidance, against the laws that they are exact denoisers of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import brenier
from brenier.networks.network import NetworkTarget
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference

MEANS = [[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]]
LAWS = [
    brenier.GaussianMixture([0.4, 0.6], [mean, [mean[0], mean[1] + 0.5]], [0.05, 0.3], dtype=torch.float64)
    for mean in MEANS
]
ALL = brenier.GaussianMixture(
    [share / 3 for _ in LAWS for share in (0.4, 0.6)],
    [[mean[0], mean[1] + up] for mean in MEANS for up in (0.0, 0.5)],
    [0.05, 0.3] * 3,
    dtype=torch.float64,
)
NONE = 3  # the label that stands for no condition


def denoised(x: Tensor, sigma: float, label: Tensor) -> Tensor:
    """The posterior mean of each row under the law of its label."""
    found, label = torch.zeros_like(x), torch.arange(NONE + 1)[label]  # as an embedding does, it refuses others
    for k, law in enumerate([*LAWS, ALL]):
        found = torch.where((label == k)[:, None], law.denoise(x / sigma, 1 / sigma), found)
    return found


class Labelled(nn.Module):
    """E[X | X + sigma Z = x] of the law of a label, a row each."""

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        return denoised(x, float(sigma[0]), label)


def network(**options: Any) -> NetworkTarget:
    options = {"snr_range": (0.02, 50.0), **options}
    return NetworkTarget(Labelled(), event_shape=(2,), dtype=torch.float64, **options)


def queries(n: int, snr: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return snr * ALL.sample(n, 1) + torch.randn(n, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("label", [0, 2, NONE])
@pytest.mark.parametrize("given", [int, lambda k: [k], lambda k: np.array([k]), lambda k: torch.tensor([k])])
def test_one_condition_is_one_law(label: int, given: Callable[[int], Any]) -> None:
    law, y = ALL if label == NONE else LAWS[label], queries(12, 0.8)
    found, exact = network(condition={"label": given(label)}).localize(y, 0.8), law.localize(y, 0.8)
    torch.testing.assert_close(found.mean, exact.mean)
    torch.testing.assert_close(found.norm, exact.norm, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("batch", [None, 1, 2, 5])
def test_several_conditions_go_by_rows_whatever_the_batch(batch: int | None) -> None:
    net, y = network(condition={"label": [0, 1, 2]}, batch=batch), queries(11, 0.8)
    laws = [LAWS[k % 3] for k in range(11)]
    exact = [law.localize(row[None], 0.8) for law, row in zip(laws, y, strict=True)]
    torch.testing.assert_close(net.denoise(y, 0.8), torch.cat([one.mean for one in exact]))
    torch.testing.assert_close(net.localize(y, 0.8).trace, torch.cat([one.trace for one in exact]))
    torch.testing.assert_close(net.jacobian(y, 0.8).mean, torch.cat([one.mean for one in exact]))
    x, z = ALL.sample(11, 2), queries(11, 0.0)
    path = net.localize_path(x, z, [0.5, 1.0])
    exact = [[law.localize((r * x + z)[k][None], r).trace for k, law in enumerate(laws)] for r in (0.5, 1.0)]
    torch.testing.assert_close(path.trace, torch.stack([torch.cat(row) for row in exact]))


@pytest.mark.parametrize("batch", [None, 7])
def test_samples_are_of_the_law_of_their_row(batch: int | None) -> None:
    net = network(condition={"label": [0, 1, 2]})
    drawn = (
        net.sample(60, 0),
        brenier.sample(net, 60, steps=12, schedule="karras", batch=batch, progress=False).points,
    )
    for points in drawn:
        near = torch.cdist(points, torch.tensor(MEANS, dtype=torch.float64) + torch.tensor([0, 0.3])).argmin(1)
        assert near.tolist() == [k % 3 for k in range(60)]


# Guidance


def prediction(kind: str) -> tuple[NetworkTarget, Callable[[Tensor, float, Tensor], Tensor]]:
    """A guided network that predicts this, of weight 3."""

    def clean(x: Tensor, alpha: float, sigma: float, label: Tensor) -> Tensor:
        return denoised(x / alpha, sigma / alpha, label)

    def predict(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        s = float(t[0])
        alpha, sigma = {"velocity": (1 - s, s)}.get(kind, (1.0, s))
        if kind == "edm":
            sigma = float(np.exp(4 * s))
            skip, out, into = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / np.hypot(sigma, 0.5), 1 / np.hypot(sigma, 0.5)
            return (clean(x / into, 1.0, sigma, label) - skip * x / into) / out
        found = clean(x, alpha, sigma, label)
        noise = (x - alpha * found) / sigma
        return {"x0": found, "epsilon": noise, "score": -noise / sigma, "velocity": noise - found}[kind]

    time = {"velocity": "flow", "edm": "edm"}.get(kind, "sigma")
    options: dict[str, Any] = {"sigma_data": 0.5} if kind == "edm" else {}
    net = NetworkTarget(
        predict,
        event_shape=(2,),
        prediction=kind,  # type: ignore[arg-type]
        time=time,  # type: ignore[arg-type]
        condition={"label": 1},
        unconditional={"label": NONE},
        guidance=3.0,
        dtype=torch.float64,
        **options,
    )
    return (
        net,
        lambda x, sigma, w: (
            denoised(x, sigma, torch.full((len(x),), NONE)) * (1 - w)
            + w * denoised(x, sigma, torch.ones(len(x), dtype=torch.long))
        ),
    )


@pytest.mark.parametrize("kind", ["x0", "epsilon", "score", "velocity", "edm"])
def test_guidance_moves_the_denoiser_whatever_is_predicted(kind: str) -> None:
    net, exact = prediction(kind)
    y = queries(9, 0.7)
    torch.testing.assert_close(net.denoise(y, 0.7), exact(y / 0.7, 1 / 0.7, 3.0), rtol=1e-9, atol=1e-9)
    for row, norm in zip(y / 0.7, net.localize(y, 0.7).norm, strict=True):
        jacobian: Any = torch.autograd.functional.jacobian(lambda x: exact(x[None], 1 / 0.7, 3.0)[0], row)
        assert float(torch.linalg.matrix_norm(jacobian, 2)) == pytest.approx(float(norm), rel=1e-4)
    assert net.guided
    assert net.name == "network (label=1, guidance 3)"


@pytest.mark.parametrize(("weight", "law"), [(0.0, ALL), (1.0, LAWS[2])])
def test_weights_0_and_1_are_posterior_means(weight: float, law: brenier.Target) -> None:
    net = network(condition={"label": 2}, unconditional={"label": NONE}, guidance=weight)
    assert not net.guided
    y = queries(8, 1.3)
    torch.testing.assert_close(net.denoise(y, 1.3), law.denoise(y, 1.3))


def test_a_plan_is_for_what_is_followed() -> None:
    """Planned for guidance, or for all conditions at once, levels leave less error there than planned without."""
    asked: dict[str, dict[str, Any]] = {
        "guided": {"condition": {"label": 1}, "unconditional": {"label": NONE}, "guidance": 6.0},
        "three": {"condition": {"label": [0, 1, 2]}},
    }
    plain = brenier.plan(network(condition={"label": NONE}), 6, pilots=24, progress=False)
    for options in asked.values():
        net = network(**options)
        own = brenier.plan(net, 6, pilots=24, progress=False)
        x = start(net, 90, own.sigmas[0], seed=5)
        goal = reference(net, x, own.sigmas[0], tolerance=1e-4)
        errors = []
        for schedule in (own, plain):
            end = integrate(net, x, schedule.sigmas, schedule.solver).x
            errors.append(float((end - goal).square().sum(1).mean().sqrt()))
        assert errors[0] < errors[1]
        assert own.end_error == pytest.approx(errors[0], rel=0.5)


def test_calibration_says_that_what_is_guided_is_no_posterior_mean() -> None:
    net = network(condition={"label": 2}, unconditional={"label": NONE}, guidance=2.0, data=LAWS[2])
    with pytest.warns(UserWarning, match=r"network \(label=2, guidance 2\) is guided: .*no posterior mean"):
        brenier.calibrate(net, snrs=[1.0], queries=8, progress=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance": 2.0}, "guidance strengthens a condition: give condition"),
        (
            {"condition": {"label": 1}, "guidance": 2.0},
            "how to ask the network without a condition: give unconditional",
        ),
        ({"condition": {"label": 1}, "unconditional": {"label": 3}, "guidance": np.nan}, "guidance must be a finite"),
        ({"condition": {"label": 1}, "unconditional": {"label": [3, 3]}, "guidance": 2}, "unconditional must be one"),
        ({"condition": {"label": [1, 2], "other": [1, 2, 3]}}, "as many conditions of each kind, got 2 of label, 3 of"),
        ({"condition": {"label": [0, 1]}, "data": ALL}, r"\(label=0,1\) has 2 conditions, and data are of one"),
        ({"condition": {"label": float("nan")}}, "condition label holds values that are not finite"),
        ({"condition": {"label": 7}}, r"does not take points of shape \(2,\) with label=7: index 7 is out of bounds"),
        ({"condition": {"word": 1}}, "unexpected keyword argument 'word'"),
    ],
)
def test_bad_conditions_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        network(**options)
