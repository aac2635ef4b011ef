import numpy as np
import pytest
import torch
import xarray as xr

import brenier
from brenier.core import records
from brenier.laws.empirical import Empirical

VIEWS = ("view_noisy", "view_mean", "view_axis", "view_nearest")
IMAGES = np.random.default_rng(0).normal(size=(40, 3, 4)).astype("float32")
SNRS = [0.25, 0.5, 1.0, 2.0, 30.0]


def unpacked(found: xr.Dataset, name: str) -> np.ndarray:
    low, high = found.attrs["view_low"], found.attrs["view_high"]
    return low + (high - low) * found[name].values / 255


@pytest.fixture(scope="module")
def profile() -> xr.Dataset:
    return brenier.probe(IMAGES, SNRS, queries=16, about="atoms", progress=False)


def test_no_other_number_depends_on_them(profile: xr.Dataset) -> None:
    without = brenier.probe(IMAGES, SNRS, queries=16, about="atoms", views=0, progress=False)
    kept = [name for name in profile.variables if not str(name).startswith("view_")]
    assert set(without.variables) == set(kept)
    for name in kept:
        np.testing.assert_array_equal(profile[name].values, without[name].values)


def test_means_and_nearest_data_are_those_of_the_posterior(profile: xr.Dataset) -> None:
    assert profile["view_snr"].values.tolist() == SNRS
    low, high = profile.attrs["view_low"], profile.attrs["view_high"]
    data = IMAGES.reshape(40, 12).astype(float)
    for view, snr in enumerate(SNRS):
        room = 2 / snr
        noisy = low - room + (high - low + 2 * room) * profile["view_noisy"].values[view] / 255
        inside = ((profile["view_noisy"].values[view] > 0) & (profile["view_noisy"].values[view] < 255)).all(1)
        logits = -(snr**2) / 2 * ((noisy[:, None] - data) ** 2).sum(2)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        mean = weights @ data / weights.sum(1, keepdims=True)
        nearest = data[weights.argmax(1)]
        step = (high - low) / 255  # eight bits of the image, and of the noisy one that is compared
        assert inside.sum() >= 2
        np.testing.assert_allclose(unpacked(profile, "view_mean")[view][inside], mean[inside], atol=4 * step)
        near = np.abs(unpacked(profile, "view_nearest")[view] - nearest).max(1) < step
        assert near[inside].mean() > 0.6


def test_what_is_undecided_is_the_first_component_and_nothing_where_the_posterior_is_one_point(
    profile: xr.Dataset,
) -> None:
    law = Empirical(IMAGES)
    y = torch.from_numpy(IMAGES[:3].reshape(3, 12)).double()
    ((weights, mean),) = law.posteriors(y, torch.zeros(3, 12), [1.0])
    data = torch.from_numpy(IMAGES.reshape(40, 12)).double()
    np.testing.assert_allclose(mean, weights @ data, atol=1e-6)
    variance = profile["view_variance"].values
    assert (profile["view_axis"].values[-1] == 128).all()
    assert (variance[-1] < 1e-6).all()
    assert (profile["view_axis"].values[2] != 128).any(1).all()
    at_one = law.localize(y, 1.0).norm.max()
    assert variance[2].max() < 2 * float(at_one) + 2


def test_variances_are_the_localization_of_the_shown_images() -> None:
    law = brenier.GaussianMixture([0.5, 0.5], np.stack([np.zeros(12), np.r_[2.0, np.zeros(11)]]), [1.0, 1.0])
    law.event_shape = (3, 4)
    found = brenier.probe(law, [0.7], queries=8, progress=False)
    assert "view_nearest" not in found
    # The components' covariance is the identity: across the means it is r^2/(1 + r^2), along them more.
    assert (found["view_variance"].values >= 0.49 / 1.49 - 1e-3).all()
    axis = found["view_axis"].values[0].astype(float) - 127.5
    along = np.abs(axis[:, 0]) == np.abs(axis).max(1)
    assert along.any()


def test_about_the_law_behind_data_the_image_itself_is_no_neighbour() -> None:
    found = brenier.probe(IMAGES, [30.0], queries=16, progress=False)
    own = brenier.probe(IMAGES, [30.0], queries=16, about="atoms", progress=False)
    same = unpacked(own, "view_nearest")
    assert np.abs(unpacked(own, "view_mean") - same).max() < 0.02
    assert (np.abs(unpacked(found, "view_nearest") - same).max(2) > 0.3).all()


def test_what_are_no_images_have_none(tmp_path) -> None:
    assert "view_snr" not in brenier.probe(IMAGES.reshape(40, 12), [1.0], queries=4, about="atoms", progress=False)
    found = brenier.probe("digits-network", [0.5, 2.0], queries=4, views=2, progress=False)
    assert all(found[name].shape == (2, 2, 64) and found[name].dtype == np.uint8 for name in VIEWS)
    found.to_netcdf(tmp_path / "found.nc", engine="h5netcdf")
    again = records.read(tmp_path / "found.nc", "profile")
    assert all((again[name] == found[name]).all() and again[name].dtype == np.uint8 for name in VIEWS)
    assert again["view_axis"].attrs["long_name"].startswith("what is undecided there")
