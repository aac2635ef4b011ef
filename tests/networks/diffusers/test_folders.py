"""Folders and files of networks: what can be loaded is, of all else one line says what it is and what is missing."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from brenier.catalog import load_target
from brenier.core.reading.options import Reading
from brenier.networks.diffusers.folders import is_diffusers, not_loadable
from brenier.networks.diffusers.model import from_diffusers, load_diffusers
from brenier.networks.network import NetworkTarget

# Models that nobody trained denoise badly, of which the library warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* misses .* by .* their mean and variance:UserWarning")


def unet(seed: int = 0, **options: Any) -> diffusers.UNet2DModel:
    torch.manual_seed(seed)
    known: dict[str, Any] = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1}
    known |= {"norm_num_groups": 4, "block_out_channels": (8, 8)}
    known |= {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return diffusers.UNet2DModel(**known | options)


def unet_1d() -> diffusers.UNet1DModel:
    torch.manual_seed(0)
    return diffusers.UNet1DModel(
        in_channels=2,
        out_channels=2,
        extra_in_channels=64,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock1DNoSkip", "DownBlock1D"),
        up_block_types=("UpBlock1D", "UpBlock1DNoSkip"),
        mid_block_type="UNetMidBlock1D",
    )


def same(found: object, expected: NetworkTarget) -> None:
    assert isinstance(found, NetworkTarget)
    assert found.event_shape == expected.event_shape
    y = torch.randn(2, expected.dim, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found.denoise(y, 1.0), expected.denoise(y, 1.0))


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """What a training script leaves: checkpoints with the weights and their average, and the scheduler beside."""
    for seed, part in enumerate(("unet", "unet_ema")):
        unet(seed).save_pretrained(tmp_path / "out" / "checkpoint-500" / part)
    (tmp_path / "out" / "checkpoint-500" / "optimizer.bin").write_bytes(b"")
    shutil.copytree(tmp_path / "out" / "checkpoint-500", tmp_path / "out" / "checkpoint-1000")
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "out" / "scheduler")
    return tmp_path / "out"


def test_a_checkpoint_is_loaded(training: Path) -> None:
    folder = training / "checkpoint-500"
    assert is_diffusers(folder)
    ddpm = diffusers.DDPMScheduler()
    with pytest.warns(UserWarning, match="read are the weights in 'unet', not their average: that is .*unet_ema"):
        same(load_target(folder), from_diffusers(unet(0), ddpm))
    same(load_target(str(folder / "unet_ema")), from_diffusers(unet(1), ddpm))
    shutil.rmtree(folder / "unet_ema")
    shutil.copytree(training / "scheduler", folder / "scheduler")
    shutil.rmtree(training / "scheduler")
    same(load_target(folder), from_diffusers(unet(0), ddpm))
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(ValueError, match=r"^no scheduler_config.json in '.*500.scheduler', '.*out.scheduler': save"):
        load_target(folder)


def test_a_pipeline_may_have_lost_its_index(tmp_path: Path) -> None:
    diffusers.DDPMPipeline(unet(), diffusers.DDIMScheduler()).save_pretrained(tmp_path)
    (tmp_path / "model_index.json").unlink()
    same(load_target(tmp_path), from_diffusers(unet(), diffusers.DDIMScheduler()))
    unet().save_pretrained(tmp_path / "transformer")
    with pytest.raises(ValueError, match="has not one denoiser in unet or transformer"):
        load_target(tmp_path)


def test_data_tell_the_shape_that_a_model_does_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scheduler = diffusers.DDPMScheduler()
    for name, model in (("line", unet_1d()), ("plane", unet(sample_size=None))):
        model.save_pretrained(tmp_path / name)
        scheduler.save_pretrained(tmp_path / name / "scheduler")
    signals = rng.normal(size=(9, 2, 16))
    np.save(tmp_path / "signals.npy", signals)
    found = load_target(tmp_path / "line", data=str(tmp_path / "signals.npy"), dtype=torch.float64)
    assert found.event_shape == (2, 16)
    assert found.drawn_from is not None
    np.testing.assert_allclose(found.drawn_from.point_masses()[0], signals.reshape(9, -1), rtol=0, atol=1e-12)
    x = torch.from_numpy(signals)
    step = torch.tensor(400)
    alpha = float(scheduler.alphas_cumprod[step]) ** 0.5
    snr = alpha / (1 - alpha**2) ** 0.5
    with torch.no_grad():
        noise = unet_1d().double()(x, step).sample
    noisy = x.flatten(1)
    clean = (noisy - (1 - alpha**2) ** 0.5 * noise.flatten(1)) / alpha
    torch.testing.assert_close(found.denoise(snr / alpha * noisy, snr), clean, rtol=1e-4, atol=1e-4)
    for shape, expected in (((9, 8, 4), (1, 8, 4)), ((9, 1, 4, 8), (1, 4, 8)), ((9, 4, 8, 1), (1, 4, 8))):
        assert load_target(tmp_path / "plane", data=rng.normal(size=shape)).event_shape == expected
    for name, title in (("line", "UNet1DModel"), ("plane", "UNet2DModel")):
        with pytest.raises(ValueError, match=f"^{title} does not tell the shape of its points: give data or"):
            load_target(tmp_path / name)
    assert load_diffusers(tmp_path / "line", event_shape=(2, 32)).event_shape == (2, 32)
    asked = Reading(shape=(2, 32))
    assert load_target(tmp_path / "line", reading=asked).event_shape == (2, 32)
    rows = rng.normal(size=(9, 64)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    both = load_target(tmp_path / "line", data=str(tmp_path / "rows.npy"), reading=asked)
    assert both.event_shape == (2, 32)
    assert both.drawn_from is not None
    np.testing.assert_allclose(both.drawn_from.point_masses()[0], rows, atol=1e-6)
    with pytest.raises(ValueError, match=r"takes points with 2 channels|does not take points of shape \(3, 16\)"):
        load_target(tmp_path / "line", data=rng.normal(size=(9, 3, 16)))


def test_channels_last_are_turned_for_a_model_without_a_shape(tmp_path: Path) -> None:
    unet(sample_size=None, in_channels=3, out_channels=3).save_pretrained(tmp_path)
    diffusers.DDPMScheduler().save_pretrained(tmp_path)
    images = np.random.default_rng(0).uniform(-1, 1, size=(5, 8, 4, 3))
    with pytest.warns(UserWarning, match="channels of data come last"):
        found = load_target(tmp_path, data=images)
    assert found.event_shape == (3, 8, 4)
    assert found.drawn_from is not None
    expected = np.moveaxis(images, -1, 1).reshape(5, -1)
    np.testing.assert_allclose(found.drawn_from.point_masses()[0], expected, atol=1e-6)


def written(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"pytorch_lora_weights.safetensors": ""}, "LoRA weights"),
        ({"adapter_config.json": {}, "adapter_model.safetensors": ""}, "LoRA weights"),
        ({"my_LoRA.safetensors": ""}, "LoRA weights"),
        ({"config.json": {"model_type": "bert", "architectures": ["Bert"]}}, "a model of transformers (bert)"),
        ({"config.json": {"architectures": ["Other"]}, "model.safetensors": ""}, "a model of transformers"),
        ({"config.json": {"model": {"type": "image_v1"}}, "a.pth": ""}, "a network of k-diffusion (image_v1)"),
        ({"scheduler_config.json": {}}, "a scheduler without its model"),
        ({"refs/main": "", "snapshots/0abc/model_index.json": {}}, "Hugging Face cache: give what it holds, '"),
        ({"checkpoint-900/optimizer.bin": "", "checkpoint-1000/optimizer.bin": ""}, "such as '{}/checkpoint-1000'"),
        ({"vae/config.json": {}, "text_encoder/config.json": {}}, "holds text_encoder, vae of a pipeline, and neither"),
        ({"model.safetensors": "", "optimizer.bin": ""}, "holds weights (model.safetensors) without a configuration"),
        ({"last.ckpt": "", "hparams.yaml": ""}, "holds weights (last.ckpt) without a configuration"),
        ({"config.json": "{", "pytorch_model.bin": ""}, "holds weights (pytorch_model.bin)"),
    ],
)
def test_what_cannot_be_loaded_is_named(tmp_path: Path, files: dict[str, Any], words: str) -> None:
    folder = written(tmp_path / "folder", files)
    with pytest.raises(ValueError, match="folder") as caught:
        load_target(folder)
    assert words.format(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_weights_is_named(tmp_path: Path) -> None:
    layers = {f"layers.{k}.{name}": torch.zeros(2) for k in range(2) for name in ("weight", "bias")}
    save_file(layers, tmp_path / "model.safetensors")
    assert "weights of a network" in str(not_loadable(tmp_path / "model.safetensors"))
    save_file({"unet.lora_A.weight": torch.zeros(2)}, tmp_path / "b.safetensors")
    assert "LoRA" in str(not_loadable(tmp_path / "b.safetensors"))
    save_file({"points": torch.zeros(2), "weight": torch.zeros(2)}, tmp_path / "data.safetensors")
    assert not_loadable(tmp_path / "data.safetensors") is None
    for content in (b"", b"\xff" * 20, b"\x02" + bytes(7) + b"[]", (10**6).to_bytes(8, "little") + b"[" * 10**6):
        (tmp_path / "data.safetensors").write_bytes(content)
        assert not_loadable(tmp_path / "data.safetensors") is None


def test_data_are_no_networks(tmp_path: Path) -> None:
    for files in ({"a.png": "", "weights.pt": ""}, {"cat/a.png": ""}, {"readme.txt": ""}, {"config.json": {}}):
        folder = written(tmp_path / str(len(list(tmp_path.iterdir()))), files)
        assert not is_diffusers(folder)
        assert not_loadable(folder) is None
    assert not_loadable(tmp_path / "nowhere") is None
