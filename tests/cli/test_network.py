"""`brenier probe`, `chain`, `show` on trained networks: the built-in one, a folder of ours, a folder of diffusers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import brenier as package

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was hardly trained."""
    folder = tmp_path_factory.mktemp("trained") / "net"
    package.train("four-gaussians", folder, steps=20, batch=64, width=8, depth=1, device="cpu", progress=False)
    return folder


def small(**options: Any) -> Any:
    """A U-Net of diffusers for grey images."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        **options,
    )


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of diffusers for 8 x 8 grey images, as its save_pretrained writes it."""
    diffusers = pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("diffusers") / "pipeline"
    diffusers.DDPMPipeline(small(sample_size=8), diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of diffusers that is told labels 0 and 1, and 2 for none."""
    diffusers = pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("labelled")
    small(sample_size=4, num_class_embeds=3).save_pretrained(folder)
    diffusers.DDPMScheduler().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def two_points() -> xr.Dataset:
    return package.probe("two-points", [0.5, 2.0], progress=False)


def test_probe_a_folder_of_ours(brenier: Command, net: Path, tmp_path: Path) -> None:
    saved = tmp_path / "net.nc"
    result = brenier("probe", net, "--data", "four-gaussians", "--queries", 40, "--snrs", 5, "-o", saved)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("net: 1 dimension, monte-carlo, 40 queries from four-gaussians, seed 0")
    assert "asymmetry" in result.out
    profile = xr.load_dataset(saved, engine="h5netcdf")
    assert profile.attrs["queries_from"] == "four-gaussians"
    assert float(abs(profile["asymmetry"]).max()) == 0  # of one number
    again = brenier("show", saved)
    assert again.out == result.out


def test_queries_come_from_the_chain_unless_data_are_given(brenier: Command, net: Path) -> None:
    result = brenier("probe", net, "--queries", 10, "--snrs", 2)
    assert "10 queries from the network's own chain" in result.out


@pytest.mark.filterwarnings("ignore:.* misses .* by .* their mean and variance:UserWarning")  # it is not trained
def test_probe_a_folder_of_diffusers(brenier: Command, unet: Path) -> None:
    result = brenier("probe", unet, "--data", "digits", "--queries", 3, "--snr", "0.5,2")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("pipeline: 64 dimensions (1 x 8 x 8), monte-carlo, 3 queries from digits, seed 0")


def test_chain_of_a_network(brenier: Command, net: Path) -> None:
    result = brenier("chain", net, "--data", "four-gaussians", "--steps", 2, "--eta", 0.05, "--particles", 64)
    assert (result.code, result.err) == (0, "")
    assert "net" in result.out


def test_the_network_that_comes_along(brenier: Command) -> None:
    result = brenier("probe", "digits-network", "--queries", 20, "--snr", "0.3,1,8")
    assert (result.code, result.err) == (0, "")
    assert "digits-network: 64 dimensions (8 x 8), monte-carlo, 20 queries from digits" in result.out


def test_the_network_that_comes_along_beats_the_best_linear_denoiser() -> None:
    """At r = 1 it removes at least a fifth of the error that the digits' best linear denoiser leaves."""
    law, target = package.load_target("digits"), package.load_target("digits-network")
    x = law.sample(500, 3)
    y = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    error = (target.denoise(y, 1.0) - x).square().sum(1).mean()
    assert isinstance(law, package.Empirical)
    variances = torch.linalg.eigvalsh(torch.cov(law.data.double().T)).clamp_min(0)
    linear = (variances / (1 + variances)).sum()
    assert float(error) < 0.8 * float(linear)


def test_profiles_are_shown_together(brenier: Command, net: Path, tmp_path: Path) -> None:
    for name, target in (("law", "four-gaussians"), ("net", str(net))):
        options = ("--data", "four-gaussians") if name == "net" else ()
        code = brenier(
            "probe", target, *options, "--snr", "0.3,1", "--queries", 20, "-o", tmp_path / f"{name}.nc", "-q"
        ).code
        assert code == 0
    picture = tmp_path / "both.png"
    result = brenier("show", tmp_path / "law.nc", tmp_path / "net.nc", "--figure", picture)
    assert (result.code, result.err) == (0, "")
    assert "four-gaussians: 1 dimension, quadrature" in result.out
    assert "net: 1 dimension, monte-carlo" in result.out
    assert picture.stat().st_size > 10_000


def test_only_profiles_are_shown_together(brenier: Command, two_points: xr.Dataset, tmp_path: Path) -> None:
    two_points.to_netcdf(tmp_path / "profile.nc", engine="h5netcdf")
    chain = package.chain("two-points", 0, steps=2, progress=False)
    chain.to_netcdf(tmp_path / "chain.nc", engine="h5netcdf")
    brenier("show", tmp_path / "profile.nc", tmp_path / "chain.nc").refused("chain.nc", "holds no profile but a chain")


def test_files_of_the_same_name_are_told_apart(brenier: Command, two_points: xr.Dataset, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        two_points.to_netcdf(tmp_path / name / "x.nc", engine="h5netcdf")
    first, second, picture = tmp_path / "a" / "x.nc", tmp_path / "b" / "x.nc", tmp_path / "both.svg"
    assert brenier("show", first, second, "--figure", picture).code == 0
    brenier("show", first, first, "--figure", tmp_path / "c.svg").refused("is given twice")
    assert not (tmp_path / "c.svg").exists()


def test_refused(brenier: Command, net: Path, unet: Path, tmp_path: Path) -> None:
    brenier("probe", "two-points", "--data", "digits").refused("two-points is no network")
    brenier("probe", net, "--data", "digits").refused("points of digits have shape (8, 8), those of net (1,)")
    brenier("probe", net, "--data", net).refused("is a network itself")
    brenier("probe", net, "--snr", "1e6").refused("the SNR 1e+06 is not one that net was trained for")
    brenier("probe", net, "--holdout", 0.2).refused("holdout needs data")
    (tmp_path / "old").mkdir()
    config = json.loads((net / "config.json").read_text())
    (tmp_path / "old" / "config.json").write_text(json.dumps(config | {"version": 7}))
    brenier("probe", tmp_path / "old").refused("version 7 of the format: this brenier reads 1")
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    brenier("probe", tmp_path / "old").refused("model.safetensors")
    (unet / "unet" / "diffusion_pytorch_model.safetensors").rename(unet / "unet" / "elsewhere")
    brenier("probe", unet).refused("has no weights")


GUIDED = ("--condition", "class_labels=1", "--unconditional", "class_labels=2", "--guidance", "4")
DRAWN = ("-n", 6, "--steps", 3, "--criterion", "karras", "-q")


def test_a_network_is_told_its_condition_and_guided(brenier: Command, labelled: Path, tmp_path: Path) -> None:
    guided, label, three = tmp_path / "guided.npy", tmp_path / "label.npy", tmp_path / "three.npy"
    assert brenier("sample", labelled, *DRAWN, *GUIDED, "-o", guided).code == 0
    assert brenier("sample", labelled, *DRAWN, "--condition", "class_labels=1", "-o", label).code == 0
    np.save(tmp_path / "labels.npy", np.array([1, 0, 1]))
    labels = f"class_labels={tmp_path / 'labels.npy'}"
    assert brenier("sample", labelled, *DRAWN, "--condition", labels, "-o", three).code == 0
    same = np.abs(np.load(three) - np.load(label)).max((1, 2, 3)) < 1e-5
    assert same.tolist() == [True, False, True, True, False, True]
    law = package.networks.diffusers.model.load_diffusers(
        labelled, condition={"class_labels": 1}, unconditional={"class_labels": 2}, guidance=4.0
    )
    own = package.sample(law, 6, steps=3, schedule="karras", progress=False)
    np.testing.assert_allclose(np.load(guided), own.events.numpy(), rtol=1e-5, atol=1e-6)
    saved = tmp_path / "plan.json"
    assert brenier("plan", labelled, "--steps", 3, "--criterion", "karras", *GUIDED, "-q", "-o", saved).code == 0
    assert json.loads(saved.read_text())["law"].endswith("(class_labels=1, guidance 4)")


def test_conditions_that_cannot_be(brenier: Command, labelled: Path, tmp_path: Path) -> None:
    for options, said in [
        (("--condition", "class_labels"), "'class_labels': give KEY=NUMBER, KEY=N,N,... or KEY=FILE"),
        (("--condition", "class_labels=none.npy"), "'none.npy' does not exist"),
        (("--condition", "class_labels=1", "--guidance", "2"), "give unconditional"),
        (("--guidance", "2"), "give condition"),
        (("--condition", "class_labels=9"), "with class_labels=9: index out of range"),
        (("--condition", "class_labels=nan"), "condition class_labels holds values that are not finite"),
        (("--condition", "class_labels=inf"), "condition class_labels holds values that are not finite"),
        (("--condition", "class_labels=1e-3"), "with class_labels=0.001: "),
        (("--condition", "word=9"), "takes no 'word': conditions are class_labels"),
    ]:
        result = brenier("sample", labelled, *DRAWN, *options, "-o", tmp_path / "a.npy")
        assert result.code == 2
        assert said in result.err
        assert result.err.count("\n") == 1
    result = brenier("probe", "digits", "--condition", "class_labels=1")
    assert (result.code, result.err) == (2, "brenier: --condition says nothing about 'digits': leave it out\n")


def test_nan_weights_name_the_snr(brenier: Command, net: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    broken.mkdir()
    weights = load_file(net / "model.safetensors")
    weights["network.leave.bias"] = weights["network.leave.bias"] * np.nan
    save_file(weights, broken / "model.safetensors")
    (broken / "config.json").write_bytes((net / "config.json").read_bytes())
    result = brenier("probe", broken, "--data", "four-gaussians", "--snr", "0.7", "--queries", 5)
    result.refused("broken returned NaN or infinite values at SNR 0.7, for 5 of 5 points")
