"""What is printed of a chain is true: numbers from closed forms for Gaussians, words from the numbers."""

import io
import math
import re
from itertools import combinations, pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.potential import Potential
from brenier.probing.chain.run import chain
from brenier.reports.chain import headline, print_chain, sentences
from brenier.reports.tables import scale
from brenier.scales import snr_from_time

STEPS, ETA, MEAN, SPREAD, START = 6, 0.1, 0.5, 2.0, 3.0
DISTANCES = ("w2_forward", "w2_backward", "w2_chain", "w2_discretisation")


@pytest.fixture(scope="module")
def gaussian() -> xr.Dataset:
    """N(0.5, 4) from the point 3."""
    law = GaussianMixture([1.0], [[MEAN]], [SPREAD**2], name="wide")
    return chain(law, START, steps=STEPS, eta=ETA, perturbations=(2, 1, 5), progress=False)


def closed_form() -> dict[str, np.ndarray]:
    """Distances of that chain: every law is normal, every map back is affine."""
    decay = np.exp(-ETA * np.arange(STEPS + 1))
    mu = np.stack([decay * MEAN, np.sqrt(decay**2 * SPREAD**2 + 1 - decay**2)])
    nu = np.stack([decay * START, np.sqrt(1 - decay**2)])
    mubar, nubar = mu.copy(), nu.copy()
    for k in range(STEPS, 0, -1):
        slope = 1 + ETA * (1 - 1 / mu[1, k] ** 2)
        for law in (mubar, nubar):
            law[:, k - 1] = slope * law[0, k] + (1 + ETA - slope) * mu[0, k], slope * law[1, k]
    pairs = ((mu, nu), (mu, nubar), (mubar, nubar), (mu, mubar))
    return {name: np.hypot(*(a - b)) for name, (a, b) in zip(DISTANCES, pairs, strict=True)}


def by_particles(found: xr.Dataset, error: float) -> xr.Dataset:
    """The same chain as if its distances came from particles with a relative standard error."""
    found = found.drop_vars(["richness", "kl_forward", "kl_backward", "tv_forward", "tv_backward"])
    about = {
        "method": "particles",
        "n": 512,
        "dim": 64,
        "event_shape": [8, 8],
        "distance": "transport of 512 particles",
    }
    return found.assign({f"{name}_se": error * found[name] for name in DISTANCES}).assign_attrs(about)


def printed(found: xr.Dataset, width: int = 120) -> str:
    stream = io.StringIO()
    print_chain(found, Console(file=stream, width=width))
    return stream.getvalue()


def column(text: str, title: str) -> list[str]:
    """The cells under a title, without standard errors."""
    lines = iter(text.replace("worst case", "worst_case").splitlines())
    header = next(line.split() for line in lines if line.startswith("step  ") and title in line.split())
    next(lines)
    cells: list[str] = []
    for line in lines:
        if not line.strip():
            break
        cells.append(re.sub(r" ±\S+", "", line).split()[header.index(title)])
    return cells


def told(found: xr.Dataset, word: str) -> str:
    (text,) = (text for text in sentences(found) if word in text)
    return text


# The tables


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_tables_hold_the_closed_forms_at_every_step(gaussian: xr.Dataset, width: int) -> None:
    text = printed(gaussian, width)
    assert column(text, "step") == [str(k) for k in range(STEPS + 1)]
    snr = snr_from_time(ETA * np.arange(1, STEPS + 1))
    assert column(text, "SNR") == ["inf", *map(scale, np.atleast_1d(snr))]
    titles = ("W2(mu,nu)", "W2(mu,nu')", "W2(mu',nu')", "W2(mu,mu')")
    for title, values in zip(titles, closed_form().values(), strict=True):
        assert column(text, title) == [scale(value) for value in values]
    gap = closed_form()["w2_chain"]
    assert column(text, "rate") == ["-", *(f"{rate:.3f}" for rate in (gap[:-1] ** 2 / gap[1:] ** 2 - 1) / ETA)]
    # L is the same everywhere, so the worst case is every case: zeta = 1/(1 + e^-2t (s^2 - 1)).
    zeta = 1 / (1 + np.exp(-2 * ETA * np.arange(1, STEPS + 1)) * (SPREAD**2 - 1))
    for title in ("worst_case", "zeta*_1", "sharp_1", "zeta*_5", "sharp_5"):
        assert column(text, title) == ["-", *(f"{rate:.3f}" for rate in 2 - 2 * zeta)]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_tables_fit_their_width(gaussian: xr.Dataset, width: int) -> None:
    for found in (gaussian, by_particles(gaussian, 0.01)):
        lines = printed(found, width).splitlines()[1:]  # the headline is one line, as long as it has to be
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)


def test_standard_errors_stand_beside_their_distances_where_they_fit(gaussian: xr.Dataset) -> None:
    found = by_particles(gaussian, 0.01)
    start = float(found["w2_forward"][0])
    assert f"{scale(start)} ±{scale(0.01 * start, 2)}" in printed(found, 120)
    assert "±" not in printed(found, 60).split("growth rate")[0]
    assert "±" not in printed(gaussian)


def test_of_many_steps_a_few_are_shown_the_fastest_among_them(gaussian: xr.Dataset) -> None:
    steps = 400
    many = gaussian.isel(step=np.arange(steps + 1) * 0 + 3).assign_coords(step=np.arange(steps + 1))
    many = many.assign_coords(time=("step", np.arange(steps + 1) * 0.01)).assign_attrs(steps=steps)
    rate, gap = np.full(steps + 1, -1.0), np.linspace(1, 2, steps + 1)
    rate[311], gap[:311] = 5.0, gap[:311] + 1
    many = many.assign(rate=("step", rate), w2_chain=("step", gap))
    text = printed(many)
    shown = column(text, "step")
    assert {"0", "1", "311", "400"} <= set(shown)
    assert len(shown) <= 14
    assert f"{len(shown)} of 401 steps shown." in text
    # Growth within its error is not worth a row.
    assert "311" not in column(printed(by_particles(many, 0.5)), "step")


def test_the_headline_says_what_was_run(gaussian: xr.Dataset) -> None:
    start = "wide from point 3: 1 dimension, 6 steps of 0.1, ODE, "
    assert headline(gaussian) == start + gaussian.attrs["distance"]
    about = {"beta": 2.0, "score_error": 0.1, "error_kind": "white", "error_band": [0.5, math.inf], "mode": "sde"}
    text = headline(by_particles(gaussian, 0.1).assign_attrs(about))
    assert text == (
        "wide from point 3: 64 dimensions (8 x 8), 6 steps of 0.1, beta 2, SDE, transport of 512 particles, "
        "white score error of 0.1 at SNRs from 0.5 to inf, seed 0"
    )


# The sentences


def test_the_round_trip_and_the_gap_are_told_with_the_closed_forms(gaussian: xr.Dataset) -> None:
    w2 = {name: (values[0], values[-1]) for name, values in closed_form().items()}
    before, after = w2["w2_forward"][0], w2["w2_backward"][0]
    trip = f"takes the start from W2 = {scale(before)} to {scale(after)}, by the ratio {scale(after / before)}: closer"
    assert trip in told(gaussian, "Diffusing and denoising")
    first, last = w2["w2_chain"]
    assert f"grows {scale(first / last)}-fold, from {scale(last)} to {scale(first)}" in told(gaussian, "the gap")
    share = 100 * w2["w2_discretisation"][0] / after
    assert f"W2 = {scale(w2['w2_discretisation'][0])} away from itself, {scale(share)}%" in told(
        gaussian, "finite steps"
    )


def test_theory_is_told_with_corollary_2_and_what_was_found(gaussian: xr.Dataset) -> None:
    zeta = 1 / (1 + np.exp(-2 * ETA * np.arange(1, STEPS + 1)) * (SPREAD**2 - 1))
    allowed, w2 = scale(math.exp(-ETA * zeta.sum())), closed_form()
    text = told(gaussian, "Corollary 2")
    found = scale(w2["w2_chain"][0] / w2["w2_forward"][0])
    assert f"{allowed} times the start's distance in the worst case (found: {found})" in text
    assert f"to {allowed} at M = 1 (sharp: {allowed}) and {allowed} at M = 5 (sharp: {allowed})" in text


def test_relative_entropy_is_set_against_w2_only_where_w2_grows_more(gaussian: xr.Dataset) -> None:
    text = told(gaussian, "KL(mu|nu')")
    kl, w2 = gaussian["kl_backward"].values, closed_form()["w2_backward"]
    assert kl[0] / kl[-1] < w2[0] / w2[-1]
    assert f"while W2(mu,nu') grows {scale(w2[0] / w2[-1])}-fold, from {scale(w2[-1])} to {scale(w2[0])}" in text
    falling = gaussian.assign(kl_backward=("step", np.linspace(0.5, 1, STEPS + 1)))
    assert "KL(mu|nu') falls to 0.5 of itself, from 1 to 0.5 nats" in told(falling, "KL(mu|nu')")
    # Without a density at step 0, the comparison ends at step 1.
    atoms = falling.assign(kl_backward=falling["kl_backward"].where(falling["step"] > 0, np.inf))
    assert "to 2.13 (time 0.6 to 0.1)" in told(atoms, "KL(mu|nu')")
    for other in (
        gaussian.assign(kl_backward=("step", np.linspace(9, 1, STEPS + 1))),
        gaussian.drop_vars("kl_backward"),
    ):
        assert not any("KL" in text for text in sentences(other))


def test_growth_is_placed_where_the_gap_grows_most(gaussian: xr.Dataset) -> None:
    # Back from step 6 the gap falls to 1, stays there until step 3, and rises to 4 at step 0, by 3.5 from step 2 to 1.
    found = gaussian.assign(w2_chain=("step", [4.0, 3.8, 1.1, 1.0, 1.0, 2.0, 3.0]))
    snr = [scale(value) for value in found["snr"].values]
    assert told(found, "the gap") == (
        "On the way back the gap between the two denoised laws, W2(mu',nu'), grows 1.33-fold, from 3 to 4; it grows "
        f"most, 4-fold, from SNR {snr[3]} to the data (time 0.3 to 0); half of that growth (in logarithms) falls on "
        f"SNR {snr[2]} to {snr[1]} (time 0.2 to 0.1)."
    )
    # From step 2 to 1 the gap doubles within its error; what is left beyond it is the growth from 1 to 1.5.
    unsure = by_particles(found, 0.01).assign(w2_chain=("step", [3.0, 2.0, 1.5, 1.0, 1.0, 2.0, 3.0]))
    unsure["w2_chain_se"] = ("step", [1.2, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert f"it grows most, 1.5-fold, from SNR {snr[3]} to {snr[2]} (time 0.3 to 0.2)" in told(unsure, "the gap")
    still = told(gaussian.assign(w2_chain=("step", [1.003, 1.002, 1.0, 1.001, 1.0, 1.0, 1.0])), "the gap")
    assert still.endswith("changes by less than 0.5%, from 1 to 1; no growth on the way exceeds 0.5%.")
    shrinking = told(gaussian.assign(w2_chain=("step", np.arange(1.0, STEPS + 2))), "the gap")
    assert shrinking.endswith("shrinks to 0.143 of itself, from 7 to 1; it never grows.")


def test_a_difference_within_two_standard_errors_is_called_so(gaussian: xr.Dataset) -> None:
    sure, unsure, lost = (by_particles(gaussian, error) for error in (0.01, 0.3, 0.51))
    assert "grows" in told(sure, "the gap")
    assert "changes by less than two standard errors, from" in told(unsure, "the gap")
    assert "no growth on the way exceeds 0.5% and two standard errors" in told(unsure, "the gap")
    assert "no closer and no farther, within two standard errors" in told(unsure, "Diffusing and denoising")
    assert "no more than two standard errors" in told(lost, "finite steps")
    rounding = gaussian.assign(w2_forward_se=1e-16 * gaussian["w2_forward"])
    assert "±" not in told(rounding, "Diffusing and denoising")
    zero = sure.assign(w2_chain=0 * sure["w2_chain"], w2_chain_se=sure["w2_chain"])
    assert told(zero, "denoised laws").endswith("W2(mu',nu') is within two standard errors of 0 throughout.")
    # From 0 ± 1 to 4 ± 0.1: growth, but by no known factor.
    lifted = zero.assign(w2_chain=("step", [4.0] + STEPS * [0.0]), w2_chain_se=("step", [0.1] + STEPS * [1.0]))
    assert told(lifted, "denoised laws").endswith("W2(mu',nu'), grows, from 0 ± 1 to 4 ± 0.1.")
    assert told(lost, "The start").startswith("The start cannot be told from the target (W2 = ")


def test_what_particles_say_of_the_worst_case_is_no_guarantee(gaussian: xr.Dataset) -> None:
    text = told(by_particles(gaussian, 0.01), "Corollary 2")
    assert "over the points sampled" in text
    assert "estimates and no guarantees" in text
    assert "worst seen" in printed(by_particles(gaussian, 0.01))
    stochastic = by_particles(gaussian, 0.01).assign_attrs(mode="sde")
    assert "Corollary 2, which is about the ODE's maps," in told(stochastic, "Corollary 2")


def test_a_start_at_the_target_has_no_ratio(gaussian: xr.Dataset) -> None:
    zero = xr.zeros_like(gaussian["w2_chain"])
    steps = gaussian["w2_discretisation"]
    found = gaussian.assign(w2_forward=zero, w2_chain=zero, w2_backward=steps, kl_backward=zero, ratio_chain=np.nan)
    found = found.assign(ratio=np.inf, rate=zero * np.nan, richness=zero * np.nan)
    alone = scale(float(steps[0]))
    assert sentences(found)[:2] == [
        f"The start is the target (W2 = 0); diffused and denoised it lies at W2 = {alone} from it.",
        "The two denoised laws cannot be told apart: W2(mu',nu') is 0 throughout.",
    ]
    assert told(found, "finite steps") == f"The finite steps alone take the target W2 = {alone} away from itself."
    assert column(printed(found), "rate") == ["-"] * (STEPS + 1)


def test_a_score_error_is_told_with_its_prediction_and_lifts_the_guarantee(gaussian: xr.Dataset) -> None:
    error = gaussian["w2_discretisation"] * 2
    found = gaussian.assign(w2_error=error, w2_error_predicted=1.5 * error)
    found = found.assign_attrs(score_error=0.1, error_kind="smooth", error_band=[0.0, math.inf])
    size = float(error[0])
    assert f"by W2 = {scale(size)}; predicted to first order: {scale(1.5 * size)}" in told(found, "denoised target by")
    white = told(found.assign_attrs(error_kind="white"), "denoised target by")
    assert white.endswith(f"to first order, it can be up to {scale(1.5 * size)}.")
    assert told(found, "Corollary 2").startswith("With an exact score, ")
    assert told(found, "finite steps").startswith("The finite steps and the score's error alone take")


sizes = st.one_of(st.just(0.0), st.floats(1e-12, 1e12))
allowed = st.one_of(st.just(math.inf), sizes)


@given(
    gap=st.lists(sizes, min_size=7, max_size=7),
    ends=st.tuples(sizes, sizes, sizes),
    bounds=st.tuples(allowed, allowed, allowed),
    entropy=st.lists(allowed, min_size=7, max_size=7),
    error=st.one_of(st.none(), st.just(math.inf), st.floats(0, 10)),
)
def test_whatever_the_numbers_the_sentences_are_true_of_them(
    gaussian: xr.Dataset,
    gap: list[float],
    ends: tuple[float, float, float],
    bounds: tuple[float, float, float],
    entropy: list[float],
    error: float | None,
) -> None:
    found = gaussian.assign(w2_chain=("step", gap), kl_backward=("step", entropy))
    for name, value in zip(("w2_forward", "w2_backward", "w2_discretisation"), ends, strict=True):
        found[name] = found[name].where(found["step"] > 0, value)
    found = found.assign(
        ratio_sharp=("perturbation", [*bounds]), ratio_worst=bounds[0], ratio_star=("perturbation", [*bounds])
    )
    with np.errstate(all="ignore"):
        found = found.assign(ratio=np.float64(ends[1]) / ends[0], ratio_chain=np.float64(gap[0]) / ends[0])
    found = found if error is None else by_particles(found, error)
    slack = 1e-9 if error is None else 2 * error
    texts = sentences(found)
    for text in texts:
        assert text.endswith(".")
        assert "\n" not in text
        assert "nan" not in text
    whole = " ".join(texts)
    assert ("closer to the target" in whole) <= (ends[1] < ends[0])
    assert ("farther from the target" in whole) <= (ends[1] > ends[0])
    way = told(found, "denoised laws")
    assert ("W2(mu',nu'), shrinks" in way) <= (gap[0] < gap[-1])
    assert ("W2(mu',nu'), grows" in way) <= (gap[0] > gap[-1])
    if "it never grows" in way:
        assert all(near <= far * (1 + 2e-9) for near, far in pairwise(gap))
    if "no growth on the way exceeds" in way:
        for far, near in combinations(gap[::-1], 2):
            assert near <= max(1.005 * far, far + slack * math.hypot(near, far)) * (1 + 1e-9)
    if "changes by" in way:
        assert abs(gap[0] - gap[-1]) <= slack * math.hypot(gap[0], gap[-1]) * (1 + 1e-9)


def test_normal_laws_under_a_quadratic_potential_are_told_of() -> None:
    law, start = (GaussianMixture([1.0], [[0.0, shift]], [np.diag([2.0, 0.5])]) for shift in (0.0, 1.0))
    found = chain(law, start, potential=Potential.of_quadratic(np.diag([1.0, 2.0])), steps=3, progress=False)
    assert "Corollary 2 holds W2(mu',nu')" in printed(found)
