"""Packed numbers by the formula in the conventions, and missing ones."""

import numpy as np
import pytest

from brenier.core.reading.packing import unpacked

STORED = np.array([[-3, 0, 250]], dtype=np.int16)


def test_packed_numbers_are_what_they_stand_for() -> None:
    np.testing.assert_array_equal(unpacked(STORED, {"scale_factor": 0.25, "add_offset": 10.0}), STORED * 0.25 + 10)
    np.testing.assert_array_equal(unpacked(STORED, {"scale_factor": np.array([0.25])}), STORED * 0.25)
    np.testing.assert_array_equal(unpacked(STORED, {"add_offset": 1.5, "_FillValue": -9999}), STORED + 1.5)
    bytes_ = np.array([-1, 5], dtype=np.int8)
    np.testing.assert_array_equal(unpacked(bytes_, {"_Unsigned": "true"}), [255, 5])


def test_without_attributes_values_are_handed_on() -> None:
    assert unpacked(STORED, {"units": "m"}) is STORED
    wide = np.array([2**62 + 1])
    assert unpacked(wide, {"valid_min": 0}) is wide


@pytest.mark.parametrize(
    ("values", "attributes", "message"),
    [
        (STORED, {"_FillValue": 250}, r"1 value is missing \(_FillValue 250\), first in row 0"),
        (STORED, {"missing_value": np.int16(-3)}, r"1 value is missing \(missing_value -3\)"),
        (STORED, {"_FillValue": 0, "scale_factor": 2.0}, r"1 value is missing \(_FillValue 0\)"),
        (
            STORED,
            {"missing_value": np.array([0, 250], dtype=np.int16)},
            r"2 values are missing \(missing_value 0, 250\)",
        ),
        (np.array([1.0, -9999.0, -9999.0]), {"_FillValue": -9999.0}, "2 values are missing .* first in row 1"),
        (STORED, {"valid_range": [0, 100]}, r"2 values are not valid \(0 to 100, as the file says\)"),
        (STORED, {"valid_max": 249}, r"1 value is not valid \(-inf to 249"),
        (STORED, {"valid_max": np.array([249])}, r"1 value is not valid \(-inf to 249"),  # as h5py has it
    ],
)
def test_missing_and_invalid_values_are_named(values: np.ndarray, attributes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpacked(values, attributes)


def test_what_was_never_written_is_missing_where_netcdf_says_so() -> None:
    for dtype in (np.float32, np.float64):
        values = np.array([1.0, 9.969209968386869e36], dtype=dtype)
        with pytest.raises(ValueError, match="1 value is missing"):
            unpacked(values, {}, unwritten=True)
        np.testing.assert_array_equal(unpacked(values, {}), values)
        np.testing.assert_array_equal(unpacked(values[:1], {}, unwritten=True), values[:1])


def test_a_nan_of_its_own_is_left_to_whoever_asks_for_finite_values() -> None:
    found = unpacked(np.array([1.0, np.nan]), {"_FillValue": np.nan})
    np.testing.assert_array_equal(found, [1.0, np.nan])
