"""Schedules in the hands of other libraries: diffusers' own loops end where our samplers do."""

import copy
import math
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch

from brenier.networks.diffusers.model import from_diffusers
from brenier.networks.diffusers.scheduler import read_scheduler
from brenier.sampling.driver import integrate
from brenier.sampling.handmade import karras
from brenier.sampling.schedule import Schedule

# Schedulers of diffusers hand tensors to NumPy in ways that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

SHAPE = (1, 8, 8)
LEVELS = karras(6, 20.0, 0.05)
GRID = Schedule([*LEVELS, 0], "euler", criterion="karras")
OPEN = Schedule(LEVELS, "euler", criterion="karras")
TABLE = diffusers.DDPMScheduler().alphas_cumprod.double()
SIGMAS = ((1 - TABLE) / TABLE).sqrt().tolist()
STEPS = [850, 600, 333, 120, 30, 4]
ON_TABLE = Schedule([*(SIGMAS[step] for step in STEPS), 0], "euler", criterion="by hand")


def make(name, **options):
    return getattr(diffusers, f"{name}Scheduler")(**options)


def unipc(**options):
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "disable_corrector": list(range(6))}
    return make("UniPCMultistep", **{**flow, **options})


def unet():
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8,), "norm_num_groups": 4}
    return diffusers.UNet2DModel(**sizes, **blocks, layers_per_block=1).eval()


def noisy(sigma):
    return sigma * torch.randn(5, 64, generator=torch.Generator().manual_seed(1))


def their_loop(network, scheduler, x, alphas):
    """The loop of a pipeline, from x = X + sigma Z: the variable of the scheduler is alpha x."""
    sample = alphas[0] * x.reshape(-1, *SHAPE)
    scale = getattr(scheduler, "scale_model_input", lambda sample, t: sample)
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = network(scale(sample, t), t, return_dict=False)[0]
            sample = scheduler.step(output, t, sample).prev_sample
    return sample.flatten(1) / alphas[1]


def told(scheduler):
    """The time that a network is told at every level, by the scheduler's own count."""
    return scheduler.timesteps[:: scheduler.order].double().tolist()


CASES = {
    "Euler": (lambda: make("EulerDiscrete"), "euler", GRID),
    "Euler, open": (lambda: make("EulerDiscrete"), "euler", OPEN),
    "Euler, v": (
        lambda: make("EulerDiscrete", prediction_type="v_prediction", timestep_type="continuous"),
        "euler",
        GRID,
    ),
    "Heun": (lambda: make("HeunDiscrete"), "heun", GRID),
    "DPM++": (lambda: make("DPMSolverMultistep"), "dpmpp-2m", ON_TABLE),
    "DPM++, order 1": (lambda: make("DPMSolverMultistep", solver_order=1), "euler", ON_TABLE),
    "UniP": (unipc, "dpmpp-2m", GRID),
    "DPM++, order 3": (lambda: make("DPMSolverMultistep", solver_order=3), "dpmpp-3m", ON_TABLE),
    "UniP, order 3": (lambda: unipc(solver_order=3), "unip-3", GRID),
    "UniPC": (lambda: unipc(disable_corrector=[]), "unipc-2", GRID),
    "UniPC, order 3": (lambda: unipc(disable_corrector=[], solver_order=3), "unipc-3", GRID),
    "UniP, order 1": (lambda: unipc(solver_order=1, flow_shift=2.0), "euler", GRID),
    "EDM": (lambda: make("EDMEuler"), "euler", GRID),
    "flow": (lambda: make("FlowMatchEulerDiscrete"), "euler", GRID),
    "flow, shifted": (lambda: make("FlowMatchEulerDiscrete", shift=3.0), "euler", GRID),
    "flow, dynamic": (lambda: make("FlowMatchEulerDiscrete", use_dynamic_shifting=True), "euler", GRID),
    "flow, linear": (
        lambda: make("FlowMatchEulerDiscrete", use_dynamic_shifting=True, time_shift_type="linear"),
        "euler",
        GRID,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_diffusers_ends_where_our_sampler_does(case):
    build, solver, schedule = CASES[case]
    scheduler = build()
    before = copy.deepcopy(scheduler)
    network = unet()
    target = from_diffusers(network, scheduler)
    arguments = schedule.to_diffusers(scheduler, latent_scale=None)
    assert scheduler.config == before.config
    assert scheduler.timesteps.equal(before.timesteps)
    scheduler.set_timesteps(**arguments)
    if case.startswith(("Heun", "UniP")):  # which tell the network another time; the next test says by how much
        level, times = target.scale.level, told(scheduler)
        pairs = sorted(zip(schedule.sigmas, times, strict=False))

        def retold(r):
            return *level(r)[:2], float(np.interp(1 / r, *zip(*pairs, strict=True)))

        target.scale = replace(target.scale, level=retold)
    x = noisy(schedule.sigmas[0])
    ours = integrate(target, x, schedule.sigmas, solver).x
    ends = (schedule.sigmas[0], schedule.sigmas[-1])
    alphas = [1.0 if sigma == 0 else target.scale.level(1 / sigma)[0] for sigma in ends]
    if hasattr(scheduler, "is_scale_input_called") or solver == "heun":
        alphas = [1.0, 1.0]  # Euler's and Heun's schedulers compute in x = X + sigma Z
    theirs = their_loop(network, scheduler, x, alphas)
    size = float(x.abs().max())
    assert float((ours - theirs).abs().max()) < 2e-6 * size
    assert float((ours - x).abs().max()) > 0.1 * size


@pytest.mark.parametrize(
    ("build", "within"),
    [
        (lambda: make("EulerDiscrete"), 1e-3),
        (lambda: make("HeunDiscrete"), 0.1),  # it interpolates sigma, from_diffusers its logarithm
        (lambda: make("EDMEuler"), 1e-6),
        (lambda: make("FlowMatchEulerDiscrete", shift=3.0), 1e-3),
        (unipc, 1.0),  # it cuts fractions off
    ],
)
def test_the_network_is_told_the_time_that_our_sampler_tells_it(build, within):
    scheduler = build()
    level = read_scheduler(scheduler, "").scale.level
    scheduler.set_timesteps(**GRID.to_diffusers(scheduler, latent_scale=None))
    apart = np.abs(np.subtract(told(scheduler), [level(1 / sigma)[2] for sigma in LEVELS]))
    assert apart.max() < within


@pytest.mark.parametrize("correct", [[], list(range(6))])
def test_unipc_walks_our_levels(correct):
    scheduler = unipc(disable_corrector=correct, flow_shift=5.0)
    scheduler.set_timesteps(**GRID.to_diffusers(scheduler, latent_scale=None))
    sigmas = scheduler.sigmas.double() / (1 - scheduler.sigmas.double())
    torch.testing.assert_close(sigmas, torch.tensor(GRID.sigmas).double(), rtol=1e-5, atol=0)
    x = noisy(LEVELS[0])
    found = their_loop(unet(), scheduler, x, [1 / (1 + LEVELS[0]), 1.0])
    ours = integrate(from_diffusers(unet(), scheduler), x, GRID.sigmas, "dpmpp-2m").x
    apart = float((found - ours).square().mean().sqrt() / ours.square().mean().sqrt())
    assert apart < 0.1


def test_whole_steps_warn_of_what_they_change_and_are_refused_where_it_is_much():
    scheduler = make("DPMSolverMultistep")
    with pytest.warns(UserWarning, match=r"knows whole steps only: noise levels change by up to 0\.0\d+ of themselves"):
        arguments = GRID.to_diffusers(scheduler)
    assert arguments == {"timesteps": [round(step) for step in GRID.to_timesteps(TABLE, fractional=True)]}
    assert ON_TABLE.to_diffusers(scheduler) == ON_TABLE.to_diffusers(make("DDPM")) == {"timesteps": STEPS}
    with pytest.raises(ValueError, match=r"a relative change of 0\.0\d+, and 0\.001 is accepted"):
        GRID.to_diffusers(scheduler, rounding=1e-3)
    with pytest.raises(ValueError, match="rounding must be a finite number of at least 0, got -1"):
        GRID.to_diffusers(scheduler, rounding=-1.0)


@pytest.mark.parametrize(
    ("build", "schedule", "message"),
    [
        (lambda: make("PNDM"), GRID, "PNDMScheduler.set_timesteps takes neither sigmas nor timesteps.* EulerDiscrete"),
        (lambda: make("EDMDPMSolverMultistep"), GRID, "takes neither sigmas nor timesteps, .* EDMEulerScheduler"),
        (lambda: make("FlowMatchHeunDiscrete"), GRID, "neither .* FlowMatchEulerDiscreteScheduler.from_config"),
        (lambda: make("UniPCMultistep"), GRID, "takes neither sigmas .but for flow matching. nor .* EulerDiscrete"),
        (lambda: make("LCM"), ON_TABLE, "LCMScheduler belongs to distilled models"),
        (lambda: make("HeunDiscrete", use_karras_sigmas=True), GRID, "with use_karras_sigmas=True refuses"),
        (lambda: make("EDMEuler", sigma_schedule="exponential"), GRID, "with sigma_schedule='exponential' would visit"),
        (lambda: make("FlowMatchEulerDiscrete", use_beta_sigmas=True), GRID, "with use_beta_sigmas=True would visit"),
        (lambda: make("FlowMatchEulerDiscrete", shift_terminal=0.2), GRID, "with shift_terminal=0.2 would visit"),
        (lambda: make("FlowMatchEulerDiscrete", invert_sigmas=True), GRID, "invert_sigmas=True counts from noise"),
        (
            lambda: unipc(final_sigmas_type="sigma_min"),
            GRID,
            "with use_flow_sigmas=True, final_sigmas_type='sigma_min'",
        ),
        (lambda: make("FlowMatchEulerDiscrete"), OPEN, "ends at 0, and the schedule at 0.04762"),
        (lambda: make("EDMEuler", sigma_max=10.0), GRID, "covers sigma from 0.002 to 10, and the schedule goes to 20"),
        (unipc, Schedule([18.1, 18.05, 0], "euler", criterion="x"), "tell the network the same time at two levels"),
    ],
)
def test_refused(build, schedule, message):
    with pytest.raises(ValueError, match=message):
        schedule.to_diffusers(build())


@pytest.mark.parametrize(
    "other", [None, "EulerDiscreteScheduler", diffusers.EulerDiscreteScheduler, torch.nn.Linear(1, 1)]
)
def test_what_is_no_scheduler(other):
    with pytest.raises(TypeError, match="scheduler must be a diffusers scheduler, got"):
        GRID.to_diffusers(other)


def test_steps_of_a_table():
    assert ON_TABLE.to_timesteps(TABLE) == STEPS
    assert ON_TABLE.to_timesteps(TABLE.numpy(), fractional=True) == pytest.approx(STEPS, abs=1e-6)
    between = Schedule([math.sqrt(SIGMAS[500] * SIGMAS[501]), 0], "euler", criterion="x")
    assert between.to_timesteps(TABLE, fractional=True) == pytest.approx([500.5], abs=1e-6)
    close = Schedule([SIGMAS[500] * 1.0001, SIGMAS[500], 0], "euler", criterion="x")
    with pytest.raises(ValueError, match="both lie nearest to step 500: plan fewer steps, or take fractional=True"):
        close.to_timesteps(TABLE)
    for beyond in ([200.0, 1.0], [1.0, 0.005]):
        with pytest.raises(ValueError, match=r"the table of alpha-bars covers sigma from 0\.01 to 157"):
            Schedule(beyond, "euler", criterion="x").to_timesteps(TABLE)


def test_k_diffusion():
    assert GRID.to_k_diffusion().tolist() == [float(np.float32(sigma)) for sigma in GRID.sigmas]
    assert GRID.to_k_diffusion(torch.float64).tolist() == list(GRID.sigmas)
    close = Schedule([1 + 1e-9, 1.0], "euler", criterion="x")
    assert len(close.to_k_diffusion(torch.float64)) == 2
    with pytest.raises(ValueError, match=r"two noise levels are the same in torch\.float32"):
        close.to_k_diffusion()
