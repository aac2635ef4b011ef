"""What is off in a pipeline is found, and nothing else is."""

import json
import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import brenier
from brenier.figures import plot, plot_audited_levels
from brenier.networks.diffusers.model import from_diffusers
from brenier.sampling.audit import audit, findings
from brenier.sampling.schedule import Schedule

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
V = {"prediction_type": "v_prediction"}
ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}
CHAIN = Schedule([14.6146, 3, 1, 0.3, 0.1, 0], "euler", criterion="by hand")
PATH = Schedule([999, 3, 1, 0.3, 0.1, 0], "euler", criterion="by hand")


def make(name, **options):
    return getattr(diffusers, f"{name}Scheduler")(**options)


def flow(**options):
    return make("FlowMatchEulerDiscrete", **options)


def unet():
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8,), "norm_num_groups": 4}
    return diffusers.UNet2DModel(**sizes, **blocks, layers_per_block=1).eval()


class OwnSigmasPipeline(DiffusionPipeline):
    """One that gives its scheduler levels of its own, and so is read by its code."""

    def __init__(self, transformer, scheduler):
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)

    def __call__(self, num_inference_steps):
        self.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / num_inference_steps, num_inference_steps))


def off(*arguments, **options):
    return {one.what: one.text for one in findings(audit(*arguments, **options))}


@pytest.mark.parametrize(
    ("build", "schedule", "words"),
    [
        (lambda: make("DDPM", timestep_spacing="trailing"), None, {}),
        (lambda: make("EulerDiscrete"), None, {}),
        (lambda: make("EDMEuler"), None, {}),
        (flow, None, {}),
        (lambda: make("UniPCMultistep", timestep_spacing="trailing"), None, {}),
        (lambda: make("EulerDiscrete", **LATENT), CHAIN, {}),
        (flow, PATH, {}),
        (lambda: make("DDIM"), None, {"top": "begins at sigma = 32.96, and its network was trained up to 157.4"}),
        (
            lambda: make("DDIM", **ZERO, **V),  # whose steps back miss the steps that are told by one, and 0
            None,
            {"told": "tells its network sigma = 42.33 and gives it 42.79, off by 0.011", "end": "sigma = 0.01406 in"},
        ),
        (lambda: make("DDIM", **ZERO), None, {"values": "values that are not finite at call 2"}),
        (lambda: flow(shift=3.0), None, {"shift": "at sigma = 0.009009, shifted twice by 3: its smallest is 0.003"}),
        (lambda: flow(shift=3.0), PATH, {"shift": "given once more, by 3: sigma = 0.3 instead of 0.1"}),
        (
            lambda: make("DPMSolverMultistep", **LATENT),
            CHAIN,
            {
                "levels": "sigma = 0.09829 instead of 0.1, off by",
                "solver": "steps as dpmpp-2m does, and the schedule was planned for euler: schedule.install runs that",
            },
        ),
        (
            lambda: make("DDIM", **LATENT),
            CHAIN,
            {"levels": "sigma = 0.5717 instead of 0.3", "start": "begins with noise 1.019 times that of its first"},
        ),
        (
            lambda: flow(use_dynamic_shifting=True),
            PATH,
            {"levels": "sigma = 1.649 instead of 1", "range": "visits sigma = 1647, beyond what its network knows"},
        ),
        (
            lambda: make("PNDM", **LATENT),
            CHAIN,
            {"levels": "visits", "count": "calls its network 14 times, and the schedule 5", "start": "noise 1.0"},
        ),
        (
            lambda: make("EulerDiscrete", **LATENT),
            Schedule([10, 1, 0.1], "euler", criterion="by hand"),
            {},
        ),
    ],
)  # fmt: skip
def test_what_is_off(build, schedule, words):
    found = off(build(), schedule, steps=6)
    assert found.keys() == words.keys(), found
    for what, text in words.items():
        assert text in found[what]
        assert "\n" not in found[what]


def test_a_pipeline_that_does_not_do_what_its_scheduler_expects():
    pipeline = diffusers.DDPMPipeline(unet(), make("EulerDiscrete"))  # which keeps X + sigma Z
    found = off(pipeline)
    assert "pipeline and scheduler do not go together" in found["size"]
    assert off(diffusers.DDPMPipeline(unet(), make("DDPM", timestep_spacing="trailing"))) == {}


def test_levels_that_a_pipeline_makes_itself_are_what_is_run():
    found = audit(OwnSigmasPipeline(unet(), flow(shift=3.0)), steps=4)
    s = np.array([1, 0.75, 0.5, 0.25])
    shifted = 3 * s / (1 + 2 * s)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found["executed"], shifted / (1 - shifted), rtol=1e-4)
    assert findings(found) == []


@pytest.mark.parametrize(
    ("scheduler", "solver"),
    [(make("DDIM", **LATENT), "heun"), (make("EDMEuler"), "unipc-3"), (flow(shift=3.0), "dpmpp-2m-sde")],
)
def test_an_installed_schedule_is_executed(scheduler, solver):
    network = unet()
    law = from_diffusers(network, scheduler)
    course = law.course
    grid = course.placed([course.high, 3.0, 0.7, 0.2, 0.05, 0])
    schedule = Schedule(grid, solver, criterion="by hand", convention=law.convention)
    pipeline = OwnSigmasPipeline(network, scheduler)
    schedule.install(pipeline)
    for given in (None, schedule):
        found = audit(pipeline, given)
        assert findings(found) == []
        np.testing.assert_allclose(found["executed"], found["requested"], rtol=1e-4)
        np.testing.assert_allclose(found["told"], found["executed"], rtol=1e-4)
        assert float(found["end"]) < 1e-6
        assert found.sizes["call"] == schedule.evaluations_per_sample
    other = Schedule([grid[0], 2.5, 0.7, 0.2, 0.05, 0], solver, criterion="by hand")
    assert "levels" in off(pipeline, other)
    assert off(pipeline, Schedule(grid, "euler", criterion="by hand")).keys() >= {"solver"}


@pytest.mark.parametrize(
    ("name", "options", "solver"),
    [
        ("DDIM", {}, "euler"),
        ("EulerDiscrete", {}, "euler"),
        ("HeunDiscrete", {}, "heun"),
        ("DPMSolverMultistep", {}, "dpmpp-2m"),
        ("DPMSolverMultistep", {"solver_order": 3}, "dpmpp-3m"),
        ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}, "dpmpp-2m-sde"),
        ("UniPCMultistep", {"solver_order": 3}, "unipc-3"),
        ("UniPCMultistep", {"solver_order": 3, "disable_corrector": [*range(7)]}, "unip-3"),
        ("DEISMultistep", {}, "deis-2"),
        ("DDPM", {}, "euler-maruyama"),
        ("EDMDPMSolverMultistep", {}, "dpmpp-2m"),
        ("FlowMatchEulerDiscrete", {}, "euler"),
        ("KDPM2Discrete", {}, ""),
    ],
)
def test_the_solver_of_a_scheduler_is_told_by_what_it_does(name, options, solver):
    found = audit(make(name, **options), steps=7)
    assert found.attrs["solver"] == solver
    said = brenier.summary(found)
    assert f"Steps as {solver} does." in said if solver else "Steps as" not in said


def test_a_schedule_for_another_solver_is_found():
    course = from_diffusers(unet(), make("DDPM")).course
    grid = course.placed([course.high, 8, 3, 1, 0.3, 0.1, 0])
    for solver, other in (("dpmpp-2m", None), ("unipc-3", "dpmpp-2m"), ("euler", "dpmpp-2m")):
        found = off(make("DPMSolverMultistep"), Schedule(grid, solver, criterion="by hand"))
        assert found.keys() == ({"solver"} if other else set())
    flowing = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}  # takes arrays, and no lists
    plan = Schedule([999, 3, 1, 0.3, 0.12, 0], "dpmpp-2m", criterion="by hand")
    assert "steps as unipc-2 does" in off(make("UniPCMultistep", **flowing), plan)["solver"]


def test_folders(tmp_path):
    pipeline = diffusers.DDPMPipeline(unet(), make("DDPM"))
    pipeline.save_pretrained(tmp_path / "plain")
    schedule = Schedule([157.407269, 20.0, 3.0, 0.3, 0], "unipc-2", criterion="by hand")
    schedule.to_json(tmp_path / "schedule.json")
    assert off(tmp_path / "plain").keys() == {"top"}
    schedule.install(pipeline)
    pipeline.save_pretrained(tmp_path / "planned")
    found = audit(str(tmp_path / "planned"), str(tmp_path / "schedule.json"))
    assert (found.attrs["pipeline"], found.attrs["scheduler"]) == ("planned", "PlannedScheduler")
    assert findings(found) == []
    assert json.loads(found.attrs["findings"]) == []
    with pytest.raises(ValueError, match=r"is no pipeline of diffusers: there is no scheduler_config\.json in it"):
        audit(tmp_path)


def test_the_report_and_the_figure():
    good = brenier.summary(audit(flow(), steps=3))
    assert "FlowMatchEulerDiscreteScheduler, 3 steps: 3 calls of the network" in good
    assert "All levels are those that were asked for, and that the network is told." in good
    bad = audit(flow(shift=3.0), PATH)
    text = brenier.summary(bad)
    assert "Off (shift): FlowMatchEulerDiscreteScheduler shifts the levels" in text
    assert "call   time  requested   told  executed   size" in text
    assert "call   time   told  executed   size" in good
    many = brenier.summary(audit(make("DDPM", timestep_spacing="trailing"), steps=100))
    assert "40 of 100 calls shown." in many
    ax = plot_audited_levels(bad)
    lines = {line.get_gid(): np.asarray(line.get_ydata(), dtype=float) for line in ax.get_lines()}
    for name in ("requested", "told", "executed"):
        np.testing.assert_allclose(lines[name], bad[name])
    first = plot_audited_levels(audit(flow(), steps=3)).get_lines()[0]
    assert math.isfinite(float(np.asarray(first.get_ydata())[0]))  # a level without signal is drawn on top
    assert plot(bad).axes
    assert len(brenier.table(bad)) == 5


# Bad input


def test_bad_input():
    for other in (unet(), 3, make("DDPM").config):
        with pytest.raises(TypeError, match="pipeline must be one of diffusers, its folder or"):
            audit(other)
    with pytest.raises(ValueError, match="LCMScheduler belongs to distilled models"):
        audit(make("LCM"))
    with pytest.raises(ValueError, match="DDIMInverseScheduler goes from points to noise"):
        audit(make("DDIMInverse"))
    with pytest.raises(ValueError, match="DDIMScheduler cannot be driven with num_inference_steps = 2000"):
        audit(make("DDIM"), steps=2000)
    with pytest.raises(ValueError, match="steps must be"):
        audit(make("DDIM"), steps=0)
    with pytest.raises(ValueError, match="tolerance must lie between 0 and 1, got 0"):
        audit(make("DDIM"), tolerance=0.0)
    foreign = Schedule([10, 1, 0], "euler", criterion="by hand", convention="v from X, told 3 at SNR 1")
    with pytest.warns(UserWarning, match="planned for a network that is v from X, told 3 at SNR 1, and EulerDiscrete"):
        audit(make("EulerDiscrete", **LATENT), foreign)
