"""A schedule in a pipeline: called as always, it visits the planned levels and ends where `brenier.sample` would."""

import functools
import inspect
from dataclasses import replace
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import nn

import brenier
from brenier.networks.diffusers.model import from_diffusers, load_diffusers
from brenier.sampling.driver import integrate
from brenier.sampling.handmade import karras
from brenier.sampling.planned import PlannedScheduler
from brenier.sampling.schedule import Schedule
from brenier.sampling.steps import SOLVERS, Memory, walk
from brenier.sampling.turns import Walk, turns

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*`set_timesteps`:FutureWarning"),
]

LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
V = {"prediction_type": "v_prediction"}
ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **V}
STEPS = 5


def make(name, **options):
    return getattr(diffusers, f"{name}Scheduler")(**options)


def unet(**options):
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8,), "norm_num_groups": 4}
    return diffusers.UNet2DModel(**{**sizes, **options}, **blocks, layers_per_block=1).eval()


def dit():
    torch.manual_seed(0)
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 2, "num_layers": 1, "num_attention_heads": 2}
    return diffusers.DiTTransformer2DModel(**sizes, attention_head_dim=4, norm_num_groups=2, num_embeds_ada_norm=10)


class Decoder(nn.Module):
    """An autoencoder that changes nothing."""

    dtype, device, config = torch.float32, torch.device("cpu"), SimpleNamespace(scaling_factor=1.0)

    def decode(self, latents):
        return SimpleNamespace(sample=latents)


def retrieve_timesteps(scheduler, count, sigmas=None, **options):
    """As the pipelines of diffusers have it."""
    if sigmas is None:
        scheduler.set_timesteps(count, device="cpu", **options)
        return scheduler.timesteps, count
    assert "sigmas" in inspect.signature(scheduler.set_timesteps).parameters
    scheduler.set_timesteps(sigmas=sigmas, device="cpu", **options)
    return scheduler.timesteps, len(scheduler.timesteps)


class LatentPipeline(DiffusionPipeline):
    """The loop of Stable Diffusion, with an image to begin with where there is one; both halves of guidance alike."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, num_inference_steps=50, latents=None, image=None, strength=0.6, generator=None):
        timesteps, count = retrieve_timesteps(self.scheduler, num_inference_steps)
        if image is None:
            latents = latents * self.scheduler.init_noise_sigma
        else:
            begin = max(count - min(int(count * strength), count), 0) * self.scheduler.order
            timesteps = timesteps[begin:]
            self.scheduler.set_begin_index(begin)
            latents = self.scheduler.add_noise(image, latents, timesteps[:1].repeat(len(image)))
        known = inspect.signature(self.scheduler.step).parameters
        extra = {"generator": generator} if "generator" in known else {}
        for t in timesteps:
            both = self.scheduler.scale_model_input(torch.cat([latents] * 2), t)
            one, other = self.unet(both, t, return_dict=False)[0].chunk(2)
            latents = self.scheduler.step(one + 3 * (other - one), t, latents, **extra, return_dict=False)[0]
        return latents


class FlowPipeline(DiffusionPipeline):
    """The loop of Flux and SD3: sigmas of its own, a shift by the size of the image, nothing multiplied."""

    def __init__(self, transformer, scheduler):
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, num_inference_steps=28, latents=None, image=None):
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        options = {"mu": 0.8} if self.scheduler.config.get("use_dynamic_shifting") else {}
        timesteps, _ = retrieve_timesteps(self.scheduler, num_inference_steps, sigmas=sigmas, **options)
        if image is not None:
            begin = 2 * self.scheduler.order
            timesteps = timesteps[begin:]
            self.scheduler.set_begin_index(begin)
            latents = self.scheduler.scale_noise(image, timesteps[:1], latents)
        for t in timesteps:
            output = self.transformer(latents, t.expand(len(latents)), return_dict=False)[0]
            latents = self.scheduler.step(output, t, latents, return_dict=False)[0]
        return latents


def ddpm(**options):
    def build():
        return diffusers.DDPMPipeline(unet(out_channels=options.pop("channels", 1)), make("DDPM", **options))

    return build


def latent(scheduler):
    return lambda: LatentPipeline(unet(), scheduler)


def flow(**options):
    return lambda: FlowPipeline(unet(), make("FlowMatchEulerDiscrete", **options))


CASES = {
    "DDPM": (ddpm(), "dpmpp-2m"),
    "DDPM, x0, cosine": (ddpm(beta_schedule="squaredcos_cap_v2", prediction_type="sample"), "unipc-3"),
    "DDPM, learned variance": (ddpm(variance_type="learned", channels=2), "deis-3"),
    "DDIM": (lambda: diffusers.DDIMPipeline(unet(), make("DDIM")), "euler"),
    "DiT": (lambda: diffusers.DiTPipeline(dit(), Decoder(), make("DDIM", **LATENT)), "heun"),
    "latent, Euler": (latent(make("EulerDiscrete", timestep_spacing="leading", **LATENT)), "dpmpp-3m"),
    "latent, PNDM": (latent(make("PNDM", skip_prk_steps=True, **LATENT)), "ipndm-4"),
    "latent, v, zero SNR": (latent(make("DDIM", **ZERO)), "heun"),
    "latent, EDM": (latent(make("EDMEuler", sigma_data=0.7)), "unipc-2"),
    "latent, continuous": (latent(make("EulerDiscrete", timestep_type="continuous", sigma_max=50.0, **V)), "unip-3"),
    "flow": (flow(), "dpmpp-2m"),
    "flow, shifted": (flow(shift=3.0), "heun"),
    "flow, dynamic": (flow(use_dynamic_shifting=True), "unipc-2"),
    "flow, UniPC": (
        lambda: FlowPipeline(unet(), make("UniPCMultistep", prediction_type="flow_prediction", use_flow_sigmas=True)),
        "deis-2",
    ),
}


@pytest.fixture
def ends(monkeypatch):
    """What `step` returned, where a pipeline makes an image of it."""
    found, step = [], PlannedScheduler.step

    @functools.wraps(step)
    def spy(self, *arguments, **options):
        after = step(self, *arguments, **options)
        found.append(after[0])
        return after

    monkeypatch.setattr(PlannedScheduler, "step", spy)
    return found


def planned(law, solver="euler"):
    course = law.course
    grid = course.placed([*karras(STEPS, course.high, 3 * course.low), 0])
    return Schedule(grid, solver, criterion="by hand", convention=law.convention)


def law_of(pipeline):
    condition = {"class_labels": torch.tensor([3])} if hasattr(pipeline, "transformer") else {}
    known = condition if isinstance(pipeline, diffusers.DiTPipeline) else {}
    return from_diffusers(pipeline, condition=known)


@pytest.mark.parametrize("case", CASES)
def test_a_pipeline_ends_where_our_sampler_does(case, ends):
    build, solver = CASES[case]
    pipeline = build()
    pipeline.set_progress_bar_config(disable=True)
    law = law_of(pipeline)
    schedule = planned(law, solver)
    schedule.install(pipeline)
    for seed in (1, 2)[: 1 + (solver == "dpmpp-2m")]:  # a second call starts anew
        noise = randn_tensor((2, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
        options = {"generator": torch.Generator().manual_seed(seed), "num_inference_steps": STEPS}
        if isinstance(pipeline, diffusers.DiTPipeline):
            pipeline(class_labels=[3, 3], guidance_scale=1.0, output_type="np", **options)
        elif isinstance(pipeline, LatentPipeline | FlowPipeline):
            pipeline(STEPS, latents=noise)
        else:
            pipeline(batch_size=2, output_type="np", **options)
        expected = integrate(law, law.course.noise * noise.flatten(1), schedule.sigmas, solver).x
        size = float(expected.abs().max())
        torch.testing.assert_close(ends[-1].flatten(1), expected, rtol=0, atol=1e-4 * size)


@pytest.mark.parametrize(("build", "solver"), [(latent(make("DDIM", **LATENT)), "dpmpp-2m"), (flow(shift=3.0), "heun")])
def test_image_to_image(build, solver):
    """From the third level on, as `strength` has it."""
    pipeline = build()
    law = law_of(pipeline)
    schedule = planned(law, solver)
    schedule.install(pipeline)
    generator = torch.Generator().manual_seed(1)
    image, noise = (torch.randn(2, 1, 8, 8, generator=generator) for _ in range(2))
    found = pipeline(STEPS, latents=noise, image=image).flatten(1)
    x = image + schedule.sigmas[2] * noise
    torch.testing.assert_close(found, integrate(law, x.flatten(1), schedule.sigmas[2:], solver).x, rtol=1e-4, atol=1e-4)


def test_a_pipeline_is_saved_with_its_schedule(tmp_path, ends, capfd):
    pipeline = ddpm()()
    law = from_diffusers(pipeline)
    schedule = planned(law, "dpmpp-2m")
    schedule.install(pipeline)
    pipeline.save_pretrained(tmp_path)
    loaded = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    assert "not expected" not in capfd.readouterr().err  # options of the network's own scheduler
    assert type(loaded.scheduler) is brenier.PlannedScheduler
    assert loaded.scheduler.config.solver == "dpmpp-2m"
    for one in (pipeline, loaded):
        one.set_progress_bar_config(disable=True)
        one(generator=torch.Generator().manual_seed(3), num_inference_steps=STEPS, output_type="np")
    torch.testing.assert_close(ends[STEPS - 1], ends[-1])
    y = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    for again in (load_diffusers(tmp_path), from_diffusers(loaded)):  # the network's own convention is still known
        torch.testing.assert_close(again.denoise(y, 2.0), law.denoise(y, 2.0))
        assert again.course == law.course
    other = replace(schedule, solver="euler").install(loaded)  # another one in its place
    assert other.trained.config.keys() == pipeline.scheduler.trained.config.keys()


def test_what_pipelines_ask_of_a_scheduler():
    pipeline = latent(make("DDIM", **LATENT))()
    schedule = planned(from_diffusers(pipeline), "heun")
    scheduler = schedule.install(pipeline)
    assert scheduler is pipeline.scheduler
    assert scheduler.config.prediction_type == "epsilon"
    assert scheduler.config.beta_schedule == "scaled_linear"
    assert (len(scheduler), scheduler.order, scheduler.step_index) == (1000, 2, None)
    assert scheduler.init_noise_sigma == pytest.approx(1)
    scheduler.set_timesteps(STEPS)
    times = scheduler.timesteps.tolist()
    assert times[0] == 999
    assert times[1::2] == times[2::2]  # repeated, as the Heun scheduler of diffusers has them
    assert len(times) == schedule.evaluations_per_sample == 2 * STEPS - 1
    with pytest.warns(UserWarning, match=r"has 5 steps, and they are taken, not 50: .* num_inference_steps=5"):
        scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == times
    half = torch.ones(1, 1, 8, 8, dtype=torch.float16)
    after = scheduler.step(torch.cat([half, half], 1), 999, half)  # with a variance that is left aside
    assert (after.prev_sample.dtype, scheduler.step_index) == (torch.float16, 1)
    assert float(after.pred_original_sample[0, 0, 0, 0]) == pytest.approx(  # (x - sigma eps)/alpha at step 999
        (1 - schedule.sigmas[0] / (1 + schedule.sigmas[0] ** 2) ** 0.5) * (1 + schedule.sigmas[0] ** 2) ** 0.5, rel=1e-3
    )


@pytest.mark.parametrize("solver", ["dpmpp-2m-sde", "euler-maruyama", "annealed-langevin"])
def test_samplers_that_draw_noise(solver):
    pipeline = latent(make("DDIM", **LATENT))()
    schedule = planned(from_diffusers(pipeline), solver)
    schedule.install(pipeline)
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = [pipeline(STEPS, latents=noise, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    assert bool(torch.isfinite(found[0]).all())
    assert float((found[0] - found[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_walk_that_is_told_goes_where_the_solver_does(solver):
    """The posterior mean of N(0, diag(0.9, 0.2)); the noise is a counter's."""
    sigmas = [20.0, 7.0, 2.0, 0.9, 0.3, 0.0]
    variances = torch.tensor([0.9, 0.2], dtype=torch.float64)

    def denoise(x, sigma):
        return variances / (variances + sigma**2) * x

    def counter():
        state = torch.Generator().manual_seed(4)
        return lambda like: torch.randn(like.shape, generator=state, dtype=like.dtype)

    x = torch.tensor([[3.0, -20.0], [1.0, 9.0]], dtype=torch.float64)
    *_, expected = walk(SOLVERS[solver].step, denoise, x, sigmas, Memory(noise=counter()))
    asked = Walk(sigmas, solver)
    draw = counter()
    order = turns(sigmas, solver)
    for turn in order:
        assert (asked.step, asked.asks(x)) == (turn.step, turn.sigma)
        x = asked.tell(x, denoise(x, turn.sigma), draw)
    torch.testing.assert_close(x, expected)
    assert len(order) == sum(SOLVERS[solver].evaluations(after) for after in sigmas[1:])
    assert sum(turn.first for turn in order) == 5


# Bad input


def test_what_cannot_be_installed():
    schedule = Schedule([10, 1, 0], "euler", criterion="by hand", convention="v from X, told 3 at SNR 1")
    for other in (unet(), "pipeline", make("DDPM"), None):
        with pytest.raises(TypeError, match="pipeline must be one of diffusers, with a scheduler, got"):
            schedule.install(other)
    with pytest.raises(ValueError, match="LCMScheduler belongs to distilled models"):
        schedule.install(latent(make("LCM"))())
    plain = Schedule([10, 1, 0], "euler", criterion="by hand")
    with pytest.raises(ValueError, match=r"ScoreSdeVeScheduler steps in a way of its own.*take brenier.sample"):
        plain.install(latent(make("ScoreSdeVe"))())
    with pytest.raises(ValueError, match=r"starts from noise of deviation 1, .*sigma = 10, from 0\.9091: plan without"):
        plain.install(flow()())
    with pytest.raises(
        ValueError, match=r"covers sigma from 0\.02917 to 14\.61, and the schedule goes to 80: plan for"
    ):
        Schedule([80, 1, 0], "euler", criterion="by hand").install(latent(make("DDIM", **LATENT))())
    with pytest.warns(
        UserWarning, match="planned for a network that is v from X, told 3 at SNR 1, and this one is eps"
    ):
        schedule.install(latent(make("DDIM", **LATENT))())
    with pytest.raises(ValueError, match="must be the configuration of a scheduler of diffusers, got 'UNet2DModel'"):
        PlannedScheduler([1.0, 0.0], "euler", {"_class_name": "UNet2DModel"})
