import math

import numpy as np
import pytest

from brenier.core.checks import whole_number


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3)])
def test_whole_numbers(value: object) -> None:
    found = whole_number(value, "count", 1, 3)
    assert found == 3
    assert type(found) is int


def test_beyond_what_floats_hold() -> None:
    assert whole_number(2**63 + 1, "seed", 0) == 2**63 + 1


@pytest.mark.parametrize("value", [0, 4, 2.5, math.inf, -math.inf, math.nan, True, "3", None, [3]])
def test_refused(value: object) -> None:
    with pytest.raises(ValueError, match="count must be a whole number from 1 to 3, got "):
        whole_number(value, "count", 1, 3)


def test_without_an_upper_end() -> None:
    with pytest.raises(ValueError, match="count must be a whole number of at least 1, got 0"):
        whole_number(0, "count", 1)
