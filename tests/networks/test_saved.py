import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from brenier.networks.architectures import Denoiser, Mlp
from brenier.networks.noise_levels import NoiseLevels
from brenier.networks.saved import is_checkpoint, load, read_model
from brenier.training.checkpoint import read_progress, write_checkpoint, write_config

NOISE = NoiseLevels(0.3, 0.8)


def config(**entries: object) -> dict[str, object]:
    data = {"name": "three", "event_shape": [3], "points": None, "sigma_data": 1.5}
    return {
        "data": data,
        "network": {"kind": "mlp", "width": 8, "depth": 1},
        "noise": NOISE.config(),
        "training": {},
    } | entries


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    made = Denoiser(Mlp((3,), width=8, depth=1), torch.tensor([1.0, 2.0, 3.0]), 1.5)
    torch.nn.init.normal_(made.network.get_submodule("leave").weight)
    return made


@pytest.fixture
def folder(tmp_path: Path, denoiser: Denoiser) -> Path:
    path = tmp_path / "three"
    path.mkdir()
    write_config(path, config())
    state = {"step": torch.tensor(7), "steps": torch.tensor(-1)}
    write_checkpoint(path, state, denoiser.state_dict(), "step,band\n7,1.0\n")
    return path


def edit(folder: Path, **entries: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_what_is_loaded_is_what_was_saved(folder: Path, denoiser: Denoiser) -> None:
    x, sigma = torch.randn(5, 3), torch.logspace(-1, 1, 5)
    assert torch.equal(read_model(folder)(x, sigma), denoiser(x, sigma))
    network = load(folder)
    assert network.name == "three"
    assert network.event_shape == (3,)
    y = torch.randn(4, 3)
    expected = denoiser(y / 2, torch.full((4,), 0.5))
    assert torch.allclose(network.denoise(y, 2.0), expected, rtol=1e-6)


def test_a_loaded_network_answers_where_it_was_trained(folder: Path) -> None:
    low, high = load(folder).snr_range
    assert NOISE.cdf(1 / low) - NOISE.cdf(1 / high) == pytest.approx(0.999)
    reach = 3.2905
    assert (low, high) == pytest.approx((math.exp(-0.3 - 0.8 * reach), math.exp(-0.3 + 0.8 * reach)), rel=1e-3)


def test_a_loaded_network_draws_queries_from_data(folder: Path) -> None:
    data = torch.tensor([[5.0, 6.0, 7.0]])
    assert torch.equal(load(folder, data).sample(2), data.expand(2, 3))


def test_progress_is_read_from_the_state(folder: Path) -> None:
    assert read_progress(folder) == (7, None)


def test_nothing_temporary_is_left_and_others_may_read(folder: Path) -> None:
    names = {"config.json", "model.safetensors", "state.safetensors", "history.csv"}
    assert {path.name for path in folder.iterdir()} == names
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_a_new_run_leaves_nothing_of_the_old(folder: Path) -> None:
    write_config(folder, config())
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_checkpoints_are_told_from_other_folders(folder: Path, tmp_path: Path) -> None:
    assert is_checkpoint(folder)
    assert not is_checkpoint(tmp_path)
    assert not is_checkpoint(tmp_path / "none")
    assert not is_checkpoint(folder / "config.json")
    for text in ("{", "[]", '{"_class_name": "UNet2DModel"}'):
        (folder / "config.json").write_text(text)
        assert not is_checkpoint(folder)


def test_another_version_is_refused(folder: Path) -> None:
    edit(folder, version=7)
    assert is_checkpoint(folder)
    with pytest.raises(ValueError, match=r"version 7 of the format: this brenier reads 1$"):
        load(folder)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"format": "diffusers"}, "not a network that brenier trained"),
        ({"network": 3}, "damaged: it holds no 'network'"),
        ({"network": {"width": 8}}, "damaged: it holds no 'kind'"),
        ({"network": {"kind": "transformer"}}, "damaged: it holds no 'transformer'"),
        ({"network": {"kind": "mlp", "girth": 8}}, "damaged: .*girth"),
        ({"network": {"kind": "mlp", "width": "8"}}, "damaged"),
        ({"network": {"kind": "mlp", "width": 9, "depth": 1}}, "does not fit config.json: .* has shape"),
        (
            {"network": {"kind": "mlp", "width": 8, "depth": 2}},
            "does not fit .*: it holds no 'network.blocks.1",
        ),
        ({"data": {"event_shape": [3]}}, "damaged: it holds no 'sigma_data'"),
        ({"noise": {"mean": 1.0}}, "damaged: it holds no 'std'"),
    ],
)
def test_a_damaged_config_is_named(folder: Path, entries: dict[str, object], words: str) -> None:
    edit(folder, **entries)
    with pytest.raises(ValueError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"), [("config.json", "holds no config.json"), ("model.safetensors", "holds no model.safetensors")]
)
def test_a_missing_file_is_named(folder: Path, name: str, words: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=words):
        load(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist: give the folder that `brenier train -o` wrote"):
        load(tmp_path / "none")


def test_damaged_weights_are_refused(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for content in (b"", b"\x80\x04pickle", whole[:-1], whole[: len(whole) // 2]):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"model.safetensors' is damaged"):
            load(folder)


def test_weights_without_a_place_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors") | {"extra": torch.zeros(1)}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match="there is no place for 'extra'"):
        load(folder)
