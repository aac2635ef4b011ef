"""Shapes and scales of two sets of points, against numpy's own transpositions."""

import warnings

import numpy as np
import pytest
import torch

from brenier.laws.alike import channels_first, in_order, order_of, warn_of_scales
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((8, 8, 3), (3, 8, 8)),
        ((5, 7, 4), (4, 5, 7)),
        ((1, 6, 5, 3), (3, 6, 5)),
        ((2, 5, 6, 3), (3, 2, 5, 6)),
        ((3, 8, 8), (8, 8, 3)),
        ((4, 5, 7), (5, 7, 4)),
    ],
)
def test_channels_that_come_last_are_turned(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    points = RNG.normal(size=(6, *shape)).astype(np.float32)
    law = Empirical(points, name="mine")
    with pytest.warns(UserWarning, match="channels of mine come (first|last).*, of theirs (first|last).* turned"):
        turned = in_order(law, other, "theirs")
    last = shape[-1] in (3, 4)
    expected = np.moveaxis(np.squeeze(points), -1, 1) if last else np.moveaxis(points, 1, -1)
    assert turned.event_shape == other
    np.testing.assert_allclose(turned.sample(40, 1).numpy(), expected.reshape(6, -1)[rows_of(law, 40, 1)], atol=1e-6)
    y = torch.randn(4, law.dim)
    order = np.moveaxis(np.arange(law.dim).reshape(np.squeeze(points).shape[1:]), *((-1, 0) if last else (0, -1)))
    np.testing.assert_allclose(
        turned.denoise(y[:, order.ravel()], 2.0), law.denoise(y, 2.0)[:, order.ravel()], atol=1e-5
    )


def rows_of(law: Empirical, n: int, seed: int) -> np.ndarray:
    """Which atoms a sample is made of."""
    return torch.cdist(law.sample(n, seed), law.data).argmin(1).numpy()


@pytest.mark.parametrize(
    ("shape", "other"),
    [((8, 8), (1, 8, 8)), ((8, 8, 1), (1, 8, 8)), ((64,), (8, 8)), ((8, 8), (64,)), ((3, 8, 8),) * 2, ((1, 1), (1,))],
)
def test_shapes_of_one_order_are_left_as_they_are(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert order_of(shape, other, "mine", "theirs") is None


@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((8, 8), (4, 16)),  # as many values
        ((3, 8, 8), (3, 8, 9)),
        ((2, 3), (3, 2)),
        ((8, 8, 2), (2, 8, 8)),  # what has two channels?
        ((4, 3, 3), (3, 4, 3)),  # which of the two is it?
        ((8, 9, 3), (3, 9, 8)),  # turned and transposed
        ((5,), (6,)),
        ((192,), (3, 8, 9)),
    ],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"points of mine have shape .*, those of theirs .*: give both in one shape"
    ) as caught:
        order_of(shape, other, "mine", "theirs")
    assert str(shape) in str(caught.value)
    assert str(other) in str(caught.value)


def test_flat_points_are_taken_in_the_order_of_images_which_is_said() -> None:
    for shape, other, flat in (((192,), (3, 8, 8), "mine"), ((3, 8, 8), (1, 192), "theirs")):
        with pytest.warns(UserWarning, match=rf"points of {flat} are flat: they are taken in the order of \(3, 8, 8\)"):
            assert order_of(shape, other, "mine", "theirs") is None


def test_what_is_no_set_of_points_is_not_turned() -> None:
    law = GaussianMixture([1.0], np.zeros((1, 192)), [1.0], event_shape=(8, 8, 3), name="mixture")
    with pytest.raises(ValueError, match=r"mixture is no set of points .* give it in \(3, 8, 8\)"), pytest.warns():
        in_order(law, (3, 8, 8), "data")


def test_networks_get_channels_first() -> None:
    points = RNG.normal(size=(5, 6, 7, 3)).astype(np.float32)
    with pytest.warns(UserWarning, match=r"turned to \(3, 6, 7\)"):
        turned = channels_first(Empirical(points))
    np.testing.assert_allclose(turned.point_masses()[0], np.moveaxis(points, -1, 1).reshape(5, -1), atol=1e-6)
    with pytest.warns(UserWarning, match=r"turned to \(1, 6, 7\)"):
        assert channels_first(Empirical(points[..., :1])).event_shape == (1, 6, 7)
    for shape in ((3, 6, 7), (6, 7), (126,), (6, 7, 5), (4, 4, 4)):
        law = Empirical(RNG.normal(size=(2, *shape)))
        assert channels_first(law) is law


SIGNED = torch.from_numpy(RNG.uniform(-1, 1, (300, 64)))


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ((SIGNED + 1) * 127.5, "x/127.5 - 1 takes 0..255 to -1..1"),
        ((SIGNED + 1) / 2, "2x - 1 takes 0..1 to -1..1"),
        ((SIGNED + 1) * 32767.5, "bring both to one scale"),
        (SIGNED * 30, "bring both to one scale"),
        (SIGNED * 8 + 8, "bring both to one scale"),  # digits, 0 to 16
        (SIGNED / 20, "bring both to one scale"),
    ],
)
def test_scales_that_differ_are_said(points: torch.Tensor, words: str) -> None:
    low, high = (f"{float(end):.4g}" for end in (points[:256].min(), points[:256].max()))
    with pytest.warns(UserWarning, match="values of mine go from") as said:
        warn_of_scales(points, SIGNED, "mine", "theirs")
    assert len(said) == 1
    for word in (words, f"mine go from {low} to {high}"):
        assert word in str(said[0].message)
    with pytest.warns(UserWarning, match="bring both to one scale"):
        warn_of_scales(SIGNED, points, "theirs", "mine")


@pytest.mark.parametrize(
    "points",
    [
        SIGNED * 1.15,  # an overshooting sampler
        SIGNED * 0.3,
        SIGNED**2 * torch.sign(SIGNED),
        SIGNED * 0,  # a sampler that has collapsed
        SIGNED + 3,
    ],
)
def test_scales_that_may_be_one_are_passed_over(points: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_scales(points, SIGNED, "mine", "theirs")


def test_a_law_of_few_coordinates_may_lie_from_0_to_1() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_scales((SIGNED[:, :2] + 1) / 2, SIGNED[:, :2], "mine", "theirs")
