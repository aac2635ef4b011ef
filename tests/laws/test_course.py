"""A grid on the noise levels that a network knows."""

import pytest

from brenier.laws.course import Course

LEVELS = (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1)


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ([10, 4.8, 1.1, 0], [10, 5, 1, 0]),
        ([10, 1.1, 1.05, 0.9, 0], [10, 1, 0.5, 0.2, 0]),  # each to another level, further down
        ([10, 0.11, 0.1, 0.09, 0], [10, 0.5, 0.2, 0.1, 0]),  # or further up, at the end
        ([10, 9.9, 9.8, 0.1], [10, 5, 2, 0.1]),
        ([3, 2.9, 1.5, 0.3], [3, 2, 1, 0.3]),  # ends that were asked for stay
        ([10, 9, 8, 7, 6, 5, 4, 0], [*LEVELS, 0]),
        ([10, 0], [10, 0]),
    ],
)
def test_levels_move_to_the_nearest_known(grid, expected):
    assert Course(10, 0.1, levels=LEVELS).placed(grid) == expected
    assert Course(10, 0.1).placed(grid) == grid


def test_too_few_levels():
    with pytest.raises(ValueError, match="has 6 steps between sigma = 10 and 0, and a grid of 8 steps visits 7 there"):
        Course(10, 0.1, levels=LEVELS).placed([10, 7, 6, 5, 4, 3, 2, 1, 0])


def test_where_pipelines_begin():
    course = Course(10, 0.1, noise=12.0)
    assert course.noise_at(10) == 12
    assert course.noise_at(10.005) == pytest.approx(12.006)
    assert course.noise_at(9.9) is None
    assert Course(10, 0.1).noise_at(10) is None


def test_a_grid_even_in_the_time_of_the_network():
    assert Course(10, 0.1, levels=LEVELS).even(3) == pytest.approx([10, 2, 0.5, 0])
    assert Course(10, 0.1, levels=LEVELS).even(1) == pytest.approx([10, 0])
    assert Course(9, 0, shift=1.0).even(3) == pytest.approx([9, 0.6 / 0.4, 0.3 / 0.7, 0])
    assert Course(10, 0.1).even(4) is None
