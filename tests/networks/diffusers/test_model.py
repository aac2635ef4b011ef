"""Models of diffusers: what a scheduler's own code makes of the exact denoiser of a mixture is found again."""

import copy
import functools
import importlib
import json
import math
import shutil
import sys
import types
from dataclasses import dataclass, replace

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from brenier.laws.mixture import GaussianMixture
from brenier.networks.diffusers.folders import is_diffusers
from brenier.networks.diffusers.model import from_diffusers, load_diffusers
from brenier.networks.diffusers.scheduler import DISTILLED, EDM, FLOW, TABLE, read_scheduler

# Schedulers of diffusers hand tensors to NumPy in ways that it deprecates; and models are not trained.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.* misses .* by .* their mean and variance:UserWarning"),
]

SHAPE = (1, 2, 2)
WEIGHTS, VARIANCES = [0.2, 0.5, 0.3], [0.05, 0.4, 0.0]
MEANS = torch.from_numpy(1.2 * np.random.default_rng(4).standard_normal((3, 4)))
LAW = GaussianMixture(WEIGHTS, MEANS, VARIANCES, event_shape=SHAPE)


def denoise(x, sigma):
    """E[X | X + sigma Z = x] for the mixture, differentiable."""
    logs, means = [], []
    for weight, mean, variance in zip(WEIGHTS, MEANS, VARIANCES, strict=True):
        total = variance + sigma**2
        logs.append(math.log(weight) - (x - mean).square().sum(1) / (2 * total) - 2 * math.log(total))
        means.append(mean + variance / total * (x - mean))
    return torch.einsum("kn,knd->nd", torch.stack(logs).softmax(0), torch.stack(means))


# One noise level, as a scheduler's own code has it


@dataclass(frozen=True)
class Level:
    """The scheduler has alpha X + sigma Z, the network sees `into` times that and t, x0 = a variable + b F."""

    t: float
    alpha: float
    sigma: float
    into: float
    a: float
    b: float

    def output(self, x):
        """What the network has to return, for the scheduler to find the posterior mean."""
        variable = x.flatten(1) / self.into
        clean = denoise(variable / self.alpha, self.sigma / self.alpha)
        return ((clean - self.a * variable) / self.b).reshape(x.shape)


ZERO, ONE = torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)


def number(tensor):
    return float(tensor.flatten()[0])


def level(scheduler, t, x0):
    """Read off `add_noise`, `scale_model_input` and x0(scheduler, t, sample, output), all of them linear."""

    def call(name, *arguments):
        return number(getattr(copy.deepcopy(scheduler), name)(*arguments))

    if hasattr(scheduler, "add_noise"):
        alpha, sigma = (call("add_noise", *pair, t.reshape(1)) for pair in ((ONE, ZERO), (ZERO, ONE)))
    else:  # flow matching
        alpha, sigma = (call("scale_noise", pair[0], t.reshape(1), pair[1]) for pair in ((ONE, ZERO), (ZERO, ONE)))
    into = call("scale_model_input", ONE, t) if hasattr(scheduler, "scale_model_input") else 1.0
    a, b = (number(x0(copy.deepcopy(scheduler), t, *pair)) for pair in ((ONE, ZERO), (ZERO, ONE)))
    return Level(float(t), alpha, sigma, into, a, b)


def predicted(scheduler, t, sample, output):
    """x0 as `step` returns it."""
    scheduler.is_scale_input_called = True
    return scheduler.step(output, t, sample).pred_original_sample


def converted(scheduler, t, sample, output):
    """x0 as multistep solvers convert it; DEIS converts to the noise."""
    scheduler._init_step_index(t)
    found = scheduler.convert_model_output(output, sample=sample)
    if "DEIS" in type(scheduler).__name__ or getattr(scheduler.config, "algorithm_type", "") == "dpmsolver":
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[scheduler.step_index])
        return (sample - sigma * found) / alpha
    return found


def transferred(scheduler, t, sample, output):
    """PNDM's (9) from t to a level without noise."""
    scheduler.final_alpha_cumprod = torch.tensor(1.0)
    return scheduler._get_prev_sample(sample, int(t), -1, output)


def extrapolated(scheduler, t, sample, output):
    """Where a straight step that begins at t would end at sigma = 0."""
    after = scheduler.step(output, t, sample).prev_sample
    index = scheduler.step_index - 1
    sigma, next_sigma = scheduler.sigmas[index], scheduler.sigmas[index + 1]
    return sample + (after - sample) * sigma / (sigma - next_sigma)


class Fake(nn.Module):
    """Called as diffusers calls its models; its outputs are what the scheduler's own code turns into E[X | x]."""

    def __init__(self, levels, **config):
        super().__init__()
        self.levels = levels
        self.config = {"in_channels": 1, "out_channels": 1, "sample_size": 2, **config}
        self.misses = []

    def forward(self, sample, timestep, return_dict=True):
        assert not return_dict
        assert sample.shape[1:] == SHAPE
        assert timestep.shape == (len(sample),)
        t = float(timestep[0])
        nearest = min(self.levels, key=lambda level: abs(level.t - t))
        self.misses.append(abs(nearest.t - t) / max(1, abs(t)))
        output = nearest.output(sample)
        if self.config["out_channels"] == 2:
            output = torch.cat([output, torch.full_like(output, 7.0)], 1)
        return (output,)


def check(scheduler, levels, within=1e-6, **config):
    fake = Fake(levels, **config)
    target = from_diffusers(fake, scheduler, dtype=torch.float64)
    assert target.event_shape == SHAPE
    fake.misses.clear()
    for one in levels:
        snr = one.alpha / one.sigma
        y = snr * LAW.sample(12, 1) + torch.randn(12, 4, generator=torch.Generator().manual_seed(2)).double()
        found, exact = target.localize(y, snr), LAW.localize(y, snr)
        torch.testing.assert_close(found.mean, exact.mean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.norm, exact.norm, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.trace, exact.trace, rtol=1e-3, atol=1e-3)
    assert max(fake.misses) < within  # it was told the scheduler's own t each time
    return target


STEPS = [20, 300, 700]  # SNRs 15 to 0.07
BY_STEP = [
    *("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "EulerDiscreteScheduler"),
    *("EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler"),
    *("KDPM2AncestralDiscreteScheduler", "CogVideoXDDIMScheduler"),
]
BY_CONVERSION = [
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"),
    *("UniPCMultistepScheduler", "SASolverScheduler"),
]
NO_SAMPLE = {"EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"}


def table_cases():
    for name in BY_STEP:
        kinds = ["epsilon", "v_prediction"] + ["sample"] * (name not in NO_SAMPLE)
        yield from ((name, kind, predicted) for kind in kinds)
    for name in BY_CONVERSION:
        yield from ((name, kind, converted) for kind in ("epsilon", "sample", "v_prediction"))
    yield from (("UnCLIPScheduler", kind, predicted) for kind in ("epsilon", "sample"))
    yield from (("PNDMScheduler", kind, transferred) for kind in ("epsilon", "v_prediction"))


@functools.cache
def at_every_step(name):
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(1000)
    return scheduler


@pytest.mark.parametrize(("name", "kind", "x0"), list(table_cases()))
def test_alpha_bar_table(name, kind, x0):
    scheduler = getattr(diffusers, name)(prediction_type=kind)
    working = copy.deepcopy(at_every_step(name))
    working.register_to_config(**{**scheduler.config, "clip_sample": False})
    times = [next(t for t in working.timesteps if float(t) == step) for step in STEPS]
    check(scheduler, [level(working, t, x0) for t in times])


@pytest.mark.parametrize("name", ["DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler", "RePaintScheduler"])
def test_schedulers_that_cannot_add_noise_share_the_table(name):
    expected = read_scheduler(diffusers.DDPMScheduler(), "any")
    found = read_scheduler(getattr(diffusers, name)(), "any")
    assert found.prediction == expected.prediction == "epsilon"
    for snr in (0.05, 1.0, 20.0):
        assert found.scale.level(snr) == pytest.approx(expected.scale.level(snr))


def test_a_schedulers_state_and_sampling_options_change_nothing():
    plain = read_scheduler(diffusers.EulerDiscreteScheduler(), "any").scale
    used = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, timestep_spacing="trailing")
    used.set_timesteps(7)
    assert read_scheduler(used, "any").scale.level(0.3) == plain.level(0.3)
    clipped = diffusers.DDIMScheduler(clip_sample=True, thresholding=True)
    assert read_scheduler(clipped, "any").scale.level(0.3) == plain.level(0.3)


@pytest.mark.parametrize("schedule", ["scaled_linear", "squaredcos_cap_v2"])
def test_schedules_and_zero_terminal_snr(schedule):
    scheduler = diffusers.DDIMScheduler(
        beta_schedule=schedule, rescale_betas_zero_snr=True, prediction_type="v_prediction", clip_sample=False
    )
    working = copy.deepcopy(scheduler)
    working.set_timesteps(1000)
    target = check(scheduler, [level(working, torch.tensor(step), predicted) for step in STEPS])
    # The last step has no signal: the last that has one is step 998.
    bar = float(scheduler.alphas_cumprod[998])
    assert target.snr_range[0] == pytest.approx(math.sqrt(bar / (1 - bar)), rel=1e-6)


def test_learned_variance_is_left_aside():
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=False)
    working = diffusers.DDPMScheduler(clip_sample=False)  # the levels are read off with outputs of one channel
    working.set_timesteps(1000)
    check(scheduler, [level(working, torch.tensor(step), predicted) for step in STEPS], out_channels=2)


def test_euler_told_a_continuous_time():
    scheduler = diffusers.EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction")
    working = copy.deepcopy(scheduler)
    working.set_timesteps(1000)
    times = [working.timesteps[index] for index in (200, 500, 900)]
    target = check(scheduler, [level(working, t, predicted) for t in times])
    assert target.scale.name == "log(sigma)/4"
    wide = diffusers.EulerDiscreteScheduler(
        timestep_type="continuous", prediction_type="v_prediction", sigma_min=0.002, sigma_max=700.0
    )
    scale = read_scheduler(wide, "any").scale
    assert (scale.low, scale.high) == pytest.approx((1 / 700, 500))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistep"])
def test_edm(name, kind, monkeypatch):
    if name == "CosineDPMSolverMultistep":  # it samples by means of torchsde, and converts without
        monkeypatch.setitem(sys.modules, "torchsde", types.ModuleType("torchsde"))
        place = "diffusers.schedulers.scheduling_cosine_dpmsolver_multistep"
        make = importlib.import_module(place).CosineDPMSolverMultistepScheduler
    else:
        make = getattr(diffusers, name)
    scheduler = make(prediction_type=kind, sigma_data=0.8, sigma_min=0.05, sigma_max=20.0)
    levels = []
    for sigma in (torch.tensor(0.07), torch.tensor(0.6), torch.tensor(11.0)):
        a, b = (number(scheduler.precondition_outputs(*pair, sigma)) for pair in ((ONE, ZERO), (ZERO, ONE)))
        into = number(scheduler.precondition_inputs(ONE, sigma))
        levels.append(Level(float(scheduler.precondition_noise(sigma)), 1.0, float(sigma), into, a, b))
    target = check(scheduler, levels)
    assert target.snr_range == pytest.approx((0.05, 20.0))
    assert target.sigma_data == 0.8


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"])
def test_flow_matching(name, shift):
    scheduler = getattr(diffusers, name)(shift=shift)
    # Levels of training, and the ones of a few sampling steps: whatever shifts them, t belongs to sigma.
    assert float(scheduler.timesteps[700] / scheduler.sigmas[700]) == pytest.approx(1000)
    working = copy.deepcopy(scheduler)
    working.set_timesteps(20)
    times = list(dict.fromkeys(working.timesteps.tolist()))
    levels = [level(working, torch.tensor(times[index]), extrapolated) for index in (2, 10, 18)]
    target = check(scheduler, levels)
    sigmas = scheduler.sigmas
    assert target.snr_range[0] == pytest.approx(float((1 - sigmas[1]) / sigmas[1]), rel=1e-3)
    assert target.snr_range[1] == pytest.approx(float((1 - sigmas[-1]) / sigmas[-1]), rel=1e-3)


def test_flow_matching_of_ltx():
    scheduler = diffusers.LTXEulerAncestralRFScheduler(eta=0.0)
    working = copy.deepcopy(scheduler)
    working.set_timesteps(20)
    levels = []
    for index in (2, 10, 18):
        t, sigma = working.timesteps[index], float(working.sigmas[index])
        a, b = (number(extrapolated_rf(working, t, *pair)) for pair in ((ONE, ZERO), (ZERO, ONE)))
        levels.append(Level(float(t), 1 - sigma, sigma, 1.0, a, b))
    check(scheduler, levels)


def extrapolated_rf(scheduler, t, sample, output):
    scheduler = copy.deepcopy(scheduler)
    after = scheduler.step(output, t, sample).prev_sample
    sigma, after_sigma = scheduler.sigmas[scheduler.step_index - 1], scheduler.sigmas[scheduler.step_index]
    return sample + (after - sample) * sigma / (sigma - after_sigma)


@pytest.mark.parametrize("kind", ["flow_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("name", BY_CONVERSION)
def test_solvers_on_flow_sigmas(name, kind):
    scheduler = getattr(diffusers, name)(prediction_type=kind, use_flow_sigmas=True, flow_shift=2.0)
    working = copy.deepcopy(scheduler)
    working.set_timesteps(20)
    # Some of these samplers cut a t down to a whole number; at its sigma the network is meant to see 1000 sigma.
    levels = [level(working, working.timesteps[index], converted) for index in (2, 10, 18)]
    if name == "SASolverScheduler":  # its add_noise is that of a table, its steps are those of a flow
        sigmas = [float(working.sigmas[index]) for index in (2, 10, 18)]
        levels = [replace(one, alpha=1 - s, sigma=s) for one, s in zip(levels, sigmas, strict=True)]
    check(scheduler, levels, within=1 / 180)


def test_a_flow_prediction_needs_flow_sigmas():
    scheduler = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction")
    with pytest.raises(ValueError, match=r'^prediction "velocity" is defined for the straight path'):
        from_diffusers(Fake([]), scheduler)


def test_score_of_a_variance_exploding_chain():
    scheduler = diffusers.ScoreSdeVeScheduler(num_train_timesteps=100, sigma_min=0.05, sigma_max=30.0)
    scheduler.set_timesteps(100)
    levels = []
    for index in (10, 45, 80):
        time = torch.tensor((index + 0.5) / 99)
        sigma = number(scheduler.add_noise(ZERO, ONE, torch.tensor([index])))
        means = [
            number(scheduler.step_pred(output, time, sample, return_dict=False)[1] - sample)
            for sample, output in ((ONE, ZERO), (ZERO, ONE))
        ]
        # The step is the score times the variance that it takes away; Tweedie's takes all of it.
        below = float(scheduler.discrete_sigmas[index - 1])
        assert means[0] == 0
        levels.append(Level(sigma, 1.0, sigma, 1.0, 1.0, means[1] * sigma**2 / (sigma**2 - below**2)))
    target = check(scheduler, levels)
    assert target.snr_range == pytest.approx((1 / 30, 20))


# Real models


def unet(**options):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        **{"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
        | {"block_out_channels": (8, 16), "attention_head_dim": 4}
        | {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
        | options
    )


def unet_condition(**options):
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        **{"sample_size": 8, "in_channels": 2, "out_channels": 2, "layers_per_block": 1, "norm_num_groups": 4}
        | {"block_out_channels": (8, 16), "attention_head_dim": 4, "cross_attention_dim": 6}
        | {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
        | {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
        | options
    )


def dit(**options):
    torch.manual_seed(0)
    return diffusers.DiTTransformer2DModel(
        **{"sample_size": 4, "in_channels": 2, "out_channels": 4, "num_layers": 1, "num_attention_heads": 2}
        | {"attention_head_dim": 4, "norm_num_groups": 2, "num_embeds_ada_norm": 10}
        | options
    )


def sd3():
    torch.manual_seed(0)
    return diffusers.SD3Transformer2DModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        joint_attention_dim=6,
        caption_projection_dim=8,
        pooled_projection_dim=5,
        pos_embed_max_size=4,
    )


def flux():
    torch.manual_seed(0)
    return diffusers.FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        joint_attention_dim=6,
        pooled_projection_dim=5,
        axes_dims_rope=(2, 2, 4),
    )


TEXT = torch.linspace(-1, 1, 18).reshape(1, 3, 6)
REAL = {
    "UNet2DModel": (unet, diffusers.DDPMScheduler, {}, (1, 8, 8)),
    "UNet2DConditionModel": (
        unet_condition,
        diffusers.EulerDiscreteScheduler,
        {"encoder_hidden_states": TEXT},
        (2, 8, 8),
    ),
    "DiTTransformer2DModel": (dit, diffusers.DDIMScheduler, {"class_labels": torch.tensor([3])}, (2, 4, 4)),
    "SD3Transformer2DModel": (
        sd3,
        diffusers.FlowMatchEulerDiscreteScheduler,
        {"encoder_hidden_states": TEXT, "pooled_projections": torch.ones(1, 5)},
        (2, 4, 4),
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_a_model_is_saved_and_loaded(name, tmp_path, capfd):
    make, scheduler, condition, shape = REAL[name]
    model = make()
    model.save_pretrained(tmp_path / "model")
    scheduler().save_pretrained(tmp_path / "scheduler")
    assert is_diffusers(tmp_path / "model")
    capfd.readouterr()
    target = load_diffusers(tmp_path / "model", condition=condition)
    assert capfd.readouterr() == ("", "")
    assert target.name == ("model (class_labels=3)" if name.startswith("DiT") else "model")
    assert target.event_shape == shape
    y = torch.randn(2, target.dim, generator=torch.Generator().manual_seed(1))
    found = target.localize(y, 1.0)
    assert bool(torch.isfinite(found.norm).all())
    given = from_diffusers(model, scheduler(), condition=condition).localize(y, 1.0)
    torch.testing.assert_close(found.norm, given.norm)
    torch.testing.assert_close(found.mean, given.mean)


def test_a_class_is_what_the_model_was_told():
    model = dit()
    nn.init.normal_(model.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight)
    y = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    means = [
        from_diffusers(model, diffusers.DDIMScheduler(), condition={"class_labels": labels}).denoise(y, 1.0)
        for labels in (torch.tensor([3]), torch.tensor([3]), torch.tensor([4]))
    ]
    torch.testing.assert_close(means[0], means[1])
    assert float((means[0] - means[2]).abs().max()) > 1e-4


def test_flux_counts_time_in_sigmas():
    """Tokens with positions; 3/4 of the way to noise the pipeline passes t/1000 = 0.75."""
    model = flux()
    condition = {
        "encoder_hidden_states": TEXT,
        "pooled_projections": torch.ones(1, 5),
        "img_ids": torch.zeros(4, 3),
        "txt_ids": torch.zeros(3, 3),
    }
    target = from_diffusers(model, diffusers.FlowMatchEulerDiscreteScheduler(), condition=condition, event_shape=(4, 4))
    y = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    x = 0.75 * y
    repeated = {
        key: value.expand(2, *value.shape[1:]) if len(value) == 1 else value for key, value in condition.items()
    }
    with torch.no_grad():
        velocity = model(x.reshape(2, 4, 4), timestep=torch.full((2,), 0.75), **repeated, return_dict=False)[0]
    torch.testing.assert_close(target.denoise(y, 1 / 3), x - 0.75 * velocity.flatten(1), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"^FluxTransformer2DModel is conditional: give condition=.*'img_ids'"):
        from_diffusers(model, diffusers.FlowMatchEulerDiscreteScheduler(), event_shape=(4, 4))


def test_a_pipeline_is_saved_and_loaded(tmp_path, capfd):
    pipeline = diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler())
    pipeline.save_pretrained(tmp_path / "pipeline")
    capfd.readouterr()
    assert is_diffusers(tmp_path / "pipeline")
    target = load_diffusers(str(tmp_path / "pipeline"), data=torch.randn(20, 1, 8, 8).numpy())
    assert target.data is not None
    y = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    given = from_diffusers(pipeline)
    assert given.name == "DDPMPipeline"
    torch.testing.assert_close(target.denoise(y, 2.0), given.denoise(y, 2.0))
    cosine = from_diffusers(pipeline, diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
    assert cosine.scale.level(1.0)[2] != given.scale.level(1.0)[2]
    # From inside the pipeline, the scheduler lies in the folder beside.
    inside = load_diffusers(tmp_path / "pipeline" / "unet")
    torch.testing.assert_close(inside.denoise(y, 2.0), given.denoise(y, 2.0))
    assert capfd.readouterr() == ("", "")


def test_without_a_scheduler_the_convention_is_given(tmp_path):
    model = unet()
    target = from_diffusers(model, prediction="velocity", time="flow")
    assert target.scale.level(1.0) == (0.5, 0.5, 0.5)
    model.save_pretrained(tmp_path)
    assert load_diffusers(tmp_path, prediction="velocity", time="flow").prediction == "velocity"
    assert load_diffusers(tmp_path, scheduler=diffusers.DDPMScheduler()).prediction == "epsilon"


def test_products_with_the_jacobian_of_a_unet():
    """12 x 12 x 2 numbers, above the size at which Jacobians are formed, against a Jacobian formed by autograd."""
    model = unet(sample_size=12, in_channels=2, out_channels=2).double()
    scheduler = diffusers.DDIMScheduler()
    target = from_diffusers(model, scheduler, tolerance=1e-3)
    assert target.dim == 288
    snr = 1.3
    y = torch.randn(1, 288, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = target.jacobian(y, snr)
    alpha, sigma, t = target.scale.level(snr)

    def mean(x):
        """D at x = y/r, from the formula of DDIM."""
        noisy = (alpha * x).reshape(1, 2, 12, 12)
        noise = model(noisy, torch.tensor([t], dtype=torch.float64), return_dict=False)[0]
        return ((noisy - sigma * noise) / alpha).flatten()

    exact = torch.autograd.functional.jacobian(mean, y[0] / snr)
    assert float(found.norm) == pytest.approx(float(torch.linalg.svdvals(exact)[0]), rel=2e-3)
    assert abs(float(found.trace - exact.trace())) < 4 * float(found.trace_se)
    assert float(found.asymmetry) == pytest.approx(float((exact - exact.T).norm() / exact.norm()), rel=0.2)
    assert float(found.symmetric) <= float(torch.linalg.eigvalsh((exact + exact.T) / 2)[-1]) * (1 + 1e-9)
    torch.testing.assert_close(found.mean[0], mean(y[0] / snr).detach())


# Bad input


def refuse(pattern, call, error=ValueError):
    with pytest.raises(error, match=pattern) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler"])
def test_schedulers_of_distilled_models_are_refused(name):
    refuse(rf"^{name} belongs to distilled models", lambda: from_diffusers(unet(), getattr(diffusers, name)()))


@pytest.mark.parametrize("name", ["AmusedScheduler", "IPNDMScheduler", "DDPMWuerstchenScheduler", "HeliosScheduler"])
def test_schedulers_that_say_nothing_readable_are_refused(name):
    make = getattr(diffusers, name)
    scheduler = make(mask_token_id=1) if name == "AmusedScheduler" else make()
    refuse(rf"^{name} is not a scheduler that brenier can read", lambda: from_diffusers(unet(), scheduler))


def test_every_scheduler_of_the_lists_is_one_of_diffusers():
    known = set(diffusers._import_structure["schedulers"]) | {"DPMSolverSDEScheduler", "LMSDiscreteScheduler"}
    known |= {"CosineDPMSolverMultistepScheduler"}
    assert known >= TABLE | EDM | FLOW | DISTILLED


def test_models_and_their_conditions():
    ddpm, table = diffusers.DDPMScheduler(), {"encoder_hidden_states": TEXT}
    refuse(r"^model must be a torch module or a diffusers pipeline, got int", lambda: from_diffusers(3), TypeError)
    refuse(r"^scheduler must be a diffusers scheduler, got int", lambda: from_diffusers(unet(), 3), TypeError)
    refuse(r"^UNet2DModel needs the scheduler it was trained with", lambda: from_diffusers(unet()))
    refuse(r"leave time out, or the scheduler", lambda: from_diffusers(unet(), ddpm, time="flow"))
    refuse(
        r'^prediction is "v", but DDPMScheduler has prediction_type \'epsilon\'',
        lambda: from_diffusers(unet(), ddpm, prediction="v"),
    )
    assert from_diffusers(unet(), ddpm, prediction="epsilon").prediction == "epsilon"
    wrong = diffusers.DDPMScheduler(prediction_type="noise")
    refuse(r"^DDPMScheduler has prediction_type 'noise': it must be one of", lambda: from_diffusers(unet(), wrong))
    wrong = diffusers.EDMEulerScheduler(prediction_type="sample")
    refuse(r"^EDMEulerScheduler has prediction_type 'sample': with EDM", lambda: from_diffusers(unet(), wrong))
    refuse(
        r"^UNet2DConditionModel is conditional: give condition={'encoder_hidden_states': ...}",
        lambda: from_diffusers(unet_condition(), ddpm),
    )
    refuse(r"conditional: give condition={'class_labels': ...}", lambda: from_diffusers(dit(), ddpm))
    refuse(r"--condition class_labels=\.\.\., of 0 to 3\)", lambda: from_diffusers(unet(num_class_embeds=4), ddpm))
    sdxl = unet_condition(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=30
    )
    refuse(r"give condition={'added_cond_kwargs': ...}", lambda: from_diffusers(sdxl, ddpm, condition=table))
    added = {"text_embeds": torch.ones(1, 6)}
    refuse(
        r"^UNet2DConditionModel cannot be called with this condition: .*`time_ids`",
        lambda: from_diffusers(sdxl, ddpm, condition={**table, "added_cond_kwargs": added}),
    )
    added["time_ids"] = torch.ones(1, 6)
    target = from_diffusers(sdxl, ddpm, condition={**table, "added_cond_kwargs": added})
    assert bool(torch.isfinite(target.denoise(torch.randn(3, 128), 1.0)).all())
    refuse(
        r"^UNet2DModel takes no 'text': conditions are class_labels",
        lambda: from_diffusers(unet(), ddpm, condition={"text": TEXT}),
    )
    refuse(
        r"does not take points of shape \(2, 8, 8\)",
        lambda: from_diffusers(unet_condition(), ddpm, condition={"encoder_hidden_states": TEXT[..., :4]}),
    )


def test_channels_and_shapes():
    ddpm, table = diffusers.DDPMScheduler(), {"encoder_hidden_states": TEXT}
    inpainting = unet_condition(in_channels=5)
    refuse(r"takes 5 channels and predicts 2: .*inpainting", lambda: from_diffusers(inpainting, ddpm, condition=table))
    refuse(r"takes 1 channels and predicts 3: it must", lambda: from_diffusers(unet(out_channels=3), ddpm))
    refuse(r"event_shape is \(3, 8, 8\)", lambda: from_diffusers(unet(), ddpm, event_shape=(3, 8, 8)))
    refuse(
        r"^UNet2DModel does not tell the shape of its points: give data or event_shape",
        lambda: from_diffusers(unet(sample_size=None), ddpm),
    )
    assert from_diffusers(unet(sample_size=(8, 4)), ddpm).event_shape == (1, 8, 4)
    assert from_diffusers(unet(sample_size=None), ddpm, event_shape=(1, 4, 4)).dim == 16
    refuse(r"does not take points of shape \(1, 5, 5\)", lambda: from_diffusers(unet(), ddpm, event_shape=(1, 5, 5)))


def test_models_that_count_time_from_noise_to_data_are_refused():
    turned = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    refuse(r"counts time from noise to data", lambda: from_diffusers(Fake([]), turned))
    lumina = type("Lumina2Transformer2DModel", (Fake,), {})([])
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    refuse(r"^Lumina2Transformer2DModel counts time from noise to data", lambda: from_diffusers(lumina, flow))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "pipeline")


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_folders_that_hold_no_model(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert not is_diffusers(folder / "scheduler")
    assert not is_diffusers(folder / "nothing")
    assert not is_diffusers(folder / "model_index.json")

    edit(folder / "unet" / "config.json", _class_name="os")
    refuse(r"config.json': 'os' is no model of diffusers", lambda: load_diffusers(folder))
    for name in ("DDPMScheduler", "DDPMPipeline", "__name__", "no such", 3, None):
        edit(folder / "unet" / "config.json", _class_name=name)
        refuse(r"config.json': .* is no model of diffusers", lambda: load_diffusers(folder))
    edit(folder / "unet" / "config.json", _class_name="UNet2DModel")
    edit(folder / "scheduler" / "scheduler_config.json", _class_name="UNet2DModel")
    refuse(r"scheduler_config.json': 'UNet2DModel' is no scheduler", lambda: load_diffusers(folder))
    edit(folder / "scheduler" / "scheduler_config.json", _class_name="DDPMScheduler", beta_schedule="odd")
    refuse(r"scheduler_config.json': odd is not implemented", lambda: load_diffusers(folder))
    (folder / "scheduler" / "scheduler_config.json").unlink()
    refuse(r"^no scheduler_config.json in '.*scheduler': save the scheduler there", lambda: load_diffusers(folder))

    state = load_file(weights)
    save_file({key: value for key, value in state.items() if key != "conv_in.bias"}, weights)
    refuse(r"lack 1 parameters, 'conv_in.bias' among them", lambda: load_diffusers(folder))
    save_file({**state, "conv_in.bias": torch.zeros(9)}, weights)
    refuse(r"diffusers cannot load the model: .*conv_in.bias", lambda: load_diffusers(folder))
    weights.write_bytes(b"\xff" * 64)
    refuse(r"unet': diffusers cannot load the model", lambda: load_diffusers(folder))
    weights.rename(weights.with_suffix(".bin"))
    refuse(r"weights in .bin files, which can run code", lambda: load_diffusers(folder))
    weights.with_suffix(".bin").unlink()
    refuse(r"has no weights: diffusion_pytorch_model.safetensors is missing", lambda: load_diffusers(folder))

    (folder / "unet" / "config.json").write_text('{"_class_name": "UNet2DMo')
    assert is_diffusers(folder / "unet")
    refuse(r"config.json' is damaged: it is not JSON", lambda: load_diffusers(folder / "unet"))
    (folder / "unet" / "config.json").write_text("[]")
    refuse(r"config.json' is damaged: it must hold a JSON object", lambda: load_diffusers(folder))
    (folder / "unet" / "config.json").unlink()
    refuse(r"config.json' cannot be read: No such file", lambda: load_diffusers(folder))
    edit(folder / "model_index.json", unet=[None, None])
    refuse(r"has not one denoiser in unet or transformer", lambda: load_diffusers(folder))
    refuse(r"config.json' cannot be read", lambda: load_diffusers(folder / "nothing"))


def test_diffusers_is_imported_to_load_and_for_nothing_else(saved, monkeypatch):
    model, scheduler = unet(), diffusers.DDPMScheduler()
    monkeypatch.setitem(sys.modules, "diffusers", None)  # importing it is an error now
    assert is_diffusers(saved)
    assert from_diffusers(model, scheduler).event_shape == (1, 8, 8)
    refuse(r"^models of diffusers need diffusers: pip install 'brenier\[diffusers\]'", lambda: load_diffusers(saved))


def test_weights_of_a_variant_and_in_shards(folder):
    y = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    expected = load_diffusers(folder).denoise(y, 1.0)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    torch.testing.assert_close(load_diffusers(folder).denoise(y, 1.0), expected)
    unet().save_pretrained(folder / "shards", max_shard_size="10KB")
    assert len(list((folder / "shards").glob("*.safetensors"))) > 1
    torch.testing.assert_close(load_diffusers(folder / "shards").denoise(y, 1.0), expected)
