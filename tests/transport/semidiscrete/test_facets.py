"""The singular set against angles computed by hand, and the filter against its definition."""

import math

import numpy as np
import pytest
import torch

from brenier.transport import SemiDiscrete

CLOSE = [[2.0, 0.0], [2.0, 0.1], [-2.0, 0.0], [-2.0, 0.1]]  # two pairs far from each other


@pytest.fixture(scope="module")
def pairs() -> SemiDiscrete:
    return SemiDiscrete(CLOSE).fit(0.05, progress=False)


def by_hand(y: np.ndarray, z: np.ndarray) -> float:
    a, b = np.append(y, -1), np.append(z, -1)
    return math.acos(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_the_angle_is_that_of_the_two_faces(pairs: SemiDiscrete) -> None:
    x = pairs.draw(200)
    expected = [by_hand(*pairs.points[places].double().numpy()) for places in pairs.top(x, 2)[1]]
    found = pairs.dihedral_angle(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(set(np.round(expected, 3))) > 1


def test_of_more_cells_it_is_the_largest(pairs: SemiDiscrete) -> None:
    x = pairs.draw(200)
    for k in (3, 4):
        leading = pairs.points[pairs.top(x, k)[1]].double().numpy()
        expected = [max(by_hand(rows[0], row) for row in rows[1:]) for rows in leading]
        np.testing.assert_allclose(pairs.dihedral_angle(x, k), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-20, 1e-9, 1.0, 1e9, 1e200])
def test_angles_of_small_and_large_points(size: float) -> None:
    """Small points make angles of their distance, large ones those between them; both to full precision."""
    transport = SemiDiscrete(size * np.array([[1.0, 0.0], [0.6, 0.8]])).fit(0.1, progress=False)
    angle = transport.dihedral_angle(transport.draw(1)).item()
    if size < 1e-3:
        assert angle == pytest.approx(size * math.sqrt(0.8), rel=1e-6)
    elif size > 1e3:
        assert angle == pytest.approx(math.acos(0.6), rel=1e-6)
    else:
        assert angle == pytest.approx(math.acos(1.6 / 2), rel=1e-6)


def test_singular_is_what_leads_beside_the_other_pair(pairs: SemiDiscrete) -> None:
    x = pairs.draw(500)
    leading = pairs.points[pairs.top(x, 2)[1]]
    jumps = leading[:, 0, 0] * leading[:, 1, 0] < 0
    assert 0 < jumps.sum() < 500
    assert torch.equal(pairs.singular(x, 1.0), jumps)
    assert pairs.singular(x, 0.0).all()
    assert not pairs.singular(x, math.pi).any()


def test_regular_draws_are_the_draws_that_are_not_singular(pairs: SemiDiscrete) -> None:
    """In law: here the cells of one pair meet along y = const, and what is kept differs from the source only in x."""
    x = pairs.draw_regular(3000, threshold=1.0, seed=1)
    assert x.shape == (3000, 2)
    assert not pairs.singular(x, 1.0).any()
    assert torch.equal(x, pairs.draw_regular(3000, threshold=1.0, seed=1))
    assert torch.equal(x[:100], pairs.draw_regular(100, threshold=1.0, seed=1))
    assert not torch.equal(x, pairs.draw_regular(3000, threshold=1.0, seed=2))
    plain = pairs.draw(40000, seed=3)
    plain = plain[~pairs.singular(plain, 1.0)].abs()
    error = (x.abs().var(0) / len(x) + plain.var(0) / len(plain)).sqrt()
    assert ((x.abs().mean(0) - plain.mean(0)).abs() < 4 * error).all()
    assert len(pairs.draw_regular(0, threshold=1.0)) == 0


def test_where_almost_nothing_is_regular_the_error_says_what_threshold_would_do(pairs: SemiDiscrete) -> None:
    with pytest.raises(ValueError, match=r"0 of 4,096 draws have an angle of at most 0.001 .* larger threshold"):
        pairs.draw_regular(10, threshold=1e-3)


def test_bad_arguments_are_refused(pairs: SemiDiscrete) -> None:
    x = pairs.draw(3)
    for threshold in (-0.1, 3.2, math.nan):
        with pytest.raises(ValueError, match="threshold must be an angle from 0 to pi"):
            pairs.singular(x, threshold)
    for k in (1, 5):
        with pytest.raises(ValueError, match=f"k must be a whole number .*, got {k}"):
            pairs.dihedral_angle(x, k)
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        pairs.singular(torch.zeros(3, 1), 1.0)
    with pytest.raises(ValueError, match="n must be"):
        pairs.draw_regular(-1, threshold=1.0)
    with pytest.raises(ValueError, match="whole number"):
        SemiDiscrete([[0.0, 1.0]]).fit().singular(x, 1.0)
    with pytest.raises(ValueError, match="has not been fitted"):
        SemiDiscrete(CLOSE).singular(x, 1.0)
