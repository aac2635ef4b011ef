from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr

import brenier
from brenier.laws.mixture import GaussianMixture
from brenier.sampling.difficulty import difficulty
from brenier.sampling.planning import plan

FEW = {"n": 60, "steps": 4, "solver": "euler", "schedule": "karras", "progress": False}


def pair() -> GaussianMixture:
    return GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], 0.25, name="pair")


def test_the_hardest_points_of_two_modes_lie_between_them():
    found = difficulty(pair(), **FEW)
    order = np.argsort(found["rank"].to_numpy())
    across = np.abs(found["points"].to_numpy()[order, 0])
    assert across[:5].max() < across[-30:].min()
    assert sorted(found["rank"].to_numpy()) == list(range(1, 61))


def test_integral_and_maximum_are_those_of_the_law_along_the_way():
    found, law = difficulty(pair(), **FEW), pair()
    path = brenier.sample(law, 60, steps=4, solver="euler", schedule="karras", trajectory=True, progress=False)
    assert path.trajectory is not None
    assert path.schedule is not None
    np.testing.assert_allclose(found["sigma"], path.schedule.sigmas[:-1])
    levels = np.stack(
        [
            np.asarray(law.localize(x / sigma, 1 / sigma).norm)
            for x, sigma in zip(difficulty_path(law, found), found["sigma"].to_numpy(), strict=True)
        ]
    )
    np.testing.assert_allclose(found["localization"], levels)
    np.testing.assert_allclose(found["max_localization"], levels.max(0))
    expected = np.trapezoid(levels, np.log(found["snr"].to_numpy()), axis=0)
    np.testing.assert_allclose(found["integral_localization"], expected)


def difficulty_path(law: GaussianMixture, found: xr.Dataset) -> list[torch.Tensor]:
    """The way again, by hand: Euler's steps from the same noise."""
    from brenier.core.random import seeds
    from brenier.sampling.driver import start

    sigmas = found["sigma"].to_numpy().tolist()
    x = start(law, 60, sigmas[0], seeds(0, 0xD1FF1, count=3)[0])
    path = [x]
    for sigma, after in pairwise(sigmas):
        clean = law.denoise(x / sigma, 1 / sigma)
        x = clean + after / sigma * (x - clean)
        path.append(x)
    return path


def test_a_normal_law_has_no_hard_points_and_no_correlation_is_made_up():
    """The localization of a normal law is the same everywhere."""
    found = difficulty("normal", **FEW)
    assert np.ptp(found["integral_localization"].to_numpy()) < 1e-12
    assert abs(float(found["dimension"].median()) - 1) < 0.5


def test_given_points_are_noised_and_come_back():
    points = pair().sample(40, 3)
    found = difficulty(pair(), points, copies=2, **FEW)
    np.testing.assert_allclose(found["points"], points.numpy(), rtol=1e-12)
    assert found.attrs["copies"] == 2
    assert found.attrs["localizations"] == 2 * 4
    assert 0.3 < found.attrs["noised_to"] < 3  # where the modes part
    assert "noise_norm" not in found
    between = difficulty(pair(), torch.tensor([[0.0, 0.0], [2.0, 0.0]] * 12, dtype=torch.float64), **FEW)
    assert (between["rank"].to_numpy()[::2] <= 12).all()  # halfway between the modes


def test_points_on_another_scale_are_said():
    with pytest.warns(UserWarning, match="bring both to one scale"):
        difficulty(pair(), 20 * pair().sample(40, 3), copies=2, **FEW)


def test_data_are_near_to_the_rest_of_them_and_samples_to_the_laws():
    points = np.random.default_rng(0).normal(size=(30, 2))
    law = brenier.Empirical(points, name="points")
    as_data, as_samples = difficulty(law, data=points, **FEW), difficulty(law, points, **FEW)
    assert float(as_samples["nearest_distance"].max()) < 1e-6
    assert float(as_data["nearest_distance"].min()) > 1e-3
    assert as_data.attrs["neighbours"] == "the rest of these points"


def test_without_a_check_the_difficulty_is_the_same_and_nothing_is_told():
    plain, checked = difficulty(pair(), check=False, **FEW), difficulty(pair(), **FEW)
    np.testing.assert_array_equal(plain["rank"], checked["rank"])
    assert not {"error", "rho"} & set(plain.variables)
    assert float(checked["error"].min()) >= 0


def test_a_schedule_can_be_given():
    schedule = plan(pair(), 3, solver="heun", criterion="karras", progress=False)
    found = difficulty(pair(), n=30, schedule=schedule, progress=False)
    assert (found.attrs["solver"], found.attrs["steps"], found.attrs["evaluations"]) == ("heun", 3, 5)


def test_views_are_where_they_are_asked_for_and_of_the_hardest_and_easiest():
    found = difficulty(pair(), snrs=[0.3, 1.0], components=5, shown=2, **FEW)
    assert found["component"].shape == (4, 2, 2, 2)
    np.testing.assert_array_equal(found["view_snr"], [[0.3, 1.0]] * 4)
    rank = found["rank"].to_numpy()[found["row"].to_numpy()]
    assert rank.tolist() == [1, 2, 59, 60]


def test_a_law_far_from_zero_is_as_hard_as_at_zero():
    away = GaussianMixture([0.5, 0.5], [[1e6 - 2.0, 1e6], [1e6 + 2.0, 1e6]], 0.25, name="pair")
    near, far = difficulty(pair(), **FEW), difficulty(away, **FEW)
    np.testing.assert_allclose(near["integral_localization"], far["integral_localization"], rtol=1e-6)
    np.testing.assert_allclose(far["points"], near["points"] + 1e6, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"samples": [[0.0, 0.0]] * 3, "data": [[0.0, 0.0]] * 3}, "give one of them"),
        ({"samples": [[0.0], [1.0]]}, "1 coordinates, pair has 2"),
        ({"samples": "no-such-thing"}, "no target 'no-such-thing'"),
        ({"samples": [[0.0, 0.0]]}, "one point"),
        ({"samples": [[np.nan, 0.0], [0.0, 0.0]]}, "finite"),
        ({"sigma": 1.0}, "none are given"),
        ({"solver": "euler-maruyama"}, "draws noise on the way"),
        ({"components": -1}, "components must be a whole number"),
        ({"n": 1}, "n must be a whole number of at least 2"),
        ({"snrs": [-1.0]}, "every SNR must be positive"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        difficulty(pair(), **(FEW | arguments))
    assert "\n" not in str(caught.value)
