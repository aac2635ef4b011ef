"""Every scheduler of the installed diffusers: the levels that are read off its own steps, or a refusal by name."""

import math

import diffusers
import numpy as np
import pytest
import torch

from brenier.networks.diffusers.scheduler import EDM, FLOW, TABLE, read_scheduler
from brenier.networks.diffusers.trace import BACKWARD, UNDRIVEN, check_driven, trace

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

INSTALLED = sorted(name for name in diffusers._import_structure["schedulers"] if name.endswith("Scheduler"))
NEEDS = {  # what a class cannot be made without
    "AmusedScheduler": {"mask_token_id": 1},
    "VQDiffusionScheduler": {"num_vec_classes": 3},
    "RFD4ProteinaScheduler": None,
}
STEPS = 6
V = {"prediction_type": "v_prediction"}
OPTIONS = {  # beside the defaults
    "DDIMScheduler": [V, {"prediction_type": "sample"}],
    "DPMSolverMultistepScheduler": [
        {"algorithm_type": "sde-dpmsolver++"},
        {"solver_order": 3, "use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    ],
    "EulerDiscreteScheduler": [{"timestep_spacing": "leading"}, {"timestep_type": "continuous", **V}],
    "FlowMatchEulerDiscreteScheduler": [{"shift": 3.0}],
    "HeunDiscreteScheduler": [{"prediction_type": "sample"}],
    "PNDMScheduler": [{"skip_prk_steps": True}],
    "UniPCMultistepScheduler": [{"solver_order": 3, "timestep_spacing": "trailing"}],
}
DRIVEN = [
    (name, options)
    for name in INSTALLED
    if name in TABLE | EDM | FLOW and name not in BACKWARD | UNDRIVEN.keys()
    for options in ({}, *OPTIONS.get(name, []))
]


def held(scheduler):
    """The levels of the calls, as the scheduler itself says."""
    walker = type(scheduler).from_config(scheduler.config)
    walker.set_timesteps(STEPS)
    flows = type(scheduler).__name__ in FLOW or scheduler.config.get("use_flow_sigmas")
    if hasattr(walker, "sigmas") and len(walker.sigmas) == len(walker.timesteps) + 1:
        sigmas = walker.sigmas.double().numpy()[:-1]
        with np.errstate(divide="ignore"):
            return sigmas / (1 - sigmas) if flows else sigmas
    steps = walker.timesteps.double().numpy()  # of a table; between its steps log sigma is interpolated
    bars = walker.alphas_cumprod.double().numpy()
    return np.exp(np.interp(steps, np.arange(len(bars)), np.log((1 - bars) / bars) / 2))


@pytest.mark.parametrize(("name", "options"), DRIVEN)
def test_levels_are_those_that_it_holds(name, options):
    scheduler = getattr(diffusers, name)(**options)
    before = str(vars(scheduler))
    found = trace(scheduler, read_scheduler(scheduler, ""), {"num_inference_steps": STEPS})
    assert str(vars(scheduler)) == before  # it was a copy that went
    if name.startswith("KDPM2"):  # which holds the levels between its own elsewhere
        np.testing.assert_allclose(found.executed, found.told, rtol=1e-4)
    else:
        np.testing.assert_allclose(found.executed, held(scheduler), rtol=1e-4)
    np.testing.assert_allclose(found.told, found.executed, rtol=0.01)  # times that are rounded to whole steps
    np.testing.assert_allclose(found.size, 1, rtol=1e-4)
    assert found.begins == pytest.approx(1, abs=0.006)  # N(0, I), of which it is a part
    assert found.end < 0.011  # 0, or where the table ends


@pytest.mark.parametrize("name", sorted(set(INSTALLED) - {name for name, _ in DRIVEN}))
def test_others_are_refused_by_name(name):
    options = NEEDS.get(name, {})
    if options is None:
        pytest.skip("it belongs to one model, whose settings it cannot be made without")
    scheduler = getattr(diffusers, name)(**options)
    with pytest.raises((ValueError, TypeError), match=name):
        trace(scheduler, read_scheduler(scheduler, ""), {"num_inference_steps": STEPS})
    if name in BACKWARD | UNDRIVEN.keys():
        with pytest.raises(ValueError, match=rf"^{name} (goes from points to noise|.*cannot be read off)"):
            check_driven(scheduler)


def test_what_a_pipeline_leaves_out():
    """Euler's scheduler keeps X + sigma Z: without its scaling the network sees that, and starts from too little."""
    scheduler = diffusers.EulerDiscreteScheduler()
    found = trace(scheduler, read_scheduler(scheduler, ""), {"num_inference_steps": 3}, multiplies=False, scales=False)
    top = found.told[0]
    assert found.begins == pytest.approx(math.hypot(top, 1) / top, rel=1e-4)  # 1, over the noise sigma alpha
    assert max(found.size) > 3
    assert scheduler.step_index is None


def test_samples_of_no_signal_are_no_estimates():
    scheduler = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    found = trace(scheduler, read_scheduler(scheduler, ""), {"num_inference_steps": 5})
    assert found.told[0] == math.inf
    assert math.isnan(found.executed[1])
    broken = diffusers.UniPCMultistepScheduler(solver_type="bh1")  # whose last step to 0 divides by infinity
    assert math.isnan(trace(broken, read_scheduler(broken, ""), {"num_inference_steps": 5}).end)


def test_arguments_that_a_scheduler_refuses():
    scheduler = diffusers.DDPMScheduler()
    with pytest.raises(ValueError, match=r"^DDPMScheduler cannot be driven with num_inference_steps = 2000: .* 1000"):
        trace(scheduler, read_scheduler(scheduler, ""), {"num_inference_steps": 2000})


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DDPMScheduler(),
        diffusers.EDMEulerScheduler(),
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        diffusers.ScoreSdeVeScheduler(),
    ],
)
def test_the_level_of_a_time_is_that_whose_time_it_is(scheduler):
    read = read_scheduler(scheduler, "")
    for sigma in (0.02, 0.7, 60.0):
        assert read.sigma(read.scale.level(1 / sigma)[2]) == pytest.approx(sigma, rel=1e-8)
    assert math.isnan(read.sigma(-50.0))
    assert torch.isfinite(torch.tensor(read.seen(0.7))).all()
