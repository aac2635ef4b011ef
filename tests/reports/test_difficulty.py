import pytest

import brenier


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_cell_is_cut_at_any_width(width: int) -> None:
    found = brenier.difficulty("four-gaussians", n=20, steps=3, progress=False)
    text = brenier.summary(found, width=width)
    assert "…" not in text
    assert all(len(line.rstrip()) <= width for line in text.splitlines()[2:])
    for title in ("5th nearest", "AUC, worst tenth"):
        assert title in text
    words = text.split()
    assert words.count("nearest") >= 2
    assert "FLIPD" in text
