import io

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import brenier
from brenier.reports import show
from brenier.reports.tables import print_facts, rounded, say, with_errors


def lines(width: int, print_it) -> list[str]:
    out = io.StringIO()
    print_it(Console(file=out, width=width, highlight=False, force_terminal=True, color_system=None))
    return out.getvalue().splitlines()


@pytest.fixture(scope="module")
def evaluation() -> xr.Dataset:
    generator = np.random.default_rng(0)
    train = generator.normal(size=(90, 2))
    return brenier.evaluate(train[:60] + 0.1, generator.normal(size=(80, 2)), train=train, progress=False)


def test_what_is_rounding_beside_a_column_is_zero_and_no_error_is_no_plus_minus() -> None:
    values, errors = rounded([1.0, 1e-15, np.nan], [0.1, 2e-20, np.nan])
    np.testing.assert_array_equal(values, [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(errors, [0.1, 0.0, np.nan])
    plain, detailed = with_errors([1.0, 0.0, 1e-20], [0.1, 2e-20, 0.0])
    assert plain == ["1.000", "0", "0"]
    assert [cell.rstrip() for cell in detailed] == ["1.000 ±0.100", "0", "0"]
    assert with_errors([1e-15, 2e-15], [1e-16, 2e-16])[0] == ["1e-15", "2e-15"]  # where all are small, none is rounding


@pytest.mark.parametrize("width", [50, 60, 80])
def test_an_evaluation_loses_no_digit_in_a_narrow_terminal(evaluation: xr.Dataset, width: int) -> None:
    text = lines(width, lambda console: show(evaluation, console=console))
    assert max(map(len, text)) <= width
    whole = "\n".join(text)
    assert "…" not in whole
    for name in ("precision", "recall", "density"):
        row = evaluation.sel(metric=name)
        assert f"{float(row['low']):.3f} to {float(row['high']):.3f}" in whole


def test_a_wide_terminal_has_one_table(evaluation: xr.Dataset) -> None:
    text = lines(140, lambda console: show(evaluation, console=console))
    (line,) = (one for one in text if one.startswith("precision"))
    assert line.count(" to ") == 2


def test_lines_are_broken_between_words_for_terminals_and_whole_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a law in 64 dimensions, of which there is much to say, seed 0"
    assert lines(20, lambda console: say(text, console))[0] == "a law in 64 "
    monkeypatch.delenv("COLUMNS", raising=False)
    out = io.StringIO()
    say(text, Console(file=out, width=20))
    assert out.getvalue() == f"{text}\n"


def test_remarks_stand_under_their_values_where_there_is_no_room_beside() -> None:
    rows = [("it ended", "at the tolerance of 0.3", "before its last step")]
    wide = lines(80, lambda console: print_facts("map", rows, console))
    assert any("of 0.3" in line and "before its last step" in line for line in wide)
    narrow = "\n".join(lines(40, lambda console: print_facts("map", rows, console)))
    assert "…" not in narrow
    assert narrow.index("of 0.3") < narrow.index("before its last step")


def test_the_columns_of_a_profile_are_explained() -> None:
    text = " ".join(
        lines(100, lambda console: show(brenier.probe("two-points", [0.5, 1.0], progress=False), console=console))
    )
    assert "zeta*_M: net contraction of errors of richness M" in " ".join(text.split())
    assert "ESS" not in text  # a law without data has none
