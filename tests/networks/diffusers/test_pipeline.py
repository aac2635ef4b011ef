"""What a pipeline makes of a plan: from its own noise, with the network's own scheduler, it ends in the network's law.

The network is the exact denoiser of N(0, diag(0.9, 0.2)), so that every deterministic sampler is linear and diagonal:
one pass from the deviation that a pipeline starts from gives the deviations at the end, without random numbers.
"""

import copy
import itertools
import math
from functools import partial

import diffusers
import numpy as np
import pytest
import torch
from torch import nn

import brenier
from brenier.laws.mixture import GaussianMixture
from brenier.networks.diffusers.model import from_diffusers
from brenier.networks.diffusers.scheduler import read_scheduler
from brenier.networks.network import NetworkTarget
from brenier.sampling.driver import start
from brenier.sampling.handmade import karras, log_snr
from brenier.sampling.schedule import Schedule

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

VARIANCES = torch.tensor([0.9, 0.2], dtype=torch.float64)
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}  # of latent diffusion
FLOWS = "FlowMatchEulerDiscrete"
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
ZERO = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
V = {"prediction_type": "v_prediction"}
CONTINUOUS = {"timestep_type": "continuous", "sigma_min": 0.002, "sigma_max": 700.0, **V}


def make(name, **options):
    return getattr(diffusers, f"{name}Scheduler")(**options)


def of(name, **options):
    return partial(make, name, **options)


class Exact(nn.Module):
    """E of what a network of this scheduler predicts, given its input and the time that it is told."""

    def __init__(self, scheduler):
        super().__init__()
        self.title, self.options = type(scheduler).__name__, dict(scheduler.config)
        self.bars = getattr(scheduler, "alphas_cumprod", torch.zeros(0)).double().numpy()

    def forward(self, x, t, return_dict=False):
        t, noisy = float(t.reshape(-1)[0]), x.double()
        kind = self.options.get("prediction_type", "flow_prediction")
        if self.title.startswith("EDM"):
            sigma, unit = math.exp(4 * t), self.options["sigma_data"]
            whole = math.hypot(sigma, unit)
            mean = VARIANCES / (VARIANCES + sigma**2) * noisy * whole
            raw = (mean - unit**2 / whole * noisy) * whole / (sigma * unit)
            return ((raw if kind == "epsilon" else -raw).to(x.dtype),)
        if self.title.startswith(("Flow", "LTX")) or self.options.get("use_flow_sigmas"):
            b = t / 1000
            a = 1 - b
        else:
            bars = self.bars[:-1] if self.options.get("rescale_betas_zero_snr") else self.bars
            logs = (np.log1p(-bars) - np.log(bars)) / 2
            continuous = self.options.get("timestep_type") == "continuous"
            log_sigma = 4 * t if continuous else np.interp(t, np.arange(len(bars)), logs)
            a = 1 / math.sqrt(1 + math.exp(2 * log_sigma))
            b = math.sqrt(1 - a * a)
        mean = a * VARIANCES / (a * a * VARIANCES + b * b) * noisy
        noise = (noisy - a * mean) / b
        outputs = {"epsilon": noise, "sample": mean, "v_prediction": a * noise - b * mean}
        return (outputs.get(kind, noise - mean).to(x.dtype),)


def law_of(scheduler, **options):
    return from_diffusers(Exact(scheduler), scheduler, event_shape=(2,), **options)


def plan(law, steps=100, **options):
    return brenier.plan(law, steps, criterion="karras", solver="euler", progress=False, **options)


def end(network, scheduler, latent_scale=1.0, count=None):
    """Variances at the end of a pipeline, by linearity; of `count` samples where a sampler draws noise."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.ones(1, 2) if count is None else torch.randn(count, 2, generator=generator)
    x = latents * latent_scale * getattr(scheduler, "init_noise_sigma", 1.0)
    scale = getattr(scheduler, "scale_model_input", lambda sample, t: sample)
    options = {} if count is None else {"generator": generator}
    for t in scheduler.timesteps:
        x = scheduler.step(network(scale(x, t), t)[0], t, x, **options).prev_sample
    return x.double().square().mean(0)


def euler(sigmas):
    """Variances at the end of Euler's method, from noise of the first level; the denoiser is x V / (V + sigma^2)."""
    deviations = torch.full((2,), sigmas[0], dtype=torch.float64)
    for sigma, after in itertools.pairwise(sigmas):
        deviations *= 1 + (after - sigma) * sigma / (VARIANCES + sigma**2)
    return deviations**2


def on_table(scheduler, count, convention):
    """Levels that are whole steps, close to each other where there is little noise."""
    bars = scheduler.alphas_cumprod.double().numpy()
    last = len(bars) - 1 - bool(scheduler.config.get("rescale_betas_zero_snr"))
    steps = np.unique(np.round(last * np.linspace(0, 1, count) ** 2).astype(int))[::-1]
    levels = np.sqrt((1 - bars[steps]) / bars[steps])
    return Schedule([*levels, 0], "dpmpp-2m", criterion="by hand", convention=convention)


def flow(**options):
    return make(FLOWS, **options)


CASES = {
    "Euler": (of("DDPM"), of("EulerDiscrete", beta_start=1e-4, beta_end=0.02)),
    "Euler, leading": (of("PNDM", **LATENT), of("EulerDiscrete", timestep_spacing="leading", **LATENT)),
    "Euler, linspace": (of("DDIM", **LATENT), of("EulerDiscrete", timestep_spacing="linspace", **LATENT)),
    "Euler, Karras": (of("DDIM", **LATENT), of("EulerDiscrete", use_karras_sigmas=True, **LATENT)),
    "Euler, zero SNR": (of("DDIM", **ZERO), of("EulerDiscrete", beta_start=1e-4, beta_end=0.02, **ZERO)),
    "Euler, continuous": (of("EulerDiscrete", **CONTINUOUS), of("EulerDiscrete", **CONTINUOUS)),
    "Heun, leading": (of("DDPM", **LATENT), of("HeunDiscrete", timestep_spacing="leading", **LATENT)),
    "Heun, x0": (
        of("DDPM", prediction_type="sample", **LATENT),
        of("HeunDiscrete", prediction_type="sample", **LATENT),
    ),
    "DPM++": (of("DDPM"), of("DPMSolverMultistep")),
    "DPM++, trailing": (of("DDPM"), of("DPMSolverMultistep", timestep_spacing="trailing")),
    "DPM++, zero SNR": (of("DDIM", **ZERO), of("DPMSolverMultistep", **ZERO)),
    "DPM++, v": (
        of("DDPM", prediction_type="v_prediction"),
        of("DPMSolverMultistep", prediction_type="v_prediction"),
    ),
    "DPM++, one step": (of("DDPM"), of("DPMSolverSinglestep", lower_order_final=True)),
    "EDM": (of("EDMEuler"), of("EDMEuler")),
    "EDM, v": (of("EDMDPMSolverMultistep", prediction_type="v_prediction"),) * 2,
    "flow": (of(FLOWS), of(FLOWS)),
    "flow, shifted": (of(FLOWS, shift=3.0), of(FLOWS, shift=3.0)),
    "flow, dynamic": (of(FLOWS, use_dynamic_shifting=True), of(FLOWS, use_dynamic_shifting=True)),
    "flow, LTX": (of(FLOWS), of("LTXEulerAncestralRF", eta=0.0)),
    "UniPC on flow": (of(FLOWS), of("UniPCMultistep", **FLOW)),
    "UniPC on flow, shifted": (of(FLOWS, shift=3.0), of("UniPCMultistep", flow_shift=3.0, **FLOW)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_pipeline_ends_in_the_law_of_its_network(case):
    trained, scheduler = (build() for build in CASES[case])
    if type(scheduler).__name__.startswith("EDMDPM"):  # which takes no levels
        scheduler = diffusers.EDMEulerScheduler.from_config(scheduler.config)
    law = law_of(trained)
    schedule = plan(law)
    assert schedule.sigmas[0] == pytest.approx(1 / law.snr_range[0])
    if case.startswith("DPM++"):
        schedule = on_table(trained, 100, law.convention)
    if case.startswith("UniPC"):  # whose times are whole steps, too
        schedule = Schedule([*log_snr(16, 999.0, 0.02), 0], "dpmpp-2m", criterion="log-snr", convention=law.convention)
    scheduler.set_timesteps(**schedule.to_diffusers(scheduler))
    assert schedule.latent_scale(scheduler) == pytest.approx(1, abs=0.003)
    first_order = not case.startswith(("DPM++", "Heun", "UniPC"))
    found, expected = end(Exact(trained), scheduler), euler(schedule.sigmas) if first_order else VARIANCES
    torch.testing.assert_close(found, expected, rtol=0.01 if first_order else 0.08, atol=0)
    torch.testing.assert_close(found, VARIANCES, rtol=0.15, atol=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: make("DDPM", clip_sample=False),
        lambda: make("DPMSolverMultistep", algorithm_type="sde-dpmsolver++"),
    ],
)
def test_samplers_that_draw_noise_end_there_too(build):
    law, scheduler = law_of(make("DDPM")), build()
    scheduler.set_timesteps(**on_table(make("DDPM"), 300, law.convention).to_diffusers(scheduler))
    found = end(Exact(make("DDPM")), scheduler, count=20_000)
    torch.testing.assert_close(found, VARIANCES, rtol=0.08, atol=0)


@pytest.mark.parametrize(
    ("build", "sigma", "message", "scale"),
    [
        (of("EDMEuler"), 10.0, r"deviation 80\.01, .* sigma = 10, from 10: plan with sigma_max=80, or", 10 / 80.00625),
        (of("EDMEuler", sigma_max=40.0), 3.0, "plan with sigma_max=40, or", 3 / math.hypot(40, 1)),
        (of(FLOWS), 10.0, r"deviation 1, .* from 0\.9091: plan with sigma_max=999, or", 10 / 11),
        (
            of(FLOWS),
            3.0,
            r"from 0\.75: plan with sigma_max=999, or multiply latents by 0\.75 and",
            3 / 4,
        ),
        (of(FLOWS, shift=3.0), 20.0, "plan with sigma_max=2997, or", 20 / 21),
        (of(FLOWS, num_train_timesteps=50), 9.0, r"from 0\.9: multiply latents by 0\.9 and", 9 / 10),
        (of("UniPCMultistep", **FLOW), 10.0, "plan with sigma_max=999, or", 10 / 11),
        (of("LTXEulerAncestralRF", eta=0.0), 10.0, "plan with sigma_max=999, or", 10 / 11),
        (of("EulerDiscrete", timestep_spacing="leading", **LATENT), 3.0, "sigma_max=14.6146, or", 3 / 10**0.5),
        (of("HeunDiscrete", timestep_spacing="leading", **LATENT), 3.0, "sigma_max=14.6146, or", 3 / 10**0.5),
    ],
)
def test_other_noise_than_that_of_the_first_level(build, sigma, message, scale):
    scheduler = build()
    schedule = Schedule([*karras(30, sigma, 0.05), 0], "euler", criterion="karras")
    with pytest.raises(ValueError, match=message) as caught:
        schedule.to_diffusers(scheduler)
    assert "\n" not in str(caught.value)
    assert schedule.latent_scale(scheduler) == pytest.approx(scale, rel=1e-4)
    said = float(str(caught.value).rsplit("=", 1)[1])
    assert said == pytest.approx(scale, rel=1e-3)
    ends = []
    for factor in (1.0, said):
        scheduler.set_timesteps(**schedule.to_diffusers(scheduler, latent_scale=said))
        ends.append(end(Exact(scheduler), scheduler, factor))
    wrong, right = ends
    torch.testing.assert_close(right / wrong, torch.full((2,), said**2).double(), rtol=1e-4, atol=0)


def test_noise_of_the_first_level_itself():
    """As many levels of EDM from 10 as the error of Euler's method calls for, and the law from there."""
    scheduler = make("EDMEuler")
    schedule = Schedule([*karras(400, 10.0, 0.02), 0], "euler", criterion="karras")
    scale = schedule.latent_scale(scheduler)
    scheduler.set_timesteps(**schedule.to_diffusers(scheduler, latent_scale=scale))
    flown = VARIANCES * 100 / (VARIANCES + 100)  # where the exact flow takes N(0, 100)
    torch.testing.assert_close(end(Exact(scheduler), scheduler, scale), flown, rtol=0.03, atol=0)


@pytest.mark.parametrize(
    ("spacing", "sigma"), [("linspace", 3.0), ("trailing", 0.7), ("leading", 8.0), ("leading", 14.6146)]
)
def test_schedulers_that_start_where_the_levels_do(spacing, sigma):
    scheduler = make("EulerDiscrete", timestep_spacing=spacing, **LATENT)
    schedule = Schedule([*karras(5, sigma, 0.05), 0], "euler", criterion="karras")
    assert schedule.to_diffusers(scheduler).keys() == {"sigmas"}


def test_a_low_top_of_its_own_is_where_a_pipeline_starts_anyway():
    scheduler = make("EDMEuler", sigma_max=3.0)
    schedule = plan(law_of(scheduler), 5)
    assert schedule.sigmas[0] == 3.0
    assert schedule.to_diffusers(scheduler).keys() == {"sigmas"}


OTHERS = [
    (of("DDPM"), of("UniPCMultistep", use_flow_sigmas=True), "told 258 .* told 500"),
    (of("DDPM"), of("UniPCMultistep", **FLOW), "epsilon from .* for velocity from"),
    (of("DDPM"), of("DPMSolverMultistep", use_flow_sigmas=True), r"for epsilon from \(1 - s\) X \+ s Z"),
    (of("DDPM"), of("DPMSolverMultistep", prediction_type="v_prediction"), "epsilon from .* for v from"),
    (of("DDPM"), of("HeunDiscrete"), "told 258 .* told 284"),
    (of("DDPM"), of("EulerDiscrete", beta_schedule="squaredcos_cap_v2"), "told 258 .* told 49"),
    (of("DDPM"), of(FLOWS), "for velocity from"),
    (of("DDPM"), of("EDMEuler"), r"for edm with sigma_data 0\.5 from X \+ sigma Z"),
    (of(FLOWS), of("EulerDiscrete"), "velocity from .* for epsilon from sqrt"),
    (of(FLOWS), of(FLOWS, num_train_timesteps=500), "told 500 .* told 250"),
    (of("EDMEuler"), of("EDMEuler", prediction_type="v_prediction"), "edm with .* for -edm with"),
    (of("EDMEuler", sigma_data=1.0), of("EDMEuler"), r"with sigma_data 1 .* with sigma_data 0\.5"),
    (of("EulerDiscrete", **CONTINUOUS), of("EulerDiscrete", prediction_type="v_prediction"), "told 0 .* told 258"),
]


@pytest.mark.parametrize(("trained", "other", "message"), OTHERS)
def test_a_scheduler_of_other_networks(trained, other, message):
    law, scheduler = law_of(trained()), other()
    schedule = Schedule([10, 1, 0], "euler", criterion="by hand")
    planned = plan(law, 3, sigma_max=10.0)
    assert planned.convention == law.convention
    for one, network in ((Schedule.from_json(planned.to_json()), None), (schedule, law)):
        with pytest.raises(ValueError, match=f"^the network is .*{message}.*: make one from the config") as caught:
            one.to_diffusers(scheduler, network=network)
        assert "\n" not in str(caught.value)


def test_what_no_network_was_trained_on_is_refused_for_any():
    schedule = Schedule([999, 10, 1, 0], "euler", criterion="by hand")
    with pytest.raises(ValueError, match=r"'epsilon' and use_flow_sigmas=True: few networks predict that"):
        schedule.to_diffusers(make("UniPCMultistep", use_flow_sigmas=True))
    for wrong in (
        make("DPMSolverMultistep", prediction_type="flow_prediction"),
        make("DPMSolverMultistep", prediction_type="v_prediction", use_flow_sigmas=True),
    ):
        with pytest.raises(ValueError, match=r'prediction "v\w*" is defined for'):
            schedule.to_diffusers(wrong)
    odd = make("UniPCMultistep", use_flow_sigmas=True)  # right for the one network that was trained like this
    assert schedule.to_diffusers(odd, network=law_of(odd)).keys() == {"sigmas"}


def test_a_plan_for_another_law_is_handed_to_a_network_that_is_named():
    scheduler = make("EulerDiscrete", **LATENT)
    small = NetworkTarget(lambda x, t: x / (1 + t[:, None] ** 2), event_shape=(2,), snr_range=(0.05, 50))
    schedule = plan(small, 4)
    assert schedule.convention == "x0 from X + sigma Z, told 1 at SNR 1"
    with pytest.raises(ValueError, match="or give network= where the plan was for another one"):
        schedule.to_diffusers(scheduler)
    with pytest.raises(ValueError, match="covers sigma from"):
        schedule.to_diffusers(scheduler, network=law_of(scheduler))
    narrow = plan(small, 4, sigma_max=14.0, sigma_min=0.03)
    assert narrow.to_diffusers(scheduler, network=law_of(scheduler)).keys() == {"sigmas"}


def test_pipelines_that_divide_time_for_their_network():
    class FluxTransformer2DModel(Exact):
        def forward(self, x, t, return_dict=False):
            return super().forward(x, 1000 * t)

    scheduler = flow()
    law = from_diffusers(FluxTransformer2DModel(scheduler), scheduler, event_shape=(2,))
    assert plan(law, 5).to_diffusers(scheduler).keys() == {"sigmas"}


# The list for Stable Diffusion 1.5 of "Align your steps" (arXiv:2404.14507): its ends are those of the table, 14.6146
# and 0.029167, rounded to three decimals.
PUBLISHED = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029, 0.0]


def test_published_lists_are_those_of_the_table():
    scheduler = make("EulerDiscrete", **LATENT)
    law = law_of(make("DDPM", **LATENT))
    low, high = law.snr_range
    schedule = Schedule(PUBLISHED, "euler", criterion="by hand")
    sigmas = schedule.to_diffusers(scheduler)["sigmas"]
    assert sigmas[1:-2] == PUBLISHED[1:-2]
    assert sigmas[0] == pytest.approx(1 / low, rel=1e-12)
    assert sigmas[-2] == pytest.approx(1 / high, rel=1e-12)
    assert [round(step) for step in schedule.to_timesteps(scheduler.alphas_cumprod, fractional=True)][::10] == [999, 0]
    found = brenier.sample(law, 5, schedule=schedule, progress=False).points
    near = Schedule([1 / low, *PUBLISHED[1:-2], 1 / high, 0], "euler", criterion="by hand")
    exact = brenier.sample(law, 5, schedule=near, progress=False).points
    torch.testing.assert_close(found, exact, rtol=0.01, atol=1e-3)
    probed = brenier.probe(law, sigmas=PUBLISHED[:-1], queries=8, progress=False)
    exact = float((VARIANCES / (VARIANCES + 14.6146**2)).max())
    assert float(probed.mean_localization[0]) == pytest.approx(exact, rel=1e-3)
    for beyond in ([14.64, 1, 0], [1, 0.0286, 0], [14.7, 0.5]):
        with pytest.raises(ValueError, match=r"covers sigma from 0\.02917 to 14\.61, and the schedule goes to"):
            Schedule(beyond, "euler", criterion="x").to_diffusers(scheduler)
        with pytest.raises(ValueError, match="is not one that Exact was trained for"):
            brenier.sample(law, 5, schedule=Schedule(beyond, "euler", criterion="x"), progress=False)


def test_plans_begin_where_pipelines_start():
    data = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * VARIANCES.sqrt()
    for scheduler, top in ((make("EDMEuler"), 80.0), (flow(shift=3.0), 2997.0), (make("DDPM", **LATENT), 14.614646)):
        assert plan(law_of(scheduler, data=data), 4).sigmas[0] == pytest.approx(top, rel=1e-6)
    law = law_of(make("EDMEuler"), data=data)
    assert plan(law, 4, sigma_max=20.0).sigmas[0] == 20.0
    assert plan(law_of(make("EDMEuler"), snr_range=(0.1, 100)), 4).sigmas[0] == 10.0


@pytest.mark.parametrize(
    ("scheduler", "high", "low", "noise"),
    [
        (make("DDPM"), 157.407269, 0.0100013298, math.hypot(1, 157.407269)),
        (make("DDPM", **LATENT), 14.6146466, 0.0291675332, math.hypot(1, 14.6146466)),
        (make("EDMEuler", sigma_max=40.0), 40.0, 0.002, 40.0),
        (make("ScoreSdeVe", sigma_min=0.05, sigma_max=30.0), 30.0, 0.05, 30.0),
        (flow(), 999.0, 1 / 999, 1000.0),
        (flow(shift=3.0), 2997.0, 3 / 999, 2998.0),
    ],
)
def test_the_noise_that_pipelines_begin_with(scheduler, high, low, noise):
    read = read_scheduler(scheduler, "")
    course = read.course(read.scale.low, read.scale.high)
    assert (course.high, course.low, course.noise) == pytest.approx((high, low, noise), rel=1e-6)
    assert read.course(2 * read.scale.low, read.scale.high).noise is None


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_grid_even_in_time_is_that_of_flow_matching(shift):
    scheduler = make("DPMSolverMultistep", use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift)
    read = read_scheduler(scheduler, "")
    scheduler.set_timesteps(5)
    shares = scheduler.sigmas[:-1].double()
    np.testing.assert_allclose(
        read.course(read.scale.low, read.scale.high).even(5)[:-1], shares / (1 - shares), rtol=0.02
    )
    assert read.course(2 * read.scale.low, read.scale.high).shift == pytest.approx(shift)


@pytest.mark.parametrize("scheduler", [make("DDPM", **LATENT), make("EDMEuler", sigma_max=3.0), flow(shift=0.01)])
def test_networks_start_from_the_noise_of_their_pipelines(scheduler):
    law = law_of(scheduler, origin=[5.0, 5.0])
    high, noise = law.course.high, law.course.noise
    unit = (start(law, 3, high, 5) - 5) / noise
    found = start(GaussianMixture([1.0], [[5.0, 5.0]], [0.1]), 3, high, 5)  # noise of the level around the mean
    torch.testing.assert_close(unit, (found - 5) / high, check_dtype=False)
    torch.testing.assert_close((start(law, 3, high * 1.0002, 5) - 5) / noise, 1.0002 * unit)
    torch.testing.assert_close((start(law, 3, high / 2, 5) - 5) / (high / 2), unit)


TABLES = [
    make("DDPM"),
    make("DDPM", **LATENT),
    make("DDPM", beta_schedule="squaredcos_cap_v2", **V),
    make("DDIM", **ZERO),
]


@pytest.mark.parametrize("scheduler", TABLES, ids=["linear", "scaled_linear", "squaredcos", "zero SNR"])
def test_plans_visit_steps_of_the_table_and_end_nearer_to_the_flow(scheduler):
    """Against where the exact flow of N(0, V) takes the pipeline's noise: x (V/(V + sigma^2))^(1/2)."""
    law, steps = law_of(scheduler, data=GaussianMixture([1.0], [[0.0, 0.0]], [0.5])), 6
    course = law.course
    exact = course.noise * (VARIANCES / (VARIANCES + course.high**2)).sqrt()
    planned = brenier.plan(law, steps, pilots=8, progress=False)
    ours = diffusers.DPMSolverMultistepScheduler.from_config(scheduler.config)
    usual = copy.deepcopy(ours)
    ours.set_timesteps(**planned.to_diffusers(ours))  # without a warning that levels change
    usual.set_timesteps(steps)
    errors = [float((end(Exact(scheduler), one).sqrt() - exact).norm()) for one in (ours, usual)]
    assert errors[0] < errors[1] / 2
    assert planned.end_error == pytest.approx(errors[0], rel=0.5, abs=3e-3)  # rounding at 2e4
    other = plan(law, steps)  # by hand
    assert other.to_diffusers(ours).keys() == {"timesteps"}
    assert (other.sigmas[0], other.sigmas[-2]) == pytest.approx((course.high, course.low))


@pytest.mark.parametrize("scheduler", [make("EDMEuler"), flow(shift=3.0)], ids=["EDM", "flow"])
def test_plans_for_other_networks_end_nearer_to_the_flow(scheduler):
    law = law_of(scheduler)
    exact = law.course.noise * (VARIANCES / (VARIANCES + law.course.high**2)).sqrt()
    ours, usual = copy.deepcopy(scheduler), copy.deepcopy(scheduler)
    usual.set_timesteps(6)
    ours.set_timesteps(**brenier.plan(law, 6, solver="euler", pilots=8, progress=False).to_diffusers(ours))
    errors = [float((end(Exact(scheduler), one).sqrt() - exact).norm()) for one in (ours, usual)]
    assert errors[0] < 0.9 * errors[1]


def test_more_steps_than_the_table_has():
    law = law_of(make("DDPM", num_train_timesteps=20))
    assert len(plan(law, 20).sigmas) == 21
    for options in ({"steps": 21}, {"steps": 8, "sigma_max": 1.0, "sigma_min": 0.5}):
        with pytest.raises(
            ValueError, match=r"the chain has \d+ steps between sigma = .* visits \d+ there: plan fewer"
        ):
            plan(law, **options)
