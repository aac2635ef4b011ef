"""Relative entropies of chains by densities at places, against chains of noisy laws and what bijections leave alone."""

import numpy as np
import pytest
import xarray as xr

from brenier import Potential, chain
from brenier.probing.chain.potential import PotentialLike

HALF = Potential(lambda x: x**2 / 2, np.ones_like, name="half", convexity=(1, 1))
KINDS = [f"{kind}_{way}" for kind in ("kl", "tv") for way in ("forward", "backward", "chain")]


def run(law: str, potential: PotentialLike | None, *, eta: float = 0.05, jko: bool = False) -> xr.Dataset:
    forward = "jko" if jko else "flow"
    return chain(law, "normal", steps=6, eta=eta, potential=potential, forward=forward, progress=False)


@pytest.mark.parametrize("law", ["four-gaussians", "uniform", "two-points"])
def test_they_are_those_of_noisy_laws(law: str):
    exact, found = run(law, None), run(law, HALF)
    for name in KINDS:
        allowed = 1e-8 if name.startswith("kl") else 3e-4
        np.testing.assert_allclose(found[name][1:], exact[name][1:], rtol=0, atol=allowed)


def test_at_the_start_they_are_those_of_the_laws():
    found = run("uniform", HALF)
    assert float(found["kl_forward"][0]) == pytest.approx(np.log(2 * np.pi) / 2 + 1 / 6 - np.log(2), abs=1e-8)
    points = run("two-points", HALF)
    assert np.isinf(points["kl_forward"][0])
    assert np.isinf(points["kl_backward"][0])


def test_the_way_back_of_jko_steps_leaves_relative_entropy_alone():
    """There mubar_k is mu_k, and both come back by bijections."""
    found = run("four-gaussians", "double-well(0.5)", eta=0.3, jko=True)
    last = float(found["kl_forward"][-1])
    assert 0.01 < last < 0.1 * float(found["kl_forward"][0])
    np.testing.assert_allclose(found["kl_backward"], last, rtol=1e-5)
    np.testing.assert_allclose(found["tv_backward"], found["tv_chain"], rtol=0, atol=3e-4)


def test_total_variation_is_below_pinskers_bound():
    found = run("four-gaussians", "quartic(0.2)")
    for way in ("forward", "backward", "chain"):
        variation, entropy = (found[f"{kind}_{way}"].to_numpy() for kind in ("tv", "kl"))
        known = np.isfinite(entropy)
        assert (variation[known] <= np.sqrt(entropy[known] / 2) + 3e-4).all()
