import io
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from brenier.networks.noise_levels import NoiseLevels
from brenier.training import history
from brenier.training.history import EVERY, History, loss_bar, read_history

LEVELS = NoiseLevels(0.0, 1.0)  # its quartiles in log sigma are -0.6745, 0, 0.6745
QUARTILE = math.exp(0.6744898)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_bands_share_the_noise_levels_evenly() -> None:
    assert History(LEVELS).edges == pytest.approx([1 / QUARTILE, 1, QUARTILE])
    assert History(LEVELS).names() == ["SNR below 0.509", "SNR 0.509 to 1", "SNR 1 to 1.96", "SNR above 1.96"]


def test_losses_fall_into_the_band_of_their_noise_level() -> None:
    sums = History(LEVELS).sums(tensor(1, 2, 3, 4, 5), tensor(100, 1.5, 0.7, 0.01, 1.6))
    assert sums.tolist() == [[1, 7, 3, 4], [1, 2, 1, 1]]


def test_a_loss_that_is_not_a_number_stays_in_its_band() -> None:
    sums = History(LEVELS).sums(tensor(1, math.nan, math.inf), tensor(100, 0.7, 0.01))
    assert sums[0].isfinite().tolist() == [True, True, False, False]


def test_rows_are_averages_since_the_row_before(tmp_path: Path) -> None:
    record = History(LEVELS)
    assert all(math.isnan(loss) for loss in record.recent())
    one, three = torch.tensor([[2.0] * 4, [2.0] * 4]).double(), torch.tensor([[18.0] * 4, [6.0] * 4]).double()
    for step in range(1, EVERY):
        record.add(one, step, last=False)
    record.add(three, EVERY, last=False)
    first = (2.0 * (EVERY - 1) + 18) / (2 * (EVERY - 1) + 6)
    assert record.recent() == pytest.approx([first] * 4)
    record.add(three, EVERY + 1, last=False)
    assert record.recent() == [3.0] * 4
    again = History(LEVELS)
    again.restore({name: value.clone() for name, value in record.state().items()})
    for each in (record, again):
        each.add(one, EVERY + 2, last=True)
        (tmp_path / "history.csv").write_text(each.text())
        names, rows = read_history(tmp_path)
        assert names == record.names()
        assert rows == [[EVERY, *[pytest.approx(first, rel=1e-5)] * 4], [EVERY + 2, *[2.5] * 4]]


def test_a_history_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"history.csv': cannot be read"):
        read_history(tmp_path)
    for text in ("", "step,a\n1,x\n"):
        (tmp_path / "history.csv").write_text(text)
        with pytest.raises(ValueError, match=r"history.csv' is damaged"):
            read_history(tmp_path)


def test_the_bar_shows_losses_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    record = History(LEVELS)
    record.add(torch.tensor([[1.5, 1.25, 1.0, 0.75], [1.0] * 4]).double(), 1, last=False)
    for terminal, show in ((True, True), (True, False), (False, True)):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=100)
        monkeypatch.setattr(history, "Console", lambda stderr, console=console: console)
        with loss_bar("training", show) as tell:
            tell(0.5, record)
        assert ("loss 1.500 1.250 1.000 0.750" in stream.getvalue()) == (terminal and show)
