"""Potentials by name and as functions: their derivatives, and what is refused."""

import math

import numpy as np
import pytest
import torch

from brenier.probing.chain.potential import POTENTIALS, Potential, read_potential

X = np.linspace(-3, 3, 25)


@pytest.mark.parametrize("name", [*POTENTIALS, "quadratic(2, 1)", "quartic(0.5)", "logcosh(-2)", "double-well(3)"])
def test_derivatives_are_those_of_the_value(name):
    f, h = read_potential(name), 1e-4
    np.testing.assert_allclose(f.slope(X), (f.value(X + h) - f.value(X - h)) / (2 * h), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(f.second(X), (f.slope(X + h) - f.slope(X - h)) / (2 * h), rtol=1e-6, atol=1e-6)
    low, high, everywhere = f.convexity(-3, 3)
    assert everywhere
    assert np.all((low <= f.second(X) + 1e-12) & (f.second(X) <= high + 1e-12))


def test_a_function_with_its_second_derivative_is_a_potential():
    f = Potential(np.cosh, np.cosh, name="cosh")
    np.testing.assert_allclose(f.slope(X), np.sinh(X), rtol=1e-12, atol=1e-12)
    assert f.convexity(-1, 2) == pytest.approx((1, math.cosh(2), False), rel=1e-6)
    tensors = Potential(torch.cosh, torch.cosh, slope=torch.sinh, convexity=(1, math.inf))
    np.testing.assert_allclose(tensors.slope(X), np.sinh(X), rtol=1e-12)
    assert tensors.convexity(0, 0) == (1, math.inf, True)


def test_names_hold_their_numbers():
    assert read_potential(" Quadratic(2) ").name == "quadratic(2)"
    assert read_potential("quadratic(2,1)").name == "quadratic(2, 1)"
    assert read_potential("double_well").name == "double-well"
    assert repr(read_potential("quartic(2)")) == "<Potential: quartic(2)>"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quadratc(2)", "did you mean 'quadratic'"),
        ("logcsh", "did you mean 'logcosh'"),
        ("", "there are quadratic, quartic"),
        ("quartic(-1)", "a > 0, got a = -1"),
        ("quadratic(a)", "cannot be read"),
        ("quartic(1, 2)", "takes up to 1 finite number"),
        ("quadratic(nan)", "finite number"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        read_potential(name)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.cosh, np.sinh), {}, ValueError, "second is not the second derivative"),
        ((np.cosh, lambda x: np.cosh(x) + 0.01), {}, ValueError, "second is not the second derivative"),
        ((np.log, lambda x: -1 / x**2), {}, ValueError, "must be finite"),
        ((lambda x: x**2, lambda x: 2.0), {}, ValueError, "one number per place"),
        ((np.cosh, np.cosh), {"convexity": (2, 1)}, ValueError, "from lambda to kappa"),
    ],
)
def test_bad_functions(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Potential(*arguments, **options)


def test_quadratic_potentials_in_more_dimensions():
    f = Potential.of_quadratic([[2.0, 1.0], [1.0, 3.0]], [1.0, 0.0])
    assert f.quadratic is not None
    assert f.name == "quadratic(2 x 2, centred)"
    assert Potential.of_quadratic([[2.0]], [1.0]).name == "quadratic(2, 1)"
    for hessian, centre, message in (
        ([[1.0, 2.0], [0.0, 1.0]], 0.0, "symmetric"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "of 2 dimensions, the centre of 3"),
        (math.inf, 0.0, "not finite"),
        ([[1.0, 2.0]], 0.0, "d x d"),
    ):
        with pytest.raises(ValueError, match=message):
            Potential.of_quadratic(hessian, centre)
